"""The log as JSON: one object on one line for each event, for journald, Loki, Elasticsearch and jq.

    {"time": "2026-11-21T10:00:00.123Z", "level": "info", "logger": "echosvc", "message": "…", "where": "TCP [::]:8007"}

Twisted's own JSON begins each record with a control character (RFC 7464), writes a level as an object, and does not write
the message. twistd makes its observers before there is a service, and takes them away after it: so they stay, and it is
what they write that changes.

All is ASCII, which is UTF-8 in every locale: what is not is escaped as JSON has it.
"""

from __future__ import annotations

import json
import math
import sys
import syslog
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LegacyLogObserverWrapper,
    LogEvent,
    LogLevel,
    LogPublisher,
    formatEvent,
    globalLogPublisher,
)
from twisted.python.failure import Failure
from twisted.python.reflect import safe_str
from twisted.python.syslog import SyslogObserver

from echosvc.observe.safe_log import safe_event, shown

__all__ = ["JsonLog", "json_line", "observer"]

#: What every line has, in this order; ``exception`` only where there is one.
_OURS = ("time", "level", "logger", "message", "exception")

#: Fields of events of the old kind (twisted.python.log) that say over again what `_OURS` say, or what nobody asks for.
_OLD = frozenset({"failure", "format", "isError", "message", "printed", "system", "time", "warning"})

#: The greatest number that is written as one: more is an error to readers that have 64 bits.
_MOST = 2**63

_PRIORITIES = {
    LogLevel.debug: syslog.LOG_DEBUG,
    LogLevel.info: syslog.LOG_INFO,
    LogLevel.warn: syslog.LOG_WARNING,
    LogLevel.error: syslog.LOG_ERR,
    LogLevel.critical: syslog.LOG_CRIT,
}


def json_line(event: LogEvent) -> str | None:
    """Write an event as one line.

    Args:
        event: Anybody's.

    Returns:
        A JSON object and a line end: the time (UTC, ISO 8601 with milliseconds), the level, the logger's namespace, the
        message; then the fields of the event that its message was made of, numbers as numbers, and everything that JSON does
        not know as text; then an exception with its traceback. None if the event says nothing.
    """
    safe = safe_event(event)
    failure = safe.get("log_failure") or safe.get("failure")
    message = _message(safe, failure)
    if not message:
        return None
    line: dict[str, Any] = {
        "time": _time(safe.get("log_time")),
        "level": _level(safe).name,
        "logger": _text(safe.get("log_namespace", "-")),
        "message": message,
    }
    if (system := safe.get("log_system") or safe.get("system") or "-") != "-":
        line["system"] = _text(system)
    for key, value in safe.items():
        if not key.startswith("log_") and key not in _OLD and not isinstance(value, Failure):
            line[f"_{key}" if key in _OURS else shown(key)] = _plain(value)
    if isinstance(failure, Failure):
        line["exception"] = safe_str(failure.getTraceback()).rstrip("\n")
    return json.dumps(line) + "\n"


def observer() -> ILogObserver:
    """Make an observer that writes JSON to standard output, from the very first line that twistd logs.

    For ``twistd -n --logger=echosvc.observe.json_log.observer``.
    """
    return FileLogObserver(sys.stdout, json_line)


class JsonLog:
    """Has the observers that there are write JSON: those that write lines to a file, and those for syslog.

    Args:
        publisher: Whose observers.
    """

    def __init__(self, publisher: LogPublisher = globalLogPublisher) -> None:
        self._publisher: Any = publisher
        self._undo: list[Callable[[], None]] = []

    def start(self) -> bool:
        """Begin, with those that are there now.

        Returns:
            Whether there is any that writes JSON.
        """
        changed = [self._change(each) for each in self._publisher._observers]  # noqa: SLF001  # nobody else tells
        return any(changed)

    def stop(self) -> None:
        """Have them write what they wrote before."""
        while self._undo:
            self._undo.pop()()

    def _change(self, observer: Any) -> bool:
        match observer:
            case FilteringLogObserver():
                return self._change(observer._observer)  # noqa: SLF001  # likewise
            case FileLogObserver():
                self._set(observer, "formatEvent", json_line)
                return True
            case LegacyLogObserverWrapper():
                legacy = observer.legacyObserver
                its_own: Any = getattr(legacy, "__self__", None)  # twistd has its method
                if isinstance(its_own, SyslogObserver):
                    self._set(observer, "legacyObserver", _JsonSyslog(its_own))
                return isinstance(observer.legacyObserver, _JsonSyslog)
        return False

    def _set(self, owner: Any, name: str, value: Any) -> None:
        before = getattr(owner, name)
        setattr(owner, name, value)
        self._undo.append(lambda: setattr(owner, name, before))


class _JsonSyslog:
    """Writes JSON to syslog, with the priority that belongs to the level. Twisted's own knows two: information and alert.

    Args:
        observer: Twisted's own, which has opened it.
    """

    def __init__(self, observer: SyslogObserver) -> None:
        self._observer = observer

    def __call__(self, event: LogEvent) -> None:
        if line := json_line(event):
            self._observer.syslog(_PRIORITIES[_level(event)], line.rstrip("\n"))


def _message(event: LogEvent, failure: object) -> str:
    """Say what has happened, in one line: an exception's traceback, which old events have in their text, is told apart."""
    message = formatEvent(event)
    if not isinstance(failure, Failure) or (message and "\n" not in message):
        return message
    why = event.get("why")
    return shown(f"{why or 'Unhandled Error'}: {_name(failure)}: {safe_str(failure.value)}")


def _name(failure: Failure) -> str:
    return str(getattr(failure.type, "__name__", failure.type))


def _time(seconds: object) -> str:
    try:
        when = datetime.fromtimestamp(float(seconds), UTC)  # type: ignore[arg-type]  # whatever it is
    except (TypeError, ValueError, OverflowError, OSError):
        when = datetime.fromtimestamp(time.time(), UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _level(event: LogEvent) -> Any:
    level = event.get("log_level")
    return level if level in _PRIORITIES else LogLevel.info


def _plain(value: object) -> object:
    """Write a field as JSON's own number, truth value or null if it is one, else as text."""
    if value is None or value is True or value is False:
        return value
    if type(value) is int and abs(value) < _MOST:
        return value
    if type(value) is float and math.isfinite(value):
        return value
    return _text(value)


def _text(value: object) -> str:
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
    return shown(value if type(value) is str else safe_str(value))
