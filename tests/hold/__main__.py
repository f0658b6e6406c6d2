"""The command: ``python -m tests.hold [--list] [--control WHO] [--without-guard] [--long] [--results FILE] [--reactor REACTOR] [NAME …]``."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import NoReturn

from tests.hold import (
    admin,
    adopted,
    clocks,
    crowd,
    daemon_contract,
    datagram,
    extending,
    faults,
    flood,
    foreign,
    fragments,
    fuzz,
    half_open,
    health,
    held,
    hidden,
    hostile,
    image,
    json_log,
    lifecycle,
    limits,
    link,
    listeners,
    logs,
    overload,
    own_source,
    planted,
    proxied,
    readme,
    reloads,
    scaling,
    screen,
    small,
    soak,
    stream,
    tls_memory,
    tls_turn,
    units,
    unix,
    workers,
)
from tests.hold.carriers import Carrier
from tests.hold.promise import Promise, Result, select, summary
from tests.hold.results import machine, table
from tests.hold.run import Subject
from tests.hold.runner import execute
from tests.hold.service import REACTORS, use_reactor

__all__ = ["main"]

#: The modules that hold promises, in the order they are run.
FAMILIES = (
    stream,
    held,
    crowd,
    datagram,
    small,
    hostile,
    flood,
    screen,
    limits,
    faults,
    fuzz,
    clocks,
    overload,
    half_open,
    unix,
    soak,
    logs,
    json_log,
    admin,
    lifecycle,
    planted,
    workers,
    hidden,
    daemon_contract,
    units,
    image,
    foreign,
    listeners,
    adopted,
    health,
    proxied,
    scaling,
    link,
    own_source,
    fragments,
    readme,
    reloads,
    extending,
    tls_memory,
    tls_turn,
)


def _promises(value: object) -> Iterable[Promise]:
    """What a name in a module of promises stands for: one, one over each carrier, or something else."""
    return (each for each in (value if isinstance(value, tuple) else (value,)) if isinstance(each, Promise))


PROMISES = [each for family in FAMILIES for value in vars(family).values() for each in _promises(value)]

#: What ``--control`` takes.
CONTROLS = {"stock": Subject.STOCK, "xinetd": Subject.XINETD}

USAGE = 64  # EX_USAGE


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"tests.hold: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for, one line for each promise and one for all.

    Args:
        arguments: The command line; None for the real one.

    Returns:
        0 if nothing failed, 1 if something did.

    Raises:
        SystemExit: With 64 if the command line makes no sense.
    """
    parser = _Parser(prog="python -m tests.hold", description="Hold echosvc to its promises.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="promises to run; default: all")
    parser.add_argument("--list", action="store_true", help="list the promises and end")
    other = parser.add_mutually_exclusive_group()
    other.add_argument(
        "--control",
        choices=CONTROLS,
        help="hold another server to them, which must come out as is known of it",
    )
    other.add_argument(
        "--without-guard",
        action="store_true",
        help="switch off in the service what makes it keep a promise: it must break it",
    )
    parser.add_argument("--long", action="store_true", help="take minutes where seconds give a first idea")
    other.add_argument(
        "--results", type=Path, metavar="FILE", help="write a table of all this; controls are run, too"
    )
    parser.add_argument(
        "--carrier",
        choices=[each.value for each in Carrier],
        help="only promises whose clients connect over it; tcp: also all that have no carrier of their own",
    )
    parser.add_argument("--reactor", choices=REACTORS, help="what to serve on; default: what twistd chooses")
    asked = parser.parse_args(arguments)
    if asked.reactor:
        use_reactor(asked.reactor)
    subject = Subject.UNGUARDED if asked.without_guard else CONTROLS.get(asked.control, Subject.SERVICE)
    among = [
        each
        for each in PROMISES
        if (subject in each.known or subject is Subject.SERVICE)
        and asked.carrier in (None, each.carrier.value)
    ]
    try:
        chosen = select(asked.names, among)
    except KeyError as unknown:
        control = "" if subject is Subject.SERVICE else f" for {subject.value}"
        control += f" over {asked.carrier}" if asked.carrier else ""
        parser.error(f"{unknown.args[0]}: no such promise{control}; --list lists them")
    if asked.list:
        for each in chosen:
            _print(f"{each.name:<14} {each.text}")
        return 0
    if asked.reactor == "uvloop" and find_spec("uvloop") is None:
        _print(
            f"NOT TRIED: uvloop is not installed; {summary(Result(each.name, 'skip', '') for each in chosen)}"
        )
        return 0
    when = datetime.now(UTC)
    results = []
    for each in chosen:
        for who in (Subject.SERVICE, *each.known) if asked.results else (subject,):
            # A minute shows as well as ten that others break it.
            result = execute(each, who, long=asked.long and who is Subject.SERVICE)
            _print(str(result))
            results.append(result)
    _print(summary(results))
    if asked.results:
        typed = " ".join(["python -m tests.hold", *(sys.argv[1:] if arguments is None else arguments)])
        asked.results.write_text(table(chosen, results, command=typed, when=when, where=machine()))
    return 1 if any(result.outcome == "fail" for result in results) else 0


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _interrupted(number: int, frame: FrameType | None) -> None:
    """Leave through every `finally`, so that nothing stays behind."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupted)
    signal.signal(signal.SIGINT, _interrupted)  # a shell's background job starts with SIGINT ignored
    try:
        code = main()
    except KeyboardInterrupt:
        sys.stderr.write("tests.hold: interrupted\n")
        code = 130
    sys.exit(code)
