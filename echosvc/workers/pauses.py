"""How long to wait before a process is started in the place of one that has died."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Pauses"]

#: Seconds of the first pause, and of the longest.
FIRST, LONGEST = 0.1, 10.0

#: Seconds without a death after which all is forgotten.
HEALTHY = 20.0


class Pauses:
    """None the first time; growing ones when processes keep dying.

    Args:
        seconds: Tells the time.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._last: float | None = None
        self._next = 0.0

    def died(self) -> float:
        """Take notice of a death.

        Returns:
            Seconds to wait.
        """
        now = self._seconds()
        if self._last is None or now - self._last >= HEALTHY:
            self._next = 0.0
        self._last = now
        pause, self._next = self._next, min(LONGEST, max(FIRST, self._next * 2))
        return pause
