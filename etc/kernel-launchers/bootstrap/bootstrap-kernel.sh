#!/bin/sh
# Entry point of kernel images: become the kernel agent, which runs the kernel of KERNEL_LANGUAGE.
# Nothing of the environment is printed: it holds the agent's token and whatever the user passed in.
set -eu

: "${KERNEL_LANGUAGE:?is required. Set it in the image or when starting the container.}"
: "${KERNEL_ID:?is required. Enterprise Gateway sets it.}"

export PORT_RANGE="${PORT_RANGE:-${EG_PORT_RANGE:-0..0}}"
export RESPONSE_ADDRESS="${RESPONSE_ADDRESS:-${EG_RESPONSE_ADDRESS:-}}"
export PUBLIC_KEY="${PUBLIC_KEY:-${EG_PUBLIC_KEY:-}}"

case "${KERNEL_LANGUAGE}" in
[Pp][Yy][Tt][Hh][Oo][Nn])
    # As `python3 -m ipykernel_launcher`, but no file of the working directory can pass for a module
    # of the kernel's. With -P notebooks could not import their own files (IPython 9.7 and newer).
    launch='import sys; sys.path[:] = filter(None, sys.path); import runpy; '
    launch="${launch}runpy.run_module('ipykernel_launcher', run_name='__main__', alter_sys=True)"
    set -- python3 -c "${launch}" -f '{connection_file}'
    if [ -n "${KERNEL_CLASS_NAME:-}" ]; then
        set -- "$@" "--IPKernelApp.kernel_class=${KERNEL_CLASS_NAME}"
    fi
    ;;
[Rr])
    set -- R --slave -e 'IRkernel::main()' --args '{connection_file}'
    ;;
[Ss][Cc][Aa][Ll][Aa])
    set -- toree '{connection_file}'
    ;;
*)
    echo "Unrecognized value for KERNEL_LANGUAGE: '${KERNEL_LANGUAGE}'!" >&2
    exit 1
    ;;
esac

# -I: no file of the user's working directory can pass for a module of the agent's.
exec python3 -I -m kernel_agent -- "$@"
