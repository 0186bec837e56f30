"""What an agent makes of a kernel that it only knows ports of."""

import json
from typing import Any

import pytest

from kernel_agent.eg.attachment import AttachSpawner
from kernel_agent.launch.command import Attachment, read_attachment
from kernel_agent.process.child import SpawnError
from kernel_agent.settings import read_settings

PORTS = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
DOCUMENT = {
    **{name: 40000 + index for index, name in enumerate(PORTS)},
    "ip": "172.17.0.5",
    "key": "secret",
    "signature_scheme": "hmac-sha256",
    "transport": "tcp",
    "comm_port": 40009,
}


def test_attachment_is_read_from_the_environment() -> None:
    """The option stands alone: there is no command."""
    environ = {"EG_AGENT_TOKEN": "t", "EG_AGENT_ATTACH": json.dumps(DOCUMENT)}
    attachment = read_settings(environ, ["--attach"]).kernel
    assert isinstance(attachment, Attachment)
    assert attachment.info.document() == {
        name: value for name, value in DOCUMENT.items() if name != "comm_port"
    }
    assert attachment.comm_port == 40009


@pytest.mark.parametrize(
    "changes",
    [
        {"hb_port": None},
        {"ip": 7},
        {"key": None},
        {"signature_scheme": "sha256"},
        {"comm_port": []},
    ],
    ids=str,
)
def test_malformed_attachment_is_refused(changes: dict[str, Any]) -> None:
    """Without telling what it holds: a key is among it."""
    for text in ("", "[]", "7", json.dumps({**DOCUMENT, **changes})):
        with pytest.raises(ValueError, match="EG_AGENT_ATTACH") as failure:
            read_attachment(text)
        assert "secret" not in str(failure.value)


def test_kernel_elsewhere_is_attached_to_once() -> None:
    """Nothing there would start another one."""
    launcher = AttachSpawner(read_attachment(json.dumps(DOCUMENT)))
    launcher.spawn()
    with pytest.raises(SpawnError):
        launcher.spawn()
