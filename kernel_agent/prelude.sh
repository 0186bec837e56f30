#!/bin/sh
# Stand-in: become the kernel agent, whose archive begins behind the last line.
[ ! -x /usr/local/bin/bootstrap-kernel.sh ] || exec /usr/local/bin/bootstrap-kernel.sh
exec python3 -I "$0" "$@"
