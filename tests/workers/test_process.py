"""Tests of one worker, as the parent sees it: the other end is a real one, in memory."""

from __future__ import annotations

import json
import os
import socket
import sys
from tempfile import NamedTemporaryFile
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.logger import capturedLogs, formatEvent
from twisted.protocols.amp import AMP
from twisted.test.iosim import IOPump
from twisted.trial.unittest import SynchronousTestCase

from echosvc.workers.commands import Beat, Become, Bye, CannotBegin, Hurry, Logged, Prepare, Snapshot, Stop
from echosvc.workers.process import CONTROL, FIRST_SOCKET, START, Load, WorkerProcess
from echosvc.workers.pulse import SILENT
from echosvc.workers.relay import pack_event
from tests.doubles import udp_socket
from tests.machine import open_descriptors
from tests.workers.doubles import StartingReactor, UnixTransport, ended, killed


class Other(AMP):
    """The worker's end.

    Attributes:
        heard: What it was told.
        problem: What it answers to `Prepare` and `Become`; None if it does as it is told.
        stat: The descriptor that it hands over; None for none.
    """

    stat: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Any] = []
        self.problem: Exception | None = None

    def _hear(self, *what: Any) -> dict[str, Any]:
        self.heard.append(what)
        if self.problem is not None:
            raise self.problem
        return {}

    @Prepare.responder
    def prepare(self, settings: str, sockets: str) -> dict[str, Any]:
        """Hear it."""
        return {**self._hear("prepare", settings, sockets), "stat": self.stat}

    @Become.responder
    def become(self, number: int) -> dict[str, Any]:
        """Hear it."""
        return self._hear("become", number)

    @Stop.responder
    def stop(self) -> dict[str, Any]:
        """Hear it."""
        return self._hear("stop")

    @Hurry.responder
    def hurry(self) -> dict[str, Any]:
        """Hear it."""
        return self._hear("hurry")

    @Snapshot.responder
    def snapshot(self) -> dict[str, Any]:
        """Tell something."""
        return {"snapshot": "{}"}


class FakeKeeper:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []

    def prepared(self, _: WorkerProcess) -> None:
        """Remember."""
        self.told.append(("prepared",))

    def serves(self, _: WorkerProcess) -> None:
        """Remember."""
        self.told.append(("serves",))

    def died(self, _: WorkerProcess, why: str | None) -> None:
        """Remember."""
        self.told.append(("died", str(why)))


class ProcessCase(SynchronousTestCase):
    """A process that was started, with the other end of its conversation."""

    def setUp(self) -> None:
        """Start it."""
        self.reactor = StartingReactor()
        self.addCleanup(self.reactor.close)
        self.sockets = [udp_socket(), udp_socket()]
        for each in self.sockets:
            self.addCleanup(each.close)
        self.keeper = FakeKeeper()
        load = Load("SETTINGS", "[]", self.sockets, "twisted.internet.pollreactor", "/")
        self.process = WorkerProcess(self.reactor, load, self.keeper)
        self.watcher, self.fake, self.how = self.reactor.spawned[0]
        self.control = self.reactor.adopted[0][1]
        self.other = Other()

    def connect(self) -> None:
        """Begin the conversation."""
        there = UnixTransport(self.other, isServer=False)
        there.other = self.control
        self.pump = IOPump(self.other, self.control, there, self.control.transport, debug=False)
        self.other.makeConnection(there)
        self.pump.flush()

    def serve(self, number: int = 2) -> None:
        """Let it come to serve."""
        self.connect()
        self.process.become(number)
        self.pump.flush()


