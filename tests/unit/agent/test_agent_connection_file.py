"""Ports, and nobody else on them."""

import pytest

from kernel_agent.connection_file import PortReservation, PortsExhaustedError


def test_port_range_without_five_free_ports_is_an_error() -> None:
    """Too few ports, or taken ones, are told; nothing stays bound."""
    with pytest.raises(PortsExhaustedError):
        PortReservation((39_300, 39_303))
    first = PortReservation((39_300, 39_304))
    with pytest.raises(PortsExhaustedError):
        PortReservation((39_300, 39_304))
    first.release()
    second = PortReservation((39_300, 39_304))
    assert sorted(second.ports.values()) == list(range(39_300, 39_305))
    second.release()
