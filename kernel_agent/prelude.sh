#!/bin/sh
# The beginning of the agent's bundle, the rest of which is a zip archive: find a Python that can run
# it. The shell never reads that far, since every way through here ends in exec or exit.
#
# POSIX sh and no other program, as images may have little. Nothing of the environment is printed: it
# holds the agent's token and whatever the user passed in.
set -u

agent=$0
bootstrap=/usr/local/bin/bootstrap-kernel.sh
path=${PATH:-/usr/local/bin:/usr/bin:/bin}

# What an image's entry point sets up for the command that it is given, as start.sh of docker-stacks does by its hooks, the
# kernel is to find as well: it is run with this script as its command. Only one that says that it goes over into its
# command, since another is the image's application itself.

# Whether a file is a shell script that does so
goes_over() {
    [ -f "$1" ] && [ -r "$1" ] && [ -x "$1" ] || return 1
    read -r line <"$1" || return 1
    case $line in
    '#!'*sh*) ;;
    *) return 1 ;;
    esac
    while IFS=' 	' read -r line || [ -n "$line" ]; do
        is_exec "$line" && return 0
    done <"$1"
    return 1
}

# Whether a line of a shell script replaces the shell by the command that it was given
is_exec() {
    # shellcheck disable=SC2016 # it is the text
    case $1 in
    '#'*) return 1 ;;
    *'exec "$@"'* | *'exec "${@}"'* | *'exec $@'* | *'exec "${cmd[@]}"'*) ;;
    *'exec '*' -- "$@"'* | *'exec '*conda' run '*'"$@"'* | *'exec '*mamba' run '*'"$@"'*) ;;
    *) return 1 ;;
    esac
}

