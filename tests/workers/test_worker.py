"""Tests of a worker's own side: the parent is the other end of a conversation in memory."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.logger import LogLevel, globalLogBeginner
from twisted.protocols.amp import AMP
from twisted.test.iosim import IOPump
from twisted.trial.unittest import SynchronousTestCase

from echosvc.listeners import Internet, ListenerSettings
from echosvc.observe import Snapshot as Counted
from echosvc.settings import Settings
from echosvc.workers import worker as worker_module
from echosvc.workers.commands import Beat, Become, Bye, CannotBegin, Hurry, Logged, Prepare, Snapshot, Stop
from echosvc.workers.parcel import pack
from echosvc.workers.pulse import BEAT
from echosvc.workers.relay import Relay
from echosvc.workers.worker import Worker, ignore_signals, install
from tests.workers.doubles import StartingReactor, UnixTransport

SETTINGS = Settings(
    listeners=tuple(
        ListenerSettings(protocol="echo", place=Internet(each, 0, "127.0.0.1")) for each in ("tcp", "udp")
    ),
    grace=0.0,
)


class Parent(AMP):
    """The parent's end.

    Attributes:
        beats: Heartbeats that were heard.
        logged: What was to be logged.
        byes: Whether goodbye was said.
    """

    def __init__(self) -> None:
        super().__init__()
        self.beats = self.byes = 0
        self.logged: list[str] = []

    @Beat.responder
    def beat(self) -> dict[str, Any]:
        """Count."""
        self.beats += 1
        return {}

    @Logged.responder
    def log(self, event: str) -> dict[str, Any]:
        """Remember."""
        self.logged.append(json.loads(event)["text"])
        return {}

    @Bye.responder
    def bye(self) -> dict[str, Any]:
        """Count."""
        self.byes += 1
        return {}


class WorkerCase(SynchronousTestCase):
    """A worker that has just begun to listen to its parent."""

    def setUp(self) -> None:
        """Connect it with its parent."""
        self.reactor = StartingReactor()
        self.relay = Relay()
        self.worker = Worker(self.reactor, self.relay)
        self.parent = Parent()
        here, there = UnixTransport(self.parent, isServer=True), UnixTransport(self.worker, isServer=False)
        here.other, there.other = self.worker, self.parent
        self.pump = IOPump(self.worker, self.parent, there, here, debug=False)
        self.parent.makeConnection(here)
        self.worker.makeConnection(there)
        self.sockets = [[_bound(each) for _ in range(2)] for each in (socket.SOCK_STREAM, socket.SOCK_DGRAM)]
        self.inodes = {each: _identity(each) for each in itertools.chain(*self.sockets)}
        self.addCleanup(self.close)

    def is_open(self, descriptor: int) -> bool:
        """Whether the worker has a socket still."""
        return _identity(descriptor) == self.inodes[descriptor]

    def close(self) -> None:
        """Close what the worker has not closed."""
        for each in itertools.chain(*self.sockets):
            if self.is_open(each):
                os.close(each)

    def ask(self, command: Any, **arguments: Any) -> Deferred[Any]:
        """Say something, and let it be heard."""
        answer: Deferred[Any] = Deferred()
        said = self.parent.callRemote(command, **arguments)
        if said is not None:  # AMP takes what nobody waits for, when it comes, for an accident
            said.addCallbacks(answer.callback, answer.errback)
        self.turn()
        return answer

    def turn(self) -> None:
        """Let everybody hear, and what is due at once be done."""
        self.pump.flush()
        self.reactor.advance(0)
        self.pump.flush()

    def prepare(self, settings: Settings = SETTINGS) -> Deferred[Any]:
        """Tell it what to serve."""
        layout = json.dumps([[place, numbers] for place, numbers in enumerate(self.sockets)])
        answer = self.ask(Prepare, settings=pack(settings), sockets=layout)
        return answer.addCallback(self._take_descriptor)

    def _take_descriptor(self, answer: Any) -> Any:
        self.addCleanup(os.close, answer["stat"])
        return answer

    def serve(self, number: int = 2) -> None:
        """Have it serve."""
        self.successResultOf(self.prepare())
        self.successResultOf(self.ask(Become, number=number))
        self.addCleanup(self.end)

    def end(self) -> None:
        """Stop what it serves, once."""
        triggers: Any = self.reactor.triggers
        ours = triggers.pop("before", {}).pop("shutdown", [])[
            :1
        ]  # others end with the process, and would stay here
        for function, args, kwargs in ours:
            self.ended: Deferred[object] = function(*args, **kwargs)
        self.turn()


class BeginTests(WorkerCase):
    """How it begins to serve."""

    def test_its_heart_beats_from_when_it_is_prepared(self) -> None:
        """Ten times a second."""
        self.turn()
        self.assertEqual(self.parent.beats, 0)

        self.successResultOf(self.prepare())
        for _ in range(10):
            self.reactor.advance(BEAT)
        self.turn()

        self.assertEqual(self.parent.beats, 11)

    def test_it_hands_over_what_tells_whether_it_runs(self) -> None:
        """Its parent cannot open that file where /proc hides processes that cannot be inspected."""
        answer = self.successResultOf(self.prepare())

        self.assertEqual(f"/proc/{os.getpid()}/stat", str(Path(f"/proc/self/fd/{answer['stat']}").readlink()))

    def test_it_serves_with_the_sockets_of_its_number(self) -> None:
        """And closes those of the others."""
        first, second = zip(*self.sockets, strict=True)

        self.serve(2)

        self.assertEqual([self.is_open(each) for each in first], [False, False])
        self.assertEqual([self.is_open(each) for each in second], [True, True])

    def test_what_is_shared_is_served_by_every_number(self) -> None:
        """There is one for all."""
        for each in self.sockets:
            os.close(each.pop())

        self.serve(7)

        self.assertTrue(all(self.is_open(each) for (each,) in self.sockets))

    def test_a_mistake_is_told(self) -> None:
        """In one line, as the parent will log it."""
        wrong = Settings(listeners=(ListenerSettings(protocol="nobody", place=Internet("tcp", 0)),))

        problem = self.failureResultOf(self.prepare(wrong), CannotBegin)

        self.assertIn("there is no protocol 'nobody'", problem.getErrorMessage())

    def test_so_is_what_nobody_has_foreseen(self) -> None:
        """Whatever somebody else's protocol raises; the log has its traceback."""

        def refuse(opened: Any, _: object) -> None:
            for each in opened:
                each.close()
            raise KeyError("surprise")

        self.successResultOf(self.prepare())
        self.patch(worker_module, "adopt_listeners", refuse)
        problem = self.failureResultOf(self.ask(Become, number=1), CannotBegin)

        self.assertIn("KeyError('surprise')", problem.getErrorMessage())
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_what_it_logs_goes_to_the_parent(self) -> None:
        """From the first moment."""
        self.relay({"log_format": "hello", "log_level": LogLevel.info})
        self.turn()

        self.assertEqual(self.parent.logged, ["hello"])


