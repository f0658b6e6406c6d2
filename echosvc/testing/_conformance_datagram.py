"""The conformance kit for wire protocols on datagrams, in memory."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cached_property
from typing import TypeAlias

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import AbstractDatagramProtocol

from echosvc.testing._conformance import Calls, Conformance, TurnedClock, steps, ticks
from echosvc.testing._datagrams import LARGEST_DATAGRAM, MemoryDatagramPort
from echosvc.testing._expected import ANYTHING, difference, excerpt
from echosvc.transports import Source

__all__ = ["DatagramConformance"]

#: Sizes at which something has been seen to break: powers of two, Ethernet's and jumbo frames', Twisted's default of 8192.
_EDGES = (
    4095,
    4096,
    4097,
    8191,
    8192,
    8193,
    8972,
    9000,
    16_384,
    32_767,
    32_768,
    LARGEST_DATAGRAM - 1,
    LARGEST_DATAGRAM,
)

_Datagram: TypeAlias = tuple[bytes, Source]

#: Who asks: over IPv4, IPv6, from a link-local address, and on a UNIX socket (RFC 5737, RFC 3849).
_ASKERS: Sequence[Source] = (
    ("192.0.2.1", 1025),
    ("192.0.2.1", 1026),
    ("203.0.113.9", 1025),
    ("2001:db8::1", 40000),
    ("fe80::1%eth0", 40001),
    "/run/asker",
)


class DatagramConformance(Conformance):
    """Tests that every wire protocol on datagrams must pass. Mix it into a trial test case:

        class TestShoutDatagrams(DatagramConformance, SynchronousTestCase):
            wire = SHOUT

            def expected(self, sent: bytes) -> bytes:
                return sent.upper()

    An answer of None means that there is none; an empty answer is a datagram, too. Datagrams are in memory and time is
    fake.
    """  # noqa: D415  # the example belongs to the sentence

    def make_protocol(self, reactor: IReactorTime) -> AbstractDatagramProtocol:
        """Build the protocol that is tested. Override this for one that has to be handed a reactor.

        Args:
            reactor: Keeps the fake time.
        """
        return self._wire().make_datagram(self.options)

    def payload(self, size: int) -> bytes:
        """Make a datagram of so many bytes that makes sense to the protocol. Override this if most do not."""
        return (bytes(range(0x20, 0x7F)) * (size // 95 + 1))[:size]

    # -- the promises

    def test_the_empty_datagram(self) -> None:
        """A datagram may be empty (RFC 768), and is answered like any other."""
        port = self._open()
        port.deliver(b"")
        self._replied(b"", self._replies(port, b""), "takes a datagram of no bytes")

    def test_every_size(self) -> None:
        """Every datagram is taken whole: every size to 2100, and edges up to the largest there is, 65507 bytes."""
        port = self._open()
        for size in (*range(1, 2101), *_EDGES):
            sent = self.payload(size)
            port.deliver(sent)
            self._replied(sent, self._replies(port, sent), "takes datagrams of every size")

    def test_the_answer_goes_to_whoever_asked(self) -> None:
        """Each answer is written to the very address that came with the question, which remembers the way back."""
        port = self._open()
        promise = "answers whoever asked, at the very address object it was handed: that remembers where it was asked"
        for size, asker in enumerate([*_ASKERS] * 3, 5):
            sent = self.payload(size)
            source = port.deliver(sent, asker)
            for answer, addr in self._replies(port, sent):
                kind = "an equal one, made anew" if addr == source else repr(addr)
                self._hold(addr is source, promise, f"{source!r} asked; {excerpt(answer)} went to {kind}.")
        port.deliver(self.payload(5), None)  # a UNIX socket without a name cannot be answered
        self._let_pass()
        self._nothing_raised()

    def test_a_batch_is_answered_as_single_datagrams_are(self) -> None:
        """Datagrams that came in together are answered as if they had come in one by one, in order for each peer."""
        sizes = [5, 5, 5, 0, 0, 700, 1, 1400, 1400, 3] * 13  # more than one batch
        questions = [(self.payload(size), _ASKERS[n % 4]) for n, size in enumerate(sizes)]
        one_by_one = self._open()
        for question in questions:
            one_by_one.deliver(*question)
        self._let_pass()
        singles = one_by_one.take()
        together = self._open()
        together.deliver_batch(questions)
        self._let_pass()
        self._nothing_raised()
        self._same(questions, singles, together.take())

    def test_one_answer_at_most(self) -> None:
        """No datagram is answered by two: two that answer each other would make a storm."""
        port = self._open()
        for size in (1, 100, 1000):
            sent = self.payload(size)
            port.deliver(sent)
            answers = self._replies(port, sent)
            self._hold(
                len(answers) <= 1, "answers once", f"{excerpt(sent)} was answered {len(answers)} times."
            )

    def test_no_answer_is_longer_than_its_request(self) -> None:
        """Anyone can ask in anyone's name: longer answers would multiply what a forger sends (US-CERT TA14-017A)."""
        port = self._open()
        promise = "answers with no more bytes than it was sent, or says so (WireProtocol.amplifies) and is rate-limited"
        for size in (*range(1, 300), 512, 1000, 1472):
            sent = self.payload(size)
            port.deliver(sent)
            for answer, _ in self._replies(port, sent):
                kept = len(answer) <= size or self._wire().amplifies
                self._hold(kept, promise, f"{size} bytes were answered with {len(answer)}.")

    def test_any_datagram_raises_nothing(self) -> None:
        """A datagram may say what it likes: all 256 bytes, and nonsense of any length."""
        port = self._open()
        dice = random.Random(768)  # noqa: S311  # the same nonsense every time
        for sent in (bytes(range(256)), b"\xff" * 1472, *(dice.randbytes(n) for n in range(1, 300))):
            port.deliver(sent)
            self._replies(port, sent)

    def test_a_closed_port_leaves_nothing_behind(self) -> None:
        """When the port is closed, no timer is left, with or without something received."""
        for received in (False, True):
            calls = Calls(self._clock)
            port = self._open()
            if received:
                port.deliver(self.payload(100))
            port.stopListening()
            left = ", ".join(map(str, calls.new()))
            self._hold(not left, "cancels its timers in stopProtocol", f"Left: {left}")
        self._let_pass()
        self._nothing_raised()

    # -- what they share

    @cached_property
    def _clock(self) -> TurnedClock:
        return TurnedClock()

    def _open(self) -> MemoryDatagramPort:
        port = MemoryDatagramPort(self.make_protocol(self._clock), clock=self._clock)
        self.addCleanup(port.stopListening)
        return port

    def _let_pass(self) -> None:
        for step in steps(self.patience):
            self._clock.pump(ticks(step))

    def _replies(self, port: MemoryDatagramPort, sent: bytes) -> list[tuple[bytes, Source]]:
        """Take the answers to one datagram, as soon as there are any, or none for as long as patience lasts."""
        if not port.sent and self.expected(sent) is not None:
            for step in steps(self.patience):
                self._clock.pump(ticks(step))
                if port.sent:
                    break
        self._nothing_raised()
        return port.take()

    def _replied(self, sent: bytes, answers: Sequence[tuple[bytes, Source]], promise: str) -> None:
        expected = self.expected(sent)
        if expected is not ANYTHING:
            problem = difference(expected, answers[0][0] if answers else None)
            self._hold(problem is None, promise, f"Sent {excerpt(sent)}: {problem}.")

    def _same(
        self, questions: Sequence[_Datagram], singles: Sequence[_Datagram], batch: Sequence[_Datagram]
    ) -> None:
        """Hold that a batch was answered as it was to be, and as its datagrams were one by one."""
        promise = "answers a batch as it answers its datagrams one by one"
        for asker in {addr for _, addr in questions}:
            asked, wanted, got = (
                [payload for payload, addr in datagrams if addr == asker]
                for datagrams in (questions, singles, batch)
            )
            instead = f"{asker!r}: {len(wanted)} answers one by one, {len(got)} to a batch."
            self._hold(len(wanted) == len(got), promise, instead)
            for number, problem in enumerate(self._differences(asked, wanted, got)):
                self._hold(problem is None, promise, f"{asker!r}, answer {number}: {problem}.")

    def _differences(
        self, asked: Sequence[bytes], wanted: Sequence[bytes], got: Sequence[bytes]
    ) -> list[str | None]:
        """Compare answers to a batch with what is expected, or, where nothing is, with those to single datagrams."""
        expected = [answer for answer in map(self.expected, asked) if answer is not None]
        if len(expected) != len(got) or ANYTHING in expected:
            return [difference(*pair) for pair in zip(wanted, got, strict=True)]
        return [
            None if answer is ANYTHING else difference(answer, came)
            for answer, came in zip(expected, got, strict=True)
        ]
