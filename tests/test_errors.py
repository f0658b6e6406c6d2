"""Tests of the errors' texts and exit codes."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from echosvc import errors
from echosvc.errors import (
    EchoLost,
    EchoMismatch,
    EchosvcError,
    ExitCode,
    InvalidConfig,
    InvalidListener,
    InvalidOption,
    LocalError,
    PeerError,
    UserError,
)


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

    def test_listener_is_named_by_who_asked(self) -> None:
        """An option or a line of a file; the way out follows it."""
        error = InvalidListener("echosvc.toml:3", "there is no protocol 'ecko'; did you mean echo?")

        self.assertEqual(str(error), "echosvc.toml:3: there is no protocol 'ecko'; did you mean echo?")
        self.assertEqual(
            (error.origin, error.problem, error.exit_code),
            ("echosvc.toml:3", "there is no protocol 'ecko'; did you mean echo?", ExitCode.USAGE),
        )

    def test_config_tells_the_first_mistake(self) -> None:
        """In the one line that there is; it says how many more there are, and keeps all of them."""
        for mistakes, text in (
            (["a:1: x"], "a:1: x"),
            (["a:1: x", "a:2: y"], "a:1: x (and 1 more; `echosvc config check` tells all)"),
            (["a:1: x", "a:2: y", "a:3: z"], "a:1: x (and 2 more; `echosvc config check` tells all)"),
        ):
            error = InvalidConfig(mistakes)
            self.assertEqual((str(error), error.mistakes), (text, tuple(mistakes)))
            self.assertEqual(error.exit_code, ExitCode.CONFIG)

    def test_one_line_whatever_is_in_it(self) -> None:
        """What came from a file or a command line cannot break the line, nor move a terminal's cursor."""
        strange = "a\nb\x1b[2J\u2028grüß\udcff"
        safe = "a\\nb\\x1b[2J\\u2028grüß\\udcff"

        self.assertEqual(str(UserError(strange)), safe)
        self.assertEqual(
            str(InvalidOption("--port", strange, "must be a number")), f"--port {safe}: must be a number"
        )
        self.assertEqual(InvalidConfig([strange, strange]).mistakes, (safe, safe))
        self.assertEqual(str(EchosvcError()), "")

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
