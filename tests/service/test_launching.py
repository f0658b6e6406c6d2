"""Tests of how the process of a service starts, or does not."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.application.service import Service
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from echosvc.errors import ExitCode, PortInUse
from echosvc.service import launching
from echosvc.service.launching import guard


class Fragile(Service):
    """A service that fails where it is told to.

    Attributes:
        begun: What was called and went well.
    """

    def __init__(self, **problems: Exception) -> None:
        self.begun: list[str] = []
        self._problems = problems

    def _begin(self, what: str) -> None:
        if what in self._problems:
            raise self._problems[what]
        self.begun.append(what)

    def privilegedStartService(self) -> None:
        """Begin, or fail."""
        self._begin("privileged")

    def startService(self) -> None:
        """Begin, or fail."""
        self._begin("start")


IN_USE = PortInUse("--port 7", "TCP *:7", "already in use")


class LaunchCase(SynchronousTestCase):
    """A start of which nothing reaches this process."""

    def setUp(self) -> None:
        """Have files, and hear what is said."""
        temporary = TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.directory = Path(temporary.name)
        self.pidfile = self.directory / "pid"
        self.stderr = io.StringIO()
        self.patch(sys, "__stderr__", self.stderr)
        self.hardened: list[bool] = []
        self.patch(launching, "forbid_new_privileges", lambda: self.hardened.append(True))
        self.hooks: list[Callable[[], None]] = []
        self.patch(os, "register_at_fork", lambda *, after_in_parent: self.hooks.append(after_in_parent))

    def guarded(self, service: Any, *, daemon: bool = False) -> Any:
        """Guard a service as twistd starts it."""
        guard(service, {"pidfile": str(self.pidfile), "nodaemon": not daemon, "debug": False})
        return service


class ForegroundTests(LaunchCase):
    """A service on a terminal."""

    def test_starts(self) -> None:
        """All is done that was to be done, and no program that it executes will ever have more rights."""
        service = self.guarded(Fragile())
        service.privilegedStartService()
        self.assertEqual([], self.hardened)
        service.startService()

        self.assertEqual((["privileged", "start"], [True]), (service.begun, self.hardened))
        self.assertEqual(("", []), (self.stderr.getvalue(), self.hooks))

    def test_fails_in_one_line_with_the_errors_own_code(self) -> None:
        """At either of the two times; twistd's pidfile is removed."""
        for method, what in (("privilegedStartService", "privileged"), ("startService", "start")):
            with self.subTest(method=method):
                self.stderr.truncate(0)
                self.stderr.seek(0)
                self.pidfile.write_text(str(os.getpid()))
                service = self.guarded(Fragile(**{what: IN_USE}))
                ended = self.assertRaises(SystemExit, getattr(service, method))

                self.assertEqual(ExitCode.UNAVAILABLE, ended.code)
                self.assertEqual("echosvc: --port 7: TCP *:7: already in use\n", self.stderr.getvalue())
                self.assertFalse(self.pidfile.exists())

    def test_what_the_system_refuses(self) -> None:
        """Is a system error, in its words."""
        for problem, said in (
            (OSError(24, "Too many open files"), "Too many open files"),
            (OSError("x"), "x"),
        ):
            with self.subTest(problem=problem):
                self.stderr.truncate(0)
                self.stderr.seek(0)
                ended = self.assertRaises(SystemExit, self.guarded(Fragile(start=problem)).startService)

                self.assertEqual(ExitCode.SYSTEM, ended.code)
                self.assertEqual(f"echosvc: cannot start: {said}\n", self.stderr.getvalue())

    def test_a_mistake_of_ours_is_in_the_log(self) -> None:
        """With all that helps to find it; the terminal has one line."""
        ended = self.assertRaises(SystemExit, self.guarded(Fragile(start=RuntimeError("bug"))).startService)

        self.assertEqual(ExitCode.SYSTEM, ended.code)
        self.assertEqual("echosvc: cannot start: RuntimeError('bug')\n", self.stderr.getvalue())
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))

    def test_the_pidfile_of_somebody_else_stays(self) -> None:
        """Whatever is in it; and there may be none."""
        for text in ("1", "eleven"):
            self.pidfile.write_text(text)
            self.assertRaises(SystemExit, self.guarded(Fragile(start=IN_USE)).startService)
            self.assertEqual(text, self.pidfile.read_text())
        service = Fragile(start=IN_USE)
        guard(service, {})

        self.assertRaises(SystemExit, service.startService)

    def test_without_standard_error(self) -> None:
        """The exit code says it all the same."""
        self.patch(sys, "__stderr__", None)
        ended = self.assertRaises(SystemExit, self.guarded(Fragile(start=IN_USE)).startService)

        self.assertEqual(ExitCode.UNAVAILABLE, ended.code)


