"""Memory that connections have left behind, given back to the system.

Freed memory stays with the process: glibc gives back what lies at the end of its heap, and one small object there keeps all of it.
After 3000 TLS connections that was 46 MiB, of 48 MiB that they took; asked to, glibc gives back all but 7 (malloc_trim(3)).
That takes it 10 to 30 ms, so it is asked when many have left, and seldom.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Trimmer", "trim"]

#: Connections that have left, for whose memory it is worth it: with TLS, 8 MiB.
MANY = 512

#: Seconds from then on: others may come meanwhile, and use it.
QUIET = 5.0


def trim() -> None:
    """Ask for it. Other libraries than glibc have no such call, and are not asked."""
    ask = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if ask is not None:
        ask(0)


class Trimmer:
    """Knows how many connections hold memory, and has it given back when many of them have left. A reactor has one (`per_reactor`).

    Args:
        clock: Calls later.
        give_back: Gives back what is free.
    """

    def __init__(self, clock: IReactorTime, give_back: Callable[[], None] = trim) -> None:
        self._clock = clock
        self._give_back = give_back
        self._count = self._most = 0
        self._timer: IDelayedCall | None = None

    def take(self) -> None:
        """One more connection is there."""
        self._count += 1
        self._most = max(self._most, self._count)

    def leave(self) -> None:
        """One has ended."""
        self._count -= 1
        if self._timer is None and self._most - self._count >= MANY:
            self._timer = self._clock.callLater(QUIET, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._most - self._count >= MANY:
            self._most = self._count
            self._give_back()
