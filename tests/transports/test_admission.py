"""Tests of what a stream port asks its door, and tells it, and of how a connection is ended from outside."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory

from echosvc.protocols import EchoFactory
from echosvc.transports import StreamPort
from tests.transports.test_proxy import ProxyCase
from tests.transports.test_proxy_header import CLIENT, LOCAL, binary
from tests.transports.test_stream import Recorder, RecorderFactory, StreamCase
from tests.waiting import until


class FakeTicket:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.connection: Any = None

    def enter(self, connection: Any) -> None:
        """Remember."""
        self.told.append("enter")
        self.connection = connection

    def announce(self, peer: IAddress) -> bool:
        """Let in the one of whom a test says so, and this machine."""
        self.told.append("announce")
        return peer == CLIENT or getattr(peer, "host", None) == "127.0.0.1"

    def waits(self) -> None:
        """Remember."""
        self.told.append("waits")

    def leave(self) -> None:
        """Remember."""
        self.told.append("leave")


class FakeDoor:
    """Lets in as many as a test says."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.asked: list[IAddress] = []
        self.tickets: list[FakeTicket] = []

    def admit(self, peer: IAddress) -> FakeTicket | None:
        """Decide by number."""
        self.asked.append(peer)
        if len(self.tickets) == self.places:
            return None
        self.tickets.append(FakeTicket())
        return self.tickets[-1]


class DoorCase(StreamCase):
    """Opens a port with a door."""

    def open(self, factory: Factory[Any], places: int = 1) -> StreamPort:
        """Open it."""
        port = self.open_port(factory)
        self.door = port.door = FakeDoor(places)
        return port


class DoorTests(DoorCase):
    """The door is asked once for each connection, before anything is made for it."""

    def test_whoever_may_come_in_has_a_ticket_until_it_leaves(self) -> None:
        """The door is told of the connection, and of its end."""
        port = self.open(EchoFactory())
        client, transport = self.connect(port)
        self.assertEqual([IPv4Address("TCP", *client.getsockname())], self.door.asked)
        (ticket,) = self.door.tickets
        self.assertIs(transport, ticket.connection)
        self.assertEqual(["enter"], ticket.told)
        client.sendall(b"hello")
        transport.doRead()
        self.assertEqual(["enter"], ticket.told)  # nothing for a message
        self.drop(transport)

        self.assertEqual(["enter", "leave"], ticket.told)

    def test_whoever_may_not_is_reset(self) -> None:
        """No protocol is made for it, and the socket leaves nothing behind; the next is asked about anew."""
        factory = RecorderFactory()
        port = self.open(factory, places=0)
        clients = [socket.create_connection(("127.0.0.1", port.getHost().port), 5) for _ in range(2)]
        port.doRead()
        for client in clients:
            self.addCleanup(client.close)
            self.assertRaises(ConnectionResetError, client.recv, 1)

        self.assertEqual((2, []), (len(self.door.asked), factory.built))

    def test_whoever_cannot_be_reset_is_closed_all_the_same(self) -> None:
        """In good order then; that the system did not want it otherwise is no mistake of ours."""

        def deny(*_: object) -> None:
            raise PermissionError(errno.EACCES, "a security module's")

        port = self.open(EchoFactory(), places=0)
        client = socket.create_connection(("127.0.0.1", port.getHost().port), 5)
        self.addCleanup(client.close)
        self.patch(socket.socket, "setsockopt", deny)
        port.doRead()

        self.assertEqual(b"", client.recv(1))

    def test_without_a_door_everybody_may(self) -> None:
        """And nobody has a ticket."""
        _, transport = self.connect(self.open_port(EchoFactory()))

        self.assertIsNone(transport.ticket)

    def test_a_connection_that_is_not_made_gives_its_ticket_back(self) -> None:
        """The factory wants no protocol for it, or fails."""

        def fail(_: object) -> None:
            raise RuntimeError("bug")

        for build in (lambda _: None, fail):
            factory = RecorderFactory()
            self.patch(factory, "buildProtocol", build)
            port = self.open(factory)
            client = socket.create_connection(("127.0.0.1", port.getHost().port), 5)
            self.addCleanup(client.close)
            port.doRead()

            self.assertEqual(["leave"], self.door.tickets[0].told)
            self.assertEqual(b"", client.recv(1))
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))

    def test_a_protocol_that_fails_to_begin_leaves(self) -> None:
        """Its connection has been made, and ends."""

        def fail(_: object) -> None:
            raise RuntimeError("bug")

        self.patch(Recorder, "connectionMade", fail)
        port = self.open(RecorderFactory())
        self.addCleanup(socket.create_connection(("127.0.0.1", port.getHost().port), 5).close)
        port.doRead()
        self.reactor.advance(0)

        self.assertEqual(["enter", "leave"], self.door.tickets[0].told)
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))

    def test_a_door_that_fails_closes_nobody_but_the_one_it_was_asked_about(self) -> None:
        """It is logged, and the port goes on."""
        port = self.open(RecorderFactory(), places=5)
        admit = self.door.admit

        def fail(_: object) -> None:
            raise RuntimeError("bug")

        self.patch(self.door, "admit", fail)
        client = socket.create_connection(("127.0.0.1", port.getHost().port), 5)
        self.addCleanup(client.close)
        port.doRead()
        self.assertEqual(b"", client.recv(1))
        self.patch(self.door, "admit", admit)

        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))
        self.connect(port)

    def test_tells_when_something_is_queued(self) -> None:
        """And how much, until it is sent."""
        port = self.open(RecorderFactory())
        client, transport = self.connect(port)
        self.fill(transport)
        self.assertEqual({"enter", "waits"}, set(self.door.tickets[0].told))
        written = transport.bytes_out + transport.queued()
        self.assertGreater(transport.queued(), 0)
        transport.write(b"x" * 1000)
        self.assertEqual(written + 1000, transport.bytes_out + transport.queued())
        client.setblocking(False)
        for _ in until(lambda: not transport.queued()):
            try:
                client.recv(1_000_000)
            except BlockingIOError:
                transport.doWrite()
            self.assertEqual(written + 1000, transport.bytes_out + transport.queued())

    def test_tells_what_the_peer_has_still_to_take(self) -> None:
        """Of what the kernel has taken: it sends more whenever there is room, and nothing here moves for that."""
        client, transport = self.connect(self.open(RecorderFactory()))
        self.assertEqual((0, False), (transport.undelivered(), transport.held_back()))
        self.fill(transport)
        sent, before = transport.bytes_out, transport.undelivered()
        self.assertTrue(0 < before < sent)
        for _ in until(lambda: transport.undelivered() != before):
            client.recv(1_000_000)

        self.assertEqual(sent, transport.bytes_out)


