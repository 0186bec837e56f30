"""One kernelspec: the typed contents of a `kernel.json`.

The format is jupyter_client's
(https://jupyter-client.readthedocs.io/en/stable/kernels.html#kernel-specs).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from enterprise_gateway.services.processproxies.config import ProxyConfig, read_config
from enterprise_gateway.services.processproxies.registry import LOCAL_PROCESS_PROXY

_LOCAL_PROVISIONERS = frozenset({"", "local-provisioner"})
"""Kernel provisioners of jupyter_client that mean the same as none: a local process."""


_Name = Annotated[str, msgspec.Meta(pattern=r"\A[^=\0]+\Z")]
_Value = Annotated[str, msgspec.Meta(pattern=r"\A[^\0]*\Z")]
"""The names and values of variables that the operating system accepts."""


class KernelJson(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of a `kernel.json`."""

    argv: Annotated[list[_Value], msgspec.Meta(min_length=1)]
    env: dict[_Name, _Value] = {}
    display_name: str = ""
    language: str = ""
    interrupt_mode: str = "signal"
    metadata: dict[str, Any] = {}
    kernel_protocol_version: str = ""


class _ProxyStanza(msgspec.Struct, frozen=True):
    class_name: str = LOCAL_PROCESS_PROXY
    config: dict[str, Any] = {}


class _ProvisionerStanza(msgspec.Struct, frozen=True):
    provisioner_name: str = ""


class _Metadata(msgspec.Struct, frozen=True):
    process_proxy: _ProxyStanza | None = None
    kernel_provisioner: _ProvisionerStanza = _ProvisionerStanza()


@dataclass(frozen=True, slots=True)
class Kernelspec:
    """A kernelspec as the gateway uses it."""

    name: str
    """Lower-case name of its folder."""
    resource_dir: Path
    spec: KernelJson
    proxy_class: str
    """Dotted name of its process proxy."""
    proxy_config: dict[str, Any]
    """`metadata.process_proxy.config`, for the process proxy."""
    config: ProxyConfig
    """The keys in it that the gateway knows."""
    resource_names: tuple[str, ...]
    """Files that clients may want: logos, `kernel.js`, `kernel.css`."""


def parse_kernelspec(
    name: str, resource_dir: Path, raw: bytes, resource_names: tuple[str, ...]
) -> Kernelspec:
    """Parse the text of a `kernel.json`.

    Raises:
        ValueError: the text is not a kernelspec; the message says why.
        RecursionError: it is nested too deeply.
        ConfigurationError: its process proxy's config is wrong.
    """
    spec = msgspec.json.decode(raw, type=KernelJson)
    mode = spec.interrupt_mode.lower()
    if mode not in {"signal", "message"}:
        raise ValueError(f"interrupt_mode is {mode!r}: must be signal or message")
    stanza = _find_proxy(msgspec.convert(spec.metadata, _Metadata))
    return Kernelspec(
        name=name,
        resource_dir=resource_dir,
        spec=msgspec.structs.replace(spec, interrupt_mode=mode),
        proxy_class=stanza.class_name,
        proxy_config=stanza.config,
        config=read_config(stanza.config, name),
        resource_names=resource_names,
    )


def _find_proxy(metadata: _Metadata) -> _ProxyStanza:
    """Return the stanza of the process proxy, that of local kernels if there is none.

    A kernelspec that names a kernel provisioner is not meant for a local process.
    """
    provisioner = metadata.kernel_provisioner.provisioner_name
    if metadata.process_proxy is None and provisioner not in _LOCAL_PROVISIONERS:
        raise ValueError(
            f"metadata.kernel_provisioner names '{provisioner}', but the gateway runs kernels by "
            "process proxies. Write metadata.process_proxy with class_name and config instead "
            "(docs/process-proxies.md), or remove the stanza for a process of the gateway's machine"
        )
    return metadata.process_proxy or _ProxyStanza()
