"""Secrets: the token of clients, the cluster secret, and that of the load balancer.

The cluster secret is 32 bytes that all replicas share; the tokens of agents derive from it.
"""

import hashlib
import hmac
import os
import secrets
import tempfile
from pathlib import Path

from enterprise_gateway.errors import ConfigurationError

SECRET_BYTES = 32
_MIN_SECRET_CHARACTERS = 16


def derive_secret(text: str, source: str) -> bytes:
    """Derive the cluster secret from the text of an operator.

    Args:
        text: at least 16 characters; white space around them is ignored.
        source: where the text comes from, for error messages.

    Raises:
        ConfigurationError: the text is too short.
    """
    stripped = text.strip()
    if len(stripped) < _MIN_SECRET_CHARACTERS:
        raise ConfigurationError(
            f"The cluster secret of {source} has fewer than {_MIN_SECRET_CHARACTERS} characters."
        )
    return hashlib.sha256(b"enterprise-gateway cluster secret\0" + stripped.encode()).digest()


def read_secret_file(path: Path) -> bytes:
    """Read the cluster secret from an operator's file, such as a Docker secret.

    Raises:
        ConfigurationError: the file cannot be read or is too short.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"Cannot read the cluster secret from {path}: {exc}.") from exc
    return derive_secret(text, str(path))


def read_shared_text(path: Path, what: str) -> str:
    """Read what others know as it is from an operator's file, such as a Docker secret.

    Args:
        path: the file; white space around its text is ignored.
        what: what it holds, for error messages.

    Raises:
        ConfigurationError: the file cannot be read or is empty.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"Cannot read the {what} from {path}: {exc}.") from exc
    if not text:
        raise ConfigurationError(f"The file of the {what}, {path}, is empty.")
    return text


def derive_auth_token(cluster_secret: bytes) -> str:
    """Derive the token of clients if the operator sets none: the same one in all replicas."""
    return hmac.new(cluster_secret, b"auth token", hashlib.sha256).hexdigest()


def load_or_create_secret(folder: Path) -> bytes:
    """Return the cluster secret kept in `folder`; generate it if there is none.

    Processes that do so at the same time all get the same secret: each writes a temporary file and
    links it into place, which fails for all but the first.

    Raises:
        ConfigurationError: the folder cannot be written, or the file is damaged.
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
        pass  # another process was first; its secret counts
    finally:
        Path(temporary).unlink()
