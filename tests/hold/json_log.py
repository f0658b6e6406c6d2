"""What is promised of the log as JSON: whatever comes in, a line is one object that every reader takes."""

from __future__ import annotations

import json
from typing import Any

from tests.hold.log_service import start_logging
from tests.hold.logs import OWN_DEV, attack, needs_mounts, syslog
from tests.hold.promise import Skipped, kept, promise
from tests.hold.run import Run

__all__ = ["json_lines"]

OPTIONS = ("--log-format=json", "--log-connections=on")

#: What every line has.
ALWAYS = {"time", "level", "logger", "message"}

#: What a line about a connection has besides.
CONNECTION = {"id", "listener", "where", "peer", "seconds", "bytes_in", "bytes_out", "reason"}


@promise(
    "LOG-json",
    "hostile bytes in everything that can be logged make no line that is not one JSON object; ends of connections are told",
    deadline=60,
)
def json_lines(run: Run) -> str:
    """Sent in every way there is; to standard output, --logfile and --syslog; and from the first line by --logger."""
    figures = []
    for name, sink, text in (
        ("standard output", _to_stdout, 2),
        ("--logger", _by_logger, 0),
        ("--logfile", _to_file, 2),
        ("--syslog", _to_syslog, 2),
    ):
        run.step = name
        try:
            lines = sink(run)
        except Skipped as missing:
            figures.append(f"{name}: NOT TRIED, {missing}")
            continue
        before = [each for each in lines if b"{" not in each]
        found = [
            json.loads(each[each.index(b"{") :].decode("ascii"), object_pairs_hook=_once)
            for each in lines[len(before) :]
        ]
        ends = [each for each in found if "bytes_in" in each]
        figures.append(
            f"{name}: {len(before)} lines of text before the service began, {len(found)} objects, {len(ends)} ends of connections"
        )
        strange = [
            each
            for each in found
            if set(each) < ALWAYS or not all(isinstance(each[key], str) for key in ALWAYS)
        ]
        kept(len(before) <= text and not strange, f"{figures[-1]}: {before} {strange[:2]}")
        kept(len(ends) >= 3 and all(set(each) >= CONNECTION for each in ends), f"{figures[-1]}: {ends[:2]}")
        kept(any("Traceback" in each.get("exception", "") for each in found), f"{figures[-1]}: no traceback")
    return "; ".join(figures)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object, in which nothing is said twice."""
    kept(len(dict(pairs)) == len(pairs), f"something is said twice: {pairs}")
    return dict(pairs)


def _to_stdout(run: Run) -> list[bytes]:
    return _logged(run, (), "log")


def _by_logger(run: Run) -> list[bytes]:
    return _logged(run, ("--logger=echosvc.observe.json_log.observer",), "log")


def _to_file(run: Run) -> list[bytes]:
    return _logged(run, ("--logfile=own.log",), "own.log")


def _logged(run: Run, where: tuple[str, ...], name: str) -> list[bytes]:
    logging = start_logging(run, where, options=OPTIONS)
    attack(logging, run)
    return (logging.directory / name).read_bytes().splitlines()


def _to_syslog(run: Run) -> list[bytes]:
    needs_mounts()
    dev = run.directory / "dev"
    dev.mkdir()
    with syslog(dev / "log") as came:
        prefix = ("unshare", "-m", "sh", "-c", OWN_DEV, str(dev))
        attack(start_logging(run, ("--syslog",), options=OPTIONS, prefix=prefix), run)
    return came
