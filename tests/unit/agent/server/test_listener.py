"""The listening socket."""

import socket

from kernel_agent.server.listener import Listener

OPTIONS = ("TCP_NODELAY", "TCP_USER_TIMEOUT", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")


def test_accepted_connections_notice_a_dead_peer_but_bear_a_slow_one() -> None:
    """They inherit keep-alive of 15 minutes and no delay; unread data has no deadline."""
    listener = Listener("tcp:127.0.0.1:0")
    try:
        with socket.create_connection(listener.sock.getsockname()):
            listener.sock.settimeout(60.0)
            connection, _ = listener.sock.accept()
            with connection:
                assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                option = {
                    name: connection.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
                    for name in OPTIONS
                }
    finally:
        listener.close()
    assert option["TCP_NODELAY"]
    assert option["TCP_USER_TIMEOUT"] == 0
    assert option["TCP_KEEPIDLE"] + option["TCP_KEEPINTVL"] * option["TCP_KEEPCNT"] == 900
