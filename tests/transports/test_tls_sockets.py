"""Tests of TLS over loopback sockets and a reactor that the test turns by hand: where the kernel is the point."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections import Counter
from pathlib import Path
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IProtocolFactory

from echosvc.protocols import EchoFactory
from echosvc.transports import StreamTransport
from echosvc.transports.tls import TLSFactory
from echosvc.transports.tls_handshake import HandshakeSettings
from echosvc.transports.turns import Turns
from echosvc.transports.unix import UnixStreamPort
from tests.certificates import DAY, Authority, Issued, folder_for
from tests.transports.test_stream import STALL_TIMEOUT, StreamCase
from tests.transports.tls_case import HalfCloseable, Plain, PlainFactory
from tests.transports.tls_peer import VERSIONS, Client, client_context, server_context
from tests.waiting import until


class Remote:
    """A client at the other end of a socket.

    Args:
        client: Speaks TLS.
        sock: Its socket.

    Attributes:
        closed: The server has closed its direction of TCP.
        reset: It has broken the connection.
    """

    def __init__(self, client: Client, sock: socket.socket) -> None:
        self.client = client
        self.sock = sock
        self.closed = self.reset = False
        self._waiting = b""
        sock.setblocking(False)
        if sock.family == socket.AF_INET:  # else one byte waits until the last is acknowledged
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, most: int = 1 << 20) -> int:
        """Send what is to be sent, as far as the kernel takes it; return how much still waits."""
        self._waiting += self.client.give()
        with contextlib.suppress(BlockingIOError):
            if self._waiting:
                self._waiting = self._waiting[self.sock.send(self._waiting[:most]) :]
        return len(self._waiting)

    def receive(self) -> None:
        """Take what is there."""
        try:
            for _ in until(lambda: self.closed):
                data = self.sock.recv(1 << 20)
                self.client.take(data)
                self.closed = not data
        except BlockingIOError:
            pass
        except ConnectionResetError:
            self.closed = self.reset = True


class TLSSocketCase(StreamCase):
    """Serves TLS on a real port."""

    def setUp(self) -> None:
        """Make certificates."""
        super().setUp()
        self.folder = folder_for(self)
        self.authority = Authority()
        self.context = server_context(*self.authority.issue("localhost").write(self.folder))
        self.refused: Counter[str] = Counter()

    def begin(
        self, inner: IProtocolFactory, version: ssl.TLSVersion | None = None, own: Issued | None = None
    ) -> tuple[Remote, StreamTransport]:
        """Connect a client to a factory's protocol; return it and the connection on our side."""
        factory: Any = TLSFactory(
            inner,
            HandshakeSettings(context=lambda _: self.context),
            self.reactor,
            refused=self.refused,
            turns=Turns(self.reactor, seconds=self.reactor.seconds),
        )
        self.port = self.open_port(factory)
        for each in self.hub.getReaders():
            if isinstance(each, StreamTransport):
                self.drop(each)  # the last one of the same test
        sock, transport = self.connect(self.port)
        context = client_context(self.authority, version, folder=self.folder, own=own)
        remote = Remote(Client(context), sock)
        remote.client.take()
        return remote, transport

    def turn(self, remote: Remote, turns: int = 10) -> None:
        """Let both ends do what they can."""
        for _ in range(turns):
            remote.send()
            self.hub.doRead()
            self.reactor.advance(0)
            remote.receive()


