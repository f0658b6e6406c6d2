"""Tests of what a datagram port makes of errors that the system reports later, such as ICMP's."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import DatagramProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest
from zope.interface import implementer

from echosvc.protocols import DatagramEcho
from echosvc.transports import DatagramPort, IUndeliverable
from echosvc.transports.linux import LINUX
from echosvc.transports.messages import BATCH
from tests.machine import needs_ipv6
from tests.transports.ports import PortCase, Recorder


class _Case(PortCase):
    """Tells a port of an error as reactors do."""

    def setUp(self) -> None:
        """Skip where the system does not tell."""
        super().setUp()
        if not LINUX:
            raise SkipTest("needs IP_RECVERR")

    def by_reading(self, port: DatagramPort) -> None:
        """As select and asyncio do, to which an error is something to read."""
        port.doRead()

    def by_error_event(self, port: DatagramPort) -> None:
        """As epoll and poll do, for which it ends a connection."""
        self.reactor.removeReader(port)
        port.readConnectionLost(Failure(ConnectionDone()))


@implementer(IUndeliverable)
class Stubborn(Recorder):
    """Sends again whatever could not be delivered, up to 640 times."""

    def undeliverable(self, payload: bytes, addr: tuple[str, int], number: int) -> None:
        """Remember a failure, and try again."""
        super().undeliverable(payload, addr, number)
        if len(self.failed) < 10 * BATCH:
            assert self.transport is not None
            self.transport.write(payload, addr)


class ErrorQueueTests(_Case):
    """A client learns that nobody listens there, although its socket is not connected."""

    def check_refused(self, bind: str, host: str) -> None:
        """Send to a closed port and expect to hear of it, by either way the reactor may tell."""
        for tell in (self.by_reading, self.by_error_event):
            recorder = Recorder()
            port = self.open_port(recorder, bind, report_errors=True)
            number = self.closed_port(host)
            port.write(b"anyone?", (host, number))
            tell(port)

            self.assertEqual(recorder.failed, [(b"anyone?", (host, number), errno.ECONNREFUSED)])
            self.assertEqual(recorder.refused, 0)  # that is for connected ports
            self.assertTrue(port.connected)
            self.assertEqual(port.drops, {})

    def test_refused_over_ipv4(self) -> None:
        """ICMP port unreachable is told with what was sent and where to."""
        self.check_refused("127.0.0.1", "127.0.0.1")

    @needs_ipv6
    def test_refused_over_ipv6(self) -> None:
        """ICMPv6 too."""
        self.check_refused("::1", "::1")

    def test_refused_over_ipv4_on_a_dual_stack_socket(self) -> None:
        """And IPv4's on an IPv6 socket."""
        self.check_refused("::", "127.0.0.1")

    def test_a_protocol_that_does_not_ask_is_not_told(self) -> None:
        """The queue is emptied all the same, or the reactor would spin."""
        plain = DatagramProtocol()
        port = self.open_port(plain, report_errors=True)
        port.write(b"anyone?", ("127.0.0.1", self.closed_port()))
        port.doRead()

        with self.assertRaises(BlockingIOError):
            port.socket.recvmsg(100, 100, socket.MSG_ERRQUEUE)

    def test_errors_that_were_not_asked_for(self) -> None:
        """An option of the socket may queue them all the same; they are taken out, or the reactor would spin."""
        for tell in (self.by_reading, self.by_error_event):
            port = self.open_port(DatagramProtocol())
            port.socket.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR
            port.write(b"anyone?", ("127.0.0.1", self.closed_port()))
            tell(port)

            with self.assertRaises(BlockingIOError):
                port.socket.recvmsg(100, 100, socket.MSG_ERRQUEUE)

    def test_what_is_no_error_is_passed_over(self) -> None:
        """A queue may have other messages, such as time stamps, if somebody has asked for them."""
        recorder = Recorder()
        port: Any = self.open_port(recorder, report_errors=True)
        results: list[Any] = [(b"stamp", [], socket.MSG_ERRQUEUE, None)]
        real = port.socket

        class Stamped:
            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

            def recvmsg(self, *_: object) -> Any:
                if not results:
                    raise BlockingIOError
                return results.pop(0)

        port.socket = Stamped()
        port.doRead()

        self.assertEqual((results, recorder.failed, port.drops), ([], [], {}))

    def test_a_refusal_costs_the_next_peer_nothing(self) -> None:
        """The kernel tells the error to the next send, whomever that is to: it is tried again."""
        for tell in (self.by_reading, self.by_error_event):
            recorder = Recorder()
            port = self.open_port(recorder, report_errors=True)
            number, living = self.closed_port(), self.client()
            port.write(b"one", ("127.0.0.1", number))
            port.write(b"two", living.getsockname())
            tell(port)

            self.assertEqual(living.recv(9), b"two")
            self.assertEqual(recorder.failed, [(b"one", ("127.0.0.1", number), errno.ECONNREFUSED)])
            self.assertEqual(port.drops, {})
            self.assertEqual(port.datagrams_out, 2)

    def test_a_refusal_costs_the_next_answer_nothing(self) -> None:
        """The same for what is sent back by the batch."""
        port = self.open_port(DatagramEcho(), report_errors=True)
        living = [self.client() for _ in range(3)]
        for number, client in enumerate(living):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
                gone.sendto(b"gone", port.socket.getsockname())
            client.sendto(b"%d" % number, port.socket.getsockname())
        port.doRead()

        self.assertEqual([client.recv(9) for client in living], [b"0", b"1", b"2"])
        self.assertEqual((port.datagrams_out, port.drops), (6, {}))

    def test_a_turn_of_errors_is_bounded(self) -> None:
        """A protocol that tries for ever, and is refused at once, leaves the reactor time for everyone else."""
        for tell in (self.by_reading, self.by_error_event):
            stubborn = Stubborn()
            port = self.open_port(stubborn, report_errors=True)
            port.write(b"again", ("127.0.0.1", self.closed_port()))
            tell(port)

            self.assertEqual(len(stubborn.failed), BATCH)
            tell(port)
            self.assertEqual(len(stubborn.failed), 2 * BATCH)

    def test_errors_do_not_keep_datagrams_waiting(self) -> None:
        """The kernel tells an error before it hands over what has come in; both are had in one turn."""
        stubborn = Stubborn()
        port = self.open_port(stubborn, report_errors=True)
        port.write(b"again", ("127.0.0.1", self.closed_port()))
        client = self.client()
        for turn in range(3):
            client.sendto(b"hello", port.socket.getsockname())
            port.doRead()

            self.assertEqual(len(stubborn.received), turn + 1)
            self.assertEqual(len(stubborn.failed), (turn + 1) * BATCH)
        self.assertEqual(port.drops, {})

    def test_a_protocol_that_raises_does_not_end_the_port(self) -> None:
        """The bug is logged; errors and datagrams are still read."""

        @implementer(IUndeliverable)
        class Buggy(Recorder):
            def undeliverable(self, payload: bytes, addr: tuple[str, int], number: int) -> None:
                super().undeliverable(payload, addr, number)
                raise RuntimeError("bug")

        for tell in (self.by_reading, self.by_error_event):
            buggy = Buggy()
            port = self.open_port(buggy, report_errors=True)
            for payload in (b"1", b"2"):
                port.write(payload, ("127.0.0.1", self.closed_port()))
            tell(port)

            self.assertEqual(len(buggy.failed), 2)
            self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)
            self.assertIn(port, self.reactor.getReaders())

    def test_stays_stopped(self) -> None:
        """A protocol may stop its port on an error, or close it."""

        @implementer(IUndeliverable)
        class Stopping(Recorder):
            def __init__(self, stop: Callable[[DatagramPort], object]) -> None:
                super().__init__()
                self._stop = stop

            def undeliverable(self, payload: bytes, addr: tuple[str, int], number: int) -> None:
                super().undeliverable(payload, addr, number)
                self._stop(port)

        for stop in (DatagramPort.stopListening, DatagramPort.connectionLost):
            for tell in (self.by_reading, self.by_error_event):
                port = self.open_port(Stopping(stop), report_errors=True)
                port.write(b"anyone?", ("127.0.0.1", self.closed_port()))
                tell(port)

                self.assertEqual(self.reactor.getReaders(), [])
                self.reactor.advance(0)
                self.assertFalse(port.connected)


