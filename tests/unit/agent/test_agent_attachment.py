"""What an agent makes of a kernel that it only knows ports of."""

import json
from typing import Any

import pytest

from kernel_agent.attachment import (
    REFUSED_SECONDS,
    SILENT_SECONDS,
    AttachLauncher,
    Probe,
    Pulse,
    read_attachment,
)
from kernel_agent.command import Attachment
from kernel_agent.process import SpawnError
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


def test_refusals_mean_nothing_before_the_kernel_listens() -> None:
    """A launcher reports ports first and opens them then."""
    pulse = Pulse()
    assert not pulse.note(Probe.REFUSED, 0.0)
    assert not pulse.note(Probe.REFUSED, 1000.0)
    assert not pulse.is_sure


def test_kernel_that_refuses_connections_is_dead_soon() -> None:
    """One refusal could be chance."""
    pulse = Pulse()
    assert not pulse.note(Probe.TAKEN, 0.0)
    assert not pulse.note(Probe.REFUSED, 10.0)
    assert not pulse.is_sure
    assert not pulse.note(Probe.REFUSED, 10.0 + REFUSED_SECONDS / 2)
    assert pulse.note(Probe.REFUSED, 10.0 + REFUSED_SECONDS)


def test_kernel_that_is_silent_is_dead_much_later() -> None:
    """A network may lose packets, a machine may be very busy."""
    pulse = Pulse()
    pulse.note(Probe.TAKEN, 0.0)
    assert not pulse.note(Probe.SILENT, 10.0)
    assert not pulse.note(Probe.REFUSED, 10.1)
    assert not pulse.note(Probe.SILENT, 10.2 + REFUSED_SECONDS)
    assert pulse.note(Probe.SILENT, 10.0 + SILENT_SECONDS)


def test_one_connection_is_proof_of_life() -> None:
    """Whatever was before it."""
    pulse = Pulse()
    pulse.note(Probe.TAKEN, 0.0)
    pulse.note(Probe.SILENT, 1.0)
    pulse.note(Probe.TAKEN, 2.0)
    assert pulse.is_sure
    assert not pulse.note(Probe.SILENT, 1.0 + SILENT_SECONDS)


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
    """There is nobody who would start another one."""
    launcher = AttachLauncher(read_attachment(json.dumps(DOCUMENT)))
    launcher.spawn()
    with pytest.raises(SpawnError):
        launcher.spawn()
