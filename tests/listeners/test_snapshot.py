"""Tests of what listeners tell of themselves."""

from __future__ import annotations

import socket
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from echosvc.admission import AccessList, DoorSettings, Limits
from echosvc.listeners.foreign import _Counted
from echosvc.observe import ListenerSnapshot
from echosvc.protocols import EchoFactory
from echosvc.transports.hub import hub_for
from tests.listeners.cases import tcp_listener, udp_listener, unix_listener, unixgram_listener
from tests.listeners.test_foreign import ForeignCase
from tests.listeners.test_listener import ListeningCase


class SnapshotTests(ListeningCase):
    """Our own listeners."""

    def turn(self) -> None:
        """Have the hub and the reactor turn."""
        for _ in range(3):
            hub_for(self.reactor).doRead()
            self.reactor.advance(0)

    def test_before_anything(self) -> None:
        """Nothing was counted, and nothing is served before it is started."""
        path = str(self.folder() / "echo")
        for settings, transport in (
            (tcp_listener(name="lines"), "tcp"),
            (udp_listener(name="lines"), "udp"),
            (unix_listener(path, name="lines"), "unix"),
            (unixgram_listener(path, name="lines"), "unixgram"),
        ):
            listener = self.open(settings)
            nothing = ListenerSnapshot(
                name="lines", protocol="echo", where=listener.where, transport=transport
            )
            self.assertEqual((nothing, False), (listener.snapshot(), listener.is_serving))
            self.stop(listener)
            listener = self.start(settings)
            self.assertEqual(nothing.transport, listener.snapshot().transport)
            self.assertTrue(listener.is_serving)
            self.stop(listener)
            self.assertFalse(listener.is_serving)

    def test_connections(self) -> None:
        """Those that are open and those that have ended, with all that they have moved."""
        listener = self.start(tcp_listener())
        first, second = self.connect(listener), self.connect(listener)
        first.sendall(b"hello")
        second.sendall(b"hi")
        self.turn()
        open_both = listener.snapshot()
        self.assertEqual(b"hello", first.recv(9))  # or else its end would be a reset
        first.close()
        self.turn()
        one = listener.snapshot()

        self.assertEqual((2, {}, 2, 7, 7), self.figures(open_both))
        self.assertEqual((2, {"peer-closed": 1}, 1, 7, 7), self.figures(one))

    def figures(self, found: ListenerSnapshot) -> tuple[object, ...]:
        """What was counted of connections."""
        return found.opened, found.closed, found.open, found.bytes_in, found.bytes_out

    def test_over_unix(self) -> None:
        """Likewise."""
        path = str(self.folder() / "echo")
        listener = self.start(unix_listener(path))
        client = self.client()
        client.connect(path)
        self.port.doRead()
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)
        self.turn()

        self.assertEqual((1, {"peer-closed": 1}, 0, 5, 5), self.figures(listener.snapshot()))

    def test_what_is_held_for_clients(self) -> None:
        """In our own memory and unsent in the kernel's, for each listener by itself."""
        listener = self.start(tcp_listener())
        self.connect(listener)
        (transport,) = self.gate.connections()
        transport.write(b"x" * 20_000_000)

        queued = listener.snapshot().queued_bytes
        other = self.gate.door(DoorSettings(), AccessList.read((), ()))
        self.assertEqual((transport.queued() + transport.unsent(), 0), (queued, other.queued()))
        self.assertLess(0, transport.queued())
        transport.abortConnection()
        self.turn()
        self.assertEqual(0, listener.snapshot().queued_bytes)

    def test_whoever_is_refused_was_not_opened(self) -> None:
        """But dropped, for a reason; whoever is ended has that reason, too."""
        listener = self.start(
            tcp_listener(
                proxy=(ip_network("127.0.0.0/8"),), door=DoorSettings(limits=Limits(max_connections=1))
            )
        )
        first, *_ = [self.connect(listener) for _ in range(3)]  # one more may be in until it is announced
        first.sendall(b"GET / HTTP/1.0\r\n\r\n")
        self.turn()
        found = listener.snapshot()

        self.assertEqual({"max-connections": 1, "proxy-malformed": 1}, found.dropped)
        self.assertEqual((2, {"proxy-malformed": 1}, 1, 18, 0), self.figures(found))

    def test_a_client_behind_a_proxy_that_is_refused(self) -> None:
        """Was let in for its header, and is ended for the reason that is counted."""
        listener = self.start(
            tcp_listener(proxy=(ip_network("127.0.0.0/8"),), door=DoorSettings(allow=("192.0.2.0/24",)))
        )
        self.connect(listener).sendall(b"PROXY TCP4 203.0.113.1 192.0.2.2 5 7\r\nhello")
        self.turn()

        self.assertEqual({"access-denied": 1}, listener.snapshot().closed)

    def test_an_idle_connection(self) -> None:
        """Has ended for being idle, whoever closes last."""
        listener = self.start(tcp_listener(door=DoorSettings(idle_timeout=3.0)))
        client = self.connect(listener)
        for _ in range(30):
            self.gate._tick()
            self.gate.now += 0.25
        client.close()
        self.turn()

        self.assertEqual({"idle-timeout": 1}, listener.snapshot().closed)

    def test_datagrams(self) -> None:
        """Those that were let in and sent; what the kernel has dropped is told apart from what was refused."""
        client, own = self.udp_client(), self.udp_client()
        listener = self.start(udp_listener(), own=own.getsockname()[1])
        for sock in (own, client, client):
            sock.sendto(b"hello", ("127.0.0.1", listener.port))
        self.port.doRead()
        self.port._kernel_drops_before -= 7
        found = listener.snapshot()

        self.assertEqual(
            (2, 10, 2, 10),
            (found.datagrams_in, found.bytes_in, found.datagrams_out, found.bytes_out),
        )
        self.assertEqual(({"source-port-own": 1}, 7), (found.dropped, found.kernel_drops))


