"""Tests of what a datagram protocol is told and can do by the batch, and of UNIX datagrams."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from typing import Any, cast

from twisted.internet.address import UNIXAddress
from twisted.internet.protocol import DatagramProtocol
from twisted.trial.unittest import SkipTest, SynchronousTestCase
from zope.interface import Invalid, implementer
from zope.interface.verify import verifyObject

from echosvc.transports import (
    DatagramBatch,
    DatagramPort,
    IDatagramBatchProtocol,
    IUndeliverable,
    UnixDatagramPort,
)
from echosvc.transports.linux import LINUX, SOL_UDP, UDP_SEGMENT
from echosvc.transports.messages import BATCH, PlainMessages
from tests.certificates import folder_for
from tests.doubles import FakeReactor
from tests.machine import OTHER_LOOPBACK
from tests.transports.ports import BatchRecorder, PortCase, Recorder


class BatchTests(PortCase):
    """What a protocol that takes batches is told, and can do."""

    def test_sees_all_that_came_in_together(self) -> None:
        """One call, with every datagram of every peer, and all are answered."""
        recorder = BatchRecorder()
        port = self.open_port(recorder, "::")
        clients = [self.client("127.0.0.1"), self.client(OTHER_LOOPBACK), self.client("127.0.0.1")]
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
        port = self.open_port(recorder, screen=lambda _: {0: ("no", 0), 3: ("no", 0), 4: ("never", 0)})
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
        port = self.open_port(
            recorder, screen=lambda batch: dict.fromkeys(range(len(batch.envelopes())), ("no", 0))
        )
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

    def test_an_iteration_dies_with_the_batch(self) -> None:
        """Also one in the middle of what the kernel had joined: it would show bytes of somebody else."""
        iterations: list[Any] = []

        @implementer(IDatagramBatchProtocol)
        class Hoarder(DatagramProtocol):
            def batch_received(self, batch: DatagramBatch) -> None:
                iterations.append(iter(batch))
                next(iterations[-1])

        port = self.open_port(Hoarder())
        client = self.client()
        with contextlib.suppress(OSError):  # where the kernel does not cut sends, one datagram will do
            client.setsockopt(SOL_UDP, UDP_SEGMENT, 10)
        for payload in (b"a" * 40, b"b" * 40):
            client.sendto(payload, port.socket.getsockname())
            port.doRead()

        for each in iterations:
            self.assertRaises(RuntimeError, next, each)

    def test_payloads_can_be_changed_in_place(self) -> None:
        """What is sent back is what they then are, however the batch was received."""

        @implementer(IDatagramBatchProtocol)
        class Changing(DatagramProtocol):
            def batch_received(self, batch: DatagramBatch) -> None:
                for payload, _ in batch:
                    payload[0:1] = b"!"
                batch.send_back()

        port = self.open_port(Changing())
        client = self.client()
        for payload in (b"mine", b"yours"):
            client.sendto(payload, port.socket.getsockname())
        port.doRead()

        self.assertEqual([client.recv(9), client.recv(9)], [b"!ine", b"!ours"])

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
        before = port.all_drops()
        port.connectionLost()

        self.assertGreater(lost, 0)
        self.assertEqual(before, {"receive-queue-full": lost})
        self.assertEqual(port.all_drops(), {"receive-queue-full": lost})


class JoinedTests(PortCase):
    """What the kernel may join on its way to a protocol."""

    def burst(self, protocol: DatagramProtocol) -> DatagramPort:
        """Let one peer send twice as many datagrams as a turn has messages, by the hundred, and serve a turn."""
        port = self.open_port(protocol)
        client = self.client()
        try:
            client.setsockopt(SOL_UDP, UDP_SEGMENT, 10)
        except OSError:
            raise SkipTest("needs UDP_SEGMENT") from None
        for _ in range(4):
            client.sendto(b"x" * 10 * (BATCH // 2), port.socket.getsockname())
        port.doRead()
        return port

    def test_a_turn_is_bounded_for_a_protocol_that_takes_them_one_by_one(self) -> None:
        """64 datagrams, not 64 messages of 64 each, for which the reactor would wait 17 ms."""
        recorder = Recorder()
        port = self.burst(recorder)

        self.assertEqual(len(recorder.received), BATCH)
        self.assertEqual(port.datagrams_in, BATCH)

    def test_a_protocol_that_takes_batches_has_them_at_once(self) -> None:
        """That is what it saves time by."""
        recorder = BatchRecorder()
        self.burst(recorder)

        self.assertEqual([len(batch) for batch in recorder.batches], [2 * BATCH])


class InterfaceTests(SynchronousTestCase):
    """What zope.interface can tell about a protocol of somebody else."""

    def test_an_implementation_can_be_checked(self) -> None:
        """Those of ours hold; one that lacks the method, or its argument, does not."""

        @implementer(IDatagramBatchProtocol, IUndeliverable)
        class Wrong(DatagramProtocol):  # type: ignore[misc]  # that it is wrong is the point
            def batch_received(self) -> None: ...  # type: ignore[override]

        verifyObject(IDatagramBatchProtocol, BatchRecorder())
        verifyObject(IUndeliverable, BatchRecorder())
        for interface in (IDatagramBatchProtocol, IUndeliverable):
            self.assertRaises(Invalid, verifyObject, interface, Wrong())


class PlainBatchTests(BatchTests):
    """The same by one system call for each datagram."""

    plain = True


class UnixTests(SynchronousTestCase):
    """The same port on a UNIX socket."""

    def setUp(self) -> None:
        """Open a port that echoes."""
        self.folder = folder_for(self)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.address = f"{self.folder}/s"
        sock.bind(self.address)
        self.reactor = FakeReactor()
        self.recorder = BatchRecorder()
        self.port = UnixDatagramPort(sock, self.recorder, cast(Any, self.reactor))
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
