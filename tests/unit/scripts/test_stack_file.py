"""What the stack's file says agrees with the code and with the images."""

import asyncio
import re
from pathlib import Path

import pytest

from enterprise_gateway.settings import KernelSettings, Settings
from enterprise_gateway.settings.option import find_all_options
from enterprise_gateway.web.draining import LINGER_SECONDS, longest_request_seconds
from enterprise_gateway.web.server import CLEANUP_SECONDS, SHUTDOWN_SECONDS

DOCKER = Path(__file__).resolve().parents[3] / "etc" / "docker"
STACK = (DOCKER / "docker-compose.yml").read_text(encoding="utf-8")
GATEWAY = DOCKER / "enterprise-gateway"

PAGE = (DOCKER.parents[1] / "docs" / "operations.md").read_text(encoding="utf-8")
VARIABLE = re.compile(r"\bEG_[A-Z_]*[A-Z]\b")
NOT_PASSED = {
    "EG_AUTHORIZER_CLASS": "is code, which another image has",
    "EG_AUTHORIZED_ORIGIN": "the balancer ends TLS",
    "EG_CERTFILE": "the balancer ends TLS",
    "EG_CERTIFICATE_USERNAME": "the balancer ends TLS",
    "EG_CLIENT_CA": "the balancer ends TLS",
    "EG_KEYFILE": "the balancer ends TLS",
    "EG_SSL_VERSION": "the balancer ends TLS",
    "EG_CULL_BUSY": "ends work that is under way",
    "EG_IMPERSONATION_ENABLED": "is for local kernels",
    "EG_KERNELSPEC_CACHE_ENABLED": "would only cost time",
    "EG_LOCAL_HOSTNAMES": "is for a gateway without authentication on a loopback address",
    "EG_MAX_PORT_RANGE_RETRIES": "is for kernels that share a host's ports",
    "EG_MIN_PORT_RANGE_SIZE": "is for kernels that share a host's ports",
    "EG_PORT": "is the balancer's",
    "EG_PORT_RANGE": "is for kernels that share a host's ports",
    "EG_PORT_RETRIES": "is the balancer's",
    "EG_PROHIBITED_LOCAL_IPS": "depends on the replica",
    "EG_RESPONSE_ADDR_ANY": "depends on the replica",
    "EG_RESPONSE_IP": "depends on the replica",
    "EG_RESPONSE_PORT_RETRIES": "the port must be the same in each replica",
}
"""Variables of the gateway that the stack does not pass to it, and why."""


def default(variable: str) -> float:
    """Return the number that a variable of the stack is by default."""
    (found,) = re.findall(rf"\$\{{{variable}:-([0-9.]+)s?\}}", STACK)
    return float(found)


def test_replica_is_given_the_time_that_it_takes_to_stop() -> None:
    """A longer request, the launch of a kernel, would end with 502 and leave its kernel behind."""
    kernels = KernelSettings(
        launch_timeout=default("EG_KERNEL_LAUNCH_TIMEOUT"),
        kernel_info_timeout=default("EG_KERNEL_INFO_TIMEOUT"),
    )
    stop = LINGER_SECONDS + longest_request_seconds(kernels) + SHUTDOWN_SECONDS + CLEANUP_SECONDS
    assert default("EG_STOP_GRACE_PERIOD") > stop


def test_health_check_fails_for_a_gateway_that_hangs_only() -> None:
    """Docker's deadline is longer than the check's own, and a start is given minutes."""
    dockerfile = (GATEWAY / "Dockerfile").read_text(encoding="utf-8")
    check = (GATEWAY / "check-gateway").read_text(encoding="utf-8")
    (timeout, start, retries) = re.findall(
        r"--timeout=(\d+)s --start-period=(\d+)m --retries=(\d+)", dockerfile
    )[0]
    (patience,) = re.findall(r"read -r -t (\d+)", check)
    assert int(patience) < int(timeout)
    assert int(timeout) * int(retries) >= 120
    assert int(start) >= 5


@pytest.mark.parametrize(
    ("pause", "answer", "passes"),
    [
        (0.0, b"HTTP/1.0 200 OK\r\n\r\n", True),
        (6.0, b"HTTP/1.0 200 OK\r\n\r\n", True),  # as of a gateway on a starved machine
        (0.0, b"HTTP/1.0 503 Service Unavailable\r\n\r\n", False),
        (0.0, b"", False),
    ],
)
async def test_health_check_waits_for_a_slow_answer(
    pause: float, answer: bytes, *, passes: bool
) -> None:
    """What counts is the answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(pause)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        check = await asyncio.create_subprocess_exec(
            "bash", GATEWAY / "check-gateway", env={"EG_PORT": str(port)}
        )
        assert (await check.wait() == 0) is passes


def test_gateways_listen_in_the_network_that_the_balancer_asks_in() -> None:
    """By its subnet, and under the name that the balancer's servers have there."""
    (subnet,) = set(re.findall(r"\$\{EG_GATEWAY_SUBNET:-([^}]+)\}", STACK))
    assert f"EG_IP: ${{EG_GATEWAY_SUBNET:-{subnet}}}" in STACK
    assert f"EG_TRUSTED_PROXIES: ${{EG_GATEWAY_SUBNET:-{subnet}}}" in STACK
    assert "aliases: [gateways]" in STACK
    balancer = (DOCKER / "proxy" / "balancer.cfg").read_text(encoding="utf-8")
    assert set(re.findall(r"server-template gateway 16 (\S+)", balancer)) == {"gateways:8888"}


def test_encrypted_networks_are_otherwise_the_stacks() -> None:
    """The file has each of its overlay networks, with the same names and addresses."""
    encrypted = (DOCKER / "docker-compose.encrypted.yml").read_text(encoding="utf-8")

    def details(text: str) -> list[str]:
        networks = text[text.index("\nnetworks:") :].partition("\nvolumes:")[0]
        return re.findall(r"name: \$.*|subnet: .*|component: .*|internal: true", networks)

    assert details(encrypted) == details(STACK)
    assert encrypted.count("<<: *encrypted") == STACK.count("driver: overlay")


def test_stack_passes_every_setting_on() -> None:
    """Those of the settings, and those that the page of the stack speaks of."""
    gateway = STACK[STACK.index("    environment:") : STACK.index("    secrets:")]
    passed = set(re.findall(r"^      (EG_\w+):", gateway, re.MULTILINE))
    settings = {name for _, option in find_all_options(Settings) for name in option.env[:1]}
    offered = VARIABLE.findall("\n".join(settings)) + VARIABLE.findall(PAGE)
    elsewhere = set(VARIABLE.findall(STACK)) - settings
    assert set(offered) - elsewhere - passed == NOT_PASSED.keys()
