"""Tests of several pieces of news in one event: data, urgent data, the end or a reset, and errors that are no end."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import sys
from collections.abc import Sequence
from unittest import skipUnless

from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from zope.interface import implementer

from echosvc.protocols import EchoFactory
from echosvc.transports import StreamTransport
from tests.transports.test_connection import Heard
from tests.transports.test_stream import RecorderFactory, StreamCase

#: What closes a connection with a reset (socket(7), SO_LINGER).
RESET = struct.pack("@ii", 1, 0)

#: Turns of the hub after which what has come must have been noticed.
TURNS = 8

#: SO_TIMESTAMPING (asm-generic/socket.h) and its flags for a software timestamp of what is sent (linux/net_tstamp.h).
SO_TIMESTAMPING, TX_SOFTWARE, SOFTWARE = 37, 1 << 1, 1 << 4


class NewsCase(StreamCase):
    """Turns the hub, and takes what it sends."""

    def turn(self) -> None:
        """Turn the hub as often as it may take."""
        for _ in range(TURNS):
            self.hub.doRead()

    def receive(self, client: socket.socket, count: int) -> int:
        """Receive so many bytes; return how many came before the end, if it came earlier."""
        left = count
        while left and (piece := client.recv(min(left, 1_000_000))):
            left -= len(piece)
            self.hub.doRead()
        return count - left


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Heard):
    """Remembers the end of the input, and goes on writing."""

    ended = 0

    def readConnectionLost(self) -> None:
        """Remember."""
        self.ended += 1

    def writeConnectionLost(self) -> None:
        """Nothing."""


@skipUnless(hasattr(select, "epoll"), "needs epoll")
class NewsTests(NewsCase):
    """Whatever comes in one event is noticed whole."""

    def arrange(self) -> tuple[socket.socket, StreamTransport, HalfCloseable]:
        """Connect a client with a protocol that remembers."""
        client, transport = self.connect(self.open_port(RecorderFactory()))
        protocol = HalfCloseable()
        transport.protocol = protocol
        protocol.makeConnection(transport)
        return client, transport, protocol

    @staticmethod
    def send(client: socket.socket, pieces: Sequence[bytes]) -> bytes:
        """Send pieces, those that begin with ``!`` as urgent data; return what is read of them where only the last is urgent."""
        plain = b""
        urgent = [number for number, piece in enumerate(pieces) if piece.startswith(b"!")]
        for number, piece in enumerate(pieces):
            data = piece.removeprefix(b"!")
            client.send(data, socket.MSG_OOB if number in urgent else 0)
            plain += data[:-1] if urgent and number == urgent[-1] else data
        return plain

    #: Data and urgent data in every order that a read may stop at.
    BURSTS = (
        (b"abc",),
        (b"!X",),
        (b"abc", b"!X"),
        (b"!X", b"efg"),
        (b"abc", b"!X", b"efg"),
        (b"abc", b"!X", b"!Y", b"efg"),
        (b"abc", b"!X", b"efg", b"!Y", b"hij"),
        (b"a" * 5000, b"!X", b"b" * 5000),
        (b"a" * 500, b"!X", b"b" * 60_000),
    )

    def test_an_end_behind_anything(self) -> None:
        """The end of the input is noticed behind data, urgent data and both, in one event, and nothing is lost."""
        for burst in self.BURSTS:
            client, transport, protocol = self.arrange()
            expected = self.send(client, burst)
            client.shutdown(socket.SHUT_WR)
            self.turn()

            self.assertEqual((expected, 1), (b"".join(protocol.pieces), protocol.ended), burst)
            self.assertTrue(transport.connected)
            self.drop(transport)

    def test_a_reset_behind_anything(self) -> None:
        """So is a reset: the connection is lost, not ended."""
        for burst in self.BURSTS:
            client, transport, protocol = self.arrange()
            lost: list[type[BaseException] | None] = []
            protocol.connectionLost = lambda why, lost=lost: lost.append(why.type)  # type: ignore[method-assign,misc,assignment]
            self.send(client, burst)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.close()
            self.turn()

            self.assertEqual(([ConnectionLost], 0), (lost, protocol.ended), burst)
            self.assertFalse(transport.connected)

    def test_what_came_before_it_was_accepted(self) -> None:
        """All of it waits already when the connection is accepted: it is one event, and is noticed whole."""
        for burst in self.BURSTS:
            port = self.open_port(EchoFactory())
            client = socket.create_connection(("127.0.0.1", port.getHost().port), 5)
            expected = self.send(client, burst)
            client.shutdown(socket.SHUT_WR)
            port.doRead()
            self.turn()
            came = b""
            with contextlib.closing(client):
                while piece := client.recv(100_000):
                    came += piece

            self.assertEqual(expected, came, burst)
            self.assertEqual([], self.hub.getReaders()[:-1])
            self.close(port)

    def test_what_came_while_reading_was_paused(self) -> None:
        """All of it waits when reading goes on; a protocol that pauses at every piece is told of the rest whenever it asks."""
        for burst in self.BURSTS:
            client, transport, protocol = self.arrange()
            heard = protocol.dataReceived

            def pause(data: bytes, heard: object = heard, transport: StreamTransport = transport) -> None:
                assert callable(heard)
                heard(data)
                transport.pauseProducing()

            protocol.dataReceived = pause  # type: ignore[method-assign]
            transport.pauseProducing()
            expected = self.send(client, burst)
            client.shutdown(socket.SHUT_WR)
            for _ in range(TURNS):
                if not protocol.ended:
                    transport.resumeProducing()
                self.hub.doRead()

            self.assertEqual((expected, 1), (b"".join(protocol.pieces), protocol.ended), burst)
            self.drop(transport)

    def test_an_end_while_something_is_queued(self) -> None:
        """A connection that waits for room notices it, too, and what is queued still arrives."""
        for burst in self.BURSTS:
            client, transport, protocol = self.arrange()
            self.fill(transport)
            expected = self.send(client, burst)
            client.shutdown(socket.SHUT_WR)
            self.turn()
            self.assertEqual((expected, 1), (b"".join(protocol.pieces), protocol.ended), burst)
            left = transport.bytes_out + transport.queued()
            transport.loseConnection()

            self.assertEqual(left, self.receive(client, left))
            self.assertEqual(b"", client.recv(1))

    def test_an_end_after_we_have_ended_our_direction(self) -> None:
        """Both directions have ended: that is told once, after everything was read."""
        client, transport, protocol = self.arrange()
        transport.loseWriteConnection()
        self.turn()
        expected = self.send(client, (b"abc", b"!X", b"efg"))
        client.shutdown(socket.SHUT_WR)
        self.turn()

        self.assertEqual((expected, 1), (b"".join(protocol.pieces), protocol.ended))

    def test_no_end(self) -> None:
        """Without an end everything is read, the connection stays, and the hub has nothing left to do."""
        for burst in self.BURSTS:
            client, transport, protocol = self.arrange()
            expected = self.send(client, burst)
            self.turn()

            self.assertEqual((expected, 0), (b"".join(protocol.pieces), protocol.ended), burst)
            self.assertEqual([], self.hub._epoll.poll(0))
            self.drop(transport)


@skipUnless(sys.platform.startswith("linux") and hasattr(select, "epoll"), "needs Linux")
class ErrorQueueTests(NewsCase):
    """The error queue of a socket is no end: a socket that was inherited may have options that fill it."""

    def echoing(self) -> tuple[socket.socket, StreamTransport]:
        """Connect with an echo, whose answers have timestamps (SO_TIMESTAMPING) in the error queue."""
        client, transport = self.connect(self.open_port(EchoFactory()))
        transport.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, TX_SOFTWARE | SOFTWARE)
        return client, transport

    def test_a_connection_goes_on(self) -> None:
        """It echoes again and again, and the queue is emptied each time: epoll has no more to tell."""
        client, transport = self.echoing()
        for _ in range(3):
            client.send(b"ping")
            self.turn()
            self.assertEqual(b"ping", client.recv(100))

        self.assertTrue(transport.connected)
        self.assertEqual([], self.hub._epoll.poll(0))

    def test_one_that_waits_for_room_goes_on(self) -> None:
        """Nor is it lost while something is queued."""
        client, transport = self.echoing()
        self.fill(transport)
        self.turn()
        self.assertTrue(transport.connected)
        queued = transport.bytes_out + transport.queued()

        self.assertEqual(queued, self.receive(client, queued))
        self.assertEqual([], self.hub._epoll.poll(0))

    def test_it_ends_as_any_other(self) -> None:
        """Data and an end that come together with such an error are noticed."""
        client, transport = self.echoing()
        client.send(b"ping")
        self.turn()
        client.send(b"pong")
        client.shutdown(socket.SHUT_WR)
        self.turn()

        self.assertEqual((b"pingpong", b""), (client.recv(8, socket.MSG_WAITALL), client.recv(8)))
        self.assertFalse(transport.connected)
