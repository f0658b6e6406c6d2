"""Tests of descriptors that peers send over UNIX sockets to protocols that want none."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import struct
import threading
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast
from unittest import mock

from twisted.internet.interfaces import IFileDescriptorReceiver
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SkipTest, SynchronousTestCase
from zope.interface import implementer

from echosvc.admin.server import AdminFactory
from echosvc.protocols import DatagramEcho, EchoFactory
from echosvc.protocols.qotd import QotdFactory
from echosvc.transports import UnixDatagramPort, UnixStreamPort, rights
from echosvc.transports.rights import REST, WAITING, SentDescriptors, close_bound, close_connection
from echosvc.transports.unix import receives_descriptors
from tests.certificates import folder_for
from tests.machine import no_descriptor
from tests.transports.test_unix_port import UnixPortCase
from tests.waiting import until

#: No option of any socket.
_NO_OPTION = 0x7FFF


def lingering(test: SynchronousTestCase) -> tuple[int, socket.socket]:
    """Open a TCP socket that lingers; return it, and a copy that shows whether it still does."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 600))
    copy = sock.dup()
    test.addCleanup(copy.close)
    return sock.detach(), copy


def lingers(sock: socket.socket) -> bool:
    """Whether a socket would wait when it is closed."""
    on, _ = struct.unpack("@ii", sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))
    return bool(on)


def send(sock: socket.socket, descriptor: int, flags: int = 0) -> None:
    """Send a descriptor with a byte, and close it."""
    with contextlib.closing(socket.socket(fileno=descriptor)):
        send_descriptors(sock, [descriptor], flags)


def send_descriptors(sock: socket.socket, descriptors: list[int], flags: int) -> None:
    """Send descriptors with a byte. `socket.send_fds` passes its flags over."""
    sock.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))], flags)


def without_threads() -> Any:
    """Let the system have no thread left."""
    return mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("can't start new thread"))


@implementer(IFileDescriptorReceiver)
class Receiver(Protocol):
    """Wants descriptors."""

    def fileDescriptorReceived(self, descriptor: int) -> None:
        """Close it."""
        os.close(descriptor)


def _make_receiver() -> Receiver:
    return Receiver()


def close_all(descriptors: Iterable[int]) -> None:
    """Close descriptors."""
    for each in descriptors:
        os.close(each)


class Older:
    """The kernel cannot refuse descriptors, as before Linux 6.16."""

    def setUp(self) -> None:
        """Take the option away, and see what is handed on to be closed."""
        super().setUp()  # type: ignore[misc]  # of the case
        test: Any = self
        test.patch(rights, "SO_PASSRIGHTS", _NO_OPTION)
        self.handed: list[int] = []
        self.full = False
        test.patch(SentDescriptors, "close", lambda _, descriptors, *_tell: self.handed.extend(descriptors))
        test.patch(SentDescriptors, "is_full", lambda _: self.full)
        test.addCleanup(lambda: close_all(self.handed))


class RefusedTests(UnixPortCase):
    """The kernel refuses them (Linux 6.16)."""

    def setUp(self) -> None:
        """Skip where it cannot."""
        super().setUp()
        if not rights.kernel_refuses():
            raise SkipTest("needs Linux 6.16 (SO_PASSRIGHTS)")

    def test_the_sender_is_told(self) -> None:
        """From the first moment of a connection on, whether or not it is accepted; bytes come through."""
        port = self.open_port(EchoFactory())
        client = self.client(port)
        for _ in range(2):
            self.assertRaises(PermissionError, socket.send_fds, client, [b"x"], [0])
            port.doRead()
        client.send(b"hello")
        self.hub.doRead()

        self.assertEqual(b"hello", client.recv(9))

    def test_one_that_came_before(self) -> None:
        """A socket that was inherited may have connections that wait, with descriptors: the next are refused, those are closed apart."""
        handed: list[int] = []
        self.patch(SentDescriptors, "close", lambda _, descriptors, *_tell: handed.extend(descriptors))
        with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as client:
            listening.bind(self.path)
            listening.listen()
            client.connect(self.path)
            socket.send_fds(client, [b"x"], [0])
            port = self.open_port_on(listening.dup(), EchoFactory())
            port.doRead()
            self.assertRaises(PermissionError, socket.send_fds, client, [b"x"], [0])
            self.hub.doRead()
            self.addCleanup(os.close, *handed)

            self.assertEqual(({"descriptor-unwanted": 1}, 1), (port.aborts, len(handed)))

    def test_protocols_that_receive_them(self) -> None:
        """They come through, also if only the protocol itself knows that it receives them."""
        for number, factory in enumerate(
            (Factory.forProtocol(Receiver), Factory.forProtocol(_make_receiver))
        ):
            port = self.open_port(factory, f"{self.path}{number}")
            client = self.client(port)
            socket.send_fds(client, [b"x"], [0])
            port.doRead()
            socket.send_fds(client, [b"x"], [0])

    def test_datagrams(self) -> None:
        """Over UNIX datagram sockets, too."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.bind(self.path)
        port = UnixDatagramPort(sock, DatagramEcho(), self.reactor)
        port.startListening()
        self.addCleanup(port.connectionLost)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.connect(self.path)

            self.assertRaises(PermissionError, socket.send_fds, client, [b"x"], [0])

    def test_who_receives(self) -> None:
        """A protocol's class tells, and what makes protocols in another way leaves it open. Ours receive none."""
        self.assertTrue(receives_descriptors(Factory.forProtocol(Receiver)))
        self.assertIsNone(receives_descriptors(Factory.forProtocol(_make_receiver)))
        for ours in (EchoFactory, QotdFactory, AdminFactory):
            self.assertIs(False, receives_descriptors(cast(Any, ours)))


