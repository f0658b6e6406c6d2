"""The datagram client: which reply counts for which call."""

from __future__ import annotations

import errno

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from echosvc.client import MAX_PAYLOAD, TAG_SIZE, DatagramEchoClient
from echosvc.errors import (
    ConnectionFailed,
    EchoLost,
    EchoMismatch,
    ExitCode,
    NoReply,
    PayloadTooLarge,
    Refused,
)
from echosvc.transports import IUndeliverable
from tests.client.doubles import Socket

PEER = ("192.0.2.1", 7)


class DatagramCase(SynchronousTestCase):
    """A client with an open socket."""

    def setUp(self) -> None:
        """Open it."""
        self.clock = Clock()
        self.socket = Socket()
        self.client = DatagramEchoClient(PEER, self.clock)
        self.client.makeConnection(self.socket)  # type: ignore[arg-type]  # stands in for the port

    def ask(self, payload: bytes = b"hello") -> tuple[Deferred[bytes], bytes]:
        """Make a call; return its answer and the datagram that was sent for it."""
        answer = self.client.echo(payload, 5)
        return answer, self.socket.sent[-1][0]

    def counts(self) -> tuple[int, int, int]:
        """What the client counted: late, duplicate, foreign."""
        return self.client.late, self.client.duplicate, self.client.foreign


class MatchingTests(DatagramCase):
    """Replies that count, and replies that do not."""

    def test_answer(self) -> None:
        """A call is answered with its payload; on the wire a tag stands before it."""
        answer, datagram = self.ask(b"hello")
        self.assertEqual((TAG_SIZE + 5, b"hello"), (len(datagram), datagram[TAG_SIZE:]))
        self.assertEqual(PEER, self.socket.sent[0][1])

        self.client.datagramReceived(datagram, PEER)

        self.assertEqual(b"hello", self.successResultOf(answer))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_empty_payload(self) -> None:
        """A payload of no bytes comes back like any other."""
        answer, datagram = self.ask(b"")
        self.assertNoResult(answer)
        self.client.datagramReceived(datagram, PEER)

        self.assertEqual(b"", self.successResultOf(answer))

    @given(st.permutations(range(8)))
    def test_any_order(self, order: list[int]) -> None:
        """Replies may come in any order: each answers its own call, even if all payloads are equal."""
        calls = [self.ask(b"same") for _ in order]
        for position in order:
            self.assertNoResult(calls[position][0])
            self.client.datagramReceived(calls[position][1], PEER)
            self.successResultOf(calls[position][0])

    def test_late(self) -> None:
        """A reply after the timeout answers nothing, not even a new call with the same payload."""
        first, datagram = self.ask(b"same")
        self.clock.advance(5)
        error = self.failureResultOf(first, NoReply).value
        self.assertEqual(("192.0.2.1:7", 5), (error.peer, error.timeout))
        second, _ = self.ask(b"same")

        self.client.datagramReceived(datagram, PEER)

        self.assertNoResult(second)
        self.assertEqual((1, 0, 0), self.counts())

    def test_duplicate(self) -> None:
        """A second reply to an answered call is counted as a duplicate, a second late one too."""
        _, answered = self.ask()
        self.client.datagramReceived(answered, PEER)
        lost, datagram = self.ask()
        self.clock.advance(5)
        self.failureResultOf(lost, NoReply)

        for each in (answered, datagram, datagram):
            self.client.datagramReceived(each, PEER)

        self.assertEqual((1, 2, 0), self.counts())

    def test_foreign(self) -> None:
        """A datagram from elsewhere, without our tag, or for a call never made, answers nothing."""
        answer, datagram = self.ask()
        never_made = datagram[:8] + (77).to_bytes(8) + b"hello"

        for data, source in (
            (datagram, ("192.0.2.2", 7)),
            (datagram, ("192.0.2.1", 8)),
            (b"", PEER),
            (datagram[: TAG_SIZE - 1], PEER),
            (bytes(8) + datagram[8:], PEER),
            (never_made, PEER),
        ):
            self.client.datagramReceived(data, source)

        self.assertNoResult(answer)
        self.assertEqual((0, 0, 6), self.counts())

    def test_wrong_bytes(self) -> None:
        """A reply with the right tag and a wrong byte fails the call, with the offset in the payload."""
        answer, datagram = self.ask(b"hello")
        self.client.datagramReceived(datagram[:-1] + b"O", PEER)

        error = self.failureResultOf(answer, EchoMismatch).value
        self.assertEqual((4, b"o", b"O"), (error.offset, error.expected, error.received))

    def test_wrong_length(self) -> None:
        """A reply that is cut short or longer than what was sent is wrong, too."""
        for change, expected, received in ((-2, b"lo", b""), (None, b"", b"!")):
            answer, datagram = self.ask(b"hello")
            self.client.datagramReceived(datagram[:change] if change else datagram + b"!", PEER)
            error = self.failureResultOf(answer, EchoMismatch).value
            self.assertEqual((expected, received), (error.expected, error.received))

    def test_cancelled(self) -> None:
        """A cancelled call leaves no timer, and its reply counts as late."""
        answer, datagram = self.ask()
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        self.assertEqual([], self.clock.getDelayedCalls())

        self.client.datagramReceived(datagram, PEER)
        self.assertEqual((1, 0, 0), self.counts())

    def test_bounded_memory(self) -> None:
        """However many calls are never answered, only a few are remembered; older ones count as duplicates."""
        _, oldest = self.ask()
        for _ in range(DatagramEchoClient.REMEMBERED):
            self.ask()
        for call in self.client._calls.values():
            call.answered.addErrback(lambda _: None)
        self.clock.advance(5)

        self.client.datagramReceived(oldest, PEER)

        self.assertEqual(DatagramEchoClient.REMEMBERED, len(self.client._unanswered))
        self.assertEqual((0, 1, 0), self.counts())

    def test_two_clients(self) -> None:
        """The replies of one client never count for another."""
        answer, _ = self.ask()
        other = DatagramEchoClient(PEER, self.clock)
        other.makeConnection(self.socket)  # type: ignore[arg-type]  # stands in for the port
        other.echo(b"hello", 5).addErrback(lambda _: None)

        self.client.datagramReceived(self.socket.sent[-1][0], PEER)

        self.assertNoResult(answer)
        self.assertEqual(1, self.client.foreign)


