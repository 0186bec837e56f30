"""Two connections joined: what arrives on one leaves on the other, without being looked at.

A read costs one recv, one send and a handful of Python calls, however many messages it carries.
"""

import asyncio

READ_BYTES = 256 * 1024
HIGH_WATER_BYTES = 1024 * 1024
"""Unsent bytes towards one side at which reading from the other pauses."""
HALF_CLOSED_SECONDS = 10.0
"""How long one side may go on after the other has ended."""


class ReadBuffer:
    """The memory that all splices of an event loop read into.

    A transport asks for it, fills it and reports without anything else happening in between, so one
    is enough for any number of connections.
    """

    def __init__(self) -> None:
        self.view = memoryview(bytearray(READ_BYTES))

    def renew(self) -> None:
        """Leave the memory to whoever still refers to it."""
        self.view = memoryview(bytearray(READ_BYTES))


class Splice:
    """Joins two transports that are connected already.

    Attributes:
        closed: done when both connections have ended.
    """

    def __init__(
        self, left: asyncio.Transport, right: asyncio.Transport, buffer: ReadBuffer
    ) -> None:
        loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._transports = (left, right)
        self._open = 2
        self._is_half_closed = False
        self._deadline: asyncio.TimerHandle | None = None
        for own, peer in ((left, right), (right, left)):
            own.set_write_buffer_limits(high=HIGH_WATER_BYTES)
            own.set_protocol(_End(own, peer, self, buffer))
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

    def expect_end(self) -> None:
        """Do not let the connections stay much longer."""
        if self._deadline is None and not self.closed.done():
            self._deadline = self._loop.call_later(HALF_CLOSED_SECONDS, self.abort)

    def end_direction(self) -> bool:
        """Note that one direction has ended; returns whether the other one may go on."""
        if self._is_half_closed:
            self.close()
            return False
        self._is_half_closed = True
        self.expect_end()
        return True

    def end_lost(self) -> None:
        """Count one connection less."""
        self._open -= 1
        if self._open:
            self.expect_end()
            return
        if self._deadline is not None:
            self._deadline.cancel()
        if not self.closed.done():
            self.closed.set_result(None)


class _End(asyncio.BufferedProtocol):
    """One side of a splice: what arrives here leaves through the peer's transport."""

    def __init__(
        self, own: asyncio.Transport, peer: asyncio.Transport, splice: Splice, buffer: ReadBuffer
    ) -> None:
        self._own = own
        self._peer = peer
        self._splice = splice
        self._buffer = buffer

    def get_buffer(self, sizehint: int) -> memoryview:
        """Lend the memory for one read."""
        del sizehint
        return self._buffer.view

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on what was read."""
        peer = self._peer
        if peer.is_closing():
            return
        peer.write(self._buffer.view[:nbytes])
        if peer.get_write_buffer_size():
            # From Python 3.12 on a transport keeps a reference to what it could not send.
            self._buffer.renew()

    def pause_writing(self) -> None:
        """Stop reading from the peer while this side is slow."""
        self._peer.pause_reading()

    def resume_writing(self) -> None:
        """Go on reading from the peer."""
        self._peer.resume_reading()

    def eof_received(self) -> bool:
        """Pass the end of this direction on.

        The other one goes on if the transports can do that.
        """
        is_tls = self._own.get_extra_info("sslcontext") is not None
        if is_tls or not self._peer.can_write_eof():
            _close(self._peer)
            return False
        may_go_on = self._splice.end_direction()
        if may_go_on:
            self._peer.write_eof()
        return may_go_on

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the other side too, once it has been sent all."""
        del exc
        _close(self._peer)
        self._splice.end_lost()


def _close(transport: asyncio.Transport) -> None:
    """Close a transport once: at a second time Python 3.11.2 makes one of TLS unusable."""
    if not transport.is_closing():
        transport.close()
