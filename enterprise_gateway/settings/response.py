"""Settings of the port on which kernel agents report."""

from dataclasses import dataclass

from enterprise_gateway.settings import parse
from enterprise_gateway.settings.option import option


@dataclass(frozen=True, slots=True)
class ResponseSettings:
    """Where kernel agents report that their kernel is ready."""

    ip: str = option(
        "Address to which kernels send their reports. By default the one from which this host"
        " reaches the network of the kernels.",
        default="",
        name="response_ip",
        env=("EG_RESPONSE_IP",),
    )
    port: int = option(
        "Port for the reports of kernels; 0 for any free one.",
        default=8877,
        low=0,
        high=65535,
        name="response_port",
        env=("EG_RESPONSE_PORT",),
    )
    port_retries: int = option(
        "Number of further ports to try if `response_port` is in use.",
        default=10,
        low=0,
        name="response_port_retries",
        env=("EG_RESPONSE_PORT_RETRIES",),
    )
    addr_any: bool = option(
        "Accept reports on all interfaces.",
        default=False,
        name="response_addr_any",
        env=("EG_RESPONSE_ADDR_ANY",),
    )
    accept_eg_payloads: bool = option(
        "Accept the reports of launchers in images of Jupyter Enterprise Gateway, which are"
        " encrypted but not authenticated: their kernels get sidecars. If false, only kernel agents"
        " are heard.",
        default=True,
        env=("EG_ACCEPT_EG_PAYLOADS",),
    )
    prohibited_local_ips: tuple[str, ...] = option(
        "Regular expressions of local addresses to which kernels must not be told to report.",
        default=(),
        takes=list[str],
        parse=parse.patterns,
        env=("EG_PROHIBITED_LOCAL_IPS",),
    )
