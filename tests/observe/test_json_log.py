"""Tests of the log as JSON."""

from __future__ import annotations

import io
import json
import logging
import sys
import syslog
from math import inf
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    LegacyLogObserverWrapper,
    Logger,
    LogLevel,
    LogPublisher,
    textFileLogObserver,
)
from twisted.python.failure import Failure
from twisted.python.syslog import SyslogObserver
from twisted.trial.unittest import SynchronousTestCase

from echosvc.observe import LogGuard
from echosvc.observe.json_log import JsonLog, json_line, observer
from tests.doubles import FakeReactor
from tests.observe.log_sinks import SINKS, Lines, old_publisher

NOON = 1_763_719_200.1239
"""2025-11-21 10:00:00.1239 UTC."""


class Unspeakable:
    """Nothing can be said of it."""

    def __str__(self) -> str:
        """Fail."""
        raise ValueError("no")

    __repr__ = __str__


def written(**event: Any) -> dict[str, Any]:
    """What an event is as JSON: one line of ASCII, which has one object."""
    event = {"log_time": NOON, "log_level": LogLevel.info, "log_namespace": "echosvc", **event}
    line = json_line(event)
    assert line is not None
    assert line.isascii()
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    found: dict[str, Any] = json.loads(line, parse_constant=no_constant)
    return found


def no_constant(name: str) -> None:
    """Refuse what Python's JSON has and JSON has not."""
    raise AssertionError(name)


def failure(problem: Exception) -> Failure:
    """An exception as it is logged."""
    try:
        raise problem
    except type(problem):
        return Failure()


