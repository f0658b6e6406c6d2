"""Tests of what holds floods of log entries back."""

from __future__ import annotations

import io
import logging
import sys
import traceback
import warnings
from functools import partial
from typing import Any

from twisted.logger import (
    LimitedHistoryLogObserver,
    LogBeginner,
    Logger,
    LoggingFile,
    LogLevel,
    LogPublisher,
    eventAsText,
)
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from echosvc.observe.flood import ENTRIES, KINDS, PRINTED, RECALLED, Flood
from tests.observe.log_sinks import Lines, old_publisher


class FloodCase(SynchronousTestCase):
    """A logger whose entries pass a flood's gate."""

    def setUp(self) -> None:
        """Make them."""
        self.passed = Lines()
        self.flood = Flood(self.passed)
        self.publisher = LogPublisher(self.flood)
        self.somebody = Logger(namespace="somebody", observer=self.publisher)

    def lines(self) -> list[str]:
        """What has passed since the last call."""
        lines = self.passed.lines
        self.passed.events.clear()
        return lines


class FloodTests(FloodCase):
    """The first few, and then a count."""

    def say(self, what: str) -> None:
        """Log something, always from the same line of code."""
        self.somebody.warn("said {what}", what=what)

    def test_the_first_few_are_passed_on(self) -> None:
        """The very events; the rest of them are not."""
        for number in range(1000):
            self.say(str(number))

        self.assertEqual([f"said {number}" for number in range(ENTRIES)], self.lines())

    def test_the_rest_is_counted_once_a_minute(self) -> None:
        """With the level and the name of those that were held back, and the last one that was not."""
        for number in range(1000):
            self.say(str(number))
        self.lines()
        self.flood.report()

        (event,) = self.passed.events
        self.assertEqual(
            [f"… and {1000 - ENTRIES} more within a minute, like: said {ENTRIES - 1}"], self.lines()
        )
        self.assertEqual((LogLevel.warn, "somebody"), (event["log_level"], event["log_namespace"]))

    def test_nothing_is_said_where_nothing_was_held_back(self) -> None:
        """As many as are passed on are no flood."""
        for _ in range(ENTRIES):
            self.say("x")
        self.lines()
        self.flood.report()

        self.assertEqual([], self.lines())

    def test_a_lasting_flood_is_one_line_a_minute(self) -> None:
        """Not a few more whole ones in each."""
        for minute in range(3):
            for _ in range(100):
                self.say("x")
            self.flood.report()
            counted = 100 - ENTRIES * (minute == 0)
            self.assertEqual(f"… and {counted} more within a minute, like: said x", self.lines()[-1])
            self.assertEqual([], self.lines())

    def test_after_a_quiet_minute_all_is_as_at_first(self) -> None:
        """What is rare is logged whole."""
        for _ in range(100):
            self.say("x")
        self.flood.report()
        self.flood.report()
        self.lines()
        self.say("again")

        self.assertEqual(["said again"], self.lines())

    def test_a_report_is_of_bounded_length(self) -> None:
        """And safe to print."""
        for _ in range(ENTRIES + 1):
            self.say("\x1b" * 10000)
        self.lines()
        self.flood.report()

        line = self.lines()[0]
        self.assertIn(r"like: said \x1b\x1b", line)
        self.assertLess(len(line), RECALLED + 100)

    def test_a_report_recalls_an_exception(self) -> None:
        """By what was said of it, and by what it says itself."""
        for _ in range(ENTRIES + 1):
            try:
                raise ValueError("bad\n")  # noqa: TRY301  # by this line
            except ValueError:
                self.somebody.failure("{who} failed", who="somebody")
        self.lines()
        self.flood.report()

        self.assertEqual(
            [r"… and 1 more within a minute, like: somebody failed … builtins.ValueError: bad\n"],
            self.lines(),
        )

    def test_a_report_has_all_that_old_observers_want(self) -> None:
        """Also if what was held back had not."""
        for _ in range(ENTRIES + 1):
            self.publisher({"log_format": "x"})
        self.lines()
        self.flood.report()

        self.assertEqual(LogLevel.info, self.passed.events[0]["log_level"])
        self.assertIsInstance(self.passed.events[0]["log_time"], float)


