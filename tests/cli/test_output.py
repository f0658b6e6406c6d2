"""Standard output and error."""

from __future__ import annotations

import errno
import os
import select

from twisted.trial.unittest import SynchronousTestCase

from echosvc.cli._output import Output, complain, occupy_closed_descriptors, printable
from echosvc.errors import Interrupted, OutputError


class OutputTests(SynchronousTestCase):
    """Writing to standard output."""

    def setUp(self) -> None:
        """Stand in for the system's write and select."""
        self.written = bytearray()
        self.behaviour: list[int | BaseException] = []  # of coming writes; others take everything
        self.sleeps = 0  # how many looks find the reader asleep
        self.output = Output()
        self.patch(os, "write", self.write)
        self.patch(select, "select", self.select)

    def write(self, descriptor: int, data: memoryview) -> int:
        """Take what the test says, or raise it."""
        behaviour = self.behaviour.pop(0) if self.behaviour else len(data)
        if isinstance(behaviour, BaseException):
            raise behaviour
        self.written += data[:behaviour]
        return behaviour

    def select(
        self, reading: list[int], writing: list[int], special: list[int], timeout: float
    ) -> tuple[list[int], list[int], list[int]]:
        """Say whether the reader is awake."""
        self.sleeps -= 1
        return [], [] if self.sleeps >= 0 else writing, []

    def test_short_writes(self) -> None:
        """What the system does not take at once is written afterwards."""
        self.behaviour = [1, 2]
        self.output.line("hello")

        self.assertEqual(b"hello\n", bytes(self.written))

    def test_non_blocking(self) -> None:
        """A descriptor that another program made non-blocking and fills, too, is tried again."""
        self.behaviour = [1, BlockingIOError(errno.EAGAIN, "again")]
        self.output.write(b"hello")

        self.assertEqual(b"hello", bytes(self.written))

    def test_reader_sleeps(self) -> None:
        """A reader that sleeps is waited for, however long it takes."""
        self.sleeps = 1000
        self.output.write(b"hello")

        self.assertEqual((b"hello", -1), (bytes(self.written), self.sleeps))

    def test_failed(self) -> None:
        """A failure is told in the system's words."""
        self.behaviour = [OSError(errno.ENOSPC, "No space left on device")]
        error = self.assertRaises(OutputError, self.output.write, b"hello")

        self.assertEqual("standard output: No space left on device", str(error))

    def test_interrupted(self) -> None:
        """After Ctrl-C a reader that sleeps is not waited for."""
        self.sleeps = 2
        self.output.interrupted = True
        self.assertRaises(Interrupted, self.output.write, b"hello")

        self.assertEqual((b"", 1), (bytes(self.written), self.sleeps))

    def test_not_interrupted(self) -> None:
        """A write that need not wait is not ended by Ctrl-C: what it says may be the summary."""
        self.output.interrupted = True
        self.output.write(b"hello")

        self.assertEqual(b"hello", bytes(self.written))

    def test_complaint(self) -> None:
        """A complaint is one line, whatever is in it; if it cannot be written, that is all right."""
        complain("one\ntwo \udcff")
        self.assertEqual(b"echosvc: one two \\udcff\n", bytes(self.written))
        self.behaviour = [OSError(errno.EBADF, "Bad file descriptor")]
        complain("nobody reads this")

    def test_printable(self) -> None:
        """Bytes from the network cannot move the cursor, and text stays text."""
        self.assertEqual("grüß\\x1b[2J\\xff\\t\\n", printable("grüß\x1b[2J".encode() + b"\xff\t\n"))


class DescriptorTests(SynchronousTestCase):
    """Standard descriptors that the caller closed."""

    def test_occupied(self) -> None:
        """Each closed descriptor is given something that fails when it is used; open ones are left alone."""
        opened: list[int] = []

        def fstat(descriptor: int) -> None:
            if descriptor != 1:
                raise OSError(errno.EBADF, "Bad file descriptor")

        self.patch(os, "fstat", fstat)
        self.patch(os, "open", lambda _, flags: opened.append(flags))
        occupy_closed_descriptors()

        self.assertEqual([os.O_WRONLY, os.O_RDONLY], opened)
