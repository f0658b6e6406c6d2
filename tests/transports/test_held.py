"""Tests of what waits for a client, in our memory and in the kernel's, on real sockets."""

from __future__ import annotations

import select
import socket
import tempfile
import time
from pathlib import Path
from unittest import skipUnless

from twisted.internet.protocol import Protocol

from echosvc.protocols import EchoFactory
from echosvc.transports import StreamTransport, linux
from echosvc.transports.accepting import UNSENT
from echosvc.transports.linux import LINUX, received_memory, unacknowledged, unread, unsent
from echosvc.transports.unix import UnixStreamPort, UnixTransport
from tests.transports.test_stream import StreamCase
from tests.waiting import until

MIB = 1024 * 1024

#: Bytes that a client sends at most: it is stopped long before.
MOST = 200 * MIB


@skipUnless(LINUX and hasattr(select, "epoll"), "needs Linux")
class HeldTests(StreamCase):
    """What is told of a connection."""

    def pour(self, client: socket.socket) -> int:
        """Send until nothing more is taken, and read nothing; return how much was."""
        client.setblocking(False)
        sent = idle = 0
        for _ in until(lambda: idle == 3 or sent >= MOST):
            try:
                sent += client.send(bytes(MIB))
                idle = 0
            except BlockingIOError:
                idle += 1
            for _ in range(10):
                self.hub.doRead()
        return sent

    def test_little_waits_in_the_kernel_for_a_client_that_reads_nothing(self) -> None:
        """It takes `UNSENT` and what one write adds, where it would take 4 MiB."""
        client, transport = self.connect(self.open_port(EchoFactory()))
        self.pour(client)

        self.assertLess(transport.unsent(), UNSENT + 128 * 1024)
        self.assertGreater(transport.unsent(), 0)
        self.assertGreater(transport.queued(), 0)
        self.assertGreater(transport.unread(), 0)
        self.assertGreaterEqual(transport.received_memory(), transport.unread())

    def test_a_connection_that_was_adopted_has_the_same_bound(self) -> None:
        """As has each one that our own port accepts."""
        _, ours = self.connect(self.open_port(EchoFactory()))
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        client = socket.create_connection(listener.getsockname())
        self.addCleanup(client.close)
        accepted, address = listener.accept()
        adopted = StreamTransport(accepted, Protocol(), address, None, 0, self.reactor)  # type: ignore[arg-type]
        self.addCleanup(self.drop, adopted)
        found = [
            each.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) for each in (adopted, ours)
        ]

        self.assertEqual([UNSENT, UNSENT], found)

    def test_small_segments_cost_more_than_their_bytes(self) -> None:
        """What counts is the memory."""
        client, transport = self.connect(self.open_port(EchoFactory()))
        transport.pauseProducing()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for count in range(1, 101):
            client.send(b"x")
            for _ in range(1000):  # until the kernel has brought it
                if transport.unread() == count:
                    break
                time.sleep(0.001)

        self.assertEqual(100, transport.unread())
        self.assertGreater(transport.received_memory(), 10 * transport.unread())

    def test_a_unix_socket(self) -> None:
        """What its peer has not read is all that waits; what the peer has sent is in the peer's account."""
        folder = tempfile.TemporaryDirectory()  # its name is short enough for a UNIX socket
        self.addCleanup(folder.cleanup)
        path = str(Path(folder.name) / "s")
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(path)
        sock.listen()
        port = UnixStreamPort(sock, EchoFactory(), self.reactor, stall_timeout=10)
        port.startListening()
        self.addCleanup(self.close, port)
        client = socket.socket(socket.AF_UNIX)
        self.addCleanup(client.close)
        client.connect(path)
        port.doRead()
        (transport,) = [each for each in self.hub.getReaders() if isinstance(each, UnixTransport)]
        self.addCleanup(transport.abortConnection)
        self.pour(client)

        self.assertEqual(0, transport.unsent())
        self.assertGreater(transport.undelivered(), 0)
        self.assertLess(transport.undelivered(), MIB)
        self.assertEqual(0, transport.received_memory())


class ElsewhereTests(StreamCase):
    """Another system."""

    def test_tells_only_what_is_unread(self) -> None:
        """Where the kernel does not tell, nothing counts."""
        self.patch(linux, "LINUX", False)
        left, right = socket.socketpair()
        self.addCleanup(left.close)
        self.addCleanup(right.close)
        left.send(b"hello")

        self.assertEqual((0, 0, 0), (unsent(left), unacknowledged(left), received_memory(right)))
        self.assertEqual(5, unread(right))
