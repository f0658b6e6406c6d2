"""Starts twistd on a given reactor.

A program of its own::

    launch.py REACTOR[,timer][,without=PROMISE] ARGUMENTS-OF-TWISTD

    epoll, poll, select, asyncio    Twisted's
    uvloop                          Twisted's asyncio reactor on uvloop's event loop
    no-epoll                        Twisted's default in a Python that knows no epoll, as on systems without

With a timer, one is due every millisecond, and the file "lateness" has a line for every tenth of a second: when it
was written (CLOCK_MONOTONIC, seconds), by how many milliseconds the timer was late at worst, and by how many at worst
if those do not count for which this process was ready and others had the processor.

Without a promise: what makes the service keep it is switched off (`tests.hold.unguarded`).
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["Watch", "install", "turn_waited"]

#: Seconds from one tick to the next, and from one note to the next.
INTERVAL = 0.001
NOTES = 0.1


def install(name: str) -> Any:
    """Make the reactor, and return it."""
    if name == "no-epoll":
        del select.epoll
    elif name == "uvloop":
        import_module("twisted.internet.asyncioreactor").install(import_module("uvloop").new_event_loop())
    else:
        import_module(f"twisted.internet.{name}reactor").install()
    return import_module("twisted.internet.reactor")  # which a reactor puts itself in the place of


def turn_waited(schedstat: str = "/proc/thread-self/schedstat") -> Callable[[], float]:
    """Find how to tell for how many seconds this thread was ready to run, and others had the processor.

    Args:
        schedstat: Where the kernel tells: the second number, in nanoseconds (Documentation/scheduler/sched-stats.rst).
    """
    try:
        file = os.open(schedstat, os.O_RDONLY | os.O_CLOEXEC)
        int(os.pread(file, 100, 0).split()[1])
    except (OSError, IndexError):  # a kernel that does not count it: whenever it did not run, then
        return lambda: time.monotonic() - time.thread_time()
    return lambda: int(os.pread(file, 100, 0).split()[1]) / 1e9


class Watch:
    """A timer that is due every millisecond, and tells by how much it was late.

    Being late is the machine's fault as well as the program's: where others are busy, a process waits for its turn.
    What remains without that is the program's own share, whether it worked or slept.

    Args:
        reactor: Whose timer.
        note: Is handed a line ten times a second.
        clock: Tells the time, in seconds.
        waited: Tells for how many seconds the program has waited for its turn.
    """

    def __init__(
        self,
        reactor: Any,
        note: Callable[[str], object],
        clock: Callable[[], float],
        waited: Callable[[], float],
    ) -> None:
        self._reactor = reactor
        self._note = note
        self._clock = clock
        self._waited = waited
        self._due = self._waited_before = self._next_note = 0.0
        self._late = self._own = 0.0

    def begin(self) -> None:
        """Start the timer."""
        self._next_note = self._clock() + NOTES
        self._wait()

    def _wait(self) -> None:
        self._waited_before = self._waited()
        self._due = self._clock() + INTERVAL
        self._reactor.callLater(INTERVAL, self._tick)

    def _tick(self) -> None:
        now = self._clock()
        late = now - self._due
        self._late = max(self._late, late)
        self._own = max(self._own, late - (self._waited() - self._waited_before))
        if now >= self._next_note:
            self._note(f"{now:.3f} {self._late * 1e3:.1f} {self._own * 1e3:.1f}\n")
            self._next_note = now + NOTES
            self._late = self._own = 0.0
        self._wait()


def main() -> None:
    """Do what the first argument says, then what twistd does."""
    name, *rest = sys.argv.pop(1).split(",")
    reactor = install(name)
    for word in rest:
        if word.startswith("without="):
            sys.path.append(str(Path(__file__).parents[2]))  # behind an installed echosvc
            import_module("tests.hold.unguarded").switch_off(word.removeprefix("without="))
    if "timer" in rest:
        notes = Path("lateness").open("w", buffering=1)  # noqa: SIM115  # for as long as the process lives
        watch = Watch(reactor, notes.write, time.monotonic, turn_waited())
        reactor.callWhenRunning(watch.begin)
    import_module("twisted.scripts.twistd").run()


if __name__ == "__main__":
    main()
