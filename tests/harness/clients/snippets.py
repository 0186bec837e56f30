"""The fenced examples of docs/clients.md, so that the tests run exactly what users copy."""

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from harness.clients.gateway_client import GatewayClient
from harness.gateways.gateway import ROOT, clean_environment

DOCUMENTED_URL = "127.0.0.1:8888"
DOCUMENTED_TOKEN = "the-token-that-the-gateway-printed"


def read_snippet(language: str, name: str) -> str:
    """Return the example whose fence is labelled with language and name."""
    page = (ROOT / "docs/clients.md").read_text()
    found = re.findall(rf"^```{language} {name}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert len(found) == 1, f"{len(found)} examples labelled {language} {name}"
    return str(found[0])


def read_exports(gateway: GatewayClient, *names: str) -> str:
    """Return these of the page's exports with the test gateway's address, token and user."""
    exports = "".join(read_snippet("sh", name) for name in names)
    exports = exports.replace("KERNEL_USERNAME=ann", f"KERNEL_USERNAME={gateway.username}")
    return exports.replace(DOCUMENTED_URL, gateway.url.removeprefix("http://")).replace(
        DOCUMENTED_TOKEN, gateway.token
    )


def client_env(gateway: GatewayClient, home: Path) -> dict[str, str]:
    """Return an environment for a user's programs, without the gateway's address and token."""
    return {**clean_environment(home), "LOGNAME": gateway.username}


def run_snippet(
    gateway: GatewayClient,
    language: str,
    name: str,
    *,
    cwd: Path,
    kernel_name: str = "python_docker",
    env: Mapping[str, str] = MappingProxyType({}),
    timeout: float = 200,
) -> subprocess.CompletedProcess[str]:
    """Run an example with all of the page's exports.

    Args:
        gateway: the page's gateway.
        language: of the example's fence.
        name: of the example.
        cwd: where it runs.
        kernel_name: replaces the page's.
        env: further variables.
        timeout: seconds that it may take.
    """
    code = read_snippet(language, name).replace("python_docker", kernel_name)
    (cwd / "gateway_kernels.py").write_text(read_snippet("python", "gateway-kernels"))
    if language == "python":
        (cwd / "example.py").write_text(code)
        code = f"{sys.executable} example.py"
    exports = read_exports(gateway, "environment", "nbclient-environment")
    return subprocess.run(
        ["bash", "-euc", exports + code],
        cwd=cwd,
        env={**client_env(gateway, cwd), **env},
        check=False,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
