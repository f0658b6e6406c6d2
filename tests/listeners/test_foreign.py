"""Tests of listeners on endpoints of Twisted's own, or of a plugin of it."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import attrs
from twisted.internet import endpoints
from twisted.internet.address import IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.task import Clock
from twisted.internet.tcp import Server
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.python.failure import Failure

from echosvc.admission import DoorSettings, Gate, Limits, Screens
from echosvc.errors import AddressNotAvailable, ExitCode, ListenError, ListenNotPermitted, PortInUse
from echosvc.listeners import Foreign, ListenerSettings, TLSSettings, certificates, inherited
from echosvc.listeners.foreign import ForeignListener
from echosvc.listeners.layers import Layers
from echosvc.protocols import Echo, EchoFactory, WireProtocol, find
from echosvc.transports import tls
from echosvc.transports.addresses import display
from tests.listeners.cases import FOREIGN, FOREIGN_HOST, FakeCertificates, ListenerCase, PortReactor
from tests.listeners.test_layers import FakeTLSFactory


class FakePort:
    """What a plugin's endpoint may hand out when it listens.

    Args:
        stopped: What stopping it returns.
    """

    def __init__(self, stopped: object = None) -> None:
        self.stopped = stopped
        self.stops = 0

    def getHost(self) -> UNIXAddress:
        """Be somewhere that is neither IPv4 nor IPv6."""
        return UNIXAddress(b"/somewhere")

    def stopListening(self) -> object:
        """Count."""
        self.stops += 1
        return self.stopped


class FakeEndpoint:
    """Listens when it is told to.

    Args:
        listen: What listening does.
    """

    def __init__(self, listen: Callable[[IProtocolFactory], object]) -> None:
        self.listen = listen


@attrs.frozen
class Greeting:
    """Settings of a protocol's own."""

    text: str = "hello"


class ForeignCase(ListenerCase):
    """Opens listeners on endpoints of Twisted's."""

    def setUp(self) -> None:
        """Make a reactor on which Twisted's ports listen for real."""
        self.reactor = PortReactor()

    def open(
        self, description: str = FOREIGN, wire: WireProtocol | None = None, **more: Any
    ) -> ForeignListener:
        """Open one."""
        place = Foreign(description)
        settings = ListenerSettings(protocol="echo", origin="--listen echo=x:1", place=place, **more)
        listener = ForeignListener(
            wire or find("echo"), settings, place, Layers(settings, "echo"), self.reactor
        )
        self.addCleanup(self.stop, listener)
        return listener

    def stop(self, listener: ForeignListener) -> None:
        """Stop a listener, and whatever it has accepted."""
        stopped = listener.stop()
        for connection in [each for each in self.reactor.getReaders() if isinstance(each, Server)]:
            connection.abortConnection()
        self.reactor.advance(0)
        self.successResultOf(stopped)

    def plug_in(self, listen: Callable[[IProtocolFactory], object]) -> None:
        """Install a plugin of Twisted's whose endpoints do something."""
        self.patch(endpoints, "serverFromString", lambda *_: FakeEndpoint(listen))

    def connect(self, listener: ForeignListener) -> socket.socket:
        """Connect a client, and accept it."""
        address = listener._port.getHost()
        client = socket.create_connection((address.host, address.port), 5)
        self.addCleanup(client.close)
        listener._port.doRead()
        return client


