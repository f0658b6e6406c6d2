"""From a target to a client: what can go wrong on the way, without a network."""

from __future__ import annotations

from typing import Any

from twisted.internet import error
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IHostnameResolver, IResolutionReceiver
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from echosvc.client import EchoClient, Target, connect, connect_datagram, connect_stream
from echosvc.client._resolve import literal, resolve
from echosvc.errors import ConnectionFailed, InvalidTarget, NameNotFound, NoReply, Refused


@implementer(IHostnameResolver)
class Names:
    """A name service that knows one set of addresses for every name, or does not answer."""

    def __init__(self, *addresses: IAddress, answers: bool = True) -> None:
        self.addresses = addresses
        self.answers = answers

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,  # Twisted's names are passed as keywords
        hostName: str,
        portNumber: int = 0,
        addressTypes: object = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        """Answer at once, or never."""
        resolutionReceiver.resolutionBegan(None)  # type: ignore[arg-type]  # nobody looks at it
        if self.answers:
            for each in self.addresses:
                resolutionReceiver.addressResolved(each)
            resolutionReceiver.resolutionComplete()


class StreamConnectionTests(SynchronousTestCase):
    """Connections over TCP."""

    def connect(self, text: str = "192.0.2.1:7") -> Deferred[EchoClient]:
        """Start to connect to a target."""
        self.reactor = MemoryReactorClock()
        return connect_stream(Target.parse(text), reactor=self.reactor, timeout=30)

    def fail(self, problem: Exception) -> None:  # type: ignore[override]  # of an attempt, not of the test
        """Let the attempt to connect fail."""
        host, port, factory, _, _ = self.reactor.tcpClients[0]
        self.assertEqual(("192.0.2.1", 7), (host, port))
        factory.clientConnectionFailed(self.reactor.connectors[0], Failure(problem))

    def test_refused(self) -> None:
        """A refused connection is reported with the target's name."""
        connecting = self.connect()
        self.fail(error.ConnectionRefusedError(111, "Connection refused"))

        self.assertEqual("192.0.2.1:7", self.failureResultOf(connecting, Refused).value.peer)

    def test_unreachable(self) -> None:
        """An unreachable network is reported in the system's words."""
        connecting = self.connect()
        self.fail(error.NoRouteError(113, "No route to host"))

        self.assertEqual("No route to host", self.failureResultOf(connecting, ConnectionFailed).value.why)

    def test_other_system_errors(self) -> None:
        """Whatever else the system says is passed on, even when Twisted wraps it."""
        for problem in (
            error.ConnectError(string=OSError(22, "Invalid argument")),
            error.ConnectBindError("Invalid argument"),
            OSError("Invalid argument"),
        ):
            connecting = self.connect()
            self.fail(problem)
            self.assertEqual("Invalid argument", self.failureResultOf(connecting, ConnectionFailed).value.why)

    def test_no_words(self) -> None:
        """An error without words is reported by what it is."""
        connecting = self.connect()
        self.fail(error.ConnectError())

        self.assertIn("connect", str(self.failureResultOf(connecting, ConnectionFailed).value))

    def test_timeout_of_the_attempt(self) -> None:
        """An attempt that Twisted gives up is no reply."""
        connecting = self.connect()
        self.fail(error.TimeoutError())

        self.assertEqual(30, self.failureResultOf(connecting, NoReply).value.timeout)

    def test_timeout(self) -> None:
        """When there is no connection after the timeout, that is no reply."""
        connecting = self.connect()
        self.reactor.advance(30)

        self.assertEqual("192.0.2.1:7", self.failureResultOf(connecting, NoReply).value.peer)

    def test_bug(self) -> None:
        """What is not a matter of the network is not made one."""
        connecting = self.connect()
        self.fail(ZeroDivisionError())

        self.failureResultOf(connecting, ZeroDivisionError)

    def test_unknown_name(self) -> None:
        """A name without an address is reported as not found."""
        reactor = MemoryReactorClock()
        reactor.nameResolver = Names()
        connecting = connect("nowhere.example:7", reactor=reactor)

        self.assertEqual("nowhere.example", self.failureResultOf(connecting, NameNotFound).value.name)

    def test_name_with_two_addresses(self) -> None:
        """A name with an IPv6 and an IPv4 address is tried at both."""
        reactor = MemoryReactorClock()
        reactor.nameResolver = Names(IPv6Address("TCP", "::1", 7), IPv4Address("TCP", "127.0.0.1", 7))
        connect("localhost:7", reactor=reactor).addErrback(lambda _: None)
        reactor.advance(1)

        self.assertEqual(["::1", "127.0.0.1"], [client[0] for client in reactor.tcpClients])

    def test_link_local(self) -> None:
        """The scope of a link-local address is kept: without it there is no way there."""
        self.connect("[fe80::1%lo]:7").addErrback(lambda _: None)

        self.assertEqual("fe80::1%lo", self.reactor.tcpClients[0][0])

    def test_not_a_target(self) -> None:
        """What cannot be understood is refused before anything is opened."""
        self.assertRaises(InvalidTarget, connect, "localhost")


class ResolveTests(SynchronousTestCase):
    """Where datagrams are sent."""

    def test_literal(self) -> None:
        """An address is written as the socket will write it in what it receives."""
        for written, address in (
            ("192.0.2.1", "192.0.2.1"),
            ("2001:DB8:0:0::1", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("0.0.0.0", "127.0.0.1"),
            ("::", "::1"),
        ):
            self.assertEqual((address, 7), literal(written, 7))
        self.assertIsNone(literal("localhost", 7))

    def test_first_address(self) -> None:
        """Of several addresses the one that the system prefers is taken."""
        reactor = MemoryReactorClock()
        reactor.nameResolver = Names(IPv6Address("UDP", "::1", 7), IPv4Address("UDP", "127.0.0.1", 7))

        self.assertEqual(("::1", 7), self.successResultOf(resolve("localhost", 7, reactor)))

    def test_unknown_name(self) -> None:
        """A name without an address is reported as not found."""
        reactor = MemoryReactorClock()
        reactor.nameResolver = Names()
        connecting = connect("udp:nowhere.example:7", reactor=reactor)

        self.assertEqual("nowhere.example", self.failureResultOf(connecting, NameNotFound).value.name)

    def test_no_answer(self) -> None:
        """A name service that does not answer is waited for as long as the timeout says."""
        reactor = MemoryReactorClock()
        reactor.nameResolver = Names(answers=False)
        connecting = connect_datagram(Target.parse("udp:slow.example:7"), reactor=reactor, timeout=3)
        reactor.advance(3)

        self.assertIn("name service", str(self.failureResultOf(connecting, NoReply).value))
