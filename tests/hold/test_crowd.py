"""Tests of the crowd's clients, which must notice what they are there to notice."""

from __future__ import annotations

import socket

from twisted.trial.unittest import SynchronousTestCase

from tests.hold import service
from tests.hold.crowd import LARGEST, Client, Crowd
from tests.hold.promise import Broken


class ClientTests(SynchronousTestCase):
    """A client whose server is the test."""

    def setUp(self) -> None:
        """Connect one, and let it send its first piece."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        self.client = Client("127.0.0.1", listener.getsockname()[1], 1)
        self.addCleanup(self.client.sock.close)
        self.server, _ = listener.accept()
        self.addCleanup(self.server.close)
        self.server.settimeout(5)
        while self.client.sent < 2:
            self.client.next_piece()
            self.client.send()
        self.piece = self.server.recv(LARGEST)

    def answer(self, data: bytes) -> None:
        """Answer, and let the client read."""
        self.server.sendall(data)
        self.client.sock.settimeout(5)
        self.client.receive()

    def test_right(self) -> None:
        """What was sent is right, in as many parts as it comes."""
        self.answer(self.piece[:1])
        self.assertFalse(self.client.is_idle())
        self.answer(self.piece[1:])
        self.assertEqual(self.client.came, len(self.piece))

    def test_wrong(self) -> None:
        """One wrong byte is seen."""
        self.assertRaises(Broken, self.answer, self.piece[:-1] + bytes([self.piece[-1] ^ 1]))

    def test_too_much(self) -> None:
        """More than was sent is seen, even if it continues the noise."""
        more = self.client._at(self.client.sent, 10)
        self.assertRaises(Broken, self.answer, self.piece + bytes(more))

    def test_ended(self) -> None:
        """An end that nobody asked for is seen."""
        self.server.shutdown(socket.SHUT_WR)
        self.client.sock.settimeout(5)
        self.assertRaises(Broken, self.client.receive)

    def test_crowd_waits_for_all(self) -> None:
        """It ends when everything is back."""
        self.server.sendall(self.piece)
        crowd = Crowd([self.client])
        crowd.run(-1)

        self.assertTrue(self.client.is_idle())


class LaunchTests(SynchronousTestCase):
    """How twistd is started."""

    def test_as_a_user_does(self) -> None:
        """Without a wish, there is nothing between."""
        self.assertNotIn("launch.py", " ".join(service.twistd()))

    def test_on_a_reactor(self) -> None:
        """A wish goes to the launcher."""
        self.patch(service, "_reactor", None)
        service.use_reactor("poll")

        self.assertEqual(service.twistd()[-1], "poll")
        self.assertEqual(service.twistd(timer=True)[-1], "poll,timer")
