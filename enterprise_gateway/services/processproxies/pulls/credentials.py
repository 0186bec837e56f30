"""The credentials of registries, as `docker login` stores them.

The file and the helpers are those of the docker command:
https://docs.docker.com/reference/cli/docker/login/#credential-stores
"""

import asyncio
import base64
import binascii
import os
import re
import signal
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from enterprise_gateway.errors import UNREADABLE_JSON
from enterprise_gateway.services.processproxies.engine.images import DOCKER_HUB

HELPER_SECONDS = 15.0
"""How long a credential helper may take: it may ask a service of its own."""
_MAX_FILE_BYTES = 1 << 20
_HUB_KEY = "https://index.docker.io/v1/"
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HAS_NONE = b"credentials not found"
"""Part of what helpers print for a registry that they do not know."""
_IS_TOKEN = "<token>"  # noqa: S105 - stands for a user name
"""The user name with which helpers mark an identity token."""


class _Stored(msgspec.Struct, frozen=True):
    """An entry of `auths` in config.json."""

    auth: str = ""
    username: str = ""
    password: str = ""
    identitytoken: str = ""
    registrytoken: str = ""


class _DockerConfig(msgspec.Struct, frozen=True, rename="camel"):
    """The part of config.json that is about registries."""

    auths: dict[str, _Stored] = {}
    creds_store: str = ""
    cred_helpers: dict[str, str] = {}


class _HelperAnswer(msgspec.Struct, frozen=True):
    username: str = msgspec.field(name="Username", default="")
    secret: str = msgspec.field(name="Secret", default="")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the gateway has for one registry."""

    header: str = field(default="", repr=False)
    """`X-Registry-Auth` of the Engine API; "" to ask the registry without credentials."""
    source: str = ""
    """Where they are from, "" if there are none."""
    obstacle: str = ""
    """A sentence on why there are none although the file names a place for them."""


async def find_credentials(registry: str, folder: Path) -> Credentials:
    """Return the credentials for a registry.

    A file or helper that does not work is no error: the image may be public.

    Args:
        registry: its host, and port.
        folder: with config.json.
    """
    file = folder / "config.json"
    try:
        config = await asyncio.to_thread(_read, file)
    except FileNotFoundError:
        return Credentials()
    except (OSError, *UNREADABLE_JSON) as exc:
        return Credentials(obstacle=f"{file} cannot be used: {_plain(exc)}.")
    key = _HUB_KEY if registry == DOCKER_HUB else registry
    helper = config.cred_helpers.get(key) or config.cred_helpers.get(registry) or config.creds_store
    obstacle = ""
    if helper:
        try:
            answer = await _ask(helper, key)
        except _HelperError as exc:
            obstacle = (
                f"The credential helper docker-credential-{helper[:100]} that {file} names "
                f"(credsStore, credHelpers) fails: {exc}. Install that helper on the gateway's "
                "PATH and log in with it, or remove its name from the file."
            )
        else:
            if answer is not None:
                return Credentials(_encode(answer, key), f"the helper docker-credential-{helper}")
    stored = next((each for name, each in config.auths.items() if _host(name) == registry), None)
    header = _encode(stored, key) if stored is not None else ""
    return Credentials(header, str(file) if header else "", "" if header else obstacle)


def _read(file: Path) -> _DockerConfig:
    with file.open("rb") as opened:
        return msgspec.json.decode(opened.read(_MAX_FILE_BYTES), type=_DockerConfig)


def _plain(exc: Exception) -> str:
    """Return an error without the text that it is about."""
    return exc.strerror or "it cannot be read" if isinstance(exc, OSError) else "it is malformed"


def _host(name: str) -> str:
    """Return the registry of a key in `auths`, which old versions wrote as a URL."""
    host = name.partition("://")[2] or name
    host = host.partition("/")[0]
    return DOCKER_HUB if host in ("index.docker.io", "registry-1.docker.io") else host


class _HelperError(Exception):
    """Why a credential helper gave no answer. The text holds nothing that the helper printed."""


async def _ask(helper: str, key: str) -> _Stored | None:
    """Ask a credential helper, which runs with the gateway's own environment.

    Returns:
        None if it has no credentials for the registry.
    """
    if not _HELPER_NAME.fullmatch(helper):
        raise _HelperError("this is not the name of a helper")
    program = f"docker-credential-{helper}"
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            "get",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except FileNotFoundError as exc:
        raise _HelperError(f"{program} not installed or not available in PATH") from exc
    except OSError as exc:
        raise _HelperError(f"it cannot be run ({exc.strerror})") from exc
    try:
        async with asyncio.timeout(HELPER_SECONDS):
            printed, _ = await process.communicate(key.encode())
    except TimeoutError as exc:
        raise _HelperError(f"it did not answer in {HELPER_SECONDS:.0f} s") from exc
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)  # with the programs that it runs
            await process.communicate()
    if process.returncode != 0:
        if _HAS_NONE in printed:
            return None
        raise _HelperError(f"exit code {process.returncode}")
    try:
        answer = msgspec.json.decode(printed, type=_HelperAnswer)
    except UNREADABLE_JSON as exc:
        raise _HelperError("its answer is malformed") from exc
    if answer.username == _IS_TOKEN:
        return _Stored(identitytoken=answer.secret)
    return _Stored(username=answer.username, password=answer.secret)


def _encode(stored: _Stored, key: str) -> str:
    """Return the header for the engine, "" if the entry is empty.

    With a helper, the docker command leaves empty entries in the file.
    """
    username, password = stored.username, stored.password
    if stored.auth:
        try:
            decoded = base64.b64decode(stored.auth, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            decoded = ""
        username, _, password = decoded.partition(":")
        password = password.rstrip("\0")
    fields = {
        "username": username,
        "password": password,
        "identitytoken": stored.identitytoken,
        "registrytoken": stored.registrytoken,
    }
    if stored.identitytoken:
        fields["password"] = ""
    given = {name: value for name, value in fields.items() if value}
    if not given:
        return ""
    return base64.urlsafe_b64encode(msgspec.json.encode({**given, "serveraddress": key})).decode()
