"""Log events that are safe to print: whoever has sent what is in them, it ends no line, moves no cursor, hides nothing.

What is changed is the event, not what an observer makes of it, so that it holds for whatever observer the user has
chosen: a text file, syslog, JSON, one of their own. An event in which nothing has to change is passed on as it is.
"""

from __future__ import annotations

from typing import Any

from twisted.logger import LogEvent, LogLevel, formatEvent
from twisted.python.failure import Failure
from twisted.python.log import textFromEventDict
from twisted.python.reflect import safe_str

__all__ = ["safe_event", "shown"]

#: Characters of one field, or of what an exception says, before it is cut. A datagram may have 65507.
FIELD = 2000

#: Characters of a whole line: two fields and the words between.
LINE = 4000

#: Calls in a traceback before those in the middle are left out. A peer that sends something nested makes a thousand.
FRAMES = 40

#: Fields that observers print whatever their type.
_PRINTED = ("log_system", "system", "why")

#: Fields that are seen to as the line which they make.
_LINE_ITSELF = ("log_format", "log_text")


class Escaped(Exception):
    """What an exception has said, made safe to print; it stands in for the exception in what is logged."""


def shown(text: str, most: int = FIELD) -> str:
    r"""Write text as one line of printable characters.

    What Python's `str.isprintable` does not call printable becomes an escape as in Python: ``\n``, ``\x1b``, ``\u202e``.
    That is every control character, line and paragraph separator, surrogate, unassigned and private character, every
    invisible format character (bidirectional ones among them), and every space but the ordinary one.

    Args:
        text: Anybody's.
        most: Characters to keep; what is longer says how long it was.

    Returns:
        The same object if nothing had to be done.
    """
    if text.isprintable() and len(text) <= most:
        return text
    escaped = "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text[:most]
    )
    if len(text) <= most and len(escaped) <= most:
        return escaped
    return f"{escaped[:most]}… ({len(text)} characters in all)"


def safe_event(event: LogEvent) -> LogEvent:
    """Return an event that says the same and is safe to print.

    A traceback keeps its lines. Everything else is one line, for nobody knows who has broken it: a message that was made
    with an f-string is as much the peer's as the code's. Observers that print more than Twisted's do, such as the causes
    of an exception, have to see to that themselves.

    Args:
        event: Anybody's. It is not changed.

    Returns:
        The same object if nothing had to be done.
    """
    try:
        return _one_line(_safe_fields(event))
    except Exception as problem:  # noqa: BLE001  # somebody's __str__ or __format__; who logs must not be hit by it
        return {
            "log_format": "an event of {log_namespace} cannot be logged: {problem}",
            "log_level": LogLevel.critical,
            "log_namespace": shown(safe_str(event.get("log_namespace"))),
            "log_time": event.get("log_time", 0.0),
            "problem": shown(type(problem).__name__),
        }


def _safe_fields(event: LogEvent) -> LogEvent:
    changed: dict[str, Any] = {}
    for key, value in event.items():
        if isinstance(value, Failure):
            safe: Any = _safe_failure(value)
        elif key in _PRINTED and value is not None:
            safe = shown(value if isinstance(value, str) else safe_str(value))
        elif isinstance(value, str) and key not in _LINE_ITSELF:
            safe = shown(value)
        else:
            continue
        if safe is not value:
            changed[key] = safe
    return {**event, **changed} if changed else event


def _one_line(event: LogEvent) -> LogEvent:
    if _is_old_failure(event):
        # The text of an event of twisted.python.log was written, with its traceback, before anybody could look at it.
        text = textFromEventDict(event)
        return event if text == event["log_text"] else {**event, "log_text": text}
    text = formatEvent(event)
    line = shown(text, LINE)
    # An f-string with the peer's brace in it: Twisted's text observers say so, and its JSON observer would raise.
    if line is text and not text.startswith("Unable to format event "):
        return event
    safe = {**event, "log_format": "{log_text}", "log_text": line}
    safe.pop("log_flattened", None)  # would be preferred, and is of the old format
    if "message" in safe:  # likewise, for observers of the old kind
        safe["message"] = (line,)
    return safe


def _is_old_failure(event: LogEvent) -> bool:
    """Tell whether this is what `twisted.python.log.err` has made of a failure."""
    return (
        "failure" in event
        and not event.get("message")
        and bool(event.get("isError"))
        and event.get("log_format") == "{log_text}"
    )


def _safe_failure(failure: Failure) -> Failure:
    said = safe_str(failure.value)
    value = shown(said)
    frames = _safe_frames(failure.frames)
    kind = _safe_kind(failure.type)
    if value is said and frames is failure.frames and kind is failure.type:
        return failure
    safe = Failure.__new__(Failure)
    vars(safe).update(vars(failure))
    safe.parents = failure.parents  # what it may be checked for
    safe.frames, safe.type = frames, kind
    if value is not said:
        safe.value = Escaped(value)  # under the type of the real one, which is what is printed
    return safe


def _safe_kind(kind: Any) -> Any:
    """Keep a class whose name can be printed; else make one that only has the name, and is printed in its place."""
    if not isinstance(
        kind, type
    ):  # what came over Perspective Broker has only a name, and prints what its sender did
        return kind
    module, name = safe_str(kind.__module__), kind.__name__
    if module.isprintable() and name.isprintable():
        return kind
    return type(shown(name), (Escaped,), {"__module__": shown(module)})


def _safe_frames(frames: list[Any]) -> list[Any]:
    """Keep both ends of a deep recursion, and show names of files that are not even text."""
    safe = frames
    if len(frames) > FRAMES:
        left_out = f"… {len(frames) - FRAMES} calls are left out …"
        safe = [*frames[: FRAMES // 2], (left_out, "…", 0, (), ()), *frames[-FRAMES // 2 :]]
    if all(file.isprintable() for _, file, *_ in safe):
        return safe
    return [(name, shown(file), *rest) for name, file, *rest in safe]
