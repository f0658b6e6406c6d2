"""How the process of a service starts: whatever goes wrong ends it in one line with its own exit code, a daemon, too.

By itself twistd ends the launching command of a daemon with 1 whatever happened, and a pidfile stays behind where the process ends
with `SystemExit`. So a daemon has a pipe to the command that started it, over which it says what went wrong.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from twisted.application.service import IService
from twisted.logger import Logger

from echosvc.errors import CannotStart, EchosvcError
from echosvc.rights import forbid_new_privileges
from echosvc.service.preflight import is_daemon

__all__ = ["guard"]

_log = Logger(namespace="echosvc")

#: Seconds that the launching command waits for a daemon to be gone that could not start.
_GONE = 5.0

_Start = Callable[[], object]


def guard(service: IService, options: Mapping[str, Any]) -> None:
    """Have a service's start end in one of two ways: it serves, or the process ends as `EchosvcError` describes.

    When it starts it also gives up for good whatever a program that it executes could give it (`rights`).

    Args:
        service: What twistd is going to start. Its two methods for that are replaced.
        options: Twistd's own.
    """
    launch = _Launch(options)
    setattr(service, "privilegedStartService", launch.guarded(service.privilegedStartService))  # noqa: B010
    start = launch.guarded(service.startService)

    def start_service() -> None:
        forbid_new_privileges()
        start()
        launch.succeeded()

    setattr(service, "startService", start_service)  # noqa: B010  # mypy takes an assignment for a mistake


class _Launch:
    """One start by twistd.

    Args:
        options: Twistd's own.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._pidfile = Path(options["pidfile"]) if options.get("pidfile") else None
        self._launcher = os.getpid()
        self._pipe: tuple[int, int] | None = None
        if is_daemon(options):
            self._pipe = os.pipe()
            os.register_at_fork(after_in_parent=self._forked)

    def guarded(self, start: _Start) -> _Start:
        """Have the process end if this raises."""

        def guarded() -> None:
            try:
                start()
            except EchosvcError as problem:
                self._fail(problem)
            except OSError as problem:
                self._fail(CannotStart("cannot start", problem.strerror or str(problem)))
            except Exception as problem:  # noqa: BLE001  # a mistake of ours or of a plugin's: the log has all of it
                _log.failure("cannot start")
                self._fail(CannotStart("cannot start", repr(problem)))

        return guarded

    def succeeded(self) -> None:
        """Have the launching command go its way."""
        for descriptor in self._pipe or ():
            os.close(descriptor)
        self._pipe = None

    def _fail(self, problem: EchosvcError) -> NoReturn:
        """End this process.

        Raises:
            SystemExit: With the error's exit code.
        """
        self._remove_pidfile(os.getpid())
        if os.getpid() != self._launcher and self._pipe is not None:
            _log.error("{problem}", problem=str(problem))
            line = f"{problem.exit_code:d} {os.getpid()} {problem}\n"
            with contextlib.suppress(OSError):  # the launching command was killed meanwhile
                os.write(self._pipe[1], line.encode(errors="replace"))
        else:
            _say(str(problem))
        raise SystemExit(problem.exit_code)

    def _forked(self) -> None:
        """Wait, in the launching command, until the daemon serves or tells why it does not."""
        if os.getpid() != self._launcher or self._pipe is None:
            return
        ours, daemons = self._pipe
        self._pipe = None
        os.close(daemons)
        with os.fdopen(ours, "rb") as pipe:
            line = pipe.readline().decode()
            if not line:
                return  # it serves; or twistd has ended it, and tells why
            select.select([pipe], [], [], _GONE)
        code, pid, problem = line.rstrip("\n").split(" ", 2)
        _say(problem)
        self._remove_pidfile(int(pid))
        os._exit(int(code))

    def _remove_pidfile(self, pid: int) -> None:
        """Remove it if it is of this process. A daemon that may no longer do so leaves that to the launching command."""
        with contextlib.suppress(OSError, ValueError):
            if self._pidfile is not None and int(self._pidfile.read_text()) == pid:
                self._pidfile.unlink()


def _say(problem: str) -> None:
    with contextlib.suppress(AttributeError, OSError):  # standard error is closed, or its disk is full
        sys.__stderr__.write(f"echosvc: {problem}\n")  # type: ignore[union-attr]
        sys.__stderr__.flush()  # type: ignore[union-attr]
