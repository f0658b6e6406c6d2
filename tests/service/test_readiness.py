"""Tests of when a service tells what to its service manager."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from typing import Any, cast

from twisted.internet import endpoints
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from echosvc import tap
from echosvc.errors import EchosvcError, UserError
from echosvc.listeners import Foreign, Internet, ListenerSettings
from echosvc.observe import ListenerSnapshot
from echosvc.service import EchoService, open_service
from echosvc.service.notify import Notifier, figures
from echosvc.settings import Settings
from echosvc.tap import Options, makeService
from tests.doubles import FakeReactor

TCP = ListenerSettings(protocol="echo", place=Internet("tcp", 0, "127.0.0.1"))
UDP = ListenerSettings(protocol="echo", place=Internet("udp", 0, "127.0.0.1"))


class RecordingNotifier:
    """Remembers what was to be told.

    Attributes:
        told: By name.
        figures: What tells the figures.
    """

    def __init__(self) -> None:
        self.told: list[str] = []
        self.figures: Callable[[], str] = str

    def report(self, figures: Callable[[], str]) -> None:
        """Remember."""
        self.figures = figures

    def draining(self, left: int) -> None:
        """Remember."""
        self.told.append(f"draining {left}")

    def __getattr__(self, name: str) -> Callable[[], None]:
        """Remember that it was called."""
        return lambda: self.told.append(name)


class ReadinessTests(SynchronousTestCase):
    """A service with a service manager."""

    def setUp(self) -> None:
        """Have both."""
        self.reactor = FakeReactor()
        self.notifier = RecordingNotifier()
        capture = capturedLogs()
        capture.__enter__()
        self.addCleanup(capture.__exit__, None, None, None)

    def start(
        self, *listeners: ListenerSettings, reread: Callable[[], Settings] | None = None
    ) -> EchoService:
        """Start one that listens on these, and have the reactor run."""
        self.service = open_service(
            Settings(listeners=listeners),
            self.reactor,
            reread=reread,
            notifier=cast(Notifier, self.notifier),
        )
        self.service.startService()
        self.assertEqual([], self.notifier.told)
        self.addCleanup(self.stop)
        for function, args, kwargs in self.reactor.whenRunningHooks:
            function(*args, **kwargs)
        return self.service

    def stop(self) -> None:
        """Stop it, if the test has not."""
        if self.service.running:
            stopped = self.service.stopService()
            self.reactor.advance(0)
            self.successResultOf(stopped)

    def test_ready_when_the_reactor_runs(self) -> None:
        """And not before: nobody would answer. The figures are those of all listeners."""
        self.start(TCP, UDP)

        self.assertEqual(["ready"], self.notifier.told)
        self.assertEqual("0 connections of 0 so far, 0 datagrams", self.notifier.figures())

    def foreign(self) -> Deferred[object]:
        """Start with an endpoint of Twisted's own that listens when this fires."""
        listening: Deferred[object] = Deferred()

        class Slow:
            def listen(self, _: object) -> Deferred[object]:
                return listening

        self.patch(endpoints, "serverFromString", lambda *_: Slow())
        self.start(TCP, ListenerSettings(protocol="echo", place=Foreign("slow:")))
        return listening

    def test_an_endpoint_that_needs_its_time(self) -> None:
        """It is waited for."""

        class Port:
            def getHost(self) -> object:
                return None

            def stopListening(self) -> None:
                pass

        listening = self.foreign()
        self.assertEqual([], self.notifier.told)
        listening.callback(Port())

        self.assertEqual(["ready"], self.notifier.told)

    def test_an_endpoint_that_fails_late(self) -> None:
        """The service is never ready, and its manager decides."""
        self.foreign().errback(RuntimeError("no"))

        self.assertEqual([], self.notifier.told)

    def test_stopped_before_it_was_ready(self) -> None:
        """It is not said any more."""
        self.foreign()
        self.stop()

        self.assertEqual(["stopping", "close"], self.notifier.told)

    def test_a_reload(self) -> None:
        """Is told before it begins and when it is over, also of a wrong configuration and after a mistake of ours."""

        def wrong() -> Settings:
            raise UserError("wrong")

        def bug() -> Settings:
            raise RuntimeError("bug")

        self.start(TCP, reread=wrong)
        self.service.reload()
        self.assertEqual(["ready", "reloading", "ready"], self.notifier.told)
        self.service._reread = bug
        self.assertRaises(RuntimeError, self.service.reload)
        self.service._reread = None
        self.service.reload()

        self.assertEqual(["reloading", "ready"] * 2, self.notifier.told[3:])

    def test_stopping(self) -> None:
        """Is told first, while connections are waited for, and nothing after the end."""
        service = self.start(TCP)
        client = socket.create_connection(("127.0.0.1", service.listeners[0].port), 5)
        self.addCleanup(client.close)
        stopped = service.stopService()
        self.assertEqual(["ready", "stopping", "draining 1"], self.notifier.told)
        self.reactor.advance(0.1)
        service.hurry()
        self.reactor.advance(0)
        self.successResultOf(stopped)

        self.assertEqual(["ready", "stopping", "draining 1", "draining 1", "close"], self.notifier.told)


class FiguresTests(SynchronousTestCase):
    """What ``systemctl status`` shows."""

    def test_all_listeners_together(self) -> None:
        """Connections that are in, of those that came, and datagrams; nothing of what is not served."""
        said: dict[str, Any] = {"name": "echo", "protocol": "echo", "where": "here"}
        tcp = ListenerSnapshot(**said, transport="tcp", opened=5, closed={"finished": 2})
        unix = ListenerSnapshot(**said, transport="unix", opened=1)
        udp = ListenerSnapshot(**said, transport="udp", datagrams_in=7)

        self.assertEqual("4 connections of 6 so far, 7 datagrams", figures(iter([tcp, udp, unix])))
        self.assertEqual("3 connections of 5 so far", figures([tcp]))
        self.assertEqual("7 datagrams", figures([udp]))


class TwistdTests(SynchronousTestCase):
    """What twistd itself was asked for."""

    def parse(self, **asked: Any) -> Options:
        """Parse our options, as twistd does it with its own."""
        options = Options()
        options.parent = cast(usage.Options, asked)
        options.parseOptions(["-p", "0", "-i", "127.0.0.1"])
        return options

    def test_is_tried_first(self) -> None:
        """What cannot be done ends it before anything is opened."""
        said: list[EchosvcError] = []

        def refuse(options: Any) -> None:
            said.append(UserError(f"pidfile {options['pidfile']}"))
            raise said[0]

        self.patch(sys, "stderr", None)
        self.patch(tap, "check_twistd", refuse)
        ended = self.assertRaises(SystemExit, self.parse, pidfile="x")

        self.assertEqual((64, ["pidfile x"]), (ended.code, [str(each) for each in said]))

    def test_its_start_is_guarded(self) -> None:
        """And the environment does not tell of the service manager any more."""
        guarded: list[Any] = []
        self.patch(tap, "guard", lambda *arguments: guarded.append(arguments))
        self.patch(os, "environ", {"NOTIFY_SOCKET": "/nowhere"})
        options = self.parse(reactor=None)
        with capturedLogs():
            service: Any = makeService(options)
        self.addCleanup(lambda: [each.stop() for each in service.listeners])

        self.assertEqual([(service, {"reactor": None})], guarded)
        self.assertEqual({}, dict(os.environ))
