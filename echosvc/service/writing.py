"""Whether root may write to a file by its name: not if another user can make that name mean another file.

A user who may write to a folder on the way can put a link there, at any moment, also between a look and the write. So it is the
folders that are looked at, and not only what stands in them now.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Container
from pathlib import Path

__all__ = ["changeable_by_others", "try_to_write"]

#: Links that are followed on one way. Linux' own number (path_resolution(7)).
_LINKS = 40


def changeable_by_others(path: Path, groups: Container[int] = ()) -> Path | None:
    """Find the first folder on the way to a file in which another user than root can exchange what is next.

    A sticky folder, as ``/tmp`` is, is none of them as long as what is next belongs to root or is not there: others cannot remove
    it, and the kernel follows no link that they put there (fs.protected_symlinks).

    Args:
        path: The file; it need not be there.
        groups: Whose members may have less than root: a folder that such a group may write to is one of them.

    Returns:
        The folder; None if there is none, or if the way does not lead anywhere.
    """
    here = Path("/")
    left = [*reversed(path.absolute().parts[1:])]
    links = 0
    while left:
        folder, here = here, here / left.pop()
        try:
            found = here.lstat()
        except OSError:
            return folder if _is_open(folder, None, groups) else None
        if _is_open(folder, found, groups):
            return folder
        if stat.S_ISLNK(found.st_mode):
            links += 1
            if links > _LINKS:
                return None
            target = here.readlink()
            here = Path("/") if target.is_absolute() else folder
            left += reversed(target.parts[target.is_absolute() :])
    return None


def _is_open(folder: Path, entry: os.stat_result | None, groups: Container[int]) -> bool:
    """Whether another user than root can exchange an entry of a folder; None is one that is not there."""
    found = folder.stat()
    if found.st_uid != 0:
        return True
    if not (found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and found.st_gid in groups)):
        return False
    return not found.st_mode & stat.S_ISVTX or (entry is not None and entry.st_uid != 0)


def try_to_write(path: Path, *, follow: bool) -> None:
    """Open a file for writing; nothing is written, and a file that was not there is not there afterwards.

    Args:
        path: The file.
        follow: It may be a link to another one.

    Raises:
        OSError: It cannot be opened; a link that may not be followed, or that leads nowhere, is ELOOP or EEXIST.
        ValueError: It is no path.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        os.close(os.open(path, flags))
    except FileNotFoundError:
        os.close(os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600))
        path.unlink(missing_ok=True)
