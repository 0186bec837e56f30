"""Connections to agents, in plain TCP, in TLS or by a unix socket."""

import asyncio
import functools
import ssl
from collections.abc import Callable
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from enterprise_gateway.services.processproxies.contract import AgentEndpoint

_P = TypeVar("_P", bound=asyncio.Protocol)


class NotTheAgentError(ConnectionError):
    """What listens there does not prove to be the kernel's agent."""


async def connect(
    endpoint: AgentEndpoint, make_protocol: Callable[[], _P]
) -> tuple[asyncio.Transport, _P]:
    """Connect to an agent. What is at its address has proved to be it, if it speaks TLS.

    Raises:
        NotTheAgentError: it has not.
        OSError: it cannot be reached.
    """
    loop = asyncio.get_running_loop()
    if endpoint.unix_path:
        return await loop.create_unix_connection(make_protocol, endpoint.unix_path)
    if not endpoint.public_key:
        return await loop.create_connection(make_protocol, endpoint.host, endpoint.port)
    transport, protocol = await loop.create_connection(
        make_protocol, endpoint.host, endpoint.port, ssl=_context()
    )
    connection = transport.get_extra_info("ssl_object")
    if _public_key(connection.getpeercert(binary_form=True)) != endpoint.public_key:
        transport.abort()
        raise NotTheAgentError("it does not prove to be the kernel's agent")
    return transport, protocol


async def open_streams(
    endpoint: AgentEndpoint, limit: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to an agent; see `connect`.

    Args:
        endpoint: where it listens.
        limit: bytes that the reader buffers before reading pauses.
    """
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    transport, protocol = await connect(
        endpoint, lambda: asyncio.StreamReaderProtocol(reader, loop=loop)
    )
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


@functools.cache
def _context() -> ssl.SSLContext:
    """Return the context for connections to agents: TLS 1.3, and any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _public_key(certificate: bytes) -> bytes:
    """Return the DER of the public key in a certificate, b"" if it is none."""
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
        return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        return b""
