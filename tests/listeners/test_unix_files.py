"""Tests of the files of UNIX sockets: guarded by a lock while they are ours, and removed at the end."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from pathlib import Path

from twisted.trial.unittest import SkipTest

from echosvc.errors import PortInUse
from echosvc.listeners.sockets import open_all
from echosvc.listeners.unix_sockets import SocketFile
from echosvc.transports.linux import LINUX
from tests.listeners.cases import UnixCase, unix_listener


class LockTests(UnixCase):
    """Two services that start in the same moment cannot both take a path."""

    def test_the_second_is_refused_while_the_first_lives(self) -> None:
        """Even if the first one's socket is not there yet, or not any more; and may come when it is gone."""
        (first,) = open_all([unix_listener(self.path, lockfile=True)])
        for gone in (False, True):
            if gone:
                Path(self.path).unlink()
            error = self.fails(unix_listener(self.path, lockfile=True))

            self.assertIsInstance(error, PortInUse)
            self.assertEqual(not gone, os.path.lexists(self.path))
        first.close()
        self.sock(unix_listener(self.path, lockfile=True))

        self.assertEqual(0o600, stat.S_IMODE(Path(f"{self.path}.lock").stat().st_mode))

    def test_the_lock_file_of_the_dead_is_no_obstacle(self) -> None:
        """It stays for ever, and only the lock on it counts."""
        Path(f"{self.path}.lock").touch()
        self.leave_stale()

        self.sock(unix_listener(self.path, lockfile=True))

    def test_without_a_lock_file_there_is_none(self) -> None:
        """Nothing is made that was not asked for."""
        self.sock(unix_listener(self.path))

        self.assertEqual(["echo"], [each.name for each in Path(self.path).parent.iterdir()])

    def test_the_lock_is_given_up_when_the_socket_is_refused(self) -> None:
        """A service that failed does not stand in the way of one that comes after it."""
        Path(self.path).write_text("in the way")
        self.fails(unix_listener(self.path, lockfile=True))
        Path(self.path).unlink()

        self.sock(unix_listener(self.path, lockfile=True))

    def test_no_link_is_followed(self) -> None:
        """In a folder where others may write, a link would have us make a file somewhere else."""
        elsewhere = Path(f"{self.path}-elsewhere")
        Path(f"{self.path}.lock").symlink_to(elsewhere)

        self.assertEqual(
            os.strerror(errno.ELOOP), self.fails(unix_listener(self.path, lockfile=True)).problem
        )
        self.assertFalse(elsewhere.exists())

    def test_it_is_not_passed_on(self) -> None:
        """A process that we start does not keep the path from our successor."""
        if not LINUX:
            raise SkipTest("needs Linux, where /dev/fd tells the names of files")
        sock = self.sock(unix_listener(self.path, lockfile=True))
        lock = [
            int(each.name)
            for each in Path("/dev/fd").iterdir()
            if os.path.realpath(each) == os.path.realpath(f"{self.path}.lock")
        ]

        self.assertEqual([False, False], [os.get_inheritable(each) for each in (sock.fileno(), *lock)])


class RemovalTests(UnixCase):
    """What we made is removed at the end, and nothing else."""

    def file(self, *, lockfile: bool = False) -> SocketFile:
        """Open a listener's file."""
        (opened,) = self.open(unix_listener(self.path, lockfile=lockfile))
        assert opened.file is not None
        return opened.file

    def test_ours_is_removed(self) -> None:
        """And a second time there is nothing to do."""
        file = self.file(lockfile=True)

        self.assertIsNone(file.remove())
        self.assertFalse(os.path.lexists(self.path))
        self.assertIsNone(file.remove())

    def test_anothers_is_kept(self) -> None:
        """A second service that has taken the path, whatever it did to ours, keeps its own."""
        file = self.file()
        Path(self.path).unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(self.path)

            self.assertIsNone(file.remove())
            self.assertTrue(os.path.lexists(self.path))

    def test_another_folder_to_work_in(self) -> None:
        """A path is where it was when it was bound, wherever this process has gone since."""
        self.addCleanup(os.chdir, os.getcwd())  # noqa: PTH109  # as the operating system has it
        os.chdir(Path(self.path).parent)
        (opened,) = self.open(unix_listener("echo"))
        assert opened.file is not None
        os.chdir("/")

        self.assertIsNone(opened.file.remove())
        self.assertFalse(os.path.lexists(self.path))

    def test_what_cannot_be_removed_is_told(self) -> None:
        """In words, and the lock is given up all the same."""
        file = self.file(lockfile=True)

        def refuse(_: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        unlink = self.patch(Path, "unlink", refuse)
        self.assertEqual(f"{self.path} stays behind: Permission denied", file.remove())
        unlink.restore()

        with open(f"{self.path}.lock", "rb") as lock:  # noqa: PTH123  # a descriptor is what is locked
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
