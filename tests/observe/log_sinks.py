"""What people log to, in memory: Twisted's observers as twistd makes them, and one that fails."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from typing import Any

from twisted.logger import (
    ILogObserver,
    LegacyLogObserverWrapper,
    LogEvent,
    LogPublisher,
    STDLibLogObserver,
    formatEvent,
    jsonFileLogObserver,
    textFileLogObserver,
)
from twisted.python import log
from twisted.python.syslog import SyslogObserver
from zope.interface import implementer

__all__ = ["SINKS", "FailingSink", "Lines", "old_publisher"]


class _Syslog(SyslogObserver):
    """Syslog that writes one line for each message it is handed."""

    def __init__(self, file: io.StringIO) -> None:
        self.syslog = lambda _, message: file.write(f"{message}\n")


def _stdlib(file: io.StringIO) -> ILogObserver:
    logger = logging.Logger("test")  # noqa: LOG001  # not one that lives on when the test is over
    logger.addHandler(logging.StreamHandler(file))
    observer = STDLibLogObserver()
    observer.logger = logger
    return observer


#: Each kind of observer, by the name of what twistd is told to have it.
SINKS: dict[str, Callable[[io.StringIO], ILogObserver]] = {
    "--logfile": textFileLogObserver,
    "--syslog": lambda file: LegacyLogObserverWrapper(_Syslog(file).emit),  # type: ignore[arg-type]  # as twistd does
    "--log-format=json": lambda file: jsonFileLogObserver(file, recordSeparator=""),
    "--logger=twisted.logger.STDLibLogObserver": _stdlib,
}


def old_publisher(publisher: LogPublisher) -> Any:
    """What `twisted.python.log.msg` and `err` are methods of, for this publisher."""
    return log.LogPublisher(observerPublisher=publisher, publishPublisher=publisher)


@implementer(ILogObserver)
class Lines:
    """Remembers events, and their lines.

    Attributes:
        events: As they came.
    """

    def __init__(self) -> None:
        self.events: list[LogEvent] = []

    @property
    def lines(self) -> list[str]:
        """The message of each event."""
        return [formatEvent(each) for each in self.events]

    def __call__(self, event: LogEvent) -> None:
        """Remember one event."""
        self.events.append(event)


@implementer(ILogObserver)
class FailingSink(Lines):
    """A disk that can be full.

    Attributes:
        problem: What it raises; None if it works.
        tries: How often it was called.
    """

    def __init__(self, problem: Exception | None = None) -> None:
        super().__init__()
        self.problem = problem
        self.tries = 0

    def __call__(self, event: LogEvent) -> None:
        """Remember one event, or fail."""
        self.tries += 1
        if self.problem is not None:
            raise self.problem
        super().__call__(event)
