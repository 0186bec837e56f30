"""Images without a kernel agent, as users have them: the project's own without it."""

import base64
import io
import secrets
import tarfile

import docker
from docker.errors import ImageNotFound

from devtools.images import KERNEL

_STOCK = f"""
FROM {KERNEL.tag}
LABEL enterprise-gateway.agent=
USER root
RUN rm -r /opt/agent /usr/local/bin/bootstrap-kernel.sh
ENTRYPOINT ["/bin/sh", "-c", "echo the image was started >&2; exit 7"]
CMD ["start-notebook.sh"]
HEALTHCHECK --interval=1s --retries=1 CMD false
USER jovyan
"""
_START_SH = r"""#!/bin/bash
# What start.sh of docker-stacks does for a user who is not root
set -e
if [ $# -eq 0 ]; then cmd=("bash"); else cmd=("$@"); fi
if [ "${_START_SH_EXECUTED}" = "1" ]; then exec "${cmd[@]}"; else export _START_SH_EXECUTED=1; fi
source /usr/local/bin/run-hooks.sh /usr/local/bin/start-notebook.d
source /usr/local/bin/run-hooks.sh /usr/local/bin/before-notebook.d
exec "${cmd[@]}"
"""
_RUN_HOOKS_SH = r"""#!/bin/bash
set +e
for hook_file in "${1}/"*; do
    case "${hook_file}" in
    *.sh) source "${hook_file}" || echo "${hook_file} has failed, continuing execution" ;;
    *) [ ! -x "${hook_file}" ] || "${hook_file}" ;;
    esac
done
set -e
"""


def _script(path: str, text: str) -> str:
    """Return the instruction that makes a script."""
    encoded = base64.b64encode(text.encode()).decode()
    folder = path.rpartition("/")[0]
    return f"RUN mkdir -p {folder} && echo {encoded} | base64 -d >{path} && chmod 755 {path}\n"


_DOCKER_STACKS = "USER root\n" + "".join(
    _script(f"/usr/local/bin/{path}", text)
    for path, text in {
        "start.sh": _START_SH,
        "run-hooks.sh": _RUN_HOOKS_SH,
        "before-notebook.d/05-failing.sh": "false",
        "before-notebook.d/10-spark.sh": 'export PYTHONPATH="/opt/spark:${PYTHONPATH}"',
        "start-notebook.d/program": "#!/bin/sh\necho a hook in a program of its own",
    }.items()
)
_SPARK = _DOCKER_STACKS + _script("/opt/spark/pyspark.py", "") + "USER jovyan\n"
_ENTRY = _script(
    "/usr/local/bin/entry.sh", '#!/bin/sh\nset -e\nexport PYTHONPATH=/opt/spark\nexec "$@"\n'
)
_APPLICATION = _script(
    "/usr/local/bin/entry.sh", '#!/bin/sh\nexport PYTHONPATH=/opt/spark\nexec sleep "$@"\n'
)
_NO_START_SH = f"{_SPARK}USER root\nRUN rm /usr/local/bin/start.sh\n"

_ENTRYPOINT = 'USER jovyan\nENTRYPOINT ["/usr/local/bin/entry.sh"]\n'
_VARIANTS = {
    "stock": "",
    "docker-stacks": f'{_SPARK}ENTRYPOINT ["tini", "-g", "--", "start.sh"]\n',
    "older-docker-stacks": f'{_SPARK}ENTRYPOINT ["tini", "-g", "--"]\n',
    "entry": _NO_START_SH + _ENTRY + _ENTRYPOINT,
    "application": _NO_START_SH + _APPLICATION + _ENTRYPOINT,
    "other-user": "USER 1234\nENV HOME=/root\n",
    "no-pyzmq": "USER root\nRUN rm -r /opt/kernel/lib/python3*/site-packages/zmq\n",
}
NO_PYTHON = "debian:bookworm-slim"
"""An image that is neither of ours nor has a Python."""


def stock_image(client: docker.DockerClient, variant: str = "stock") -> str:
    """Return the name of an image without agent; it is built if the engine does not have it."""
    base = client.images.get(KERNEL.tag)
    tag = f"enterprise-gateway-test/{variant}:{str(base.id).removeprefix('sha256:')[:12]}"
    try:
        client.images.get(tag)
    except ImageNotFound:
        recipe = io.BytesIO((_STOCK + _VARIANTS[variant]).encode())
        client.images.build(fileobj=recipe, tag=tag, rm=True, network_mode="none")
    return tag


def empty_image(client: docker.DockerClient) -> str:
    """Return the name of an image that has nothing in it, not even a shell."""
    tag = "enterprise-gateway-test/empty:1"
    recipe = io.BytesIO(b'FROM scratch\nCMD ["/kernel"]\nLABEL nothing=1\n')
    client.images.build(fileobj=recipe, tag=tag, rm=True)
    return tag


def unknown_image(client: docker.DockerClient) -> str:
    """Return the name of an image of some megabytes, like which the engine has had none before."""
    tag = f"enterprise-gateway-test/unknown:{secrets.token_hex(8)}"
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        recipe = b'FROM scratch\nCOPY data /data\nCMD ["/kernel"]\n'
        for name, content in {"Dockerfile": recipe, "data": secrets.token_bytes(8_000_000)}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    context.seek(0)
    client.images.build(fileobj=context, custom_context=True, tag=tag, rm=True)
    return tag
