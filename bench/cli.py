"""The command: what to measure, in which order, and what to print."""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.metadata
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import attrs

from bench.build import build
from bench.errors import CannotBuild, NoFigure
from bench.goals import judge
from bench.measure import Bench, Figures
from bench.picture import picture
from bench.processes import split_cores
from bench.rivals import C_AGAIN, RIVALS, C, Missing, Rival, find
from bench.summary import rows
from bench.tables import goals_table, work_table
from bench.works import WORKS, Work

__all__ = ["main", "parse"]

_WARMUP = 0.3  # seconds: enough for Python's adaptive interpreter to have adapted
_BUSY = 0.5  # processes that want a core; above this, others disturb the figures

Taken = dict[str, dict[str, list[Figures | str]]]


@attrs.frozen
class Plan:
    """What the command line asks for.

    Attributes:
        works: Which works.
        rivals: The names of the rivals wanted.
        rounds: How often each is measured.
        seconds: For how long.
        json: Where to write everything.
        svg: Where to draw.
    """

    works: tuple[Work, ...]
    rivals: frozenset[str]
    rounds: int
    seconds: float
    json: Path | None
    svg: Path | None


def parse(arguments: Sequence[str]) -> Plan:
    """Read the command line.

    Args:
        arguments: Without the program's name.

    Returns:
        What they ask for.

    Raises:
        SystemExit: They are wrong, or ask for help.
    """
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="The same work for echosvc and for its rivals, in one run.",
        epilog="Without options: all works, all rivals found, 5 rounds of 1.5 seconds; about 25 minutes.",
    )
    names = [work.name for work in WORKS]
    parser.add_argument("--work", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--rival", nargs="+", choices=list(RIVALS), metavar="NAME", help=", ".join(RIVALS))
    parser.add_argument("--rounds", type=_count, metavar="N", help="measurements of each (5)")
    parser.add_argument("--seconds", type=_duration, metavar="S", help="length of each (1.5)")
    parser.add_argument("--quick", action="store_true", help="a look: 1 round of 0.4 seconds, 2 minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure of every round")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw CPU per echo, relative to C")
    given = parser.parse_args(arguments)
    return Plan(
        works=tuple(work for work in WORKS if given.work is None or work.name in given.work),
        rivals=frozenset(given.rival or RIVALS) | {C, C_AGAIN},  # the unit, and how far to trust it
        rounds=given.rounds or (1 if given.quick else 5),
        seconds=given.seconds or (0.4 if given.quick else 1.5),
        json=given.json,
        svg=given.svg,
    )


def main(arguments: Sequence[str]) -> int:
    """Measure and print.

    Args:
        arguments: The command line without the program's name.

    Returns:
        The exit code: 0; 1 if nothing could be built; 130 after Ctrl-C, with what there is until then.
    """
    plan = parse(arguments)
    if sys.platform != "linux":
        _say("bench: Linux only: it pins cores and reads other processes' CPU clocks")
        return 1
    signal.signal(signal.SIGTERM, _terminated)  # so that every `finally` has its turn
    with tempfile.TemporaryDirectory(prefix="echosvc-bench-") as folder:
        try:
            programs = build(Path(folder))
        except CannotBuild as problem:
            _say(f"bench: {problem}")
            return 1
        found, missing = find(programs)
        bench = Bench(
            programs, split_cores(list(os.sched_getaffinity(0))), Path(folder), plan.seconds, _WARMUP
        )
        conditions = _conditions(bench, plan)
        _say(_headline(conditions))
        taken: Taken = {}
        code = 0
        try:
            _measure_all(bench, plan, [rival for rival in found if rival.name in plan.rivals], taken)
        except KeyboardInterrupt:
            _say("\ninterrupted; this is what there is")
            code = 130
    _report(plan, conditions, taken, {name: why for name, why in missing.items() if name in plan.rivals})
    return code


def _measure_all(bench: Bench, plan: Plan, rivals: Sequence[Rival], taken: Taken) -> None:
    """Go round: all works, and at each work all rivals in turn, then all over again."""
    total, done, began = plan.rounds * len(plan.works) * len(rivals), 0, time.monotonic()
    for number in range(1, plan.rounds + 1):
        for work in plan.works:
            for rival in rivals:
                outcome: Figures | str
                try:
                    outcome = bench.measure(work, rival)
                except NoFigure as problem:
                    outcome = str(problem)
                taken.setdefault(work.name, {}).setdefault(rival.name, []).append(outcome)
                done += 1
                left = (time.monotonic() - began) / done * (total - done)
                _say(
                    f"[{done}/{total}, {left / 60:.0f} min left] round {number}: {work.title}:"
                    f" {RIVALS[rival.name]}: {_brief(outcome)}"
                )


def _report(plan: Plan, conditions: Mapping[str, object], taken: Taken, missing: Missing) -> None:
    summaries = {work.name: rows(taken[work.name]) for work in plan.works if work.name in taken}
    verdicts = judge(taken)
    parts = [_headline(conditions)]
    parts += [work_table(work, summaries[work.name]) for work in plan.works if work.name in summaries]
    if verdicts:
        parts.append(goals_table(verdicts))
    if missing:
        parts.append("Missing: " + "; ".join(f"{RIVALS[name]}: {why}" for name, why in missing.items()))
    sys.stdout.write("\n\n".join(parts) + "\n")
    if plan.json:
        document = {
            "conditions": conditions,
            "missing": missing,
            "summary": {name: [attrs.asdict(row) for row in work] for name, work in summaries.items()},
            "goals": [{**attrs.asdict(verdict), "reached": verdict.reached} for verdict in verdicts],
            "rounds": taken,
        }
        plan.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if plan.svg:
        plan.svg.write_text(picture(summaries, _headline(conditions)), encoding="utf-8")


def _conditions(bench: Bench, plan: Plan) -> dict[str, object]:
    versions = {}
    for package in ("twisted", "uvloop"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "when": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d"),
        "processor": _processor(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **versions,
        "server_core": bench.cores.server,
        "load_cores": list(bench.cores.load),
        "load_threads": bench.cores.threads,
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "load_average_before": os.getloadavg()[0],
    }


def _headline(conditions: Mapping[str, object]) -> str:
    load = conditions["load_average_before"]
    busy = f"; THE MACHINE WAS BUSY (load {load:.1f})" if isinstance(load, float) and load > _BUSY else ""
    packages = "".join(f", {name} {conditions[name]}" for name in ("twisted", "uvloop") if name in conditions)
    return (
        f"{conditions['when']}, {conditions['processor']}, Linux {conditions['kernel']}, Python "
        f"{conditions['python']}{packages}; {conditions['rounds']} x {conditions['seconds']} s, server on one"
        f" core, load on {conditions['load_threads']}{busy}"
    )


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )


def _brief(outcome: Figures | str) -> str:
    if isinstance(outcome, str):
        return outcome
    if "memory" in outcome:
        return f"{outcome['memory']:.0f} bytes per connection"
    return f"{outcome['cpu']:.2f} us of CPU per echo, {outcome['rate']:.0f} echoes/s"


def _count(text: str) -> int:
    if (value := int(text)) < 1:
        raise ValueError(text)
    return value


def _duration(text: str) -> float:
    if not 0.1 <= (value := float(text)) <= 3600:
        raise ValueError(text)
    return value


def _terminated(_signal: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + signal.SIGTERM)


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
