#!/bin/sh
# The beginning of the agent's bundle, the rest of which is a zip archive: find a Python that can run
# it. The shell never reads that far, since every way through here ends in exec or exit.
#
# POSIX sh and no other program, as images may have little. Nothing of the environment is printed: it
# holds the agent's token and whatever the user passed in.
set -u

agent=$0
bootstrap=/usr/local/bin/bootstrap-kernel.sh

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
path=${PATH:-/usr/local/bin:/usr/bin:/bin}
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

# Enterprise Gateway's own images, without pyzmq: their launcher reports to the gateway by itself.
if [ -x "$bootstrap" ]; then
    unset EG_AGENT_TRIED EG_AGENT_TOKEN EG_AGENT_SETTINGS EG_AGENT_LISTEN EG_AGENT_FOLDER
    exec "$bootstrap" "$@"
fi

if [ -n "$tried" ]; then
    missing="no python3 with pyzmq (looked at $tried). Install pyzmq in the image (pip install pyzmq)"
else
    missing="no python3 (looked in $path, the kernelspecs, /opt/conda/bin, /opt/venv/bin). Install python3 and pyzmq in the image"
fi
printf 'kernel_agent: the image has %s, or name another image in the kernelspec: %s\n' "$missing" \
    "the program that looks after the kernel needs Python 3.9 or later and pyzmq." >&2
exit 1
