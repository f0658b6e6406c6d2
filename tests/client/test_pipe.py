"""The pipe: any length of stream, in bounded memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from echosvc.client import EchoPipe
from echosvc.errors import ConnectionEnded, EchoLost, EchoMismatch, OutputError
from tests.client.doubles import CLOSED, RESET, Pieces, Wire, cut, on_a_wire


class Piped:
    """A pipe on a wire, with what it gave to its sink.

    Args:
        pieces: What the source gives at once.
    """

    def __init__(self, *pieces: bytes) -> None:
        self.clock = Clock()
        self.source = Pieces(*pieces)
        self.taken = bytearray()
        self.pipe = EchoPipe(self.source, self.taken.extend, self.clock, patience=10)
        self.done = self.pipe.done
        self.wire: Wire = on_a_wire(self.pipe)

    def answer(self, *segments: bytes) -> None:
        """Let bytes come back."""
        for each in segments:
            self.pipe.dataReceived(each)


class WholeStreamTests(SynchronousTestCase):
    """Streams that come back."""

    def test_all_back(self) -> None:
        """What the source gives reaches the sink, and the pipe reports how many bytes it was."""
        piped = Piped(b"hello ", b"world", b"")
        self.assertEqual(b"hello world", piped.wire.value())
        self.assertTrue(piped.wire.half_closed)

        piped.answer(b"hel", b"lo world")
        self.assertNoResult(piped.done)
        piped.pipe.connectionLost(CLOSED)

        self.assertEqual(11, self.successResultOf(piped.done))
        self.assertEqual(b"hello world", bytes(piped.taken))
        self.assertEqual([], piped.clock.getDelayedCalls())

    @given(st.lists(st.binary(min_size=1, max_size=50), max_size=20), st.lists(st.integers(1, 60)))
    def test_any_segmentation(self, pieces: list[bytes], sizes: list[int]) -> None:
        """However source and network cut the stream, the sink gets it whole."""
        piped = Piped(*pieces, b"")

        piped.answer(*cut(piped.wire.value(), sizes))
        piped.pipe.connectionLost(CLOSED)

        self.assertEqual(b"".join(pieces), bytes(piped.taken))
        self.assertEqual(len(piped.taken), self.successResultOf(piped.done))

    def test_nothing_at_all(self) -> None:
        """An empty stream comes back as an empty stream."""
        piped = Piped(b"")
        piped.pipe.connectionLost(CLOSED)

        self.assertEqual(0, self.successResultOf(piped.done))

    def test_server_that_does_not_close(self) -> None:
        """A server that never closes is left after a moment, once everything is back."""
        piped = Piped(b"hello", b"")
        piped.answer(b"hello")

        self.assertFalse(piped.wire.disconnecting)
        piped.clock.advance(EchoPipe.GRACE)

        self.assertTrue(piped.wire.disconnecting)
        self.assertFalse(piped.wire.aborted)

    def test_reset_at_the_very_end(self) -> None:
        """A reset after everything came back takes nothing away."""
        piped = Piped(b"hello", b"")
        piped.answer(b"hello")
        piped.pipe.connectionLost(RESET)

        self.assertEqual(5, self.successResultOf(piped.done))


class BoundedTests(SynchronousTestCase):
    """What keeps memory bounded."""

    def test_window(self) -> None:
        """While a window of bytes is outstanding, the source is asked for nothing; then it is asked again."""
        half = bytes(EchoPipe.WINDOW // 2)
        piped = Piped(half, half)
        self.assertEqual(2, piped.source.times_asked)

        piped.answer(half)

        self.assertTrue(piped.source.is_asked)

    def test_many_small_pieces(self) -> None:
        """Single bytes fill the window long before there are millions of them."""
        piped = Piped(*[b"x"] * 100_000)

        self.assertTrue(piped.source.times_asked < EchoPipe.WINDOW / EchoPipe.PIECE_COST + 2)
        self.assertFalse(piped.source.is_asked)

    def test_held_up(self) -> None:
        """While the transport is held up, the source is asked for nothing."""
        piped = Piped()
        piped.pipe.pauseProducing()
        piped.source.give(b"hello")
        self.assertFalse(piped.source.is_asked)

        piped.pipe.resumeProducing()

        self.assertTrue(piped.source.is_asked)

    def test_reading_goes_on(self) -> None:
        """A pipe that is held up still reads; otherwise server and client would wait for each other."""
        piped = Piped(b"hello")
        piped.pipe.pauseProducing()
        piped.answer(b"hello")

        self.assertEqual(b"hello", bytes(piped.taken))
        self.assertEqual("producing", piped.wire.producerState)

    def test_going(self) -> None:
        """A connection that is going asks its source for nothing."""
        piped = Piped()
        piped.pipe.stopProducing()
        piped.source.give(b"hello")

        self.assertFalse(piped.source.is_asked)


class FailedTests(SynchronousTestCase):
    """Streams that do not come back."""

    def test_wrong_byte(self) -> None:
        """What is right before the first wrong byte reaches the sink, and nothing after it."""
        piped = Piped(b"hello ", b"world")
        piped.answer(b"hello", b" wOrld")
        piped.answer(b"more")

        error = self.failureResultOf(piped.done, EchoMismatch).value
        self.assertEqual((7, b"orld", b"Orld"), (error.offset, error.expected, error.received))
        self.assertEqual(b"hello w", bytes(piped.taken))
        self.assertTrue(piped.wire.aborted)
        self.assertEqual([], piped.clock.getDelayedCalls())

    def test_more_than_was_sent(self) -> None:
        """Bytes beyond the end of the stream are wrong bytes."""
        piped = Piped(b"hello", b"")
        piped.answer(b"hello!")

        error = self.failureResultOf(piped.done, EchoMismatch).value
        self.assertEqual((5, b"", b"!"), (error.offset, error.expected, error.received))

    def test_closed_too_early(self) -> None:
        """A server that closes early is reported with the count of bytes it owes."""
        piped = Piped(b"hello")
        piped.answer(b"he")
        piped.pipe.connectionLost(CLOSED)

        error = self.failureResultOf(piped.done, EchoLost).value
        self.assertEqual((3, "the server closed the connection"), (error.missing, error.why))

    def test_closed_before_the_end_of_the_input(self) -> None:
        """A server that closes although it owes nothing has still not taken the whole stream."""
        piped = Piped(b"hello")
        piped.answer(b"hello")
        piped.pipe.connectionLost(CLOSED)

        error = self.failureResultOf(piped.done, ConnectionEnded).value
        self.assertIn("before the end of the input", str(error))

    def test_silence(self) -> None:
        """When nothing comes back for as long as the pipe has patience, it ends and says what is missing."""
        piped = Piped(b"hello", b"")
        piped.clock.advance(9)
        piped.answer(b"he")
        piped.clock.pump([1, 8])
        self.assertNoResult(piped.done)
        piped.clock.pump([1, EchoPipe.MOMENT])

        error = self.failureResultOf(piped.done, EchoLost).value
        self.assertEqual((3, "nothing more came back within 10 s"), (error.missing, error.why))

    def test_patience_with_the_source(self) -> None:
        """A source may take its time: nothing is missing while nothing is outstanding."""
        piped = Piped()
        piped.clock.pump([10, 10, 5])
        piped.source.give(b"hello")
        piped.clock.pump([5, 4])
        self.assertNoResult(piped.done)

        piped.clock.pump([1, EchoPipe.MOMENT])

        self.failureResultOf(piped.done, EchoLost)

    def test_stopped_process(self) -> None:
        """A process that was stopped looks for what came meanwhile before it gives up."""
        piped = Piped(b"hello", b"")
        piped.clock.advance(3600)
        piped.answer(b"hel")
        piped.clock.advance(EchoPipe.MOMENT)

        self.assertNoResult(piped.done)

    def test_sink_fails(self) -> None:
        """When the sink fails, the pipe ends with its error."""
        piped = Piped(b"hello")

        def fail(_: bytes) -> None:
            raise OutputError("disk full")

        piped.pipe._sink = fail
        piped.answer(b"hello")

        self.failureResultOf(piped.done, OutputError)
        self.assertTrue(piped.wire.aborted)

    def test_source_fails(self) -> None:
        """When the source fails, the pipe ends with its error."""
        piped = Piped()
        piped.source.fail(OutputError("unreadable"))

        self.failureResultOf(piped.done, OutputError)
        self.assertTrue(piped.wire.aborted)

    def test_cancelled(self) -> None:
        """Cancelling ends the connection, and a piece that comes afterwards goes nowhere."""
        piped = Piped()
        piped.done.cancel()
        piped.source.give(b"late")
        piped.pipe.connectionLost(CLOSED)

        self.failureResultOf(piped.done, CancelledError)
        self.assertTrue(piped.wire.aborted)
        self.assertEqual(b"", piped.wire.value())