class PlainErrorQueueTests(ErrorQueueTests):
    """The same by one system call for each datagram."""

    plain = True


class RefusedTests(_Case):
    """A protocol that has connected to one peer is told, as Twisted's are, that nobody listens there."""

    def by_writing(self, port: DatagramPort) -> None:
        """As a second datagram, sent before the reactor has told of the first, does."""
        port.write(b"again?")

    def check(self, kind: type[Recorder], *reasons: str, report_errors: bool = False) -> None:
        """Send to a closed port and expect to hear of it, by every way there is."""
        ways = (self.by_reading, self.by_error_event, self.by_writing)
        for tell, reason in zip(ways, reasons, strict=False):
            protocol = kind()
            port = self.open_port(protocol, report_errors=report_errors)
            port.connect("127.0.0.1", self.closed_port())
            port.write(b"anyone?")
            tell(port)

            self.assertEqual(protocol.refused, 1)
            self.assertEqual(port.drops, {reason: 1} if reason else {})
            self.assertTrue(port.connected)
            self.assertIn(port, self.reactor.getReaders())

    def test_is_told_whoever_hears_of_it(self) -> None:
        """A read, the reactor, or the next write."""
        self.check(Recorder, "receive-ECONNREFUSED", "receive-ECONNREFUSED", "send-ECONNREFUSED")

    def test_is_told_of_what_the_error_queue_has(self) -> None:
        """Which is emptied by a read and by the reactor; a write is simply tried again."""
        self.check(Recorder, "", "", report_errors=True)

    def test_may_fail(self) -> None:
        """The bug is logged, and the port lives on."""

        class Buggy(Recorder):
            def connectionRefused(self) -> None:
                super().connectionRefused()
                raise RuntimeError("bug")

        self.check(Buggy, "receive-ECONNREFUSED", "receive-ECONNREFUSED", "send-ECONNREFUSED")

        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 3)


class PlainRefusedTests(RefusedTests):
    """The same by one system call for each datagram."""

    plain = True