class JsonLineTests(SynchronousTestCase):
    """What one line says."""

    def test_an_event(self) -> None:
        """The time in UTC with milliseconds, the level, the logger, the message, and the fields that it was made of."""
        found = written(log_format="{where}: {count} dropped", where="UDP", count=3)

        self.assertEqual(
            {
                "time": "2025-11-21T10:00:00.123Z",
                "level": "info",
                "logger": "echosvc",
                "message": "UDP: 3 dropped",
                "where": "UDP",
                "count": 3,
            },
            found,
        )
        self.assertEqual(["time", "level", "logger", "message"], list(found)[:4])

    def test_levels_are_words(self) -> None:
        """Not objects; what has none is information."""
        for level, word in (
            (LogLevel.critical, "critical"),
            (LogLevel.warn, "warn"),
            (None, "info"),
            (7, "info"),
        ):
            self.assertEqual(word, written(log_format="x", log_level=level)["level"])

    def test_fields_keep_their_type(self) -> None:
        """As far as JSON has it; everything else is text, infinity and huge numbers included."""
        fields = {
            "none": (None, None),
            "yes": (True, True),
            "number": (2**63 - 1, 2**63 - 1),
            "real": (0.5, 0.5),
            "huge": (2**63, str(2**63)),
            "infinite": (inf, "inf"),
            "bytes": (b"a\xff", r"a\xff"),
            "level": (LogLevel.warn, str(LogLevel.warn)),
            "list": ([1, "x"], "[1, 'x']"),
            "signal": (logging.INFO, 20),
        }
        found = written(log_format="x", **{name: value for name, (value, _) in fields.items()})

        for name, (_, expected) in fields.items():
            self.assertEqual(expected, found["_level" if name == "level" else name], name)

    def test_fields_never_overwrite_what_every_line_has(self) -> None:
        """They are written under another name."""
        found = written(log_format="x", level=3, logger="y", exception="z")

        self.assertEqual(("info", "echosvc"), (found["level"], found["logger"]))
        self.assertEqual((3, "y", "z"), (found["_level"], found["_logger"], found["_exception"]))

    def test_what_cannot_be_said_loses_no_line(self) -> None:
        """A field whose own methods fail is told as far as that is possible."""
        self.assertIn("Unspeakable", written(log_format="x", thing=Unspeakable())["thing"])
        self.assertIn("MESSAGE LOST", written(log_format="{thing}", thing=Unspeakable())["message"])
        self.assertIn("number", written(log_format="x", number=10**5000))

    def test_no_time(self) -> None:
        """An event without a time that makes sense is of now."""
        for none in (None, "soon", inf, 1e300):
            self.assertRegex(written(log_format="x", log_time=none)["time"], r"^20\d\d-.*Z$")

    def test_nothing_to_say(self) -> None:
        """An event without a message is no line, as in a text log."""
        self.assertIsNone(json_line({"log_level": LogLevel.info, "count": 1}))

    def test_exceptions_are_text(self) -> None:
        """The message stays one line; the traceback has a field of its own, and ends without a line end."""
        found = written(
            log_format="{where}: not served", log_failure=failure(ValueError("bad\nluck")), where="TCP"
        )

        self.assertEqual("TCP: not served", found["message"])
        self.assertTrue(found["exception"].startswith("Traceback (most recent call last):\n"), found)
        self.assertTrue(found["exception"].endswith(r"builtins.ValueError: bad\nluck"), found)
        self.assertNotIn("log_failure", found)

    def test_exceptions_without_a_word(self) -> None:
        """The exception is the message."""
        found = written(log_format="", log_failure=failure(ValueError("bad")))

        self.assertEqual("Unhandled Error: ValueError: bad", found["message"])

    def test_events_of_the_old_kind(self) -> None:
        """What `twisted.python.log` logs is told the same way, without what it says twice, and who was served."""
        sink = Lines()
        old = old_publisher(LogPublisher(sink))
        old.msg("hello", system="Echo,3,192.0.2.1", peer="x")
        old.msg(failure=failure(ValueError("bad")), why="while closing", isError=1)  # as `err` does
        old.msg(failure=failure(ValueError("worse")), why=None, isError=1)
        said, closing, unsaid = (json.loads(json_line(each) or "") for each in sink.events)

        self.assertEqual(("hello", "x", "Echo,3,192.0.2.1"), (said["message"], said["peer"], said["system"]))
        self.assertEqual({"time", "level", "logger", "message", "system", "peer"}, set(said))
        self.assertEqual("while closing: ValueError: bad", closing["message"])
        self.assertEqual("Unhandled Error: ValueError: worse", unsaid["message"])
        self.assertEqual("critical", closing["level"])
        self.assertTrue(closing["exception"].endswith("builtins.ValueError: bad"))
        self.assertEqual({"time", "level", "logger", "message", "why", "exception"}, set(closing))

    @given(st.text(), st.text(), st.binary())
    def test_anything(self, text: str, name: str, data: bytes) -> None:
        """Whatever anybody has sent, it is one line of printable ASCII that every reader of JSON takes."""
        found = written(
            log_format="{text}",
            text=text,
            data=data,
            problem=name,
            log_system=text,
            log_failure=failure(ValueError(name)),
        )

        json.dumps(found, ensure_ascii=False).encode()  # fails for half a surrogate pair

    @given(st.dictionaries(st.text(min_size=1), st.integers()))
    def test_any_names(self, fields: dict[str, int]) -> None:
        """Fields have whatever names their authors liked."""
        event: dict[str, Any] = {**fields, "log_format": "x", "log_namespace": "y"}

        self.assertEqual("x", json.loads(json_line(event) or "")["message"])


