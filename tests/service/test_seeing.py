"""Tests of how a service is seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from echosvc.observe import ListenerSnapshot, Snapshot
from echosvc.service.seeing import Seeing


class FakeListener:
    """Has counted what a test says.

    Attributes:
        is_serving: What a test says.
        counted: Likewise.
    """

    def __init__(self, **counted: Any) -> None:
        self.is_serving = True
        self.counted = {"name": "echo", "protocol": "echo", "where": "here", "transport": "tcp", **counted}

    def snapshot(self) -> ListenerSnapshot:
        """Tell."""
        return ListenerSnapshot(**self.counted)


class FakeAdmin:
    """Shows nothing, and is asked for by nobody."""

    where = "http://127.0.0.1:9007/"

    def __init__(self) -> None:
        self.started: list[Any] = []
        self.stopped: Deferred[object] = Deferred()

    def start(self, reactor: Any, snapshots: Callable[[], Any], is_ready: Callable[[], bool]) -> None:
        """Remember."""
        self.started = [reactor, snapshots, is_ready]

    def stop(self) -> Deferred[object]:
        """Take as long as a test says."""
        return self.stopped

    def warnings(self) -> list[str]:
        """Have one."""
        return ["it is open to all"]


class SeeingTests(SynchronousTestCase):
    """Snapshots, and who shows them."""

    def setUp(self) -> None:
        """Make it, with a listener."""
        self.clock = Clock()
        self.admin = FakeAdmin()
        self.listeners: list[Any] = [FakeListener(opened=5)]

    def see(self, admin: Any = None) -> Seeing:
        """Begin."""
        seeing = Seeing(self.clock, admin, Logger(namespace="echosvc"))
        seeing.start(self.listeners, lambda: True)
        return seeing

    def opened(self, found: Sequence[ListenerSnapshot]) -> dict[str, int]:
        """How many connections each listener has had, by name."""
        self.assertEqual(len(found), len({each.name for each in found}))
        return {each.name: each.opened for each in found}

    def test_all_listeners_as_they_are(self) -> None:
        """Those that have come since, too."""
        seeing = self.see()
        self.assertEqual({"echo": 5}, self.opened(seeing.snapshot().listeners))
        self.listeners.append(FakeListener(name="lines", opened=2))

        self.assertEqual({"echo": 5, "lines": 2}, self.opened(seeing.snapshot().listeners))

    def test_what_was_replaced_goes_on_counting(self) -> None:
        """Together with its successor: a counter never goes back."""
        seeing = self.see()
        former = self.listeners.pop()
        former.is_serving = False
        seeing.remember(former)
        self.listeners.append(FakeListener(opened=1))
        self.assertEqual({"echo": 6}, self.opened(seeing.snapshot().listeners))
        former.counted["closed"] = {"peer-closed": 4}
        (found,) = seeing.snapshot().listeners
        self.assertEqual((6, 2), (found.opened, found.open))
        former.counted["closed"] = {"peer-closed": 5}

        self.assertEqual({"echo": 6}, self.opened(seeing.snapshot().listeners))

    def test_what_has_ended_is_asked_no_more(self) -> None:
        """But remembered; as long as its socket is open, or a connection is, it is asked."""
        seeing = self.see()
        former = self.listeners.pop()
        seeing.remember(former)
        former.counted["closed"] = {"lost": 5}
        seeing.snapshot()
        self.assertEqual([former], seeing._former)
        former.is_serving = False
        seeing.snapshot()
        self.assertEqual([], seeing._former)
        former.counted["opened"] = 99

        for _ in range(2):
            self.assertEqual({"echo": 5}, self.opened(seeing.snapshot().listeners))

    def test_lateness(self) -> None:
        """Is watched from start to stop."""
        seeing = self.see()
        self.clock.advance(1.1)
        self.assertAlmostEqual(1.0, seeing.snapshot().lateness.worst)
        self.successResultOf(seeing.stop())

        self.assertEqual([], self.clock.getDelayedCalls())

    def test_who_shows_it(self) -> None:
        """Is started with all that it needs, says where, and warns."""
        with capturedLogs() as events:
            seeing = self.see(self.admin)
        reactor, snapshots, is_ready = self.admin.started

        self.assertEqual((self.clock, True), (reactor, is_ready()))
        self.assertEqual([{"echo": 5}], [self.opened(each.listeners) for each in snapshots()])
        self.assertIsInstance(seeing.snapshot(), Snapshot)
        self.assertEqual(
            [
                (LogLevel.info, "admin: metrics, health and status at http://127.0.0.1:9007/"),
                (LogLevel.warn, "admin: it is open to all"),
            ],
            [(each["log_level"], formatEvent(each)) for each in events],
        )

    def test_the_end_waits_for_who_shows_it(self) -> None:
        """Until nothing is open any more."""
        stopped = self.see(self.admin).stop()
        self.assertNoResult(stopped)
        self.admin.stopped.callback(None)

        self.assertIsNone(self.successResultOf(stopped))
        self.admin.stopped = succeed(None)
