"""Tests of what a health check asks, and of which answers it takes."""

from __future__ import annotations

import time
from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from echosvc.cli._questions import CLOSED, CONNECTED, SILENCE, Question, datagram_question, stream_question
from echosvc.protocols import known
from echosvc.protocols.chargen import PATTERN
from echosvc.protocols.daytime import daytime
from echosvc.protocols.qotd import QotdOptions
from echosvc.protocols.time import time_octets

DAYTIME = daytime(1e9)
QUOTE = QotdOptions().quotes[0]
NOW = time_octets(time.time())


def stream(protocol: str) -> Question:
    """The question for a stream."""
    question = stream_question(protocol)
    assert question is not None
    return question


def datagram(protocol: str) -> Question:
    """The question for datagrams."""
    question = datagram_question(protocol)
    assert question is not None
    return question


class StreamTests(SynchronousTestCase):
    """Over a connection."""

    def test_echo(self) -> None:
        """The same bytes, in as many pieces as the network likes; less, more or others are wrong."""
        question = stream("echo")
        said = question.says
        other = b"X" * len(said)

        self.assertEqual([None, None, True], [question.judge(each, False) for each in (b"", said[:5], said)])
        self.assertEqual(
            [False] * 3, [question.judge(each, False) for each in (other, other[:1], said + b"x")]
        )
        self.assertEqual([False] * 2, [question.judge(each, True) for each in (b"", said[:5])])
        self.assertNotEqual(said, stream("echo").says)

    def test_discard(self) -> None:
        """Nothing, until it ends as we do."""
        question = stream("discard")

        self.assertEqual(
            (None, True, False),
            tuple(question.judge(*each) for each in ((b"", False), (b"", True), (b"x", False))),
        )
        self.assertTrue(question.says and question.ends)

    def test_chargen(self) -> None:
        """Its first line; nobody waits for the end of what has none."""
        question = stream("chargen")

        self.assertEqual(
            [None, True, True], [question.judge(PATTERN[:each], False) for each in (10, 74, 4096)]
        )
        self.assertEqual([False, False], [question.judge(QUOTE, False), question.judge(PATTERN[:10], True)])

    def test_those_that_say_one_thing(self) -> None:
        """It must be theirs, and whole."""
        right = {"daytime": DAYTIME, "qotd": QUOTE, "time": NOW}
        for protocol, answer in right.items():
            question = stream(protocol)
            for says, said in right.items():
                self.assertEqual(says == protocol, question.judge(said, True), (protocol, says))
            self.assertIsNone(question.judge(answer, False))
            self.assertEqual([False] * 2, [question.judge(each, True) for each in (b"", answer + b"\0")])
            self.assertIs(False, question.judge(PATTERN[:600], False))

    def test_the_time(self) -> None:
        """Clocks may differ by a day, also around the day in 2036 when the count begins again."""
        question = datagram("time")
        for now in (time.time(), 2_085_978_496.0):
            self.patch(time, "time", partial(float, now))
            near = [question.judge(time_octets(now + late), True) for late in (-80_000, 80_000)]
            far = [question.judge(time_octets(now + late), True) for late in (-90_000, 90_000)]
            self.assertEqual(([True] * 2, [False] * 2), (near, far))

    def test_those_that_nobody_knows(self) -> None:
        """It is enough to be connected; and whoever serves others only closes at once."""
        self.assertIsNone(stream_question("shout"))
        self.assertEqual((True, False), (CONNECTED.judge(b"", False), CONNECTED.judge(b"", True)))
        self.assertEqual([None, True], [CLOSED.judge(b"", False), CLOSED.judge(b"", True)])
        self.assertIs(False, CLOSED.judge(b"x", False))


class DatagramTests(SynchronousTestCase):
    """With datagrams."""

    def test_each(self) -> None:
        """Each takes what is its own, and nothing that another would answer to the same question."""
        answers = {"daytime": DAYTIME, "qotd": QUOTE, "time": NOW, "chargen": PATTERN[:20]}
        for protocol in ("echo", *answers):
            question = datagram(protocol)
            given = {**answers, "echo": question.says}
            right = {name for name, answer in given.items() if question.judge(answer, True)}
            self.assertEqual({protocol}, right)
            self.assertFalse(question.silent)

    def test_chargen_may_say_nothing(self) -> None:
        """RFC 864: 0 to 512 characters; and not more than it was asked with."""
        question = datagram("chargen")

        self.assertTrue(question.judge(b"", True))
        self.assertTrue(question.says)

    def test_the_silent_ones(self) -> None:
        """Whatever comes is wrong."""
        for question in (datagram("discard"), SILENCE):
            self.assertTrue(question.silent)
            self.assertFalse(question.judge(b"", True))
        self.assertIsNone(datagram_question("shout"))

    def test_all_of_ours_are_known(self) -> None:
        """No protocol of the package is forgotten."""
        ours = [each.name for each in known() if each.provider == "echosvc"]

        self.assertEqual(
            [], [each for each in ours if stream_question(each) is None or datagram_question(each) is None]
        )
