"""What stands in for the network in the tests of the client."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from echosvc.transports import HostPort

CLOSED = Failure(ConnectionDone())
RESET = Failure(ConnectionLost())


class Wire(StringTransport):
    """A stream transport that remembers what was done to it."""

    half_closed = False

    def loseWriteConnection(self) -> None:
        """Take note that our direction was closed."""
        self.half_closed = True

    @property
    def aborted(self) -> bool:
        """Whether the connection was aborted."""
        return bool(self.disconnected)

    disconnected = False


def on_a_wire(protocol: Protocol) -> Wire:
    """Connect a protocol to a new wire."""
    wire = Wire()
    protocol.makeConnection(wire)
    return wire


def cut(data: bytes, sizes: Iterable[int]) -> Iterable[bytes]:
    """Cut data into segments of the given sizes; what is left is the last one."""
    for size in sizes:
        if data:
            yield data[:size]
            data = data[size:]
    if data:
        yield data


class Socket:
    """A datagram port that remembers what was written to it, and refuses what it is told to."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, HostPort]] = []
        self.drops: Counter[str] = Counter()
        self.refusals: list[str] = []
        self.closed = False

    def write(self, datagram: bytes, addr: HostPort) -> None:
        """Send, or count a refusal as the real port does."""
        if self.refusals:
            self.drops[f"send-{self.refusals.pop(0)}"] += 1
        else:
            self.sent.append((datagram, addr))

    def stopListening(self) -> None:
        """Take note that the socket was closed."""
        self.closed = True


class Pieces:
    """A source that gives what it is told to, when it is told to.

    Args:
        pieces: Given at once as they are asked for. Then `give` answers what was asked.
    """

    def __init__(self, *pieces: bytes) -> None:
        self._ready = list(pieces)
        self._asked: Deferred[bytes] | None = None
        self.times_asked = 0

    @property
    def is_asked(self) -> bool:
        """Whether somebody waits for a piece."""
        return self._asked is not None

    def __call__(self) -> Deferred[bytes]:
        """Ask for a piece."""
        assert self._asked is None, "asked twice without an answer"
        self.times_asked += 1
        asked: Deferred[bytes] = Deferred()
        if self._ready:
            asked.callback(self._ready.pop(0))
        else:
            self._asked = asked
        return asked

    def give(self, piece: bytes) -> None:
        """Answer who asked."""
        asked, self._asked = self._asked, None
        assert asked is not None, "nobody asked"
        asked.callback(piece)

    def fail(self, problem: Exception) -> None:
        """Fail who asked."""
        asked, self._asked = self._asked, None
        assert asked is not None, "nobody asked"
        asked.errback(problem)
