"""How late the reactor is: a timer that is due ten times a second notes by how much it is missed.

Whatever keeps the reactor from turning shows here: a slow protocol, a machine that is too busy, a disk that is waited for.
Costs 30 us a second.
"""

from __future__ import annotations

from bisect import bisect_left

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from echosvc.observe.snapshot import LatenessSnapshot

__all__ = ["LatenessWatch"]

#: Seconds between two times at which the timer is due.
INTERVAL = 0.1

#: Upper bounds of classes, in seconds: from what an idle reactor does to what clients notice.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

#: Seconds for which the worst is kept at least, and at most twice as long: whoever looks once a minute sees every peak, and
#: whoever else looks takes nothing from them.
WINDOW = 60.0


class LatenessWatch:
    """Watches one reactor.

    Args:
        clock: The reactor; it also tells the time.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._timer: IDelayedCall | None = None
        self._counts = [0] * (len(BOUNDS) + 1)
        self._total = 0.0
        self._worst = self._worst_before = 0.0
        self._due = self._window_ends = 0.0

    def start(self) -> None:
        """Begin."""
        self._window_ends = self._clock.seconds() + WINDOW
        self._wait()

    def stop(self) -> None:
        """End. What was seen can still be read."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def read(self) -> LatenessSnapshot:
        """Tell what was seen so far."""
        return LatenessSnapshot(
            bounds=BOUNDS,
            counts=tuple(self._counts),
            total=self._total,
            worst=max(self._worst, self._worst_before),
        )

    def _wait(self) -> None:
        self._due = self._clock.seconds() + INTERVAL
        self._timer = self._clock.callLater(INTERVAL, self._look)

    def _look(self) -> None:
        now = self._clock.seconds()
        late = max(now - self._due, 0.0)
        self._counts[bisect_left(BOUNDS, late)] += 1
        self._total += late
        if now >= self._window_ends:
            self._worst, self._worst_before = 0.0, self._worst
            self._window_ends = now + WINDOW
        self._worst = max(self._worst, late)
        self._wait()