# Become the entry point ($1 and on, before `/bin/sh FILE`) if it is one that goes over into its command
enter() {
    case ${1##*/} in
    tini | tini-static | dumb-init | catatonit | docker-init)
        # the agent is an init itself
        shift
        while :; do
            case $1 in
            --) shift && break ;;
            -e | -p) shift 2 ;;
            -*) shift ;;
            *) break ;;
            esac
        done
        ;;
    esac
    [ "$2" != "$agent" ] || return 0
    case ${1##*/} in
    sh | bash | dash | ash | ksh | zsh) enter_shell "$@" ;;
    conda | mamba | micromamba) [ "$2" != run ] || exec "$@" ;;
    env) exec "$@" ;;
    *)
        case $1 in
        */*) ! goes_over "$1" || exec "$@" ;;
        *)
            IFS=:
            for folder in $path; do
                [ -x "$folder/$1" ] || continue
                ! goes_over "$folder/$1" || exec "$@"
                break
            done
            ;;
        esac
        ;;
    esac
}

# The same for a shell with options: a script, a text, or nothing but the profile of a login shell
enter_shell() {
    shell=$1
    login=
    for word in "$@"; do
        case $word in
        "$shell") continue ;;
        "$agent") break ;;
        --login | -l | -l[a-z]* | -[a-z]l | -[a-z]l[a-z]) login=1 ;;
        -*) ;;
        *)
            if is_exec "$word" || goes_over "$word"; then exec "$@"; fi
            ;;
        esac
    done
    [ -n "$login" ] || return 0
    while [ "$2" != "$agent" ]; do shift; done
    # shellcheck disable=SC2016 # the login shell expands it
    exec "$shell" -l -c 'exec "$@"' "$shell" "$@"
}

if [ -z "${EG_AGENT_ENTERED:-}" ]; then
    export EG_AGENT_ENTERED=1
    set -f
    IFS='
'
    case ${EG_AGENT_ENTRYPOINT:-} in
    image | none) ;;
    *)
        # shellcheck disable=SC2086 # a word a line
        enter ${EG_AGENT_ENTRYPOINT:-} /bin/sh "$agent" "$@"
        # of older images of docker-stacks it is the command that calls it
        enter /usr/local/bin/start.sh /bin/sh "$agent" "$@"
        ;;
    esac
    unset IFS
    set +f
fi

# An image with an agent of its own
if [ -r "$bootstrap" ] && [ -x "$bootstrap" ]; then
    # shellcheck disable=SC2094 # it is executed after that
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
        *kernel_agent*) exec "$bootstrap" "$@" ;;
        esac
    done <"$bootstrap"
fi

# Whether a Python will do it knows itself, and asking it before would cost its start a second time.
# So it becomes the agent; where it cannot (archive_main.py) it becomes this script again, with what
# was tried in EG_AGENT_TRIED: "/usr/bin/python3 (no pyzmq), /opt/conda/bin/python3 (...)".
tried=${EG_AGENT_TRIED:-}
export EG_AGENT_TRIED
data=${JUPYTER_DATA_DIR:-${XDG_DATA_HOME:-${HOME:-}/.local/share}/jupyter}
data=${JUPYTER_PATH:-}:$data:/usr/local/share/jupyter:/usr/share/jupyter
set -f
IFS=:
for stage in path kernelspecs elsewhere; do
    found=
    case $stage in
    path)
        for name in python3 python; do
            for folder in $path; do
                found=$found:$folder/$name
            done
        done
        ;;
    kernelspecs)
        for folder in $data; do
            set +f
            for spec in "$folder"/kernels/*/kernel.json; do
                [ -r "$spec" ] || continue
                while IFS= read -r line || [ -n "$line" ]; do
                    case $line in
                    *\"/*/python*\"*)
                        line=/${line#*\"/}
                        found=$found:${line%%\"*}
                        ;;
                    esac
                done <"$spec"
            done
            set -f
        done
        ;;
    elsewhere)
        for folder in /opt/conda/bin /opt/venv/bin /opt/kernel/bin /usr/local/bin /usr/bin; do
            found=$found:$folder/python3
        done
        for minor in 14 13 12 11 10 9; do
            for folder in $path; do
                found=$found:$folder/python3.$minor
            done
        done
        ;;
    esac
    for python in $found; do
        case $python in
        /*/python*) ;;
        *) continue ;;
        esac
        case ", $tried" in
        *", $python ("*) continue ;;
        esac
        if [ -f "$python" ] && [ -x "$python" ]; then
            EG_AGENT_TRIED=${tried:+$tried, }$python
            # As -I, but for a Python 2, too: neither PYTHON* nor the user's own packages.
            exec "$python" -Es "$agent" "$@"
        fi
    done
done

# Enterprise Gateway's own images without a Python of a kernel: their launcher reports to the gateway by itself.
if [ -x "$bootstrap" ]; then
    unset EG_AGENT_TRIED EG_AGENT_TOKEN EG_AGENT_CERTIFICATE EG_AGENT_SETTINGS EG_AGENT_LISTEN EG_AGENT_FOLDER
    unset EG_AGENT_ENTERED EG_AGENT_ENTRYPOINT
    exec "$bootstrap" "$@"
fi

# No Python has pyzmq, by which that of a kernel is known. The agent does not need it.
if [ -z "${EG_AGENT_ANY_PYTHON:-}" ]; then
    export EG_AGENT_ANY_PYTHON=1
    set -f
    IFS=,
    for python in $tried; do
        case $python in
        *'(no pyzmq)')
            python=${python#' '}
            exec "${python%' (no pyzmq)'}" -Es "$agent" "$@"
            ;;
        esac
    done
fi

if [ -n "$tried" ]; then
    missing="no python3 that is new enough (looked at $tried). Install a newer one in the image"
else
    missing="no python3 (looked in $path, the kernelspecs, /opt/conda/bin, /opt/venv/bin). Install python3 in the image"
fi
printf 'kernel_agent: the image has %s, or name another image in the kernelspec: %s\n' "$missing" \
    "the program that looks after the kernel needs Python 3.9 or later." >&2
exit 1
