"""Tests of the errors' texts and exit codes."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from echosvc import errors
from echosvc.errors import EchoLost, EchoMismatch, EchosvcError, ExitCode, LocalError, PeerError, UserError


class ErrorTests(SynchronousTestCase):
    """An error says what happened in one line, and who has to act."""

    def test_mismatch_shows_where_and_what(self) -> None:
        """Bytes are shown so that they are safe in a terminal and a log."""
        error = EchoMismatch(7, b"abc", b"a\x1b]0;\r\n")

        self.assertEqual(
            str(error),
            "wrong bytes came back at offset 7: expected b'abc', received b'a\\x1b]0;\\r\\n'",
        )
        self.assertEqual(error.exit_code, ExitCode.WRONG_BYTES)

    def test_mismatch_is_never_long(self) -> None:
        """A megabyte of wrong bytes is not a megabyte of error."""
        error = EchoMismatch(0, b"x" * 1_000_000, b"")

        self.assertLess(len(str(error)), 200)
        self.assertEqual(len(error.expected), EchoMismatch.KEPT)
        self.assertIn("received nothing", str(error))

    def test_lost_counts(self) -> None:
        """One byte is a byte."""
        self.assertTrue(str(EchoLost(1, "x")).startswith("1 byte never"))
        self.assertTrue(str(EchoLost(2, "x")).startswith("2 bytes never"))

    def test_every_error_belongs_to_one_branch(self) -> None:
        """The user, the peer or this machine: somebody has to act."""
        for name in errors.__all__:
            cls = getattr(errors, name)
            if cls in (ExitCode, EchosvcError):
                continue
            self.assertEqual(sum(issubclass(cls, branch) for branch in (UserError, PeerError, LocalError)), 1)

    def test_exit_codes_are_documented(self) -> None:
        """Every code has its sentence in the class, and none collides with a shell's own below 64."""
        self.assertEqual({code for code in ExitCode if 1 < code < 64}, set())
