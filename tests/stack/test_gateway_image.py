"""The gateway's image by itself, and an image that a site builds on it."""

import base64
import hashlib
import io
import secrets
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager

import docker
import pytest
import requests
from harness.clients.gateway_client import GatewayClient
from harness.waiting import wait_until

from devtools.images import GATEWAY

pytestmark = pytest.mark.docker

START_DEADLINE = 60.0

AUTHORIZER = """
class ReadOnly:
    def __init__(self, **_):
        pass

    def is_authorized(self, handler, user, action, resource):
        return action == "read"
"""

RECIPE = f"""
FROM {GATEWAY.tag}
USER root
COPY site_rules-1-py3-none-any.whl /tmp/
RUN pip install --no-cache-dir --no-index /tmp/site_rules-1-py3-none-any.whl
USER 1000:100
"""


@contextmanager
def running(image: str, **environment: str) -> Iterator[GatewayClient]:
    """Have a container of an image, with a token and nothing else that it would not have."""
    token = secrets.token_hex(16)
    with closing(docker.from_env()) as client:
        container = client.containers.run(
            image, environment={"EG_AUTH_TOKEN": token, **environment}, detach=True
        )
        try:
            container.reload()
            address = container.attrs["NetworkSettings"]["IPAddress"]
            gateway = GatewayClient(f"http://{address}:8888", token=token, username="ann")
            wait_until(lambda: answers(gateway), deadline=START_DEADLINE, what="the gateway")
            yield gateway
            gateway.disconnect()
        finally:
            container.remove(force=True)


def answers(gateway: GatewayClient) -> bool:
    """Whether the gateway lives; without an engine it is not ready."""
    try:
        return gateway.request("GET", "/healthz", timeout=5).status_code == 200
    except requests.RequestException:
        return False


def test_image_has_the_defaults_of_enterprise_gateways() -> None:
    """Kernels are listed, and culled after twelve hours: in the image, not in the program."""
    with closing(docker.from_env()) as client:
        config = client.images.get(GATEWAY.tag).attrs["Config"]
    environment = dict(entry.split("=", 1) for entry in config["Env"])
    assert environment["EG_LIST_KERNELS"] == "True"
    assert environment["EG_CULL_IDLE_TIMEOUT"] == "43200"
    assert environment["EG_CULL_INTERVAL"] == "60"
    assert config["Cmd"] == ["start-enterprise-gateway.sh"]
    with running(GATEWAY.tag) as gateway:
        listed = gateway.request("GET", "/api/kernels")
        # without an engine it is not known which kernels there are; 403 would be "not listed"
        assert listed.status_code in (200, 503), listed.text
        assert "python_docker" in gateway.get("/api/kernelspecs")["kernelspecs"]


def test_site_adds_code_of_its_own_by_pip() -> None:
    """Such as an authorizer: in an image of the site's, built on the gateway's."""
    tag = f"localhost/enterprise-gateway-test/gateway:{secrets.token_hex(4)}"
    with closing(docker.from_env()) as client:
        client.images.build(
            fileobj=context(), custom_context=True, tag=tag, rm=True, network_mode="none"
        )
        try:
            with running(tag, EG_AUTHORIZER_CLASS="site_rules.ReadOnly") as gateway:
                assert gateway.request("GET", "/api/kernelspecs").status_code == 200
                refused = gateway.request("POST", "/api/kernels", json={"name": "python_docker"})
                assert refused.status_code == 403
        finally:
            client.images.remove(tag, force=True)


def context() -> io.BytesIO:
    """Return the context of the build: the recipe, and a package with the authorizer."""
    files = {"Dockerfile": RECIPE.encode(), "site_rules-1-py3-none-any.whl": wheel()}
    result = io.BytesIO()
    with tarfile.open(fileobj=result, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    result.seek(0)
    return result


def wheel() -> bytes:
    """Return a package with one module."""
    info = "site_rules-1.dist-info"
    files = {
        "site_rules.py": AUTHORIZER,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: site-rules\nVersion: 1\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = []
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest())
        lines.append(f"{name},sha256={digest.decode().rstrip('=')},{len(content)}")
    files[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,", ""])
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return result.getvalue()