class CountedTests(UnixPortCase):
    """Those that a connection of ours holds when it is closed, on a kernel that cannot refuse them."""

    def setUp(self) -> None:
        """Take the option away; call from threads as a reactor does."""
        super().setUp()
        self.patch(rights, "SO_PASSRIGHTS", _NO_OPTION)
        self.called: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self.patch(self.reactor, "callFromThread", lambda *call: self.called.put(call))

    def assert_counted(self, port: UnixStreamPort, messages: int) -> None:
        """Check how many messages with descriptors are counted; nothing is before the reactor calls."""
        self.assertNotIn("descriptor-unwanted", port.aborts)
        for _ in until(lambda: port.aborts["descriptor-unwanted"] >= messages):
            function, *arguments = self.called.get(timeout=30)
            function(*arguments)

        self.assertEqual({"descriptor-unwanted": messages}, port.aborts)

    def test_a_connection_that_ends(self) -> None:
        """Each message that brought some is counted as one that is read would be, and those without are not."""
        port = self.open_port(EchoFactory())
        client, transport = self.connect(port)
        for _ in range(3):
            send_descriptors(client, [0, 1], 0)
            client.send(b"y")
        send_descriptors(client, [0], socket.MSG_OOB)
        transport.abortConnection()
        self.reactor.advance(0)

        self.assert_counted(port, 4)

    def test_connections_that_are_refused(self) -> None:
        """So are those of connections that are not let in."""

        class Closed:
            def admit(self, _: object) -> None:
                return None

        port = self.open_port(EchoFactory())
        port.door = Closed()
        for _ in range(5):
            send_descriptors(self.client(port), [0], 0)
        port.doRead()

        self.assert_counted(port, 5)


class ReceivedTests(Older, UnixPortCase):
    """They are received, and closed where nothing waits for that."""

    def test_unread_ones(self) -> None:
        """A connection that ends with some in its queue is closed apart, and its peer sees the end at once."""
        client, transport = self.connect(self.open_port(EchoFactory()))
        socket.send_fds(client, [b"x"], [0])
        transport.abortConnection()
        self.reactor.advance(0)

        self.assertEqual(1, len(self.handed))
        self.assertEqual(b"", client.recv(1))
        self.assertEqual([], list(self.transports()))

    def test_a_connection_with_nothing_unread(self) -> None:
        """It is closed at once: no descriptor is without a byte."""
        client, transport = self.connect(self.open_port(EchoFactory()))
        transport.abortConnection()
        self.reactor.advance(0)

        self.assertEqual((b"", []), (client.recv(1), self.handed))

    def test_one_that_is_refused(self) -> None:
        """Whoever is not let in is closed apart, if something has come."""

        class Closed:
            def admit(self, _: object) -> None:
                return None

        port = self.open_port(EchoFactory())
        port.door = Closed()
        clients = [self.client(port), self.client(port)]
        socket.send_fds(clients[0], [b"x"], [0])
        port.doRead()

        self.assertEqual(1, len(self.handed))
        self.assertEqual([b"", b""], [each.recv(1) for each in clients])

    def test_out_of_descriptors(self) -> None:
        """Whoever is closed because there is no descriptor left is closed apart, too."""
        port = self.open_port(EchoFactory())
        client = self.client(port)
        socket.send_fds(client, [b"x"], [0])
        with no_descriptor():
            port.doRead()

        self.assertEqual((1, b""), (len(self.handed), client.recv(1)))

    def test_urgent_ones(self) -> None:
        """One that comes with urgent data is received like any other; a read would drop it otherwise, and close it."""
        client, _ = self.connect(self.open_port(EchoFactory()))
        client.send(b"a")
        send_descriptors(client, [0], socket.MSG_OOB)
        client.send(b"b")
        for _ in range(3):
            self.hub.doRead()

        self.assertEqual(1, len(self.handed))

    def test_connections_while_too_many_wait(self) -> None:
        """None is accepted and none is read, for a moment; and then all are."""
        port = self.open_port(EchoFactory())
        client, _ = self.connect(port)
        client.send(b"hello")
        late = self.client(port)
        late.send(b"hello")
        self.full = True
        port.doRead()
        self.hub.doRead()
        self.assertEqual([], self.transports())
        self.full = False
        self.reactor.advance(REST)
        port.doRead()
        self.hub.doRead()

        self.assertEqual([b"hello"] * 2, [each.recv(9) for each in (client, late)])

    def test_a_connection_that_ends_meanwhile(self) -> None:
        """It is not read again."""
        client, transport = self.connect(self.open_port(EchoFactory()))
        client.send(b"hello")
        self.full = True
        self.hub.doRead()
        transport.abortConnection()
        self.reactor.advance(0)
        self.reactor.advance(REST)

        self.assertEqual([], self.transports())


