"""Whether a worker lives: it says so ten times a second, and is believed dead when it is silent for half a second.

What counts is time in which it could have spoken, and could have been heard: not while others have the processor, and not while
the parent itself does not run.
"""

from __future__ import annotations

import os
from collections.abc import Callable

__all__ = ["BEAT", "Pulse", "open_stat", "time_run"]

#: Seconds from one heartbeat to the next, and from one look to the next.
BEAT = 0.1

#: Looks without a heartbeat after which a worker is given up: the successor needs some hundredths of a second, and no client is to
#: wait for a whole one.
SILENT = 6


class Pulse:
    """The heartbeats of one process.

    Args:
        ran: Tells for how many seconds the process has run, if it wants to run on; None if it waits for something else.
    """

    def __init__(self, ran: Callable[[], float | None]) -> None:
        self._ran = ran
        self._looks = 0
        self._silent = 0.0
        self._ran_before: float | None = None

    def beat(self) -> None:
        """It has spoken."""
        self._looks = 0
        self._silent = 0.0

    def is_still(self) -> bool:
        """Look, once in `BEAT` seconds; a look that comes late is one look.

        Returns:
            Whether it has been silent for too long.
        """
        self._looks += 1
        if self._looks == 1:  # one look between two heartbeats is nothing
            self._ran_before = None
            self._silent = 1.0
            return False
        ran, before = self._ran(), self._ran_before
        self._ran_before = ran
        self._silent += 1.0 if ran is None or before is None else min(1.0, (ran - before) / BEAT)
        return self._silent >= SILENT


def open_stat(path: str = "/proc/self/stat") -> int | None:
    """Open what tells whether this process runs.

    A worker opens its own and hands the descriptor to its parent. The parent could not open it: a process that cannot be inspected
    (`echosvc.rights`) is invisible to others of its user where ``/proc`` is mounted with ``hidepid`` (``ProtectProc=invisible``).

    Args:
        path: The file.

    Returns:
        A descriptor; None where there is no such file.
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def time_run(stat: int | None) -> Callable[[], float | None]:
    """Find how to tell for how long a process has run.

    It is not how long it has waited (``schedstat``): the kernel adds that up only when the wait is over, and does not count what a
    control group's quota takes.

    Args:
        stat: A descriptor of its ``/proc/PID/stat`` (proc_pid_stat(5)), which stays the caller's; None if there is none.

    Returns:
        A function that returns seconds if the process is ready to run or runs (state R); None if it waits for something else than
        a processor, is stopped or gone, and where the system does not tell.
    """
    ticks = os.sysconf("SC_CLK_TCK")

    def ran() -> float | None:
        if stat is None:
            return None
        try:
            fields = os.pread(stat, 4096, 0).rpartition(b")")[2].split()
            return (int(fields[11]) + int(fields[12])) / ticks if fields[0] == b"R" else None
        except (OSError, IndexError, ValueError):
            return None

    return ran
