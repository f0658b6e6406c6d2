"""What a second worker is worth: ``python -m bench.workers``. One worker on one core, two on two, the load on the others.

Each work is given to both in turn, several times, so that what the machine does meanwhile meets both. It needs four cores.

Two workers answer as much as two threads of the load can ask, or more: what is measured then is the load. So where control
groups may be made (version 1, as root) each process of the service gets half a core's time and no more, and the load has
two cores for one. Elsewhere the workers have all of their cores, and a ratio less than 2 may be the load's: the heading says which.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.build import Programs, build
from bench.errors import NoFigure
from bench.measure import Figures, figures_of
from bench.processes import leashed
from bench.works import WORKS, Work

__all__ = ["main"]

#: What is measured, how often, and for how many seconds each time.
NAMES, ROUNDS, SECONDS = ("tcp-50", "tcp-200", "connect", "udp-50"), 5, 2.0

#: Seconds for workers to serve.
_PATIENCE = 15.0

#: Where control groups of version 1 are made that limit a processor's time.
_GROUPS = Path("/sys/fs/cgroup/cpu")

#: Microseconds that a process may use, and in how many. In so short a time no window and no buffer runs full.
_QUOTA, _PERIOD = 5_000, 10_000


def main() -> None:
    """Measure, and print a line for each work."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 4:
        raise SystemExit("bench.workers: needs four cores")
    *load, first, second = cores
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        programs = build(folder)
        limit = (
            f"{_QUOTA / _PERIOD:.0%} of a core" if _can_limit() else "a core: the load's two may be the bound"
        )
        sys.stdout.write(f"each worker has {limit}; rate, cores used, rate for each core used\n")
        for work in (each for each in WORKS if each.name in NAMES):
            one, two = [], []
            for _ in range(ROUNDS):
                one.append(_measure(programs, folder, work, load, [second]))
                two.append(_measure(programs, folder, work, load, [first, second]))
            _print(work, one, two)


def _print(work: Work, one: Sequence[Figures], two: Sequence[Figures]) -> None:
    # Of each round by itself: what changes slowly about the machine divides out.
    times = [after["rate"] / before["rate"] for before, after in zip(one, two, strict=True)]
    sys.stdout.write(
        f"{work.name:<8} one: {_cells(one)}   two: {_cells(two)}"
        f"   {statistics.median(times):.2f} times ({min(times):.2f} to {max(times):.2f})\n"
    )
    sys.stdout.flush()


def _cells(taken: Sequence[Figures]) -> str:
    rate, busy = (statistics.median(each[name] for each in taken) for name in ("rate", "busy"))
    return f"{rate:>7.0f}/s {busy:.2f} {statistics.median(each['rate'] / each['busy'] for each in taken):>7.0f}/s"


def _measure(
    programs: Programs, folder: Path, work: Work, load: Sequence[int], cores: Sequence[int]
) -> Figures:
    with _serving(programs, folder, cores) as (port, session):
        where = [f"port={port}", f"session={session}", f"seconds={SECONDS}", "warmup=0.5", "threads=2"]
        command = [str(programs.load), *work.arguments, *where]
        with leashed(programs, load, command, subprocess.PIPE) as process:
            said, complaint = process.communicate(timeout=_PATIENCE + SECONDS)
    if process.returncode:
        raise NoFigure(complaint.decode(errors="replace").strip())
    return figures_of(json.loads(said))


@contextmanager
def _serving(programs: Programs, folder: Path, cores: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Run as many workers as there are cores; tell the port and the session."""
    command = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile="]
    command += ["echosvc", "--port", "0", "--interface", "127.0.0.1", "--workers", str(len(cores))]
    output = folder / "workers.log"
    with output.open("wb") as log, leashed(programs, cores, command, log) as process:
        until = time.monotonic() + _PATIENCE
        while not (found := re.search(r"listens on TCP \S*:(\d+), \d+ workers", output.read_text())):
            if time.monotonic() > until or process.poll() is not None:
                raise NoFigure(f"the workers do not serve: {output.read_text()[-200:]}")
            time.sleep(0.02)
        time.sleep(0.5)  # until the one that stands by has come up, too
        with _limited(process.pid):
            yield int(found[1]), process.pid


def _can_limit() -> bool:
    return (_GROUPS / "cpu.cfs_quota_us").exists() and os.access(_GROUPS, os.W_OK)


@contextmanager
def _limited(session: int) -> Iterator[None]:
    """Let each process of a session use so much and no more, if that can be done: each has a group of its own."""
    groups: list[Path] = []
    try:
        for pid in _processes(session) if _can_limit() else ():
            groups.append(_GROUPS / f"echosvc-bench-{pid}")
            groups[-1].mkdir()
            (groups[-1] / "cpu.cfs_period_us").write_text(f"{_PERIOD}")
            (groups[-1] / "cpu.cfs_quota_us").write_text(f"{_QUOTA}")
            (groups[-1] / "cgroup.procs").write_text(f"{pid}")
        yield
    finally:
        for group in groups:
            # A group with a process cannot be removed.
            for left in (group / "cgroup.procs").read_text().split():
                with suppress(ProcessLookupError):
                    (_GROUPS / "cgroup.procs").write_text(left)
            group.rmdir()


def _processes(session: int) -> list[int]:
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # ended meanwhile
            # proc_pid_stat(5): behind the name in brackets come state, ppid, pgrp and session.
            if int((each / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                found.append(int(each.name))
    return found


if __name__ == "__main__":
    main()
