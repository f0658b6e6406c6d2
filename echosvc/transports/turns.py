"""Work that a peer has sent more of than fits into a turn, done in turns that leave the reactor to others between them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["TURN", "Turns"]

#: Seconds for which one goes on with its work, and all of them together, before the reactor serves others.
TURN = 0.0005


class Turns:
    """Lets each that has more to do go on in its turn. A reactor has one (`per_reactor`): two would take two turns of its time.

    Args:
        clock: Calls later.
        seconds: Tells the time, in seconds of a clock that is not set.
    """

    def __init__(self, clock: IReactorTime, *, seconds: Callable[[], float] = monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._waiting: deque[Callable[[], None]] = deque()
        self._call: IDelayedCall | None = None

    def later(self, go_on: Callable[[], None]) -> None:
        """Call something in its turn. It should return after some `TURN`; it raises nothing."""
        self._waiting.append(go_on)
        if self._call is None:
            self._call = self._clock.callLater(0, self._serve)

    def _serve(self) -> None:
        self._call = None
        began = self.seconds()
        for _ in range(len(self._waiting)):
            self._waiting.popleft()()
            if self.seconds() - began > TURN:
                break
        if self._waiting and self._call is None:
            self._call = self._clock.callLater(0, self._serve)
