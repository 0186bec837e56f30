"""Connections to machines that may lose their power."""

import socket

import pytest

from enterprise_gateway.services.keepalive import LASTING, PROMPT, Patience, keep_alive


@pytest.mark.parametrize(("patience", "seconds"), [(PROMPT, 30), (LASTING, 900)])
def test_silent_machine_is_given_up_in_time(patience: Patience, seconds: int) -> None:
    """The system asks an idle peer from time to time, and counts unanswered questions."""
    with socket.socket() as sock:
        keep_alive(sock, patience)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        idle, interval, probes = (sock.getsockopt(socket.IPPROTO_TCP, each) for each in options)
        assert idle + interval * probes == seconds


def test_unix_sockets_are_left_alone() -> None:
    """Both ends are on one machine."""
    left, right = socket.socketpair()
    with left, right:
        keep_alive(left)
        assert not left.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
