"""Who has sent a UNIX datagram, and how it is answered: to a socket of the sender's, and to no other.

A peer chooses the name under which it sends, and what that name leads to when the answer is sent: a relative one leads elsewhere in
our folder, and a path can be swapped for a link. An answer that went there would be sent with our rights, not with those of its
peer: to a socket that only root may write to, such as a service manager's or the log's. So the kernel is asked for the sender's user
(SO_PASSCRED), and a path is answered only if a socket of that user is there. It is opened (O_PATH), looked at, and sent to by its
number, so that what was looked at is what is sent to. An abstract name is free for all, and leads to nothing else.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterable
from pathlib import Path

from echosvc.transports.linux import CREDENTIALS, SCM_CREDENTIALS, Control

__all__ = [
    "CREDENTIALS_ROOM",
    "TO_FOREIGN_PATH",
    "TO_RELATIVE_PATH",
    "WITHOUT_PROC",
    "UnixPeer",
    "can_answer_paths",
    "name_of",
    "open_socket_of",
    "sender",
]

TO_RELATIVE_PATH = "answer-to-relative-path"
"""The peer's name is a relative path, which leads elsewhere from our folder."""

TO_FOREIGN_PATH = "answer-to-foreign-path"
"""What is at the peer's path is not a socket of the peer's user."""

WITHOUT_PROC = "answer-without-proc"
"""The peer's name is a path, and there is no /proc here, through which alone it could be answered safely."""

CREDENTIALS_ROOM = socket.CMSG_SPACE(CREDENTIALS.size)

#: What the kernel says of a user that is unknown here: in another user namespace, or before it was asked.
_OVERFLOW = 65_534

_OWN_DESCRIPTORS = "/proc/self/fd"

#: All users of the machine, as they are.
_ALL_USERS = ["0", "0", "4294967295"]


class UnixPeer(str):
    """The path of the socket that has sent a datagram.

    Attributes:
        uid: The sender's user; None if it is not known.
    """

    __slots__ = ("uid",)

    uid: int | None

    @classmethod
    def of(cls, path: str, uid: int | None) -> UnixPeer:
        """Make the peer that a datagram came from."""
        self = cls(path)
        self.uid = uid
        return self


def can_answer_paths() -> bool:
    """Whether sockets can be sent to by the number of a descriptor: not in a chroot without /proc."""
    return Path(_OWN_DESCRIPTORS).is_dir()


def sender(ancillary: Iterable[Control]) -> int | None:
    """Read which user has sent a datagram.

    Args:
        ancillary: What `socket.recvmsg` returned, of a socket with SO_PASSCRED.

    Returns:
        None if the kernel does not know, or did not know it when it was sent.
    """
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, SCM_CREDENTIALS):
            process, user, _ = CREDENTIALS.unpack(data[: CREDENTIALS.size])
            return user if user != _OVERFLOW or (process and _knows_all_users()) else None
    return None


def open_socket_of(peer: UnixPeer) -> int | str:
    """Open a peer's socket, to be sent to as `name_of` has it.

    Returns:
        A descriptor (O_PATH), to be closed by the caller; or why the peer must not be answered.

    Raises:
        OSError: There is nothing at its path, or nothing that we may see.
    """
    if not peer.startswith("/"):
        return TO_RELATIVE_PATH
    descriptor = os.open(peer, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    is_theirs = False
    try:
        found = os.fstat(descriptor)
        is_theirs = peer.uid is not None and found.st_uid == peer.uid and stat.S_ISSOCK(found.st_mode)
    finally:
        if not is_theirs:
            os.close(descriptor)
    return descriptor if is_theirs else TO_FOREIGN_PATH


def name_of(descriptor: int) -> str:
    """Name a socket that is open as sendto(2) takes it."""
    return f"{_OWN_DESCRIPTORS}/{descriptor}"


def _knows_all_users() -> bool:
    try:
        return Path("/proc/self/uid_map").read_text().split() == _ALL_USERS
    except OSError:
        return False
