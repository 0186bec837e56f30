"""The connections to a kernel, against bare sockets of libzmq in its place."""

import asyncio

import zmq

from kernel_agent.kernel.channels import KernelChannels
from kernel_agent.launch.connection_info import PORT_NAMES, ConnectionInfo
from kernel_agent.wire.backlog import Backlog


async def test_end_of_iopub_is_noticed() -> None:
    """At once: the end of every process waits for it, and some launchers end only upon it."""
    with zmq.Context() as context:
        socks = {
            name: context.socket(zmq.XPUB if name == "iopub_port" else zmq.ROUTER)
            for name in PORT_NAMES
        }
        ports = {name: sock.bind_to_random_port("tcp://127.0.0.1") for name, sock in socks.items()}
        channels = KernelChannels(ConnectionInfo(ports, "key"), lambda _: None, Backlog())
        try:
            subscribed = asyncio.get_running_loop().run_in_executor(None, socks["iopub_port"].recv)
            assert await subscribed == b"\x01"
            assert not channels.iopub_lost.done()
            socks["iopub_port"].close(linger=0)
            await asyncio.wait_for(channels.iopub_lost, 60)
        finally:
            channels.close()
            for sock in socks.values():
                sock.close(linger=0)
