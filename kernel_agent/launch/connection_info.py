"""The address of a kernel process: an IP address, five ports and a key."""

from __future__ import annotations

from typing import Dict, NamedTuple, Union

LOOPBACK = "127.0.0.1"
PORT_NAMES = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")


class ConnectionInfo(NamedTuple):
    """How to reach a kernel process, and the key that signs its messages."""

    ports: Dict[str, int]
    key: str
    ip: str = LOOPBACK
    digest: str = "sha256"
    """Hash function of the signatures, which are HMACs."""

    def document(self) -> Dict[str, Union[str, int]]:
        """Return the content of the connection file."""
        return {
            "transport": "tcp",
            "ip": self.ip,
            "key": self.key,
            "signature_scheme": f"hmac-{self.digest}",
            **self.ports,
        }
