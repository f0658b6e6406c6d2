"""Starting programs on their cores, waiting until they answer, and ending them whatever happens."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Literal

import attrs

from bench.build import Programs
from bench.errors import NoFigure
from bench.rivals import Rival
from bench.servers.ports import free_port

__all__ = ["Cores", "Server", "leashed", "serving", "split_cores"]

_ROOT = Path(__file__).parent.parent
_PATIENCE = 15.0  # seconds for a server to start


@attrs.frozen
class Cores:
    """Who runs where.

    Attributes:
        server: One core.
        load: The others.
    """

    server: int
    load: tuple[int, ...]

    @property
    def threads(self) -> int:
        """Threads for the load: two if they have a core each, which is more than any server here can answer."""
        return min(2, len(self.load))


@attrs.frozen
class Server:
    """A server that answers.

    Attributes:
        port: Where, on 127.0.0.1.
        pid: Its first process, and the number of the session that all of its processes are in.
    """

    port: int
    pid: int


def split_cores(available: Sequence[int]) -> Cores:
    """Give the server a core of its own.

    Args:
        available: The cores that this process may use.

    Returns:
        The last one for the server (the first often serves interrupts), the others for the load; on a machine
        with a single core both have that one, and the figures say little.
    """
    *load, server = sorted(available)
    return Cores(server, tuple(load) or (server,))


@contextlib.contextmanager
def leashed(
    programs: Programs, cores: Sequence[int], command: Sequence[str], stdout: int | IO[bytes]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command on some cores, in a session of its own, and end that session afterwards.

    Args:
        programs: For the leash.
        cores: Where it may run.
        command: The command.
        stdout: Where its output and error output go, or `subprocess.PIPE` for the output alone.

    Yields:
        The process; its number is that of its session and process group.
    """
    process = subprocess.Popen(  # noqa: S603  # our own words, no shell
        [str(programs.leash), ",".join(map(str, cores)), *command],
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=subprocess.PIPE if stdout == subprocess.PIPE else subprocess.STDOUT,
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": str(_ROOT), "PYTHONUNBUFFERED": "1"},
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            process.kill()  # if the leash had not come to open its session yet
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


@contextlib.contextmanager
def serving(
    programs: Programs, cores: Cores, rival: Rival, transport: Literal["tcp", "udp"], folder: Path
) -> Iterator[Server]:
    """Run a server for as long as the context lasts.

    Args:
        programs: For the leash.
        cores: For the server's core.
        rival: Which server.
        transport: What it is going to be asked.
        folder: For its files; left as they are.

    Yields:
        The server, after it has answered once.

    Raises:
        NoFigure: It ended, or did not answer in time.
    """
    told = free_port()
    output = folder / f"{rival.name}.log"
    with (
        output.open("wb") as log,
        leashed(programs, [cores.server], rival.command(folder, told), log) as process,
    ):
        deadline = time.monotonic() + _PATIENCE
        port = told if rival.announces is None else None
        while port is None or not _answers(port, transport):
            said = output.read_text(errors="replace")
            if process.poll() is not None:
                raise NoFigure(f"did not start: {_last_line(said)}")
            if time.monotonic() > deadline:
                raise NoFigure(f"did not answer within {_PATIENCE:.0f} s: {_last_line(said)}")
            if port is None and (found := re.search(rival.announces or "", said, re.MULTILINE)):
                port = int(found[1])
            else:
                time.sleep(0.01)
        yield Server(port, process.pid)


def _answers(port: int, transport: Literal["tcp", "udp"]) -> bool:
    kind = socket.SOCK_STREAM if transport == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.settimeout(1)
        try:
            probe.connect(("127.0.0.1", port))
            probe.send(b"ready?")
            return probe.recv(64) == b"ready?"
        except OSError:
            return False


def _last_line(text: str) -> str:
    return next(reversed(text.strip().splitlines()), "(it said nothing)")
