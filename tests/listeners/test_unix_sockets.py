"""Tests of UNIX sockets: how their files are made, taken over from the dead, guarded, and removed."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.trial.unittest import SkipTest

from echosvc.errors import ExitCode, ListenNotPermitted, PortInUse
from echosvc.listeners import ListenerSettings
from echosvc.listeners.sockets import open_all, where
from echosvc.transports.linux import LINUX
from tests.listeners.cases import UnixCase, tcp_listener, unix_listener, unixgram_listener

#: Unprivileged, wherever root runs the tests.
NOBODY = 65534


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Be somebody without rights for a while. Needs root."""
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


class OpeningTests(UnixCase):
    """What is opened is what was asked for."""

    def test_stream(self) -> None:
        """It listens, and never blocks; the log names it as its endpoint does."""
        sock = self.sock(unix_listener(self.path))
        self.client().connect(self.path)

        self.assertEqual(f"unix:{self.path}", where(sock))
        self.assertFalse(sock.getblocking())
        sock.accept()[0].close()

    def test_datagrams(self) -> None:
        """The same for datagrams, which have nothing to listen for."""
        sock = self.sock(unixgram_listener(self.path))
        self.client(socket.SOCK_DGRAM).sendto(b"hello", self.path)

        self.assertEqual(f"unixgram:{self.path}", where(sock))
        self.assertFalse(sock.getblocking())
        self.assertEqual(b"hello", sock.recv(9))

    def test_abstract_names(self) -> None:
        """No file, on systems that have such names; `@` stands for the NUL in the log, too."""
        if not LINUX:
            raise SkipTest("needs Linux")
        name = f"echosvc-{os.getpid()}"
        for listener, kind in (
            (unix_listener(f"@{name}", lockfile=True), "unix"),
            (unixgram_listener(f"@{name}-d"), "unixgram"),
        ):
            (opened,) = self.open(listener)
            assert opened.sock is not None
            self.client(opened.sock.type).connect(opened.sock.getsockname())

            self.assertIsNone(opened.file)
            self.assertEqual(f"{kind}:@{name}{'-d' if kind == 'unixgram' else ''}", where(opened.sock))
        self.assertEqual("unix:@" + name, self.fails(unix_listener(f"@{name}")).where)

    def test_as_many_wait_as_the_backlog_says(self) -> None:
        """One more is sent away by the system."""
        self.sock(unix_listener(self.path, backlog=1))
        self.crowd()
        late = self.client()
        late.setblocking(False)

        self.assertRaises(BlockingIOError, late.connect, self.path)

    def test_mode_is_what_was_asked_for(self) -> None:
        """Whatever this process's own umask is, which stays what it was."""
        for umask in (0o000, 0o022, 0o077, 0o777):
            before = os.umask(umask)
            self.addCleanup(os.umask, before)
            for mode in (0o000, 0o007, 0o600, 0o660, 0o666, 0o777):
                for listener in (unix_listener(self.path, mode), unixgram_listener(self.path, mode)):
                    (opened,) = open_all([listener])
                    made = stat.S_IMODE(os.lstat(self.path).st_mode)
                    opened.close()

                    self.assertEqual(oct(mode), oct(made))
                    self.assertEqual(oct(umask), oct(os.umask(umask)))

    def test_umask_is_restored_after_a_failure(self) -> None:
        """Files made later have the rights that their makers think they have."""
        self.addCleanup(os.umask, os.umask(0o022))
        self.fails(unix_listener(f"{self.path}/no/such/folder"))
        self.sock(unix_listener(self.path))
        self.fails(unix_listener(self.path))

        self.assertEqual(oct(0o022), oct(os.umask(0o022)))


class TakenTests(UnixCase):
    """Something is there already."""

    def test_a_file_that_was_left_behind_is_replaced(self) -> None:
        """By a service that was killed, whichever kind of socket it had."""
        for left in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            for listener in (unix_listener(self.path), unixgram_listener(self.path)):
                self.leave_stale(left)
                before = os.lstat(self.path)
                (opened,) = open_all([listener])
                assert opened.sock is not None
                self.client(opened.sock.type).connect(self.path)
                opened.close()

                self.assertTrue(stat.S_ISSOCK(before.st_mode))
                self.assertFalse(os.path.lexists(self.path))

    def taken(self, listener: ListenerSettings) -> None:
        """Expect that somebody alive keeps the path."""
        before = os.lstat(self.path).st_ino
        error = self.fails(listener)

        self.assertIsInstance(error, PortInUse)
        self.assertEqual(ExitCode.UNAVAILABLE, error.exit_code)
        self.assertEqual(
            "already in use; stop what listens there (`ss -lxp` shows it) or choose another path",
            error.problem,
        )
        self.assertEqual(before, os.lstat(self.path).st_ino)

    def test_one_that_lives_is_kept(self) -> None:
        """Whichever kind of socket asks for its path, and whichever it is."""
        for alive in (unix_listener(self.path), unixgram_listener(self.path)):
            (opened,) = open_all([alive])
            self.taken(unix_listener(self.path))
            self.taken(unixgram_listener(self.path))
            opened.close()

    def test_one_that_is_busy_is_kept(self) -> None:
        """A stream socket for which so many wait that no more may lives, too."""
        self.sock(unix_listener(self.path, backlog=1))
        self.crowd()

        self.taken(unix_listener(self.path))

    def test_one_that_talks_to_somebody_else_is_kept(self) -> None:
        """A datagram socket that is connected refuses everyone else, and lives."""
        sock = self.sock(unixgram_listener(self.path))
        other = self.client(socket.SOCK_DGRAM)
        other.bind(f"{self.path}-other")
        sock.connect(f"{self.path}-other")

        self.taken(unixgram_listener(self.path))

    def test_one_that_is_gone_by_the_time_it_is_asked(self) -> None:
        """Between two looks at a path anything may happen; what is not there is not in the way."""
        self.leave_stale()
        path = self.path

        class Late(socket.socket):
            def connect(self, address: Any) -> None:
                Path(path).unlink()
                super().connect(address)

        self.patch(socket, "socket", Late)
        sock = self.sock(unix_listener(self.path))

        self.assertEqual(self.path, sock.getsockname())

    def test_what_is_no_socket_is_kept(self) -> None:
        """A file, a folder or a link that somebody else made is not ours to remove."""
        folder = Path(self.path).parent
        (folder / "file").write_text("precious")
        (folder / "folder").mkdir()
        (folder / "link").symlink_to(folder / "nowhere")
        for name in ("file", "folder", "link"):
            error = self.fails(unix_listener(str(folder / name)))

            self.assertEqual(
                "there is a file there that is no socket; remove it, or choose another path", error.problem
            )
            self.assertTrue(os.path.lexists(folder / name))
        self.assertEqual("precious", (folder / "file").read_text())


