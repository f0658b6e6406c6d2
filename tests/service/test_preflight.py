"""Tests of what is tried before twistd does it."""

from __future__ import annotations

import errno
import os
import pwd
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from echosvc.errors import (
    AlreadyRunning,
    CannotStart,
    EchosvcError,
    ExitCode,
    InvalidOption,
    StartNotPermitted,
)
from echosvc.service import preflight
from echosvc.service.preflight import check_twistd, is_daemon
from tests.machine import FORKING


class PreflightTests(SynchronousTestCase):
    """What twistd is asked to do."""

    suppress = FORKING

    def setUp(self) -> None:
        """Have a directory, and what twistd has by default."""
        temporary = TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.directory = Path(temporary.name).resolve()
        self.pidfile = self.directory / "pid"
        self.log = self.directory / "log"

    def options(self, **asked: Any) -> dict[str, Any]:
        """Say what twistd is asked for."""
        return {
            "pidfile": str(self.pidfile),
            "logfile": str(self.log),
            "rundir": str(self.directory),
            "chroot": None,
            "uid": None,
            "gid": None,
            "euid": False,
            "nodaemon": False,
            "debug": False,
            "syslog": False,
            "logger": None,
            **asked,
        }

    def refused(self, kind: type[EchosvcError], **asked: Any) -> str:
        """Tell what is said of what cannot be."""
        problem = self.assertRaises(kind, check_twistd, self.options(**asked))
        return str(problem)

    def test_what_can_be_leaves_nothing_behind(self) -> None:
        """Neither a file nor another working directory."""
        here = Path.cwd()
        check_twistd(self.options())

        self.assertEqual([], list(self.directory.iterdir()))
        self.assertEqual(here, Path.cwd())

    def test_what_is_there_stays(self) -> None:
        """A log with what it has, and the pidfile of a process that is no more, which twistd removes."""
        self.log.write_text("before")
        self.pidfile.write_text("4194305\n")  # more than Linux ever gives
        check_twistd(self.options())

        self.assertEqual("before", self.log.read_text())
        self.assertEqual("4194305\n", self.pidfile.read_text())

    def test_other_runners_ask_for_nothing(self) -> None:
        """``twist`` has no such options."""
        check_twistd({"reactor": None})

        self.assertFalse(is_daemon({"reactor": None}))

    def test_who_is_a_daemon(self) -> None:
        """Whoever was not told to stay."""
        self.assertTrue(is_daemon(self.options()))
        self.assertFalse(is_daemon(self.options(nodaemon=True)))
        self.assertFalse(is_daemon(self.options(debug=True)))

    def test_a_directory_that_is_not(self) -> None:
        """Each is named with its option, and is a system error."""
        for option in ("pidfile", "logfile", "rundir"):
            with self.subTest(option=option):
                said = self.refused(CannotStart, **{option: "/nowhere/at/all"})

                self.assertEqual(f"--{option} /nowhere/at/all: No such file or directory", said)

    def test_a_pidfile_is_no_link(self) -> None:
        """Whatever it leads to; and neither that nor the link is touched."""
        for target in (self.directory / "there", self.directory / "not-there"):
            with self.subTest(target=target):
                (self.directory / "there").write_text("")
                self.pidfile.unlink(missing_ok=True)
                self.pidfile.symlink_to(target)
                said = self.refused(CannotStart)

                self.assertEqual(
                    f"--pidfile {self.pidfile}: is a link that is not followed; remove it, or choose another file",
                    said,
                )
                self.assertTrue(self.pidfile.is_symlink())
                self.assertEqual("", (self.directory / "there").read_text())
                self.assertFalse((self.directory / "not-there").exists())

    def test_a_log_may_be_a_link(self) -> None:
        """To a file that is there; one that leads nowhere is refused, and stays as it is."""
        self.log.symlink_to(self.directory / "elsewhere")
        self.assertIn("is a link that is not followed", self.refused(CannotStart))
        self.assertEqual([self.log], list(self.directory.iterdir()))
        (self.directory / "elsewhere").write_text("before")
        check_twistd(self.options())

        self.assertEqual("before", (self.directory / "elsewhere").read_text())

    def test_a_pipe_does_not_stop_it(self) -> None:
        """It is refused at once: opening one that nothing reads would wait."""
        os.mkfifo(self.pidfile)
        os.mkfifo(self.log)

        self.assertIn("--logfile", self.refused(CannotStart))
        self.assertIn("--pidfile", self.refused(CannotStart, logfile=str(self.directory / "other")))

    def test_a_pidfile_is_where_twistd_will_write_it(self) -> None:
        """In the directory that it goes to before, if the name is relative."""
        (self.directory / "below").mkdir()
        (self.directory / "below" / "pid").write_text(str(os.getpid()))

        self.assertIn(
            "--pidfile pid: process",
            self.refused(AlreadyRunning, pidfile="pid", rundir=str(self.directory / "below")),
        )

    def test_root_writes_only_where_others_cannot(self) -> None:
        """A pidfile or log in a folder in which another user can put a link is refused; who is not root has only their own to lose."""
        asked: list[Any] = []

        def others_can(path: Path, groups: Any) -> Path:
            asked.append((path, groups))
            return path.parent

        self.patch(preflight, "changeable_by_others", others_can)
        self.patch(os, "geteuid", lambda: 1000)
        check_twistd(self.options())
        self.assertEqual([], asked)
        self.patch(os, "geteuid", lambda: 0)
        user = pwd.getpwnam("nobody")
        said = self.refused(StartNotPermitted, uid=user.pw_uid, gid=12345)

        self.assertIn(f"--logfile {self.log}: another user may write to {self.directory}", said)
        ((path, groups),) = asked
        self.assertEqual((self.log, {12345, user.pw_gid}), (path, {12345, user.pw_gid} & set(groups)))
        self.assertIn(
            f"--pidfile {self.pidfile}: another user may write to",
            self.refused(StartNotPermitted, logfile="-", nodaemon=True),
        )
        self.assertEqual([], list(self.directory.iterdir()))

    def test_a_pidfile_that_cannot_be_read(self) -> None:
        """Because it is a directory, or no text, or no number."""
        self.assertEqual(
            f"--pidfile {self.directory}: Is a directory",
            self.refused(CannotStart, pidfile=str(self.directory)),
        )
        self.pidfile.write_bytes(b"\xff")
        self.assertIn("utf-8", self.refused(CannotStart))
        self.pidfile.write_text("eleven")
        self.assertIn("has no number of a process", self.refused(CannotStart))

    def test_somebody_runs_already(self) -> None:
        """The pidfile says who; also a process that is none of ours."""
        for pid in (os.getpid(), 1, 10**30):
            with self.subTest(pid=pid):
                self.pidfile.write_text(str(pid))
                said = self.refused(AlreadyRunning)

                self.assertIn(f"--pidfile {self.pidfile}: process {pid} runs already", said)
                self.assertEqual(str(pid), self.pidfile.read_text())
        self.assertEqual(ExitCode.UNAVAILABLE, AlreadyRunning.exit_code)

    def test_no_pidfile(self) -> None:
        """Nothing is tried where none is wanted."""
        check_twistd(self.options(pidfile=""))

    def test_where_a_daemon_logs(self) -> None:
        """It has no terminal; by default it has a file where it is started."""
        self.assertIn("a daemon has no terminal", self.refused(InvalidOption, logfile="-"))
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(self.directory)
        (self.directory / "twistd.log").mkdir()
        self.assertEqual("--logfile twistd.log: Is a directory", self.refused(CannotStart, logfile=None))
        check_twistd(self.options(logfile=None, nodaemon=True))

    def test_logs_that_are_no_files(self) -> None:
        """A terminal, syslog, or an observer of somebody's own."""
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(self.directory)
        Path("-").mkdir()  # what would not do for a file
        for how in ({"nodaemon": True, "logfile": "-"}, {"syslog": True}, {"logger": "x"}):
            with self.subTest(how=how):
                check_twistd(self.options(**{"logfile": "/nowhere/at/all", **how}))

    def test_what_is_not_permitted(self) -> None:
        """Has an exit code of its own."""

        def forbidden(*_: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        self.patch(os, "chdir", forbidden)

        self.assertEqual(
            "--rundir /root: Permission denied; start it as root, or choose another",
            self.refused(StartNotPermitted, rundir="/root"),
        )
        self.assertEqual(ExitCode.PERMISSION, StartNotPermitted.exit_code)

    def test_another_root_directory(self) -> None:
        """Only root has one; what is in it cannot be tried."""
        self.patch(os, "geteuid", lambda: 1000)
        self.assertIn("--chroot /x", self.refused(StartNotPermitted, chroot="/x"))
        self.patch(os, "geteuid", lambda: 0)
        check_twistd(self.options(chroot="/x", rundir="/nowhere"))

    def test_a_user_who_is_not(self) -> None:
        """Twistd looks up the groups, whatever else it was told."""
        for more in ({}, {"gid": 12345678}):
            with self.subTest(more=more):
                self.assertIn(
                    "--uid 12345678: there is no such user", self.refused(InvalidOption, uid=12345678, **more)
                )

    def test_who_is_that_user_already(self) -> None:
        """Does not become anybody; not even a user without a name."""
        self.patch(preflight, "_try_to_become", lambda *_, **__: self.fail("tried"))
        check_twistd(self.options(gid=os.getgid()))
        check_twistd(self.options(uid=os.getuid(), gid=os.getgid()))

        def unknown(_: int) -> None:
            raise KeyError

        self.patch(pwd, "getpwuid", unknown)
        check_twistd(self.options(uid=os.getuid(), gid=os.getgid()))

    def test_becoming_somebody_else(self) -> None:
        """Is tried, with the user's own group if none is named; what the system says is passed on."""
        tried: list[Any] = []
        answers = [0, 0, errno.EPERM, errno.EINVAL]

        def become(*who: int | None, euid: bool) -> int:
            tried.append((*who, euid))
            return answers.pop(0)

        nobody = pwd.getpwnam("nobody")
        other = os.getgid() + 1
        self.patch(preflight, "_try_to_become", become)
        check_twistd(self.options(uid=nobody.pw_uid))
        check_twistd(self.options(gid=other, euid=True))
        self.assertEqual([(nobody.pw_uid, nobody.pw_gid, False), (None, other, True)], tried)
        self.assertIn(
            f"--uid {nobody.pw_uid}: Operation not permitted",
            self.refused(StartNotPermitted, uid=nobody.pw_uid),
        )
        self.assertEqual(f"--gid {other}: Invalid argument", self.refused(CannotStart, gid=other))

    def test_it_is_a_process_of_its_own_that_tries(self) -> None:
        """This one stays who it is; the number of the error comes back."""
        ours = (os.getuid(), os.getgid())

        def cannot(*_: object) -> None:
            raise PermissionError(errno.EPERM, "no")

        self.patch(preflight, "switchUID", lambda *_: None)
        self.assertEqual(0, preflight._try_to_become(1, 1, euid=False))
        self.patch(preflight, "switchUID", cannot)
        self.assertEqual(errno.EPERM, preflight._try_to_become(1, 1, euid=False))
        self.assertEqual(ours, (os.getuid(), os.getgid()))
