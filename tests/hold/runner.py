"""One promise from start to verdict: bounded in time, judged at the end, cleaned up after."""

from __future__ import annotations

import contextlib
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from tests.hold.promise import Broken, Promise, Result, Skipped, as_it_must, kept
from tests.hold.run import Run
from tests.hold.service import NotServing, Server, trouble

__all__ = ["execute"]


class OutOfTime(Exception):
    """The deadline has passed."""


def execute(each: Promise, *, control: bool = False, long: bool = False) -> Result:
    """Run one promise against the service, or its control.

    Args:
        each: The promise.
        control: Run it against stock Twisted, which must break it as it is known to.
        long: Take the promise's own time in place of a short look.

    Returns:
        The result. Nothing that was started is left running, nor is anything left on the disk.
    """
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="hold-") as directory,
        Run(each.name, Path(directory), control=control, long=long) as run,
    ):
        run.directory.chmod(0o755)  # also for a service that is not root
        result = _control(each, run) if control else _verdict(each, run)
        if result.outcome == "fail":
            for server in run.servers:
                sys.stderr.write("".join(f"    {line}\n" for line in server.log().splitlines()[-15:]))
    seconds = time.monotonic() - started
    return Result(result.name, result.outcome, f"{result.figures}, {seconds:.1f} s", result.control)


def _verdict(each: Promise, run: Run) -> Result:
    try:
        with _deadline(each.deadline):
            figures = each.keep(run)
            for server in run.servers:
                _ends_well(server)
    except Skipped as missing:
        return Result(each.name, "skip", str(missing))
    except Exception as problem:  # noqa: BLE001  # whatever it is, the next promise has its turn
        return Result(each.name, "fail", _said(each, problem))
    return Result(each.name, "pass", figures)


def _control(each: Promise, run: Run) -> Result:
    try:
        with _deadline(each.deadline):
            figures = f"stock Twisted keeps it: {each.keep(run)}"
    except Skipped as missing:
        return Result(each.name, "skip", str(missing), control=True)
    except Broken as problem:
        figures = str(problem)
        if as_it_must(each, figures):
            return Result(each.name, "pass", figures, control=True)
    except Exception as problem:  # noqa: BLE001  # likewise
        figures = _said(each, problem)
    return Result(each.name, "fail", figures, control=True)


def _said(each: Promise, problem: Exception) -> str:
    """Put into words why a promise failed; what nobody foresaw is shown whole on standard error."""
    match problem:
        case Broken() | NotServing():
            return str(problem)
        case OutOfTime():
            return f"not through after {each.deadline:g} s"
    sys.stderr.write("".join(traceback.format_exception(problem)))
    return f"{type(problem).__name__}: {problem}"


def _ends_well(server: Server) -> None:
    """Check what holds at the end of every promise: still alive, SIGTERM ends it with 0, a clean log."""
    kept(server.alive() or server.stopped, "the service is dead")
    code = server.stop()
    if found := trouble(server.log()):
        raise Broken(f"the log has: {found}")
    kept(code == 0, f"SIGTERM ended the service with {code} in place of 0")


@contextlib.contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Raise `OutOfTime` in the main thread when the time is over, wherever it waits."""

    def over(number: int, frame: FrameType | None) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