class LoopbackTests(TLSSocketCase):
    """Echo over TLS."""

    def test_one_byte_at_a_time(self) -> None:
        """Whatever the kernel cuts the stream into, the echo is whole."""
        for version in VERSIONS:
            remote, _ = self.begin(EchoFactory(), version)
            said = False
            for _ in range(3000):
                remote.send(1)
                self.hub.doRead()
                remote.receive()
                if remote.client.shaken and not said:
                    remote.client.write(b"hello")
                    said = True

            self.assertEqual(remote.client.heard, b"hello")

    def test_half_close_with_everything_at_once(self) -> None:
        """200 bytes, close_notify and FIN in one go, as a one-shot client sends them, are answered in full."""
        for version in VERSIONS:
            remote, transport = self.begin(EchoFactory(), version)
            self.turn(remote)
            remote.client.write(b"x" * 200)
            remote.client.finish()
            remote.send()
            remote.sock.shutdown(socket.SHUT_WR)
            self.turn(remote)

            self.assertEqual((remote.client.heard, remote.client.finished), (b"x" * 200, True))
            self.assertEqual((remote.closed, remote.reset, transport.connected), (True, False, 0))

    def test_an_end_without_close_notify_is_echoed_as_far_as_it_goes(self) -> None:
        """A client that only closes its direction of TCP gets everything, with our close_notify; the protocol hears of it."""
        factory = PlainFactory()
        remote, _ = self.begin(factory)
        self.turn(remote)
        (protocol,) = factory.built
        protocol.on_data = protocol.transport.write
        remote.client.write(b"half a sent")
        remote.send()
        remote.sock.shutdown(socket.SHUT_WR)
        self.turn(remote)

        self.assertEqual((remote.client.heard, remote.client.finished), (b"half a sent", True))
        self.assertEqual(protocol.events, ["made", "shaken", b"half a sent", ConnectionLost])

    def test_a_late_reader_gets_everything(self) -> None:
        """8 MB, then close_notify, then FIN; only then the client begins to read what fits the queues and the kernel."""
        data = bytes(range(256)) * (1 << 15)
        for version in VERSIONS:
            remote, _ = self.begin(EchoFactory(), version)
            self.turn(remote)
            remote.client.write(data)
            remote.client.finish()
            before = 0
            while before != (before := remote.send()):
                self.hub.doRead()
            for _ in until(lambda: not remote.send()):
                self.turn(remote, 1)
            remote.sock.shutdown(socket.SHUT_WR)
            for _ in until(lambda: remote.closed):
                self.turn(remote, 1)

            self.assertEqual(remote.client.heard == data, True)
            self.assertEqual((remote.client.finished, remote.reset), (True, False))

    def test_a_client_that_never_reads_stops_itself(self) -> None:
        """What it sends waits with it and in the kernel, and not in our memory; at last it is given up."""
        remote, transport = self.begin(EchoFactory())
        self.turn(remote)
        remote.client.write(bytes(32 << 20))
        before = 0
        while before != (before := remote.send()):
            for _ in range(100):
                self.hub.doRead()
        waiting = len(transport.dataBuffer) + transport._tempDataLen
        self.assertGreater(before, 8 << 20)
        self.assertNotIn(transport, self.hub.getReaders())
        self.assertTrue((1 << 16) < waiting < (1 << 20))
        self.wait(STALL_TIMEOUT * 1.2)

        self.assertEqual(self.port.aborts, {"stall-timeout": 1})
        self.assertFalse(transport.connected)

    def test_closing_does_not_wait_for_an_answer(self) -> None:
        """A client that has heard our close_notify and says nothing is closed all the same."""
        factory = PlainFactory(Plain)
        remote, transport = self.begin(factory)
        self.turn(remote)
        (protocol,) = factory.built
        protocol.transport.write(b"bye")
        protocol.transport.loseConnection()
        self.turn(remote)

        self.assertEqual((remote.client.heard, remote.client.finished), (b"bye", True))
        self.assertEqual((remote.closed, transport.connected), (True, 0))
        self.assertEqual(protocol.events, ["made", ConnectionDone])

    def test_half_closing_goes_on_reading(self) -> None:
        """Our FIN follows our close_notify; the client's last words arrive."""
        factory = PlainFactory()
        remote, transport = self.begin(factory)
        self.turn(remote)
        (protocol,) = factory.built
        protocol.transport.write(b"bye")
        protocol.transport.loseWriteConnection()
        self.turn(remote)
        self.assertEqual((remote.client.heard, remote.client.finished, remote.closed), (b"bye", True, True))
        remote.client.write(b"bye, too")
        remote.client.finish()
        self.turn(remote)
        self.assertEqual(protocol.events[2:], ["write lost", b"bye, too", "read lost"])
        protocol.transport.loseConnection()

        self.assertEqual(protocol.events[5:], [ConnectionDone])
        self.assertFalse(transport.connected)

    def test_a_drain_ends_our_direction_alone(self) -> None:
        """What the client has on its way then is read, and resets nothing; our close_notify says that all is whole."""
        remote, transport = self.begin(EchoFactory())
        self.turn(remote)
        remote.client.write(b"echoed")
        self.turn(remote)
        transport.finish()
        remote.client.write(b"on its way")
        self.turn(remote)

        self.assertEqual((remote.client.heard, remote.client.finished), (b"echoed", True))
        self.assertEqual((remote.reset, transport.connected), (False, 1))

    def test_a_drain_waits_for_no_handshake(self) -> None:
        """There is nothing to finish."""
        _, transport = self.begin(EchoFactory())
        transport.finish()
        self.reactor.advance(0)

        self.assertFalse(transport.connected)

    def test_aborting_resets(self) -> None:
        """Nothing of it looks like an end in good order."""
        factory = PlainFactory()
        remote, _ = self.begin(factory)
        self.turn(remote)
        factory.built[0].transport.abortConnection()
        self.turn(remote)

        self.assertEqual((remote.reset, remote.client.finished), (True, False))
        self.assertEqual(factory.built[0].events[-1], ConnectionAborted)

    def test_a_protocol_that_raises_has_failed(self) -> None:
        """In the turn in which its data came, and in a later one."""
        for later in (False, True):
            factory = PlainFactory()
            remote, transport = self.begin(factory)
            self.turn(remote)
            (protocol,) = factory.built
            for letter in (b"x", b"y"):
                remote.client.write(letter)
            if later:
                protocol.on_data = lambda _, protocol=protocol: protocol.transport.pauseProducing()  # type: ignore[misc]
                self.turn(remote)
                protocol.transport.resumeProducing()
            protocol.on_data = lambda _: 1 / 0
            self.turn(remote)

            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
            self.assertEqual((self.port.ended, transport.connected), ({"failed": 1}, 0))
            self.assertEqual(protocol.events[-1], ZeroDivisionError)

    def test_why_it_has_ended(self) -> None:
        """The peer was first with its close_notify or its FIN, or the protocol was; or what came was damaged, or no TLS."""

        def damage(remote: Remote, _: Plain) -> None:
            remote.sock.send(bytes.fromhex("1703030020") + bytes(32))

        def finish(remote: Remote, _: Plain) -> None:
            remote.client.finish()

        def cut(remote: Remote, _: Plain) -> None:
            remote.sock.shutdown(socket.SHUT_WR)

        def lose(_: Remote, protocol: Plain) -> None:
            protocol.transport.loseConnection()

        def half_close_first(remote: Remote, protocol: Plain) -> None:
            protocol.transport.loseWriteConnection()
            self.turn(remote)
            remote.client.finish()

        for act, kind, why in (
            (damage, Plain, "tls-failed"),
            (finish, Plain, "peer-closed"),
            (finish, HalfCloseable, "peer-closed"),
            (cut, Plain, "peer-closed"),
            (lose, Plain, "closed"),
            (half_close_first, HalfCloseable, "closed"),
        ):
            for version in VERSIONS:
                self.refused.clear()
                factory = PlainFactory(kind)
                remote, transport = self.begin(factory, version)
                self.turn(remote)
                (protocol,) = factory.built
                act(remote, protocol)
                self.turn(remote)
                if transport.connected:  # each direction ends by itself
                    protocol.transport.loseConnection()
                self.turn(remote)

                self.assertEqual(self.port.ended, {why: 1}, (act, kind))
                self.assertEqual(self.refused, {why: 1} if why == "tls-failed" else {})

    def test_why_it_has_ended_before_the_handshake_is_done(self) -> None:
        """A peer that leaves is counted as one with which TLS was not agreed on, among ends and among drops."""
        remote, _ = self.begin(PlainFactory())
        remote.sock.shutdown(socket.SHUT_WR)
        for _ in range(3):
            self.hub.doRead()
            self.reactor.advance(0)

        self.assertEqual((self.port.ended, self.refused), ({"tls-handshake-failed": 1},) * 2)

    def test_over_a_unix_socket(self) -> None:
        """There it is the same."""
        path = f"{self.folder}/socket"
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(path)
        listening.listen()
        factory: Any = TLSFactory(
            EchoFactory(),
            HandshakeSettings(context=lambda _: self.context),
            self.reactor,
            refused=self.refused,
        )
        port = UnixStreamPort(listening, factory, self.reactor, stall_timeout=STALL_TIMEOUT)
        port.startListening()
        self.addCleanup(self.close, port)
        sock = socket.socket(socket.AF_UNIX)
        self.addCleanup(sock.close)
        sock.connect(path)
        port.doRead()
        remote = Remote(Client(client_context(self.authority)), sock)
        remote.client.take()
        self.turn(remote)
        remote.client.write(b"hello")
        remote.client.finish()
        self.turn(remote)

        self.assertEqual((remote.client.heard, remote.client.finished), (b"hello", True))
        self.assertTrue(remote.closed)

    def test_settings_of_the_socket_are_passed_on(self) -> None:
        """A protocol can ask for them and change them."""
        factory = PlainFactory()
        remote, transport = self.begin(factory)
        self.turn(remote)
        inner = factory.built[0].transport

        self.assertTrue(inner.getTcpNoDelay())
        inner.setTcpKeepAlive(False)
        self.assertFalse(transport.getTcpKeepAlive())
        self.assertEqual((inner.getPeer(), inner.getHost()), (transport.getPeer(), transport.getHost()))


