"""One figure-taking: a fresh server, one work, the load generator's own account."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import attrs

from bench.build import Programs
from bench.errors import NoFigure
from bench.processes import Cores, Server, leashed, serving
from bench.rivals import Rival
from bench.works import IDLE, Work

__all__ = ["Bench", "Figures", "figures_of"]

_PATIENCE = 30.0  # seconds beyond the measured time until a load is given up

Figures = Mapping[str, float]
"""What was measured once, by name.

    cpu         microseconds of CPU per echo, of the server and its children
    rate        echoes per second
    p50, p99    microseconds from a message's first byte out to its last byte in
    busy        how much of its core the server used, 0 to 1
    errors      answers that were wrong, connections that broke
    lost        datagrams without an answer, as a share of those sent
    memory      bytes of the server's resident memory per idle connection
    connections idle connections held
"""


@attrs.frozen
class Bench:
    """Everything that stays the same during a run.

    Attributes:
        programs: What was compiled.
        cores: Who runs where.
        folder: For what servers write.
        seconds: How long is measured.
        warmup: How long before is not.
    """

    programs: Programs
    cores: Cores
    folder: Path
    seconds: float
    warmup: float

    def measure(self, work: Work, rival: Rival) -> Figures:
        """Give one server one work.

        Args:
            work: The work.
            rival: The server.

        Returns:
            The figures.

        Raises:
            NoFigure: The server did not start, speak, or do the work; the text says which.
        """
        if work.transport not in rival.transports:
            raise NoFigure(f"no usable {work.transport.upper()} echo")
        if work is IDLE and rival.forks:
            raise NoFigure("would start 10 000 processes")
        with serving(self.programs, self.cores, rival, work.transport, self.folder) as server:
            return self._idle(work, server) if work is IDLE else self._busy(work, server)

    def _busy(self, work: Work, server: Server) -> Figures:
        timing = [f"seconds={self.seconds}", f"warmup={self.warmup}", f"threads={self.cores.threads}"]
        with self._load(work, server, timing) as process:
            said, complaint = process.communicate()
        if process.returncode:
            raise NoFigure(complaint.decode(errors="replace").strip() or "did not come to an end")
        return figures_of(json.loads(said))

    def _idle(self, work: Work, server: Server) -> Figures:
        """Measure between the first connections and the last: what is built only once is not counted."""
        with self._load(work, server, []) as process:
            first = _connections(process)
            before = _resident(server.pid)
            _stream(process.stdin).write(b"\n")
            _stream(process.stdin).flush()
            last = _connections(process)
            after = _resident(server.pid)
        if last == first:
            raise NoFigure(f"held {last} connections and no more")
        return {"memory": (after - before) / (last - first), "connections": last}

    @contextlib.contextmanager
    def _load(self, work: Work, server: Server, options: list[str]) -> Iterator[subprocess.Popen[bytes]]:
        where = [f"port={server.port}", f"session={server.pid}"]
        command = [str(self.programs.load), *work.arguments, *where, *options]
        with leashed(self.programs, self.cores.load, command, subprocess.PIPE) as process:
            watchdog = threading.Timer(self.warmup + self.seconds + _PATIENCE, process.kill)
            watchdog.start()
            try:
                yield process
            finally:
                watchdog.cancel()


def figures_of(account: Mapping[str, float]) -> Figures:
    """Turn the load generator's account into figures.

    Args:
        account: Its line of JSON: counts, and times in seconds.

    Returns:
        The figures.

    Raises:
        NoFigure: Nothing came back, or the server's processes ended meanwhile, and their CPU time with them.
    """
    echoes, seconds, cpu, lost = (account[name] for name in ("echoes", "seconds", "server_cpu", "lost"))
    if not echoes:
        raise NoFigure("wrong bytes or broken connections" if account["errors"] else "no echo")
    if cpu <= 0:
        raise NoFigure("its processes ended")
    return {
        "cpu": cpu / echoes * 1e6,
        "rate": echoes / seconds,
        "p50": account["p50"] * 1e6,
        "p99": account["p99"] * 1e6,
        "busy": cpu / seconds,
        "errors": account["errors"],
        "lost": lost / (echoes + lost),
    }


def _connections(process: subprocess.Popen[bytes]) -> int:
    line = _stream(process.stdout).readline()
    if not line:
        raise NoFigure(_stream(process.stderr).read().decode(errors="replace").strip() or "no connection")
    return int(json.loads(line)["connections"])


def _resident(pid: int) -> int:
    """Read how many bytes of a process are in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def _stream(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise TypeError("leashed opens all three pipes")
    return pipe
