"""Tests of the screen in front of a listener's datagrams, on real sockets, however they are received."""

from __future__ import annotations

import socket
from pathlib import Path

from echosvc.admission import DoorSettings, ScreenSettings
from echosvc.listeners.listener import Listener
from echosvc.transports import DatagramPort, batched_messages
from tests.certificates import folder_for
from tests.listeners.cases import udp_listener
from tests.listeners.test_listener import ListeningCase


class ScreenedTests(ListeningCase):
    """What is refused is counted under its own name, and no answer is sent."""

    plain = False

    def setUp(self) -> None:
        """Choose how datagrams are received."""
        super().setUp()
        if self.plain:
            self.patch(batched_messages, "can_batch", lambda _: False)

    def ask(self, listener: Listener, *clients: socket.socket) -> int:
        """Send a datagram each; return how many were answered."""
        assert isinstance(self.port, DatagramPort)
        before = self.port.datagrams_out
        for client in clients:
            client.sendto(b"?", ("127.0.0.1", listener.port))
        self.port.doRead()
        return self.port.datagrams_out - before

    def bound(self, host: str) -> socket.socket:
        """Open a client at an address."""
        client = self.udp_client()
        other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(other.close)
        client.close()
        other.bind((host, 0))
        return other

    def test_who_may_not_ask(self) -> None:
        """Here as at the door of connections; read again on reload, without losing what is known."""
        path = Path(folder_for(self)) / "file"
        path.write_text("127.0.0.2\n")
        listener = self.start(udp_listener(door=DoorSettings(deny=(f"@{path}",))))
        first, second = self.bound("127.0.0.1"), self.bound("127.0.0.2")

        self.assertEqual([1, 0], [self.ask(listener, each) for each in (first, second)])
        path.write_text("127.0.0.1\n")
        listener.reload()
        self.assertEqual([0, 1], [self.ask(listener, each) for each in (first, second)])
        self.assertEqual({"access-denied": 2}, listener.drops())

    def test_sizes_of_messages_do_not_matter(self) -> None:
        """This machine is not limited, however many it sends, and nothing is lost."""
        listener = self.start(udp_listener(screen=ScreenSettings(rate=1.0, total=1.0)))
        client = self.bound("127.0.0.1")

        self.assertEqual([64, 64], [self.ask(listener, *[client] * 64) for _ in range(2)])
        self.assertEqual({}, listener.drops())

    def test_a_dual_stack_socket(self) -> None:
        """IPv4 is IPv4 there, too."""
        listener = self.start(udp_listener(interface="", door=DoorSettings(allow=("127.0.0.0/8",))))

        self.assertEqual(1, self.ask(listener, self.bound("127.0.0.1")))
        self.assertEqual({}, listener.drops())


class PlainScreenedTests(ScreenedTests):
    """The same where there is no recvmmsg."""

    plain = True