class ServingTests(ForeignCase):
    """It serves as others do, only on Twisted's transports."""

    def test_says_what_listens_where(self) -> None:
        """The endpoint as it was given, and the address that it has led to."""
        listener = self.open()
        port = listener._port.getHost().port

        self.assertEqual(f"{FOREIGN} (TCP {display(FOREIGN_HOST, port)})", listener.where)
        self.assertEqual(
            f"echo (RFC 862) listens on {FOREIGN} (TCP {display(FOREIGN_HOST, port)})", str(listener)
        )
        self.assertEqual((port, None), (listener.port, listener.udp_port))

    def test_listens_from_the_moment_it_is_opened(self) -> None:
        """So that a port that is taken is known at once; starting the service adds nothing."""
        listener = self.open()
        before = self.reactor.getReaders()
        listener.start(self.reactor, Screens([]), Gate(Limits(), self.reactor))

        self.assertEqual([listener._port], before)
        self.assertEqual(before, self.reactor.getReaders())

    def test_half_close_survives(self) -> None:
        """A client that has said all it had to say gets all of it back, and then the end."""
        listener = self.open()
        client = self.connect(listener)
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)
        (connection,) = [each for each in self.reactor.getReaders() if isinstance(each, Server)]
        connection.doRead()
        self.assertEqual([connection], self.reactor.getWriters())
        failure = connection.doRead()  # the end of what the client sends, as a reactor would tell it
        connection.readConnectionLost(Failure(failure))
        connection.doWrite()
        connection.connectionLost(Failure(failure))

        self.assertEqual(b"hello", client.recv(99))
        self.assertEqual(b"", client.recv(99))

    def test_counts_connections(self) -> None:
        """Those that were accepted, whatever became of them."""
        listener = self.open()
        self.assertEqual("0 connections", listener.totals())
        self.connect(listener)
        self.connect(listener)

        self.assertEqual("2 connections", listener.totals())
        self.assertEqual({}, listener.drops())

    def start(self, listener: ForeignListener, **limits: Any) -> Gate:
        """Begin to serve, with some limits for all."""
        gate = Gate(Limits(**limits), Clock())
        listener.start(self.reactor, Screens([]), gate)
        return gate

    def test_so_many_and_no_more(self) -> None:
        """Whoever leaves makes room; the protocol is told of its end as ever."""
        listener = self.open()
        gate = self.start(listener, max_connections=1, max_per_source=2)
        first = self.connect(listener)
        self.assertEqual(b"", self.connect(listener).recv(1))
        (connection,) = [each for each in self.reactor.getReaders() if isinstance(each, Server)]
        told: list[Failure] = []
        self.patch(Echo, "connectionLost", lambda _, reason: told.append(reason))
        protocol = connection.protocol
        first.close()
        connection.connectionLost(Failure(connection.doRead()))
        self.assertEqual(0, gate.quota.count)
        self.connect(listener)

        self.assertIsInstance(protocol, Echo)
        self.assertEqual({"max-connections": 1}, listener.drops())
        self.assertEqual("2 connections", listener.totals())

    def test_behind_a_proxy(self) -> None:
        """The client that it announces is let in or not, and counts, until its connection ends."""
        listener = self.open(proxy=(ip_network(FOREIGN_HOST),), door=DoorSettings(deny=("192.0.2.0/24",)))
        gate = self.start(listener, max_connections=5, max_per_source=1)
        for client, word in (("203.0.113.1", b"word"), ("203.0.113.1", b""), ("192.0.2.1", b"")):
            sock = self.connect(listener)
            sock.sendall(f"PROXY TCP4 {client} 127.0.0.1 5 7\r\nword".encode())
            connection = max(
                (each for each in self.reactor.getReaders() if isinstance(each, Server)),
                key=lambda each: each.sessionno,
            )
            connection.doRead()
            self.reactor.advance(0)
            connection.doWrite()
            try:
                came = sock.recv(10)
            except ConnectionResetError:
                came = b""
            self.assertEqual(word, came)
        self.assertEqual(1, gate.quota.count)
        (connection,) = [each for each in self.reactor.getReaders() if isinstance(each, Server)]
        connection.connectionLost(Failure(ConnectionDone()))

        self.assertEqual(0, gate.quota.count)
        self.assertEqual({"max-per-source": 1, "access-denied": 1}, listener.drops())

    def test_whoever_is_not_allowed_is_closed(self) -> None:
        """And counted."""
        listener = self.open(door=DoorSettings(allow=("192.0.2.0/24",)))
        self.start(listener)

        self.assertEqual(b"", self.connect(listener).recv(1))
        self.assertEqual({"access-denied": 1}, listener.drops())

    def test_lists_of_networks_are_read_again(self) -> None:
        """For the connections to come; before it serves, too."""
        path = self.folder() / "denied"
        path.write_text(f"{FOREIGN_HOST}\n")
        listener = self.open(door=DoorSettings(deny=(f"@{path}",)))
        path.write_text("")
        listener.reload()
        self.start(listener)
        self.connect(listener)
        self.assertEqual({}, listener.drops())
        path.write_text(f"{FOREIGN_HOST}\n")
        listener.reload()
        self.assertEqual(b"", self.connect(listener).recv(1))
        path.write_text("x")
        self.assertRaises(ValueError, listener.reload)

        self.assertEqual({"access-denied": 1}, listener.drops())

    def test_whoever_gets_no_protocol_takes_no_place(self) -> None:
        """A factory may want none, or fail, which is Twisted's to log."""

        def fail(_: object) -> None:
            raise RuntimeError("bug")

        peer = IPv6Address("TCP", "::1", 40000)
        listener = self.open()
        gate = self.start(listener, max_connections=1)
        self.patch(listener._factory._factory, "buildProtocol", lambda _: None)
        self.assertIsNone(listener._factory.buildProtocol(peer))
        self.patch(listener._factory._factory, "buildProtocol", fail)
        self.assertRaises(RuntimeError, listener._factory.buildProtocol, peer)

        self.assertEqual(0, gate.quota.count)

    def test_before_it_is_started_nobody_decides(self) -> None:
        """Whoever is so early is let in, and a factory that wants nobody has its way."""
        listener = self.open()
        self.patch(listener._factory._factory, "buildProtocol", lambda _: None)

        self.assertEqual(b"", self.connect(listener).recv(1))

    def test_layers_are_put_around_it(self) -> None:
        """A PROXY header can be asked for; what is refused is counted."""
        listener = self.open(proxy=(ip_network("10.0.0.0/8"),))
        client = self.connect(listener)

        self.assertEqual(b"", client.recv(9))
        self.assertEqual({"proxy-untrusted": 1}, listener.drops())
        self.assertTrue(str(listener).endswith(", PROXY from 10.0.0.0/8"))

    def test_certificates_of_a_layer(self) -> None:
        """They are read again when asked, and what they say of themselves is passed on."""
        made: list[FakeCertificates] = []

        def read(*settings: Any) -> FakeCertificates:
            made.append(FakeCertificates(*settings))
            return made[-1]

        self.patch(certificates, "Certificates", read)
        self.patch(tls, "TLSFactory", FakeTLSFactory)
        listener = self.open(tls=TLSSettings(cert="a", key="b"))
        listener.reload()

        self.assertEqual(["it has expired"], listener.warnings())
        self.assertEqual([1], [each.reloads for each in made])
        self.assertEqual([], self.open().warnings())

    def test_settings_are_handed_to_the_protocol(self) -> None:
        """The listener's own."""
        handed: list[Greeting] = []

        def make(options: Greeting) -> IProtocolFactory:
            handed.append(options)
            return EchoFactory()

        wire = WireProtocol(name="greeting", rfc="none", summary="x", stream=make, options=Greeting)
        self.open(wire=wire, options=Greeting("hi"))

        self.assertEqual([Greeting("hi")], handed)

    def test_the_factory_is_told_of_its_port(self) -> None:
        """As on any port of Twisted's: when it begins, and when it ends."""
        told: list[str] = []

        class Told(EchoFactory):
            def startFactory(self) -> None:
                told.append("start")

            def stopFactory(self) -> None:
                told.append("stop")

        wire = WireProtocol(name="told", rfc="none", summary="x", stream=Told)
        listener = self.open(wire=wire)
        self.assertEqual(["start"], told)
        self.stop(listener)

        self.assertEqual(["start", "stop"], told)

    def test_inherited_sockets_are_remembered_first(self) -> None:
        """The import of Twisted's endpoints takes them out of the environment."""
        order: list[str] = []
        self.patch(inherited, "remember", lambda: order.append("remember"))

        def listen(_: object) -> object:
            order.append("listen")
            return succeed(FakePort())

        self.plug_in(listen)
        self.open("x:1")

        self.assertEqual(["remember", "listen"], order)


