"""Sockets that a service manager has opened and passes on, as sd_listen_fds(3) describes.

Twisted's own reader knows streams only, and nothing at all where the sockets have no names.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys

from echosvc.errors import ListenError
from echosvc.listeners.adopted import set_adopted_options, unsuitable
from echosvc.listeners.settings import Inherited

__all__ = ["adopt", "remember"]

#: The first descriptor that is passed on (SD_LISTEN_FDS_START).
_START = 3

_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)

_passed: list[tuple[str, int]] | None = None


def remember() -> None:
    """Read from the environment which sockets were passed, before anybody else does.

    What was read is taken out of it, so that no process that is started later takes them for its own. Importing
    `twisted.internet.endpoints` does the same, so that this must come first; where it has come too late, Twisted
    is asked for what it has read.
    """
    global _passed  # noqa: PLW0603  # the environment is global, and can be read once
    if _passed is None:
        _passed = _read(os.environ)
        for _, descriptor in _passed:
            with contextlib.suppress(OSError):  # it is not open: whoever asks for it is told
                os.set_inheritable(descriptor, False)


def _read(environment: os._Environ[str]) -> list[tuple[str, int]]:
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return _read_by_twisted()
    number = environment.get("LISTEN_FDS", "")
    count = int(number) if number.isascii() and number.isdigit() else 0
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    for variable in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environment.pop(variable, None)
    names += [""] * (count - len(names))
    return [(names[index], _START + index) for index in range(count)]


def _read_by_twisted() -> list[tuple[str, int]]:
    endpoints = sys.modules.get("twisted.internet.endpoints")
    if endpoints is None:
        return []
    found = endpoints._SystemdParser._sddaemon  # noqa: SLF001  # there is no other way to it
    return list(zip(found._names, found._descriptors, strict=True))  # noqa: SLF001


def adopt(place: Inherited, origin: str, taken: dict[int, str]) -> list[socket.socket]:
    """Take the sockets of a name, or the one of a number.

    Args:
        place: Which. Several sockets may have one name, such as all of one socket unit: each is served.
        origin: Who asks, as errors name it.
        taken: Who took which descriptor, of those who are opened together; what is taken now is added.

    Returns:
        Copies, so that closing one closes nothing for the service manager, nor for a second try.

    Raises:
        ListenError: There is none, or it cannot be served, or another listener has taken it: a socket can have a name
            and a number, and two who accept from it would each get a part of the clients.
    """
    remember()
    assert _passed is not None  # noqa: S101  # it was just read
    which = f"systemd:name={place.name}" if place.name is not None else f"systemd:index={place.index}"
    if not _passed:
        raise ListenError(
            origin,
            which,
            "no socket was passed to this process; start it by a socket unit (or systemd-socket-activate), and"
            " twistd with -n",
        )
    found = [
        descriptor
        for index, (name, descriptor) in enumerate(_passed)
        if (name == place.name if place.name is not None else index == place.index)
    ]
    if not found:
        names = ", ".join(f"{index} {name or '(no name)'}" for index, (name, _) in enumerate(_passed))
        raise ListenError(origin, which, f"no such socket was passed; there are: {names}")
    for each in found:
        if each in taken:
            raise ListenError(
                origin, which, f"the socket is already taken by {taken[each]}; leave out one of the two"
            )
    taken.update(dict.fromkeys(found, origin))
    with contextlib.ExitStack() as opened:
        sockets = [opened.enter_context(_adopt(each, origin, which)) for each in found]
        opened.pop_all()
    return sockets


def _adopt(descriptor: int, origin: str, which: str) -> socket.socket:
    copy = -1
    try:
        copy = os.dup(descriptor)
        sock = socket.socket(fileno=copy)
    except OSError as problem:
        if copy >= 0:
            os.close(copy)
        raise ListenError(
            origin, which, f"descriptor {descriptor} is no socket ({problem.strerror})"
        ) from None
    if sock.family not in _FAMILIES or sock.type not in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        problem_text: str | None = (
            f"a socket of family {_name(sock.family)} and type {_name(sock.type)} cannot be served"
        )
    else:
        problem_text = unsuitable(sock)
    if problem_text is not None:
        sock.close()
        raise ListenError(origin, which, problem_text)
    set_adopted_options(sock)
    return sock


def _name(number: int) -> str:
    """Name a family or type as socket(2) does, if Python knows it; `str` would say its number."""
    return getattr(number, "name", str(number))