class ReceivedDatagramTests(Older, UnixPortCase):
    """Descriptors that come with datagrams."""

    def setUp(self) -> None:
        """Open a port and a client."""
        super().setUp()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.bind(self.path)
        self.port = UnixDatagramPort(sock, DatagramEcho(), self.reactor)
        self.port.startListening()
        self.addCleanup(self.close_port)
        self.datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.datagrams.close)
        self.datagrams.settimeout(5)
        self.datagrams.bind("\0" + self.path)
        self.datagrams.connect(self.path)

    def close_port(self) -> None:
        """Close the port, unless the test has."""
        if self.port.connected:
            self.port.connectionLost()

    def test_received(self) -> None:
        """They are counted, and the datagram is answered."""
        socket.send_fds(self.datagrams, [b"x"], [0, 1])
        self.port.doRead()

        self.assertEqual((b"x", 2), (self.datagrams.recv(9), len(self.handed)))
        self.assertEqual({"descriptor-unwanted": 1}, self.port.drops)

    def test_while_too_many_wait(self) -> None:
        """Nothing is read for a moment."""
        self.datagrams.send(b"x")
        self.full = True
        self.port.doRead()
        self.assertEqual((0, []), (self.port.datagrams_in, self.reactor.getReaders()))
        self.full = False
        self.reactor.advance(REST)
        self.port.doRead()

        self.assertEqual(1, self.port.datagrams_in)

    def test_a_port_that_is_closed_meanwhile(self) -> None:
        """It is not read again."""
        self.full = True
        self.port.doRead()
        self.port.connectionLost()
        self.reactor.advance(REST)

        self.assertEqual([], self.reactor.getReaders())


