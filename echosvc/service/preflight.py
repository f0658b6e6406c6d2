"""Tries beforehand what twistd itself is asked to do when it starts: pidfile, log, directory, user.

Twistd does that after the service was made, and most of it after the fork. What fails there ends with a traceback, or with a pidfile
that stays and no reason on the terminal. Tried here, it is one line and an exit code of ours, and nothing was opened yet.

What lies in another root directory (``--chroot``) cannot be tried from outside it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from twisted.python.util import switchUID

from echosvc.errors import AlreadyRunning, CannotStart, InvalidOption, StartNotPermitted
from echosvc.service.writing import changeable_by_others, try_to_write

__all__ = ["check_twistd", "is_daemon"]

#: Where a daemon logs that was told nothing.
_LOG = "twistd.log"

#: Bytes that are read of a pidfile.
_PIDFILE = 64


def is_daemon(options: Mapping[str, Any]) -> bool:
    """Tell whether twistd forks away from the terminal.

    Args:
        options: Its own; those of ``twist`` know no daemons.
    """
    return "nodaemon" in options and not (options["nodaemon"] or options["debug"])


def check_twistd(options: Mapping[str, Any]) -> None:
    """Try what twistd is asked to do. Nothing is left of it, and nothing is changed in this process.

    Args:
        options: Its own; those of ``twist`` ask for nothing of the kind.

    Raises:
        InvalidOption: A user is unknown, or a daemon is to log to a terminal.
        AlreadyRunning: The pidfile names a process that runs.
        CannotStart: The system refuses something, or root is to write where another user can put a link.
    """
    if "pidfile" not in options:
        return
    groups = _groups(options["uid"], options["gid"])
    _check_log(options, groups)
    if options["chroot"] is not None:
        if os.geteuid() != 0:
            raise StartNotPermitted(f"--chroot {options['chroot']}", "only root may do that")
        return
    _check_directory(options["rundir"])
    if options["pidfile"]:
        # It is written when twistd has gone to its directory.
        _check_pidfile(f"--pidfile {options['pidfile']}", Path(options["rundir"], options["pidfile"]), groups)
    if options["uid"] is not None or options["gid"] is not None:
        _check_user(options["uid"], options["gid"], euid=bool(options["euid"]))


def _check_log(options: Mapping[str, Any], groups: Container[int]) -> None:
    daemon, log = is_daemon(options), options["logfile"]
    if daemon and log == "-":
        raise InvalidOption("--logfile", "-", "a daemon has no terminal; name a file, or stay on it with -n")
    if options["syslog"] or options["logger"] or log == "-" or not (daemon or log):
        return
    _check_file(f"--logfile {log or _LOG}", Path(log or _LOG), groups, follow=True)


def _check_directory(directory: str) -> None:
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(directory)
    except OSError as problem:
        raise _explain(f"--rundir {directory}", problem) from None
    finally:
        os.fchdir(here)
        os.close(here)


def _check_pidfile(what: str, pidfile: Path, groups: Container[int]) -> None:
    _check_file(what, pidfile, groups, follow=False)
    try:
        text = _read(pidfile).strip()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as problem:
        raise _explain(what, problem) from None
    if not (text.isascii() and text.isdigit()):
        raise CannotStart(what, "has no number of a process in it; remove it, or choose another file")
    try:
        os.kill(int(text), 0)
    except ProcessLookupError:
        return  # left behind by one that has died: twistd removes it
    except (OSError, OverflowError):
        pass  # somebody else's: twistd does not start, either
    raise AlreadyRunning(
        what,
        f"process {text} runs already; stop it, or choose another file (and if it is something else, remove it)",
    )


def _read(pidfile: Path) -> str:
    descriptor = os.open(pidfile, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _PIDFILE).decode()
    finally:
        os.close(descriptor)


def _check_file(what: str, path: Path, groups: Container[int], *, follow: bool) -> None:
    """Try to write to a file, unless we are root and another user can lead us elsewhere."""
    if os.geteuid() == 0 and (folder := changeable_by_others(path, groups)) is not None:
        raise StartNotPermitted(
            what,
            f"another user may write to {folder} and put a link there, so that root would write to where it leads; "
            "choose a folder that only root may write to, or start as that user",
        )
    try:
        try_to_write(path, follow=follow)
    except (OSError, ValueError) as problem:
        if isinstance(problem, OSError) and problem.errno in (errno.ELOOP, errno.EEXIST):
            raise CannotStart(
                what, "is a link that is not followed; remove it, or choose another file"
            ) from None
        raise _explain(what, problem) from None


def _groups(uid: int | None, gid: int | None) -> Container[int]:
    """The groups of the user that twistd is to become."""
    found = [] if gid is None else [gid]
    if uid is not None:
        with contextlib.suppress(KeyError, OverflowError):  # there is no such user, which is told later
            user = pwd.getpwuid(uid)
            found += os.getgrouplist(user.pw_name, user.pw_gid)
    return found


def _check_user(uid: int | None, gid: int | None, *, euid: bool) -> None:
    what = f"--gid {gid}" if uid is None else f"--uid {uid}"
    if uid is not None:
        try:
            user = pwd.getpwuid(uid)
        except (KeyError, OverflowError):
            if gid is None or uid != os.getuid():  # twistd looks up the user's groups
                raise InvalidOption(
                    "--uid", str(uid), "there is no such user (`getent passwd` lists them)"
                ) from None
        else:
            gid = user.pw_gid if gid is None else gid
    if uid in (None, os.getuid()) and gid in (None, os.getgid()):
        return
    if problem := _try_to_become(uid, gid, euid=euid):
        raise _explain(what, OSError(problem, os.strerror(problem)))


def _try_to_become(uid: int | None, gid: int | None, *, euid: bool) -> int:
    """Become another user, in a process made for it: there is no way back.

    Returns:
        The number of the error; 0 if it went well.
    """
    child = os.fork()
    if child == 0:  # pragma: no cover  # nobody measures in there
        code = errno.EINVAL
        try:
            switchUID(uid, gid, euid)
            code = 0
        except OSError as problem:
            code = problem.errno or code
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _explain(what: str, problem: OSError | ValueError) -> CannotStart:
    text = getattr(problem, "strerror", None) or str(problem)
    if isinstance(problem, PermissionError):
        return StartNotPermitted(what, f"{text}; start it as root, or choose another")
    return CannotStart(what, text)
