"""One kernelspec: what a `kernel.json` says, typed.

The format is jupyter_client's
(https://jupyter-client.readthedocs.io/en/stable/kernels.html#kernel-specs).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

LOCAL_PROXY = "enterprise_gateway.services.processproxies.processproxy.LocalProcessProxy"
"""The process proxy of kernelspecs that name none."""


class KernelJson(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of a `kernel.json`."""

    argv: Annotated[list[str], msgspec.Meta(min_length=1)]
    env: dict[str, str] = {}
    display_name: str = ""
    language: str = ""
    interrupt_mode: str = "signal"
    metadata: dict[str, Any] = {}
    kernel_protocol_version: str = ""


class _ProxyStanza(msgspec.Struct, frozen=True):
    class_name: str = LOCAL_PROXY
    config: dict[str, Any] = {}


class _Metadata(msgspec.Struct, frozen=True):
    process_proxy: _ProxyStanza = _ProxyStanza()


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
    """`metadata.process_proxy.config`."""
    resource_names: tuple[str, ...]
    """Files that clients may want: logos, `kernel.js`, `kernel.css`."""


def parse_kernelspec(
    name: str, resource_dir: Path, raw: bytes, resource_names: tuple[str, ...]
) -> Kernelspec:
    """Make a kernelspec of the text of its `kernel.json`.

    Raises:
        ValueError: the text is not a kernelspec; the message says why.
    """
    spec = msgspec.json.decode(raw, type=KernelJson)
    mode = spec.interrupt_mode.lower()
    if mode not in {"signal", "message"}:
        raise ValueError(f"interrupt_mode is {mode!r}: must be signal or message")
    stanza = msgspec.convert(spec.metadata, _Metadata).process_proxy
    return Kernelspec(
        name=name,
        resource_dir=resource_dir,
        spec=msgspec.structs.replace(spec, interrupt_mode=mode),
        proxy_class=stanza.class_name,
        proxy_config=stanza.config,
        resource_names=resource_names,
    )
