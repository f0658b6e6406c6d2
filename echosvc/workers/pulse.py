"""Whether a worker lives: it says so ten times a second, and is believed dead when it is silent for half a second.

What counts is time in which it could have spoken, and could have been heard: not while others had the processor, and not while
the parent itself did not run.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

__all__ = ["BEAT", "Pulse", "turn_waited"]

#: Seconds from one heartbeat to the next, and from one look to the next.
BEAT = 0.1

#: Looks without a heartbeat after which a worker is given up: the successor needs some hundredths of a second, and nobody is to
#: wait for a whole one.
SILENT = 6


class Pulse:
    """The heartbeats of one process.

    Args:
        waited: Tells for how many seconds the process was ready to run, and others had the processor.
    """

    def __init__(self, waited: Callable[[], float]) -> None:
        self._waited = waited
        self._silent = 0
        self._waited_before = 0.0

    def beat(self) -> None:
        """It has spoken."""
        self._silent = 0

    def is_still(self) -> bool:
        """Look, once in `BEAT` seconds; a look that comes late is one look.

        Returns:
            Whether it has been silent for too long.
        """
        self._silent += 1
        if self._silent == 2:  # one look between two heartbeats is nothing
            self._waited_before = self._waited()
        if self._silent < SILENT:
            return False
        return self._silent - (self._waited() - self._waited_before) / BEAT >= SILENT


def turn_waited(pid: int, folder: Path = Path("/proc")) -> Callable[[], float]:
    """Find how to tell for how long a process has waited for its turn.

    Args:
        pid: The process.
        folder: Where the kernel tells: the second number, in nanoseconds (Documentation/scheduler/sched-stats.rst).

    Returns:
        A function that returns seconds; 0 where the kernel does not count them.
    """
    path = folder / str(pid) / "schedstat"

    def waited() -> float:
        try:
            return int(path.read_bytes().split()[1]) / 1e9
        except (OSError, IndexError, ValueError):
            return 0.0

    return waited
