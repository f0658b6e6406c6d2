"""Not more than a few log entries of one kind in a minute, and then how many more there were.

Whatever a peer can make somebody log, it can make them log for each of its datagrams. Each entry costs a formatted
traceback and the disk it fills, and what else is logged drowns in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Any

import attrs
from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText
from twisted.python.compat import currentframe
from twisted.python.failure import Failure
from zope.interface import implementer

from echosvc.observe.safe_log import safe_event, shown

__all__ = ["INTERVAL", "PASSED", "Flood"]

PASSED = "log_passed"
"""What an event has that is not to be held back: another process has let it through already (all of them are logged by one
line of code here), or the user has asked for as many. No peer names fields."""

#: Seconds from one report to the next.
INTERVAL = 60.0

#: Entries of one kind that are passed on between two reports.
ENTRIES = 5

#: The same for lines that are printed, where one entry is one line: a traceback should get through.
PRINTED = 100

#: Kinds to tell apart between two reports; all others together are one. Peers choose among the lines of code there are.
KINDS = 256

#: Characters of an entry by which the report recalls it.
RECALLED = 200

#: Modules that only hand on what others log, besides twisted.logger: an entry belongs to the line that called them.
_HANDING_ON = {
    "echosvc.observe.flood",
    "echosvc.observe.log_guard",
    "logging",
    "traceback",
    "twisted.python.log",
    "twisted.python.threadable",
    "warnings",
}


@attrs.define
class _Kind:
    """Entries that are taken for the same.

    Attributes:
        left: How many are still passed on.
        more: How many were not.
        report: What says so, once the last one has been passed on.
    """

    left: int
    more: int = 0
    report: LogEvent = attrs.field(factory=dict)


@implementer(ILogObserver)
class Flood:
    """Passes on the first few entries of each kind, and tells once a minute how many it has held back.

    A kind is the line of code that logs, and with an exception its class and the line that raised it. What is said has
    no part in it: that may be the peer's. Our own lines about listeners (namespace ``echosvc`` and below) are told apart
    by the listener, too. A kind of which something was held back is not passed on again before a minute without any.

    It may be called by any thread. Without a lock, for a garbage collection may log something at any moment: at worst
    an entry is not counted.

    Args:
        observer: Where entries are passed on to.
    """

    def __init__(self, observer: Callable[[LogEvent], None]) -> None:
        self._observer = observer
        self._kinds: dict[Hashable, _Kind] = {}

    def __call__(self, event: LogEvent) -> None:
        """Take one entry."""
        code = None if PASSED in event else _line_that_logs()
        if code is None:
            self._observer(event)
            return
        kind = self._kind_of(code, event)
        if kind.left == 0:
            kind.more += 1
            return
        kind.left -= 1
        if kind.left == 0:
            kind.report = _report_like(event)
        self._observer(event)

    def report(self) -> None:
        """Pass on one entry for each kind of which entries were held back since the last report."""
        kinds, self._kinds = self._kinds, {}
        for key, kind in list(kinds.items()):
            if kind.more:
                self._observer({**kind.report, "count": kind.more, "log_time": time.time()})
                kind.more = 0
                self._kinds[key] = kind

    def _kind_of(self, code: Hashable, event: LogEvent) -> _Kind:
        try:
            key = (code, *_exception(event), *_listener(event))
        except Exception:  # noqa: BLE001  # somebody's classes; who logs must not be hit by it
            key = ()
        if (kind := self._kinds.get(key)) is not None:
            return kind
        if len(self._kinds) >= KINDS:
            key = ()
        return self._kinds.setdefault(key, _Kind(PRINTED if "log_io" in event else ENTRIES))


def _line_that_logs() -> tuple[str, int] | None:
    """Find it; None for what was logged before there was an observer, and now comes out of Twisted's buffer."""
    frame = currentframe()
    while frame.f_back is not None and _hands_on(module := str(frame.f_globals.get("__name__"))):
        if module == "twisted.logger._buffer":
            return None
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


def _hands_on(module: str) -> bool:
    return module in _HANDING_ON or module.startswith("twisted.logger.")


def _exception(event: LogEvent) -> tuple[Hashable, ...]:
    failure = event.get("log_failure") or event.get("failure")
    if not isinstance(failure, Failure):
        return ()
    innermost: Any = failure.getTracebackObject()
    while innermost is not None and innermost.tb_next is not None:
        innermost = innermost.tb_next
    if innermost is None:
        return (str(failure.type),)
    return (str(failure.type), innermost.tb_frame.f_code.co_filename, innermost.tb_lineno)


def _listener(event: LogEvent) -> tuple[str, ...]:
    if str(event.get("log_namespace")).partition(".")[0] != "echosvc":
        return ()
    return tuple(str(event[key]) for key in ("where", "listener") if key in event)


def _report_like(event: LogEvent) -> LogEvent:
    """Make the entry that says how many more there were like this one."""
    text = eventAsText(safe_event(event), includeTimestamp=False, includeSystem=False)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return {
        "log_format": "… and {count} more within a minute, like: {like}",
        "log_level": event.get("log_level") or LogLevel.info,
        "log_namespace": event.get("log_namespace", "-"),
        "like": shown(" … ".join(dict.fromkeys([*lines[:1], *lines[-1:]])), RECALLED),
    }
