"""Tests of what a datagram protocol is told and can do by the batch, and of UNIX datagrams."""

from __future__ import annotations

import errno
import os
import socket
from array import array
from pathlib import Path
from typing import Any, cast

from twisted.internet.address import UNIXAddress
from twisted.trial.unittest import SkipTest, SynchronousTestCase
from zope.interface import implementer

from echosvc.transports import DatagramBatch, DatagramPort, IDatagramBatchProtocol
from echosvc.transports.linux import LINUX
from echosvc.transports.messages import PlainMessages
from tests.doubles import FakeReactor
from tests.transports.ports import BatchRecorder, PortCase


class BatchTests(PortCase):
    """What a protocol that takes batches is told, and can do."""

    def test_sees_all_that_came_in_together(self) -> None:
        """One call, with every datagram of every peer, and all are answered."""
        recorder = BatchRecorder()
        port = self.open_port(recorder, "::")
        clients = [self.client("127.0.0.1"), self.client("::1"), self.client("127.0.0.1")]
        for number in range(9):
            client = clients[number % 3]
            host = client.getsockname()[0]
            client.sendto(b"%d" % number * number, (host, port.getHost().port))
        port.doRead()

        self.assertEqual([len(batch) for batch in recorder.batches], [9])
        self.assertEqual([data for data, _ in recorder.received], [b"%d" % n * n for n in range(9)])
        self.assertEqual(
            [source[1] for _, source in recorder.received[:3]], [c.getsockname()[1] for c in clients]
        )
        for start, client in enumerate(clients):
            for number in range(start, 9, 3):
                self.assertEqual(client.recv(100), b"%d" % number * number)
        self.assertEqual((port.datagrams_in, port.bytes_in), (9, 36))
        self.assertEqual((port.datagrams_out, port.bytes_out), (9, 36))

    def test_does_not_see_what_was_refused(self) -> None:
        """Neither in the batch nor among the answers, wherever in it it stood."""
        recorder = BatchRecorder()
        port = self.open_port(recorder, screen=lambda _: {0: "no", 3: "no", 4: "never"})
        client = self.client()
        for number in range(6):
            client.sendto(b"%d" % number, port.socket.getsockname())
        port.doRead()

        self.assertEqual([client.recv(9) for _ in range(3)], [b"1", b"2", b"5"])
        self.assertEqual([len(batch) for batch in recorder.batches], [3])
        self.assertEqual(port.drops, {"no": 2, "never": 1})
        self.assertEqual((port.datagrams_in, port.datagrams_out), (3, 3))

    def test_is_not_called_if_all_were_refused(self) -> None:
        """An empty batch is no batch."""
        recorder = BatchRecorder()
        port = self.open_port(recorder, screen=lambda ports: dict.fromkeys(range(len(ports)), "no"))
        self.client().sendto(b"x", port.socket.getsockname())
        port.doRead()

        self.assertEqual(recorder.batches, [])

    def test_a_batch_dies_when_the_call_returns(self) -> None:
        """Its memory is used again: whoever held on to it is told, and not shown other bytes."""
        views: list[memoryview] = []

        @implementer(IDatagramBatchProtocol)
        class Hoarder(BatchRecorder):
            def batch_received(self, batch: DatagramBatch) -> None:
                super().batch_received(batch)
                views.extend(payload for payload, _ in batch)

        hoarder = Hoarder()
        port = self.open_port(hoarder)
        self.client().sendto(b"mine", port.socket.getsockname())
        port.doRead()
        (batch,) = hoarder.batches

        self.assertRaises(RuntimeError, list, batch)
        self.assertRaises(RuntimeError, batch.send_back)
        self.assertRaises(ValueError, bytes, views[0])
        self.assertEqual(len(batch), 1)

    def test_a_source_lives_on(self) -> None:
        """An answer may be written later, and leaves from the address that was asked."""
        recorder = BatchRecorder()
        port = self.open_port(recorder, "0.0.0.0")
        client = self.client()
        client.connect(("127.0.0.7", port.getHost().port))
        client.send(b"now")
        port.doRead()
        port.write(b"later", recorder.received[0][1])

        self.assertEqual([client.recv(9), client.recv(9)], [b"now", b"later"])

    def test_a_protocol_that_raises_does_not_end_the_port(self) -> None:
        """The bug is logged once, and the next batch is served."""

        @implementer(IDatagramBatchProtocol)
        class Buggy(BatchRecorder):
            def batch_received(self, batch: DatagramBatch) -> None:
                super().batch_received(batch)
                raise RuntimeError("bug")

        buggy = Buggy()
        port = self.open_port(buggy)
        client = self.client()
        for _ in range(2):
            client.sendto(b"x", port.socket.getsockname())
            port.doRead()

        self.assertEqual(len(buggy.batches), 2)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)

    def test_nothing_is_sent_once_the_port_is_closed(self) -> None:
        """The descriptor may be somebody else's by then."""

        @implementer(IDatagramBatchProtocol)
        class Closing(BatchRecorder):
            def batch_received(self, batch: DatagramBatch) -> None:
                port.connectionLost()
                super().batch_received(batch)

        closing = Closing()
        port = self.open_port(closing)
        client = self.client()
        client.sendto(b"x", port.socket.getsockname())
        port.doRead()

        self.assertEqual(closing.received, [(b"x", client.getsockname())])
        self.assertEqual(port.datagrams_out, 0)

    def test_what_the_kernel_refuses_is_counted(self) -> None:
        """One that cannot be answered costs nobody else the answer."""
        recorder = BatchRecorder()
        port = self.open_port(recorder)
        clients = [self.client() for _ in range(3)]
        for client in clients:
            client.sendto(b"x" * 10, port.socket.getsockname())
        real = port._messages

        class Refusing(PlainMessages):
            def send_back(self, which: Any) -> Any:
                return [*super().send_back([i for i in which if i != 1]), (10, errno.ENOBUFS)]

        port._messages = Refusing(port.socket)
        port.doRead()
        port._messages = real

        self.assertEqual(port.drops, {"send-ENOBUFS": 1})
        self.assertEqual((port.datagrams_out, port.bytes_out), (2, 20))

    def test_kernel_drops_are_known(self) -> None:
        """What did not fit into the receive buffer is counted, also when the port is closed."""
        if not LINUX:
            raise SkipTest("needs SO_MEMINFO")
        recorder = BatchRecorder()
        port = self.open_port(recorder)
        port.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        client = self.client()
        for _ in range(100):
            client.sendto(b"x" * 500, port.socket.getsockname())
        port.doRead()
        lost = 100 - len(recorder.received)
        port.connectionLost()

        self.assertGreater(lost, 0)
        self.assertEqual(port.all_drops(), {"receive-queue-full": lost})
        self.assertEqual(port.drops, {})


