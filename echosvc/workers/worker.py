"""A worker: a process of its own, which the parent starts, tells what to serve, and ends."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger, globalLogBeginner
from twisted.python.failure import Failure

from echosvc.errors import EchosvcError
from echosvc.listeners import adopt_listeners, check_listeners
from echosvc.listeners.sockets import Opened
from echosvc.service import EchoService
from echosvc.settings import Settings
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
from echosvc.workers.parcel import unpack
from echosvc.workers.process import CONTROL
from echosvc.workers.pulse import BEAT, open_stat
from echosvc.workers.relay import Relay

__all__ = ["Worker", "install", "main"]

_log = Logger(namespace="echosvc")


class Worker(Conversation):
    """The worker's end of the conversation with the parent, and what follows from it.

    Args:
        reactor: Runs everything.
        relay: Is told where to send what is logged.
    """

    def __init__(self, reactor: Any, relay: Relay) -> None:
        super().__init__()
        self._reactor = reactor
        self._relay = relay
        self._settings: Settings | None = None
        self._layout: list[tuple[int, list[int]]] = []
        self._number = 0
        self._service: EchoService | None = None
        self._stopping = False
        self._heart = LoopingCall(lambda: self.callRemote(Beat))
        self._heart.clock = reactor

    def connectionMade(self) -> None:
        """Log by the parent from now on."""
        super().connectionMade()
        self._relay.send = lambda event: self.callRemote(Logged, event=event)
        self._reactor.addSystemEventTrigger("before", "shutdown", self._end)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Without a parent there is nothing to do: let those who are connected finish, and end."""
        super().connectionLost(reason)
        self._relay.send = None
        self._stop_heart()
        self._stop()

    @Prepare.responder
    def _prepare(self, settings: str, sockets: str) -> dict[str, object]:
        """Do beforehand whatever can be done: import protocols and libraries, read files."""
        with _explained():
            self._settings = unpack(settings)
            self._layout = [(place, numbers) for place, numbers in json.loads(sockets)]
            for mistake in check_listeners(self._settings.listeners):
                raise mistake
        self._heart.start(BEAT)
        return {"stat": open_stat()}  # not closed here: Twisted does not say when it has been sent

    @Become.responder
    def _become(self, number: int) -> Deferred[dict[str, object]]:
        # Not from here: what is logged would be called by the name of this connection.
        return deferLater(self._reactor, 0, self._begin, number)

    def _begin(self, number: int) -> dict[str, object]:
        with _explained():
            service = self._make_service(number)
            service.startService()
        self._number, self._service = number, service
        gc.freeze()  # what is there now stays: nobody has to look at it again
        return {}

    def _make_service(self, number: int) -> EchoService:
        assert self._settings is not None  # noqa: S101  # the parent has waited for the answer to the other
        opened = []
        for place, numbers in self._layout:
            ours = numbers[(number - 1) % len(numbers)]
            opened.append(Opened(self._settings.listeners[place], socket.socket(fileno=ours)))
            for each in numbers:
                if each != ours:
                    os.close(each)
        self._layout = []
        return EchoService(adopt_listeners(opened, self._reactor), self._reactor, self._settings)

    @Snapshot.responder
    def _snapshot(self) -> dict[str, object]:
        assert self._service is not None  # noqa: S101  # as above
        return {"snapshot": json.dumps(attrs.evolve(self._service.snapshot(), worker=self._number).to_json())}

    @Stop.responder
    def _stop(self) -> dict[str, object]:
        if not self._stopping:
            self._stopping = True
            self._reactor.callLater(0, self._reactor.stop)  # the answer goes first
        return {}

    @Hurry.responder
    def _hurry(self) -> dict[str, object]:
        if self._service is not None:
            self._service.hurry()
        return {}

    def _end(self) -> Deferred[object]:
        """Drain, and wait until the parent has heard everything."""
        stopped = maybeDeferred(self._service.stopService if self._service is not None else lambda: None)
        return stopped.addErrback(lambda failure: _log.failure("stopping", failure)).addCallback(
            self._say_bye
        )

    def _say_bye(self, _: object) -> Deferred[object]:
        self._stop_heart()
        return maybeDeferred(self.callRemote, Bye).addErrback(lambda _: None)

    def _stop_heart(self) -> None:
        if self._heart.running:
            self._heart.stop()


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Tell the parent why it cannot be done, in one line."""
    try:
        yield
    except EchosvcError as problem:
        raise CannotBegin(str(problem)) from problem
    except Exception as problem:
        _log.failure("cannot begin")
        raise CannotBegin(repr(problem)) from problem


def install(name: str) -> Any:
    """Make the reactor that the parent runs.

    Args:
        name: The module that installs it, perhaps followed by the package of the event loop that it runs on.
    """
    module, _, loop = name.partition(",")
    if loop:
        importlib.import_module(module).install(importlib.import_module(loop).new_event_loop())
    elif hasattr(importlib.import_module(module), "install"):
        importlib.import_module(module).install()
    return importlib.import_module("twisted.internet.reactor")


def main(reactor_name: str) -> None:
    """Be a worker until the parent says otherwise, or ends.

    Args:
        reactor_name: As `install` has it.
    """
    ignore_signals()
    reactor = install(reactor_name)
    reactor.seconds = time.monotonic  # as in the parent
    relay = Relay()
    globalLogBeginner.beginLoggingTo([relay], redirectStandardIO=True)
    worker = Worker(reactor, relay)

    def begin() -> None:
        ignore_signals()  # Twisted has taken them
        factory: Any = Factory.forProtocol(lambda: worker)
        factory.noisy = False
        reactor.adoptStreamConnection(CONTROL, socket.AF_UNIX, factory)
        os.close(CONTROL)

    reactor.callWhenRunning(begin)
    reactor.run()


def ignore_signals() -> None:
    """Leave it to the parent what signals mean that the whole group is sent: by a terminal, or by a service manager."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
