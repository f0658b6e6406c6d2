"""What holds for every wire protocol on a stream, however its clients connect."""

from __future__ import annotations

import abc
import random
from functools import cached_property
from typing import Any, Protocol

from twisted.internet.interfaces import IProtocolFactory

from echosvc.testing._conformance import Conformance, TurnedClock, steps, ticks
from echosvc.testing._expected import ANYTHING, Expected, difference
from echosvc.testing._streams import MemoryListener

__all__ = ["STEP", "Client", "StreamPromises"]

#: Bytes that are much for a connection in memory.
BULK = 1024 * 1024

#: Less than Twisted's transports queue before they pause their producer.
STEP = 48 * 1024

#: Bytes that are read of an answer without end.
ENOUGH = 128 * 1024

#: Bytes that a client sends at once that makes it easy.
_LITTLE = 4096

#: Turns of the reactor in which a protocol that sends by itself, a line a turn, would have written too much.
_TURNS = 20_000

#: Bytes after which an answer is taken to be without end.
ENDLESS = 64 * 1024 * 1024


class Client(Protocol):
    """What a promise needs of a client: `MemoryClient` and `SocketClient` have it."""

    @property
    def waiting(self) -> int:
        """How many bytes were sent that the server does not take."""

    @property
    def is_finished(self) -> bool:
        """Whether the server will send no more."""

    def send(self, data: bytes) -> None:
        """Send."""

    def send_eof(self) -> None:
        """Send no more (FIN)."""

    def receive(self, limit: int | None = None) -> bytes:
        """Take what has arrived."""

    def abort(self) -> None:
        """Reset the connection."""