class RefusalTests(ForeignCase):
    """An endpoint that cannot listen says so in one line."""

    def fails(self, description: str = "x:1") -> ListenError:
        """Expect that it cannot be opened."""
        place = Foreign(description)
        settings = ListenerSettings(protocol="echo", origin="--listen echo=x:1", place=place)
        before = self.reactor.getReaders()
        error = self.assertRaises(
            ListenError,
            ForeignListener,
            find("echo"),
            settings,
            place,
            Layers(settings, "echo"),
            self.reactor,
        )
        assert isinstance(error, ListenError)
        self.assertEqual(1, len(str(error).splitlines()))
        self.assertEqual(before, self.reactor.getReaders())
        return error

    def test_port_in_use(self) -> None:
        """Said as of any other port, and the process ends as with any other."""
        port = self.open()._port.getHost().port
        description = FOREIGN.replace(":0:", f":{port}:", 1)
        error = self.fails(description)

        self.assertTrue(
            str(error).startswith(f"--listen echo=x:1: {description}: already in use; stop what"), str(error)
        )
        self.assertIsInstance(error, PortInUse)
        self.assertEqual(ExitCode.UNAVAILABLE, error.exit_code)

    def test_what_the_system_refuses(self) -> None:
        """The errors and exit codes are those of our own ports."""
        for number, kind, words in (
            (errno.EACCES, ListenNotPermitted, "not permitted; ports below 1024 need"),
            (errno.EADDRNOTAVAIL, AddressNotAvailable, "Cannot assign requested address; give an address"),
            (errno.EMFILE, ListenError, "Too many open files"),
        ):
            system = OSError(number, os.strerror(number))
            self.plug_in(_raising(CannotListenError("::1", 7, system)))
            error = self.fails()

            self.assertIs(kind, type(error))
            self.assertTrue(error.problem.startswith(words), error.problem)

    def test_whatever_a_plugin_fails_with(self) -> None:
        """By a failure or by raising, with words or without, in however many lines."""
        for problem, words in (
            (CannotListenError("::1", 7, "no\n such thing"), "no such thing"),
            (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
            (ValueError("it is\nbroken"), "it is broken"),
            (KeyError(), "KeyError"),
        ):
            for fail in (_failing(problem), _raising(problem)):
                self.plug_in(fail)

                self.assertEqual(words, self.fails().problem)

    def test_an_endpoint_that_cannot_be_made(self) -> None:
        """A file that it needs, say, that was there a moment ago."""
        self.assertIn("Unknown endpoint type", self.fails("nonsense:1").problem)


class LaterTests(ForeignCase):
    """Some endpoints take their time."""

    def setUp(self) -> None:
        """Plug one in that listens when the test says so."""
        super().setUp()
        self.cancelled = 0
        self.listening: Deferred[object] = Deferred(self.cancel)
        self.plug_in(lambda _: self.listening)

    def cancel(self, _: object) -> None:
        """Count."""
        self.cancelled += 1

    def test_listens_later(self) -> None:
        """It is stopped as any other; an address that is no port's is not shown."""
        listener = self.open("x:1")
        self.assertEqual("x:1", listener.where)
        port = FakePort()
        self.listening.callback(port)

        self.assertEqual(("x:1", None), (listener.where, listener.port))
        self.successResultOf(listener.stop())
        self.assertEqual(1, port.stops)
        self.assertEqual(0, self.cancelled)

    def test_stopping_waits_for_the_port(self) -> None:
        """If it takes its time for that, too."""
        listener = self.open("x:1")
        closed: Deferred[None] = Deferred()
        self.listening.callback(FakePort(closed))
        stopped = listener.stop()

        self.assertNoResult(stopped)
        closed.callback(None)
        self.successResultOf(stopped)

    def test_fails_later(self) -> None:
        """One line in the log, when nobody waits for an answer any more; the service lives on."""
        listener = self.open("x:1")
        with capturedLogs() as events:
            self.listening.errback(OSError(errno.EADDRINUSE, "Address already in use"))

        self.assertEqual(
            [(LogLevel.error, "echosvc", "x:1: Address already in use")],
            [(each["log_level"], each["log_namespace"], formatEvent(each)) for each in events],
        )
        self.successResultOf(listener.stop())
        self.assertEqual("0 connections", listener.totals())

    def test_is_stopped_before_it_listens(self) -> None:
        """Then it need not go on; which is no error, and no line in the log."""
        listener = self.open("x:1")
        with capturedLogs() as events:
            self.successResultOf(listener.stop())

        self.assertEqual(1, self.cancelled)
        self.assertEqual([], [formatEvent(event) for event in events])


def _failing(problem: Exception) -> Callable[[object], object]:
    def listen(_: object) -> object:
        failed: Deferred[object] = Deferred()
        failed.errback(problem)
        return failed

    return listen


def _raising(problem: Exception) -> Callable[[object], object]:
    def listen(_: object) -> object:
        raise problem

    return listen
