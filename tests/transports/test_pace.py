"""Tests of connections that are read at a pace, on real sockets and a clock that the test turns."""

from __future__ import annotations

import contextlib
import socket
from collections import Counter
from ipaddress import ip_network
from math import ceil, inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet.protocol import Factory, Protocol

from echosvc.protocols import EchoFactory
from echosvc.transports.handshakes import FLIGHT
from echosvc.transports.pace import (
    LOOK,
    MOST_WOKEN,
    TURN,
    UNPACED,
    UNPACED_READ,
    Pace,
    PacedStreamPort,
    PacedUnixStreamPort,
)
from echosvc.transports.proxy import ProxyFactory
from echosvc.transports.proxy_header import HEADER_MAX
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

    def __init__(self, kind: type[Gathering] = Gathering) -> None:
        self.kind = kind
        self.built: list[Gathering] = []

    def buildProtocol(self, addr: object) -> Gathering:
        """Build one."""
        self.built.append(self.kind())
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

    def reads(self) -> list[int]:
        """How many times each connection was read."""
        return [each.transport.messages_in for each in self.factory.built]


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

    def test_whoever_waits_says_so(self) -> None:
        """So that nobody takes it for idle; only as long as it waits."""
        port = self.open(total=1000.0)
        for size in (10, 100_000):
            self.client(port).sendall(b"x" * size)
        self.turn()
        held = [[each.transport.held_back() for each in self.factory.built]]
        self.pass_time(120.0)
        held.append([each.transport.held_back() for each in self.factory.built])

        self.assertEqual([[False, True], [False, False]], held)

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