class ServingTests(WorkerCase):
    """What it answers."""

    def test_a_snapshot_has_its_number(self) -> None:
        """With both of its listeners."""
        self.serve(2)

        found = self.successResultOf(self.ask(Snapshot))["snapshot"]

        counted = Counted.from_json(json.loads(found))
        self.assertEqual((counted.worker, counted.pid, len(counted.listeners)), (2, os.getpid(), 2))


class EndTests(WorkerCase):
    """How it ends."""

    def test_it_stops_when_it_is_told_to(self) -> None:
        """It answers first."""
        self.serve()

        self.successResultOf(self.ask(Stop))

        self.assertEqual(self.reactor.stops, 1)

    def test_the_service_is_stopped_and_then_goodbye_is_said(self) -> None:
        """So that the parent has heard all of it."""
        self.serve()

        self.end()

        self.successResultOf(self.ended)
        self.assertEqual(self.parent.byes, 1)
        self.assertEqual([self.is_open(each) for each in itertools.chain(*self.sockets)], [False] * 4)

    def test_who_stands_by_has_nothing_to_stop(self) -> None:
        """It only says goodbye; its heart has stopped."""
        self.successResultOf(self.prepare())

        self.ask(Hurry)
        self.end()
        beats = self.parent.beats
        self.reactor.advance(10)
        self.turn()

        self.successResultOf(self.ended)
        self.assertEqual((self.parent.byes, self.parent.beats), (1, beats))

    def test_without_a_parent_it_stops(self) -> None:
        """And nobody is waited for who cannot hear."""
        self.serve()

        self.worker.connectionLost(connectionDone)
        self.reactor.advance(0)
        self.end()

        self.assertEqual(self.reactor.stops, 1)
        self.successResultOf(self.ended)
        self.assertIsNone(self.relay.send)

    def test_a_hurry_is_passed_on(self) -> None:
        """To the service."""
        self.serve()
        hurried = []
        service: Any = self.worker._service
        self.patch(service, "hurry", lambda: hurried.append(True))

        self.ask(Hurry)

        self.assertEqual(hurried, [True])


