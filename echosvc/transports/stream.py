"""A listening TCP socket that was bound elsewhere, and the connections it accepts.

What differs from stock Twisted: the socket comes bound and listening (so that a daemon binds before it
forks and drops privileges); IPv4 peers of a dual-stack socket are IPv4; keep-alive and TCP_NODELAY are on;
and a connection that is closing is not held open for ever by a peer that has stopped reading.
"""

from __future__ import annotations

import socket
from collections import Counter
from typing import Any

from twisted.internet import tcp
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IDelayedCall, IProtocol, IProtocolFactory
from twisted.python.failure import Failure

from echosvc.transports.addresses import SockAddr, from_mapped, internet_address

__all__ = ["StreamPort", "StreamTransport"]


class StreamTransport(tcp.Server):
    """One accepted TCP connection.

    Attributes:
        bytes_out: Bytes that the kernel has taken from us.
    """

    server: StreamPort
    reactor: Any  # watches descriptors and keeps time
    bytes_out = 0
    _close_watch: IDelayedCall | None = None

    def __init__(
        self,
        sock: socket.socket,
        protocol: IProtocol,
        client: SockAddr,
        server: StreamPort,
        sessionno: int,
        reactor: Any,
    ) -> None:
        super().__init__(sock, protocol, from_mapped(client), server, sessionno, reactor)
        self.setTcpNoDelay(True)
        self.setTcpKeepAlive(True)

    def getHost(self) -> IPv4Address | IPv6Address:
        """Return the local address, IPv4 as IPv4 even on an IPv6 socket."""
        return internet_address("TCP", self.socket.getsockname())

    def getPeer(self) -> IPv4Address | IPv6Address:
        """Return the peer's address, IPv4 as IPv4 even on an IPv6 socket."""
        return internet_address("TCP", self.client)

    def writeSomeData(self, data: bytes) -> int | ConnectionLost:
        """Write to the socket, and count what the kernel took."""
        taken = super().writeSomeData(data)
        if isinstance(taken, int):
            self.bytes_out += taken
        return taken

    # -- closing: flush as long as the peer takes something, then abort

    def loseConnection(self, *args: Any) -> None:
        """Flush what is queued and close; abort if the peer takes nothing for `close_timeout` seconds.

        A slow peer is not a dead one: the timer only looks whether any byte was taken since last time.
        """
        super().loseConnection(*args)
        if self.connected and self._close_watch is None:
            self._watch_close()

    def _watch_close(self) -> None:
        self._close_watch = self.reactor.callLater(
            self.server.close_timeout, self._check_close, self.bytes_out
        )

    def _check_close(self, taken_before: int) -> None:
        if self.bytes_out > taken_before:
            self._watch_close()
        else:
            self._close_watch = None
            self.server.aborts["close-timeout"] += 1
            self.abortConnection()

    def connectionLost(self, reason: Failure) -> None:
        """Release the socket and tell the protocol. Called by the reactor."""
        if self._close_watch is not None:
            self._close_watch.cancel()
            self._close_watch = None
        super().connectionLost(reason)


class StreamPort(tcp.Port):
    """A listening socket that hands each connection to a protocol of the factory.

    Args:
        sock: A socket that listens. The port owns it from now on and makes it non-blocking.
        factory: Builds a protocol for each connection.
        reactor: Watches the socket.
        close_timeout: Seconds without a byte taken after which a closing connection is aborted.

    Attributes:
        aborts: How many connections were aborted for each reason (``close-timeout``).
        sessionno: How many connections were accepted so far.
    """

    transport = StreamTransport  # type: ignore[assignment]  # narrower on purpose: it asks for a StreamPort

    def __init__(
        self,
        sock: socket.socket,
        factory: IProtocolFactory,
        reactor: Any,
        *,
        close_timeout: float,
    ) -> None:
        super().__init__(0, factory, reactor=reactor)
        sock.setblocking(False)
        self.addressFamily = sock.family
        self._bound = sock
        self._factory = factory
        self.close_timeout = close_timeout
        self.aborts: Counter[str] = Counter()

    def startListening(self) -> None:
        """Begin to accept. Twisted's own method would also write a log line that the service's repeats."""
        tcp._reservedFD.reserve()  # noqa: SLF001  # what accept() falls back on when descriptors run out
        self._factory.doStart()
        self.socket = self._bound
        self.fileno = self.socket.fileno  # type: ignore[method-assign]  # as Twisted's own port does
        self._realPortNumber = self.socket.getsockname()[1]
        self.connected = True
        self.numberAccepts = 100
        self.startReading()

    def getHost(self) -> IPv4Address | IPv6Address:
        """Return the address that is listened on, IPv4 as IPv4 even on an IPv6 socket."""
        return internet_address("TCP", self.socket.getsockname())

    def _buildAddr(self, address: SockAddr) -> IPv4Address | IPv6Address:
        return internet_address("TCP", address)

    def _logConnectionLostMsg(self) -> None:
        """Say nothing: the service's own line says what stopped."""
