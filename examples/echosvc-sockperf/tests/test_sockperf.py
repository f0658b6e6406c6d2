"""Tests of the responder to sockperf, in memory: the conformance kit of echosvc, and what is sockperf's own."""

from __future__ import annotations

from importlib.metadata import entry_points

from twisted.trial.unittest import SynchronousTestCase

from echosvc.protocols import find
from echosvc.testing import DatagramConformance, MemoryDatagramPort, MemoryListener, StreamConformance
from echosvc_sockperf import SOCKPERF
from tests.messages import CLIENT, PONG, WARM_UP, answer, answers, message

#: The first message of ``sockperf ping-pong -m 32`` (3.7), as it was seen on the wire; its data are random.
SEEN = bytes.fromhex("0000000000000001 0003 00000020 d4abb2cdc69b 000102030405060708090a0b")


class StreamConformanceTests(StreamConformance, SynchronousTestCase):
    """Connections are served as every wire protocol must."""

    wire = SOCKPERF
    sample = message(1, b"hello") + message(2, flags=CLIENT) + message(3, b"\xff" * 9)

    def expected(self, sent: bytes) -> bytes | None:
        """Expect all answers."""
        return answers(sent)


class DatagramConformanceTests(DatagramConformance, SynchronousTestCase):
    """Datagrams are answered as every wire protocol must."""

    wire = SOCKPERF

    def payload(self, size: int) -> bytes:
        """Make a message; what is too short for one is not answered."""
        return message(size, bytes(size - 14)) if size >= 14 else bytes(size)

    def expected(self, sent: bytes) -> bytes | None:
        """Expect an answer to a message."""
        return answer(sent)


class MessageTests(SynchronousTestCase):
    """Which messages are answered, over a connection and in a datagram alike."""

    def check(self, sent: bytes, expected: bytes | None) -> None:
        """Send one message, and see what comes."""
        client = MemoryListener(SOCKPERF).connect()
        port = MemoryDatagramPort(SOCKPERF)

        client.send(sent)
        port.deliver(sent)

        self.assertEqual(client.receive(), expected or b"")
        self.assertEqual([payload for payload, _ in port.take()], [] if expected is None else [expected])

    def test_a_message_comes_back_as_the_servers(self) -> None:
        """The answer is the message with the client's flag cleared, and nothing else changed."""
        self.check(SEEN, SEEN.replace(b"\x00\x03", b"\x00\x02", 1))

    def test_other_flags_come_back(self) -> None:
        """Flags that nobody knows are the client's own affair."""
        self.check(message(7, b"x", flags=0xFF03), message(7, b"x", flags=0xFF02))

    def test_only_what_asks_is_answered(self) -> None:
        """A throughput test asks for no answers; a message to warm up is not answered, nor is an answer."""
        for flags in (0, CLIENT, PONG, WARM_UP | CLIENT | PONG):
            self.check(message(1, b"data", flags=flags), None)


class StreamTests(SynchronousTestCase):
    """Messages one after the other."""

    def test_an_answer_does_not_wait_for_the_whole_message(self) -> None:
        """What has come of a message is on its way back: nothing but the beginning of a header waits."""
        client = MemoryListener(SOCKPERF).connect()
        sent = message(1, bytes(1000))

        client.send(sent[:13])
        before = client.receive()
        client.send(sent[13:500])

        self.assertEqual(before, b"")
        self.assertEqual(client.receive(), message(1, bytes(1000), flags=PONG)[:500])

    def test_the_largest_message(self) -> None:
        """Sockperf sends up to 1 048 575 bytes over TCP."""
        client = MemoryListener(SOCKPERF).connect(window=2**21)

        client.send(message(1, bytes(2**20 - 15)))

        self.assertEqual(client.receive(), message(1, bytes(2**20 - 15), flags=PONG))
        self.assertFalse(client.is_finished)

    def test_what_is_no_message_closes_the_connection(self) -> None:
        """A length that no message has: what was asked before is answered, and nothing after."""
        for length in (0, 13, 2**20, 2**32 - 1):
            for more in (b"", message(3)):
                client = MemoryListener(SOCKPERF).connect()

                client.send(message(1) + message(2, length=length) + more)

                self.assertEqual(client.receive(), message(1, flags=PONG))
                self.assertTrue(client.is_closed)

    def test_after_a_refusal_everything_is_thrown_away(self) -> None:
        """More may come in while the connection closes: it is neither answered nor kept."""
        client = MemoryListener(SOCKPERF).connect(
            window=1
        )  # so that it does not close before its answer is read
        client.send(message(1) + b"GET / HTTP/1.1\r\n")
        before = vars(client.protocol).copy()

        client.protocol.dataReceived(message(2) * 100)

        self.assertEqual(vars(client.protocol), before)
        self.assertEqual(b"".join(client.receive() for _ in range(20)), message(1, flags=PONG))
        self.assertTrue(client.is_closed)


class DatagramTests(SynchronousTestCase):
    """Each datagram is a message."""

    def test_a_wrong_length_is_not_answered(self) -> None:
        """A datagram that is cut, or has something else behind the message, is none of sockperf's."""
        port = MemoryDatagramPort(SOCKPERF)

        for sent in (SEEN[:-1], SEEN + b"\0", SEEN[:13], message(1, length=0)):
            port.deliver(sent)

        self.assertEqual(port.take(), [])

    def test_questions_alone_that_cannot_be_changed_in_place(self) -> None:
        """Where payloads are read-only, as in memory and on UNIX sockets, each question is answered by a copy."""
        port = MemoryDatagramPort(SOCKPERF)
        asker = ("192.0.2.1", 1025)

        port.deliver_batch([(message(1), asker), (message(2), asker)])

        self.assertEqual(port.take(), [(message(1, flags=PONG), asker), (message(2, flags=PONG), asker)])

    def test_questions_among_other_datagrams(self) -> None:
        """Of what came in together only questions are answered, each to whoever asked."""
        port = MemoryDatagramPort(SOCKPERF)
        ann, bob = ("192.0.2.1", 1025), ("192.0.2.2", 1025)

        port.deliver_batch([(message(1), ann), (b"hello", ann), (message(2), bob), (b"", bob)])

        self.assertEqual(port.take(), [(message(1, flags=PONG), ann), (message(2, flags=PONG), bob)])


class EntryPointTests(SynchronousTestCase):
    """The package, once it is installed."""

    def test_it_is_found_by_name(self) -> None:
        """A listener finds sockperf by the name that the package's entry point gives it."""
        self.assertIn("sockperf", entry_points(group="echosvc.protocols").names)
        self.assertIs(find("sockperf"), SOCKPERF)
