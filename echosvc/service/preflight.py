"""Tries beforehand what twistd itself is asked to do when it starts: pidfile, log, directory, user.

Twistd does that after the service was made, and most of it after the fork. What fails there ends with a traceback, or with a pidfile
that stays and no reason on the terminal. Tried here, it is one line and an exit code of ours, and nothing was opened yet.

What lies in another root directory (``--chroot``) cannot be tried from outside it.
"""

from __future__ import annotations

import errno
import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.python.util import switchUID

from echosvc.errors import AlreadyRunning, CannotStart, InvalidOption, StartNotPermitted

__all__ = ["check_twistd", "is_daemon"]

#: Where a daemon logs that was told nothing.
_LOG = "twistd.log"


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
        CannotStart: The system refuses something.
    """
    if "pidfile" not in options:
        return
    _check_log(options)
    if options["chroot"] is not None:
        if os.geteuid() != 0:
            raise StartNotPermitted(f"--chroot {options['chroot']}", "only root may do that")
        return
    _check_directory(options["rundir"])
    if options["pidfile"]:
        _check_pidfile(Path(options["pidfile"]))
    if options["uid"] is not None or options["gid"] is not None:
        _check_user(options["uid"], options["gid"], euid=bool(options["euid"]))


def _check_log(options: Mapping[str, Any]) -> None:
    daemon, log = is_daemon(options), options["logfile"]
    if daemon and log == "-":
        raise InvalidOption("--logfile", "-", "a daemon has no terminal; name a file, or stay on it with -n")
    if options["syslog"] or options["logger"] or log == "-" or not (daemon or log):
        return
    _try_to_write(f"--logfile {log or _LOG}", Path(log or _LOG))


def _check_directory(directory: str) -> None:
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(directory)
    except OSError as problem:
        raise _explain(f"--rundir {directory}", problem) from None
    finally:
        os.fchdir(here)
        os.close(here)


def _check_pidfile(pidfile: Path) -> None:
    what = f"--pidfile {pidfile}"
    try:
        text = pidfile.read_text().strip()
    except FileNotFoundError:
        _try_to_write(what, pidfile)
        return
    except (OSError, ValueError) as problem:
        raise _explain(what, problem) from None
    if not (text.isascii() and text.isdigit()):
        raise CannotStart(what, "has no number of a process in it; remove it, or choose another file")
    _try_to_write(what, pidfile)
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


def _try_to_write(what: str, path: Path) -> None:
    existed = path.exists()
    try:
        with path.open("ab"):
            pass
    except (OSError, ValueError) as problem:
        raise _explain(what, problem) from None
    if not existed:
        path.unlink(missing_ok=True)


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
