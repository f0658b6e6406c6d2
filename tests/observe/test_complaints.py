"""Tests of what is not as it should be, in the log."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from echosvc.observe import Complaints
from tests.observe.test_drops import Lines


class Listener:
    """A listener, as far as complaints can see."""

    where = "TCP [::]:7"

    def __init__(self) -> None:
        self.found: list[str] = []

    def warnings(self) -> list[str]:
        """Return what the test has put in."""
        return list(self.found)


class ComplaintsTests(SynchronousTestCase):
    """What begins to be wrong while a service runs is said, and said once."""

    def setUp(self) -> None:
        """Watch one listener."""
        self.log = Lines()
        self.clock = Clock()
        self.listener = Listener()
        self.listener.found = ["one"]
        self.complaints = Complaints(self.clock, Logger(namespace="test", observer=self.log))
        self.complaints.tell(self.listener)
        self.complaints.start()

    def test_all_is_told_at_first(self) -> None:
        """And again when it is asked for, as after a reload."""
        self.complaints.tell(self.listener)

        self.assertEqual(self.log.lines, ["TCP [::]:7: one"] * 2)

    def test_what_comes_later_is_told_within_the_hour(self) -> None:
        """A certificate expires for months without a reload; what was told already is not repeated."""
        self.listener.found = ["one", "two"]
        self.clock.pump([3599, 1])
        self.clock.pump([3600] * 24)

        self.assertEqual(self.log.lines, ["TCP [::]:7: one", "TCP [::]:7: two"])

    def test_what_comes_back_is_told_again(self) -> None:
        """It was mended in between."""
        for found in ([], ["one"], ["one"]):
            self.listener.found = found
            self.clock.advance(3600)

        self.assertEqual(self.log.lines, ["TCP [::]:7: one"] * 2)

    def test_a_listener_that_is_no_more(self) -> None:
        """Nothing is said of it; nor of any after the end."""
        other = Listener()
        other.found = ["three"]
        self.complaints.tell(other)
        self.complaints.forget(self.listener)
        self.listener.found = ["two"]
        self.clock.advance(3600)
        self.complaints.stop()

        self.assertEqual(self.log.lines, ["TCP [::]:7: one", "TCP [::]:7: three"])
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_one_that_cannot_be_looked_at(self) -> None:
        """It is logged, the others are looked at, and so is this one an hour later."""
        other = Listener()
        other.where = "UDP [::]:7"
        self.complaints.tell(other)
        warnings = self.listener.warnings
        self.listener.warnings = _fail  # type: ignore[method-assign]
        other.found = ["two"]
        self.clock.advance(3600)
        self.listener.warnings = warnings  # type: ignore[method-assign]
        self.listener.found = ["one", "three"]
        self.clock.advance(3600)

        self.assertEqual(
            self.log.lines,
            ["TCP [::]:7: one", "TCP [::]:7: not looked at", "UDP [::]:7: two", "TCP [::]:7: three"],
        )

    def test_stopping_twice(self) -> None:
        """The end comes once, whatever has ended before."""
        self.complaints.stop()
        self.complaints.stop()

        self.assertEqual([], self.clock.getDelayedCalls())


def _fail() -> list[str]:
    raise OSError("Bad file descriptor")
