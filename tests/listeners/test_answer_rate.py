"""Tests of listeners whose protocol could be turned against others: they answer only so many in a second."""

from __future__ import annotations

import socket

from twisted.trial.unittest import SkipTest

from echosvc.listeners.listener import Listener
from echosvc.protocols import DatagramEcho, WireProtocol
from echosvc.transports import DatagramPort
from echosvc.transports.linux import SOL_UDP, UDP_GRO, UDP_SEGMENT
from tests.listeners.cases import udp_listener, unixgram_listener
from tests.listeners.test_listener import ListeningCase


class AmplifyingTests(ListeningCase):
    """A protocol whose answers may be longer than what they answer could be turned against others."""

    WIRE = WireProtocol(name="loud", rfc="none", summary="x", datagram=DatagramEcho, amplifies=True)

    def ask(self, client: socket.socket, listener: Listener, count: int) -> int:
        """Send datagrams; return how many were answered."""
        assert isinstance(self.port, DatagramPort)
        before = self.port.datagrams_out
        for _ in range(count):
            client.sendto(b"?", ("127.0.0.1", listener.port))
            self.port.doRead()
        return self.port.datagrams_out - before

    def test_answers_only_so_many_in_a_second(self) -> None:
        """A second's worth at once, then as time goes by; the rest is counted."""
        listener = self.start(udp_listener(answer_rate=4.0), self.WIRE)
        client = self.udp_client()

        self.assertEqual(4, self.ask(client, listener, 10))
        self.assertEqual({"answer-rate": 6}, listener.drops())
        self.reactor.advance(0.5)
        self.assertEqual(2, self.ask(client, listener, 3))
        self.assertEqual({"answer-rate": 7}, listener.drops())

    def test_the_screen_is_asked_first(self) -> None:
        """What claims to come from ourselves takes nobody's turn."""
        client, own = self.udp_client(), self.udp_client()
        listener = self.start(udp_listener(answer_rate=1.0), self.WIRE, own=own.getsockname()[1])

        self.assertEqual(0, self.ask(own, listener, 5))
        self.assertEqual(1, self.ask(client, listener, 2))
        self.assertEqual({"source-port-own": 5, "answer-rate": 1}, listener.drops())

    def test_each_datagram_of_a_burst_counts(self) -> None:
        """Many that a sender hands over at once are judged one by one, and not as one message."""
        listener = self.start(udp_listener(answer_rate=3.0), self.WIRE)
        client = self.udp_client()
        try:
            client.setsockopt(SOL_UDP, UDP_SEGMENT, 10)
        except OSError:
            raise SkipTest("needs UDP_SEGMENT") from None
        client.sendto(b"x" * 100, ("127.0.0.1", listener.port))
        self.port.doRead()

        self.assertEqual("3 datagrams (30 bytes) in, 3 (30 bytes) out", listener.totals())
        self.assertEqual({"answer-rate": 7}, listener.drops())

    def test_others_are_not_limited(self) -> None:
        """Nobody gains anything by having an echo sent to somebody else; and theirs may come in bursts."""
        listener = self.start(udp_listener(answer_rate=1.0))
        client = self.udp_client()

        self.assertEqual(20, self.ask(client, listener, 20))
        if self.port._messages.__class__.__name__ == "BatchedMessages":
            self.assertEqual(1, self.port.socket.getsockopt(SOL_UDP, UDP_GRO))

    def test_nobody_can_forge_the_name_of_a_unix_socket(self) -> None:
        """So that there is nothing to limit."""
        folder = self.folder()
        listener = self.start(unixgram_listener(str(folder / "echo"), answer_rate=1.0), self.WIRE)
        client = self.client(socket.SOCK_DGRAM)
        client.bind(str(folder / "client"))
        for _ in range(5):
            client.sendto(b"?", str(folder / "echo"))
        self.port.doRead()

        self.assertEqual({}, listener.drops())
