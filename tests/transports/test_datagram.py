"""Tests of the datagram port, on real sockets over loopback and a reactor that the test turns by hand."""

from __future__ import annotations

import errno
import socket
from typing import Any, cast

from twisted.internet.error import ConnectionDone, InvalidAddressError
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest

from echosvc.protocols import DatagramEcho
from echosvc.transports.linux import LINUX
from echosvc.transports.messages import BATCH, PlainMessages
from tests.machine import HAS_IPV6, needs_ipv6
from tests.transports.ports import PortCase, Recorder


class FailingSocket:
    """A socket some of whose calls fail."""

    def __init__(self, real: socket.socket, **failures: OSError) -> None:
        self._real = real
        self._failures = failures

    def __getattr__(self, name: str) -> Any:
        """Hand on what does not fail."""
        if name not in self._failures:
            return getattr(self._real, name)

        def fail(*_: object) -> None:
            raise self._failures[name]

        return fail


class Buggy(Recorder):
    """Raises on every datagram."""

    def __init__(self, bug: type[BaseException]) -> None:
        super().__init__()
        self._bug = bug

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Remember a datagram, and fail."""
        super().datagramReceived(datagram, addr)
        raise self._bug("bug")


class ReceivingTests(PortCase):
    """What a protocol is told, and what it is not."""

    def test_hands_on_datagrams_of_every_kind(self) -> None:
        """The empty one and the largest arrive whole, with their source."""
        recorder = Recorder()
        port = self.open_port(recorder)
        client = self.client()
        payloads = [b"", b"x", b"y" * 9000, b"z" * 65507]
        for payload in payloads:
            client.sendto(payload, port.socket.getsockname())
        port.doRead()

        source = client.getsockname()
        self.assertEqual(recorder.received, [(payload, source) for payload in payloads])
        self.assertEqual((port.datagrams_in, port.bytes_in), (4, 74508))

    def test_makes_the_socket_non_blocking(self) -> None:
        """A blocking socket, as a service manager passes it, cannot stop the reactor."""
        port = self.open_port(Recorder())

        self.assertFalse(port.socket.getblocking())
        port.doRead()  # nothing there: returns at once

    def test_serves_what_waits_before_the_end(self) -> None:
        """All that has come in is served, however many turns that takes otherwise."""
        recorder = Recorder()
        port = self.open_port(recorder)
        client = self.client()
        for _ in range(2 * BATCH + 1):
            client.sendto(b"", port.socket.getsockname())
        port.serve_waiting()

        self.assertEqual(2 * BATCH + 1, len(recorder.received))

    def test_a_turn_is_bounded_even_if_datagrams_are_empty(self) -> None:
        """A flood of empty datagrams leaves the reactor time for everyone else."""
        recorder = Recorder()
        port = self.open_port(recorder)
        client = self.client()
        for _ in range(BATCH + 1):
            client.sendto(b"", port.socket.getsockname())
        port.doRead()

        self.assertEqual(len(recorder.received), BATCH)

    def test_what_the_screen_names_is_dropped_and_counted(self) -> None:
        """A protocol never sees what the screen refuses."""
        recorder = Recorder()
        refused = self.client()
        number = refused.getsockname()[1]
        port = self.open_port(
            recorder,
            screen=lambda batch: {
                at: ("no", 0)
                for at, envelope in enumerate(batch.envelopes())
                if batch.arrival(envelope).port == number
            },
        )
        welcome = self.client()
        for sock, datagram in ((welcome, b"good"), (refused, b"bad"), (welcome, b"too"), (refused, b"")):
            sock.sendto(datagram, port.socket.getsockname())
        port.doRead()

        self.assertEqual([data for data, _ in recorder.received], [b"good", b"too"])
        self.assertEqual(port.drops, {"no": 2})
        self.assertEqual((port.datagrams_in, port.bytes_in), (2, 7))

    def test_a_screen_that_fails_lets_nothing_in(self) -> None:
        """What it has not judged is dropped and counted; the bug is logged, and the port lives on."""

        def fail(_: object) -> dict[int, tuple[str, int]]:
            raise RuntimeError("bug")

        recorder = Recorder()
        port = self.open_port(recorder, screen=fail)
        client = self.client()
        for datagram in (b"1", b"2"):
            client.sendto(datagram, port.socket.getsockname())
        port.doRead()
        port._screen = lambda _: {}
        client.sendto(b"3", port.socket.getsockname())
        port.doRead()

        self.assertEqual([data for data, _ in recorder.received], [b"3"])
        self.assertEqual(port.drops, {"screen-failed": 2})
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_a_truncated_datagram_is_dropped_and_counted(self) -> None:
        """A part of a datagram is never taken for the whole."""

        class Truncating(PlainMessages):
            def receive(self) -> int:
                count = super().receive()
                self.refused = dict.fromkeys(range(count), "truncated")
                return count

        recorder = Recorder()
        port = self.open_port(recorder)
        port._messages = Truncating(port.socket)
        self.client().sendto(b"part", port.socket.getsockname())
        port.doRead()

        self.assertEqual(recorder.received, [])
        self.assertEqual(port.drops, {"truncated": 1})
        self.assertEqual((port.datagrams_in, port.bytes_in), (0, 0))

    def test_a_protocol_that_raises_does_not_end_the_port(self) -> None:
        """The bug is logged, and the next datagram is served; one that raises SystemExit is no exception."""
        for bug in (RuntimeError, SystemExit):
            buggy = Buggy(bug)
            port = self.open_port(buggy)
            client = self.client()
            client.sendto(b"1", port.socket.getsockname())
            client.sendto(b"2", port.socket.getsockname())
            port.doRead()

            self.assertEqual(len(buggy.received), 2)
            self.assertEqual(len(self.flushLoggedErrors(bug)), 2)

    def test_a_failing_read_is_counted_and_does_not_end_the_port(self) -> None:
        """Whatever the system says, the port lives on."""
        recorder = Recorder()
        port = self.open_port(recorder)
        real = port._messages
        failing = cast(socket.socket, FailingSocket(port.socket, recvmsg=OSError(errno.ENOMEM, "no memory")))
        port._messages = PlainMessages(failing)
        port.doRead()
        port._messages = real
        client = self.client()
        client.sendto(b"still here", port.socket.getsockname())
        port.doRead()

        self.assertEqual(port.drops, {"receive-ENOMEM": 1})
        self.assertEqual(recorder.received[0][0], b"still here")

    def test_an_error_event_does_not_end_the_port(self) -> None:
        """The reactor takes EPOLLERR for a lost connection; a datagram port reads on."""
        recorder = Recorder()
        port = self.open_port(recorder)
        self.reactor.removeReader(port)  # as the reactor does before it tells
        port.readConnectionLost(Failure(ConnectionDone()))

        self.assertIn(port, self.reactor.getReaders())
        self.assertTrue(port.connected)
        self.assertEqual(recorder.stopped, 0)
        self.assertEqual(port.drops, {})

    def test_stops_in_the_middle_of_a_turn(self) -> None:
        """A protocol may close its port on a datagram; nothing is read after that."""

        class Closing(Recorder):
            def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                super().datagramReceived(datagram, addr)
                port.connectionLost()

        closing = Closing()
        port = self.open_port(closing)
        client = self.client()
        client.sendto(b"1", port.socket.getsockname())
        client.sendto(b"2", port.socket.getsockname())
        port.doRead()

        self.assertEqual([data for data, _ in closing.received], [b"1"])
        self.assertEqual(closing.stopped, 1)

    def test_what_has_come_in_is_delivered_after_stop_listening(self) -> None:
        """The port closes in the next turn of the reactor, as Twisted's does."""

        class Stopping(Recorder):
            def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                super().datagramReceived(datagram, addr)
                port.stopListening()

        stopping = Stopping()
        port = self.open_port(stopping)
        client = self.client()
        client.sendto(b"1", port.socket.getsockname())
        client.sendto(b"2", port.socket.getsockname())
        port.doRead()

        self.assertEqual([data for data, _ in stopping.received], [b"1", b"2"])
        self.assertEqual(self.reactor.getReaders(), [])

    def test_a_turn_within_a_turn_harms_nothing(self) -> None:
        """A protocol may run the reactor: what is being served is not read over, and the rest comes later."""

        class Nested(Recorder):
            def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                super().datagramReceived(datagram, addr)
                client.sendto(b"later", port.socket.getsockname())
                port.doRead()

        nested = Nested()
        port = self.open_port(nested)
        client = self.client()
        for number in range(3):
            client.sendto(b"%d" % number, port.socket.getsockname())
        port.doRead()

        self.assertEqual([data for data, _ in nested.received], [b"0", b"1", b"2"])
        port.doRead()
        self.assertEqual([data for data, _ in nested.received[3:]], [b"later"] * 3)

    def test_stop_listening_closes_the_socket(self) -> None:
        """The Deferred fires when the socket is closed and the protocol told."""
        recorder = Recorder()
        port = self.open_port(recorder)
        stopped = port.stopListening()
        self.assertNoResult(stopped)
        self.reactor.advance(0)

        self.successResultOf(stopped)
        self.assertEqual(recorder.stopped, 1)
        self.assertEqual(self.reactor.getReaders(), [])


