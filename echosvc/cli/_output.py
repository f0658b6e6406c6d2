"""Standard output and error, without surprises.

Descriptors stay as the shell opened them: making one non-blocking would do so for every program that
shares the terminal or the pipe. So writing may wait for the reader, and Ctrl-C must be able to end that.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal

from echosvc.errors import Interrupted, OutputError

__all__ = ["Output", "complain", "occupy_closed_descriptors", "printable"]


class Output:
    """Standard output.

    Attributes:
        waiting: Whether a write waits for the reader, which may take for ever. A signal handler may end it by
            raising `KeyboardInterrupt`.
        interrupted: Whether no write may wait any more. A signal handler sets it before it looks at `waiting`,
            so that no wait can slip in between.
    """

    def __init__(self) -> None:
        self.waiting = False
        self.interrupted = False

    def write(self, data: bytes) -> None:
        """Write all of it.

        Raises:
            OutputError: The reader is gone, the disk is full, standard output is closed. How much was
                written is unknown.
            Interrupted: Ctrl-C ended the waiting for a reader.
        """
        rest = memoryview(data)
        try:
            while rest:
                self._wait_for_reader()
                with contextlib.suppress(BlockingIOError):  # non-blocking, and others write to it as well
                    # As much as a descriptor that is ready takes at once: all waiting is done above, where
                    # it is known to be waiting. Ctrl-C at any other time lets ping print its summary.
                    rest = rest[os.write(1, rest[: select.PIPE_BUF]) :]
        except OSError as problem:
            raise OutputError(f"standard output: {problem.strerror}") from None

    def _wait_for_reader(self) -> None:
        if select.select([], [1], [], 0)[1]:
            return
        try:
            self.waiting = True
            if self.interrupted:
                raise Interrupted
            select.select([], [1], [])
        except KeyboardInterrupt:
            raise Interrupted from None
        finally:
            self.waiting = False

    def line(self, text: str) -> None:
        """Write one line; raises as `write` does."""
        self.write(text.encode(errors="backslashreplace") + b"\n")


def complain(text: str) -> None:
    """Write one line on standard error, if that is possible."""
    remark(f"echosvc: {' '.join(text.splitlines())}\n")


def remark(text: str) -> None:
    """Write on standard error, if that is possible."""
    with contextlib.suppress(OSError):
        os.write(2, text.encode(errors="backslashreplace"))


def printable(data: bytes) -> str:
    """Make bytes from the network safe for a terminal: what is not printable text is escaped."""
    text = data.decode(errors="backslashreplace")
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def occupy_closed_descriptors() -> None:
    """Give every standard descriptor that the caller closed (``>&-``) something that fails when used.

    Otherwise the next socket gets its number, and what is meant for standard output goes to the network.
    """
    for descriptor, wrong_way in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, wrong_way)  # the lowest free number, which is this one
