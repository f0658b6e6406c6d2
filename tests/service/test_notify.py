"""Tests of what a service manager is told."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from echosvc.service.notify import Notifier
from tests.waiting import until


class Manager:
    """A service manager's end, in the file system or in Linux' abstract namespace."""

    def __init__(self, case: SynchronousTestCase, address: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        case.addCleanup(self.sock.close)
        self.sock.setblocking(False)
        self.sock.bind(f"\0{address[1:]}" if address.startswith("@") else address)

    def heard(self) -> list[dict[str, str]]:
        """Take all messages that wait."""
        messages: list[dict[str, str]] = []
        with contextlib.suppress(BlockingIOError):
            while text := self.sock.recv(4096).decode():
                messages.append(dict(line.split("=", 1) for line in text.split("\n")))
        return messages


class NotifierTests(SynchronousTestCase):
    """What a service manager hears."""

    def setUp(self) -> None:
        """Listen as systemd does."""
        temporary = TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        directory = Path(temporary.name)
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(directory)  # the path of a socket must be short
        self.manager = Manager(self, "notify")
        self.clock = Clock()
        self.environment = {"NOTIFY_SOCKET": "notify", "OTHER": "stays"}

    def make(self, **environment: str) -> Notifier:
        """Make one, with more in its environment."""
        self.environment.update(environment)
        notifier = Notifier(self.clock, self.environment)
        self.addCleanup(notifier.close)
        return notifier

    def logged(self) -> Any:
        """Begin to remember what is logged."""
        capture = capturedLogs()
        events = capture.__enter__()
        self.addCleanup(capture.__exit__, None, None, None)
        return events

    def test_is_ready_with_its_process_and_its_figures(self) -> None:
        """The manager learns who serves, and how much."""
        notifier = self.make()
        notifier.report(lambda: "3 connections")
        notifier.ready()

        self.assertEqual(
            [{"READY": "1", "MAINPID": str(os.getpid()), "STATUS": "3 connections"}], self.manager.heard()
        )

    def test_an_abstract_address_begins_with_an_at_sign(self) -> None:
        """As in a container, where the manager's file is not to be seen."""
        name = f"@echosvc-test-{os.getpid()}"
        manager = Manager(self, name)
        self.make(NOTIFY_SOCKET=name).stopping()

        self.assertEqual([{"STOPPING": "1"}], manager.heard())
        self.assertEqual([], self.manager.heard())

    def test_what_is_started_later_cannot_speak_for_us(self) -> None:
        """The environment has nothing of it any more, and the rest as it was."""
        self.make(WATCHDOG_USEC="1000000", WATCHDOG_PID="1")

        self.assertEqual({"OTHER": "stays"}, self.environment)

    def test_a_reload_tells_when_it_began(self) -> None:
        """By the clock that the manager compares it with, in microseconds; and it is ready afterwards."""
        notifier = self.make()
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        notifier.reloading()
        notifier.ready()
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        reloading, ready = self.manager.heard()

        self.assertEqual("1", reloading["RELOADING"])
        self.assertTrue(before <= int(reloading["MONOTONIC_USEC"]) <= after)
        self.assertEqual("1", ready["READY"])

    def test_figures_are_told_while_they_change(self) -> None:
        """Every 10 seconds; what the manager knows already is not told again."""
        figures = ["0 connections"]
        notifier = self.make()
        notifier.report(lambda: figures[-1])
        notifier.ready()
        self.manager.heard()
        self.clock.advance(10)
        self.assertEqual([], self.manager.heard())
        figures.append("1 connection")
        self.clock.advance(9)
        self.assertEqual([], self.manager.heard())
        self.clock.advance(1)
        self.assertEqual([{"STATUS": "1 connection"}], self.manager.heard())
        figures.append("2 connections")
        notifier.report(lambda: figures[-1])
        self.clock.advance(10)

        self.assertEqual([{"STATUS": "2 connections"}], self.manager.heard())

    def test_a_status_is_one_line(self) -> None:
        """What stands behind a line break would be taken for another message."""
        self.make().status("draining\nREADY=1")

        self.assertEqual([{"STATUS": "draining READY=1"}], self.manager.heard())

    def test_a_status_of_our_own_is_replaced_by_figures(self) -> None:
        """At the next look, although the figures are what they were."""
        notifier = self.make()
        notifier.report(lambda: "0 connections")
        notifier.ready()
        notifier.status("reading again")
        self.manager.heard()
        self.clock.advance(10)

        self.assertEqual([{"STATUS": "0 connections"}], self.manager.heard())

    def test_more_time_is_asked_for_in_microseconds(self) -> None:
        """As systemd wants it."""
        self.make().extend(2.5)

        self.assertEqual([{"EXTEND_TIMEOUT_USEC": "2500000"}], self.manager.heard())

    def test_a_drain_asks_for_time_once_a_second(self) -> None:
        """Some seconds ahead, with how many connections it waits for."""
        notifier = self.make()
        for left in (5, 4, 3):
            notifier.draining(left)
            self.clock.advance(0.5)

        self.assertEqual(
            [
                {"STATUS": "draining: 5 connections left"},
                {"EXTEND_TIMEOUT_USEC": "5000000"},
                {"STATUS": "draining: 3 connections left"},
                {"EXTEND_TIMEOUT_USEC": "5000000"},
            ],
            self.manager.heard(),
        )

    def test_the_watchdog_is_told_at_least_at_every_half_of_its_period(self) -> None:
        """From when the service is ready; also while it stops; not when it is closed."""
        for owner in ({}, {"WATCHDOG_PID": str(os.getpid())}):
            with self.subTest(owner=owner):
                self.environment["NOTIFY_SOCKET"] = "notify"
                notifier = self.make(WATCHDOG_USEC="2500000", **owner)
                self.clock.advance(5)
                self.assertEqual([], self.manager.heard())
                notifier.ready()
                self.assertEqual({"WATCHDOG": "1"}, self.manager.heard()[-1])
                for _ in range(3):
                    self.clock.advance(0.75)
                    self.assertEqual([], self.manager.heard())
                    self.clock.advance(0.25)
                    self.assertEqual([{"WATCHDOG": "1"}], self.manager.heard())
                notifier.ready()
                notifier.stopping()
                self.assertEqual(["READY", "STOPPING"], [next(iter(each)) for each in self.manager.heard()])
                self.clock.advance(1)
                self.assertEqual([{"WATCHDOG": "1"}], self.manager.heard())
                notifier.close()
                self.assertEqual([], self.clock.getDelayedCalls())

    def test_a_watchdog_of_somebody_else_is_not_told(self) -> None:
        """Of another process, or none at all, or what is no number."""
        for wrong in (
            {"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getppid())},
            {"WATCHDOG_USEC": "0"},
            {"WATCHDOG_USEC": "-5"},
            {"WATCHDOG_USEC": "²"},
            {},
        ):
            with self.subTest(wrong=wrong):
                self.environment["NOTIFY_SOCKET"] = "notify"
                self.make(**wrong).ready()

                self.assertEqual(["READY"], [next(iter(each)) for each in self.manager.heard()])
                self.assertEqual([], self.clock.getDelayedCalls())

    def test_nothing_is_done_without_a_manager(self) -> None:
        """No socket, no timer, no line in the log."""
        events = self.logged()
        notifier = Notifier(self.clock, {"WATCHDOG_USEC": "1000000"})
        notifier.report(lambda: "0 connections")
        for tell in (notifier.ready, notifier.reloading, notifier.ready, notifier.stopping):
            tell()
        notifier.extend(5)
        notifier.status("fine")

        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual([], events)
        notifier.close()

    def test_an_address_that_cannot_be_is_reported_and_no_more(self) -> None:
        """The service is not ended by it."""
        for address in ("nowhere", "long" * 50, "vsock:2:1234"):
            with self.subTest(address=address):
                events = self.logged()
                self.make(NOTIFY_SOCKET=address).ready()

                (event,) = events
                self.assertEqual(LogLevel.warn, event["log_level"])
                self.assertIn(f"NOTIFY_SOCKET={address}: ", formatEvent(event))

    def test_a_manager_that_went_away_is_reported_once(self) -> None:
        """However much there is to tell."""
        notifier = self.make()
        self.manager.sock.close()
        events = self.logged()
        notifier.ready()
        notifier.stopping()

        (event,) = events
        self.assertIn("the service manager hears nothing of us: ", formatEvent(event))
        self.assertEqual([], self.clock.getDelayedCalls())

    def fill(self, notifier: Notifier) -> int:
        """Leave no room in the manager's queue; tell how many messages fill it."""
        sent = 0
        sock = notifier._socket
        assert sock is not None
        with contextlib.suppress(BlockingIOError):
            for _ in until(lambda: False):
                sock.send(b"FULL=1")
                sent += 1
        return sent

    def test_a_full_queue_delays_what_matters_and_keeps_its_order(self) -> None:
        """A manager that never heard of READY would end the service. Nobody waits for it meanwhile."""
        notifier = self.make()
        full = self.fill(notifier)
        notifier.reloading()
        notifier.status("lost")
        notifier.ready()
        self.clock.advance(0.1)
        self.assertEqual([{"FULL": "1"}] * full, self.manager.heard())
        self.clock.advance(0.1)

        self.assertEqual(["RELOADING", "READY"], [next(iter(each)) for each in self.manager.heard()])
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_what_waits_is_not_overtaken(self) -> None:
        """Although there is room by then."""
        notifier = self.make()
        self.fill(notifier)
        notifier.reloading()
        self.manager.heard()
        notifier.ready()
        self.clock.advance(0.1)

        self.assertEqual(["RELOADING", "READY"], [next(iter(each)) for each in self.manager.heard()])

    def test_figures_end_with_the_service(self) -> None:
        """A drain has more to say than how many connections there are."""
        figures = ["0 connections"]
        notifier = self.make()
        notifier.report(lambda: figures[-1])
        notifier.ready()
        notifier.stopping()
        figures.append("1 connection")
        self.manager.heard()
        self.clock.advance(10)

        self.assertEqual([], self.manager.heard())

    def test_a_full_queue_is_not_waited_for_at_the_end(self) -> None:
        """No timer is left."""
        notifier = self.make()
        self.fill(notifier)
        notifier.stopping()
        notifier.close()

        self.assertEqual([], self.clock.getDelayedCalls())
