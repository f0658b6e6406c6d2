"""Tests of connections that a proxy relays: over real sockets where the kernel is the point, else in memory."""

from __future__ import annotations

import select
import socket
import ssl
import struct
import weakref
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any, cast

from twisted.internet import tcp, unix
from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from echosvc.protocols import EchoFactory
from echosvc.transports.proxy import LAST_LOOK, ProxyFactory
from echosvc.transports.unix import UnixTransport
from tests.transports.test_proxy_header import (
    CLIENT,
    FOUR,
    LINE,
    LOCAL,
    SERVER,
    UNIX,
    binary,
    summed,
    tlv,
)
from tests.transports.test_stream import StreamCase
from tests.waiting import until
from twisted import test as twisted_test

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1"))


class Talker(Protocol):
    """Remembers all that happens to it, and does something in `connectionMade` if it was told to."""

    transport: Any

    def __init__(self, begin: Callable[[Talker], object]) -> None:
        self.begin = begin
        self.events: list[object] = []

    def connectionMade(self) -> None:
        """Remember for whom."""
        self.events.append((self.transport.getPeer(), self.transport.getHost()))
        self.begin(self)

    def dataReceived(self, data: bytes) -> None:
        """Remember what came."""
        self.events.append(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # Twisted has a default
        """Remember the end."""
        self.events.append("lost")


class TalkerFactory(Factory[Talker]):
    """Builds talkers, and remembers them, for whom, and whether a port uses it."""

    noisy = False

    def __init__(self, begin: Callable[[Talker], object] = lambda _: None) -> None:
        self.begin = begin
        self.built: list[Talker] = []
        self.addresses: list[IAddress | None] = []

    def buildProtocol(self, addr: IAddress | None) -> Talker:
        """Build one."""
        self.addresses.append(addr)
        self.built.append(Talker(self.begin))
        return self.built[-1]


class ProxyCase(StreamCase):
    """Opens ports behind a proxy."""

    def setUp(self) -> None:
        """Count refusals, and listen to the log."""
        super().setUp()
        self.refused: Counter[str] = Counter()
        self.logged: list[LogEvent] = []
        observer = cast(ILogObserver, self.logged.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def behind(self, inner: Any) -> Any:
        """Put a factory behind a proxy on this machine."""
        return ProxyFactory(inner, LOOPBACK, self.reactor, refused=self.refused)

    def open(self, inner: Any, host: str = "127.0.0.1") -> tuple[socket.socket, Any]:
        """Open a port for a factory, connect a proxy, and return its socket and our connection."""
        return self.connect(self.open_port(self.behind(inner), host), "127.0.0.1" if host == "::" else host)

    def turn(self) -> None:
        """Serve what has come, and all that it leads to."""
        self.hub.doRead()
        self.reactor.advance(0)
        self.hub.doRead()

    def received(self, client: socket.socket) -> bytes:
        """Return all that a client has been sent, the end included; "reset" if it was aborted."""
        data = b""
        client.settimeout(5)
        try:
            while select.select([client], [], [], 0)[0] and (piece := client.recv(100_000)):
                data += piece
        except ConnectionResetError:
            return b"reset"
        return data

    def assert_nothing_left(self) -> None:
        """Check that no connection and no timer is left, and that nothing was logged."""
        self.assertEqual([each for each in self.hub.getReaders() if not isinstance(each, tcp.Port)], [])
        self.assertEqual(self.hub.getWriters(), [])
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.logged, [])


class TrustTests(SynchronousTestCase):
    """Who may send a header."""

    def setUp(self) -> None:
        """Trust two networks."""
        self.refused: Counter[str] = Counter()
        self.inner = TalkerFactory()
        networks = [ip_network("192.0.2.0/24"), ip_network("fe80::/10")]
        self.factory = ProxyFactory(self.inner, networks, Clock(), refused=self.refused)

    def test_trusted_peers(self) -> None:
        """Peers in a trusted network may, IPv4 as a dual-stack port has it, too; and any on a UNIX socket."""
        for peer in (
            IPv4Address("TCP", "192.0.2.255", 5),
            IPv6Address("TCP", "::ffff:192.0.2.1", 5),
            IPv6Address("TCP", "fe80::1", 5),
            IPv6Address("TCP", "fe80::1%lo", 5),
            UNIXAddress(None),
            UNIXAddress(b"/run/proxy"),
        ):
            self.assertIsNotNone(self.factory.buildProtocol(peer), peer)
        self.assertEqual(self.refused, {})
        self.assertEqual(self.inner.built, [])

    def test_others_are_refused(self) -> None:
        """Everybody else is refused without a word, and counted."""
        strangers = (
            IPv4Address("TCP", "192.0.3.1", 5),
            IPv4Address("TCP", "127.0.0.1", 5),
            IPv6Address("TCP", "::ffff:192.0.3.1", 5),
            IPv6Address("TCP", "::1", 5),
            HostnameAddress(b"example.org", 5),
            None,
        )
        for peer in strangers:
            self.assertIsNone(self.factory.buildProtocol(peer), peer)
        self.assertEqual(self.refused, {"proxy-untrusted": len(strangers)})

    def test_nobody_is_trusted_but_by_name(self) -> None:
        """Without networks only a UNIX socket is left."""
        factory = ProxyFactory(self.inner, [], Clock(), refused=self.refused)

        self.assertIsNone(factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 5)))
        self.assertIsNotNone(factory.buildProtocol(UNIXAddress(None)))

    def test_the_factory_inside_is_told_of_ports(self) -> None:
        """It starts with the first port and stops with the last, as any factory does."""
        self.factory.doStart()
        self.assertEqual(self.inner.numPorts, 1)
        self.factory.doStop()
        self.assertEqual(self.inner.numPorts, 0)


