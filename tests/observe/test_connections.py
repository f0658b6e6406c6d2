"""Tests of the line for a connection that has ended."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.logger import Logger, LogPublisher
from twisted.trial.unittest import SynchronousTestCase

from echosvc.observe import ConnectionLog, LogGuard
from tests.doubles import FakeReactor
from tests.observe.log_sinks import Lines


class EndedConnection:
    """A connection that is about to be closed.

    Args:
        sock: Its socket.
        peer: What it says that its peer is.
    """

    sessionno = 17
    bytes_in = 64
    bytes_out = 128
    began: float | None = None

    def __init__(self, sock: Any, peer: Any) -> None:
        self.socket = sock
        self._peer = peer

    def getPeer(self) -> Any:
        """As it was told."""
        return self._peer


class Untold:
    """A socket of a system that tells nothing."""

    family = socket.AF_UNIX

    def getsockopt(self, *_: object) -> bytes:
        """Fail, as it does where an option is not known."""
        raise OSError(92, "Protocol not available")


class ConnectionLogTests(SynchronousTestCase):
    """What is written, and for whom."""

    def setUp(self) -> None:
        """Log to memory."""
        self.sink = Lines()
        self.clock = Clock()
        self.chances: list[float] = []
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.listening.close)

    def log(self, one_in: int = 1) -> ConnectionLog:
        """Make the log of one listener."""
        return ConnectionLog(
            "echo",
            "TCP [::]:8007",
            one_in,
            Logger("echosvc", observer=self.sink),
            seconds=self.clock.seconds,
            chance=lambda: self.chances.pop(0),
        )

    def tcp(self, peer: Any = None) -> EndedConnection:
        """A connection over TCP."""
        client = socket.create_connection(self.listening.getsockname())
        accepted, _ = self.listening.accept()
        self.addCleanup(client.close)
        self.addCleanup(accepted.close)
        return EndedConnection(accepted, peer or IPv4Address("TCP", "192.0.2.1", 40000))

    def test_a_line(self) -> None:
        """Who it was, how long, how much, why it ended, and what TCP has measured; each also as a field."""
        connection, log = self.tcp(), self.log()
        log.begins(connection)
        self.clock.advance(1.2345678)
        log.ends(connection, "peer-closed")
        (event,) = self.sink.events

        self.assertRegex(
            self.sink.lines[0],
            r"^echo: connection 17 of 192\.0\.2\.1:40000 ended after 1\.235 s: peer-closed; 64 bytes in, 128 out; "
            r"round trip \d+\.\d{3} ms, 0 sent again$",
        )
        expected = {
            "listener": "echo",
            "where": "TCP [::]:8007",
            "id": 17,
            "peer": "192.0.2.1:40000",
            "seconds": 1.234568,
            "bytes_in": 64,
            "bytes_out": 128,
            "reason": "peer-closed",
            "retransmits": 0,
        }
        self.assertEqual(expected, {name: event[name] for name in expected})
        self.assertTrue(0 < event["rtt_ms"] < 1000, event)

    def test_ipv6_peers_are_in_brackets(self) -> None:
        """As everywhere."""
        self.log().ends(self.tcp(IPv6Address("TCP", "2001:db8::1", 7)), "lost")

        self.assertIn(" of [2001:db8::1]:7 ended: lost;", self.sink.lines[0])

    def test_who_was_there_before(self) -> None:
        """Of a connection that is older than the wish for lines, nobody knows how long it was."""
        self.log().ends(self.tcp(), "closed")

        self.assertNotIn("seconds", self.sink.events[0])

    def test_one_in_so_many(self) -> None:
        """Each has the same chance."""
        self.chances = [0.0, 0.0099, 0.01, 0.5, 0.999]
        connection, log = self.tcp(), self.log(100)
        for _ in range(5):
            log.ends(connection, "closed")

        self.assertEqual((2, []), (len(self.sink.lines), self.chances))

    def test_unix_peers(self) -> None:
        """By name, if they have one; else by process and user."""
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        for name in (b"/run/client\xff", None):
            self.log().ends(EndedConnection(ours, UNIXAddress(name)), "closed")
        self.log().ends(EndedConnection(Untold(), UNIXAddress(None)), "closed")
        named, unnamed, untold = (each["peer"] for each in self.sink.events)

        self.assertEqual((r"/run/client\xff", "UNIX"), (named, untold))
        self.assertRegex(unnamed, r"^process \d+ of user \d+$")
        self.assertNotIn("rtt_ms", self.sink.events[0])

    def test_it_is_no_flood(self) -> None:
        """Whoever asks for a line for each has all of them, escaped."""
        publisher = LogPublisher(self.sink)
        guard = LogGuard(FakeReactor(), publisher)
        guard.start()
        log = ConnectionLog("echo", "x", 1, Logger("echosvc", observer=publisher), seconds=self.clock.seconds)
        connection = EndedConnection(Untold(), UNIXAddress(b"a\nb"))
        for _ in range(1000):
            log.ends(connection, "closed")
        guard.stop()

        self.assertEqual(1000, len(self.sink.lines))
        self.assertIn(r" of a\nb ended", self.sink.lines[0])
