"""Splices two connections: bytes that arrive on one leave on the other, as they are.

A read costs one recv, one send and a few Python calls. Of each frame of the agent's the length is
looked at, in a fifth of a microsecond, so that a gateway can go on in the place of an agent that is
lost.
"""

import asyncio
import os
from collections.abc import Callable

from enterprise_gateway.web.channels.frames import ClientFrames, FrameEnds

READ_BYTES = 256 * 1024
HIGH_WATER_BYTES = 1024 * 1024
"""Unsent bytes to one side at which reading from the other pauses."""
HALF_CLOSED_SECONDS = 10.0
"""How long one side may continue after the other has ended."""


class ReadBuffer:
    """The read buffer that all splices of an event loop share.

    A transport gets the buffer, fills it and reports that in one step of the loop, so one buffer
    serves any number of connections.
    """

    def __init__(self) -> None:
        self.view = memoryview(bytearray(READ_BYTES))

    def renew(self) -> None:
        """Replace the memory, to which a transport still refers."""
        self.view = memoryview(bytearray(READ_BYTES))


class Splice:
    """Joins the transports of a client and an agent that are connected already.

    Attributes:
        closed: done when both connections have ended.
        agent_lost: done when the agent's connection has ended without a close frame, and the
            client's can be written to, between two frames. The owner then closes it.
        client_frames: what the client has sent last.
        client_spoke: set when the client has sent something to a lost agent.
    """

    def __init__(
        self,
        client: asyncio.Transport,
        agent: asyncio.Transport,
        buffer: ReadBuffer,
        on_end: Callable[[], None],
        early: tuple[bytes, bytes] = (b"", b""),
    ) -> None:
        """Start passing bytes.

        Args:
            client: the client's connection.
            agent: the agent's connection.
            buffer: the buffer to read into.
            on_end: called whenever one side or direction has ended.
            early: bytes of client and agent behind the handshake, which the caller passes on.
        """
        loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.agent_lost: asyncio.Future[None] = loop.create_future()
        self.client_frames = ClientFrames()
        self.client_spoke = asyncio.Event()
        self._loop = loop
        self._transports = (client, agent)
        self._on_end = on_end
        self._open = 2
        self._is_half_closed = False
        self._deadline: asyncio.TimerHandle | None = None
        for transport in self._transports:
            transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        self._agent_end = _AgentEnd(agent, client, self, buffer)
        self.client_frames.feed(early[0])
        self._agent_end.frames.feed(early[1])
        client.set_protocol(_ClientEnd(client, agent, self, buffer))
        agent.set_protocol(self._agent_end)
        for transport in self._transports:
            transport.resume_reading()

    def close(self) -> None:
        """Send what is unsent, then close both connections."""
        for transport in self._transports:
            _close(transport)
        self.expect_end()

    def abort(self) -> None:
        """Close both connections at once; what is unsent is lost."""
        for transport in self._transports:
            transport.abort()

    @property
    def is_ending(self) -> bool:
        """Whether either side has ended, or is being closed."""
        return self._is_half_closed or self._transports[0].is_closing()

    def write_to_client(self, data: bytes) -> None:
        """Send bytes of the gateway's own; only once the agent is lost."""
        if not self._transports[0].is_closing():
            self._transports[0].write(data)

    def give_up_agent(self) -> None:
        """End the agent's connection, whose peer is gone; leave the client's for answers."""
        if self._agent_end.lose():
            self._transports[1].abort()
        else:
            self.close()

    def expect_end(self) -> None:
        """Abort the connections unless they end soon."""
        if self._deadline is None and not self.closed.done():
            self._deadline = self._loop.call_later(HALF_CLOSED_SECONDS, self.abort)

    def end_direction(self) -> bool:
        """Record the end of one direction; return whether the other may continue."""
        self._on_end()
        if self._is_half_closed:
            self.close()
            return False
        self._is_half_closed = True
        self.expect_end()
        return True

    def end_lost(self) -> None:
        """Record the end of one connection."""
        self._on_end()
        self._open -= 1
        if self._open:
            if not self.agent_lost.done():
                self.expect_end()
            return
        if self._deadline is not None:
            self._deadline.cancel()
        if not self.closed.done():
            self.closed.set_result(None)


