"""Tests of the reactor for loopback sockets, and of its clients."""

from __future__ import annotations

import socket
import tempfile
from unittest import skipUnless

from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from echosvc.protocols import DatagramEcho, EchoFactory
from echosvc.testing import LoopbackReactor, SocketClient, _loopback, narrow_socket
from echosvc.transports import StreamPort
from echosvc.transports.linux import LINUX
from tests.machine import needs_ipv6, open_descriptors
from tests.waiting import until


class LoopbackCase(SynchronousTestCase):
    """Opens a port, and clients of it."""

    def setUp(self) -> None:
        """Make the reactor."""
        self.reactor = LoopbackReactor()
        self.addCleanup(self.reactor.close)

    def listen(self, factory: Factory[Protocol] | EchoFactory) -> tuple[str, int]:
        """Listen as the service does."""
        sock = socket.create_server(("127.0.0.1", 0))
        StreamPort(sock, factory, self.reactor, stall_timeout=300).startListening()
        address: tuple[str, int] = sock.getsockname()
        return address

    def connect(self, address: tuple[str, int] | str) -> SocketClient:
        """Connect a client."""
        client = SocketClient(narrow_socket(address), self.reactor)
        self.addCleanup(client.abort)
        return client


def quiet(protocol: type[Protocol]) -> Factory[Protocol]:
    """Build a factory that logs nothing."""
    factory: Factory[Protocol] = Factory.forProtocol(protocol)
    factory.noisy = False
    return factory


class ReactorTests(LoopbackCase):
    """It is a reactor, and does nothing by itself."""

    def test_time_passes_when_it_is_told_to(self) -> None:
        """And then what is due is done, with what that asks for at once."""
        done: list[float] = []

        def note(again: float | None = None) -> None:
            done.append(self.reactor.seconds())
            if again is not None:
                self.reactor.callLater(again, note)

        self.reactor.callLater(10, note, 0)
        self.reactor.callLater(11, note)
        self.reactor.advance(9)
        self.assertEqual(done, [])
        self.reactor.advance(1)

        self.assertEqual(done, [10, 10])
        self.assertEqual(len(self.reactor.getDelayedCalls()), 1)
        self.assertRaisesRegex(ValueError, "time does not pass backwards", self.reactor.advance, -1)

    def test_a_turn_says_whether_there_was_anything_to_do(self) -> None:
        """So that nobody has to wait."""
        self.assertFalse(self.reactor.turn())
        self.reactor.callFromThread(lambda: None)
        self.assertTrue(self.reactor.turn())
        self.reactor.callLater(0, lambda: None)
        self.assertTrue(self.reactor.turn())
        self.reactor.callLater(0, lambda: None)
        self.assertTrue(self.reactor.settle())
        self.assertFalse(self.reactor.settle())

    def test_a_call_that_calls_itself_for_ever_is_found(self) -> None:
        """It would keep a real reactor busy, too."""

        def again() -> None:
            self.reactor.callLater(0, again)

        again()
        self.patch(_loopback, "_RESTLESS", 10)

        self.assertRaisesRegex(RuntimeError, "still busy after 10 turns", self.reactor.settle)

    def test_is_a_reactor_for_everything(self) -> None:
        """Twisted's own ports listen on it, for datagrams, too."""
        address = self.reactor.listenTCP(0, EchoFactory(), interface="127.0.0.1").getHost()
        client = self.connect((address.host, address.port))
        client.send(b"hello")
        self.assertEqual(client.receive(), b"hello")
        protocol = DatagramEcho()
        port = self.reactor.listenUDP(0, protocol, interface="127.0.0.1")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            asker.settimeout(5)
            asker.sendto(b"hello", ("127.0.0.1", port.getHost().port))
            self.reactor.settle()
            self.assertEqual(asker.recv(100), b"hello")

    def test_leaves_nothing_open(self) -> None:
        """No descriptor and no timed call is left when it has been closed."""
        before = open_descriptors()
        reactor = LoopbackReactor()
        port = reactor.listenTCP(0, EchoFactory(), interface="127.0.0.1")
        sock = socket.create_connection(("127.0.0.1", port.getHost().port))
        reactor.settle()
        call = reactor.callLater(1, lambda: None)
        reactor.close()
        sock.close()

        self.assertEqual(open_descriptors(), before)
        self.assertFalse(call.active())


