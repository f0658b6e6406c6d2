"""What is not as it should be, in the log: when it begins, and not again for as long as it lasts."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

__all__ = ["Complaining", "Complaints"]

#: Seconds between two looks. What expires is told days before.
INTERVAL = 3600.0


class Complaining(Protocol):
    """What may not be as it should be: a listener.

    Attributes:
        where: How the log names it.
    """

    where: str

    def warnings(self) -> list[str]:
        """Return what is not as it should be now, each in one line."""


class Complaints:
    """Logs what is not as it should be with each listener, and looks every hour for what has come since.

    Args:
        clock: Keeps time.
        log: Where the lines go.
    """

    def __init__(self, clock: IReactorTime, log: Logger) -> None:
        self._told: dict[Complaining, Collection[str]] = {}
        self._log = log
        self._loop = LoopingCall(self._look)
        self._loop.clock = clock

    def tell(self, listener: Complaining) -> None:
        """Log all that is not as it should be with a listener, and watch it from now on."""
        self._told[listener] = ()
        self._look_at(listener)

    def forget(self, listener: Complaining) -> None:
        """Watch a listener no longer."""
        self._told.pop(listener, None)

    def start(self) -> None:
        """Begin to look every hour."""
        self._loop.start(INTERVAL, now=False)

    def stop(self) -> None:
        """End: a listener that is closed cannot be looked at. Idempotent."""
        if self._loop.running:
            self._loop.stop()

    def _look(self) -> None:
        for listener in self._told:
            try:
                self._look_at(listener)
            except Exception:  # noqa: BLE001  # of one listener: the others are looked at, and the next look comes
                self._log.failure("{where}: not looked at", where=listener.where)

    def _look_at(self, listener: Complaining) -> None:
        found = listener.warnings()
        for problem in found:
            if problem not in self._told[listener]:
                # Not under the name "warning": those are Python's own to observers that read Twisted's old events.
                self._log.warn("{where}: {problem}", where=listener.where, problem=problem)
        self._told[listener] = found
