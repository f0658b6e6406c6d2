"""What the promises about UNIX sockets rest on."""

from __future__ import annotations

import os
from collections.abc import Iterable

from echosvc.admission import sources, users
from echosvc.transports import rights, unixgram
from tests.hold.unguarded.registry import guard_of, replace


@guard_of("before Linux 6.16")
def _refuse() -> None:
    """The kernel refuses descriptors."""
    replace(rights, "SO_PASSRIGHTS", 0x7FFF)  # no kernel has an option of this number


@guard_of("UNIX-descriptors", "UNIX-received")
def _close_apart() -> None:
    """Descriptors are refused, or closed where nothing waits for that."""
    _refuse()

    def close(_: rights.SentDescriptors, descriptors: Iterable[int], _tell: object = None) -> None:
        for each in descriptors:
            os.close(each)

    replace(rights.SentDescriptors, "close", close)


@guard_of("UNIX-names")
def _look_at_names() -> None:
    """A path is answered only if a socket of its sender is there, and our own answers are not answered."""
    replace(unixgram, "UnixPeer", _AnyPeer)
    replace(users.UserScreen, "use_own", lambda screen, names: setattr(screen, "_own", frozenset()))


class _AnyPeer:
    """Takes a peer's name for the name of a socket."""

    @classmethod
    def of(cls, path: str, _: object) -> str:
        return path


@guard_of("UNIX-users")
def _count_users() -> None:
    """A user has no more than its part."""
    replace(sources, "key_of_user", lambda _: None)
