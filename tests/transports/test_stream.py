"""Tests of the stream port and its connections, on real sockets and a reactor that the test turns by hand."""

from __future__ import annotations

import contextlib
import select
import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from echosvc.protocols import Echo, EchoFactory
from echosvc.transports import StreamPort, StreamTransport
from echosvc.transports.hub import hub_for
from echosvc.transports.stream import ACCEPT_BEHIND
from tests.doubles import FakeReactor
from tests.machine import family_of, needs_ipv6, no_descriptor
from tests.waiting import until

STALL_TIMEOUT = 10.0


class Recorder(Protocol):
    """Remembers what its connection tells it."""

    lost: Failure | None = None

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # Twisted has a default
        """Remember the end."""
        self.lost = reason


class RecorderFactory(Factory[Recorder]):
    """Remembers every protocol it has built, and for whom."""

    protocol = Recorder
    noisy = False

    def __init__(self) -> None:
        self.built: list[Recorder] = []
        self.addresses: list[IAddress | None] = []

    def buildProtocol(self, addr: IAddress | None) -> Recorder:
        """Build one and remember it."""
        protocol = Recorder()
        self.built.append(protocol)
        self.addresses.append(addr)
        return protocol


class StreamCase(SynchronousTestCase):
    """Opens a port, and clients of it."""

    def setUp(self) -> None:
        """Make the reactor."""
        self.reactor = FakeReactor()
        self.hub = hub_for(self.reactor)

    def open_port(self, factory: Factory[Recorder] | EchoFactory, host: str = "127.0.0.1") -> StreamPort:
        """Open a port for a factory."""
        sock = socket.socket(family_of(host), socket.SOCK_STREAM)
        if host == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((host, 0))
        sock.listen()
        port = StreamPort(sock, factory, self.reactor, stall_timeout=STALL_TIMEOUT)
        port.startListening()
        self.addCleanup(self.close, port)
        return port

    def close(self, port: StreamPort) -> None:
        """Close a port, if the test has not."""
        if port.connected:
            port.stopListening()
            self.reactor.advance(0)

    def connect(self, port: StreamPort, host: str = "127.0.0.1") -> tuple[socket.socket, StreamTransport]:
        """Connect a client; return its socket and the connection on our side."""
        client = socket.create_connection((host, port.getHost().port), 5)
        self.addCleanup(client.close)
        port.doRead()
        (transport,) = [each for each in self.hub.getReaders() if isinstance(each, StreamTransport)]
        self.addCleanup(self.drop, transport)
        return client, transport

    def drop(self, transport: StreamTransport) -> None:
        """End a connection, if it has not ended."""
        if transport.connected:
            transport.abortConnection()
            self.reactor.advance(0)

    def wait(self, seconds: float) -> None:
        """Let time pass, a little at a time."""
        self.reactor.pump([STALL_TIMEOUT / 400] * round(seconds / STALL_TIMEOUT * 400))

    def fill(self, transport: StreamTransport) -> None:
        """Write until the kernel takes no more and something stays queued."""
        for _ in until(lambda: transport.dataBuffer and not select.select([], [transport.socket], [], 0)[1]):
            transport.write(b"x" * 1_000_000)
            transport.doWrite()