class StartTests(ProcessCase):
    """How it is started."""

    def test_it_is_this_python_and_finds_what_this_one_finds(self) -> None:
        """Without the folder it is started in, where anything may lie."""
        self.assertEqual(
            self.how["args"],
            [sys.executable, "-P", "-m", "echosvc.workers", "twisted.internet.pollreactor"],
        )
        self.assertEqual(
            self.how["env"]["PYTHONPATH"].split(os.pathsep),
            [each or os.getcwd() for each in sys.path],  # noqa: PTH109
        )
        self.assertEqual(self.how["path"], "/")

    def test_it_inherits_every_socket(self) -> None:
        """By number, behind its end of the conversation; what it prints is read."""
        inherited = self.how["inherited"]

        self.assertEqual(
            [inherited[FIRST_SOCKET + place] for place in range(2)],
            [os.fstat(each.fileno()).st_ino for each in self.sockets],
        )
        self.assertEqual((inherited[1], inherited[2]), ("r", "r"))
        self.assertNotIn(FIRST_SOCKET + 2, inherited)

    def test_its_end_of_the_conversation_is_not_kept(self) -> None:
        """Else nobody would notice when the other one closes."""
        ours = self.reactor.adopted[0][0]

        self.assertNotEqual(os.fstat(ours.fileno()).st_ino, self.how["inherited"][CONTROL])
        self.assertEqual(ours.recv(10) if _is_readable(ours) else b"", b"")

    def test_it_is_not_told_what_a_service_manager_has_told_us(self) -> None:
        """Which sockets were passed on, and where to say that all is ready."""
        self.patch(os, "environ", {"LISTEN_FDS": "1", "NOTIFY_SOCKET": "x", "WATCHDOG_USEC": "1", "A": "b"})

        WorkerProcess(self.reactor, Load("", "[]", [], "r"), self.keeper)

        self.assertEqual(set(self.reactor.spawned[1][2]["env"]), {"A", "PYTHONPATH"})

    def test_it_is_told_what_to_serve_and_then_who_it_is(self) -> None:
        """Each is waited for."""
        self.connect()
        self.assertEqual(self.keeper.told, [("prepared",)])
        self.assertTrue(self.process.is_prepared)
        self.assertEqual(self.process.name, "spare worker")

        self.process.become(2)
        self.assertFalse(self.process.is_serving)
        self.pump.flush()

        self.assertEqual(self.other.heard, [("prepare", "SETTINGS", "[]"), ("become", 2)])
        self.assertEqual(self.keeper.told, [("prepared",), ("serves",)])
        self.assertEqual((self.process.name, self.process.is_serving), ("worker 2", True))
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class DeathTests(ProcessCase):
    """How it is believed dead."""

    def test_who_never_begins_is_killed(self) -> None:
        """After half a minute."""
        self.reactor.advance(START)

        self.assertEqual(self.keeper.told, [("died", "was not ready within 30 s")])
        self.assertEqual(self.fake.signals, ["KILL"])

    def test_who_cannot_begin_says_why(self) -> None:
        """And that is what is told."""
        self.other.problem = CannotBegin("there is no protocol x")

        self.connect()

        self.assertEqual(self.keeper.told, [("died", "cannot begin: there is no protocol x")])

    def test_silence_is_death_while_it_stands_by_or_serves(self) -> None:
        """It is killed, whatever it does."""
        self.serve()

        for _ in range(SILENT):
            self.process.look()

        self.assertEqual(self.fake.signals, ["KILL"])
        self.assertEqual(self.keeper.told[-1][0], "died")
        self.assertFalse(self.process.is_serving)

    def test_heartbeats_keep_it_alive(self) -> None:
        """Whatever else it says."""
        self.serve()

        for _ in range(5):
            for _ in range(SILENT - 1):
                self.process.look()
            self.other.callRemote(Beat)
            self.pump.flush()

        self.assertEqual(self.fake.signals, [])

    def test_waiting_for_the_processor_is_no_silence(self) -> None:
        """Whether it waits is read from the descriptor that the worker hands over, for as long as the process is there."""
        with NamedTemporaryFile() as file:
            file.write(b"7 (python) R 1 2 3 4 5 6 7 8 9 10 300 100 0 0")
            file.flush()
            self.other.stat = file.fileno()
            before = open_descriptors()
            self.serve()
            for _ in range(3 * SILENT):
                self.process.look()
            self.assertEqual(self.fake.signals, [])
            file.truncate(0)
            for _ in range(SILENT):
                self.process.look()
            self.assertEqual(self.fake.signals, ["KILL"])
            self.process.exited(killed(9))

            self.assertEqual(open_descriptors(), before)

    def test_a_descriptor_that_comes_too_late(self) -> None:
        """It is closed: the process has ended meanwhile."""
        with NamedTemporaryFile() as file:
            self.other.stat = file.fileno()
            before = open_descriptors()
            self.process.exited(killed(9))
            self.connect()

            self.assertEqual((open_descriptors(), self.process.is_prepared), (before, False))

    def test_silence_is_not_looked_for_while_it_begins(self) -> None:
        """It may read many files."""
        self.connect()
        self.process.become(1)

        for _ in range(3 * SILENT):
            self.process.look()

        self.assertEqual(self.fake.signals, [])

    def test_a_closed_connection_is_death(self) -> None:
        """Told once, and its end tells why."""
        self.serve()

        self.control.connectionLost(connectionDone)
        self.watcher.processExited(killed(9))

        self.assertEqual(self.keeper.told[2:], [("died", "None")])
        self.assertEqual(self.successResultOf(self.process.ended), "was killed by SIGKILL")

    def test_how_a_process_has_ended(self) -> None:
        """In words. Its number may be another's by now: it is not killed."""
        for reason, words in (
            (ended(0), "has ended by itself"),
            (ended(3), "ended with exit code 3"),
            (killed(11), "was killed by SIGSEGV"),
        ):
            process = WorkerProcess(self.reactor, Load("", "[]", [], "r"), self.keeper)
            process.exited(reason)

            self.assertEqual(self.successResultOf(process.ended), words)
            process.kill()
        self.assertEqual([each.signals for _, each, _ in self.reactor.spawned[1:]], [[]] * 3)


