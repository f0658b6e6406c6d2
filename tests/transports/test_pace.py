"""Tests of connections that are read at a pace, on real sockets and a clock that the test turns."""

from __future__ import annotations

import socket
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet.protocol import Factory, Protocol

from echosvc.protocols import EchoFactory
from echosvc.transports.pace import LOOK, Pace, PacedStreamPort, PacedUnixStreamPort
from tests.transports.test_stream import STALL_TIMEOUT, RecorderFactory, StreamCase


class Gathering(Protocol):
    """Remembers what came."""

    transport: Any

    def __init__(self) -> None:
        self.came = b""
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        """Remember it."""
        self.came += data

    def connectionLost(self, reason: object) -> None:  # type: ignore[override]  # Twisted has a default
        """Remember the end."""
        self.lost = True


class GatheringFactory(Factory[Gathering]):
    """Builds them, and remembers them."""

    noisy = False

    def __init__(self) -> None:
        self.built: list[Gathering] = []

    def buildProtocol(self, addr: object) -> Gathering:
        """Build one."""
        self.built.append(Gathering())
        return self.built[-1]


class PaceCase(StreamCase):
    """Opens ports whose connections are read at a pace."""

    def setUp(self) -> None:
        """Let the clock begin anywhere."""
        super().setUp()
        self.reactor.advance(1000.3)
        self.factory = GatheringFactory()

    def open(self, each: float = inf, total: float = inf, factory: Any = None) -> Any:
        """Open a TCP port."""
        return self.listen(socket.create_server(("127.0.0.1", 0)), PacedStreamPort, each, total, factory)

    def listen(self, sock: socket.socket, kind: Any, each: float, total: float, factory: Any) -> Any:
        """Open a port on a socket."""
        pace = Pace(each, total, self.reactor, seconds=self.reactor.seconds)
        port = kind(sock, factory or self.factory, self.reactor, stall_timeout=STALL_TIMEOUT, pace=pace)
        port.startListening()
        self.addCleanup(self.close, port)
        self.addCleanup(self.drop_all)
        return port

    def drop_all(self) -> None:
        """End every connection."""
        for each in self.hub._remove_members():
            each.abortConnection()
        for protocol in self.factory.built:
            if not protocol.lost:
                protocol.transport.abortConnection()
        self.reactor.advance(0)

    def client(self, port: Any) -> socket.socket:
        """Connect a client."""
        sock = socket.create_connection(("127.0.0.1", port.getHost().port), 5)
        self.addCleanup(sock.close)
        port.doRead()
        return sock

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and serve whoever is to be served."""
        for _ in range(round(seconds / LOOK)):
            self.turn()
            self.reactor.advance(LOOK)
        self.turn()

    def turn(self) -> None:
        """Serve until nothing is to be done."""
        for _ in range(20):
            self.hub.doRead()

    def counts(self) -> list[int]:
        """How many bytes have come on each connection."""
        return [len(each.came) for each in self.factory.built]


class PaceTests(PaceCase):
    """So many bytes a second, and a second's worth at once."""

    def test_each_connection(self) -> None:
        """Whatever the others do; all of it comes in time, in order."""
        port = self.open(each=1000.0)
        data = bytes(range(256)) * 16
        for _ in range(2):
            self.client(port).sendall(data)
        found = []
        for _ in range(3):
            found.append(self.counts())
            self.pass_time(1.0)
        self.pass_time(1.5)

        self.assertEqual([[0, 0], [2000, 2000], [3000, 3000]], found)
        self.assertEqual([data, data], [each.came for each in self.factory.built])

    def test_all_together(self) -> None:
        """Each that waits has its turn."""
        port = self.open(total=1000.0)
        for _ in range(4):
            self.client(port).sendall(b"x" * 100_000)
        self.turn()
        self.assertEqual(1000, sum(self.counts()))
        before = self.counts()
        self.pass_time(8.0)
        more = [now - then for now, then in zip(self.counts(), before, strict=True)]

        self.assertEqual(8000, sum(more))
        self.assertEqual([2000] * 4, more)

    def test_both(self) -> None:
        """The smaller one counts."""
        port = self.open(each=1000.0, total=1600.0)
        for _ in range(2):
            self.client(port).sendall(b"x" * 100_000)
        self.turn()
        self.assertEqual([600, 1000], sorted(self.counts()))
        self.pass_time(4.0)

        self.assertEqual(1600 * 5, sum(self.counts()))

    def test_silence_saves_up_a_second(self) -> None:
        """And not more."""
        client = self.client(self.open(each=1000.0))
        self.pass_time(60.0)
        client.sendall(b"x" * 5000)
        self.turn()

        self.assertEqual([1000], self.counts())

    def test_a_large_rate_reads_in_pieces(self) -> None:
        """So that everyone has a turn; and none is lost."""
        client = self.client(self.open(each=1e9))
        client.sendall(b"x" * 300_000)
        self.hub._most = 1
        self.hub.doRead()
        self.assertLess(self.counts()[0], 300_000)
        for _ in range(40):
            self.turn()

        self.assertEqual([300_000], self.counts())
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_the_end_comes_after_the_last_byte(self) -> None:
        """Also if it came while nothing was read."""
        client = self.client(self.open(each=1000.0, factory=None))
        client.sendall(b"x" * 1500)
        client.close()
        self.turn()
        self.assertEqual(([1000], False), (self.counts(), self.factory.built[0].lost))
        self.pass_time(1.0)

        self.assertEqual(([1500], True), (self.counts(), self.factory.built[0].lost))
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_a_reset(self) -> None:
        """Ends it when everything before it has been read."""
        client = self.client(self.open(each=1000.0))
        client.sendall(b"x" * 3000)
        self.turn()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        client.close()
        self.pass_time(4.0)

        self.assertTrue(self.factory.built[0].lost)

    def test_a_connection_that_ends_waits_no_longer(self) -> None:
        """Nothing is left of it; the others go on."""
        port = self.open(each=1000.0)
        for _ in range(2):
            self.client(port).sendall(b"x" * 5000)
        self.turn()
        one, other = (each.transport for each in self.factory.built)
        self.assertEqual(1, len(self.reactor.getDelayedCalls()))
        one.abortConnection()
        self.reactor.advance(0)
        self.assertEqual(1, len(self.reactor.getDelayedCalls()))
        other.abortConnection()
        self.reactor.advance(0)

        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_a_protocol_that_pauses_is_not_read(self) -> None:
        """Before its time is over, or afterwards; and one that goes on too early is not read yet."""
        client = self.client(self.open(each=1000.0))
        transport = self.factory.built[0].transport
        transport.pauseProducing()
        client.sendall(b"x" * 5000)
        self.turn()
        self.assertEqual([0], self.counts())
        transport.resumeProducing()
        self.turn()
        transport.pauseProducing()
        self.pass_time(2.0)
        self.assertEqual(([1000], 1), (self.counts(), transport.messages_in))
        transport.resumeProducing()
        self.turn()
        self.assertEqual([2000], self.counts())
        transport.pauseProducing()
        transport.resumeProducing()
        self.turn()
        self.assertEqual([2000], self.counts())
        self.pass_time(1.0)

        self.assertEqual([3000], self.counts())

    def test_one_that_closes_is_not_read_any_more(self) -> None:
        """Whatever it was waiting for."""
        client = self.client(self.open(each=1000.0))
        client.sendall(b"x" * 5000)
        self.turn()
        transport = self.factory.built[0].transport
        transport.write(b"bye")
        transport.loseConnection()
        self.pass_time(1.0)

        self.assertEqual(([1000], True), (self.counts(), self.factory.built[0].lost))

    def test_an_echo_is_as_fast_as_it_is_read(self) -> None:
        """And whole."""
        client = self.client(self.open(each=1000.0, factory=EchoFactory()))
        client.sendall(b"x" * 3000)
        client.shutdown(socket.SHUT_WR)
        came = []
        for _ in range(3):
            self.pass_time(1.0)
            came.append(len(client.recv(9999)))

        self.assertEqual([2000, 1000, 0], came)

    def test_a_spurious_event(self) -> None:
        """Nothing is there to read after all."""
        self.client(self.open(each=1000.0))
        (built,) = self.factory.built

        self.assertIsNone(built.transport.doRead())
        self.assertEqual([0], self.counts())

    def test_a_loss_that_a_write_has_met(self) -> None:
        """Is no orderly end, though a read sees one."""
        client = self.client(self.open(each=1000.0))
        transport = self.factory.built[0].transport
        client.close()
        transport._broken = True
        why = transport.doRead()
        transport._broken = False

        self.assertEqual(
            ("ConnectionLost", "ConnectionDone"), (type(why).__name__, type(transport.doRead()).__name__)
        )


