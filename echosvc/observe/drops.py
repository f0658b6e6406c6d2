"""What was dropped, in the log: at most one line a minute for each listener, however hard the flood."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

__all__ = ["DropReport", "Dropping"]

#: Seconds between two lines about one listener.
INTERVAL = 60.0


class Dropping(Protocol):
    """What drops things and counts them: a listener.

    Attributes:
        where: How the log names it.
    """

    where: str

    def drops(self) -> Counter[str]:
        """Tell what was dropped so far, by reason."""


class DropReport:
    """Says once a minute what each listener has dropped since, by reason.

    Args:
        listeners: Whose drops are reported.
        clock: Keeps time.
        log: Where the lines go.
    """

    def __init__(self, listeners: Iterable[Dropping], clock: IReactorTime, log: Logger) -> None:
        self._reported: dict[Dropping, Counter[str]] = {each: Counter() for each in listeners}
        self._log = log
        self._loop = LoopingCall(self.report)
        self._loop.clock = clock

    def watch(self, listener: Dropping) -> None:
        """Report the drops of one more listener."""
        self._reported[listener] = Counter()

    def forget(self, listener: Dropping) -> None:
        """Report those of a listener no longer, but for a last line for what was not reported yet."""
        self._report(listener, self._reported.pop(listener))

    def start(self) -> None:
        """Begin; the first line can come a minute from now."""
        self._loop.start(INTERVAL, now=False)

    def stop(self) -> None:
        """End, with a last line for what was not reported yet."""
        self._loop.stop()
        self.report()

    def report(self) -> None:
        """Write a line for each listener that has dropped something since the last report."""
        for listener, before in self._reported.items():
            self._reported[listener] = self._report(listener, before)

    def _report(self, listener: Dropping, before: Counter[str]) -> Counter[str]:
        now = Counter(listener.drops())
        if since := now - before:
            what = ", ".join(f"{reason} {count}" for reason, count in since.most_common())
            self._log.warn("{where}: dropped: {what}", where=listener.where, what=what)
        return now