class KindTests(FloodCase):
    """What is taken for the same."""

    def assertKinds(self, number: int) -> None:
        """Check how many kinds of entries were seen, each often enough to be held back."""
        self.assertEqual(number * ENTRIES, len(self.lines()))

    def test_what_is_said_makes_no_kind(self) -> None:
        """It may be the peer's."""
        for number in range(100):
            self.somebody.info(f"said {number}", who=number)

        self.assertKinds(1)

    def test_each_line_of_code_makes_one(self) -> None:
        """A flood of one does not hide another, in the new kind of log or the old."""
        old = old_publisher(self.publisher)
        for _ in range(100):
            self.somebody.info("one")
            self.somebody.info("one")
            old.msg("one")
            old.msg("one")

        self.assertKinds(4)

    def test_each_exception_makes_one(self) -> None:
        """By its class and the line that raised it, although all are logged by the same line."""

        def one(kind: type[Exception], what: object) -> None:
            raise kind(what)

        def other(what: object) -> None:
            raise ValueError(what)

        for number in range(100):
            for raising in (partial(one, KeyError), partial(one, ValueError), other):
                try:
                    raising(number)
                except (KeyError, ValueError):
                    self.somebody.failure("oops")

        self.assertKinds(3)

    def test_an_exception_makes_the_same_kind_however_it_came_there(self) -> None:
        """A peer that nests something chooses how deep it is."""

        def down(left: int) -> None:
            if left == 0:
                raise ValueError
            down(left - 1)

        for depth in range(50):
            try:
                down(depth)
            except ValueError:
                self.somebody.failure("oops")

        self.assertKinds(1)

    def test_an_exception_in_the_old_log_makes_one(self) -> None:
        """And one that was never raised makes one by its class."""
        old = old_publisher(self.publisher)
        for _ in range(100):
            for problem in (KeyError(), ValueError()):
                old.msg(failure=Failure(problem), isError=1)

        self.assertKinds(2)

    def test_each_listener_makes_one_for_our_own_lines(self) -> None:
        """A hundred listeners are said to listen, and one line a minute says what each has dropped."""
        ours = Logger(namespace="echosvc.service.EchoService", observer=self.publisher)
        for _ in range(100):
            for number in range(20):
                ours.info("{where}: dropped", where=number)
                ours.info("{listener}", listener=number)

        self.assertKinds(40)

    def test_fields_of_others_make_none(self) -> None:
        """They may be the peer's."""
        for number in range(100):
            self.somebody.info("x", where=number, listener=number)

        self.assertKinds(1)

    def test_a_table_of_kinds_is_bounded(self) -> None:
        """What comes when it is full is one kind, and counted."""
        ours = Logger(namespace="echosvc", observer=self.publisher)
        for _ in range(ENTRIES):
            for number in range(10 * KINDS):
                ours.info("x", where=number)

        self.assertKinds(KINDS + 1)
        self.flood.report()
        self.assertEqual([f"… and {(9 * KINDS - 1) * ENTRIES} more within a minute, like: x"], self.lines())

    def test_what_cannot_be_told_apart_is_one_kind(self) -> None:
        """Who logs is not hit by what is logged."""

        class Strange(Failure):
            def getTracebackObject(self) -> Any:
                raise ZeroDivisionError

        for _ in range(100):
            self.somebody.info("x", log_failure=Strange(ValueError()))
            self.somebody.info("x", log_failure=Strange(KeyError()))

        self.assertKinds(1)


class ReplayTests(FloodCase):
    """What is logged before there is anything to log to is kept, and logged then."""

    def test_all_of_it_gets_through(self) -> None:
        """From however many lines of code it was, one line logs it all now."""
        early = LimitedHistoryLogObserver(200)
        log = Logger(namespace="somebody", observer=early)
        log.info("one")
        for number in range(2 * ENTRIES):
            log.info("{number}", number=number)
        early.replayTo(self.publisher)

        self.assertEqual(["one", *map(str, range(2 * ENTRIES))], self.lines())


class PrintedTests(FloodCase):
    """What code prints where its output is a log."""

    def setUp(self) -> None:
        """Print into the log."""
        super().setUp()
        self.patch(sys, "stderr", LoggingFile(Logger(namespace="stderr", observer=self.publisher)))

    def test_a_printed_traceback_gets_through(self) -> None:
        """Each of its lines is an entry, and the last one is the one that matters."""
        for _ in range(ENTRIES):
            try:
                raise ValueError("bad")  # noqa: TRY301  # by this line
            except ValueError:
                traceback.print_exc()

        self.assertEqual(ENTRIES, self.lines().count("ValueError: bad"))

    def test_printing_is_held_back_too(self) -> None:
        """By the line of code that prints, not by that of the module which prints it."""
        for _ in range(2 * PRINTED):
            traceback.print_exception(ValueError("one"))
            traceback.print_exception(ValueError("other"))
            traceback.print_exception(ValueError("other"))

        self.assertEqual(3 * PRINTED, len(self.lines()))
        self.flood.report()
        self.assertEqual(f"… and {PRINTED} more within a minute, like: ValueError: one", self.lines()[0])

    def test_python_s_own_logging_is_told_apart(self) -> None:
        """Where nobody has told it otherwise, it prints, always with the same line of its own."""
        own = logging.Logger("test")  # noqa: LOG001  # not one that lives on when the test is over
        own.addHandler(logging.StreamHandler(sys.stderr))
        for _ in range(2 * PRINTED):
            own.warning("one")
            own.warning("other")

        self.assertEqual(2 * PRINTED, len(self.lines()))


class WarningTests(FloodCase):
    """What Python warns of where its warnings are logged."""

    def test_each_line_of_code_that_warns_makes_a_kind(self) -> None:
        """All pass through one line of Python's own."""
        beginner = LogBeginner(self.publisher, io.StringIO(), sys, warnings)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            self.patch(warnings, "showwarning", beginner.showwarning)
            for _ in range(100):
                warnings.warn("one", stacklevel=1)
                warnings.warn("other", stacklevel=1)

        self.assertEqual(2 * ENTRIES, len(self.lines()))


class TextTests(FloodCase):
    """What passes is untouched."""

    def test_a_traceback_passes_whole(self) -> None:
        """The first few are as they would be without us."""
        try:
            raise ValueError("bad")  # noqa: TRY301  # by this line
        except ValueError:
            self.somebody.failure("oops")

        self.assertIn("raise ValueError", eventAsText(self.passed.events[0]))
