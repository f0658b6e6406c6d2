"""Tests of direct connections: what is written goes out at once, and in order; what is there is read."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from typing import Any

from twisted.internet import defer, reactor
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPullProducer
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.internet.ssl import optionsForClientTLS
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from echosvc.protocols import EchoFactory
from echosvc.transports import StreamPort, StreamTransport, hub
from echosvc.transports.client import StreamConnector
from echosvc.transports.connection import BULK_READ, READ_TURN, SMALL_READ, TINY_READ
from tests.transports.test_stream import RecorderFactory, StreamCase
from tests.waiting import until


class Heard(Protocol):
    """Remembers what it is handed."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        """Remember."""
        self.pieces.append(data)


@implementer(IPullProducer)
class Pulled:
    """A producer that must be asked for each piece."""

    def __init__(self, transport: StreamTransport) -> None:
        self.transport = transport
        self.left = 3

    def resumeProducing(self) -> None:
        """Write one piece, or finish."""
        self.left -= 1
        self.transport.write(b"piece ")
        if not self.left:
            self.transport.unregisterProducer()

    def stopProducing(self) -> None:
        """Nothing to stop."""


class WritingTests(StreamCase):
    """Writing."""

    def setUp(self) -> None:
        """Connect."""
        super().setUp()
        self.client, self.transport = self.connect(self.open_port(RecorderFactory()))

    def test_goes_out_at_once(self) -> None:
        """No turn of the reactor lies between a write and the wire."""
        self.transport.write(b"now")

        self.assertEqual(self.client.recv(100), b"now")
        self.assertEqual(self.hub.getWriters(), [])
        self.assertEqual((self.transport.messages_out, self.transport.bytes_out), (1, 3))

    def test_a_sequence_is_one_message(self) -> None:
        """Its pieces leave together."""
        self.transport.writeSequence([b"a", b"b", b"c"])

        self.assertEqual(self.client.recv(100), b"abc")
        self.transport.startWriting()  # as if the kernel had no room
        self.transport.writeSequence([b"d", b"e"])
        self.assertEqual(self.transport.messages_out, 2)

    def test_only_bytes_can_be_written(self) -> None:
        """As Twisted has it: text is refused, alone and in a sequence."""
        self.assertRaises(TypeError, self.transport.write, "text")
        self.assertRaises(TypeError, self.transport.writeSequence, ["text"])

    def test_what_the_kernel_does_not_take_keeps_its_place(self) -> None:
        """Direct and queued writes, mixed, arrive in the order in which they were made."""
        sent = os.urandom(8_000_000)
        for start in range(0, len(sent), 1_000_000):
            self.transport.write(sent[start : start + 1_000_000])
        self.assertEqual(self.hub.getWriters(), [self.transport])
        received = bytearray()
        for _ in until(lambda: len(received) >= len(sent)):
            received += self.client.recv(1_000_000)
            self.transport.doWrite()
        self.transport.write(b"direct again")

        self.assertEqual(bytes(received), sent)
        self.assertEqual(self.client.recv(100), b"direct again")

    def test_what_a_producer_writes_when_it_is_paused_keeps_its_place(self) -> None:
        """It comes after everything that was written before, even if the kernel has room again by then."""
        case = self

        class LastWords:
            """Makes room, and writes, once."""

            def stopProducing(self) -> None:
                """Nothing to stop."""

            def pauseProducing(self) -> None:
                """Read what is there, so that there is room, and write something."""
                if came:
                    return
                case.client.settimeout(0.05)
                with contextlib.suppress(TimeoutError):
                    for _ in until(lambda: False):
                        came.append(case.client.recv(1 << 20))  # noqa: PERF401  # until one raises
                case.transport.write(b"X")

        came: list[bytes] = []
        self.transport.registerProducer(LastWords(), True)  # type: ignore[arg-type]  # all that is asked of it
        self.transport.write(bytes(20_000_000))
        self.transport.unregisterProducer()
        for _ in until(lambda: sum(map(len, came)) > 20_000_000):
            self.hub.doRead()
            with contextlib.suppress(TimeoutError):
                came.append(self.client.recv(1 << 20))

        self.assertEqual(b"".join(came).find(b"X"), 20_000_000)

    def test_no_buffers_for_a_moment_is_no_lost_connection(self) -> None:
        """What could not be written then is sent later, and an orderly end is one."""
        write = os.write

        def refuse(fd: int, data: bytes) -> int:
            """Refuse once."""
            self.patch(os, "write", write)
            raise OSError(errno.ENOBUFS, "no buffers")

        self.patch(os, "write", refuse)
        self.transport.write(b"late")
        self.hub.doRead()
        self.assertEqual(self.client.recv(100), b"late")
        protocol: Any = self.transport.protocol
        self.client.close()
        self.hub.doRead()

        protocol.lost.trap(ConnectionDone)

    def test_a_pull_producer_is_asked_for_every_piece(self) -> None:
        """Even if the kernel takes every piece at once."""
        self.transport.registerProducer(Pulled(self.transport), False)
        for _ in range(5):
            self.hub.doRead()

        self.assertEqual(self.client.recv(100), b"piece piece piece ")

    def test_nothing_is_in_the_clear_after_start_tls(self) -> None:
        """What is written after startTLS never reaches the wire as it is."""
        self.transport.write(b"clear")
        self.transport.startTLS(optionsForClientTLS("localhost"), normal=False)
        self.transport.write(b"secret")
        self.transport.writeSequence([b"secret"])
        self.transport.doWrite()
        wire = self.client.recv(10_000)

        self.assertTrue(wire.startswith(b"clear\x16\x03"))  # then a TLS handshake record
        self.assertNotIn(b"secret", wire)

    def test_nothing_is_written_after_abort(self) -> None:
        """An aborted connection is silent."""
        self.transport.abortConnection()
        self.transport.write(b"late")
        self.reactor.advance(0)

        self.assertRaises(ConnectionResetError, self.client.recv, 100)

    def test_nothing_is_written_after_the_write_side_was_closed(self) -> None:
        """As Twisted has it: such a write is ignored."""
        self.transport.loseWriteConnection()
        self.transport.doWrite()
        self.transport.write(b"late")

        self.assertEqual(self.client.recv(100), b"")
        self.assertEqual(self.hub.getWriters(), [])

    def test_a_failed_write_is_a_lost_connection(self) -> None:
        """The kernel tells the error to the write alone; the read that follows must not call it an end."""
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.client.close()  # with a reset
        self.transport.write(b"x")

        self.assertIs(self.transport.doRead(), CONNECTION_LOST)


class ReadingTests(StreamCase):
    """Reading."""

    def setUp(self) -> None:
        """Connect."""
        super().setUp()
        self.client, self.transport = self.connect(self.open_port(RecorderFactory()))
        self.transport.protocol = self.heard = Heard()

    def test_a_message_is_read_once(self) -> None:
        """A read that comes back short has emptied the socket."""
        self.client.send(b"hello")
        self.assertIsNone(self.transport.doRead())

        self.assertEqual(self.heard.pieces, [b"hello"])
        self.assertEqual((self.transport.messages_in, self.transport.bytes_in), (1, 5))
        self.assertIsNone(self.transport.doRead())  # nothing there: no error

    def test_bulk_is_read_in_larger_pieces_up_to_a_bound(self) -> None:
        """One event never takes the loop hostage; for the rest the hub tells again."""
        self.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 3 * READ_TURN)
        self.client.setblocking(False)
        sent = 0
        for _ in until(lambda: sent >= READ_TURN + BULK_READ + SMALL_READ):
            try:
                sent += self.client.send(bytes(BULK_READ))
            except BlockingIOError:
                break
        self.transport.doRead()
        sizes = [len(piece) for piece in self.heard.pieces]

        self.assertEqual(sizes[:2], [TINY_READ, SMALL_READ])
        self.assertLessEqual(max(sizes), BULK_READ)
        self.assertLessEqual(sum(sizes), READ_TURN + BULK_READ)
        for _ in until(lambda: sum(len(piece) for piece in self.heard.pieces) >= sent):
            self.hub.doRead()  # told again, though edge-triggered

    def test_stops_when_the_protocol_says_so(self) -> None:
        """A protocol that pauses in the middle of a bulk is handed nothing more."""
        transport = self.transport

        class Pausing(Heard):
            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data)
                transport.pauseProducing()

        self.transport.protocol = pausing = Pausing()
        self.client.send(bytes(TINY_READ + 1))
        self.transport.doRead()
        self.assertEqual([len(piece) for piece in pausing.pieces], [TINY_READ])
        self.transport.resumeProducing()
        self.hub.doRead()

        self.assertEqual([len(piece) for piece in pausing.pieces], [TINY_READ, 1])

    def test_a_protocol_put_in_the_middle_gets_the_rest(self) -> None:
        """StartTLS and others replace the protocol while it is handed data."""
        transport, second = self.transport, Heard()

        class First(Heard):
            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data)
                transport.protocol = second

        self.transport.protocol = First()
        self.client.send(bytes(TINY_READ + 1))
        self.transport.doRead()

        self.assertEqual([len(piece) for piece in second.pieces], [1])

    def test_the_end(self) -> None:
        """An orderly end is told as one."""
        self.client.close()

        self.assertIs(self.transport.doRead(), CONNECTION_DONE)

    def test_a_reset(self) -> None:
        """A reset is a loss."""
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.client.close()

        self.assertIs(self.transport.doRead(), CONNECTION_LOST)

    def test_the_read_size_follows_the_messages(self) -> None:
        """The second of two messages of a kind is read in one piece, and a small one is never a large read."""
        pieces = []
        for size in (10, 1000, 1000, 60_000, 60_000, 10, 1000):
            self.client.send(bytes(size))
            self.transport.doRead()
            pieces.append([len(piece) for piece in self.heard.pieces])
            self.heard.pieces.clear()
        in_two, large = [TINY_READ, 1000 - TINY_READ], [SMALL_READ, 60_000 - SMALL_READ]

        self.assertEqual(pieces, [[10], in_two, [1000], large, [60_000], [10], in_two])

    def test_what_came_while_reading_was_paused(self) -> None:
        """Data and the end of the input wait in the kernel, and are told when reading goes on."""
        self.transport.pauseProducing()
        self.client.send(b"late")
        self.client.shutdown(socket.SHUT_WR)
        self.hub.doRead()
        self.assertEqual(self.heard.pieces, [])
        self.transport.resumeProducing()
        self.hub.doRead()

        self.assertEqual(self.heard.pieces, [b"late"])
        self.assertTrue(self.transport.disconnected)

    def test_a_protocol_that_pauses_before_it_begins(self) -> None:
        """One that pauses in connectionMade is handed what came meanwhile, when it asks."""

        class Hesitant(Heard):
            def connectionMade(self) -> None:
                transport: Any = self.transport
                transport.pauseProducing()

        transport = self.transport
        transport.protocol = hesitant = Hesitant()
        self.client.send(b"hello")
        hesitant.makeConnection(transport)
        self.hub.doRead()
        self.assertEqual(hesitant.pieces, [])
        transport.resumeProducing()
        self.hub.doRead()

        self.assertEqual(hesitant.pieces, [b"hello"])

    def test_a_bulk_transfer_lets_others_in(self) -> None:
        """While one connection has always more to read, every turn serves the others, too."""
        self.patch(hub, "monotonic", lambda: 0.0)  # a turn ends early where each read takes long
        self.transport.pauseProducing()
        talker, other = self.connect(self.open_port(RecorderFactory()))
        self.transport.resumeProducing()
        other.protocol = small = Heard()
        self.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * READ_TURN)
        self.client.setblocking(False)
        for number in range(1, 6):
            with contextlib.suppress(BlockingIOError):
                for _ in until(lambda: not self.client.send(bytes(READ_TURN))):
                    pass
            talker.send(b"x")
            self.hub.doRead()
            self.assertEqual(len(small.pieces), number)


class Flooding(Protocol):
    """A client that writes everything before it reads anything."""

    SIZE = 30_000_000

    def __init__(self) -> None:
        self.done: defer.Deferred[int] = defer.Deferred()
        self.got = 0

    def connectionMade(self) -> None:
        """Write all of it."""
        transport: Any = self.transport
        transport.write(bytes(self.SIZE))
        transport.loseWriteConnection()

    def dataReceived(self, data: bytes) -> None:
        """Count."""
        self.got += len(data)

    def connectionLost(self, reason: Failure = Failure(ConnectionLost())) -> None:  # noqa: B008  # as Twisted's
        """Report."""
        self.done.callback(self.got)


class BothSidesTests(TestCase):
    """Our connections at both ends, on the running reactor."""

    async def test_a_client_that_writes_30_mb_to_a_backpressured_echo(self) -> None:
        """It must not wait for itself: only Echo pauses reading, the transport never does."""
        sock = socket.create_server(("127.0.0.1", 0))
        port = StreamPort(sock, EchoFactory(), reactor, stall_timeout=60)
        port.startListening()
        self.addCleanup(port.stopListening)
        client = Flooding()
        factory: ClientFactory[Flooding] = ClientFactory()
        factory.noisy = False
        self.patch(factory, "buildProtocol", lambda _: client)
        StreamConnector("127.0.0.1", port.getHost().port, factory, 10, None, reactor).connect()

        self.assertEqual(await client.done, Flooding.SIZE)
