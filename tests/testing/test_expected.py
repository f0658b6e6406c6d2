"""Tests of how an answer is compared with what was expected."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from echosvc.testing._expected import difference, excerpt


class DifferenceTests(SynchronousTestCase):
    """A difference is a sentence."""

    def test_what_is_expected_is_no_difference(self) -> None:
        """Bytes, a match of the whole, nothing."""
        self.assertIsNone(difference(b"abc", b"abc"))
        self.assertIsNone(difference(re.compile(b"[a-c]+"), b"abc"))
        self.assertIsNone(difference(None, None))

    def test_the_beginning_is_enough_where_there_is_no_end(self) -> None:
        """Of bytes and of a match, but not less than that."""
        self.assertIsNone(difference(b"abc", b"abcabc", beginning=True))
        self.assertIsNone(difference(re.compile(b"abc"), b"abcabc", beginning=True))
        self.assertIn("byte 2", difference(b"abc", b"ab", beginning=True) or "")

    def test_bytes_that_differ(self) -> None:
        """They are shown where they do."""
        self.assertEqual(
            difference(b"hello", b"help!"),
            "expected b'hello' (5 bytes), got b'help!' (5 bytes): they differ from byte 3 on",
        )

    def test_bytes_that_are_missing(self) -> None:
        """Or too many."""
        self.assertIn("(3 bytes): they differ from byte 3 on", difference(b"hello", b"hel") or "")
        self.assertIn("(7 bytes): they differ from byte 5 on", difference(b"hello", b"hello!!") or "")

    def test_a_pattern_that_does_not_match_the_whole(self) -> None:
        """It is shown."""
        self.assertEqual(
            difference(re.compile(b"a+"), b"aab"), "the answer b'aab' (3 bytes) does not match b'a+'"
        )

    def test_an_answer_where_there_should_be_none(self) -> None:
        """Even an empty one: an empty datagram is one."""
        self.assertEqual(difference(None, b""), "no answer was expected, and it answered b'' (0 bytes)")

    def test_no_answer_where_there_should_be_one(self) -> None:
        """It says which."""
        self.assertEqual(difference(b"", None), "expected b'' (0 bytes), and it did not answer")
        self.assertIn("expected a match of b'a+', and", difference(re.compile(b"a+"), None) or "")

    def test_of_much_a_little_is_shown(self) -> None:
        """Around the place that matters."""
        self.assertEqual(excerpt(b"x" * 100, 50), f"…{b'x' * 40!r}… (100 bytes)")
