"""Draining: those who are connected finish what they have begun, and then the service ends.

A connection that has been quiet for a second, with nothing left to read or to send, is finished: our direction is ended in
good order, and what the peer still says is read until it ends its own. Whoever is busy is served on. After the grace period
all that is left is aborted: a service manager kills what does not end, and that would be worse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from echosvc.settings import GRACE

__all__ = ["Connection", "Drain", "Drained"]

DRAINED = "drained"
"""It was quiet when the service, or its listener, was to end."""

CUT_OFF = "cut-off"
"""It was still busy after the grace period."""

#: Seconds between two looks at everybody. To look costs 1 us for each connection, and 1 more if it is quiet.
TICK = 0.1

#: Seconds without a byte after which a connection is quiet: more than any retransmission on a usable network.
QUIET = 1.0

#: Seconds that a peer has to end its own direction when ours has ended, before the connection is closed all the same.
LINGER = 2.0


class Connection(Protocol):
    """What is drained.

    Attributes:
        bytes_in: Bytes read so far.
        bytes_out: Bytes sent so far.
        why: Set to the reason before it is ended.
    """

    bytes_in: int
    bytes_out: int
    why: str | None

    def queued(self) -> int:
        """Tell how many bytes wait here to be sent."""

    def unread(self) -> int:
        """Tell how many bytes have come in that were not read yet."""

    def finish(self) -> None:
        """End our direction, and read on."""

    def end(self) -> None:
        """Close when everything is sent."""

    def abortConnection(self) -> None:
        """Close now."""


@attrs.define
class _Watched:
    """What was seen of one connection.

    Attributes:
        moved: How many bytes it had moved.
        since: When that was first seen.
        finished: When it was finished; None if it was not.
    """

    moved: int
    since: float
    finished: float | None = None


@attrs.frozen
class Drained:
    """How a drain came out.

    Attributes:
        finished: Connections that ended by themselves, or were ended when they were quiet.
        aborted: Connections that had to be cut off.
        seconds: How long it took.
    """

    finished: int
    aborted: int
    seconds: float

    def __str__(self) -> str:
        """Write it in words."""
        cut_off = f", {self.aborted} were cut off" if self.aborted else ""
        return f"{self.finished} connections finished{cut_off}, in {self.seconds:.1f} s"


class Drain:
    """Waits for connections to finish, and has them finish.

    Args:
        connections: Tells which there are.
        count: Tells how many there are in all, those included of which nothing else is known.
        clock: Keeps time.
        grace: Seconds after which all that is left is aborted.
        every_tick: Is told at every look how many are left.
    """

    def __init__(
        self,
        connections: Callable[[], Iterable[Connection]],
        count: Callable[[], int],
        clock: IReactorTime,
        *,
        grace: float = GRACE,
        every_tick: Callable[[int], object] | None = None,
    ) -> None:
        self._connections = connections
        self._count = count
        self._clock = clock
        self._grace = grace
        self._every_tick = every_tick
        self._watched: dict[Connection, _Watched] = {}
        self._ended: Deferred[Drained] = Deferred()
        self._timer: IDelayedCall | None = None
        self._began = 0.0
        self._at_first = 0

    def start(self) -> Deferred[Drained]:
        """Begin.

        Returns:
            Fires when no connection is left: at once if there is none.
        """
        self._began = self._clock.seconds()
        self._at_first = self._count()
        self._look()
        return self._ended

    def leave(self) -> None:
        """Leave those who are left to somebody else. What `start` has returned never fires."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def hurry(self) -> None:
        """Abort all that is left, now."""
        if self._ended.called:
            return
        if self._timer is not None:
            self._timer.cancel()
        left = self._count()
        for connection in list(self._connections()):
            connection.why = CUT_OFF
            connection.abortConnection()
        self._end(aborted=left)

    def _look(self) -> None:
        self._timer = None
        left = self._count()
        if not left:
            self._end(aborted=0)
            return
        now = self._clock.seconds()
        if now - self._began >= self._grace:
            self.hurry()
            return
        connections = list(self._connections())
        self._watched = {each: self._watch(each, now) for each in connections}
        if self._every_tick is not None:
            self._every_tick(left)
        self._timer = self._clock.callLater(TICK, self._look)

    def _watch(self, connection: Connection, now: float) -> _Watched:
        """Look at one connection, and do what is to be done with it now."""
        moved = connection.bytes_in + connection.bytes_out
        seen = self._watched.get(connection)
        if seen is None:
            return _Watched(moved, now)
        if seen.finished is not None:
            if now - seen.finished >= LINGER:
                connection.end()
            return seen
        if moved != seen.moved:
            return _Watched(moved, now)
        if now - seen.since >= QUIET and not connection.queued() and not connection.unread():
            seen.finished = now
            connection.why = DRAINED
            connection.finish()
        return seen

    def _end(self, *, aborted: int) -> None:
        self._watched.clear()
        seconds = self._clock.seconds() - self._began
        self._ended.callback(Drained(max(0, self._at_first - aborted), aborted, seconds))
