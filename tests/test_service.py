"""Tests of the running service."""

from __future__ import annotations

import signal
import socket
from typing import Any, cast

from twisted.application.service import MultiService
from twisted.trial.unittest import SynchronousTestCase

from echosvc.errors import PortInUse
from echosvc.listeners import ListenerSettings
from echosvc.service import EchoService, open_service
from echosvc.settings import Settings
from echosvc.transports.messages import PlainMessages
from tests.doubles import FakeReactor, udp_socket


def settings(port: int = 0) -> Settings:
    """Echo over TCP and UDP on loopback."""
    return Settings(
        listeners=tuple(
            ListenerSettings(protocol="echo", transport=transport, port=port, interface="127.0.0.1")
            for transport in ("tcp", "udp")
        )
    )


class SignallingReactor(FakeReactor):
    """A reactor that handles SIGTERM, as a running one does."""

    stops = 0

    def sigTerm(self, *args: object) -> None:
        """What Twisted's reactors install for SIGTERM."""

    def stop(self) -> None:
        """Count."""
        self.stops += 1


class ServiceTests(SynchronousTestCase):
    """Start and stop."""

    def start(self, reactor: FakeReactor) -> EchoService:
        """Start a service as twistd does."""
        self.reactor = reactor
        self.parent = MultiService()
        service = open_service(settings(), reactor)
        service.setServiceParent(self.parent)
        self.parent.startService()
        self.addCleanup(self.stop)
        return service

    def stop(self) -> None:
        """Stop it, if the test has not."""
        if self.parent.running:
            stopped = self.parent.stopService()
            self.reactor.advance(0)
            self.successResultOf(stopped)

    def test_does_not_let_its_own_ports_in(self) -> None:
        """A datagram that claims to come from our own port is dropped by the running service."""
        service = self.start(FakeReactor())
        port = next(each for each in self.reactor.getReaders() if each.getHost().type == "UDP")
        received: list[Any] = [(b"forged", [], 0, ("127.0.0.9", service.listeners[1].port))]

        class Forging:
            family = socket.AF_INET

            def recvmsg(self, *_: object) -> Any:
                if not received:
                    raise BlockingIOError
                return received.pop()

        port._messages = PlainMessages(cast(socket.socket, Forging()))
        port.doRead()

        self.assertEqual(service.listeners[1].drops(), {"source-port-own": 1})

    def test_stops_clean(self) -> None:
        """No socket and no timer is left."""
        self.start(FakeReactor())
        self.assertEqual(len(self.reactor.getReaders()), 2)
        self.stop()

        self.assertEqual(self.reactor.getReaders(), [])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_sigterm_stops_the_reactor_without_a_mark(self) -> None:
        """Twisted would remember the signal and die of it; ours only stops."""
        before = signal.getsignal(signal.SIGTERM)
        self.addCleanup(signal.signal, signal.SIGTERM, before)
        reactor = SignallingReactor()
        signal.signal(signal.SIGTERM, reactor.sigTerm)
        self.start(reactor)
        self.assertEqual(signal.getsignal(signal.SIGTERM), reactor.sigTerm)
        for function, args, kwargs in reactor.whenRunningHooks:
            function(*args, **kwargs)
        signal.raise_signal(signal.SIGTERM)

        self.assertEqual(reactor.stops, 1)

    def test_a_second_sigterm_changes_nothing(self) -> None:
        """A reactor that is stopping already cannot be stopped; asking it again would be a traceback."""
        reactor = SignallingReactor()
        service = self.start(reactor)
        service._on_sigterm()
        service._on_sigterm()

        self.assertEqual(reactor.stops, 1)

    def test_leaves_sigterm_alone_where_the_reactor_does(self) -> None:
        """Embedded in something else, signals are that something's business."""
        before = signal.getsignal(signal.SIGTERM)
        self.start(FakeReactor())
        for function, args, kwargs in self.reactor.whenRunningHooks:
            function(*args, **kwargs)

        self.assertEqual(signal.getsignal(signal.SIGTERM), before)

    def test_opens_all_or_nothing(self) -> None:
        """A service whose port is taken is not made."""
        taken = udp_socket()
        self.addCleanup(taken.close)

        self.assertRaises(PortInUse, open_service, settings(taken.getsockname()[1]), FakeReactor())
