"""Tests of descriptors that peers send over UNIX sockets to protocols that want none."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import struct
import threading
from array import array
from collections.abc import Callable, Iterable
from functools import partial
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
from echosvc.transports.linux import SO_PASSCRED, SO_PASSPIDFD, SO_PASSSEC
from echosvc.transports.rights import REST, WAITING, SentDescriptors, close_bound, close_connection
from echosvc.transports.unix import receives_descriptors
from tests.certificates import folder_for
from tests.machine import no_descriptor
from tests.transports.test_unix_port import UnixPortCase
from tests.waiting import until

#: No option of any socket.
_NO_OPTION = 0x7FFF

#: Of Linux; the module does not name it.
_SO_TIMESTAMPNS = 35


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
        test.patch(SentDescriptors, "may_receive", lambda _: 0 if self.full else 3)
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

    def test_connections_that_wait_when_the_port_is_closed(self) -> None:
        """They are accepted however many descriptors wait, and served when there is room."""
        port = self.open_port(EchoFactory())
        client = self.client(port)
        client.send(b"hello")
        self.full = True
        port.doRead()
        port.accept_waiting()
        port.stopListening()
        self.reactor.advance(0)
        self.hub.doRead()
        self.full = False
        self.reactor.advance(REST)
        self.hub.doRead()

        self.assertEqual(b"hello", client.recv(9))

    def test_a_rest_in_a_rest(self) -> None:
        """A port that is closed meanwhile is not watched again."""
        port = self.open_port(EchoFactory())
        self.full = True
        port.doRead()
        port.doRead()
        port.stopListening()
        self.reactor.advance(0)

        self.assertEqual([], self.reactor.getDelayedCalls())

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

    def test_as_many_as_there_is_room_for(self) -> None:
        """A read ends when the descriptors of one more message might not fit: the kernel would close them in the reactor's thread."""
        self.patch(
            SentDescriptors, "may_receive", lambda _: (rights.RESERVE - len(self.handed)) // rights.MOST_SENT
        )
        queued = self.fill([0] * rights.MOST_SENT)
        self.port.doRead()
        self.assertEqual(
            (3, rights.RESERVE // rights.MOST_SENT * rights.MOST_SENT),
            (self.port.datagrams_in, len(self.handed)),
        )
        for _ in range(queued):
            close_all(self.handed)
            self.handed.clear()
            self.reactor.advance(REST)
            self.port.doRead()

        self.assertEqual(queued, self.port.datagrams_in)

    def test_datagrams_without_any(self) -> None:
        """They are read by the batch, as ever."""
        queued = self.fill([])
        self.port.doRead()

        self.assertEqual(queued, self.port.datagrams_in)

    def fill(self, descriptors: list[int]) -> int:
        """Send as many datagrams as wait in the kernel, 20 at most; return how many."""
        self.datagrams.setblocking(False)
        count = 0
        with contextlib.suppress(BlockingIOError):
            for _ in range(20):
                socket.send_fds(self.datagrams, [b"x"], descriptors)
                count += 1
        return count

    def test_those_that_wait_when_the_port_is_closed(self) -> None:
        """They are served as soon as there is room, within a second: then the port is closed all the same."""
        for room_after, served in ((3, 1), (99, 0)):
            self.datagrams.send(b"x")
            before = self.port.datagrams_in
            self.full = True
            waiting = self.port.serve_waiting()
            assert waiting is not None
            for number in range(10):
                self.assertNoResult(waiting)
                self.full = number < room_after - 1
                self.reactor.advance(REST)
                if not self.full:
                    break

            self.successResultOf(waiting)
            self.assertEqual(served, self.port.datagrams_in - before)

    def test_a_port_that_is_lost_before_there_is_room(self) -> None:
        """It is not read any more."""
        self.full = True
        waiting = self.port.serve_waiting()
        assert waiting is not None
        self.port.connectionLost()
        self.reactor.advance(REST)

        self.successResultOf(waiting)

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

    def test_nor_does_one_behind_empty_messages(self) -> None:
        """An empty message is no end, the peer's end is one: SOCK_SEQPACKET tells it for ever."""
        reads = self.count_reads()
        descriptor, copy = lingering(self)
        ours, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with peer:
            for _ in range(2):
                peer.send(b"")
            send(peer, descriptor)
        rights._dismantle(ours.detach())

        self.assertEqual((False, 4), (lingers(copy), len(reads)))

    def test_nor_does_the_last_of_many(self) -> None:
        """Whatever else the sender has its socket report beside them, none is cut off, and nothing else is opened."""
        for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM):
            descriptor, copy = lingering(self)
            ours, peer = socket.socketpair(socket.AF_UNIX, kind)
            for option in (SO_PASSCRED, SO_PASSSEC, SO_PASSPIDFD, _SO_TIMESTAMPNS):
                with contextlib.suppress(OSError):  # the kernel does not know it
                    ours.setsockopt(socket.SOL_SOCKET, option, 1)
            with peer, contextlib.closing(socket.socket(fileno=descriptor)):
                socket.send_fds(peer, [b"x"], [0] * (rights.MOST_SENT - 1) + [descriptor])
            rights._dismantle(ours.detach())

            self.assertFalse(lingers(copy))

    def test_a_sender_that_goes_on(self) -> None:
        """Nothing can be sent to a socket, nor connected to it, once it is looked at."""
        name = f"\0{self.path}"
        for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM):
            ours, peer = socket.socketpair(socket.AF_UNIX, kind)
            with peer, ours:
                peer.send(b"x")
                reads = self.count_reads(partial(peer.send, b"x"))
                rights._dismantle(ours.dup().detach())

            self.assertLessEqual(len(reads), 2)
        with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as client:
            listening.bind(name)
            listening.listen()
            rights._dismantle(listening.dup().detach())

            self.assertRaises(ConnectionRefusedError, client.connect, name)

    def test_as_many_as_may_be(self) -> None:
        """There is an end to what one descriptor costs, with all that it holds."""
        self.patch(rights, "_MOST_TAKEN", 10)
        reads = self.count_reads()
        outer, outer_end = socket.socketpair(socket.AF_UNIX)
        with outer:
            for _ in range(5):
                inner, inner_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with inner:
                    for _ in range(5):
                        inner.send(b"x")
                    send(outer, inner_end.detach())
            rights._dismantle(outer_end.detach())

        self.assertEqual(10, len(reads))

    def count_reads(self, then: Callable[[], object] = lambda: None) -> list[object]:
        """Return what grows by an item with each read; the first hundred are followed by something else."""
        reads: list[object] = []

        def received(ancillary: Any) -> list[int]:
            reads.append(ancillary)
            if len(reads) < 100:
                with contextlib.suppress(OSError):
                    then()
            return found(ancillary)

        found = rights.received
        self.patch(rights, "received", received)
        return reads

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
        """All that may be received has its place in the reserve; and when some are closed there is room again."""
        sent = SentDescriptors()
        let_go = threading.Event()
        self.patch(rights, "_dismantle", lambda _: let_go.wait(10))
        found = [sent.may_receive()]
        for count in (6, 1, 252, 1, 252, 1):
            sent.close([0] * count)
            found.append(sent.may_receive())
        self.assertEqual(([3, 3, 2, 2, 1, 1, 0], WAITING + 1), (found, sent._waiting))
        let_go.set()
        for _ in range(1000):
            if not sent._waiting:
                break
            threading.Event().wait(0.01)

        self.assertEqual(3, sent.may_receive())

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
