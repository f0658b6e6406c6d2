"""Tests of what makes log events safe to print, as Twisted's own observers print them."""

from __future__ import annotations

import io
import unicodedata
from typing import Any, ClassVar

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import LegacyLogObserverWrapper, LogEvent, Logger, LogPublisher, eventAsText, formatEvent
from twisted.python.failure import Failure
from twisted.python.log import textFromEventDict
from twisted.trial.unittest import SynchronousTestCase

from echosvc.observe.safe_log import FIELD, FRAMES, LINE, safe_event, shown
from tests.observe.log_sinks import SINKS, Lines, old_publisher

#: A new line with what looks like an entry, colours, NUL, C1, right-to-left override, line separator, tag, half a surrogate.
NASTY = "a\r\n2026-01-01 [x] forged\x1b[2J\0\x85\x9b\u202e\u2028\U000e0041\udc80b"
HARMLESS = r"a\r\n2026-01-01 [x] forged\x1b[2J\x00\x85\x9b\u202e\u2028\U000e0041\udc80b"

#: What must never reach a log: what the categories of Unicode call control, format, separator and surrogate.
FORBIDDEN = {"Cc", "Cf", "Zl", "Zp", "Cs"}


def failure(said: str) -> Failure:
    """A caught exception that says this."""
    try:
        raise ValueError(said)  # noqa: TRY301  # it should have a traceback
    except ValueError:
        return Failure()


def recursion(depth: int) -> Failure:
    """An exception from deep down."""

    def down(left: int) -> None:
        if left == 0:
            raise ValueError("deep")
        down(left - 1)

    try:
        down(depth)
    except ValueError:
        return Failure()
    raise AssertionError