class ClientTests(LoopbackCase):
    """A client is turned with the reactor."""

    def test_what_it_sends_is_served_when_send_returns(self) -> None:
        """And what comes back is there."""
        client = self.connect(self.listen(EchoFactory()))
        client.send(b"hello")
        client.send_eof()

        self.assertEqual((client.receive(3), client.receive(), client.is_finished), (b"hel", b"lo", False))
        self.assertEqual((client.receive(), client.is_finished, client.is_reset), (b"", True, False))
        self.assertEqual(client.receive(), b"")

    def test_what_a_server_does_not_read_waits(self) -> None:
        """Until it does; the end of what is sent waits, too."""
        client = self.connect(self.listen(EchoFactory()))
        sent = 0
        for _ in until(lambda: client.waiting):
            client.send(b"x" * 65_536)
            sent += 65_536
        client.send_eof()
        self.assertLess(sent, 2_000_000)  # narrow
        received = 0
        for _ in until(lambda: client.is_finished):
            received += len(client.receive())

        self.assertEqual((received, client.waiting), (sent, 0))

    def test_a_server_that_aborts(self) -> None:
        """It is a reset, and what is sent from then on is lost."""

        class Aborting(Protocol):
            def connectionMade(self) -> None:
                self.transport.abortConnection()  # type: ignore[union-attr]  # it has one now

        client = self.connect(self.listen(quiet(Aborting)))
        client.send(b"hello?")
        client.send_eof()

        self.assertEqual((client.receive(), client.is_finished, client.is_reset), (b"", True, True))
        self.assertEqual(client.waiting, 0)

    def test_an_abort(self) -> None:
        """The server sees that the connection is lost."""
        lost: list[str] = []

        class Noting(Protocol):
            def connectionLost(self, reason: object = None) -> None:
                lost.append(str(reason))

        client = self.connect(self.listen(quiet(Noting)))
        client.abort()
        client.abort()

        self.assertEqual(len(lost), 1)
        self.assertIn("ConnectionLost", lost[0])
        self.assertEqual((client.receive(), client.waiting, client.is_finished), (b"", 0, True))

    def test_on_a_unix_socket(self) -> None:
        """It is the same there."""
        with tempfile.TemporaryDirectory(prefix="echosvc-") as folder:
            path = f"{folder}/echo"
            port = self.reactor.listenUNIX(path, EchoFactory())
            client = self.connect(path)
            port.stopListening()
            self.reactor.settle()
        client.send(b"hello")

        self.assertEqual(client.receive(), b"hello")

    def test_a_socket_that_has_read_and_has_nothing_yet_is_asked_again(self) -> None:
        """TLS has read a part of a record, perhaps, and the server can now send the rest."""

        class Late(socket.socket):
            skipped = 0

            def recv(self, *arguments: int) -> bytes:
                data = b""
                for _ in until(lambda: self.skipped >= 400_000):
                    data = super().recv(*arguments)
                    self.skipped += len(data)
                return data

        narrow = narrow_socket(self.listen(EchoFactory()))
        client = SocketClient(Late(fileno=narrow.detach()), self.reactor)
        self.addCleanup(client.abort)
        client.send(b"x" * 500_000)

        self.assertNotEqual(client.receive(), b"")

    @needs_ipv6
    def test_over_ipv6(self) -> None:
        """And there."""
        address = self.reactor.listenTCP(0, EchoFactory(), interface="::1").getHost()
        client = self.connect(("::1", address.port))
        client.send(b"hello")

        self.assertEqual(client.receive(), b"hello")

    @skipUnless(LINUX, "other systems have 127.0.0.1 alone")
    def test_nothing_is_known_of_a_client(self) -> None:
        """Each comes from an address of its own: what the kernel remembers of others would give it more room."""
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        sources = set()
        for _ in range(5):
            with narrow_socket(listening.getsockname()) as client:
                sources.add(client.getsockname()[0])
                listening.accept()[0].close()

        self.assertNotIn("127.0.0.1", sources)
        self.assertGreater(len(sources), 1)

    def test_where_nobody_listens(self) -> None:
        """It is refused, and nothing is left open."""
        self.assertRaises(FileNotFoundError, narrow_socket, "/nonexistent/echo")

    def test_is_used_wrongly(self) -> None:
        """The message says how it is done."""
        client = self.connect(self.listen(EchoFactory()))
        with self.assertRaisesRegex(TypeError, r"send\(\) takes bytes, not str; write b'…'"):
            client.send("text")  # type: ignore[arg-type]  # the point
        with self.assertRaisesRegex(ValueError, "limit is a number of bytes above zero, not -1"):
            client.receive(-1)
        client.send_eof()
        with self.assertRaisesRegex(ValueError, r"send\(\) after send_eof\(\): .* connect another one"):
            client.send(b"x")
        client.abort()
        with self.assertRaisesRegex(ValueError, r"send_eof\(\) after abort\(\): .* connect another one"):
            client.send_eof()
