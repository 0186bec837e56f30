"""Connections to machines that may lose their power."""

import socket

from enterprise_gateway.services.keepalive import keep_alive


def test_silent_machine_is_given_up_after_half_a_minute() -> None:
    """The system asks an idle peer from time to time, and counts unanswered questions."""
    with socket.socket() as sock:
        keep_alive(sock)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        idle, interval, probes = (sock.getsockopt(socket.IPPROTO_TCP, each) for each in options)
        assert idle + interval * probes == 30


def test_unix_sockets_are_left_alone() -> None:
    """Both ends are on one machine."""
    left, right = socket.socketpair()
    with left, right:
        keep_alive(left)
        assert not left.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
