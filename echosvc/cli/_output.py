"""Standard output and error, without surprises.

Descriptors stay as the shell opened them: making one non-blocking would do so for every program that
shares the terminal or the pipe. So writing may wait for the reader, and Ctrl-C must be able to end that.
"""

from __future__ import annotations

import contextlib
import os
import select

from echosvc.errors import Interrupted, OutputError

__all__ = ["GLANCE", "Output", "complain", "occupy_closed_descriptors", "printable", "remark"]

#: Seconds between looks at whether Ctrl-C was pressed, while something else is waited for. Python runs a signal's
#: handler only between system calls: a signal just before one would have to wait as long as that does.
GLANCE = 0.2


class Output:
    """Standard output.

    Attributes:
        interrupted: Whether the reader is not to be waited for any more. What a reader takes at once is still
            written: it may be a summary.
    """

    def __init__(self) -> None:
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
                while not select.select([], [1], [], GLANCE)[1]:
                    if self.interrupted:
                        raise Interrupted
                with contextlib.suppress(BlockingIOError):  # non-blocking, and others write to it as well
                    # What a pipe that is ready takes without waiting: all waiting is done above.
                    rest = rest[os.write(1, rest[: select.PIPE_BUF]) :]
        except OSError as problem:
            raise OutputError(f"standard output: {problem.strerror}") from None

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