class StreamPromises(Conformance):
    """The tests. What they mean by connecting, and by time, is for others to say.

    Attributes:
        sample: What a client would send, whole: it is cut at every byte, and repeated.
        endless: The protocol sends as long as somebody reads (chargen). `expected` then tells how the answer begins.
        closes_first: The protocol says something and closes, without waiting for the client to finish (daytime).
        many: How many clients connect at once.
        max_held: Bytes that the protocol may hold, in its transport's queue or elsewhere, for a client that does not
            read.
    """

    sample: bytes = "Hello, wörld! €\r\nA second line, and \0 and \t.\r\n".encode()
    endless: bool = False
    closes_first: bool = False
    many: int = 20
    max_held: int = 1024 * 1024

    #: Bytes that are sent to find out whether there is a bound, and that may be on the way outside of the protocol.
    _flood = 16 * 1024 * 1024
    _on_the_way = 0

    #: Bytes that are sent before a client finishes. A queue that is dropped then is seen only by a client for which just
    #: that queue is neither empty nor full enough to pause its producer (64 KiB): some of these are.
    _sizes = range(STEP, BULK + STEP, STEP)

    #: Bytes that a slow reader reads at once.
    _sip = 2000

    def make_factory(self, reactor: Any) -> IProtocolFactory:
        """Build the factory that is tested. Override this for one that has to be handed a reactor.

        Args:
            reactor: Keeps the fake time. A protocol that uses ``self.transport.reactor`` need not be handed it.
        """
        return self._wire().make_stream(self.options)

    # -- for whoever knows how clients connect

    @abc.abstractmethod
    def _connect(self, *, window: int | None = None) -> Client:
        """Connect a client, with room for as many bytes as the test asks, if it can be chosen."""

    @abc.abstractmethod
    def _pass(self, seconds: float) -> None:
        """Let time pass."""

    @abc.abstractmethod
    def _left(self) -> list[str]:
        """Name what is left of connections: timed calls, and connections that the server has not closed."""

    def _queued(self, client: Client) -> int:
        """How many bytes wait in the transport, if that can be known."""
        return 0

    def _is_unaware(self, client: Client) -> bool:
        """Whether the server has not noticed that its client is gone, if that can be known."""
        return False

    # -- the promises

    def test_the_answer_does_not_depend_on_segments(self) -> None:
        """A stream has no messages: the answer is the same in one piece, byte by byte, and cut at any byte."""
        sample = self.sample
        self._hold(sample, "answers something", "`sample` is empty: set it to what a client would send.")
        cuts = {"in one piece": [sample], "byte by byte": [bytes([byte]) for byte in sample]}
        cuts |= {f"cut after byte {n}": [sample[:n], sample[n:]] for n in range(1, len(sample))}
        for how, pieces in cuts.items():
            client = self._connect()
            for piece in pieces:
                self._send(client, piece)
            client.send_eof()
            received = self._read_on(client)
            client.abort()
            self._nothing_raised()
            self._answered(sample, received, "answers the same however the input is cut", f"Sent {how}")

    def test_everything_before_the_end_of_input_is_answered(self) -> None:
        """A client may finish (FIN) before it reads: it gets its whole answer, and then the connection is closed."""
        promise = "answers everything that came before the end of the input, and knows IHalfCloseableProtocol if it must"
        for size in self._sizes:
            sent = self._repeat(size)
            client = self._connect()
            client.send(sent)
            client.send_eof()
            received = self._read_on(client)
            self._nothing_raised()
            self._answered(sent, received, promise, f"Sent {len(sent)} bytes and FIN, and then read")
            if not self.endless:
                self._ended(client, "closes the connection when the client has finished")
            client.abort()

    def test_no_input(self) -> None:
        """A client that sends nothing at all is served and closed like any other."""
        client = self._connect()
        if not self.closes_first:
            client.send_eof()
        received = self._read_on(client)
        self._nothing_raised()
        self._answered(b"", received, "serves a client that sends nothing", "Sent nothing")
        if not self.endless:
            self._ended(client, "closes the connection")
            self._pass_all()
            left = self._left()
            self._hold(not left, "leaves nothing behind when it has closed", f"Left: {', '.join(left)}")
        client.abort()
        self._nothing_raised()

    def test_an_abort_leaves_nothing_behind(self) -> None:
        """A client may reset the connection (RST) at any moment: no timer is left, and nothing is raised."""
        promise = "cancels its timers and lets go of the connection in connectionLost"
        moments = [self.sample[:n] for n in range(len(self.sample) + 1)]
        for sent in [*moments, self._repeat(BULK)]:
            for finished in (False, True):
                client = self._connect()
                if sent:
                    self._send(client, sent)
                if finished:
                    client.send_eof()
                client.abort()
                self._pass(0)
                self._nothing_raised()
                how = f"Reset after {len(sent)} bytes{' and FIN' if finished else ''}"
                if self._is_unaware(client):  # it neither reads nor writes, and so cannot know yet
                    self._pass_all()
                left = self._left()
                self._hold(not left, promise, f"{how}; left: {', '.join(left)}")
        self._pass_all()
        self._nothing_raised()

    def test_a_client_that_never_reads_costs_little(self) -> None:
        """A client that sends and never reads is not read from for ever, or all its answers would be in memory."""
        client = self._connect()
        piece = self._repeat(64 * 1024)
        sent = 0
        promise = "stops reading, or writing, while its client does not read (registerProducer)"
        while sent < self._flood and not client.waiting and self._queued(client) <= self.max_held:
            self._send(client, piece)
            sent += len(piece)
        for _ in range(_TURNS if self.endless else 0):
            self._pass(0)
        queued = self._queued(client)
        self._hold(queued <= self.max_held, promise, f"{queued} bytes wait in the transport.")
        self._nothing_raised()
        taken = sent - client.waiting
        flood = piece * (sent // len(piece))
        owed = self.expected(flood[:taken])
        if isinstance(owed, bytes) and not self.endless:
            instead = f"It took {taken} bytes, and owes answers of {len(owed)}."
            self._hold(len(owed) <= self.max_held + self._on_the_way, promise, instead)
        client.send_eof()
        received = self._read_on(client)
        client.abort()
        self._nothing_raised()
        self._answered(
            flood, received, "reads and writes on when its client does", "Sent too much, and then read"
        )

    def test_a_slow_reader_gets_everything(self) -> None:
        """A client that reads a little now and then is alive: it gets its whole answer, in order."""
        sent = self._repeat(32 * self._sip)
        client = self._connect(window=4096)
        client.send(sent)
        received = bytearray()
        for _ in range(32):
            received += client.receive(self._sip)
            self._pass(2.0)
        client.send_eof()
        received += self._read_on(client, len(received))
        client.abort()
        self._nothing_raised()
        promise = "waits for a client that reads slowly, and writes on where it has paused"
        self._answered(
            sent, bytes(received), promise, "Read a little every other second for a minute, then all"
        )

    def test_many_clients_at_once(self) -> None:
        """Connections know nothing of each other: each client gets its own answer, whoever else is served."""
        clients = [(self._connect(), self.sample * (number % 7 + 1)) for number in range(self.many)]
        step = len(self.sample) // 2 + 1
        for start in range(0, len(self.sample) * 7, step):
            for client, sent in clients:
                if piece := sent[start : start + step]:
                    self._send(client, piece)
        for client, _ in clients:
            client.send_eof()
        answers = [(sent, self._read_on(client)) for client, sent in clients]
        for client, _ in clients:
            client.abort()
        self._nothing_raised()
        for sent, received in answers:
            promise = "keeps what it knows of a connection in that connection's protocol"
            self._answered(sent, received, promise, f"{self.many} clients sent by turns")

    def test_any_bytes_raise_nothing(self) -> None:
        """A client may send what it likes: all 256 bytes, nonsense, a line without end."""
        dice = random.Random(862)  # noqa: S311  # the same nonsense every time
        inputs = [
            bytes(range(256)),
            bytes(reversed(range(256))),
            b"\0" * 10_000,
            b"\xff" * 10_000,
            b"x" * 60_000,
        ]
        inputs += [dice.randbytes(dice.randrange(4, 2000)) for _ in range(50)]
        for sent in inputs:
            client = self._connect()
            half = len(sent) // 2
            for piece in (sent[:half], sent[half:]):
                self._send(client, piece)
            client.send_eof()
            received = self._read_on(client)
            client.abort()
            self._nothing_raised()
            if self.expected(sent) is not ANYTHING:
                self._answered(sent, received, "takes any bytes", f"Sent {len(sent)} bytes of nonsense")

    # -- what they share

    def _repeat(self, size: int) -> bytes:
        """At least so many bytes of whole samples."""
        return self.sample * -(-size // len(self.sample))

    def _send(self, client: Client, data: bytes) -> None:
        client.send(data)
        self._pass(0)

    def _pass_all(self) -> None:
        for step in steps(self.patience):
            self._pass(step)

    def _read_on(self, client: Client, already: int = 0) -> bytes:
        """Read until the end, or until nothing has come for as long as patience lasts, or enough has come."""
        received = bytearray()
        for step in steps(self.patience):
            self._pass(step)
            while piece := client.receive():
                received += piece
                if self.endless and already + len(received) >= ENOUGH:
                    return bytes(received)
                if len(received) > ENDLESS:
                    self.fail(
                        f"{len(received)} bytes came, and no end. If that is meant, set endless = True."
                    )
            if client.is_finished:
                break
        return bytes(received)

    def _ended(self, client: Client, promise: str) -> None:
        self._hold(client.is_finished, promise, f"{self.patience:g} seconds later it had not.")

    def _answered(self, sent: bytes, received: bytes, promise: str, how: str) -> None:
        expected: Expected = self.expected(sent)
        if expected is ANYTHING:
            expected = self._reference(sent)
            if self.endless:
                expected, received = expected[: len(received)], received[: len(expected)]
        problem = difference(b"" if expected is None else expected, received, beginning=self.endless)
        self._hold(problem is None, promise, f"{how}: {problem}.")

    def _reference(self, sent: bytes) -> bytes:
        """What the protocol answers to a client that makes it easy: it reads whenever it has sent a little."""
        if sent not in self._references:
            clock = TurnedClock()
            client = MemoryListener(self.make_factory(clock), clock=clock).connect()
            answer = bytearray()
            enough = ENOUGH if self.endless else ENDLESS
            for start in range(0, len(sent), _LITTLE):
                client.send(sent[start : start + _LITTLE])
                clock.advance(0)
                answer += client.receive() if len(answer) < enough else b""
            client.send_eof()
            for step in steps(self.patience):
                clock.pump(ticks(step))
                while len(answer) < enough and (piece := client.receive()):
                    answer += piece
            client.abort()
            self._references[sent] = bytes(answer)
        return self._references[sent]

    @cached_property
    def _references(self) -> dict[bytes, bytes]:
        return {}