class PlainBatchTests(BatchTests):
    """The same by one system call for each datagram."""

    plain = True


class UnixTests(SynchronousTestCase):
    """The same port on a UNIX socket."""

    def setUp(self) -> None:
        """Open a port that echoes."""
        self.folder = self.mktemp()
        Path(self.folder).mkdir(parents=True)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.address = f"{self.folder}/s"
        sock.bind(self.address)
        self.reactor = FakeReactor()
        self.recorder = BatchRecorder()
        self.port = DatagramPort(sock, self.recorder, cast(Any, self.reactor))
        self.port.startListening()
        self.addCleanup(self.port.connectionLost)

    def client(self, name: str | bytes | None) -> socket.socket:
        """Open a client's socket."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        sock.settimeout(5)
        if name is not None:
            sock.bind(name)
        return sock

    def test_answers_named_sockets(self) -> None:
        """By path and, on Linux, by abstract name; the empty one, and one larger than UDP allows."""
        names: list[str | bytes] = [f"{self.folder}/c", *([b"\0echosvc-test-%d" % os.getpid()] * LINUX)]
        for name in names:
            client = self.client(name)
            for size in (0, 1, 100_000):
                client.sendto(b"x" * size, self.address)
                self.port.doRead()
                self.assertEqual(client.recv(200_000), b"x" * size)

        self.assertEqual({source for _, source in self.recorder.received}, set(names))
        self.assertEqual(self.port.getHost(), UNIXAddress(self.address))

    def test_one_without_a_name_cannot_be_answered(self) -> None:
        """That is counted; the others are answered."""
        nameless, named = self.client(None), self.client(f"{self.folder}/c")
        for client in (nameless, named):
            client.sendto(b"x", self.address)
        self.port.doRead()

        self.assertEqual(named.recv(9), b"x")
        self.assertEqual(self.port.drops, {"send-ENOTCONN": 1})

    def test_writes_to_a_name(self) -> None:
        """As `datagramReceived` was told it."""
        client = self.client(f"{self.folder}/c")
        self.port.write(b"first", f"{self.folder}/c")

        self.assertEqual(client.recv(9), b"first")

    def test_takes_no_descriptors(self) -> None:
        """Nobody fills our table of descriptors through an echo."""
        client = self.client(f"{self.folder}/c")
        before = _descriptors()
        for _ in range(5):
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [0, 1, 2]))
            client.sendmsg([b"x"], [rights], 0, self.address)
        self.port.doRead()

        self.assertEqual(len(self.recorder.received), 5)
        self.assertEqual(_descriptors(), before)


def _descriptors() -> int:
    """Count this process's open descriptors."""
    return len(list(Path("/dev/fd").iterdir()))