class HandoverTests(ProxyCase):
    """A good header: from the first callback on there is only the client."""

    def test_the_client_is_the_peer(self) -> None:
        """The factory is asked for the client, and `connectionMade` sees client and server, in both versions."""
        for header in (LINE, binary(), summed(tlv(0x02, b"example.org"))):
            factory = TalkerFactory()
            client, transport = self.open(factory)
            client.sendall(header + b"hello")
            self.turn()

            self.assertEqual(factory.addresses, [CLIENT])
            self.assertEqual(factory.built[0].events, [(CLIENT, SERVER), b"hello"])
            self.assertEqual(transport.logPrefix(), "Talker,192.0.2.1")
            self.drop(transport)
        self.assertEqual(self.refused, {})
        self.assert_nothing_left()

    def test_a_dual_stack_port_trusts_ipv4(self) -> None:
        """A proxy that comes by IPv4 to an IPv6 socket is the one that is trusted."""
        factory = TalkerFactory()
        client, _ = self.open(factory, "::")
        client.sendall(LINE)
        self.turn()

        self.assertEqual(factory.built[0].events, [(CLIENT, SERVER)])

    def test_the_connection_is_the_proxys_own(self) -> None:
        """A proxy that connects for itself, or cannot say for whom, is the peer."""
        for header in (b"PROXY UNKNOWN\r\n", binary(b"", LOCAL, 0), binary(FOUR, LOCAL)):
            factory = TalkerFactory()
            client, transport = self.open(factory)
            client.sendall(header + b"hello")
            self.turn()

            peer, host = (IPv4Address("TCP", *end) for end in (client.getsockname(), client.getpeername()))
            self.assertEqual(factory.addresses, [peer])
            self.assertEqual(factory.built[0].events, [(peer, host), b"hello"])
            self.assertEqual(transport.logPrefix(), "Talker,127.0.0.1")
            self.drop(transport)

    def test_a_client_on_a_unix_socket(self) -> None:
        """A proxy that itself listens on a UNIX socket names that."""
        factory = TalkerFactory()
        client, transport = self.open(factory)
        client.sendall(
            binary(b"/run/client".ljust(108, b"\0") + b"/run/server".ljust(108, b"\0"), family=UNIX)
        )
        self.turn()

        self.assertEqual(
            factory.built[0].events, [(UNIXAddress(b"/run/client"), UNIXAddress(b"/run/server"))]
        )
        self.assertEqual(transport.logPrefix(), "Talker,UNIX")

    def test_split_anywhere(self) -> None:
        """Wherever the network cuts, the header is taken and the rest is echoed."""
        for whole in (LINE + b"hello", summed(b"") + b"hello"):
            port = self.open_port(self.behind(EchoFactory()))
            for cut in range(1, len(whole)):
                client, transport = self.connect(port)
                client.sendall(whole[:cut])
                self.turn()
                client.sendall(whole[cut:])
                self.turn()

                self.assertEqual(self.received(client), b"hello")
                self.drop(transport)
        self.assertEqual(self.refused, {})

    def test_byte_by_byte(self) -> None:
        """A header may come one byte at a time."""
        factory = TalkerFactory()
        client, _ = self.open(factory)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in binary():
            self.assertEqual(factory.built, [])
            client.sendall(bytes([byte]))
            self.turn()

        self.assertEqual(factory.built[0].events, [(CLIENT, SERVER)])

    def test_half_close(self) -> None:
        """Header, data and end at once, as `nc -N` through a proxy: the echo arrives whole, however it is cut."""
        data = bytes(range(200))
        for header in (LINE, binary()):
            for pieces in (
                [header + data],
                [header, data],
                [header + data[:1], data[1:]],
                [header[:9], header[9:] + data],
            ):
                client, transport = self.open(EchoFactory())
                for piece in pieces[:-1]:
                    client.sendall(piece)
                    self.turn()
                client.sendall(pieces[-1])
                client.shutdown(socket.SHUT_WR)
                self.turn()

                self.assertEqual(self.received(client), data)
                self.assertFalse(transport.connected)
        self.assertEqual(self.refused, {})
        self.assert_nothing_left()

    def test_an_end_right_after_the_header(self) -> None:
        """A client that says nothing is a client all the same."""
        factory = TalkerFactory()
        client, _ = self.open(factory)
        client.sendall(LINE)
        client.shutdown(socket.SHUT_WR)
        self.turn()

        self.assertEqual(factory.built[0].events, [(CLIENT, SERVER), "lost"])
        self.assertEqual(self.refused, {})

    def test_much_with_the_header(self) -> None:
        """What is read together with the header is not lost, however much it is."""
        client, transport = self.open(EchoFactory())
        data = bytes(range(256)) * 400
        client.sendall(LINE + data)
        self.turn()
        echo = b""
        for _ in until(lambda: len(echo) >= len(data)):
            echo += self.received(client)
            transport.doWrite()
            self.turn()

        self.assertEqual(echo, data)

    def test_nothing_stays_between(self) -> None:
        """Once the header is read nobody holds what has read it, and the transport's methods are its own."""
        factory = TalkerFactory()
        client, transport = self.open(factory)
        gatherer = weakref.ref(transport.protocol)
        client.sendall(LINE + b"hello")
        self.turn()

        self.assertIsNone(gatherer())
        self.assertIs(transport.protocol, factory.built[0])
        self.assertEqual(
            vars(transport).keys()
            & {"pauseProducing", "resumeProducing", "loseConnection", "abortConnection"},
            set(),
        )
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_factory_may_refuse(self) -> None:
        """If there is no protocol for the client its connection is closed; that is not for us to count."""
        factory = TalkerFactory()
        self.patch(factory, "buildProtocol", lambda _: None)
        client, _ = self.open(factory)
        client.sendall(LINE + b"hello")
        self.turn()

        self.assertEqual(self.received(client), b"")
        self.assertEqual(self.refused, {})
        self.assert_nothing_left()

    def test_a_protocol_that_fails_to_begin(self) -> None:
        """Its connection ends and the error is logged once; the next client is served."""

        def fail(_: object) -> None:
            raise RuntimeError("bug")

        for where in ("buildProtocol", "connectionMade"):
            factory = TalkerFactory()
            port = self.open_port(self.behind(factory))
            broken = self.patch(
                *((factory, where, fail) if where == "buildProtocol" else (Talker, where, fail))
            )
            client, _ = self.connect(port)
            client.sendall(LINE + b"hello")
            self.turn()

            self.assertEqual(self.received(client), b"reset")
            self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
            self.assertEqual(port.ended, {"failed": 1})
            self.assertEqual([each.events for each in factory.built], [["lost"]] * len(factory.built))
            broken.restore()
            client, transport = self.connect(port)
            client.sendall(LINE + b"hello")
            self.turn()
            self.assertEqual(factory.built[-1].events, [(CLIENT, SERVER), b"hello"])
            self.drop(transport)
        self.assertEqual(self.refused, {})

    def test_a_protocol_that_fails_at_what_came_with_the_header(self) -> None:
        """That, too, is logged once and ends the connection."""

        def fail(*_: object) -> None:
            raise RuntimeError("bug")

        factory = TalkerFactory()
        self.patch(Talker, "dataReceived", fail)
        client, transport = self.open(factory)
        client.sendall(LINE + b"hello")
        self.turn()

        self.assertFalse(transport.connected)
        self.assertEqual(factory.built[0].events, [(CLIENT, SERVER), "lost"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_a_protocol_without_a_name_for_logs(self) -> None:
        """Its class names it."""

        class Bare:
            """The least a protocol can be."""

            def makeConnection(self, transport: object) -> None:
                """Begin."""

            def connectionLost(self, reason: Failure) -> None:
                """End."""

        factory = TalkerFactory()
        self.patch(factory, "buildProtocol", lambda _: Bare())
        client, transport = self.open(factory)
        client.sendall(LINE)
        self.turn()

        self.assertEqual(transport.logPrefix(), "Bare,192.0.2.1")


class BeginningTests(ProxyCase):
    """A protocol that closes or pauses its connection in `connectionMade`: as if no data had come yet."""

    def begin(self, *steps: str) -> tuple[socket.socket, Any, Talker]:
        """Connect; the protocol calls some methods of its transport at once. Data have come with the header."""

        def begin(talker: Talker) -> None:
            for step in steps:
                getattr(talker.transport, step)()

        factory = TalkerFactory(begin)
        client, transport = self.open(factory)
        client.sendall(LINE + b"hello")
        self.turn()
        return client, transport, factory.built[0]

    def test_closed(self) -> None:
        """A protocol that has closed its connection is told of its end, and of nothing else."""
        for step, end in (("loseConnection", b""), ("abortConnection", b"reset")):
            client, _, talker = self.begin(step)

            self.assertEqual(talker.events, [(CLIENT, SERVER), "lost"])
            self.assertEqual(self.received(client), end)
            self.assert_nothing_left()

    def test_paused(self) -> None:
        """A protocol that has paused is handed nothing until it resumes, and then everything in order."""
        client, transport, talker = self.begin("pauseProducing")
        client.sendall(b" and")
        client.shutdown(socket.SHUT_WR)
        self.turn()
        self.assertEqual(talker.events, [(CLIENT, SERVER)])

        transport.resumeProducing()
        self.assertEqual(talker.events, [(CLIENT, SERVER)])  # nobody expects data from inside this call
        self.hub.doRead()
        self.assertEqual(talker.events, [(CLIENT, SERVER)])  # nor later data before the earlier
        self.turn()
        self.assertEqual(talker.events, [(CLIENT, SERVER), b"hello", b" and", "lost"])
        self.assert_nothing_left()

    def test_never_paused(self) -> None:
        """What was not paused is not resumed: a protocol may have stopped its connection in another way."""
        client, _, talker = self.begin("stopReading")
        client.sendall(b" and")
        self.turn()

        self.assertEqual(talker.events, [(CLIENT, SERVER), b"hello"])

    def test_paused_and_resumed_at_once(self) -> None:
        """A pause that is over when `connectionMade` ends holds nothing back."""
        client, transport, talker = self.begin("pauseProducing", "resumeProducing")
        self.assertEqual(talker.events, [(CLIENT, SERVER), b"hello"])

        client.sendall(b" and")
        self.turn()
        self.assertEqual(talker.events[2:], [b" and"])
        self.assertEqual(vars(transport).keys() & {"pauseProducing", "resumeProducing"}, set())

    def test_paused_again(self) -> None:
        """It is the last word that counts, in `connectionMade` and later; and each resuming is one."""
        client, transport, talker = self.begin("pauseProducing", "resumeProducing", "pauseProducing")
        for _ in range(2):
            transport.resumeProducing()
            transport.pauseProducing()
            client.sendall(b"!")
            self.turn()
            self.assertEqual(talker.events, [(CLIENT, SERVER)])

        transport.resumeProducing()
        transport.resumeProducing()
        self.turn()
        self.turn()
        self.assertEqual(talker.events, [(CLIENT, SERVER), b"hello", b"!!"])

    def test_paused_in_between(self) -> None:
        """A pause while the first data are handled holds back what follows, as ever."""
        client, transport, talker = self.begin("pauseProducing")
        take = talker.dataReceived

        def take_and_pause(data: bytes) -> None:
            take(data)
            transport.pauseProducing()

        self.patch(talker, "dataReceived", take_and_pause)
        transport.resumeProducing()
        client.sendall(b" and")
        self.turn()
        self.assertEqual(talker.events, [(CLIENT, SERVER), b"hello"])

        transport.resumeProducing()
        self.turn()
        self.assertEqual(talker.events[2:], [b" and"])

    def test_closed_while_paused(self) -> None:
        """What was held back is dropped with the connection, resumed or not."""
        for step in ("loseConnection", "abortConnection"):
            for steps in ([step], ["resumeProducing", step], [step, "resumeProducing"]):
                _, transport, talker = self.begin("pauseProducing")
                for each in steps:
                    getattr(transport, each)()
                self.turn()
                if transport.connected:  # closing waits for room
                    transport.connectionLost(Failure(transport.doWrite()))

                self.assertEqual(talker.events, [(CLIENT, SERVER), "lost"])
                self.reactor.advance(0)
                self.assert_nothing_left()

    def test_lost_while_paused(self) -> None:
        """A protocol that resumes a connection that was lost meanwhile gets nothing any more."""
        _, transport, talker = self.begin("pauseProducing")
        transport.connectionLost(Failure(ConnectionResetError()))
        transport.resumeProducing()
        self.turn()

        self.assertEqual(talker.events, [(CLIENT, SERVER), "lost"])
        self.assert_nothing_left()

    def test_a_protocol_that_fails_at_what_was_held_back(self) -> None:
        """The error is logged once, and its connection ends."""

        def fail(*_: object) -> None:
            raise RuntimeError("bug")

        client, transport, talker = self.begin("pauseProducing")
        port = transport.accepted_by
        self.patch(Talker, "dataReceived", fail)
        transport.resumeProducing()
        self.turn()
        self.reactor.advance(0)
        self.assertEqual(port.ended, {"failed": 1})

        self.assertEqual(self.received(client), b"reset")
        self.assertEqual(talker.events, [(CLIENT, SERVER), "lost"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_methods_that_were_kept(self) -> None:
        """A protocol may keep its transport's methods and use them at any time."""
        kept: dict[str, Callable[[], None]] = {}

        def keep(talker: Talker) -> None:
            for name in ("pauseProducing", "resumeProducing", "loseConnection"):
                kept[name] = getattr(talker.transport, name)

        factory = TalkerFactory(keep)
        client, transport = self.open(factory)
        client.sendall(LINE + b"hello")
        self.turn()
        talker = factory.built[0]
        kept["pauseProducing"]()
        client.sendall(b" and")
        self.turn()
        self.assertEqual(talker.events, [(CLIENT, SERVER), b"hello"])

        kept["resumeProducing"]()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.turn()
        self.assertEqual(talker.events[2:], [b" and"])
        kept["loseConnection"]()
        transport.connectionLost(Failure(transport.doWrite()))
        self.assertEqual(talker.events[3:], ["lost"])


class RefusalTests(ProxyCase):
    """No good header: the connection ends, is counted, and leaves nothing behind; nobody is asked and nothing logged."""

    def setUp(self) -> None:
        """Nobody must be built."""
        super().setUp()
        self.inner = TalkerFactory()

    def assert_refused(self, reason: str, times: int = 1) -> None:
        """Check that it was counted once for each, and that nothing is left."""
        self.assertEqual(self.refused, {reason: times})
        self.assertEqual(self.inner.addresses, [])
        self.assert_nothing_left()

    def test_untrusted(self) -> None:
        """Whoever is not trusted is closed, whatever comes."""
        factory: Any = ProxyFactory(
            self.inner, [ip_network("192.0.2.0/24")], self.reactor, refused=self.refused
        )
        port = self.open_port(factory)
        client = socket.create_connection(("127.0.0.1", port.getHost().port), 5)
        self.addCleanup(client.close)
        port.doRead()

        self.assertEqual(client.recv(1), b"")
        self.assert_refused("proxy-untrusted")

    def test_malformed(self) -> None:
        """Something else than a header is aborted at once, so that the proxy can see it."""
        wrong = (
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x16",
            LINE.replace(b"443", b"x"),
            summed(b"")[:-1] + b"\0",
            b"\r\n\r\nP",
        )
        for data in wrong:
            client, _ = self.open(self.inner)
            client.sendall(data)
            self.turn()
            self.assertEqual(self.received(client), b"reset")
        self.assert_refused("proxy-malformed", len(wrong))

    def test_incomplete(self) -> None:
        """A connection that ends before its header does is over, whether it ends or breaks."""
        pieces = (b"", b"P", LINE[:-1], binary()[:-1])
        for data in pieces:
            client, _ = self.open(self.inner)
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            self.turn()
            self.assertEqual(self.received(client), b"")
        client, _ = self.open(self.inner)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        self.turn()
        self.assert_refused("proxy-incomplete", len(pieces) + 1)

    def test_late(self) -> None:
        """A header must be complete in 5 seconds, however busily it trickles."""
        client, _ = self.open(self.inner)
        for byte in LINE[:4]:
            client.sendall(bytes([byte]))
            self.turn()
            self.reactor.advance(1.2)
            self.assertEqual(self.refused, {})
        self.reactor.advance(0.2)
        self.reactor.advance(LAST_LOOK)
        self.turn()

        self.assertEqual(self.received(client), b"reset")
        self.assert_refused("proxy-late")

    def test_another_deadline(self) -> None:
        """The deadline can be another."""
        factory: Any = ProxyFactory(self.inner, LOOPBACK, self.reactor, refused=self.refused, deadline=1.0)
        self.connect(self.open_port(factory))
        self.reactor.advance(1.0)
        self.reactor.advance(LAST_LOOK)
        self.reactor.advance(0)

        self.assert_refused("proxy-late")

    def test_in_time_for_a_process_that_was_stopped(self) -> None:
        """The deadline has passed before what came in time is read: timers run first."""
        client, _ = self.open(self.inner)
        client.sendall(LINE)
        self.reactor.advance(1000)
        self.turn()
        self.reactor.advance(1000)

        self.assertEqual(self.refused, {})

    def test_in_time(self) -> None:
        """Once the header is complete the clock does not matter any more."""
        client, transport = self.open(self.inner)
        self.reactor.advance(4.9)
        client.sendall(LINE)
        self.turn()
        self.reactor.advance(100)

        self.assertTrue(transport.connected)
        self.assertEqual(self.inner.built[0].events, [(CLIENT, SERVER)])
        self.assertEqual(self.refused, {})


class OtherTransportTests(ProxyCase):
    """Transports of Twisted's, and layers between."""

    def test_twisteds_own_port(self) -> None:
        """Connections that Twisted has accepted by itself are handed over in the same way."""
        port = tcp.Port(0, self.behind(EchoFactory()), interface="127.0.0.1", reactor=self.reactor)
        port.startListening()
        self.addCleanup(port.connectionLost, Failure(Exception()))
        client = socket.create_connection(("127.0.0.1", port.getHost().port), 5)
        self.addCleanup(client.close)
        port.doRead()
        (transport,) = [each for each in self.reactor.getReaders() if isinstance(each, tcp.Server)]
        client.sendall(binary() + b"hello")
        client.shutdown(socket.SHUT_WR)
        self.assertIsNone(transport.doRead())
        self.assertEqual((transport.getPeer(), transport.getHost()), (CLIENT, SERVER))
        transport.readConnectionLost(Failure(Exception()))
        transport.connectionLost(Failure(transport.doWrite()))

        self.assertEqual(self.received(client), b"hello")

    def test_unix_sockets(self) -> None:
        """A proxy that connects over a UNIX socket is trusted; ours and Twisted's own connections are handed over."""
        for kind in (unix.Server, UnixTransport):
            near, far = socket.socketpair()
            self.addCleanup(far.close)
            factory = TalkerFactory()
            protocol: Any = self.behind(factory).buildProtocol(UNIXAddress(None))
            transport: Any = kind(near, protocol, None, None, 0, self.reactor)
            protocol.makeConnection(transport)
            far.sendall(LINE + b"hello")
            transport.doRead()

            self.assertEqual(factory.built[0].events, [(CLIENT, SERVER), b"hello"])
            transport.connectionLost(Failure(Exception()))

    def test_inside_a_wrapper(self) -> None:
        """The header may come inside another layer, which is then the transport: its protocol is exchanged, not it."""
        factory = TalkerFactory(lambda talker: talker.transport.pauseProducing())
        wrapping = WrappingFactory(self.behind(factory))
        wrapping.noisy = False
        client, transport = self.connect(self.open_port(wrapping))  # type: ignore[arg-type]  # any factory will do
        client.sendall(LINE + b"hello")
        self.turn()
        wrapper: Any = transport.protocol
        talker = factory.built[0]
        self.assertIs(talker.transport, wrapper)
        self.assertIs(wrapper.wrappedProtocol, talker)
        self.assertEqual(talker.events, [(CLIENT, SERVER)])

        wrapper.resumeProducing()
        self.turn()
        self.assertEqual(talker.events[1:], [b"hello"])

    def test_a_layer_that_does_not_stop(self) -> None:
        """TLS hands on what still comes while it closes: after a refusal that is not read again."""
        for wrong, counted in ((b"GET ", {"proxy-malformed": 1}), (LINE, {})):
            self.refused.clear()
            factory = TalkerFactory()
            self.patch(factory, "buildProtocol", lambda _: None)
            protocol: Any = self.behind(factory).buildProtocol(UNIXAddress(None))
            transport: Any = StringTransport()
            transport.protocol = protocol
            protocol.makeConnection(transport)
            for _ in range(2):
                protocol.dataReceived(wrong)

            self.assertTrue(transport.disconnecting)
            self.assertEqual(self.refused, counted)

    def test_tls_behind_the_header(self) -> None:
        """A client's TLS handshake comes after the header, in one piece or not; whoever looks sees the client."""
        for cut in (0, len(LINE) - 1, len(LINE), len(LINE) + 1):
            factory = TalkerFactory()
            transport = self.say_hello(self.tls_around(factory), cut)

            self.assertEqual(factory.addresses, [CLIENT])
            self.assertEqual(factory.built[0].events, [(CLIENT, SERVER), b"hello"])
            self.drop(transport)

    def test_tls_begun_by_the_protocol(self) -> None:
        """`startTLS` in `connectionMade` puts TLS between: what came with the header is for TLS."""
        context = self.tls_context()
        factory = TalkerFactory(lambda talker: talker.transport.startTLS(context))
        self.say_hello(factory, 0)

        self.assertEqual(factory.built[0].events, [(CLIENT, SERVER), b"hello"])

    def tls_context(self) -> Any:
        """Return what TLS of Twisted's needs, with the certificate of Twisted's own tests."""
        try:
            from twisted.internet.ssl import DefaultOpenSSLContextFactory  # noqa: PLC0415  # an extra
        except ImportError as error:
            raise SkipTest("needs pyOpenSSL") from error
        (folder,) = twisted_test.__path__
        certificate = str(Path(folder) / "server.pem")
        return DefaultOpenSSLContextFactory(certificate, certificate)

    def tls_around(self, factory: TalkerFactory) -> Any:
        """Put TLS around a factory."""
        context = self.tls_context()
        from twisted.protocols.tls import TLSMemoryBIOFactory  # noqa: PLC0415  # likewise

        return TLSMemoryBIOFactory(context, False, factory, self.reactor)

    def say_hello(self, inner: Any, cut: int) -> Any:
        """Be a TLS client behind a proxy: send the header and the handshake, in two pieces or one, and then hello."""
        client, transport = self.open(inner)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing)
        self.assertRaises(ssl.SSLWantReadError, tls.do_handshake)
        opening = LINE + outgoing.read()
        client.sendall(opening[:cut])
        self.turn()
        client.sendall(opening[cut:])
        self.turn()
        incoming.write(self.received(client))
        tls.do_handshake()
        tls.write(b"hello")
        client.sendall(outgoing.read())
        self.turn()
        return transport