class ProcessTests(SynchronousTestCase):
    """What concerns the whole process."""

    def test_signals_are_the_parent_s(self) -> None:
        """A terminal and a service manager send them to the whole group."""
        found: dict[int, Any] = {}
        self.patch(signal, "signal", found.__setitem__)

        ignore_signals()

        self.assertEqual(found, dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), signal.SIG_IGN))

    def test_the_whole_of_it(self) -> None:
        """Signals are ignored before and after the reactor has taken them; all that is logged is sent."""
        steps: list[str] = []
        reactor = StartingReactor()
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(reactor.close)
        observers: list[Any] = []

        def run() -> None:
            steps.append("run")
            for function, args, kwargs in reactor.whenRunningHooks:
                function(*args, **kwargs)

        self.patch(reactor, "run", run)
        self.patch(worker_module, "CONTROL", theirs.detach())
        self.patch(worker_module, "ignore_signals", lambda: steps.append("ignore"))

        def install(name: str) -> StartingReactor:
            steps.append(name)
            return reactor

        self.patch(worker_module, "install", install)
        self.patch(globalLogBeginner, "beginLoggingTo", lambda them, **_: observers.extend(them))

        worker_module.main("some_reactor")

        self.assertEqual(steps, ["ignore", "some_reactor", "run", "ignore"])
        self.assertEqual(reactor.seconds, time.monotonic)
        self.assertIsInstance(reactor.adopted[0][1], Worker)
        self.assertIsNotNone(observers[0].send)

    def test_the_reactor_is_the_parent_s(self) -> None:
        """With the event loop that it runs on, if it has one of somebody else's."""
        reactor, loop, plain = ModuleType("some_reactor"), ModuleType("some_loop"), ModuleType("plain")
        installed: list[object] = []
        reactor.install = lambda *loops: installed.extend(loops or ["its own"])  # type: ignore[attr-defined]
        loop.new_event_loop = lambda: "a loop"  # type: ignore[attr-defined]
        for each in (reactor, loop, plain):
            self.patch(sys, "modules", {**sys.modules, each.__name__: each})

        for name in ("some_reactor", "some_reactor,some_loop", "plain"):
            found = install(name)
            self.assertIs(found, sys.modules["twisted.internet.reactor"])

        self.assertEqual(installed, ["its own", "a loop"])


def _bound(kind: socket.SocketKind) -> int:
    sock = socket.socket(type=kind)
    sock.bind(("127.0.0.1", 0))
    if kind == socket.SOCK_STREAM:
        sock.listen()
    return sock.detach()


def _identity(descriptor: int) -> int:
    """Which socket it is; 0 for none. A number that was closed is soon another's."""
    try:
        return os.fstat(descriptor).st_ino
    except OSError:
        return 0