class UndeliverableTests(DatagramCase):
    """What a system says about a datagram that did not get there."""

    def test_interface(self) -> None:
        """The client is told of undeliverable datagrams by the port."""
        self.assertTrue(verifyObject(IUndeliverable, self.client))

    def test_refused(self) -> None:
        """A refusal fails the very call that was refused, at once."""
        first, datagram = self.ask()
        second, _ = self.ask()

        self.client.undeliverable(datagram, PEER, errno.ECONNREFUSED)

        self.assertEqual("192.0.2.1:7", self.failureResultOf(first, Refused).value.peer)
        self.assertNoResult(second)

    def test_too_little_came_back(self) -> None:
        """If too little of the datagram came back to tell whose it was, all outstanding calls fail."""
        calls = [self.ask()[0] for _ in range(3)]

        self.client.undeliverable(b"", PEER, errno.ECONNREFUSED)

        for each in calls:
            self.failureResultOf(each, Refused)

    def test_unreachable(self) -> None:
        """Any other error is told in the system's words."""
        answer, datagram = self.ask()
        self.client.undeliverable(datagram, PEER, errno.EHOSTUNREACH)

        self.assertIn("No route to host", str(self.failureResultOf(answer, ConnectionFailed).value))

    def test_not_ours(self) -> None:
        """An error about another peer's datagram, or one of a call that is over, changes nothing."""
        done, over = self.ask()
        self.client.datagramReceived(over, PEER)
        answer, datagram = self.ask()

        self.client.undeliverable(datagram, ("192.0.2.9", 7), errno.ECONNREFUSED)
        self.client.undeliverable(over, PEER, errno.ECONNREFUSED)

        self.successResultOf(done)
        self.assertNoResult(answer)

    def test_not_sent(self) -> None:
        """A datagram that this machine does not send fails its call at once."""
        self.socket.refusals = ["ENETUNREACH"]
        answer = self.client.echo(b"hello", 5)

        self.assertIn("Network is unreachable", str(self.failureResultOf(answer, ConnectionFailed).value))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_error_of_an_earlier_one(self) -> None:
        """A send that is met by the refusal of an earlier datagram is repeated."""
        self.socket.refusals = ["ECONNREFUSED"]
        answer, datagram = self.ask()

        self.client.datagramReceived(datagram, PEER)
        self.assertEqual(b"hello", self.successResultOf(answer))


class LimitTests(DatagramCase):
    """What cannot be sent."""

    def test_largest(self) -> None:
        """The largest payload fits, and one more byte is refused by name."""
        _, datagram = self.ask(bytes(MAX_PAYLOAD))
        self.assertEqual(65507, len(datagram))

        error = self.assertRaises(PayloadTooLarge, self.client.echo, bytes(MAX_PAYLOAD + 1), 5)
        self.assertIn(str(MAX_PAYLOAD), str(error))
        self.assertIsInstance(error, ValueError)
        self.assertEqual(ExitCode.USAGE, error.exit_code)

    def test_closed(self) -> None:
        """When the socket is closed, outstanding calls fail with their size, and new ones at once."""
        answer, _ = self.ask(b"hello")
        closed = self.client.close()
        self.assertTrue(self.socket.closed)
        self.client.doStop()

        self.successResultOf(closed)
        self.assertEqual(5, self.failureResultOf(answer, EchoLost).value.missing)
        self.assertEqual(3, self.failureResultOf(self.client.echo(b"abc", 5), EchoLost).value.missing)
        self.assertIsNone(self.successResultOf(self.client.close()))