class Holder:
    """An object of somebody's whose text is the peer's."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        """Show it."""
        return self.text


def whole(event: LogEvent) -> str:
    """The text of an event with its traceback, without the time and the system."""
    return eventAsText(event, includeTimestamp=False, includeSystem=False)


class ShownTests(SynchronousTestCase):
    """Text on one line."""

    def test_leaves_honest_text_alone(self) -> None:
        """Letters of any script, spaces, punctuation and backslashes are as they were, and cost nothing."""
        text = "Grüße, \\o/ 你好 עברית 1 €"

        self.assertIs(shown(text), text)

    def test_escapes_as_python_does(self) -> None:
        """What cannot be printed can be read."""
        self.assertEqual(HARMLESS, shown(NASTY))

    def test_nothing_that_hides_or_moves_is_left(self) -> None:
        """Of all characters of Unicode, none of a forbidden category gets through."""
        every = "".join(map(chr, range(0x110000)))
        left = {unicodedata.category(each) for each in set(shown(every, len(every) * 10))}

        self.assertEqual(set(), left & FORBIDDEN)

    def test_cuts_what_is_too_long(self) -> None:
        """A datagram of 64 KiB is not a log entry; what is left says how long it was."""
        self.assertEqual(f"{'x' * FIELD}… (65507 characters in all)", shown("x" * 65507))

    def test_cuts_what_becomes_too_long(self) -> None:
        """Ten times as long when it is escaped, it is still bounded."""
        line = shown("\U000e0041" * FIELD)

        self.assertTrue(line.endswith(f"… ({FIELD} characters in all)"))
        self.assertLess(len(line), FIELD + 40)

    def test_shown_twice_is_shown_once(self) -> None:
        """Escapes are not escaped."""
        self.assertEqual(HARMLESS, shown(shown(NASTY)))


class SafeEventTests(SynchronousTestCase):
    """Events of Twisted's loggers, as observers get them."""

    def emitted(self, log: str, **fields: Any) -> LogEvent:
        """One event, as a logger makes it, made safe."""
        lines = Lines()
        Logger(namespace="test", observer=lines).info(log, **fields)
        self.event = lines.events[0]
        return safe_event(self.event)

    def test_an_honest_event_is_passed_on_as_it_is(self) -> None:
        """The very same object: whoever has put something into it finds it."""
        safe = self.emitted("{where}: {what}", where="TCP", what=[b"\0"], log_failure=failure("bad"))

        self.assertIs(safe, self.event)

    def test_fields_are_escaped_and_the_format_is_kept(self) -> None:
        """Who groups entries by their format still can."""
        safe = self.emitted("got {what}", what=NASTY)

        self.assertEqual(("got {what}", HARMLESS), (safe["log_format"], safe["what"]))
        self.assertEqual(f"got {HARMLESS}", formatEvent(safe))
        self.assertEqual(NASTY, self.event["what"])

    def test_what_an_object_shows_is_escaped(self) -> None:
        """A field need not be text."""
        self.assertEqual(f"got {HARMLESS}", formatEvent(self.emitted("got {what}", what=Holder(NASTY))))

    def test_a_format_with_the_peers_text_in_it_is_escaped(self) -> None:
        """An f-string where a format should be is an everyday mistake."""
        self.assertEqual(f"got {HARMLESS}", formatEvent(self.emitted(f"got {NASTY}")))

    def test_an_event_that_cannot_be_formatted_is_escaped(self) -> None:
        """Twisted then shows all that is in it."""
        line = formatEvent(self.emitted(f"{{missing}} {NASTY}", what=Holder(NASTY)))

        self.assertTrue(line.startswith("Unable to format event"), line)
        self.assertTrue(line.isprintable(), line)

    def test_a_flattened_event_is_escaped(self) -> None:
        """Observers prefer what was formatted before, and what that is of."""
        self.event = self.emitted("got {what}", what=Holder("x"))
        self.event["log_flattened"] = {"what!s:": NASTY}

        self.assertEqual(f"got {HARMLESS}", formatEvent(safe_event(self.event)))

    def test_the_system_is_escaped(self) -> None:
        """The name of a connection may have the peer's in it; whoever makes it may return anything."""
        self.assertEqual(HARMLESS, self.emitted("x", log_system=NASTY)["log_system"])
        self.assertEqual("5", self.emitted("x", log_system=5)["log_system"])
        self.assertIsNone(self.emitted("x", log_system=None)["log_system"])

    def test_a_long_line_is_cut(self) -> None:
        """Even if no field of it is too long."""
        line = formatEvent(self.emitted("{a}{a}{a}", a="x" * FIELD))

        self.assertEqual(f"{'x' * LINE}… ({3 * FIELD} characters in all)", line)

    def test_a_line_may_be_longer_than_a_field(self) -> None:
        """A format is no field; cut in the middle of one, it could not be formatted."""
        safe = self.emitted("x" * (FIELD + 1))

        self.assertIs(safe, self.event)

    def test_what_raises_when_it_is_looked_at_is_still_an_entry(self) -> None:
        """Who logs is not hit by what is logged, and the log says that something is missing."""

        class Hostile(str):
            __slots__ = ()

            def isprintable(self) -> bool:
                raise ZeroDivisionError(NASTY)

        self.assertEqual(
            "an event of test cannot be logged: ZeroDivisionError",
            formatEvent(self.emitted("x", what=Hostile("x"))),
        )