class DaemonTests(LaunchCase):
    """A service that has forked away from the command that launched it."""

    def setUp(self) -> None:
        """Have the launching command's end tell how it ends, and end nothing."""
        super().setUp()
        self.ended: list[int] = []
        self.patch(os, "_exit", self.ended.append)
        self.patch(launching, "_GONE", 0.01)
        self.pid = os.getpid()

    def launch(self, service: Any) -> int:
        """Launch a daemon; return what would be its end of the pipe in the launching command, after the fork."""
        pipes: list[tuple[int, int]] = []
        make = os.pipe

        def pipe() -> tuple[int, int]:
            pipes.append(make())
            return pipes[-1]

        self.patch(os, "pipe", pipe)
        self.guarded(service, daemon=True)
        ((ours, daemons),) = pipes
        self.kept = [os.dup(ours), os.dup(daemons)]  # the fork: both processes have both
        return ours

    def as_daemon(self, start: Callable[[], object]) -> None:
        """Start, with the number of another process."""
        self.patch(os, "getpid", lambda: self.pid + 1)
        try:
            start()
        finally:
            self.patch(os, "getpid", lambda: self.pid)

    def test_serves(self) -> None:
        """The launching command goes on as soon as the daemon serves, or has ended without a word."""
        service = Fragile()
        ours = self.launch(service)
        self.as_daemon(service.startService)
        os.close(self.kept[1])
        self.assertRaises(OSError, os.fstat, ours)
        self.assertEqual(b"", os.read(self.kept[0], 1))
        os.close(self.kept[0])

        self.assertEqual(["start"], service.begun)
        self.assertEqual("", self.stderr.getvalue())

    def test_the_command_tells_why_it_does_not_serve(self) -> None:
        """In one line and by its exit code; it removes the pidfile if the daemon could not. The daemon's log has it, too."""
        service = Fragile(start=IN_USE)
        ours = self.launch(service)
        self.pidfile.write_text(str(self.pid + 1))
        unlink = Path.unlink

        def forbidden(path: Path, **_: object) -> None:
            if os.getpid() != self.pid:
                raise PermissionError
            unlink(path)

        self.patch(Path, "unlink", forbidden)
        with capturedLogs() as events:
            self.as_daemon(lambda: self.assertRaises(SystemExit, service.startService))
        self.assertEqual("", self.stderr.getvalue())
        self.assertTrue(self.pidfile.exists())
        (hook,) = self.hooks
        hook()

        self.assertEqual("echosvc: --port 7: TCP *:7: already in use\n", self.stderr.getvalue())
        self.assertEqual([ExitCode.UNAVAILABLE], self.ended)
        self.assertFalse(self.pidfile.exists())
        self.assertEqual(["--port 7: TCP *:7: already in use"], [formatEvent(each) for each in events])
        self.assertRaises(OSError, os.fstat, ours)
        for each in self.kept:
            os.close(each)

    def test_other_forks_are_none_of_its_business(self) -> None:
        """Neither those of the daemon itself, nor a second one."""
        service = Fragile()
        self.launch(service)
        (hook,) = self.hooks
        self.as_daemon(hook)
        for each in self.kept:
            os.close(each)
        hook()  # nobody has the daemon's end any more: it has ended without a word
        hook()

        self.assertEqual([], self.ended)
        self.assertEqual("", self.stderr.getvalue())

    def test_a_command_that_was_killed(self) -> None:
        """Leaves a daemon that ends with its own code."""
        service = Fragile(start=IN_USE)
        ours = self.launch(service)
        os.close(ours)
        os.close(self.kept[0])
        self.as_daemon(lambda: self.assertRaises(SystemExit, service.startService))
        os.close(self.kept[1])

        self.assertEqual("", self.stderr.getvalue())