class PortTests(StreamCase):
    """Accepting."""

    def test_fewer_while_others_wait(self) -> None:
        """While connections wait for their turn, only some are accepted in one; before the port closes, all."""
        factory = RecorderFactory()
        port = self.open_port(factory)
        for _ in range(40):
            client = socket.create_connection(("127.0.0.1", port.getHost().port), 5)
            self.addCleanup(client.close)
        self.hub.is_behind = True
        accepted = []
        for accept in (port.doRead, port.doRead, port.accept_waiting):
            accept()
            accepted.append(len(factory.built))
        for transport in [each for each in self.hub.getReaders() if isinstance(each, StreamTransport)]:
            self.drop(transport)

        self.assertEqual([ACCEPT_BEHIND, 2 * ACCEPT_BEHIND, 40], accepted)

    def test_tells_the_protocol_who_connects(self) -> None:
        """Host and peer are those of the connection."""
        factory = RecorderFactory()
        client, transport = self.connect(self.open_port(factory))

        peer = IPv4Address("TCP", *client.getsockname())
        self.assertEqual(factory.addresses, [peer])
        self.assertEqual(transport.getPeer(), peer)
        self.assertEqual(transport.getHost(), IPv4Address("TCP", *client.getpeername()))

    def test_ipv4_peer_of_a_dual_stack_port_is_ipv4(self) -> None:
        """Nobody above the socket sees `::ffff:127.0.0.1`."""
        factory = RecorderFactory()
        client, transport = self.connect(self.open_port(factory, "::"))

        peer = IPv4Address("TCP", *client.getsockname())
        self.assertEqual(factory.addresses, [peer])
        self.assertEqual(transport.getPeer(), peer)
        self.assertEqual(transport.getHost(), IPv4Address("TCP", *client.getpeername()))
        self.assertIn(",127.0.0.1", transport.logPrefix())

    @needs_ipv6
    def test_ipv6_peer_is_ipv6(self) -> None:
        """An IPv6 client on the same port keeps its address."""
        _, transport = self.connect(self.open_port(RecorderFactory(), "::"), "::1")

        peer = transport.getPeer()
        self.assertIsInstance(peer, IPv6Address)
        self.assertEqual(peer.host, "::1")

    def test_connections_are_kept_alive_and_not_delayed(self) -> None:
        """Keep-alive finds dead peers; Nagle's algorithm would delay small echoes."""
        _, transport = self.connect(self.open_port(RecorderFactory()))

        self.assertTrue(transport.getTcpKeepAlive())
        self.assertTrue(transport.getTcpNoDelay())

    def test_an_adopted_connection_is_kept_alive_and_not_delayed(self) -> None:
        """One that was not accepted by our own port has not inherited it."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        client = socket.create_connection(listener.getsockname())
        self.addCleanup(client.close)
        accepted, _ = listener.accept()
        self.addCleanup(accepted.close)
        factory = RecorderFactory()
        transport = StreamTransport._fromConnectedSocket(
            accepted.fileno(), socket.AF_INET, factory, self.reactor
        )
        self.addCleanup(self.drop, transport)

        self.assertTrue(transport.getTcpKeepAlive())
        self.assertTrue(transport.getTcpNoDelay())
        self.assertFalse(transport.socket.getblocking())
        self.assertIn("Recorder", repr(transport))

    def test_accepts_many_at_once(self) -> None:
        """A turn of the reactor serves all who wait, and the next one those who came meanwhile."""
        factory = RecorderFactory()
        port = self.open_port(factory)
        port.numberAccepts = 2
        for expected in (2, 5, 5):
            if expected == 2:
                for _ in range(5):
                    self.addCleanup(socket.create_connection(("127.0.0.1", port.getHost().port)).close)
            port.doRead()
            self.assertEqual((len(factory.built), port.sessionno), (expected, expected))
        for transport in [each for each in self.hub.getReaders() if isinstance(each, StreamTransport)]:
            self.drop(transport)

    def test_accepts_nobody_once_it_is_being_closed(self) -> None:
        """A factory may close its port while others wait: they are not for it any more."""
        factory = RecorderFactory()
        port = self.open_port(factory)
        for _ in range(3):
            self.addCleanup(socket.create_connection(("127.0.0.1", port.getHost().port)).close)
        build = factory.buildProtocol

        def build_and_close(address: IAddress) -> Recorder | None:
            port.stopListening()
            return build(address)

        self.patch(factory, "buildProtocol", build_and_close)
        port.doRead()
        for transport in [each for each in self.hub.getReaders() if isinstance(each, StreamTransport)]:
            self.drop(transport)

        self.assertEqual(len(factory.built), 1)

    def test_a_factory_may_refuse(self) -> None:
        """Whoever gets no protocol is closed, as Twisted has it."""
        factory = RecorderFactory()
        self.patch(factory, "buildProtocol", lambda _: None)
        port = self.open_port(factory)
        client = socket.create_connection(("127.0.0.1", port.getHost().port), 5)
        self.addCleanup(client.close)
        port.doRead()

        self.assertEqual(client.recv(1), b"")
        self.assertEqual(self.hub.getReaders(), [port])

    def test_a_protocol_that_fails_to_begin_keeps_nobody_out(self) -> None:
        """Its connection is closed, the error is logged, and the next client is served."""

        def fail(_: object) -> None:
            raise RuntimeError("bug")

        for where in ("buildProtocol", "connectionMade"):
            factory = RecorderFactory()
            port = self.open_port(factory)
            broken = self.patch(
                *((factory, where, fail) if where == "buildProtocol" else (Recorder, where, fail))
            )
            first = socket.create_connection(("127.0.0.1", port.getHost().port), 5)
            self.addCleanup(first.close)
            port.doRead()
            self.reactor.advance(0)
            with contextlib.suppress(ConnectionResetError):
                self.assertEqual(first.recv(1), b"")
            self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
            self.assertEqual(port.ended, {"failed": 1} if where == "connectionMade" else {})
            broken.restore()
            self.drop(self.connect(port)[1])

    def test_out_of_descriptors(self) -> None:
        """Whoever comes when no descriptor is left is closed and not left waiting, as Twisted has it."""
        port = self.open_port(RecorderFactory())
        clients = [socket.create_connection(("127.0.0.1", port.getHost().port), 5) for _ in range(3)]
        with no_descriptor():
            port.doRead()
        for client in clients:
            self.addCleanup(client.close)
            self.assertEqual(client.recv(1), b"")

    def test_makes_the_socket_non_blocking(self) -> None:
        """A blocking socket, as a service manager passes it, cannot stop the reactor."""
        port = self.open_port(RecorderFactory())

        port.doRead()  # nobody there: returns at once
        self.assertFalse(port.socket.getblocking())

    def test_stops_listening(self) -> None:
        """The Deferred fires when the socket is closed; nobody can connect then."""
        port = self.open_port(RecorderFactory())
        number = port.getHost().port
        stopped = port.stopListening()
        self.reactor.advance(0)

        self.successResultOf(stopped)
        self.assertRaises(ConnectionRefusedError, socket.create_connection, ("127.0.0.1", number))


class DrainingTests(StreamCase):
    """What is asked of a port and its connections before the end."""

    def test_accept_waiting(self) -> None:
        """Everybody who waits is accepted, however many accepts a turn has otherwise."""
        factory = RecorderFactory()
        port = self.open_port(factory)
        for _ in range(30):
            client = socket.create_connection(("127.0.0.1", port.getHost().port), 5)
            self.addCleanup(client.close)
        port.numberAccepts = 1
        port.accept_waiting()
        for transport in self.hub.getReaders():
            if isinstance(transport, StreamTransport):
                self.addCleanup(self.drop, transport)

        self.assertEqual(30, len(factory.built))

    def test_unread(self) -> None:
        """What has come in and was not read yet is known by its number of bytes."""
        client, transport = self.connect(self.open_port(RecorderFactory()))
        before = transport.unread()
        client.sendall(b"hello")
        select.select([transport.socket], [], [], 5)

        self.assertEqual((0, 5), (before, transport.unread()))

    def test_finish(self) -> None:
        """What is queued is sent, then our direction ends; the other is read on, and nothing more is sent."""
        client, transport = self.connect(self.open_port(EchoFactory()))
        client.sendall(b"one")
        self.hub.doRead()
        transport.finish()
        transport.doWrite()
        self.assertEqual(b"one", client.recv(10))
        self.assertEqual(b"", client.recv(10))
        client.sendall(b"two")
        select.select([transport.socket], [], [], 5)
        self.hub.doRead()

        self.assertTrue(transport.connected)
        client.close()
        select.select([transport.socket], [], [], 5)
        self.hub.doRead()
        self.reactor.advance(0)
        self.assertFalse(transport.connected)

    def test_finish_with_a_layer(self) -> None:
        """TLS has no half: a connection that speaks it is closed in good order."""
        layer: Any = WrappingFactory(RecorderFactory())
        client, transport = self.connect(self.open_port(layer))
        transport.finish()
        self.hub.doRead()
        self.reactor.advance(0)

        self.assertEqual((b"", False), (client.recv(10), transport.connected))


class QueueTests(StreamCase):
    """What waits because the peer takes nothing."""

    def fill_with(self, transport: StreamTransport, pieces: list[bytes]) -> int:
        """Queue pieces behind what the kernel does not take, and tell how many objects hold what waits."""
        self.fill(transport)
        for piece in pieces:
            transport.write(piece)
        return len(transport._tempDataBuffer)

    def test_small_pieces(self) -> None:
        """What is written a few bytes at a time is not kept as so many objects, of 50 bytes each."""
        _, transport = self.connect(self.open_port(RecorderFactory()))

        self.assertLess(self.fill_with(transport, [b"x"] * 10_000), 10_000 / 64 + 64)
        self.assertLess(self.fill_with(transport, []), 10_000 / 64 + 64)
        transport.writeSequence([b"x"] * 10_000)
        self.assertLess(len(transport._tempDataBuffer), 20_000 / 64 + 128)

    def test_large_pieces(self) -> None:
        """Those that are large anyway are not copied."""
        _, transport = self.connect(self.open_port(RecorderFactory()))

        self.assertGreaterEqual(self.fill_with(transport, [b"x" * 1000] * 500), 500)

    def test_the_order(self) -> None:
        """Everything is sent as it was written, large pieces among small ones."""
        client, transport = self.connect(self.open_port(RecorderFactory()))
        self.fill(transport)
        pieces = [bytes([number % 251]) * (1 + 700 * (number % 50 == 0)) for number in range(1000)]
        for piece in pieces:
            transport.write(piece)
        wanted, came = b"".join(pieces), bytearray()
        client.settimeout(5)
        for _ in until(lambda: came.endswith(wanted[-500:])):
            came = (came + client.recv(1_000_000))[-2 * len(wanted) :]
            if transport.dataBuffer or transport._tempDataLen:
                transport.doWrite()

        self.assertTrue(came.endswith(wanted))


class ClosingTests(StreamCase):
    """A connection ends with its data delivered, or, if the peer has stopped reading, by a timer."""

    def test_half_closed_client_gets_everything(self) -> None:
        """Send and shut down at once, as `printf hello | nc -N` does: the echo arrives whole."""
        port = self.open_port(EchoFactory())
        client, transport = self.connect(port)
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)
        self.assertIsNone(transport.doRead())
        transport.readConnectionLost(Failure(Exception()))  # end of input, as the reactor tells it
        transport.doWrite()

        self.assertEqual(client.recv(100), b"hello")

    def test_a_peer_that_does_not_read_stops_our_reading(self) -> None:
        """A flooding client that never reads costs one queue, not all memory."""
        port = self.open_port(EchoFactory())
        client, transport = self.connect(port)
        self.assertIsInstance(transport.protocol, Echo)
        self.fill(transport)

        self.assertNotIn(transport, self.hub.getReaders())
        client.setblocking(False)
        with self.assertRaises(BlockingIOError):
            while client.recv(1_000_000):  # what was queued still arrives …
                transport.doWrite()
        self.assertIn(transport, self.hub.getReaders())  # … and then reading goes on

    def test_a_closing_connection_whose_peer_takes_nothing_is_aborted(self) -> None:
        """A peer that has stopped reading cannot hold a closing connection for ever."""
        factory = RecorderFactory()
        port = self.open_port(factory)
        _, transport = self.connect(port)
        self.fill(transport)
        transport.loseConnection()
        self.wait(STALL_TIMEOUT * 0.8)
        self.assertTrue(transport.connected)
        self.wait(STALL_TIMEOUT * 0.4)

        self.assertIsNotNone(factory.built[0].lost)
        self.assertEqual(port.aborts, {"stall-timeout": 1})

    def test_a_close_that_waits_for_the_kernel_alone_is_aborted(self) -> None:
        """Nothing is queued here, but the kernel's buffer is full: the close waits for room that never comes."""
        for close in (StreamTransport.loseConnection, StreamTransport.loseWriteConnection):
            factory = RecorderFactory()
            port = self.open_port(factory)
            _, transport = self.connect(port)
            close(transport)  # the hub is not turned: it never tells of room
            self.wait(STALL_TIMEOUT * 1.2)

            self.assertIsNotNone(factory.built[0].lost)
            self.assertEqual(port.aborts, {"stall-timeout": 1})

    def test_an_open_connection_whose_peer_takes_nothing_is_aborted(self) -> None:
        """Nor can it hold one that never gets to close, because the end of its input is never read."""
        factory = RecorderFactory()
        port = self.open_port(factory)
        _, transport = self.connect(port)
        self.fill(transport)
        self.wait(STALL_TIMEOUT * 1.2)

        self.assertIsNotNone(factory.built[0].lost)
        self.assertEqual(port.aborts, {"stall-timeout": 1})

    def test_a_long_time_is_exact_to_a_second(self) -> None:
        """It begins when the peer last took something, whenever that was; a tenth of five minutes would be half a minute."""
        port = self.open_port(RecorderFactory())
        client, transport = self.connect(port)
        transport.stall_timeout = 300.0
        self.fill(transport)
        for since_look in (0.1, 0.9):
            self.reactor.pump([since_look])
            delivered = transport._delivered()
            for _ in until(lambda: transport._delivered() != delivered):
                client.recv(100_000)
            self.reactor.pump([1 - since_look])
            self.reactor.pump([0.125] * 8 * 298)
            self.assertTrue(transport.connected)
        self.reactor.pump([0.125] * 8 * 2)

        self.assertEqual(port.aborts, {"stall-timeout": 1})

    def test_a_busy_service_is_as_exact(self) -> None:
        """Each look is late then, but not each later than the one before."""
        port = self.open_port(RecorderFactory())
        _, transport = self.connect(port)
        transport.stall_timeout = 100.0
        self.fill(transport)
        self.reactor.pump([1.4] * 73)

        self.assertEqual(port.aborts, {"stall-timeout": 1})

    def test_time_in_which_we_did_not_run_is_nobody_s_fault(self) -> None:
        """A peer could take nothing while we were stopped: it has its time afterwards."""
        port = self.open_port(RecorderFactory())
        _, transport = self.connect(port)
        self.fill(transport)
        self.reactor.advance(3600)
        self.wait(STALL_TIMEOUT * 0.7)
        self.assertTrue(transport.connected)
        self.wait(STALL_TIMEOUT * 0.2)

        self.assertEqual(port.aborts, {"stall-timeout": 1})

    def test_a_slow_reader_is_left_alone(self) -> None:
        """A slow peer is not a dead one: every byte it takes buys it another timeout."""
        factory = RecorderFactory()
        port = self.open_port(factory)
        client, transport = self.connect(port)
        self.fill(transport)
        transport.loseConnection()
        for _ in range(3):
            delivered = transport._delivered()
            for _ in until(lambda: transport._delivered() != delivered):
                client.recv(100_000)
                transport.doWrite()
            self.wait(STALL_TIMEOUT * 0.8)
            self.assertTrue(transport.connected)

        self.assertEqual(port.aborts, {})

    def test_a_slow_reader_is_left_alone_though_the_kernel_takes_no_more(self) -> None:
        """What reaches the peer counts, not what the kernel takes: it takes nothing for a long while."""
        port = self.open_port(RecorderFactory())
        client, transport = self.connect(port)
        self.fill(transport)
        for _ in range(3):
            taken, delivered = transport.bytes_out, transport._delivered()
            for _ in until(lambda: transport._delivered() != delivered):
                client.recv(1000)
            self.assertEqual(transport.bytes_out, taken)
            self.wait(STALL_TIMEOUT * 0.8)

        self.assertTrue(transport.connected)
        self.assertEqual(port.aborts, {})

    def test_a_quiet_connection_is_left_alone(self) -> None:
        """Nothing waits, so that nothing stalls, however long the silence."""
        port = self.open_port(RecorderFactory())
        _, transport = self.connect(port)
        transport.write(b"hello")
        transport.doWrite()
        self.wait(STALL_TIMEOUT * 10)

        self.assertTrue(transport.connected)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_connection_that_closes_in_time_leaves_no_timer(self) -> None:
        """Nothing of a connection is left when it has ended."""
        factory = RecorderFactory()
        _, transport = self.connect(self.open_port(factory))
        transport.startWriting()  # as if the kernel had no room: from here on everything is queued
        transport.write(b"bye")
        transport.loseConnection()
        transport.loseConnection()  # twice is once
        self.assertEqual(len(self.reactor.getDelayedCalls()), 1)
        reason = transport.doWrite()
        transport.connectionLost(Failure(reason))

        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertIsNotNone(factory.built[0].lost)
