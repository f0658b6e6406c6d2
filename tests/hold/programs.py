"""What promises share that start programs of their own, or very many connections."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from tests.hold.carriers import Stream
from tests.hold.promise import Skipped

__all__ = ["allow_descriptors", "program", "reset_at_end"]


@contextlib.contextmanager
def program(name: str, *arguments: object, prefix: Sequence[str] = ()) -> Iterator[subprocess.Popen[str]]:
    """Run one of the programs beside this file, for as long as the context lasts.

    Args:
        name: Its module.
        arguments: What it is told.
        prefix: A command that starts the command.
    """
    # -P keeps the module names of the working directory out of the program's way.
    command = [*prefix, sys.executable, "-P", "-m", f"tests.hold.{name}", *map(str, arguments)]
    checkout = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True, env=checkout
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def allow_descriptors(count: int) -> Iterator[None]:
    """Allow us and what we start so many connections.

    Raises:
        Skipped: The system does not.
    """
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = count + 200
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], enough), max(before[1], enough)))
    except (ValueError, OSError):
        raise Skipped(f"needs {enough} descriptors; `ulimit -Hn` allows {before[1]}") from None
    try:
        yield
    finally:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, before)


S = TypeVar("S", bound=Stream)


def reset_at_end(sock: S) -> S:
    """Have a connection reset when it is closed, so that no port stays in TIME_WAIT, in somebody's way."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
    return sock
