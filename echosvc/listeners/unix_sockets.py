"""UNIX sockets: bound with the right mode, over a stale file if need be, and removed at the end."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from echosvc.errors import ListenError, ListenNotPermitted, PortInUse
from echosvc.listeners.settings import ListenerSettings, UnixSocket

__all__ = ["SocketFile", "open_unix_socket", "show_path"]

_ANOTHERS = "a socket of another user is there"


class SocketFile:
    """The file of a socket that we have bound, to be removed at the end.

    Args:
        path: Where it is.
        lock: Descriptor of the locked lock file, which is released then; None without one.
    """

    def __init__(self, path: str, lock: int | None) -> None:
        self._path = os.path.abspath(path)  # noqa: PTH100  # of the folder we were started in
        self._lock = lock
        self._identity = _identity(path)

    def remove(self) -> str | None:
        """Remove the file, unless another socket has taken its place, and give up the lock.

        Returns:
            What went wrong, in words; None if nothing.
        """
        problem = None
        try:
            if _identity(self._path) == self._identity:
                Path(self._path).unlink()
        except FileNotFoundError:
            pass
        except OSError as error:
            problem = f"{self._path} stays behind: {error.strerror}"
        if self._lock is not None:
            # The lock file stays: to remove it would let a second service lock one that a third cannot see.
            os.close(self._lock)
            self._lock = None
        return problem


def open_unix_socket(
    listener: ListenerSettings, place: UnixSocket
) -> tuple[socket.socket, SocketFile | None]:
    """Open the UNIX socket of a listener.

    A file on which nobody listens, left by a service that was killed, is removed first.

    Args:
        listener: What asks for it, and for what backlog.
        place: Where.

    Returns:
        The socket, bound, listening if it is a stream, and non-blocking; and its file (None for an abstract name).

    Raises:
        ListenError: It could not be opened. Nothing is left open, and no file is left behind.
    """
    with _explained(listener, place):
        kind = socket.SOCK_STREAM if place.transport == "unix" else socket.SOCK_DGRAM
        sock = socket.socket(socket.AF_UNIX, kind)
        lock = file = None
        try:
            sock.setblocking(False)
            if place.path.startswith("@"):
                sock.bind("\0" + place.path[1:])
            else:
                lock = _lock(place) if place.lockfile else None
                _remove_stale(place, kind)
                with _umask(0o777 & ~place.mode):
                    sock.bind(place.path)
                file = SocketFile(place.path, lock)
            if kind == socket.SOCK_STREAM:
                sock.listen(listener.backlog)
        except BaseException:
            sock.close()
            if file is not None:
                file.remove()
            elif lock is not None:
                os.close(lock)
            raise
        return sock, file


def show_path(address: str | bytes) -> str:
    """Write the address of a UNIX socket as it is written in an endpoint."""
    if isinstance(address, bytes):
        address = os.fsdecode(address)
    return f"@{address[1:]}" if address.startswith("\0") else address


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _lock(place: UnixSocket) -> int:
    """Lock the lock file; the kernel gives the lock up when the process ends, however it ends."""
    descriptor = os.open(f"{place.path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        os.close(descriptor)
        raise OSError(errno.EADDRINUSE, "locked") from problem
    return descriptor


def _remove_stale(place: UnixSocket, kind: socket.SocketKind) -> None:
    """Remove a socket file on which nobody listens; what is something else, or alive, is left to bind's error."""
    try:
        if not stat.S_ISSOCK(os.lstat(place.path).st_mode):
            raise OSError(errno.ENOTSOCK, "there is a file there that is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)  # a full backlog is alive, too
        try:
            probe.connect(place.path)
        except ConnectionRefusedError:
            _remove(place.path)
        except OSError as problem:
            if problem.errno == errno.EACCES:  # nobody can tell whether it is alive
                raise OSError(errno.EEXIST, _ANOTHERS) from problem


def _remove(path: str) -> None:
    owner = os.lstat(path).st_uid
    try:
        Path(path).unlink()
    except PermissionError as problem:
        if owner == os.geteuid():
            raise
        raise OSError(errno.EEXIST, _ANOTHERS) from problem


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    """Create files with no more rights than are meant, from the first moment on."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextlib.contextmanager
def _explained(listener: ListenerSettings, place: UnixSocket) -> Iterator[None]:
    """Turn what the system says into an error that names the endpoint and the way out."""
    where = f"{place.transport}:{place.path}"
    try:
        yield
    except OSError as problem:
        match problem.errno:
            case errno.EADDRINUSE:
                raise PortInUse(
                    listener.origin,
                    where,
                    "already in use; stop what listens there (`ss -lxp` shows it) or choose another path",
                ) from problem
            case errno.EACCES | errno.EPERM | errno.EROFS:
                raise ListenNotPermitted(
                    listener.origin, where, f"{problem.strerror}; choose a folder that this user may write to"
                ) from problem
            case errno.EEXIST:
                raise ListenNotPermitted(
                    listener.origin, where, f"{problem.strerror}; remove it, or choose another path"
                ) from problem
            case errno.ENOENT | errno.ENOTDIR:
                raise ListenError(
                    listener.origin, where, "there is no such folder; create it, or choose another path"
                ) from problem
            case errno.ENOTSOCK:
                raise ListenError(
                    listener.origin, where, f"{problem.strerror}; remove it, or choose another path"
                ) from problem
        # Python's own "AF_UNIX path too long" has no number, and so no strerror.
        raise ListenError(listener.origin, where, problem.strerror or str(problem)) from problem
