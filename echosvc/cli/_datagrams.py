"""Datagrams exactly as typed, for people who watch them arrive in a server of their own.

Without a tag nothing tells which line an answer is for, so there is only one question at a time, and what
comes next from the server is taken for its answer. Who wants certainty uses `DatagramEchoClient`.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol
from zope.interface import implementer

from echosvc.client._delivery import send, undelivered
from echosvc.transports import DatagramPort, HostPort, IUndeliverable

__all__ = ["PlainDatagrams"]


@implementer(IUndeliverable)
class PlainDatagrams(DatagramProtocol):
    """Sends datagrams to one peer, and takes what comes from it as it is.

    Args:
        peer: Whom to ask.
        unasked: Told of a datagram from the peer that came while none was waited for.

    Attributes:
        peer: As given.
    """

    transport: DatagramPort
    noisy = False

    def __init__(self, peer: HostPort, unasked: Callable[[bytes], None]) -> None:
        self.peer = peer
        self._unasked = unasked
        self._waiting: Deferred[bytes] | None = None

    def ask(self, line: bytes) -> Deferred[bytes]:
        """Send a datagram and wait for the next one from the peer.

        A question that still waits is cancelled: an answer could not be told to be for the one or the other.

        Args:
            line: The datagram.

        Returns:
            Fires with whatever comes from the peer next. Fails with `Refused` or `ConnectionFailed` if a
            system says that the datagram was not delivered.
        """
        if (previous := self._take_waiting()) is not None:
            previous.cancel()
        waiting = self._waiting = Deferred()
        if refused := send(self.transport, line, self.peer):
            self.undeliverable(line, self.peer, refused)
        return waiting

    def datagramReceived(self, datagram: bytes, addr: HostPort) -> None:
        """Take an answer; what others send is not for us."""
        if addr != self.peer:
            return
        if (waiting := self._take_waiting()) is not None:
            waiting.callback(datagram)
        else:
            self._unasked(datagram)

    def undeliverable(self, payload: bytes, addr: HostPort, number: int) -> None:
        """End the waiting: the system says that what was sent did not get there (`IUndeliverable`)."""
        if addr == self.peer and (waiting := self._take_waiting()) is not None:
            waiting.errback(undelivered(self.peer, number))

    def _take_waiting(self) -> Deferred[bytes] | None:
        waiting, self._waiting = self._waiting, None
        return waiting
