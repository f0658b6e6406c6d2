"""Starts twistd on a given reactor.

A program of its own::

    launch.py REACTOR[,timer] ARGUMENTS-OF-TWISTD

    epoll, poll, select, asyncio    Twisted's
    uvloop                          Twisted's asyncio reactor on uvloop's event loop
    no-epoll                        Twisted's default in a Python that knows no epoll, as on systems without

With a timer, one is due every millisecond, and the file "lateness" says by how many it was late at worst.
"""

from __future__ import annotations

import select
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

INTERVAL = 0.001


def install(name: str) -> Any:
    """Make the reactor, and return it."""
    if name == "no-epoll":
        del select.epoll
    elif name == "uvloop":
        import_module("twisted.internet.asyncioreactor").install(import_module("uvloop").new_event_loop())
    else:
        import_module(f"twisted.internet.{name}reactor").install()
    return import_module("twisted.internet.reactor")  # which a reactor puts itself in the place of


class Watch:
    """A timer that is due every millisecond, and remembers by how much it was late at worst."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._worst = 0.0
        self._due = 0.0

    def begin(self) -> None:
        """Start the timer."""
        self._due = time.monotonic() + INTERVAL
        self._reactor.callLater(INTERVAL, self._tick)

    def _tick(self) -> None:
        late = time.monotonic() - self._due
        if late > self._worst:
            self._worst = late
            Path("lateness").write_text(f"{late * 1e3:.1f}")
        self.begin()


def main() -> None:
    """Do what the first argument says, then what twistd does."""
    name, _, timer = sys.argv.pop(1).partition(",")
    reactor = install(name)
    if timer:
        reactor.callLater(1.0, Watch(reactor).begin)  # by then the service has started
    import_module("twisted.scripts.twistd").run()


if __name__ == "__main__":
    main()
