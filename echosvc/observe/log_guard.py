"""Stands between all that is logged and whatever the user has chosen to log to.

Twisted's loggers, ours, those of other packages and what is printed all pass through one object, the global publisher.
They have known it since before we came, and observers come to it and go as ever; so it stays, and it is its class that
changes. An observer of ours beside the user's could neither hold an entry back nor be sure to come first, and one around
the user's would be in the way of whoever removes that.
"""

from __future__ import annotations

import time
from typing import Any

import attrs
from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, LogPublisher, globalLogPublisher
from twisted.python.reflect import safe_str

from echosvc.observe.flood import INTERVAL, Flood
from echosvc.observe.json_log import JsonLog
from echosvc.observe.log_pipe import own_pipes
from echosvc.observe.safe_log import safe_event

__all__ = ["LogGuard"]


@attrs.define
class _Loss:
    """What one observer could not log since it last could.

    Attributes:
        observer: Which one.
        entries: How many.
        problem: What it has raised, the last time.
    """

    observer: ILogObserver
    entries: int = 0
    problem: str = ""

    def event(self, text: str) -> LogEvent:
        """Say so in a log entry."""
        return safe_event(
            {
                "log_format": text,
                "log_level": LogLevel.error,
                "log_namespace": "echosvc",
                "log_time": time.time(),
                **attrs.asdict(self, recurse=False),
            }
        )


class _GuardedPublisher(LogPublisher):
    """The publisher while it is guarded."""

    guard: ILogObserver

    def __call__(self, event: LogEvent) -> None:
        """Have one entry looked at, and told to the observers."""
        self.guard(event)


class LogGuard:
    """Makes log entries safe to print, holds floods of them back, bears with observers that fail, and has them write JSON.

    Args:
        reactor: Keeps time, and tells when the process ends.
        publisher: What everything is logged to.
    """

    def __init__(self, reactor: Any, publisher: LogPublisher = globalLogPublisher) -> None:
        self._reactor = reactor
        self._publisher: Any = publisher
        self._flood = Flood(self._tell)
        self._losses: dict[int, _Loss] = {}
        self._ending = False
        self._json = JsonLog(publisher)
        self._writes_json = False
        self._loop = LoopingCall(self._flood.report)
        self._loop.clock = reactor

    def write_json(self, *, wanted: bool) -> None:
        """Have the observers that there are now write JSON, or what they wrote before. It ends when the guard stops."""
        if wanted == self._writes_json:
            return
        self._writes_json = wanted
        self._json.stop()
        if wanted and not self._json.start():
            Logger("echosvc", observer=self._publisher).warn(
                "log-format json: nobody here writes lines to a file or to syslog; "
                "twistd --logger=echosvc.observe.json_log.observer does"
            )

    def start(self) -> None:
        """Begin. Where another one guards already, that one goes on alone."""
        if isinstance(self._publisher, _GuardedPublisher):
            return
        self._publisher.guard = self._flood
        self._publisher.__class__ = _GuardedPublisher
        self._loop.start(INTERVAL, now=False)
        self._reactor.callWhenRunning(own_pipes)
        # Asked for before twistd asks for stopService, so that it is known by then.
        self._reactor.addSystemEventTrigger("before", "shutdown", self._end)
        self._reactor.addSystemEventTrigger("after", "shutdown", self._flood.report)

    def stop(self) -> None:
        """End, with a last report; but if the process ends, end with it: its connections are lost, and log, later."""
        if self._ending:
            return
        if self._loop.running:
            self._unguard()
        self.write_json(wanted=False)

    def _unguard(self) -> None:
        self._loop.stop()
        self._flood.report()
        self._publisher.__class__ = LogPublisher
        del self._publisher.guard

    def _end(self) -> None:
        self._ending = True

    def _observers(self) -> tuple[ILogObserver, ...]:
        return tuple(self._publisher._observers)  # noqa: SLF001  # of our own base class

    def _tell(self, event: LogEvent) -> None:
        safe = safe_event(event)
        observers = self._observers()
        if self._losses:
            self._forget_all_but(observers)
        for observer in observers:
            if "log_trace" in safe:
                safe["log_trace"].append((self._publisher, observer))
            self._tell_one(observer, safe)

    def _tell_one(self, observer: ILogObserver, event: LogEvent) -> None:
        try:
            observer(event)
            # Not before the entry: what a file could not write is often kept in its buffer, and comes once it can.
            if (loss := self._losses.get(id(observer))) is not None:
                observer(loss.event("{entries} entries before the last one may be missing: {problem}"))
                del self._losses[id(observer)]
        except Exception as problem:  # noqa: BLE001  # whatever it is, the service lives on
            self._lost(observer, problem)

    def _forget_all_but(self, observers: tuple[ILogObserver, ...]) -> None:
        """Forget what was lost by those who were removed meanwhile."""
        there = set(map(id, observers))
        for key in list(self._losses):  # other threads may log
            if key not in there:
                self._losses.pop(key, None)

    def _lost(self, observer: ILogObserver, problem: Exception) -> None:
        loss = self._losses.setdefault(id(observer), _Loss(observer))
        loss.entries += 1
        loss.problem = f"{type(problem).__name__}: {safe_str(problem)}"
        if loss.entries > 1:
            return
        # Twisted would tell the others each time, with a traceback.
        for other in self._observers():
            if other is not observer:
                self._tell_one(other, loss.event("{observer} cannot log: {problem}"))