class UnixPaceTests(PaceCase):
    """The same over UNIX sockets, to a read's size."""

    def test_so_many_bytes_a_second(self) -> None:
        """What a read takes too many is made good by a pause."""
        with TemporaryDirectory() as folder:
            path = str(Path(folder) / "s")
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(path)
            sock.listen()
            port = self.listen(sock, PacedUnixStreamPort, 10_000.0, inf, None)
            client = socket.socket(socket.AF_UNIX)
            self.addCleanup(client.close)
            client.connect(path)
        port.doRead()
        client.sendall(b"x" * 30_000)
        self.turn()
        first = self.counts()[0]
        client.sendall(b"x" * 10_000)
        self.pass_time(1.5)
        self.assertEqual([first], self.counts())
        self.pass_time(3.0)

        self.assertEqual(30_000, first)
        self.assertEqual([40_000], self.counts())


class RecorderPaceTests(PaceCase):
    """Whatever is a stream protocol."""

    def test_the_port_is_like_any_other(self) -> None:
        """It tells the protocol who connects."""
        recorders = RecorderFactory()
        port = self.open(each=1000.0, factory=recorders)
        client = self.client(port)

        self.assertEqual([client.getsockname()], [(each.host, each.port) for each in recorders.addresses])  # type: ignore[union-attr]
