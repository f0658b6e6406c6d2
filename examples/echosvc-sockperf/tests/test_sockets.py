"""Tests of the responder on a real port, whose datagrams are answered where the kernel has put them."""

from __future__ import annotations

import socket

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from echosvc.testing import LoopbackReactor
from echosvc.transports import DatagramPort
from echosvc_sockperf import DatagramResponder
from tests.messages import PONG, message

UDP_SEGMENT = 103  # linux/udp.h; Python has no name for it


def bound() -> socket.socket:
    """Open a UDP socket on loopback."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(5)
    sock.bind(("127.0.0.1", 0))
    return sock


class BatchTests(SynchronousTestCase):
    """What came in together is answered together."""

    def setUp(self) -> None:
        """Open a port, and a client for it."""
        self.reactor = LoopbackReactor()
        self.addCleanup(self.reactor.close)
        server = bound()
        self.port = DatagramPort(server, DatagramResponder(), self.reactor)
        self.port.startListening()
        self.client = bound()
        self.addCleanup(self.client.close)
        self.client.connect(server.getsockname())

    def ask(self, *datagrams: bytes) -> list[bytes]:
        """Send datagrams, have them served together, and receive what comes back."""
        for each in datagrams:
            self.client.send(each)
        self.reactor.settle()
        return [self.client.recv(65535) for _ in range(self.port.datagrams_out)]

    def test_questions_alone(self) -> None:
        """A measurement: questions and nothing else, of one size and of several."""
        answers = self.ask(*(message(n, bytes(n // 4)) for n in range(20)))

        self.assertEqual(answers, [message(n, bytes(n // 4), flags=PONG) for n in range(20)])

    def test_questions_that_were_coalesced(self) -> None:
        """What a sender has cut from one buffer comes in as one (UDP_GRO); each question in it is answered."""
        questions = [message(n, bytes(86)) for n in range(10)]
        try:
            self.client.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 100)
        except OSError as problem:
            raise SkipTest("this system cuts no sends") from problem

        answers = self.ask(b"".join(questions))

        self.assertEqual(answers, [message(n, bytes(86), flags=PONG) for n in range(10)])

    def test_questions_among_other_datagrams(self) -> None:
        """Something that is no question changes nothing for the others."""
        answers = self.ask(message(1), b"hello", message(2, b"data"))

        self.assertEqual(answers, [message(1, flags=PONG), message(2, b"data", flags=PONG)])
        self.assertEqual(self.port.datagrams_in, 3)
