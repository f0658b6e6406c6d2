"""One worker, as the parent sees it: a process that is started, told what to do, listened to, and ended."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import Factory, ProcessProtocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from echosvc.workers.commands import (
    Beat,
    Become,
    Bye,
    CannotBegin,
    Conversation,
    Hurry,
    Logged,
    Prepare,
    Snapshot,
    Stop,
)
from echosvc.workers.pulse import Pulse, time_run
from echosvc.workers.relay import log_event

__all__ = ["CONTROL", "FIRST_SOCKET", "Keeper", "Load", "WorkerProcess"]

#: Descriptors of a worker: its end of the socket pair, and the first of the sockets that it serves.
CONTROL, FIRST_SOCKET = 3, 4

#: Seconds in which a worker has to be ready, and to begin to serve.
START = 30.0

#: What a service manager says to the process that it has started, and to no other.
_OURS_ALONE = ("LISTEN_", "NOTIFY_", "WATCHDOG_")

_log = Logger(namespace="echosvc")


@attrs.frozen
class Load:
    """What a worker is started with.

    Attributes:
        settings: What to serve, as `echosvc.workers.parcel` writes it.
        layout: Which descriptors belong to which listener, as `Prepare` says it.
        sockets: The sockets, in the order of the worker's descriptors.
        reactor: The module of the reactor that it is to run.
        folder: Where it is to be started; None for the parent's own.
    """

    settings: str
    layout: str
    sockets: Sequence[socket.socket]
    reactor: str
    folder: str | None = None


class Keeper(Protocol):
    """Who is told how a worker does."""

    def prepared(self, process: WorkerProcess) -> None:
        """It could begin at any moment."""

    def serves(self, process: WorkerProcess) -> None:
        """It serves."""

    def died(self, process: WorkerProcess, why: str | None) -> None:
        """It is of no use any more; nobody has told it to stop. If it is not known why, its end will tell."""


class _Control(Conversation):
    """The parent's end of the conversation."""

    process: WorkerProcess

    @Beat.responder
    def _beat(self) -> dict[str, object]:
        self.process.pulse.beat()
        return {}

    @Logged.responder
    def _logged(self, event: str) -> dict[str, object]:
        log_event(event, self.process.number)
        return {}

    @Bye.responder
    def _bye(self) -> dict[str, object]:
        return {}

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Whoever says nothing any more is no worker."""
        super().connectionLost(reason)
        self.process.give_up()


class _Watcher(ProcessProtocol):
    """Reads what a worker prints, past its log, and hears of its end."""

    def __init__(self, process: WorkerProcess) -> None:
        self._process = process

    def childDataReceived(self, descriptor: int, data: bytes) -> None:
        """Log what was printed: whatever could not be logged in the usual way."""
        for line in data.decode("utf-8", "backslashreplace").splitlines():
            _log.warn(
                "{worker} prints: {line}", worker=self._process.name, line=line, where=self._process.name
            )

    def processExited(self, reason: Failure) -> None:
        """It has ended."""
        self._process.exited(reason)


class WorkerProcess:
    """One worker.

    Args:
        reactor: Starts it, and keeps time.
        load: What it is started with.
        keeper: Is told how it does.

    Attributes:
        number: Which one it is, from 1; None while it stands by.
        pid: Its process.
        pulse: Its heartbeats.
        is_prepared: It stands by, or serves.
        is_serving: It serves.
        ended: Fires when the process has ended, with how, in words.
    """

    def __init__(self, reactor: Any, load: Load, keeper: Keeper) -> None:
        self._reactor = reactor
        self._load = load
        self._keeper = keeper
        self._given_up = self._stopping = self._has_ended = False
        self._control = _Control()
        self._control.process = self
        self._deadline: Any = None
        self._stat: int | None = None
        self.number: int | None = None
        self.is_prepared = self.is_serving = False
        self.ended: Deferred[str] = Deferred()
        self._transport = self._start()
        self.pid: int = self._transport.pid
        self.pulse = Pulse(time_run(None))

    @property
    def name(self) -> str:
        """How the log names it."""
        return f"worker {self.number}" if self.number is not None else "spare worker"

    def _start(self) -> Any:
        load = self._load
        ours, theirs = socket.socketpair()
        nothing = os.open(os.devnull, os.O_RDONLY)
        try:
            ours.setblocking(False)
            descriptors: dict[int, Any] = {0: nothing, 1: "r", 2: "r", CONTROL: theirs.fileno()}
            for place, sock in enumerate(load.sockets, FIRST_SOCKET):
                descriptors[place] = sock.fileno()
            transport = self._reactor.spawnProcess(
                _Watcher(self),
                sys.executable,
                [sys.executable, "-P", "-m", "echosvc.workers", load.reactor],
                env=_environment(os.environ),
                path=load.folder,
                childFDs=descriptors,
            )
            factory: Any = Factory.forProtocol(lambda: self._control)
            factory.noisy = False
            self._reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, factory)
        finally:
            ours.close()
            theirs.close()
            os.close(nothing)
        self._expect(
            self._control.callRemote(Prepare, settings=load.settings, sockets=load.layout), self._prepared
        )
        return transport

    def _expect(self, answer: Deferred[Any], then: Callable[[Any], object]) -> None:
        """Wait for an answer, but not for ever. That it will not come is heard by other ways."""
        self._deadline = self._reactor.callLater(START, self.give_up, f"was not ready within {START:g} s")

        def answered(found: Any) -> None:
            self._cancel_deadline()
            then(found)

        def refused(failure: Failure) -> None:
            if failure.check(CannotBegin):
                self.give_up(f"cannot begin: {failure.getErrorMessage()}")

        answer.addCallbacks(answered, refused)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()

    def _prepared(self, answer: Mapping[str, int | None]) -> None:
        self._stat = answer["stat"]
        if self._has_ended:
            self._close_stat()
        if not self._given_up:
            self.is_prepared = True
            self.pulse = Pulse(time_run(self._stat))
            self._keeper.prepared(self)

    def _close_stat(self) -> None:
        if self._stat is not None:
            os.close(self._stat)
            self._stat = None

    def become(self, number: int) -> None:
        """Have it serve.

        Args:
            number: Which one it is from now on.
        """
        self.number = number
        self._expect(self._control.callRemote(Become, number=number), self._serves)

    def _serves(self, _: object) -> None:
        if not self._given_up:
            self.is_serving = True
            self.pulse.beat()
            self._keeper.serves(self)

    def look(self) -> None:
        """Look whether it lives; end it if not. Nothing is expected of it while it begins: that has its own deadline."""
        begins = self._deadline is not None and self._deadline.active()
        if not begins and not self._stopping and self.pulse.is_still():
            self.give_up("hangs: no sign of life for half a second")

    def stop(self) -> Deferred[str]:
        """Have it finish with those who are connected, and end; one that does not serve yet ends at once.

        Returns:
            Its `ended`.
        """
        if not self._stopping:
            self._stopping = True
            self._cancel_deadline()
            if self.is_prepared:
                self._control.callRemote(Stop).addErrback(lambda _: self.kill())
            else:
                self.kill()
        return self.ended

    def hurry(self) -> None:
        """Have it wait for nobody any more."""
        if self.is_prepared and not self._has_ended:
            self._control.callRemote(Hurry)

    def kill(self) -> None:
        """End it now, whatever it does."""
        if not self._has_ended:
            self._transport.signalProcess(signal.SIGKILL.name[3:])

    def snapshot(self) -> Deferred[str]:
        """Ask what it has served, as JSON."""
        answer: Deferred[Mapping[str, str]] = self._control.callRemote(Snapshot)
        return answer.addCallback(lambda found: found["snapshot"])

    def give_up(self, why: str | None = None) -> None:
        """Believe it dead. Said once; the process is killed, so that it is.

        Args:
            why: What it has done; None if its end will tell.
        """
        if self._given_up:
            return
        self._given_up = True
        self.is_serving = False
        self._cancel_deadline()
        if not self._stopping:
            self.kill()
            self._keeper.died(self, why)

    def exited(self, reason: Failure) -> None:
        """Take notice that the process has ended."""
        self._has_ended = True
        self.give_up()
        self._close_stat()
        self.ended.callback(_in_words(reason))


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Have a new Python find what this one finds, and take nothing for its own that was said to this process."""
    kept = {key: value for key, value in environment.items() if not key.startswith(_OURS_ALONE)}
    return {**kept, "PYTHONPATH": os.pathsep.join(each or str(Path.cwd()) for each in sys.path)}


def _in_words(reason: Failure) -> str:
    problem = reason.value
    if isinstance(problem, ProcessDone):
        return "has ended by itself"
    if isinstance(problem, ProcessTerminated) and problem.signal is not None:
        return f"was killed by {signal.Signals(problem.signal).name}"
    return f"ended with exit code {getattr(problem, 'exitCode', '?')}"
