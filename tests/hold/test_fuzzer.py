"""Tests of the mutations, and of whoever judges what a parser made of them."""

from __future__ import annotations

from itertools import islice

from twisted.trial.unittest import SynchronousTestCase

from tests.hold.fuzzer import LONGEST, Tally, mutations
from tests.hold.parsers import TARGETS, Target


def judging(data: bytes) -> bool:
    """A parser that cannot bear a NUL."""
    if b"\0" in data:
        raise IndexError("a NUL")
    return data.isdigit()


class MutationTests(SynchronousTestCase):
    """What is made of the seeds."""

    def test_same_for_the_same_seed(self) -> None:
        """A fault that was found is found again."""
        first, second, other = (list(islice(mutations((b"abc", b"12345"), seed), 100)) for seed in (1, 1, 2))
        self.assertEqual(first, second)
        self.assertNotEqual(first, other)

    def test_bounded(self) -> None:
        """None is longer than it may be, however long the seeds are."""
        longest = max(map(len, islice(mutations((bytes(10 * LONGEST),), 1), 1000)))
        self.assertEqual(longest, LONGEST)

    def test_varied(self) -> None:
        """Most are new, and some are still what the seeds were."""
        made = list(islice(mutations((b"PROXY TCP4 192.0.2.1",), 1), 1000))
        self.assertGreater(len(set(made)), 800)
        self.assertGreater(sum(each.startswith(b"PROXY") for each in made), 100)


class TallyTests(SynchronousTestCase):
    """What is counted, and what is not forgiven."""

    def test_counts(self) -> None:
        """Every input is counted, and those that were understood once more."""
        tally = Tally(Target((), judging))
        for data in (b"1", b"x", b"22"):
            tally(data)
        self.assertRegex(str(tally), r"^3 2 \d+\.\d$")

    def test_fault(self) -> None:
        """What a parser raises is a fault, and the input that caused it is named."""
        problem = self.assertRaises(IndexError, Tally(Target((), judging)), b"1\0")
        self.assertEqual(problem.__notes__, [r"the input: b'1\x00'"])

    def test_found_by_mutations(self) -> None:
        """A fault in a parser is found."""
        tally = Tally(Target((), judging))

        def run() -> None:
            for data in islice(mutations((b"123", b"45"), 25), 2000):
                tally(data)

        self.assertRaises(IndexError, run)

    def test_seeds_are_understood(self) -> None:
        """Every parser understands one of its seeds at least: else nothing but refusals would be tried."""
        for name in ("proxy", "control", "target", "endpoint"):
            target = TARGETS[name]()
            self.assertTrue(any(map(target.judge, target.seeds)), name)
