"""Images without a kernel agent, as users have them: the project's own without it."""

import io

import docker
from docker.errors import ImageNotFound

from bringup.images import KERNEL

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
_VARIANTS = {
    "stock": "",
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