class _End(asyncio.BufferedProtocol):
    """One side of a splice, which passes its bytes to the peer's transport."""

    def __init__(
        self, own: asyncio.Transport, peer: asyncio.Transport, splice: Splice, buffer: ReadBuffer
    ) -> None:
        self._own = own
        self._peer = peer
        self._splice = splice
        self._buffer = buffer
        self._is_tls = own.get_extra_info("sslcontext") is not None

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the memory for one read."""
        del sizehint
        return self._buffer.view

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on the bytes that were read."""
        self._pass_on(self._buffer.view[:nbytes])

    def _pass_on(self, data: memoryview) -> None:
        peer = self._peer
        if peer.is_closing():
            return
        peer.write(data)
        if peer.get_write_buffer_size():
            # From Python 3.12 on a transport keeps a reference to its unsent bytes.
            self._buffer.renew()

    def pause_writing(self) -> None:
        """Stop reading from the peer while this side is slow."""
        self._peer.pause_reading()

    def resume_writing(self) -> None:
        """Resume reading from the peer."""
        self._peer.resume_reading()

    def eof_received(self) -> bool:
        """Pass on the end of this direction.

        The other direction continues if both transports can be half closed.
        """
        if self._is_tls or not self._peer.can_write_eof():
            _close(self._peer)
            return False
        may_go_on = self._splice.end_direction()
        if may_go_on:
            self._peer.write_eof()
        return may_go_on

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the other side, once it has been sent all bytes.

        A failed write ends a transport at once, although more bytes may have arrived, such as the
        close frame that explains the failure. They are passed on first.
        """
        if exc is not None:
            self._read_received()
        _close(self._peer)
        self._splice.end_lost()

    def _read_received(self) -> None:
        if self._is_tls:
            return  # it would be the bytes of TLS
        try:
            nbytes = os.readv(self._own.get_extra_info("socket").fileno(), [self._buffer.view])
        except OSError:
            return
        if nbytes:
            self.buffer_updated(nbytes)


class _ClientEnd(_End):
    """The client's side, which keeps what may have to be answered in the agent's place."""

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on the bytes that were read."""
        data = self._buffer.view[:nbytes]
        self._splice.client_frames.feed(data)
        self._pass_on(data)
        if self._peer.is_closing():
            self._splice.client_spoke.set()


class _AgentEnd(_End):
    """The agent's side, which knows whether its bytes have ended with a frame."""

    def __init__(
        self, own: asyncio.Transport, peer: asyncio.Transport, splice: Splice, buffer: ReadBuffer
    ) -> None:
        super().__init__(own, peer, splice, buffer)
        self.frames = FrameEnds()

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on the bytes that were read."""
        data = self._buffer.view[:nbytes]
        self.frames.feed(data)
        self._pass_on(data)

    def eof_received(self) -> bool:
        """Pass on the end of this direction, unless the client is to get answers."""
        return False if self.lose() else super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the client's side, unless it is to get answers."""
        if exc is not None:
            self._read_received()
            self.lose()
        if self._splice.agent_lost.done():
            self._splice.end_lost()
        else:
            super().connection_lost(None)

    def lose(self) -> bool:
        """Leave the client's connection open if answers may be written to it."""
        lost = self._splice.agent_lost
        if self.frames.is_cut and not self._splice.is_ending and not lost.done():
            lost.set_result(None)
            self._peer.resume_reading()
        return lost.done()


def _close(transport: asyncio.Transport) -> None:
    """Close a transport once: a second close breaks a TLS transport in Python 3.11.2."""
    if not transport.is_closing():
        transport.close()