class PlainReceivingTests(ReceivingTests):
    """The same by one system call for each datagram."""

    plain = True


class AnsweringTests(PortCase):
    """Where an answer leaves from, and what becomes of one that cannot leave."""

    def test_answers_from_the_address_that_was_asked(self) -> None:
        """A client that asked 127.0.0.5 of a wildcard socket hears 127.0.0.5."""
        if not LINUX:
            raise SkipTest("needs PKTINFO")
        for wildcard in ("0.0.0.0", "::"):
            port = self.open_port(DatagramEcho(), wildcard)
            for host in ("127.0.0.1", "127.0.0.5", "127.1.2.3"):
                client = self.client()
                client.connect((host, port.getHost().port))  # from now on deaf to every other address
                client.send(b"who are you")
                port.doRead()

                self.assertEqual(client.recv(100), b"who are you")

    @needs_ipv6
    def test_answers_ipv6_from_the_address_that_was_asked(self) -> None:
        """The same over IPv6."""
        port = self.open_port(DatagramEcho(), "::")
        client = self.client("::1")
        client.connect(("::1", port.getHost().port))
        client.send(b"six")
        port.doRead()

        self.assertEqual(client.recv(100), b"six")

    def test_ipv4_client_of_a_dual_stack_port_is_ipv4(self) -> None:
        """A protocol sees 127.0.0.1, and a plain tuple of it is enough to answer later."""
        recorder = Recorder()
        port = self.open_port(recorder, "::")
        client = self.client()
        client.sendto(b"hello", ("127.0.0.1", port.getHost().port))
        port.doRead()
        ((_, source),) = recorder.received
        port.write(b"later", (source[0], source[1]))

        self.assertEqual(source, client.getsockname())
        self.assertEqual(client.recv(100), b"later")

    def test_counts_what_it_sends(self) -> None:
        """Datagrams and bytes that the kernel took."""
        port = self.open_port(DatagramEcho())
        client = self.client()
        client.sendto(b"12345", port.socket.getsockname())
        port.doRead()

        self.assertEqual((port.datagrams_out, port.bytes_out), (1, 5))

    def test_send_errors_are_counted_by_name_and_never_raised(self) -> None:
        """EAGAIN, ENOBUFS, EPERM and their like cost one datagram, not the port."""
        port = self.open_port(Recorder())
        real = port.socket
        for number in (errno.EAGAIN, errno.ENOBUFS, errno.EPERM, errno.ENETUNREACH):
            port.socket = cast(socket.socket, FailingSocket(real, sendto=OSError(number, "no")))
            port.write(b"x", ("127.0.0.1", 9))
        port.socket = real

        self.assertEqual(
            port.drops, {"send-EAGAIN": 1, "send-ENOBUFS": 1, "send-EPERM": 1, "send-ENETUNREACH": 1}
        )
        self.assertEqual(port.datagrams_out, 0)

    def test_only_a_refusal_is_told_as_one(self) -> None:
        """A connected port's protocol hears of nothing else."""
        recorder = Recorder()
        port = self.open_port(recorder)
        port.connect("127.0.0.1", 9)
        real = port.socket
        port.socket = cast(socket.socket, FailingSocket(real, send=OSError(errno.EPERM, "no")))
        port.write(b"x")
        port.socket = real

        self.assertEqual(recorder.refused, 0)
        self.assertEqual(port.drops, {"send-EPERM": 1})

    def test_source_port_zero_is_an_error_like_others(self) -> None:
        """The kernel refuses to send to port 0; stock Twisted logs a traceback for each."""
        port = self.open_port(Recorder())
        port.write(b"x", ("127.0.0.1", 0))

        self.assertEqual(port.drops, {"send-EINVAL": 1})

    def test_too_long_a_datagram_is_an_error_like_others(self) -> None:
        """65 508 bytes do not fit into IPv4."""
        port = self.open_port(Recorder())
        port.write(b"x" * 65508, ("127.0.0.1", 9))

        self.assertEqual(port.drops, {"send-EMSGSIZE": 1})

    def test_a_name_is_not_an_address(self) -> None:
        """A protocol's own mistakes are raised, as Twisted's port does."""
        port = self.open_port(Recorder())

        self.assertRaises(InvalidAddressError, port.write, b"x", ("localhost", 9))
        self.assertRaises(InvalidAddressError, port.write, b"x", ("::1", 9))

    def test_broadcast_is_ipv4_only(self) -> None:
        """Twisted's word for it means nothing to an IPv6 socket, dual-stack or not."""
        for host in ("::", *["::1"] * HAS_IPV6):
            port = self.open_port(Recorder(), host)

            self.assertRaises(InvalidAddressError, port.write, b"x", ("<broadcast>", 9))
        port = self.open_port(Recorder())
        port.write(b"x", ("<broadcast>", 9))
        self.assertEqual(port.drops, {"send-EACCES": 1})  # nobody has set SO_BROADCAST

    def test_an_interface_that_does_not_exist_is_an_error_like_others(self) -> None:
        """The resolver's errors have names of their own."""
        port = self.open_port(Recorder(), "::")
        port.write(b"x", ("fe80::1%none", 9))

        self.assertEqual(port.drops, {"send-EAI_NONAME": 1})

    @needs_ipv6
    def test_ipv4_is_out_of_reach_of_an_ipv6_port(self) -> None:
        """Unless its socket is dual-stack, and not bound to an IPv6 address."""
        port = self.open_port(Recorder(), "::1")

        self.assertRaises(InvalidAddressError, port.write, b"x", ("127.0.0.1", 9))

    def test_speaks_to_one_peer_once_connected(self) -> None:
        """IUDPTransport's connect works; `write` then needs no address."""
        port = self.open_port(Recorder())
        client = self.client()
        port.connect(*client.getsockname())
        port.write(b"to you")

        self.assertEqual(client.recv(100), b"to you")


class PlainAnsweringTests(AnsweringTests):
    """The same by one system call for each datagram."""

    plain = True
