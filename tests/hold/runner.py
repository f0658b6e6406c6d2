"""One promise from start to verdict: bounded in time, judged at the end, cleaned up after."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from tests.hold.promise import KEEPS, Broken, Promise, Result, Skipped, as_is_known, kept
from tests.hold.run import Run, Subject
from tests.hold.service import NotServing, Server, trouble, without_guard

__all__ = ["execute"]


class OutOfTime(Exception):
    """The deadline has passed."""


def execute(each: Promise, subject: Subject = Subject.SERVICE, *, long: bool = False) -> Result:
    """Run one promise against the service, or a control.

    Args:
        each: The promise.
        subject: Whom to hold to it; others than the service must come out as is known of them.
        long: Take the promise's own time in place of a short look.

    Returns:
        The result. Nothing that was started is left running, nor is anything left on the disk.
    """
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="hold-") as directory,
        Run(each.name, Path(directory), subject=subject, long=long, carrier=each.carrier) as run,
        without_guard(each.name) if subject is Subject.UNGUARDED else contextlib.nullcontext(),
    ):
        run.directory.chmod(0o755)  # also for a service that is not root
        result = _verdict(each, run) if subject is Subject.SERVICE else _control(each, run)
        if result.outcome == "fail":
            for server in run.servers:
                sys.stderr.write("".join(f"    {line}\n" for line in server.log().splitlines()[-15:]))
    seconds = time.monotonic() - started
    return Result(result.name, result.outcome, f"{result.figures}, {seconds:.1f} s", subject)


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
    if run.subject is Subject.XINETD and shutil.which("xinetd") is None:
        return Result(each.name, "skip", "xinetd is not installed", run.subject)
    try:
        with _deadline(each.deadline):
            figures = f"{KEEPS}{each.keep(run)}"
            if run.subject is Subject.UNGUARDED:
                for server in run.servers:
                    _ends_well(server)
    except Skipped as missing:
        return Result(each.name, "skip", str(missing), run.subject)
    except Exception as problem:  # noqa: BLE001  # likewise
        figures = _said(each, problem)
    return Result(
        each.name, "pass" if as_is_known(each, run.subject, figures) else "fail", figures, run.subject
    )


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