class ProxiedTests(ProxyCase):
    """Behind a proxy the client must be let in, too."""

    def announced(self, header: bytes, wrap: Callable[[Any], Any] = lambda factory: factory) -> bytes:
        """Connect a proxy that sends a header and something behind it; return what is answered."""
        port = self.open_port(wrap(self.behind(EchoFactory())))
        self.door = port.door = FakeDoor(1)
        client, transport = self.connect(port)
        client.sendall(header + b"hello")
        self.turn()
        answered = self.received(client)
        if transport.connected:
            self.drop(transport)
        return answered

    def test_a_client_that_may_come_in_is_served(self) -> None:
        """It is asked about once."""
        self.assertEqual(b"hello", self.announced(binary()))
        self.assertEqual(["enter", "announce", "leave"], self.door.tickets[0].told)

    def test_a_client_that_may_not_is_reset(self) -> None:
        """Its bytes reach no protocol."""
        self.assertEqual(b"reset", self.announced(b"PROXY TCP4 203.0.113.9 192.0.2.1 5 7\r\n"))
        self.assertEqual(["enter", "announce", "leave"], self.door.tickets[0].told)
        self.assert_nothing_left()

    def test_a_proxy_that_names_nobody_is_the_client(self) -> None:
        """It checks whether we are alive, or cannot say: no way around lists and limits."""
        headers = (binary(command=LOCAL), b"PROXY UNKNOWN 192.0.2.1 192.0.2.2 5 7\r\n", binary(family=0))
        for header in headers:
            self.assertEqual(b"hello", self.announced(header))
            self.assertEqual(["enter", "announce", "leave"], self.door.tickets[0].told)
        self.patch(FakeTicket, "announce", lambda *_: False)
        for header in headers:
            self.assertEqual(b"reset", self.announced(header))

    def test_through_another_layer(self) -> None:
        """Which is the transport then."""
        self.assertEqual(
            b"reset", self.announced(b"PROXY TCP4 203.0.113.9 192.0.2.1 5 7\r\n", WrappingFactory)
        )
        self.assertEqual(["enter", "announce", "leave"], self.door.tickets[0].told)


class EndTests(DoorCase):
    """A connection is ended though its protocol has not asked for it."""

    def test_an_idle_one_closes(self) -> None:
        """In good order."""
        client, transport = self.connect(self.open_port(EchoFactory()))
        transport.end()
        self.hub.doRead()

        self.assertEqual(b"", client.recv(1))
        self.assertFalse(transport.connected)

    def test_what_is_queued_is_sent_first(self) -> None:
        """Though the protocol had been told to wait: a connection whose producer is paused never closes."""
        client, transport = self.connect(self.open_port(EchoFactory()))
        self.fill(transport)
        self.assertNotIn(transport, self.hub.getReaders())
        total = transport.bytes_out + transport.queued()
        transport.end()
        client.setblocking(False)
        came = 0
        for _ in until(lambda: not transport.connected and came >= total):
            try:
                came += len(client.recv(1_000_000))
            except BlockingIOError:
                self.hub.doRead()

        self.assertEqual(total, came)
        self.assertEqual(b"", client.recv(1))

    def test_a_layer_ends_it_in_its_own_way(self) -> None:
        """TLS, for one, has something to say at the end."""

        class Polite(ProtocolWrapper):
            def loseConnection(self) -> None:
                self.transport.write(b"bye")  # type: ignore[union-attr]
                super().loseConnection()

        factory: Any = WrappingFactory(EchoFactory())
        factory.protocol = Polite
        client, transport = self.connect(self.open_port(factory))
        transport.end()
        self.hub.doRead()

        self.assertEqual(b"bye", client.recv(10))
        self.assertEqual(b"", client.recv(10))

    def test_a_layer_that_fails_is_cut_off(self) -> None:
        """What it raises is logged."""

        class Broken(ProtocolWrapper):
            def loseConnection(self) -> None:
                raise RuntimeError("bug")

        factory: Any = WrappingFactory(EchoFactory())
        factory.protocol = Broken
        _, transport = self.connect(self.open_port(factory))
        transport.end()
        self.reactor.advance(0)

        self.assertFalse(transport.connected)
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))
