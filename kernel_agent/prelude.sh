#!/bin/sh
# Stand-in: become the kernel agent, whose archive begins behind the last line.
exec python3 -I "$0" "$@"
