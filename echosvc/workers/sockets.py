"""The sockets of a service with workers: the parent opens them once, and keeps them whoever comes and goes.

TCP and UDP ports have one socket for each worker, between which the kernel chooses by a hash of both addresses (SO_REUSEPORT): a flow
of datagrams stays with one worker as long as the group is the same, and connections are spread evenly. A dead worker's socket goes on
queueing for its successor, because the parent has it, too. What cannot be opened twice (UNIX sockets, inherited ones) is shared by all.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from typing import Any

import attrs

from echosvc.errors import InvalidListener
from echosvc.listeners import Foreign, Internet, ListenerSettings, adopt_listeners, check_listeners
from echosvc.listeners.settings import Inherited
from echosvc.listeners.sockets import Opened, open_all, open_beside, set_receive_buffer
from echosvc.transports.linux import LINUX

__all__ = ["Shared", "close_all", "open_shared"]


@attrs.frozen
class Shared:
    """What was opened for one listener.

    Attributes:
        opened: The first socket, and its file.
        sockets: All of them: one for each worker, or one for all.
        text: What listens where, in one line.
    """

    opened: Opened
    sockets: tuple[socket.socket, ...]
    text: str

    @property
    def is_common(self) -> bool:
        """Whether all workers read the same socket."""
        return len(self.sockets) == 1

    def close(self) -> None:
        """Remove the file, and close every socket."""
        self.opened.close()
        for each in self.sockets[1:]:
            each.close()


def open_shared(
    settings: Sequence[ListenerSettings], count: int, reactor: Any, kept: Sequence[Shared] = ()
) -> list[Shared]:
    """Open what is not open yet.

    Args:
        settings: What to listen on.
        count: How many workers there are.
        reactor: Is only handed on.
        kept: What is open already; what listens at the same place goes on with the same sockets.

    Returns:
        In the order of `settings`.

    Raises:
        InvalidListener: A mistake was found, or an endpoint of Twisted's own.
        ListenError: One could not be opened. Nothing is left open that was not.
    """
    for each in settings:
        if isinstance(each.place, Foreign):
            raise InvalidListener(
                each.origin,
                "an endpoint of Twisted's own cannot be shared by workers; leave out --workers, or listen on tcp, tls or unix",
            )
    if mistakes := check_listeners(settings):
        raise mistakes[0]
    places = {each.opened.settings.place for each in kept}
    new = open_all([each for each in settings if each.place not in places])
    with contextlib.ExitStack() as undo:
        for opened in new:
            undo.callback(opened.close)
        found = [
            shared
            for each in settings
            for shared in (
                *(_described(old, each, reactor) for old in kept if old.opened.settings.place == each.place),
                *(_made(opened, count, reactor, undo) for opened in new if opened.settings is each),
            )
        ]
        undo.pop_all()
    for shared in found:
        _adjust(shared)
    return found


def close_all(shared: Sequence[Shared], kept: Sequence[Shared] = ()) -> None:
    """Close what is not among those that are kept.

    Args:
        shared: What is not needed any more.
        kept: What is, though perhaps with other settings.
    """
    needed = {id(each.opened.sock) for each in kept}
    for each in shared:
        if id(each.opened.sock) not in needed:
            each.close()


def _described(shared: Shared, settings: ListenerSettings, reactor: Any) -> Shared:
    opened = attrs.evolve(shared.opened, settings=settings)
    return Shared(opened, shared.sockets, _describe(opened, reactor))


def _made(opened: Opened, count: int, reactor: Any, undo: contextlib.ExitStack) -> Shared:
    assert opened.sock is not None  # noqa: S101  # no endpoint of Twisted's own comes so far
    several = isinstance(opened.settings.place, Internet) and LINUX
    others = (
        undo.enter_context(open_beside(opened.settings, opened.sock))
        for _ in range(count - 1 if several else 0)
    )
    return Shared(opened, (opened.sock, *others), _describe(opened, reactor))


def _describe(opened: Opened, reactor: Any) -> str:
    """Make the listener once, on a copy of the socket: so what would hinder a worker is found now."""
    assert opened.sock is not None  # noqa: S101  # likewise
    (listener,) = adopt_listeners([Opened(opened.settings, opened.sock.dup())], reactor)
    listener.stop()
    return str(listener)


def _adjust(shared: Shared) -> None:
    """Have sockets that were open before be as other settings want them, as far as that can be changed."""
    settings = shared.opened.settings
    for each in shared.sockets:
        if each.type == socket.SOCK_DGRAM and each.family != socket.AF_UNIX:
            set_receive_buffer(each, settings.receive_buffer)
        elif each.type == socket.SOCK_STREAM and not isinstance(settings.place, Inherited):
            each.listen(settings.backlog)  # which may be said again at any time
