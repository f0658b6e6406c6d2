"""The conversation at a terminal, without one."""

from __future__ import annotations

import errno

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from echosvc.cli import _conversation
from echosvc.cli._conversation import Conversation
from echosvc.cli._datagrams import PlainDatagrams
from echosvc.cli._input import Lines
from echosvc.cli._output import Output
from echosvc.errors import ConnectionEnded, ConnectionFailed, EchoLost, ExitCode, OutputError, Refused
from echosvc.transports import IUndeliverable
from tests.client.doubles import Pieces, Socket

PEER = ("192.0.2.1", 7)


class Screen(Output):
    """Standard output and error, as text."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def write(self, data: bytes) -> None:
        """Show what goes to standard output."""
        self.text += data.decode()

    def remark(self, text: str) -> None:
        """Show what goes to standard error."""
        self.text += text


class ConversationCase(SynchronousTestCase):
    """A user, and a service that the test plays."""

    def setUp(self) -> None:
        """Begin a conversation."""
        self.clock = Clock()
        self.keyboard = Pieces()
        self.screen = Screen()
        self.patch(_conversation, "remark", self.screen.remark)
        self.conversation = Conversation(Lines(self.keyboard), self.screen, self.clock, 5)
        self.asked: list[tuple[bytes, Deferred[bytes]]] = []
        self.ended = Deferred.fromCoroutine(self.conversation.hold(self.ask))

    def ask(self, line: bytes) -> Deferred[bytes]:
        """Take a question."""
        answer: Deferred[bytes] = Deferred()
        self.asked.append((line, answer))
        return answer

    def type(self, line: bytes) -> Deferred[bytes]:
        """Type a line; return its answer."""
        self.keyboard.give(line + b"\n")
        self.assertEqual(line, self.asked[-1][0])
        return self.asked[-1][1]

    def assert_screen(self, text: str) -> None:
        """The screen shows exactly this since last time."""
        self.assertEqual(text, self.screen.text)
        self.screen.text = ""


class ConversationTests(ConversationCase):
    """What the user sees, and how it ends."""

    def test_echo(self) -> None:
        """A line, its echo, and the next prompt."""
        self.assert_screen("> ")
        answer = self.type(b"hello")
        self.assert_screen("")
        answer.callback(b"hello")
        self.assert_screen("hello\n> ")

        self.keyboard.give(b"q\n")
        self.assertEqual(ExitCode.OK, self.successResultOf(self.ended))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_late_echo(self) -> None:
        """An echo that comes after the user has gone on is printed, followed by a new prompt."""
        answer = self.type(b"hello")
        self.clock.advance(5)
        self.assert_screen("> nothing came back within 5 s\n> ")
        answer.callback(b"hello")
        self.assert_screen("\nhello\n> ")

        self.keyboard.give(b"")
        self.assertEqual(ExitCode.OK, self.successResultOf(self.ended))

    def test_never(self) -> None:
        """Who leaves while an echo is missing is told so by the exit code."""
        self.type(b"hello")
        self.clock.advance(5)
        self.keyboard.give(b"q\n")

        self.assertEqual(ExitCode.NO_REPLY, self.successResultOf(self.ended))

    def test_gone_on(self) -> None:
        """A question that was given up for the next one stays unanswered, without a word."""
        first = self.type(b"one")
        self.clock.advance(5)
        second = self.type(b"two")
        first.addErrback(lambda failure: failure)
        first.errback(CancelledError())
        second.callback(b"two")
        self.keyboard.give(b"q\n")

        self.assertEqual(ExitCode.NO_REPLY, self.successResultOf(self.ended))
        self.assert_screen("> nothing came back within 5 s\n> two\n> ")

    def test_refused(self) -> None:
        """A refusal is a remark, and the conversation goes on."""
        self.type(b"hello").errback(Refused("there:7"))
        self.assert_screen("> there:7 refused: nobody listens there\n> ")
        self.keyboard.give(b"q\n")

        self.assertEqual(ExitCode.UNAVAILABLE, self.successResultOf(self.ended))

    def test_lost(self) -> None:
        """A lost echo ends it, at once or when the user has gone on already."""
        self.type(b"hello").errback(EchoLost(6, "gone"))
        self.failureResultOf(self.ended, EchoLost)

        self.setUp()
        answer = self.type(b"hello")
        self.clock.advance(5)
        answer.errback(EchoLost(6, "gone"))
        self.conversation.end(ConnectionEnded("gone"))
        self.assertEqual(6, self.failureResultOf(self.ended, EchoLost).value.missing)

    def test_ended_from_outside(self) -> None:
        """The end of the connection ends it while the prompt waits, on a new line."""
        self.conversation.end(ConnectionEnded("gone"))

        self.failureResultOf(self.ended, ConnectionEnded)
        self.assert_screen("> \n")

    def test_ended_before_it_began(self) -> None:
        """A connection that is gone already is no conversation."""
        conversation = Conversation(Lines(self.keyboard), self.screen, self.clock, 5)
        conversation.end(ConnectionEnded("gone"))

        self.failureResultOf(Deferred.fromCoroutine(conversation.hold(self.ask)), ConnectionEnded)

    def test_interrupted(self) -> None:
        """Cancelling ends it."""
        self.ended.cancel()

        self.failureResultOf(self.ended, CancelledError)

    def test_unasked(self) -> None:
        """What comes while nothing is waited for is shown, and the prompt again."""
        self.conversation.unasked(b"surprise\x07")

        self.assert_screen("> \nunasked: surprise\\x07\n> ")

    def test_input_fails(self) -> None:
        """Standard input that cannot be read ends it."""
        self.keyboard.fail(OutputError("unreadable"))

        self.failureResultOf(self.ended, OutputError)

    def test_output_fails(self) -> None:
        """Standard output that cannot be written ends it."""

        def fail(_: bytes) -> None:
            raise OutputError("full")

        self.patch(self.screen, "write", fail)
        self.type(b"hello").callback(b"hello")

        self.failureResultOf(self.ended, OutputError)


class LinesTests(SynchronousTestCase):
    """Standard input by lines."""

    def test_any_pieces(self) -> None:
        """Lines are found however the input is cut; the last one may lack its end."""
        lines = Lines(Pieces(b"one\ntw", b"o\n", b"\nlast", b"", b""))
        found = [self.successResultOf(Deferred.fromCoroutine(lines.next())) for _ in range(6)]

        self.assertEqual([b"one", b"two", b"", b"last", None, None], found)


class PlainDatagramsTests(SynchronousTestCase):
    """Datagrams without a tag."""

    def setUp(self) -> None:
        """Open a socket."""
        self.unasked: list[bytes] = []
        self.socket = Socket()
        self.datagrams = PlainDatagrams(PEER, self.unasked.append)
        self.datagrams.makeConnection(self.socket)  # type: ignore[arg-type]  # stands in for the port

    def test_answer(self) -> None:
        """What comes from the peer next is the answer, whatever it says; others are not heard."""
        answer = self.datagrams.ask(b"hello")
        self.assertEqual([(b"hello", PEER)], self.socket.sent)

        self.datagrams.datagramReceived(b"not me", ("192.0.2.2", 7))
        self.assertNoResult(answer)
        self.datagrams.datagramReceived(b"HELLO", PEER)
        self.datagrams.datagramReceived(b"again", PEER)

        self.assertEqual(b"HELLO", self.successResultOf(answer))
        self.assertEqual([b"again"], self.unasked)

    def test_next_question(self) -> None:
        """The next question gives up the one before."""
        first, second = self.datagrams.ask(b"one"), self.datagrams.ask(b"two")
        self.datagrams.datagramReceived(b"two", PEER)

        self.failureResultOf(first, CancelledError)
        self.assertEqual(b"two", self.successResultOf(second))

    def test_undeliverable(self) -> None:
        """A refusal fails the question that waits; one that is no longer waited for changes nothing."""
        self.assertTrue(verifyObject(IUndeliverable, self.datagrams))
        answer = self.datagrams.ask(b"hello")
        self.datagrams.undeliverable(b"hello", ("192.0.2.2", 7), errno.ECONNREFUSED)
        self.assertNoResult(answer)
        self.datagrams.undeliverable(b"hello", PEER, errno.ECONNREFUSED)
        self.datagrams.undeliverable(b"hello", PEER, errno.ECONNREFUSED)

        self.failureResultOf(answer, Refused)

    def test_not_sent(self) -> None:
        """What this machine does not send fails at once."""
        self.socket.refusals = ["EPERM"]

        self.failureResultOf(self.datagrams.ask(b"hello"), ConnectionFailed)
