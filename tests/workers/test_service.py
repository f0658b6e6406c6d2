"""Tests of the service with workers: the workers are fakes, the sockets are real."""

from __future__ import annotations

import atexit
import json
import os
import socket
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from echosvc.errors import ExitCode, InvalidConfig, PortInUse
from echosvc.listeners import Internet, ListenerSettings, UnixSocket
from echosvc.listeners import sockets as listener_sockets
from echosvc.listeners.settings import Inherited
from echosvc.observe import LatenessSnapshot, LogGuard, Snapshot
from echosvc.settings import Settings
from echosvc.workers import service as service_module
from echosvc.workers.parcel import unpack
from echosvc.workers.process import FIRST_SOCKET
from echosvc.workers.service import WorkersService, open_workers, reactor_name
from echosvc.workers.sockets import close_all
from tests.doubles import udp_socket
from tests.workers.doubles import FakeWorker, StartingReactor


def settings(*transports: Any, port: int = 0, **more: Any) -> Settings:
    """Echo on loopback, two workers."""
    return Settings(
        listeners=tuple(
            ListenerSettings(protocol="echo", place=Internet(each, port, "127.0.0.1"))
            for each in transports or ("tcp", "udp")
        ),
        **{"workers": 2, **more},
    )


class RunningReactor(StartingReactor):
    """A reactor that runs: what waits for that is done at once."""

    def callWhenRunning(self, function: Any, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Do it."""
        function(*args, **kwargs)


class ServiceCase(SynchronousTestCase):
    """A service whose workers are fakes.

    Attributes:
        workers: All that were started.
        loads: What each was started with.
    """

    def setUp(self) -> None:
        """Put fakes in the place of processes."""
        self.workers: list[Any] = []
        self.loads: list[Any] = []

        def start(_: object, load: Any, keeper: Any) -> Any:
            self.loads.append(load)
            self.workers.append(FakeWorker(keeper))
            return self.workers[-1]

        self.patch(service_module, "WorkerProcess", start)
        self.hidden: list[bool] = []
        self.patch(service_module, "forbid_inspection", lambda: self.hidden.append(True))
        self.reactor = RunningReactor()

    def open(self, what: Settings | None = None, **more: Any) -> WorkersService:
        """Open it; it is closed at the end."""
        service = open_workers(what or settings(), self.reactor, **more)
        self.addCleanup(close_all, service._shared)
        return service

    def serve(self, **more: Any) -> WorkersService:
        """Open it, and let its workers serve."""
        service = self.open(**more)
        service.startService()
        self.addCleanup(self.stop, service)
        self.come()
        return service

    def come(self, since: int = 0) -> None:
        """Let workers come to serve, from one on."""
        for each in self.workers[since : since + 3]:
            each.keeper.prepared(each)
        for each in self.workers[since : since + 2]:
            each.serve()

    def stop(self, service: WorkersService) -> None:
        """Stop it, and let all workers end."""
        if service.running:
            stopped = service.stopService()
            self.finish()
            self.successResultOf(stopped)

    def finish(self) -> None:
        """Let all end that were told to."""
        for each in self.workers:
            if each.stopping and not each.ended.called:
                each.end()


class StartTests(ServiceCase):
    """How it begins."""

    def test_each_worker_is_given_its_part_and_every_socket(self) -> None:
        """Two of each port; and the layout tells whose they are."""
        self.serve()

        (load, *others) = self.loads
        self.assertEqual(len(others), 2)
        self.assertEqual(unpack(load.settings).workers, 0)
        self.assertEqual(
            json.loads(load.layout),
            [[0, [FIRST_SOCKET, FIRST_SOCKET + 1]], [1, [FIRST_SOCKET + 2, FIRST_SOCKET + 3]]],
        )
        self.assertEqual(len(load.sockets), 4)

    def test_the_rate_of_a_source_is_divided_where_all_workers_read_one_socket(self) -> None:
        """A UNIX socket and whatever a service manager passes on, UNIX or UDP: otherwise a source has its rate once for each worker."""
        places = (
            Internet("udp", 0, "127.0.0.1"),
            UnixSocket("unixgram", f"@echosvc-{os.getpid()}"),
            Inherited(name="gram"),
            Inherited(name="udp"),
        )
        gram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        gram.bind(f"\0echosvc-{os.getpid()}-inherited")
        passed = {"gram": gram, "udp": udp_socket()}
        for each in passed.values():
            self.addCleanup(each.close)
        self.patch(listener_sockets, "adopt", lambda place, *_: [passed[place.name].dup()])
        service = self.open(
            Settings(
                listeners=tuple(ListenerSettings(protocol="echo", place=each) for each in places), workers=2
            )
        )
        parts = unpack(service._load(service._settings, service._shared).settings).listeners
        whole = [each.screen.rate for each in service._settings.listeners]

        self.assertEqual(
            [1, 2, 2, 2], [rate / each.screen.rate for rate, each in zip(whole, parts, strict=True)]
        )

    def test_it_cannot_be_inspected_before_there_are_workers(self) -> None:
        """One that is taken over finds nothing of its parent's, which has the same user."""
        self.open().startService()

        self.assertEqual(self.hidden, [True])

    def test_it_is_ready_when_all_workers_serve(self) -> None:
        """And says what listens where only then."""
        service = self.open()
        with capturedLogs() as events:
            service.startService()
            self.addCleanup(self.stop, service)
            before = [formatEvent(each) for each in events]
            self.assertFalse(service.is_ready())

            self.come()

        self.assertTrue(service.is_ready())
        lines = [formatEvent(each) for each in events]
        self.assertFalse([each for each in before if "listens on" in each])
        self.assertEqual(len([each for each in lines if "listens on" in each and "2 workers" in each]), 2)

    def test_a_service_that_was_not_started_is_not_ready(self) -> None:
        """Nobody serves."""
        self.assertFalse(self.open().is_ready())

    def test_a_second_one_is_refused(self) -> None:
        """Nothing of it is left open."""
        service = self.open(settings("tcp"))
        port = service._shared[0].sockets[0].getsockname()[1]

        self.assertRaises(PortInUse, open_workers, settings("tcp", port=port), self.reactor)

    def test_when_it_is_hopeless_it_ends_with_a_code_of_its_own(self) -> None:
        """After twistd has tidied up."""
        codes: list[Any] = []
        self.patch(atexit, "register", lambda _, code: codes.append(code))
        service = self.open()
        service.startService()
        self.addCleanup(self.stop, service)

        with capturedLogs() as events:
            for each in list(self.workers):
                each.die("ended with exit code 1")
                each.end()

        self.assertEqual((codes, self.reactor.stops), ([ExitCode.SOFTWARE], 1))
        self.assertIn("no worker comes to serve", formatEvent(events[-1]))

    def test_a_folder_that_cannot_be_entered_is_not_where_workers_begin(self) -> None:
        """Whoever they are by now."""
        service = self.open()
        service._folder = "/nonexistent"

        service.startService()
        self.addCleanup(self.stop, service)

        self.assertIsNone(self.loads[0].folder)


class SeenTests(ServiceCase):
    """What others see of it."""

    def test_the_log_is_written_as_it_was_asked_for(self) -> None:
        """By the parent: workers send theirs to it."""
        seen: list[bool] = []
        self.patch(LogGuard, "write_json", lambda _, *, wanted: seen.append(wanted))
        service = self.open(settings(log_format="json"))

        service.privilegedStartService()

        self.assertEqual(seen, [True])
        self.assertEqual(unpack(service._load(settings(), service._shared).settings).log_format, "text")

    def test_the_admin_listener_shows_all_workers(self) -> None:
        """It is the parent's, begins with it and ends last."""
        admin = ListenerSettings(protocol="admin", place=Internet("tcp", 0, "127.0.0.1"))
        service = self.open(settings(admin=admin))
        shown: Any = service._admin
        started: list[Any] = []
        self.patch(shown, "start", lambda *what: started.extend(what))
        self.patch(shown, "warnings", lambda: ["anybody may ask"])

        with capturedLogs() as events:
            service.startService()
            self.come()
        self.stop(service)

        self.assertEqual(started, [self.reactor, service.snapshots, service.is_ready])
        self.assertIn("admin: anybody may ask", [formatEvent(each) for each in events])

    def test_a_service_manager_hears_of_it(self) -> None:
        """Ready when all serve, how many do, and that it stops."""
        said: list[str] = []

        class Manager:
            def __getattr__(self, name: str) -> Any:
                def say(*what: Any) -> None:
                    said.append(" ".join([name, *(each() if callable(each) else each for each in what)]))

                return say

        service = self.serve(notifier=Manager())
        service.reload()
        self.come(3)
        self.stop(service)

        report = "report 2 of 2 workers serve"
        self.assertEqual(said, [report, "ready", "reloading", report, "ready", "stopping", "close"])


class StopTests(ServiceCase):
    """How it ends."""

    def test_it_has_ended_when_no_process_is_left(self) -> None:
        """The sockets are closed at once: who connects from now on is refused."""
        service = self.serve()

        stopped = service.stopService()
        self.assertEqual(service._shared[0].sockets[1].fileno(), -1)
        service.hurry()
        self.assertNoResult(stopped)
        self.finish()

        self.successResultOf(stopped)
        self.assertEqual([each.calls for each in self.workers], [["stop", "hurry"]] * 3)
        self.assertFalse(service.is_ready())

    def test_one_that_never_began(self) -> None:
        """Has nothing to wait for."""
        service = self.open()

        self.successResultOf(service.stopService())


class ReloadTests(ServiceCase):
    """How new workers take over."""

    def test_new_workers_take_over_on_the_same_sockets(self) -> None:
        """When all of them serve; then the old ones are told to finish."""
        service = self.serve()

        service.reload()
        during = [list(each.calls) for each in self.workers[:3]]
        self.come(3)

        self.assertEqual(during, [[], [], []])
        self.assertEqual([each.calls for each in self.workers], [["stop"]] * 3 + [[]] * 3)
        self.assertEqual(self.loads[5].sockets, self.loads[0].sockets)
        self.assertTrue(service.is_ready())

    def test_listeners_come_and_go(self) -> None:
        """What is new is opened, what is gone is closed, what stays is not touched."""
        service = self.serve(reread=lambda: settings("udp"), what=settings("tcp", "udp"))
        tcp, udp = (each.sockets for each in service._shared)

        service.reload()
        self.come(3)
        self.finish()

        self.assertEqual([each.fileno() for each in tcp], [-1, -1])
        self.assertEqual(service._shared[0].sockets, udp)
        self.assertEqual(len(service._shared), 1)

    def test_a_wrong_file_changes_nothing(self) -> None:
        """It is said in one line."""

        def wrong() -> Settings:
            raise InvalidConfig(["echosvc.toml:3: no"])

        service = self.serve(reread=wrong)
        with capturedLogs() as events:
            service.reload()

        self.assertEqual(len(self.workers), 3)
        self.assertIn("not reloaded, all is as before: ", formatEvent(events[-1]))

    def test_a_port_that_is_taken_changes_nothing(self) -> None:
        """The old ones go on."""
        holder = udp_socket()
        self.addCleanup(holder.close)
        taken = settings("udp", port=holder.getsockname()[1])
        service = self.serve(reread=lambda: taken)

        with capturedLogs() as events:
            service.reload()

        self.assertIn("already in use", formatEvent(events[-1]))
        self.assertTrue(service.is_ready())

    def test_new_workers_that_never_serve_change_nothing(self) -> None:
        """They are ended, with what was opened for them; the next reload can succeed."""
        one_more = ListenerSettings(protocol="echo", place=Internet("tcp", 0, "127.0.0.2"))
        more = attrs.evolve(settings(), listeners=(*settings().listeners, one_more))
        service = self.serve(reread=lambda: more)
        before = service._shared

        service.reload()
        opened = self.loads[-1].sockets[-1]
        with capturedLogs() as events:
            for each in self.workers[3:6]:
                each.die("cannot begin: no")
                each.end()

        self.assertIs(service._shared, before)
        self.assertTrue(service.is_ready())
        self.assertIn("not reloaded, all is as before: no worker", formatEvent(events[-1]))
        self.assertIsNone(service._next)
        self.assertEqual((len(self.loads[-1].sockets), opened.fileno()), (6, -1))

    def test_one_reload_at_a_time(self) -> None:
        """A second one during the first is refused, and one when it is not ready."""
        service = self.serve()
        service.reload()

        service.reload()
        self.assertEqual(len(self.workers), 6)
        self.come(3)
        self.workers[3].die("hangs")
        self.reactor.advance(0)
        service.reload()

        self.assertEqual(len(self.workers), 7)

    def test_another_number_of_workers_waits_for_the_next_start(self) -> None:
        """A group of sockets that shrinks would turn away who waits in it."""
        service = self.serve(reread=lambda: settings(workers=3))

        with capturedLogs() as events:
            service.reload()
        self.come(3)

        self.assertIn("still 2 workers", formatEvent(events[0]))
        self.assertEqual(len(self.workers), 6)

    def test_not_when_it_stops(self) -> None:
        """Nobody is started any more."""
        service = self.serve()
        self.stop(service)

        service.reload()

        self.assertEqual(len(self.workers), 3)

    def test_a_stop_in_the_middle_ends_both(self) -> None:
        """The old ones, and the new ones that do not serve yet."""
        service = self.serve()
        service.reload()

        self.stop(service)

        self.assertEqual([each.calls for each in self.workers], [["stop"]] * 6)


class SnapshotTests(ServiceCase):
    """What was counted."""

    def test_every_worker_that_serves_is_asked(self) -> None:
        """One that dies meanwhile is left out."""
        service = self.serve()
        lateness = LatenessSnapshot(bounds=(), counts=(0,), total=0.0, worst=0.0)
        one = Snapshot(
            worker=1,
            pid=5,
            started=0.0,
            cpu_seconds=0.0,
            descriptors=None,
            resident_bytes=None,
            lateness=lateness,
            listeners=(),
        )
        answers: list[Deferred[str]] = [succeed(json.dumps(one.to_json())), fail(ConnectionError("gone"))]
        for each, answer in zip(self.workers, answers, strict=False):
            each.snapshot = lambda answer=answer: answer

        self.assertEqual(self.successResultOf(service.snapshots()), [one])

    def test_nobody_serves_yet(self) -> None:
        """There is nothing to tell."""
        self.assertEqual(self.successResultOf(self.open().snapshots()), [])


class NameTests(SynchronousTestCase):
    """What workers run on."""

    def test_the_module_that_installs_a_reactor(self) -> None:
        """By its class."""
        self.assertEqual(reactor_name(StartingReactor()), "tests.workers.doubles")

    def test_uvloop_is_told(self) -> None:
        """It runs under Twisted's asyncio reactor."""
        reactor = StartingReactor()
        reactor._asyncioEventloop = type("Loop", (), {"__module__": "uvloop.loop"})()  # type: ignore[attr-defined]

        self.assertEqual(reactor_name(reactor), "tests.workers.doubles,uvloop")


class ExitTests(SynchronousTestCase):
    """How the process ends when it is hopeless."""

    def test_what_was_printed_is_not_lost(self) -> None:
        """The code is the one that was said."""
        codes: list[int] = []
        self.patch(os, "_exit", codes.append)

        service_module._end_with(70)

        self.assertEqual(codes, [70])
