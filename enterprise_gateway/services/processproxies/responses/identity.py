"""The key pair by which kernel agents recognise the response listener of their gateway."""

import asyncio
import json
import os
import ssl
import sys
from dataclasses import dataclass, field

from enterprise_gateway.errors import UnavailableError

_CERTIFICATE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class ListenerIdentity:
    """The keys of one response listener."""

    public_key: str
    """`PUBLIC_KEY` of the wire contract."""
    context: ssl.SSLContext
    private_pem: bytes = field(repr=False)


async def create_identity() -> ListenerIdentity:
    """Create a key pair in a process of its own.

    Raises:
        UnavailableError: it could not be created.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "enterprise_gateway.services.processproxies.responses.certificate",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_CERTIFICATE_SECONDS):
            output, _ = await process.communicate()
        made = json.loads(output)
        pem = made["pem"].encode()
        return ListenerIdentity(made["public_key"], _server_context(pem), pem)
    except (TimeoutError, OSError, ValueError) as exc:
        raise UnavailableError("The key for kernel responses could not be created.") from exc
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _server_context(pem: bytes) -> ssl.SSLContext:
    """Return the TLS context for a key, which is never written to a disk."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    descriptor = os.memfd_create("response-key")
    try:
        os.write(descriptor, pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return context