class FewWakesTests(PaceCase):
    """Whoever waits is woken for something, and not all the time."""

    def test_each_is_read_twice_a_second(self) -> None:
        """Half a second's worth at a time, and as much in all as was said."""
        port = self.open(each=32.0)
        for _ in range(5):
            self.client(port).sendall(b"x" * 1000)
        self.pass_time(10.0)

        self.assertEqual([32 * 11] * 5, self.counts())
        self.assertEqual([21] * 5, self.reads())

    def test_a_large_rate_is_read_whenever_it_is_looked(self) -> None:
        """As much as has come together meanwhile, in reads of the usual size."""
        client = self.client(self.open(each=2.0**19))
        client.setblocking(False)
        for _ in range(8):
            with contextlib.suppress(BlockingIOError):
                client.send(b"x" * 1_000_000)
            self.pass_time(LOOK)
        self.pass_time(1.0)

        self.assertEqual([2**19 * 3], self.counts())
        self.assertLess(self.reads()[0], 2**19 * 3 / 2**14 + 16)

    def test_one_that_has_read_all_it_may_is_not_asked_again_at_once(self) -> None:
        """Though as time goes by there is room for a byte or two each time."""
        client = self.client(self.open(each=1000.0))
        client.sendall(b"x" * 5000)
        for _ in range(100):
            self.turn()
            self.reactor.advance(0.001)

        self.assertEqual(([1000], [1]), (self.counts(), self.reads()))

    def test_all_together_in_turn(self) -> None:
        """As many in a look as can have a message each; who was not woken is the first next time."""
        port = self.open(total=1024.0)
        for _ in range(20):
            self.client(port).sendall(b"x" * 5000)
        self.turn()
        before = self.counts()
        found = []
        for _ in range(10):
            self.reactor.advance(LOOK)
            self.turn()
            after = self.counts()
            found.append([n for n in range(20) if after[n] > before[n]])
            self.assertEqual(2 * TURN, sum(after) - sum(before))
            before = after

        self.assertEqual(list(range(20)), sorted(n for each in found for n in each))
        self.assertEqual([2] * 10, [len(each) for each in found])
        self.assertEqual(21, sum(self.reads()))

    def test_a_bound_for_those_who_are_woken(self) -> None:
        """With a rate that has something for everybody, each look still wakes only so many, who may read more."""
        turns = self.turns_of(8e6, MOST_WOKEN + 10)
        self.reactor.advance(LOOK)
        self.assertEqual([1_000_000 // MOST_WOKEN] * MOST_WOKEN, turns)
        self.reactor.advance(LOOK)

        self.assertEqual([200_000] * 10, turns[MOST_WOKEN:])

    def test_a_small_rate_of_all(self) -> None:
        """Less than a message in a second: half a second's worth, and never less than a byte; of which there is none to share."""
        for total, after, found in ((8.0, 0.5, [4]), (1.0, 1.0, [0, 0, 0])):
            turns = self.turns_of(total, 3)
            self.reactor.pump([LOOK] * (round(after / LOOK) - 1))
            self.assertEqual([], turns)
            self.reactor.advance(LOOK)

            self.assertEqual(found, turns)

    def test_nobody_is_woken_as_long_as_all_together_have_a_debt(self) -> None:
        """A read over UNIX sockets leaves one."""
        turns = self.turns_of(1024.0, 5, debt=256)
        self.reactor.advance(LOOK)
        self.assertEqual([], turns)
        self.reactor.advance(LOOK)
        self.reactor.advance(LOOK)

        self.assertEqual([64, 64], turns)

    def turns_of(self, total: float, count: int, debt: int = 0) -> list[int]:
        """Have so many wait where all that there is has been read; what they are woken for."""
        pace = Pace(inf, total, self.reactor, seconds=self.reactor.seconds)
        pace.spend(None, int(total) + debt)
        turns: list[int] = []
        for _ in range(count):
            pace.wait(Woken(turns), None)  # type: ignore[arg-type]  # all that it needs to be
        return turns

    def test_a_newcomer_waits_for_its_turn(self) -> None:
        """And has it at the next look, among few; what it leaves is the others'."""
        port = self.open(total=8000.0)
        greedy = self.client(port)
        greedy.sendall(b"x" * 50_000)
        self.turn()
        small = self.client(port)
        small.sendall(b"hello")
        self.reactor.advance(LOOK / 2)
        self.turn()
        self.assertEqual([8000, 0], self.counts())
        self.reactor.advance(LOOK / 2)
        self.turn()
        self.assertEqual([8500, 5], self.counts())
        small.sendall(b"again")
        self.turn()
        self.assertEqual([8500, 10], self.counts())
        small.sendall(b"x" * 1000)
        self.reactor.advance(LOOK / 2)
        self.turn()
        self.assertEqual([8500, 500], self.counts())
        self.reactor.advance(LOOK / 2)
        self.pass_time(3 - 2 * LOOK)

        self.assertEqual(8000 * 4, sum(self.counts()))

    def test_where_there_is_plenty_nobody_waits(self) -> None:
        """Neither for one that has come to its own end, nor after what all together have saved up since theirs."""
        port = self.open(each=8000.0, total=16_000.0)
        greedy, other = self.client(port), self.client(port)
        for each in (greedy, other):
            each.sendall(b"x" * 8000)
        self.turn()
        greedy.sendall(b"x" * 50_000)
        self.turn()
        other.sendall(b"hello")
        self.pass_time(1.0)
        self.assertEqual([16_000, 8005], self.counts())
        for _ in range(4):
            before = self.counts()[1]
            other.sendall(b"hello")
            self.turn()
            self.assertEqual(5, self.counts()[1] - before)
            self.reactor.advance(LOOK)

    def test_nobody_waits_alone(self) -> None:
        """All of them have had all there was, and nobody is left who waits: the next is read as soon as there is room."""
        port = self.open(total=1000.0)
        one, other = self.client(port), self.client(port)
        one.sendall(b"x" * 1000)
        self.pass_time(0.25)
        other.sendall(b"hello")
        self.turn()

        self.assertEqual([1000, 5], self.counts())


class Woken:
    """A connection that only remembers what it was woken for."""

    def __init__(self, turns: list[int]) -> None:
        self.go_on = turns.append


class BeforeTheClientTests(PaceCase):
    """What comes before the client's own bytes has its own time."""

    def proxied(self, each: float = 8.0) -> Any:
        """Open a port behind a proxy."""
        self.refused: Counter[str] = Counter()
        trusted = [ip_network("127.0.0.0/8")]
        return self.open(
            each=each, factory=ProxyFactory(self.factory, trusted, self.reactor, refused=self.refused)
        )

    def test_a_header_is_read_at_once(self) -> None:
        """However slowly its client is read, and it takes nothing away from that."""
        client = self.client(self.proxied())
        client.sendall(b"PROXY TCP6 2001:db8::1234:5678 2001:db8::8765:4321 40000 40001\r\n")
        self.turn()
        client.sendall(b"hello world, how are you?")
        self.turn()
        self.assertEqual([8], self.counts())
        self.pass_time(1.0)

        self.assertEqual(([16], Counter()), (self.counts(), self.refused))

    def test_what_comes_behind_a_header_is_not_much(self) -> None:
        """A client that sends it along with its proxy's header gains a segment at most."""
        client = self.client(self.proxied())
        client.sendall(b"PROXY UNKNOWN\r\n" + b"x" * 3000)
        self.turn()

        self.assertEqual([UNPACED_READ - 15 + 8], self.counts())

    def test_a_handshake_is_read_at_once(self) -> None:
        """And what follows at its pace."""
        self.factory = GatheringFactory(Shaking)
        client = self.client(self.open(each=8.0))
        client.sendall(b"x" * 2000)
        self.turn()
        self.assertEqual([2000], self.counts())
        self.factory.built[0]._handshakeDone = True  # type: ignore[attr-defined]
        client.sendall(b"x" * 2000)
        self.turn()

        self.assertEqual([2008], self.counts())

    def test_the_longest_handshake_is_not_counted(self) -> None:
        """Nor is the longest header before it: both are read as fast as they come, and neither is late for its deadline."""
        self.factory = GatheringFactory(Shaking)
        client = self.client(self.open(each=8.0))
        client.sendall(b"x" * (HEADER_MAX + FLIGHT))
        for _ in range(10):
            self.turn()

        self.assertEqual([HEADER_MAX + FLIGHT], self.counts())

    def test_nobody_shakes_hands_for_ever(self) -> None:
        """What no handshake needs is read at its pace."""
        self.factory = GatheringFactory(Shaking)
        self.client(self.open(each=8.0)).sendall(b"x" * 2 * UNPACED)
        for _ in range(10):
            self.turn()

        self.assertEqual([ceil(UNPACED / UNPACED_READ) * UNPACED_READ + 8], self.counts())


class Shaking(Gathering):
    """Has not done with its handshake, until it is told so, as TLS in Twisted."""

    _handshakeDone = False


class UnixPaceTests(PaceCase):
    """The same over UNIX sockets, to a read's size."""

    def unix(self, each: float = inf, total: float = inf) -> socket.socket:
        """Open a UNIX port, and connect a client."""
        with TemporaryDirectory() as folder:
            path = str(Path(folder) / "s")
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(path)
            sock.listen()
            port = self.listen(sock, PacedUnixStreamPort, each, total, None)
            client = socket.socket(socket.AF_UNIX)
            self.addCleanup(client.close)
            client.connect(path)
        port.doRead()
        return client

    def test_so_many_bytes_a_second_of_all(self) -> None:
        """Nobody is woken as long as there is a debt."""
        client = self.unix(total=10_000.0)
        client.sendall(b"x" * 30_000)
        self.turn()
        client.sendall(b"x" * 10_000)
        self.pass_time(2.0)
        self.assertEqual([30_000], self.counts())
        self.pass_time(2.0)

        self.assertEqual([40_000], self.counts())

    def test_so_many_bytes_a_second(self) -> None:
        """What a read takes too many is made good by a pause."""
        client = self.unix(each=10_000.0)
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