class ForeignTests(ForeignCase):
    """Endpoints of Twisted's own."""

    def test_counts_what_it_can(self) -> None:
        """Connections, and not their bytes."""
        listener = self.open()
        client = self.connect(listener)
        before = listener.snapshot()
        client.close()
        for each in [each for each in self.reactor.getReaders() if hasattr(each, "protocol")]:
            each.connectionLost(Failure(ConnectionDone()))
        after = listener.snapshot()

        self.assertEqual(("foreign", None, None), (after.transport, after.bytes_in, after.bytes_out))
        self.assertEqual((1, 1, {}), (before.opened, before.open, before.closed))
        self.assertEqual((1, 0, {"closed": 1}), (after.opened, after.open, after.closed))
        self.assertTrue(listener.is_serving)


class CountedTests(SynchronousTestCase):
    """How connections are counted that Twisted makes."""

    def built(self, make: Any) -> _Counted:
        """Build one protocol."""
        factory = Factory()
        factory.buildProtocol = make  # type: ignore[method-assign]
        return _Counted(factory)

    def test_whoever_gets_no_protocol(self) -> None:
        """Was closed at once, or has met a bug."""

        def fail(_: object) -> None:
            raise ValueError("a bug")

        none, failing = self.built(lambda _: None), self.built(fail)
        none.buildProtocol(None)  # type: ignore[arg-type]
        self.assertRaises(ValueError, failing.buildProtocol, None)

        self.assertEqual(({"closed": 1}, {"failed": 1}), (none.ended, failing.ended))

    def test_a_protocol_is_told_as_ever(self) -> None:
        """Of its end, with a reason or without one."""
        told: list[Any] = []

        class Told(Protocol):
            def connectionLost(self, *reason: Any) -> None:
                told.append(reason)

        counted = self.built(lambda _: Told())
        failure = Failure(ConnectionDone())
        for reason in ((), (failure,)):
            protocol: Any = counted.buildProtocol(None)  # type: ignore[arg-type]
            transport: Any = SimpleNamespace(connectionLost=protocol.connectionLost)
            protocol.makeConnection(transport)
            transport.connectionLost(*reason)

        self.assertEqual(([(), (failure,)], {"closed": 2}), (told, counted.ended))
        self.assertIsNotNone(_Counted(EchoFactory()).buildProtocol(None))  # type: ignore[arg-type]
