"""The connections to a kernel, against bare sockets of libzmq in its place."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import zmq
from harness.waiting import eventually

from kernel_agent.channels import read_batching
from kernel_agent.channels.channels import KernelChannels
from kernel_agent.channels.read_batching import LONG_RUN_MESSAGES
from kernel_agent.launch.connection_info import PORT_NAMES, ConnectionInfo
from kernel_agent.wire.backlog import Backlog
from kernel_agent.wire.message import DELIMITER, SHELL, Message

Sockets = dict[str, "zmq.Socket[bytes]"]
MESSAGE = [DELIMITER, b"signature", b"{}", b"{}", b"{}", b"{}"]


@contextmanager
def connect(handler: Callable[[list[Message]], None]) -> Iterator[tuple[KernelChannels, Sockets]]:
    """Yield channels, and the sockets that they connect to."""
    with zmq.Context() as context:
        socks = {
            name: context.socket(zmq.XPUB if name == "iopub_port" else zmq.ROUTER)
            for name in PORT_NAMES
        }
        ports = {name: sock.bind_to_random_port("tcp://127.0.0.1") for name, sock in socks.items()}
        channels = KernelChannels(ConnectionInfo(ports, "key"), handler, Backlog())
        try:
            yield channels, socks
        finally:
            channels.close()
            for sock in socks.values():
                sock.close(linger=0)


async def receive(sock: "zmq.Socket[bytes]") -> list[bytes]:
    """Receive in a thread, as the event loop has the other end."""
    return await asyncio.get_running_loop().run_in_executor(None, sock.recv_multipart)


async def test_end_of_iopub_is_noticed() -> None:
    """At once: the end of every process waits for it, and some launchers end only upon it."""
    with connect(lambda _: None) as (channels, socks):
        assert await receive(socks["iopub_port"]) == [b"\x01"]
        assert not channels.iopub_lost.done()
        socks["iopub_port"].close(linger=0)
        await asyncio.wait_for(channels.iopub_lost, 60)


async def test_reply_ends_the_gathering_of_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has come is read before it, however much it is, and what follows it is read at once."""
    monkeypatch.setattr(read_batching, "MAX_GAP_SECONDS", 10)
    monkeypatch.setattr(read_batching, "GATHER_SECONDS", 3600)
    monkeypatch.setattr(read_batching, "DENSE_GATHER_SECONDS", 3600)
    read: list[Message] = []
    gathers_at_reply: list[bool] = []

    def handle(messages: list[Message]) -> None:
        read.extend(messages)
        if messages[0].channel == SHELL:
            gathers_at_reply.append(channels._gathering is not None)

    with connect(handle) as (channels, socks):
        iopub, shell = socks["iopub_port"], socks["shell_port"]
        assert await receive(iopub) == [b"\x01"]
        channels.send(SHELL, [b"{}", b"{}", b"{}", b"{}"])
        identity, *_ = await receive(shell)
        while channels._gathering is None:
            count = len(read)
            iopub.send_multipart(MESSAGE)
            await eventually(lambda: len(read) > count)  # noqa: B023  # before it changes
        for _ in range(2 * LONG_RUN_MESSAGES):
            iopub.send_multipart(MESSAGE)
        shell.send_multipart([identity, *MESSAGE])
        await eventually(lambda: bool(gathers_at_reply))
        assert gathers_at_reply == [False]
