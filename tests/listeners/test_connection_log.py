"""Tests of listeners that log the connections that end: over real sockets, which the test turns by hand."""

from __future__ import annotations

import socket
from ipaddress import ip_network
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.logger import LogEvent, capturedLogs, formatEvent
from twisted.python.failure import Failure

from echosvc.admission import Gate, Limits, Screens
from echosvc.listeners import ListenerSettings
from echosvc.transports import UnixStreamPort
from echosvc.transports.hub import hub_for
from tests.listeners.cases import tcp_listener, udp_listener, unix_listener
from tests.listeners.test_listener import ListeningCase
from tests.waiting import until


class ConnectionLogTests(ListeningCase):
    """What listeners write, and when."""

    def ended(self, settings: ListenerSettings, one_in: int, said: bytes = b"hello") -> list[LogEvent]:
        """Connect, say something and hang up; return what was logged of it."""
        listener = self.start(settings)
        listener.log_connections(one_in)
        family = socket.AF_UNIX if isinstance(self.port, UnixStreamPort) else socket.AF_INET
        with socket.socket(family) as client, capturedLogs() as events:
            client.connect(self.port.socket.getsockname())
            self.port.doRead()
            client.sendall(said)
            client.shutdown(socket.SHUT_WR)
            self.turn()
        return [each for each in events if " ended" in formatEvent(each)]

    def turn(self) -> None:
        """Serve the connection to its end."""
        hub: Any = hub_for(self.reactor)
        (connection,) = set(hub.getReaders()) - {self.port}
        connection.doRead()
        connection.readConnectionLost(Failure(ConnectionDone()))
        for _ in until(lambda: not connection.connected):
            if (reason := connection.doWrite()) is not None:
                connection.connectionLost(Failure(reason))
        self.reactor.advance(0)

    def test_off(self) -> None:
        """Nothing, unless somebody asks."""
        self.assertEqual([], self.ended(tcp_listener(), 0))
        self.assertIsNone(self.port.end_log)

    def test_on(self) -> None:
        """The end of each, with what only the kernel knows."""
        (event,) = self.ended(tcp_listener(), 1)

        self.assertEqual(
            ("echo", "peer-closed", 5, 5),
            tuple(event[each] for each in ("listener", "reason", "bytes_in", "bytes_out")),
        )
        self.assertTrue({"id", "peer", "seconds", "rtt_ms", "retransmits", "where"} < set(event))
        self.assertTrue(event["peer"].startswith("127.0.0.1:"))

    def test_the_announced_client_is_the_peer(self) -> None:
        """Not the proxy that has connected."""
        header = b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 7\r\n"
        (event,) = self.ended(tcp_listener(proxy=(ip_network("127.0.0.0/8"),)), 1, header + b"x")

        self.assertEqual(
            ("192.0.2.1:40000", len(header) + 1, 1), (event["peer"], event["bytes_in"], event["bytes_out"])
        )

    def test_unix(self) -> None:
        """Who has connected is the system's to tell."""
        (event,) = self.ended(unix_listener(str(self.folder() / "echo")), 1)

        self.assertRegex(event["peer"], r"^process \d+ of user \d+$")

    def test_a_listener_that_is_to_say_nothing(self) -> None:
        """What is said for one listener goes before what is said for all."""
        self.assertEqual([], self.ended(tcp_listener(log_connections=0), 1))

    def test_one_listener_alone(self) -> None:
        """Likewise."""
        self.assertEqual(1, len(self.ended(tcp_listener(log_connections=1), 0)))

    def test_before_it_serves(self) -> None:
        """It may be told at any time; those for datagrams do not mind."""
        listener = self.open(tcp_listener())
        listener.log_connections(1)
        listener.start(self.reactor, Screens([]), Gate(Limits(), Clock()))
        (port,) = self.readers()

        self.assertIsNotNone(port.end_log)

    def test_datagrams(self) -> None:
        """Have no connections, and do not mind."""
        self.start(udp_listener()).log_connections(1)

        self.assertFalse(hasattr(self.port, "end_log"))
