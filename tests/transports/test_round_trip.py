"""Tests of what TCP tells of a connection."""

from __future__ import annotations

import socket
import sys
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from echosvc.transports import linux
from echosvc.transports.linux import LINUX, round_trip


class Terse(socket.socket):
    """A socket of a kernel that tells less."""

    def getsockopt(self, *_: object) -> bytes:  # type: ignore[override]  # the form with a size
        """Tell the beginning."""
        return bytes(8)


class RoundTripTests(SynchronousTestCase):
    """The round trip, and what was sent again."""

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """A connection over loopback; both ends."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            client = socket.create_connection(server.getsockname())
            accepted, _ = server.accept()
        self.addCleanup(client.close)
        self.addCleanup(accepted.close)
        return client, accepted

    @skipUnless(LINUX, "Linux tells")
    def test_of_a_connection(self) -> None:
        """Less than a second on this machine, and nothing twice; also when it was reset."""
        client, accepted = self.pair()
        client.sendall(b"x")
        before = round_trip(accepted)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        self.assertRaises(ConnectionResetError, lambda: (accepted.recv(1), accepted.recv(1)))
        after = round_trip(accepted)

        for found in (before, after):
            assert found is not None
            self.assertTrue(0 < found[0] < 1, found)
            self.assertEqual(0, found[1])

    @skipUnless(LINUX, "Linux tells")
    def test_against_the_kernels_own_words(self) -> None:
        """The places in the structure are those that `socket.TCP_INFO` of linux/tcp.h has: 68 and 100 bytes from its begin."""
        client, _ = self.pair()
        raw = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        found = round_trip(client)
        assert found is not None

        self.assertEqual(int.from_bytes(raw[68:72], sys.byteorder) / 1e6, found[0])
        self.assertEqual(104, linux._TCP_INFO.size)

    def test_nobody_tells(self) -> None:
        """Over UNIX sockets, of a closed one, by a kernel that tells less, on another system."""
        unix, other = socket.socketpair()
        closed = socket.socket()
        for each in (unix, other, closed):
            each.close()
        with Terse() as terse:
            self.assertEqual([None] * 3, [round_trip(each) for each in (unix, closed, terse)])
        self.patch(linux, "LINUX", False)

        self.assertIsNone(round_trip(self.pair()[0]))
