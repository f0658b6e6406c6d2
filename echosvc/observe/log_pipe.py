"""A log that goes to a pipe nobody reads any more, which would stop the service once it is full."""

from __future__ import annotations

import contextlib
import os
import stat
import sys

from twisted.logger import LoggingFile

__all__ = ["own_pipes"]


def own_pipes() -> None:
    """Have writes to standard output and standard error fail in place of waiting, if they are pipes.

    A pipe holds 64 KiB. Whoever has stopped reading from it (a paused pager, a container's log driver that is stuck)
    stops whoever writes to it. Whether a write waits is a property not of the pipe but of what was opened, which we
    share with whoever has started us: so the pipe is opened once more (Linux, proc(5)), for us alone. It is left as it
    is where that cannot be: on other systems, and when the pipe is another user's. A terminal is left alone, too:
    whoever pauses it is there and wants that.

    What does not fit is counted as missing, unless Python runs with PYTHONUNBUFFERED: it then says nothing of a write
    that came to nothing.

    Does nothing in a process whose log is not Twisted's.
    """
    if not isinstance(sys.stdout, LoggingFile):
        return
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                ours = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                os.dup2(ours, descriptor)
                os.close(ours)
