"""Tests of urgent data (MSG_OOB) on UNIX connections: its last byte is no part of the stream, as on TCP."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Any

from twisted.internet.main import CONNECTION_LOST
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SkipTest

from echosvc.protocols import EchoFactory
from echosvc.transports import rights
from echosvc.transports.rights import SentDescriptors
from tests.transports import test_hub_news
from tests.transports.test_rights import Receiver, close_all, send_descriptors
from tests.transports.test_unix_port import UnixPortCase


def _has_urgent_data() -> bool:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        try:
            one.send(b"!", socket.MSG_OOB)
        except OSError:
            return False
    return True


class UrgentTests(UnixPortCase):
    """The kernel refuses descriptors where it can (Linux 6.16)."""

    def setUp(self) -> None:
        """Skip where there is no urgent data (before Linux 5.15); see what is handed on to be closed."""
        super().setUp()
        if not _has_urgent_data():
            raise SkipTest("needs Linux 5.15 (CONFIG_AF_UNIX_OOB)")
        self.handed: list[int] = []
        self.patch(SentDescriptors, "close", lambda _, descriptors, *_tell: self.handed.extend(descriptors))
        self.addCleanup(lambda: close_all(self.handed))

    def turn(self) -> None:
        """Let the hub tell of all that is there."""
        for _ in range(10):
            self.hub.doRead()

    def answer(self, client: socket.socket) -> bytes:
        """Read all that is answered, up to the end."""
        answer = b""
        client.setblocking(False)
        for _ in range(1000):
            self.turn()
            with contextlib.suppress(BlockingIOError):
                if not (data := client.recv(100_000)):
                    return answer
                answer += data
        raise AssertionError(f"no end after {answer[:20]!r}")

    def test_dropped(self) -> None:
        """The last urgent byte is dropped and all others are echoed, however a read meets it; the end is noticed behind it."""
        port = self.open_port(EchoFactory())
        for accepted_before in (True, False):
            for burst in test_hub_news.NewsTests.BURSTS:
                client = self.client(port)
                if accepted_before:
                    port.doRead()
                expected = test_hub_news.NewsTests.send(client, burst)
                client.shutdown(socket.SHUT_WR)
                port.doRead()

                self.assertEqual(expected, self.answer(client), burst)

    def test_closed_in_the_same_turn(self) -> None:
        """A connection whose socket was handed over and closed, before its own news are told, is not read."""
        client, transport = self.connect(self.open_port(EchoFactory()))
        client.send(b"a")
        transport.socket.close()

        self.assertIs(CONNECTION_LOST, transport.doRead())

    def test_byte_by_byte(self) -> None:
        """Bytes that come one after another are echoed up to it and behind it."""
        client, transport = self.connect(self.open_port(EchoFactory()))
        for piece, flags in ((b"a", 0), (b"!", socket.MSG_OOB), (b"b", 0), (b"!", socket.MSG_OOB), (b"c", 0)):
            client.send(piece, flags)
            self.turn()

        self.assertEqual((b"abc", True), (client.recv(9), transport.connected))

    def test_descriptors_for_a_protocol_that_receives_them(self) -> None:
        """Those that come with an urgent byte are received like any other."""
        received: list[int] = []
        self.patch(Receiver, "fileDescriptorReceived", lambda _, descriptor: received.append(descriptor))
        client, _ = self.connect(self.open_port(Factory.forProtocol(Receiver)))
        send_descriptors(client, [0, 1], socket.MSG_OOB)
        self.turn()
        self.addCleanup(close_all, received)

        self.assertEqual((2, []), (len(received), self.handed))


class OlderUrgentTests(UrgentTests):
    """The kernel cannot refuse descriptors, as before Linux 6.16: those that come with an urgent byte are received."""

    def setUp(self) -> None:
        """Take the option away."""
        super().setUp()
        self.patch(rights, "SO_PASSRIGHTS", 0x7FFF)

    def test_descriptors(self) -> None:
        """They are counted and closed apart; the byte is dropped."""
        port = self.open_port(EchoFactory())
        client, _ = self.connect(port)
        client.send(b"a")
        send_descriptors(client, [0, 1], socket.MSG_OOB)
        client.send(b"b")
        self.turn()
        counts: Any = port.aborts

        self.assertEqual(({"descriptor-unwanted": 1}, 2, b"ab"), (counts, len(self.handed), client.recv(9)))
        self.assertTrue(all(os.fstat(each) for each in self.handed))
