"""A stream through a datagram service."""

from __future__ import annotations

import errno
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from echosvc.client import TAG_SIZE, DatagramEchoClient
from echosvc.client.datagram_pipe import CHUNK, WINDOW, pipe_datagrams
from echosvc.errors import EchoLost, EchoMismatch, OutputError, Refused
from tests.client.doubles import Pieces, Socket

PEER = ("192.0.2.1", 7)


class Piped:
    """A running pipe, with what it gave to its sink.

    Args:
        pieces: What the source gives at once.
    """

    def __init__(self, *pieces: bytes) -> None:
        self.clock = Clock()
        self.socket = Socket()
        self.client = DatagramEchoClient(PEER, self.clock)
        self.client.makeConnection(self.socket)  # type: ignore[arg-type]  # stands in for the port
        self.source = Pieces(*pieces)
        self.taken = bytearray()
        self.done: Deferred[int] = Deferred.fromCoroutine(
            pipe_datagrams(self.client, self.source, self.taken.extend, patience=5)
        )

    def take_sent(self) -> list[bytes]:
        """Take the datagrams that were sent."""
        sent = [datagram for datagram, _ in self.socket.sent]
        self.socket.sent.clear()
        return sent

    def answer(self, *datagrams: bytes) -> None:
        """Let datagrams come back."""
        for each in datagrams:
            self.client.datagramReceived(each, PEER)


class DatagramPipeTests(SynchronousTestCase):
    """What a user of `echosvc talk --udp` in a pipe gets."""

    @given(st.lists(st.integers(1, 3 * CHUNK), max_size=5), st.randoms(use_true_random=False))
    def test_order(self, sizes: list[int], random: object) -> None:
        """Datagrams may overtake each other; the sink gets the stream in order all the same."""
        pieces = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
        piped = Piped(*pieces, b"")
        for sent in islice(iter(piped.take_sent, []), 1000):
            random.shuffle(sent)  # type: ignore[attr-defined]  # a random.Random, by hypothesis
            piped.answer(*sent)

        self.assertEqual(b"".join(pieces), bytes(piped.taken))
        self.assertEqual(len(piped.taken), self.successResultOf(piped.done))

    def test_window(self) -> None:
        """Only a small window of small datagrams is on the way at a time."""
        piped = Piped(bytes(CHUNK * WINDOW * 2), b"")
        sent = piped.take_sent()
        self.assertEqual([CHUNK + TAG_SIZE] * WINDOW, [len(each) for each in sent])

        piped.answer(sent[0])

        self.assertEqual(1, len(piped.take_sent()))
        piped.done.addErrback(lambda _: None)
        piped.done.cancel()

    def test_handed_on_at_once(self) -> None:
        """What came back is handed on even while the source has nothing more to give yet."""
        piped = Piped(b"hello")
        piped.answer(*piped.take_sent())

        self.assertEqual(b"hello", bytes(piped.taken))
        self.assertNoResult(piped.done)
        piped.source.give(b"")
        self.assertEqual(5, self.successResultOf(piped.done))

    def test_lost(self) -> None:
        """A lost datagram ends the pipe, with the count of everything that did not come back."""
        piped = Piped(b"a" * CHUNK + b"b" * CHUNK + b"c" * 10 + b"", b"more")
        first, _, third, more = piped.take_sent()
        piped.clock.advance(3)
        piped.answer(first, more)
        piped.clock.advance(2)

        error = self.failureResultOf(piped.done, EchoLost).value
        self.assertEqual(CHUNK + 10, error.missing)
        self.assertIn("no reply from 192.0.2.1:7 within 5 s", error.why)
        self.assertEqual(b"a" * CHUNK, bytes(piped.taken))
        piped.answer(third)
        self.assertEqual(1, piped.client.late)

    def test_wrong_bytes(self) -> None:
        """Wrong bytes are reported at their offset in the whole stream."""
        piped = Piped(b"a" * CHUNK + b"hello")
        first, second = piped.take_sent()
        piped.answer(first, second[:-1] + b"O")

        error = self.failureResultOf(piped.done, EchoMismatch).value
        self.assertEqual((CHUNK + 4, b"o", b"O"), (error.offset, error.expected, error.received))

    def test_refused(self) -> None:
        """A refused port ends the pipe at once."""
        piped = Piped(b"hello" * CHUNK)
        piped.client.undeliverable(b"", PEER, errno.ECONNREFUSED)

        self.failureResultOf(piped.done, Refused)
        self.assertEqual([], piped.clock.getDelayedCalls())

    def test_source_fails(self) -> None:
        """When the source fails, the pipe ends with its error."""
        piped = Piped()
        piped.source.fail(OutputError("unreadable"))

        self.failureResultOf(piped.done, OutputError)

    def test_sink_fails(self) -> None:
        """When the sink fails, the pipe ends with its error and waits for nothing more."""
        piped = Piped()

        def fail(_: bytes) -> None:
            raise OutputError("disk full")

        piped.done.addErrback(lambda _: None)
        piped.done.cancel()
        done = Deferred.fromCoroutine(
            pipe_datagrams(piped.client, Pieces(b"x" * 3 * CHUNK), fail, patience=5)
        )
        piped.answer(piped.take_sent()[0])

        self.failureResultOf(done, OutputError)
        self.assertEqual([], piped.clock.getDelayedCalls())

    def test_cancelled(self) -> None:
        """Cancelling ends it, and leaves no timer."""
        piped = Piped(b"hello")
        piped.done.cancel()

        self.failureResultOf(piped.done, CancelledError)
        self.assertEqual([], piped.clock.getDelayedCalls())
