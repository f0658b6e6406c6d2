"""The server's side of a connection in memory: Twisted's own queue, over a pipe that holds what the client has room for.

`twisted.internet.testing.StringTransport` is enough for a protocol that only writes. It remembers, but does nothing: it
does not close, does not pause a producer, and knows no half-close, which is where protocols go wrong. `MemoryTransport`
is a `FileDescriptor`, as Twisted's transports are.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import attrs
from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IProtocol,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python import log
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["MAX_QUEUE", "MemoryTransport", "Pipe", "UnboundedQueue"]

#: Bytes in a transport's queue at which a test ends that would otherwise take all memory.
MAX_QUEUE = 32 * 1024 * 1024


class UnboundedQueue(AssertionError):
    """A protocol writes on and on, though its transport has told its producer to pause, or it has none."""


@attrs.define
class Pipe:
    """What is between the client and the transport.

    Attributes:
        window: Bytes that the client has room for.
        to_server: Segments that the server has not read.
        to_client: Bytes that the client has not received.
        client_finished: The client has said that it will send no more (FIN).
        client_aborted: The client has reset the connection (RST).
        server_finished: The server has said that it will send no more.
        server_aborted: The server has reset the connection.
    """

    window: int
    to_server: deque[bytes] = attrs.Factory(deque)
    to_client: bytearray = attrs.Factory(bytearray)
    client_finished: bool = False
    client_aborted: bool = False
    server_finished: bool = False
    server_aborted: bool = False


@implementer(ITCPTransport)
class MemoryTransport(FileDescriptor):
    """The server's side of a connection in memory: what a protocol has as ``transport``.

    It does what Twisted's TCP transports do: queues what is written, sends as much as the client has room for, pauses a
    push producer at 64 KiB and asks a pull producer for more, closes when the queue is empty and no producer is
    registered, tells an `IHalfCloseableProtocol` of each direction's end, and drops the queue at the end of the input
    for any other protocol. What a protocol raises is logged and closes the connection.

    Something that a protocol asks for outside of a callback, from a timer for example, happens with the clock's next
    turn (``clock.advance(0)``), or when the client does anything.

    Attributes:
        reactor: The clock. A protocol's timers belong there: ``self.transport.reactor.callLater(…)``.
        protocol: Told of everything. It may be replaced, as TLS does.
    """

    reactor: Any  # an IReactorTime; FileDescriptor would have it watch descriptors, too
    protocol: IProtocol

    def __init__(
        self,
        pipe: Pipe,
        protocol: IProtocol,
        clock: IReactorTime,
        host: IPv4Address | IPv6Address,
        peer: IPv4Address | IPv6Address,
    ) -> None:
        super().__init__(reactor=clock)  # type: ignore[arg-type]  # all that would watch is overridden below
        self.protocol = protocol
        self.connected = True
        self._pipe = pipe
        self._host = host
        self._peer = peer
        self._reading = False
        self._writing = False
        self._aborting = False
        self._turning = False
        self._due: IDelayedCall | None = None
        self._no_delay = True
        self._keep_alive = True

    # -- for the test

    @property
    def queued(self) -> int:
        """How many bytes wait to be sent because the client has no room for them."""
        return len(self.dataBuffer) - self.offset + self._tempDataLen

    @property
    def is_reading(self) -> bool:
        """Whether the server reads; it does not while it is paused."""
        return self._reading

    def turn(self, begin: Callable[[], None] | None = None) -> None:
        """Do everything that can be done now, as a reactor would. Whatever the client does calls this.

        Args:
            begin: Called first.
        """
        if self._turning:  # called from a callback: whoever turns comes to it
            return
        self._turning = True
        if self._due is not None:
            due, self._due = self._due, None
            if due.active():
                due.cancel()
        try:
            if begin is not None:
                self._serve(begin)
            while not self.disconnected and self._step():
                pass
        finally:
            self._turning = False

    def _step(self) -> bool:
        """Do one thing, and say whether there was one to do."""
        if self._aborting:
            self.connectionLost(Failure(ConnectionAborted()))
        elif self._writing and self._can_write():
            self._serve(self.doWrite)
        elif self._reading and self._can_read():
            self._serve(self.doRead, in_read=True)
        else:
            return False
        return True

    def _can_write(self) -> bool:
        return not self.queued or len(self._pipe.to_client) < self._pipe.window

    def _can_read(self) -> bool:
        return bool(self._pipe.to_server) or self._pipe.client_finished or self._pipe.client_aborted

    def _serve(self, step: Callable[[], Any], *, in_read: bool = False) -> None:
        """Do a step, and close the connection if that is what it comes to."""
        try:
            why = step()
        except Exception:  # noqa: BLE001  # whatever a protocol raises ends its connection
            log.err()
            why = sys.exc_info()[1]
        if why is None:
            return
        self.stopReading()
        if in_read and isinstance(why, ConnectionDone):
            self.readConnectionLost(Failure(why))
        else:
            self.connectionLost(Failure(why))

    def _later(self) -> None:
        if self._due is None and not self._turning and not self.disconnected:
            self._due = self.reactor.callLater(0, self.turn)

    # -- what a reactor would watch

    def startReading(self) -> None:
        """Read what the client sends."""
        self._reading = True
        self._later()

    def stopReading(self) -> None:
        """Leave what the client sends where it is."""
        self._reading = False

    def startWriting(self) -> None:
        """Send when the client has room."""
        self._writing = True
        self._later()

    def stopWriting(self) -> None:
        """Send no more."""
        self._writing = False

    def doRead(self) -> Any:
        """Hand the protocol the next segment, or the end."""
        pipe = self._pipe
        if pipe.client_aborted:
            return CONNECTION_LOST
        if not pipe.to_server:
            return CONNECTION_DONE
        segment = pipe.to_server.popleft()
        if len(segment) > self.bufferSize:
            pipe.to_server.appendleft(segment[self.bufferSize :])
            segment = segment[: self.bufferSize]
        self.protocol.dataReceived(segment)
        return None

    def writeSomeData(self, data: bytes) -> Any:
        """Send what the client has room for."""
        pipe = self._pipe
        if pipe.client_aborted:
            return CONNECTION_LOST
        taken = data[: pipe.window - len(pipe.to_client)]
        pipe.to_client += taken
        return len(taken)

    # -- ITCPTransport, where FileDescriptor is not enough

    def write(self, data: bytes) -> None:
        """Queue bytes.

        Raises:
            UnboundedQueue: More than `MAX_QUEUE` bytes wait.
        """
        super().write(data)
        self._check_queue()

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """Queue bytes.

        Raises:
            UnboundedQueue: More than `MAX_QUEUE` bytes wait.
        """
        super().writeSequence(list(iovec))
        self._check_queue()

    def _check_queue(self) -> None:
        if self.queued > MAX_QUEUE:
            raise UnboundedQueue(
                f"{self.queued} bytes wait to be sent to a client that does not read. Register a producer "
                f"(registerProducer), and write nothing between its pauseProducing and resumeProducing."
            )

    def abortConnection(self) -> None:
        """Close at once, and forget what is queued."""
        if not self.disconnected and not self._aborting:
            self._aborting = True
            self._later()

    def getHost(self) -> IPv4Address | IPv6Address:
        """Return the server's address."""
        return self._host

    def getPeer(self) -> IPv4Address | IPv6Address:
        """Return the client's address."""
        return self._peer

    def getTcpNoDelay(self) -> bool:
        """Return what was set; at first True, as on our own transports."""
        return self._no_delay

    def setTcpNoDelay(self, enabled: bool) -> None:  # noqa: FBT001  # Twisted's
        """Remember it."""
        self._no_delay = bool(enabled)

    def getTcpKeepAlive(self) -> bool:
        """Return what was set; at first True, as on our own transports."""
        return self._keep_alive

    def setTcpKeepAlive(self, enabled: bool) -> None:  # noqa: FBT001  # Twisted's
        """Remember it."""
        self._keep_alive = bool(enabled)

    # -- ends, as in twisted.internet.tcp

    def readConnectionLost(self, reason: Failure) -> None:
        """Tell a protocol that knows half-close of the end of the input; close for any other."""
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self._tell(self.protocol.readConnectionLost)
        else:
            self.connectionLost(reason)

    def _closeWriteConnection(self) -> None:
        self._pipe.server_finished = True
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self._tell(self.protocol.writeConnectionLost)

    def _tell(self, end: Callable[[], object]) -> None:
        try:
            end()
        except Exception:  # noqa: BLE001  # as above
            log.err()
            self.connectionLost(Failure())

    def connectionLost(self, reason: Failure) -> None:
        """Close, and tell the protocol."""
        if self.disconnected:
            return
        super().connectionLost(reason)
        pipe = self._pipe
        pipe.server_finished = True
        # The kernel, too, resets a connection that is closed while something lies unread.
        pipe.server_aborted = reason.check(ConnectionAborted) is not None or bool(pipe.to_server)
        pipe.to_server.clear()
        try:
            self.protocol.connectionLost(reason)
        except Exception:  # noqa: BLE001  # as above
            log.err()