class JsonLogTests(SynchronousTestCase):
    """What twistd logs to is made to write JSON."""

    def test_observers_of_twistd(self) -> None:
        """A file, standard output and syslog write plain JSON, and afterwards what they wrote before."""
        for sink in ("--logfile", "--syslog"):
            file = io.StringIO()
            publisher = LogPublisher(SINKS[sink](file))
            log, switch = Logger("there", observer=publisher), JsonLog(publisher)
            log.info("before")
            self.assertTrue(switch.start(), sink)
            log.info("at {port}", port=7)
            log.failure("bad", failure(ValueError("luck")))
            switch.stop()
            log.info("after")
            before, *lines, after = file.getvalue().splitlines()
            found = [json.loads(each) for each in lines]

            self.assertEqual(["at 7", "bad"], [each["message"] for each in found], sink)
            self.assertEqual({"time", "level", "logger", "message", "port"}, set(found[0]), sink)
            self.assertIn("ValueError: luck", found[1]["exception"])
            self.assertEqual(("before", "after"), (before.split()[-1], after.split()[-1]))

    def test_syslog_knows_how_bad_it_is(self) -> None:
        """Twisted's own priorities are information and alert."""
        sent: list[tuple[int, str]] = []

        class Syslog(SyslogObserver):
            def __init__(self) -> None:
                self.syslog = lambda *what: sent.append(what)

        publisher = LogPublisher(LegacyLogObserverWrapper(Syslog().emit))  # type: ignore[arg-type]  # as twistd does
        JsonLog(publisher).start()
        there = Logger("there", observer=publisher)
        there.debug("x")
        there.warn("x")
        there.error("x")
        there.info("")

        self.assertEqual([syslog.LOG_DEBUG, syslog.LOG_WARNING, syslog.LOG_ERR], [each for each, _ in sent])

    def test_behind_a_filter(self) -> None:
        """As twist has it: levels that are not wanted stay away."""
        file = io.StringIO()
        publisher = LogPublisher(FilteringLogObserver(textFileLogObserver(file), []))

        self.assertTrue(JsonLog(publisher).start())
        Logger("there", observer=publisher).info("x")
        self.assertEqual("x", json.loads(file.getvalue())["message"])

    def test_again(self) -> None:
        """To begin twice is to begin once."""
        file = io.StringIO()
        publisher = LogPublisher(*(SINKS[sink](file) for sink in ("--logfile", "--syslog")))
        switch = JsonLog(publisher)
        self.assertEqual((True, True), (switch.start(), switch.start()))
        switch.stop()
        Logger("there", observer=publisher).info("x")

        self.assertNotIn("{", file.getvalue())

    def test_observers_of_others(self) -> None:
        """Those that write no lines, or in a way that nobody knows, are left alone, and that is told."""
        sink = Lines()
        publisher = LogPublisher(sink, LegacyLogObserverWrapper(sink))  # type: ignore[arg-type]  # of no class that it knows

        self.assertFalse(JsonLog(publisher).start())

    def test_from_the_first_line(self) -> None:
        """The observer for ``twistd --logger`` writes JSON to standard output, and is left as it is."""
        file = io.StringIO()
        self.patch(sys, "stdout", file)
        publisher = LogPublisher(made := observer())
        switch = JsonLog(publisher)
        self.assertTrue(switch.start())
        switch.stop()
        Logger("there", observer=publisher).info("x")

        self.assertIsInstance(made, FileLogObserver)
        self.assertEqual("x", json.loads(file.getvalue())["message"])


class GuardedTests(SynchronousTestCase):
    """The guard sees to what is logged before it becomes JSON."""

    def setUp(self) -> None:
        """Guard a publisher that writes to memory."""
        self.file = io.StringIO()
        self.publisher = LogPublisher(textFileLogObserver(self.file))
        self.log = Logger("somebody", observer=self.publisher)
        self.reactor: Any = FakeReactor()
        self.guard = LogGuard(self.reactor, self.publisher)

    def messages(self) -> list[str]:
        """What was logged."""
        return [json.loads(each)["message"] for each in self.file.getvalue().splitlines()]

    def test_json_while_it_guards(self) -> None:
        """A flood is held back, what is hostile is escaped; and when it stops, the log is text again."""
        self.guard.write_json(wanted=True)
        self.guard.start()
        for _ in range(100):
            self.log.info("{x}", x="a\nb")
        self.guard.stop()
        lines = self.messages()
        self.log.info("text")

        self.assertEqual(r"a\nb", lines[0])
        self.assertTrue(lines[-1].startswith("… and 95 more"), lines)
        self.assertEqual(6, len(lines))
        self.assertTrue(self.file.getvalue().endswith(" text\n"))

    def test_to_the_last_line(self) -> None:
        """What twistd says when the process ends is JSON, too."""
        self.guard.start()
        self.guard.write_json(wanted=True)
        for function, args, kwargs in self.reactor.triggers["before"]["shutdown"]:
            function(*args, **kwargs)
        self.guard.stop()
        self.log.info("Server Shut Down.")

        self.assertEqual(["Server Shut Down."], self.messages())

    def test_another_wish(self) -> None:
        """It may be text again, and JSON again, while the service runs."""
        for wanted in (True, False, True):
            self.guard.write_json(wanted=wanted)
            self.log.info("x")
        kinds = [line.startswith("{") for line in self.file.getvalue().splitlines()]

        self.assertEqual([True, False, True], kinds)

    def test_nobody_who_can(self) -> None:
        """Where no observer can write JSON, the log says what to do."""
        sink = Lines()
        publisher = LogPublisher(sink)
        LogGuard(self.reactor, publisher).write_json(wanted=True)

        self.assertIn("--logger", sink.lines[0])
