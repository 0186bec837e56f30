"""Secrets: the token for clients, and the cluster secret.

The latter is 32 bytes that every replica shares; tokens of agents derive from it.
"""

import hashlib
import hmac
import os
import secrets
import tempfile
from pathlib import Path

from enterprise_gateway.errors import ConfigurationError

SECRET_BYTES = 32
_MIN_TEXT_LENGTH = 16


def derive_secret(text: str, source: str) -> bytes:
    """Turn what an operator wrote into a secret of the right length.

    Args:
        text: Any text of at least 16 characters; white space around it does not count.
        source: Where it came from, for the message.

    Raises:
        ConfigurationError: The text is too short to be a secret.
    """
    stripped = text.strip()
    if len(stripped) < _MIN_TEXT_LENGTH:
        raise ConfigurationError(
            f"The cluster secret of {source} has fewer than {_MIN_TEXT_LENGTH} characters."
        )
    return hashlib.sha256(b"enterprise-gateway cluster secret\0" + stripped.encode()).digest()


def read_secret_file(path: Path) -> bytes:
    """Read the secret from a file that an operator made, such as a Docker secret.

    Raises:
        ConfigurationError: The file cannot be read or is too short.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"Cannot read the cluster secret from {path}: {exc}.") from exc
    return derive_secret(text, str(path))


def read_token_file(path: Path) -> str:
    """Read the token for clients from a file that an operator made, such as a Docker secret.

    Raises:
        ConfigurationError: The file cannot be read or is empty.
    """
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"Cannot read the auth token from {path}: {exc}.") from exc
    if not token:
        raise ConfigurationError(f"The auth token's file {path} is empty.")
    return token


def derive_auth_token(cluster_secret: bytes) -> str:
    """Return the token for clients of gateways that were given none: the same for all replicas."""
    return hmac.new(cluster_secret, b"auth token", hashlib.sha256).hexdigest()


def keep_secret(folder: Path) -> bytes:
    """Return the secret kept in `folder`, making it if there is none.

    Processes that do so at the same time all get the same secret: it is written aside and linked
    into place, which fails for
    all but the first.

    Raises:
        ConfigurationError: The folder cannot be written, or the file is damaged.
    """
    path = folder / "cluster_secret"
    try:
        if not path.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _link_new_secret(path)
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"Cannot keep the cluster secret in {path}: {exc}.") from exc
    return derive_secret(text, str(path))


def _link_new_secret(path: Path) -> None:
    handle, temporary = tempfile.mkstemp(prefix=".cluster_secret-", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(SECRET_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        pass  # another process was first: its secret counts
    finally:
        Path(temporary).unlink()
