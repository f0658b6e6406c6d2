"""The stream client: every byte that comes back is checked."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionAborted
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from echosvc.client import EchoClient, EchoClientFactory
from echosvc.errors import EchoLost, EchoMismatch
from tests.client.doubles import CLOSED, RESET, Wire, cut, on_a_wire


def connected() -> tuple[EchoClient, Wire]:
    """Make a client on a wire."""
    client = EchoClientFactory().buildProtocol(None)
    return client, on_a_wire(client)


class MatchingTests(SynchronousTestCase):
    """Which bytes answer which call."""

    def test_answer(self) -> None:
        """A call is answered with the bytes that came back."""
        client, wire = connected()

        answer = client.echo(b"hello")
        self.assertEqual(b"hello", wire.value())
        self.assertNoResult(answer)
        client.dataReceived(b"hello")

        self.assertEqual(b"hello", self.successResultOf(answer))
        self.assertEqual(5, client.verified)

    @given(
        st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=20),
        st.lists(st.integers(1, 30), max_size=60),
    )
    def test_any_segmentation(self, messages: list[bytes], sizes: list[int]) -> None:
        """However the network cuts the stream, every call is answered with its own bytes, in order."""
        client, wire = connected()
        answered: list[bytes] = []
        for message in messages:
            client.echo(message).addCallback(answered.append)

        for segment in cut(wire.value(), sizes):
            client.dataReceived(segment)

        self.assertEqual(messages, answered)

    def test_nothing_to_send(self) -> None:
        """An echo of no bytes is answered at once."""
        client, wire = connected()

        self.assertEqual(b"", self.successResultOf(client.echo(b"")))
        self.assertEqual(b"", wire.value())

    def test_mutable_input(self) -> None:
        """What is compared is what was sent, even if the caller has changed its buffer since."""
        client, _ = connected()
        buffer = bytearray(b"before")
        answer = client.echo(memoryview(buffer))
        buffer[:] = b"after!"

        client.dataReceived(b"before")

        self.assertEqual(b"before", self.successResultOf(answer))

    def test_cancelled(self) -> None:
        """A call that was cancelled keeps its place in the stream."""
        client, _ = connected()
        first, second = client.echo(b"one"), client.echo(b"two")
        first.cancel()
        self.failureResultOf(first, CancelledError)

        client.dataReceived(b"onetwo")

        self.assertEqual(b"two", self.successResultOf(second))

    def test_echo_from_an_answer(self) -> None:
        """An answer may ask the next question, even when the bytes for it have arrived already."""
        client, wire = connected()
        client.echo(b"a").addCallback(lambda _: client.echo(b"b"))

        client.dataReceived(b"a")
        self.assertEqual(b"ab", wire.value())

    def test_huge_echo_in_small_segments(self) -> None:
        """A megabyte that comes back in pieces of 16 bytes is one answer."""
        client, _ = connected()
        data = bytes(range(256)) * 4096
        answer = client.echo(data)

        for start in range(0, len(data), 16):
            client.dataReceived(data[start : start + 16])

        self.assertIs(data, self.successResultOf(answer))


class WrongBytesTests(SynchronousTestCase):
    """What happens when something else comes back."""

    def test_all_outstanding_fail(self) -> None:
        """A wrong byte fails every outstanding call and aborts the connection."""
        client, wire = connected()
        done = client.echo(b"0123456789")
        client.dataReceived(b"0123456789")
        first, second = client.echo(b"abc"), client.echo(b"def")

        client.dataReceived(b"abX")

        self.successResultOf(done)
        for each in (first, second):
            error = self.failureResultOf(each, EchoMismatch).value
            self.assertEqual((12, b"c", b"X"), (error.offset, error.expected, error.received))
        self.assertTrue(wire.aborted)
        self.assertIs(error, client.problem)

    @given(st.binary(min_size=1, max_size=300), st.data())
    def test_offset(self, sent: bytes, data: st.DataObject) -> None:
        """The error names the position of the first wrong byte, wherever it is and however it arrives."""
        wrong = data.draw(st.integers(0, len(sent) - 1))
        received = bytearray(sent)
        received[wrong] ^= data.draw(st.integers(1, 255))
        client, _ = connected()
        answer = client.echo(sent)

        for segment in cut(bytes(received), data.draw(st.lists(st.integers(1, 50)))):
            client.dataReceived(segment)

        self.assertEqual(wrong, self.failureResultOf(answer, EchoMismatch).value.offset)

    def test_bytes_that_nobody_asked_for(self) -> None:
        """Bytes beyond what was sent are wrong bytes, at an offset after everything that was right."""
        client, wire = connected()
        answer = client.echo(b"ok")

        client.dataReceived(b"ok, and more")

        self.assertEqual(b"ok", self.successResultOf(answer))
        assert client.problem is not None
        self.assertEqual((2, b""), (client.problem.offset, client.problem.expected))
        self.assertTrue(wire.aborted)

    def test_afterwards(self) -> None:
        """After wrong bytes nothing more is compared, and a new call fails at once."""
        client, wire = connected()
        client.dataReceived(b"?")
        client.dataReceived(b"?")

        error = self.failureResultOf(client.echo(b"abc"), EchoLost).value
        self.assertIn("offset 0", str(error))
        self.assertEqual(b"", wire.value())

        client.connectionLost(Failure(ConnectionAborted()))
        self.assertIn("offset 0", self.successResultOf(client.when_gone()))


class LostConnectionTests(SynchronousTestCase):
    """What happens when the connection ends."""

    def test_missing_bytes(self) -> None:
        """Each outstanding call fails with the count of its own bytes that never came back."""
        client, _ = connected()
        first, second = client.echo(b"12345"), client.echo(b"abc")
        client.dataReceived(b"12")

        client.connectionLost(CLOSED)

        self.assertEqual(3, self.failureResultOf(first, EchoLost).value.missing)
        error = self.failureResultOf(second, EchoLost).value
        self.assertEqual((3, "the server closed the connection"), (error.missing, error.why))

    def test_why(self) -> None:
        """A reset is told from a close, and anything else is told in its own words."""
        for reason, words in ((RESET, "reset"), (Failure(OSError("no more tea")), "no more tea")):
            client, _ = connected()
            client.connectionLost(reason)
            self.assertIn(words, self.successResultOf(client.when_gone()))

    def test_echo_afterwards(self) -> None:
        """After the end a call fails at once, the empty one too, and everything sent counts as missing."""
        client, _ = connected()
        client.connectionLost(CLOSED)

        self.assertEqual(4, self.failureResultOf(client.echo(b"late"), EchoLost).value.missing)
        self.assertEqual(0, self.failureResultOf(client.echo(b""), EchoLost).value.missing)


class ClosingTests(SynchronousTestCase):
    """What `close` does."""

    def test_waits_for_outstanding(self) -> None:
        """Closing half-closes at once, and ends the connection when the last echo is back."""
        client, wire = connected()
        answer = client.echo(b"hello")

        closed = client.close()
        self.assertTrue(wire.half_closed)
        self.assertFalse(wire.disconnecting)
        client.dataReceived(b"hello")
        self.assertTrue(wire.disconnecting)
        self.assertNoResult(closed)
        client.connectionLost(CLOSED)

        self.assertEqual(b"hello", self.successResultOf(answer))
        self.assertIsNone(self.successResultOf(closed))

    def test_nothing_outstanding(self) -> None:
        """With nothing outstanding the connection is closed at once, even if the server would keep it."""
        client, wire = connected()

        client.close()

        self.assertTrue(wire.disconnecting)
        self.assertFalse(wire.aborted)

    def test_echo_while_closing(self) -> None:
        """After close() nothing more can be sent."""
        client, _ = connected()
        client.close()

        self.failureResultOf(client.echo(b"x"), EchoLost)

    def test_twice(self) -> None:
        """Closing again waits for the same end, and closing what is gone is done at once."""
        client, _ = connected()
        first, second = client.close(), client.close()
        client.connectionLost(CLOSED)

        for each in (first, second, client.close()):
            self.assertIsNone(self.successResultOf(each))

    def test_cancel(self) -> None:
        """Who does not want to wait any longer cancels, and the connection is aborted."""
        client, wire = connected()
        answer = client.echo(b"hello")
        closed = client.close()

        closed.cancel()
        self.assertTrue(wire.aborted)
        client.connectionLost(Failure(ConnectionAborted()))

        self.failureResultOf(closed, CancelledError)
        self.assertEqual("the connection was aborted here", self.failureResultOf(answer, EchoLost).value.why)

    def test_close_from_an_answer(self) -> None:
        """The last answer may close the connection."""
        client, wire = connected()
        closing: list[Deferred[None]] = []
        client.echo(b"x").addCallback(lambda _: closing.append(client.close()))

        client.dataReceived(b"x")

        self.assertTrue(wire.disconnecting)
        self.assertEqual(1, len(closing))