class SafeFailureTests(SynchronousTestCase):
    """Tracebacks: theirs are the lines, not the peer's."""

    def traceback(self, said: str) -> list[str]:
        """The lines of a traceback of an exception that says this, made safe."""
        return whole(safe_event({"log_format": "oops", "log_failure": failure(said)})).splitlines()

    def test_a_traceback_keeps_its_lines(self) -> None:
        """As many as that of an exception that says something short, and the same up to the last."""
        honest, nasty = self.traceback("bad"), self.traceback(NASTY)

        self.assertEqual(honest[:-1], nasty[:-1])
        self.assertEqual(5, len(nasty))
        self.assertEqual(f"builtins.ValueError: {HARMLESS}", nasty[-1])

    def test_the_name_of_an_exception_is_escaped(self) -> None:
        """Classes may be made with whatever name somebody sends, in a module of any name; what it is caught as remains."""
        original = type(NASTY.replace("\0", "").replace("\udc80", ""), (ValueError,), {"__module__": NASTY})(
            "bad"
        )
        safe = safe_event({"log_format": "", "log_failure": Failure(original, type(original), None)})

        last = whole(safe).splitlines()[-1]
        self.assertTrue(last.isprintable(), last)
        self.assertRegex(last, r"a\\r\\n2026.*b\.a\\r\\n2026.*b: bad$")
        self.assertIs(original, safe["log_failure"].value)
        self.assertTrue(safe["log_failure"].check(ValueError))

    def test_a_failure_that_came_over_the_network_has_only_the_name_of_its_type(self) -> None:
        """Perspective Broker's; it is still an entry."""
        copied = failure(NASTY)
        copied.type = "their.Problem"  # type: ignore[assignment]  # what Perspective Broker does
        safe = safe_event({"log_format": "", "log_failure": copied})["log_failure"]

        self.assertEqual(("their.Problem", HARMLESS), (safe.type, str(safe.value)))

    def test_an_event_with_a_nameless_problem_is_still_an_entry(self) -> None:
        """What looking at it raises may have any name, too."""
        problem = type("Problem\x1b", (Exception,), {})

        class Hostile(str):
            __slots__ = ()

            def isprintable(self) -> bool:
                raise problem

        line = formatEvent(safe_event({"log_format": "x", "what": Hostile("x")}))

        self.assertTrue(line.endswith(r": Problem\x1b"), line)

    def test_the_failure_itself_is_not_changed(self) -> None:
        """Somebody may still be asked what to do about it."""
        original = failure(NASTY)
        safe = safe_event({"log_format": "", "log_failure": original})["log_failure"]

        self.assertEqual(NASTY, str(original.value))
        self.assertEqual((ValueError, original.tb), (safe.type, safe.getTracebackObject()))

    def test_a_deep_recursion_shows_both_its_ends(self) -> None:
        """A peer that sends something nested gets no more than a screen of log for it."""
        deep = whole(safe_event({"log_format": "", "log_failure": recursion(900)})).splitlines()
        calls = [line for line in deep if line.startswith("  File")]

        self.assertEqual(FRAMES + 1, len(calls))
        self.assertIn(f"… {902 - FRAMES} calls are left out …", calls[FRAMES // 2])
        self.assertEqual("builtins.ValueError: deep", deep[-1])
        self.assertEqual(FRAMES + 1, whole({"log_failure": recursion(FRAMES - 1)}).count("  File"))

    def test_an_honest_exception_from_deep_down_is_logged_itself(self) -> None:
        """Whoever collects exceptions gets this one, with the fewer calls."""
        deep = recursion(900)

        self.assertIs(deep.value, safe_event({"log_format": "", "log_failure": deep})["log_failure"].value)

    def test_forty_calls_are_shown(self) -> None:
        """What is not too deep is left as it is."""
        event = {"log_format": "", "log_failure": recursion(FRAMES - 2)}

        self.assertIs(safe_event(event), event)

    def test_names_in_a_traceback_are_escaped(self) -> None:
        """The path of a file need not be text."""
        code = compile("def f():\n raise ValueError('x')\nf()", "/tmp/\x1b\udc80.py", "exec")
        try:
            exec(code)
        except ValueError:
            event = {"log_format": "", "log_failure": Failure()}

        self.assertIn('File "/tmp/\\x1b\\udc80.py", line 2, in f', whole(safe_event(event)))


class OldEventTests(SynchronousTestCase):
    """Events of twisted.python.log, which most of Twisted still uses, and for observers that know no others."""

    def published(self, *message: str, **fields: Any) -> LogEvent:
        """One event, as `log.msg` makes it, made safe."""
        lines = Lines()
        old_publisher(LogPublisher(lines)).msg(*message, **fields)
        return safe_event(lines.events[0])

    def test_a_message_is_escaped_for_both_kinds_of_observers(self) -> None:
        """They find it in different places."""
        safe = self.published("got", NASTY, system=NASTY)

        self.assertEqual(f"got {HARMLESS}", formatEvent(safe))
        self.assertEqual(f"got {HARMLESS}", textFromEventDict(safe))
        self.assertEqual((HARMLESS, HARMLESS), (safe["system"], safe["log_system"]))

    def test_a_failure_keeps_its_lines_for_both_kinds_of_observers(self) -> None:
        """Its reason and what it says are one line each."""
        safe = self.published(failure=failure(NASTY), why=NASTY, isError=1)
        lines = formatEvent(safe).splitlines()

        self.assertEqual(textFromEventDict(safe), formatEvent(safe))
        self.assertEqual([HARMLESS, "Traceback (most recent call last):"], lines[:2])
        self.assertEqual(5, len(lines))
        self.assertEqual(f"builtins.ValueError: {HARMLESS}", lines[-1])

    def test_a_reason_that_is_not_text_is_escaped(self) -> None:
        """Twisted takes bytes, too."""
        safe = self.published(failure=failure("x"), why=b"a\x1bb", isError=1)

        self.assertEqual("a\\x1bb", formatEvent(safe).splitlines()[0])

    def test_an_honest_failure_is_passed_on_as_it_is(self) -> None:
        """Its text has lines, which are not the peer's."""
        lines = Lines()
        old_publisher(LogPublisher(lines)).msg(failure=failure("x"), isError=1)

        self.assertIs(safe_event(lines.events[0]), lines.events[0])

    def test_a_failure_that_is_no_error_is_only_a_field(self) -> None:
        """What is printed is the message."""
        safe = self.published(failure=failure("x"), format="got %(what)s", what=Holder(NASTY))

        self.assertEqual((f"got {HARMLESS}",) * 2, (formatEvent(safe), textFromEventDict(safe)))

    def test_what_an_old_observer_has_seen_is_still_safe(self) -> None:
        """It adds fields to an event of the new kind, which others see after it."""
        event = {"log_format": "got {what}", "what": NASTY, "log_failure": failure(NASTY), "log_time": 0.0}
        LegacyLogObserverWrapper(lambda _: None)(event)  # type: ignore[arg-type]  # any callable will do
        safe = safe_event(event)

        self.assertEqual(f"got {HARMLESS}", formatEvent(safe))
        self.assertEqual(5, len(str(textFromEventDict(safe)).splitlines()))

    def test_a_message_beside_a_failure_is_escaped(self) -> None:
        """Then it is what is printed."""
        safe = self.published(NASTY, failure=failure("x"), isError=1)

        self.assertEqual(HARMLESS, textFromEventDict(safe))


class SinkTests(SynchronousTestCase):
    """Whatever the user logs to, nothing gets there."""

    peers: ClassVar = st.text(
        st.one_of(st.sampled_from("\r\n\x1b\0\x85\u202e\u2028\u200b\ufeff\udc80{}%"), st.characters()),
        min_size=1,
    )

    def test_nothing_nasty_reaches_any_sink(self) -> None:
        """In fields, formats, messages, systems, reasons and exceptions, each to each kind of log."""
        for name in SINKS:
            self.check(name, NASTY)

    @given(text=peers)
    @settings(deadline=None)
    def test_nothing_at_all_reaches_any_sink(self, text: str) -> None:
        """Whatever the peer says."""
        for name in SINKS:
            self.check(name, text)

    def check(self, name: str, text: str) -> None:
        """Log in every way to one sink, with the peer's text and with an honest one: both make as many lines."""
        nasty, honest = self.logged(name, text), self.logged(name, "x")

        forbidden = {unicodedata.category(each) for each in nasty.replace("\n", "").replace("\t", "")}
        self.assertEqual(set(), forbidden & FORBIDDEN, nasty)
        self.assertEqual(honest.count("\n"), nasty.count("\n"), nasty)
        nasty.encode()

    def logged(self, name: str, text: str) -> str:
        """What is then written."""
        file = io.StringIO()
        sink = SINKS[name](file)
        publisher = LogPublisher(lambda event: sink(safe_event(event)))  # type: ignore[arg-type]  # any callable will do
        log = Logger(namespace="test", observer=publisher)
        log.info("{x}", x=text)
        log.info("{x}", x=Holder(text), log_system=text)
        log.info(text)
        log.failure("{x}", failure(text), x=text)
        log.failure("", failure(text))
        old = old_publisher(publisher)
        old.msg("-", text, system=text)
        old.msg(format="%(x)s", x=text)
        old.msg(failure=failure(text), why=text, isError=1)
        old.msg(failure=failure(text), isError=1, system=text)
        return file.getvalue()
