"""What a second worker is worth: ``python -m bench.workers``. One worker on one core, two on two, the load on the others.

Each work is given to both in turn, several times, so that what the machine does meanwhile meets both. A core that is not there
for the load makes two workers look poor: it needs four.
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
from contextlib import contextmanager
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


def main() -> None:
    """Measure, and print a line for each work."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 4:
        raise SystemExit("bench.workers: needs four cores")
    *load, first, second = cores
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        programs = build(folder)
        for work in (each for each in WORKS if each.name in NAMES):
            one, two = [], []
            for _ in range(ROUNDS):
                one.append(_measure(programs, folder, work, load, [second]))
                two.append(_measure(programs, folder, work, load, [first, second]))
            _print(work, one, two)


def _print(work: Work, one: Sequence[Figures], two: Sequence[Figures]) -> None:
    rates = [statistics.median(each["rate"] for each in taken) for taken in (one, two)]
    busy = statistics.median(each["busy"] for each in two)
    sys.stdout.write(
        f"{work.name:<8} {rates[0]:>9.0f}/s with one, {rates[1]:>9.0f}/s with two: {rates[1] / rates[0]:.2f} times"
        f" (two used {busy:.2f} cores)\n"
    )
    sys.stdout.flush()


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
        yield int(found[1]), process.pid


if __name__ == "__main__":
    main()
