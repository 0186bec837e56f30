"""Ports, and no other process on them."""

from pathlib import Path

import pytest

from kernel_agent.launch.connection_file import PortReservation, PortsExhaustedError, PrivateFolder


def test_port_range_without_five_free_ports_is_an_error() -> None:
    """Too few ports, or taken ones, are told; nothing stays bound."""
    # below those that Linux assigns to processes that bind to port 0
    with pytest.raises(PortsExhaustedError):
        PortReservation((29_300, 29_303))
    first = PortReservation((29_300, 29_304))
    with pytest.raises(PortsExhaustedError):
        PortReservation((29_300, 29_304))
    first.release()
    second = PortReservation((29_300, 29_304))
    assert sorted(second.ports.values()) == list(range(29_300, 29_305))
    second.release()


def test_private_folder_goes_with_all_that_is_in_it(tmp_path: Path) -> None:
    """What a kernel left there is no error and does not stay."""
    with PrivateFolder([str(tmp_path)]) as folder:
        assert Path(folder).stat().st_mode & 0o777 == 0o700
        Path(folder, "a", "b").mkdir(parents=True)
        Path(folder, "c").touch()
    assert list(tmp_path.iterdir()) == []