class ClosingTests(SynchronousTestCase):
    """How one is closed: nothing that comes with it lingers."""

    def setUp(self) -> None:
        """Make a folder."""
        self.path = f"{folder_for(self)}/s"
        Path(self.path).mkdir()

    def test_files(self) -> None:
        """What is no socket is just closed."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        rights._dismantle(writing)

        self.assertEqual(b"", os.read(reading, 1))

    def test_a_socket_does_not_linger(self) -> None:
        """However long its sender would have it."""
        descriptor, copy = lingering(self)
        rights._dismantle(descriptor)

        self.assertFalse(lingers(copy))
        self.assertRaises(OSError, os.fstat, descriptor)

    def test_nor_does_one_that_another_holds(self) -> None:
        """A socket in the queue of a socket in the queue, of streams and datagrams, urgent or not."""
        for kind, flags in (
            (socket.SOCK_STREAM, 0),
            (socket.SOCK_STREAM, socket.MSG_OOB),
            (socket.SOCK_DGRAM, 0),
        ):
            descriptor, copy = lingering(self)
            inner, inner_end = socket.socketpair(socket.AF_UNIX, kind)
            outer, outer_end = socket.socketpair(socket.AF_UNIX, kind)
            with inner, inner_end, outer, outer_end:
                for _ in range(3):
                    inner.send(b"")
                    inner.send(b"y")
                send(inner, descriptor, flags)
                send(outer, inner_end.detach())
                rights._dismantle(outer_end.detach())

            self.assertFalse(lingers(copy))

    def test_nor_does_one_that_was_sent_to_a_listening_socket(self) -> None:
        """A connection that nobody has accepted may have been sent descriptors, too."""
        descriptor, copy = lingering(self)
        with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as client:
            os.chdir(self.path)
            self.addCleanup(os.chdir, Path(__file__).parents[2])
            listening.bind("s")
            listening.listen()
            client.connect("s")
            send(client, descriptor)
            rights._dismantle(listening.detach())

        self.assertFalse(lingers(copy))

    def test_in_threads(self) -> None:
        """What is handed over is closed by threads that the end of the process does not wait for, few however many there are."""
        sent = SentDescriptors()
        before = set(threading.enumerate())
        pipes = [os.pipe() for _ in range(20)]
        sent.close(writing for _, writing in pipes)
        for reading, _ in pipes:
            self.assertEqual(b"", os.read(reading, 1))
            os.close(reading)
        started = set(threading.enumerate()) - before

        self.assertLessEqual(len(started), rights.THREADS)
        self.assertTrue(all(each.daemon for each in started))

    def test_full(self) -> None:
        """There is an end to how many may wait; and when they are closed there is room again."""
        sent = SentDescriptors()
        let_go = threading.Event()
        self.patch(rights, "_dismantle", lambda _: let_go.wait(10))
        sent.close(range(WAITING - 1))
        self.assertFalse(sent.is_full())
        sent.close([0])
        self.assertTrue(sent.is_full())
        let_go.set()
        for _ in range(1000):
            if not sent._waiting:
                break
            threading.Event().wait(0.01)

        self.assertFalse(sent.is_full())

    def test_without_threads(self) -> None:
        """Where the system has no thread left, they wait until it has, and no further one is needed; a bound socket is closed at once."""
        clock = Clock()
        sent = SentDescriptors(clock.callLater)
        pipes = [os.pipe() for _ in range(3)]
        with without_threads(), socket.socket(socket.AF_UNIX) as sock:
            sent.close(writing for _, writing in pipes)
            close_bound(sock)
            self.assertEqual((3, -1), (sent._waiting, sock.fileno()))
            clock.pump([REST] * 3)
            self.assertEqual((3, 1), (sent._waiting, len(clock.getDelayedCalls())))
        clock.advance(REST)

        for reading, _ in pipes:
            self.assertEqual(b"", os.read(reading, 1))
            os.close(reading)
        self.assertEqual([], clock.getDelayedCalls())

    def test_one_that_takes_long_keeps_none_that_was_put_off(self) -> None:
        """As many threads are started as would have been."""
        clock = Clock()
        sent = SentDescriptors(clock.callLater)
        let_go = threading.Event()
        self.addCleanup(let_go.set)
        begun: queue.SimpleQueue[int] = queue.SimpleQueue()
        unknown = [1 << 30 | number for number in range(rights.THREADS + 1)]  # none that is open

        def take_long(descriptor: int) -> None:
            begun.put(descriptor)
            let_go.wait(10)

        self.patch(rights, "_dismantle", take_long)
        with without_threads():
            sent.close(unknown)
        clock.advance(REST)

        self.assertEqual(set(unknown[:-1]), {begun.get(timeout=5) for _ in range(rights.THREADS)})
        self.assertEqual([], clock.getDelayedCalls())

    def test_tries_again_by_the_reactor_that_is_installed(self) -> None:
        """It is the one that serves what has received them."""
        installed = Clock()
        sent = SentDescriptors()
        reading, writing = os.pipe()
        with without_threads(), mock.patch("twisted.internet.reactor", installed, create=True):
            sent.close([writing])
        installed.advance(REST)

        self.assertEqual(b"", os.read(reading, 1))
        os.close(reading)

    def test_a_bound_socket(self) -> None:
        """It is closed, and what another copy of it has is left to that."""
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with one, other, other.dup() as copy:
            one.send(b"x")
            close_bound(other)

            self.assertEqual((-1, b"x"), (other.fileno(), copy.recv(9)))

    def test_a_bound_socket_that_takes_long(self) -> None:
        """It is closed later."""
        let_go = threading.Event()
        self.addCleanup(let_go.set)

        class Slow(socket.socket):
            def close(self) -> None:
                let_go.wait(10)
                super().close()

        with socket.socket(socket.AF_UNIX) as sock, Slow(socket.AF_UNIX, fileno=sock.detach()) as slow:
            close_bound(slow)

            self.assertGreaterEqual(slow.fileno(), 0)
            let_go.set()

    def test_a_connection_that_is_gone(self) -> None:
        """A socket that cannot be shut down is closed all the same."""
        with socket.socket(socket.AF_UNIX) as sock:
            self.patch(SentDescriptors, "close", lambda _, found, *_tell: close_all(found))
            close_connection(sock)

            self.assertEqual(-1, sock.fileno())