class RefusalTests(UnixCase):
    """What cannot be opened is said in one line, with the way out."""

    def test_no_such_folder(self) -> None:
        """With or without a lock file, which would stand in the same one; or something that is no folder."""
        Path(self.path).write_text("")
        for path in (f"{self.path}-no/echo", f"{self.path}/echo"):
            for listener in (
                unix_listener(path),
                unix_listener(path, lockfile=True),
                unixgram_listener(path),
            ):
                error = self.fails(listener)

                self.assertEqual("there is no such folder; create it, or choose another path", error.problem)
                self.assertTrue(str(error).startswith(f"--listen x: {error.where}: there is no"), error)
                self.assertTrue(error.where.endswith(f":{path}"), error.where)

    def break_bind(self, number: int) -> None:
        """Make every bind fail with an error."""

        class Broken(socket.socket):
            def bind(self, address: Any) -> None:
                raise OSError(number, os.strerror(number))

        self.patch(socket, "socket", Broken)

    def test_no_permission(self) -> None:
        """A folder that this user may not write to, or nobody may."""
        for number in (errno.EACCES, errno.EPERM, errno.EROFS):
            self.break_bind(number)
            error = self.fails(unix_listener(self.path))

            self.assertIsInstance(error, ListenNotPermitted)
            self.assertEqual(ExitCode.PERMISSION, error.exit_code)
            self.assertEqual(
                f"{os.strerror(number)}; choose a folder that this user may write to", error.problem
            )

    def test_what_is_ours_and_cannot_be_removed(self) -> None:
        """Then it is the folder that is wrong."""
        self.leave_stale()
        with mock.patch(
            "pathlib.Path.unlink", side_effect=PermissionError(errno.EACCES, "Permission denied")
        ):
            error = self.fails(unix_listener(self.path))

        self.assertEqual("Permission denied; choose a folder that this user may write to", error.problem)

    def test_no_permission_for_real(self) -> None:
        """To make a file, to replace one, to ask whether somebody lives there, or to look whether there is one."""
        if os.geteuid() != 0:
            raise SkipTest("needs root, to become somebody else")
        folder = Path(self.path).parent
        choose = "; choose a folder that this user may write to"
        remove = ": a socket of another user is there; remove it, or choose another path"
        for of_folder, of_left, way_out in (
            (0o755, None, choose),
            (0o755, 0o777, remove),
            (0o1777, 0o777, remove),
            (0o755, 0o600, remove),
            (0o700, 0o777, choose),
        ):
            folder.chmod(of_folder)
            if of_left is not None:
                Path(self.path).unlink(missing_ok=True)
                self.leave_stale()
                Path(self.path).chmod(of_left)
            with nobody():
                error = self.assertRaises(ListenNotPermitted, open_all, [unix_listener(self.path)])

            self.assertIn(way_out, str(error))
            self.assertEqual(of_left is not None, Path(self.path).exists())

    def test_path_too_long(self) -> None:
        """108 bytes; Python refuses them itself, with no number of an error."""
        path = f"{self.path}{'x' * (108 - len(self.path))}"
        error = self.fails(unix_listener(path))

        self.assertEqual("AF_UNIX path too long", error.problem)
        longest = self.sock(unix_listener(path[:107]))
        self.assertEqual(path[:107], longest.getsockname())

    def test_anything_else_the_system_says(self) -> None:
        """In its own words."""
        self.break_bind(errno.ENOSPC)

        self.assertEqual(os.strerror(errno.ENOSPC), self.fails(unix_listener(self.path)).problem)

    def test_nothing_is_left_behind_when_it_cannot_listen(self) -> None:
        """Neither the file nor the lock, if the last step fails after all others went well."""

        class Deaf(socket.socket):
            def listen(self, backlog: int = 0) -> None:
                raise OSError(errno.ENOBUFS, "no room")

        restore = self.patch(socket, "socket", Deaf)
        self.fails(unix_listener(self.path, lockfile=True))
        self.assertFalse(os.path.lexists(self.path))
        restore.restore()

        self.sock(unix_listener(self.path, lockfile=True))

    def test_nothing_is_left_behind_when_a_later_listener_fails(self) -> None:
        """All are opened or none: sockets are closed, files removed, locks given up."""
        (taken,) = self.open(tcp_listener())
        assert taken.sock is not None
        port = taken.sock.getsockname()[1]
        self.fails(
            unix_listener(self.path, lockfile=True), unixgram_listener(f"{self.path}-d"), tcp_listener(port)
        )

        self.assertEqual(["echo.lock"], [each.name for each in Path(self.path).parent.iterdir()])
        self.sock(unix_listener(self.path, lockfile=True))