class MutualTests(TLSSocketCase):
    """Clients must show a certificate."""

    def setUp(self) -> None:
        """Say whose."""
        super().setUp()
        Path(f"{self.folder}/ca.pem").write_bytes(self.authority.pem)
        own = self.authority.issue("localhost").write(self.folder)
        self.context = server_context(*own, f"{self.folder}/ca.pem")

    def test_the_right_one_is_let_in(self) -> None:
        """And a protocol may ask whose it is."""
        for version in VERSIONS:
            factory = PlainFactory()
            remote, _ = self.begin(factory, version, self.authority.issue("a client"))
            self.turn(remote)
            certificate = factory.built[0].transport.getPeerCertificate()

            self.assertEqual(certificate.subject.rfc4514_string(), "CN=a client")
            self.assertEqual(self.refused, {})

    def test_nobody_else_is(self) -> None:
        """Whoever has none, or one of somebody else's, hears why, though it has sent much already, and meets no protocol."""
        for own, why in (
            (None, ("certificate required", "handshake failure")),
            (Authority("Another CA").issue("a client"), ("unknown ca",)),
            (self.authority.issue("a client", begins=-2 * DAY, ends=-DAY), ("certificate expired",)),
        ):
            for version in VERSIONS:
                factory = PlainFactory()
                self.refused.clear()
                remote, transport = self.begin(factory, version, own)
                for _ in until(lambda: remote.client.shaken or remote.client.error):
                    self.turn(remote, 1)
                with contextlib.suppress(ssl.SSLError):
                    remote.client.write(bytes(1_000_000))
                self.turn(remote, 30)

                self.assertFalse(remote.reset)
                self.assertTrue(
                    any(each in str(remote.client.error).lower() for each in why), remote.client.error
                )
                self.assertEqual(factory.built, [])
                self.assertEqual(self.refused, {"tls-handshake-failed": 1})
                remote.sock.close()
                self.hub.doRead()
                self.assertFalse(transport.connected)
