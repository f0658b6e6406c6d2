"""What a worker logs, on its way to the parent, which logs it.

An event is cut down to what can be read anywhere: its line, as the worker would have written it, its plain fields, and its
traceback as names, files and numbers.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from twisted.logger import (
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogPublisher,
    formatEvent,
    globalLogPublisher,
)
from twisted.python.failure import Failure
from twisted.python.reflect import qual, safe_str
from zope.interface import implementer

from echosvc.observe.flood import PASSED

__all__ = ["Relay", "log_event", "pack_event"]

#: Calls of a traceback that are kept at each of its ends.
_CALLS = 20


@implementer(ILogObserver)
class Relay:
    """An observer that hands events on; those that matter it writes to standard error when nobody takes them.

    Args:
        send: Takes an event; None while nobody can.
    """

    def __init__(self, send: Callable[[str], object] | None = None) -> None:
        self.send = send

    def __call__(self, event: LogEvent) -> None:
        """Hand one event on."""
        if self.send is not None:
            self.send(pack_event(event))
        elif event.get("log_level", LogLevel.info) >= LogLevel.warn and sys.__stderr__ is not None:
            sys.__stderr__.write(f"{formatEvent(event)}\n")


def pack_event(event: LogEvent) -> str:
    """Write an event as JSON."""
    failure = event.get("log_failure") or event.get("failure")
    level = event.get("log_level")
    return json.dumps(
        {
            "text": formatEvent(event),
            "level": level.name if level is not None else "info",
            "namespace": safe_str(event.get("log_namespace", "-")),
            "system": _system(event),
            "time": event.get("log_time"),
            "failure": _pack_failure(failure) if isinstance(failure, Failure) else None,
            "fields": {
                key: value
                for key, value in event.items()
                if isinstance(value, str | int | float | bool | None)
                and not key.startswith("log_")
                and key not in _OLD_FIELDS
            },
        }
    )


#: What events of Twisted's old kind have besides.
_OLD_FIELDS = {"message", "isError", "system", "time", "format", "why"}


def _system(event: LogEvent) -> str | None:
    system = event.get("log_system", event.get("system"))
    return None if system is None else safe_str(system)


def _pack_failure(failure: Failure) -> dict[str, Any]:
    frames = failure.frames
    if len(frames) > 2 * _CALLS:
        frames = [*frames[:_CALLS], *frames[-_CALLS:]]
    kind = failure.type
    return {
        "type": qual(kind) if isinstance(kind, type) else safe_str(kind),
        "value": safe_str(failure.value),
        "frames": [[str(name), str(file), line] for name, file, line, *_ in frames],
    }


class RemoteError(Exception):
    """What was raised in a worker; it stands in for the exception in what is logged."""


def log_event(packed: str, number: int | None, publisher: LogPublisher = globalLogPublisher) -> None:
    """Log what a worker has logged.

    Args:
        packed: What `pack_event` has written.
        number: Which worker; None for the one that stands by.
        publisher: Where to.
    """
    said = json.loads(packed)
    who = f"worker {number}" if number is not None else "spare worker"
    event: LogEvent = {
        **said["fields"],
        "log_level": LogLevel.levelWithName(said["level"]),
        "log_namespace": said["namespace"],
        "log_time": said["time"] or time.time(),
        "log_format": "{worker}: {log_said}",
        "log_logger": _logger,
        "log_source": None,
        PASSED: True,
        "worker": who,
        "log_said": said["text"],
    }
    if said["system"] is not None:
        event["log_system"] = said["system"]
    if said["failure"] is not None:
        event["log_failure"] = _unpack_failure(said["failure"])
    publisher(event)


_logger = Logger(namespace="echosvc.workers")


def _unpack_failure(packed: dict[str, Any]) -> Failure:
    module, _, name = packed["type"].rpartition(".")
    failure = Failure(RemoteError(packed["value"]))
    failure.type = type(name, (RemoteError,), {"__module__": module})
    failure.frames = [(name, file, line, (), ()) for name, file, line in packed["frames"]]
    return failure