class StopTests(ProcessCase):
    """How it ends when it is told to."""

    def test_who_serves_is_told(self) -> None:
        """Its end is no death then; it is told once."""
        self.serve()

        stopped = self.process.stop()
        self.assertIs(self.process.stop(), stopped)
        self.pump.flush()
        for _ in range(2 * SILENT):
            self.process.look()
        self.process.hurry()
        self.pump.flush()
        self.watcher.processExited(ended(0))

        self.successResultOf(stopped)
        self.assertEqual(self.other.heard[2:], [("stop",), ("hurry",)])
        self.assertEqual(self.keeper.told, [("prepared",), ("serves",)])
        self.assertEqual(self.fake.signals, [])

    def test_who_has_not_begun_is_killed(self) -> None:
        """There is nobody whom it serves."""
        self.process.hurry()
        self.process.stop()

        self.assertEqual(self.fake.signals, ["KILL"])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_who_does_not_hear_it_is_killed(self) -> None:
        """Its connection is gone."""
        self.serve()

        self.process.stop()
        self.control.connectionLost(connectionDone)

        self.assertEqual(self.fake.signals, ["KILL"])


class TalkTests(ProcessCase):
    """What it says."""

    def test_what_it_logs_is_logged(self) -> None:
        """With its number."""
        self.serve()

        with capturedLogs() as events:
            self.other.callRemote(Logged, event=pack_event({"log_format": "hello"}))
            self.pump.flush()

        self.assertEqual([formatEvent(each) for each in events], ["worker 2: hello"])

    def test_what_it_prints_is_logged(self) -> None:
        """The last words of who cannot log any more."""
        self.serve()

        with capturedLogs() as events:
            self.watcher.childDataReceived(2, b"Fatal Python error\n\xff\n")

        self.assertEqual(
            [formatEvent(each) for each in events],
            ["worker 2 prints: Fatal Python error", "worker 2 prints: \\xff"],
        )

    def test_goodbye_is_answered(self) -> None:
        """It waits for that."""
        self.serve()

        answer: Deferred[object] = self.other.callRemote(Bye)
        self.pump.flush()

        self.assertEqual(self.successResultOf(answer), {})

    def test_a_snapshot(self) -> None:
        """Is what it says."""
        self.serve()

        answer = self.process.snapshot()
        self.pump.flush()

        self.assertEqual(json.loads(self.successResultOf(answer)), {})


def _is_readable(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
