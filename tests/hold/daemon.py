"""The service as a daemon: it forks away from whoever started it, and is still ours to judge and to end."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.hold.promise import Broken
from tests.hold.service import environment, listening, trouble, twistd

__all__ = ["Daemon", "adopted"]

_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)

#: Seconds for a daemon to start, and to stop.
PATIENCE = 15.0


@contextlib.contextmanager
def adopted() -> Iterator[Callable[[], set[int]]]:
    """Become the parent of orphans, and leave none behind.

    A daemon whose launching command has ended is then a child of ours: its exit code can be read, and it can
    be found even if it wrote no pidfile.

    Returns:
        A context that gives a function which finds every child process that was not there before.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    before = _children()
    try:
        yield lambda: _children() - before
    finally:
        for pid in _children() - before:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


class Daemon:
    """``twistd --pidfile X --logfile Y … echosvc …``, a context that leaves no process behind.

    Args:
        directory: Where its files are.
        options: Options of ``twistd echosvc``.
        twistd_options: Options of twistd itself.

    Attributes:
        pidfile: Its pidfile.
        pid: The process.
    """

    def __init__(self, directory: Path, *options: str, twistd_options: tuple[str, ...] = ()) -> None:
        self.pidfile = directory / "pid"
        self.pid = 0
        self._directory = directory
        self._log = directory / "log"
        self._command = [
            *twistd(),
            f"--pidfile={self.pidfile}",
            f"--logfile={self._log}",
            *twistd_options,
            "echosvc",
            *options,
        ]

    def __enter__(self) -> Self:
        """Start it.

        Raises:
            Broken: The launching command failed, or the pidfile names no process of this service.
        """
        with contextlib.ExitStack() as things:
            self._orphans = things.enter_context(adopted())
            self._start()
            self._things = things.pop_all()
        return self

    def _start(self) -> None:
        done = subprocess.run(
            self._command,
            cwd=self._directory,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        said = done.stdout.replace(f"Removing stale pidfile {self.pidfile}\n", "")  # which is twistd's own
        if done.returncode or said:
            raise Broken(f"the launching command ended with {done.returncode} and said: {said.strip()}")
        until = time.monotonic() + PATIENCE
        while not (self.pidfile.exists() and self.pidfile.read_text()) and time.monotonic() < until:
            time.sleep(0.02)
        if not self.pidfile.exists():
            raise Broken("there is no pidfile")
        self.pid = int(self.pidfile.read_text())
        if self.pid not in self._orphans():
            raise Broken(f"the pidfile names {self.pid}, which is not the daemon")

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill it if it still runs."""
        self._things.close()

    def ports(self) -> tuple[int, int]:
        """Wait for the log to name the ports.

        Returns:
            The TCP port and the UDP port.

        Raises:
            Broken: It does not.
        """
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            ports = {each.transport: each.port for each in listening(self._read_log())}
            if ports.keys() == {"TCP", "UDP"}:
                return ports["TCP"], ports["UDP"]
            time.sleep(0.02)
        raise Broken(f"the log names no ports: {self._read_log().strip()[-200:]}")

    def status(self) -> dict[str, str]:
        """Read ``/proc/PID/status``."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def stop(self) -> int:
        """Send SIGTERM and wait.

        Returns:
            The exit code; negative for a signal.

        Raises:
            Broken: It still runs after `PATIENCE` seconds.
        """
        os.kill(self.pid, signal.SIGTERM)
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        raise Broken(f"still running {PATIENCE:g} s after SIGTERM")

    def trouble(self) -> str | None:
        """Find the first line in the log that a healthy service does not write, or None."""
        return trouble(self._read_log())

    def _read_log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""


def _children() -> set[int]:
    """Find all our child processes, adopted ones too."""
    ours = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # gone since
            after_name = stat.read_text().rpartition(")")[2].split()
            if int(after_name[1]) == os.getpid():
                ours.add(int(stat.parent.name))
    return ours
