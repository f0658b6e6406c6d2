"""Tests of listeners: from a description to something that serves."""

from __future__ import annotations

import socket

from twisted.trial.unittest import SynchronousTestCase

from echosvc.admission import make_screen
from echosvc.listeners import Listener, ListenerSettings, open_listeners
from echosvc.protocols import EchoFactory, WireProtocol, register, registry
from echosvc.transports.hub import hub_for
from tests.doubles import FakeReactor, udp_socket


class ListenerTests(SynchronousTestCase):
    """One bound address that speaks one wire protocol."""

    def open(self, settings: ListenerSettings) -> Listener:
        """Open one listener."""
        self.reactor = FakeReactor()
        (listener,) = open_listeners([settings])
        self.addCleanup(self.stop, listener)
        return listener

    def stop(self, listener: Listener) -> None:
        """Stop a listener."""
        listener.stop()
        self.reactor.advance(0)

    def test_says_what_listens_where(self) -> None:
        """One line, with the protocol and where it is specified."""
        listener = self.open(ListenerSettings(protocol="echo", transport="tcp", port=0, interface="::1"))

        self.assertEqual(str(listener), f"echo (RFC 862) listens on TCP [::1]:{listener.port}")

    def test_serves_datagrams_behind_the_screen(self) -> None:
        """An honest datagram is echoed and counted; a dropped one is counted under its reason."""
        listener = self.open(
            ListenerSettings(protocol="echo", transport="udp", port=0, interface="127.0.0.1")
        )
        client, own = udp_socket(), udp_socket()
        self.addCleanup(client.close)
        self.addCleanup(own.close)
        listener.start(self.reactor, make_screen([own.getsockname()[1]]))
        for sock in (own, client):
            sock.sendto(b"hello", ("127.0.0.1", listener.port))
        (port,) = self.reactor.getReaders()
        port.doRead()

        self.assertEqual(client.recv(100), b"hello")
        self.assertEqual(listener.drops(), {"source-port-own": 1})
        self.assertEqual(listener.totals(), "1 datagrams (5 bytes) in, 1 (5 bytes) out")

    def test_serves_streams(self) -> None:
        """A connection is accepted and counted."""
        listener = self.open(
            ListenerSettings(protocol="echo", transport="tcp", port=0, interface="127.0.0.1")
        )
        listener.start(self.reactor, make_screen([]))
        client = socket.create_connection(("127.0.0.1", listener.port), 5)
        self.addCleanup(client.close)
        (port,) = self.reactor.getReaders()
        port.doRead()

        self.assertEqual(listener.totals(), "1 connections")
        self.assertEqual(listener.drops(), {})
        for connection in set(hub_for(self.reactor).getReaders()) - {port}:
            connection.abortConnection()
        self.reactor.advance(0)

    def test_can_be_stopped_before_it_was_started(self) -> None:
        """A service that never ran leaves no socket open."""
        listener = self.open(
            ListenerSettings(protocol="echo", transport="tcp", port=0, interface="127.0.0.1")
        )
        self.assertEqual(listener.totals(), "0 connections")
        self.assertEqual(listener.drops(), {})
        self.successResultOf(listener.stop())

        self.assertRaises(ConnectionRefusedError, socket.create_connection, ("127.0.0.1", listener.port))

    def test_says_when_the_system_grants_a_smaller_buffer(self) -> None:
        """The way to get the rest is part of the line; TCP has no such buffer."""
        settings = ListenerSettings(protocol="echo", transport="udp", port=0, interface="127.0.0.1")
        sock = udp_socket()
        self.addCleanup(sock.close)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        udp = Listener(registry.find("echo"), sock, settings)
        tcp = self.open(ListenerSettings(protocol="echo", transport="tcp", port=0, interface="127.0.0.1"))

        self.assertIn("net.core.rmem_max=4194304", udp.shortfall() or "")
        self.assertIsNone(tcp.shortfall())

    def test_refuses_an_unknown_protocol(self) -> None:
        """The error names who asked for it."""
        with self.assertRaisesRegex(ValueError, "listener: there is no protocol 'ecko'"):
            open_listeners([ListenerSettings(protocol="ecko", transport="tcp", port=0)])

    def test_refuses_a_form_that_a_protocol_lacks(self) -> None:
        """A protocol without datagrams is not served over UDP."""
        self.patch(registry, "_known", dict(registry._known))
        register(WireProtocol(name="streamed", rfc="none", summary="x", stream=EchoFactory))

        with self.assertRaisesRegex(ValueError, "streamed is not spoken over UDP"):
            open_listeners([ListenerSettings(protocol="streamed", transport="udp", port=0)])
