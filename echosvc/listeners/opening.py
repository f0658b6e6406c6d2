"""From settings to listeners: everything is checked first, then opened, all of it or nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from echosvc.admission import AccessList
from echosvc.errors import InvalidListener, InvalidTLS
from echosvc.listeners.foreign import ForeignListener
from echosvc.listeners.layers import Layers
from echosvc.listeners.listener import Listener
from echosvc.listeners.settings import Foreign, Inherited, Internet, ListenerSettings, Place, UnixSocket
from echosvc.listeners.sockets import Opened, open_all
from echosvc.protocols import WireProtocol, find

__all__ = ["AnyListener", "adopt_listeners", "check_listeners", "open_listeners", "succeed"]

AnyListener: TypeAlias = Listener | ForeignListener


def check_listeners(settings: Sequence[ListenerSettings]) -> list[InvalidListener]:
    """Find every mistake that can be found without opening a socket.

    Args:
        settings: What is to be listened on.

    Returns:
        The mistakes, in the order of `settings`: unknown protocols, forms that a protocol does not have, files that
        cannot be read, places asked for twice.
    """
    mistakes: list[InvalidListener] = []
    for index, each in enumerate(settings):
        mistakes += _mistakes(each)
        for other in settings[:index]:
            if _overlap(each.place, other.place):
                mistakes.append(
                    InvalidListener(each.origin, f"{_show(each.place)} is already taken by {other.origin}")
                )
                break
    return mistakes


def open_listeners(settings: Sequence[ListenerSettings], reactor: Any) -> list[AnyListener]:
    """Open every listener of a service; nothing is served until each is started.

    Args:
        settings: What to listen on.
        reactor: What will serve it. Used only by endpoints of Twisted's own, which listen at once.

    Returns:
        The listeners, in the order of `settings`; several for one that asks for several inherited sockets.

    Raises:
        InvalidListener: A mistake was found, the first of them. None is left open.
        ListenError: One could not be opened. None is left open.
    """
    if mistakes := check_listeners(settings):
        raise mistakes[0]
    return adopt_listeners(open_all(settings), reactor)


def adopt_listeners(opened: Sequence[Opened], reactor: Any) -> list[AnyListener]:
    """Make listeners of sockets that are open already; nothing is served until each is started.

    Args:
        opened: The sockets. Whatever happens, they are the listeners' own from now on.
        reactor: As `open_listeners` has it.

    Returns:
        The listeners, in the order of `opened`.

    Raises:
        InvalidListener: What is to be spoken there cannot be. None is left open.
        ListenError: An endpoint of Twisted's own could not be opened. None is left open.
    """
    with contextlib.ExitStack() as undo:
        for each in opened:
            undo.callback(each.close)
        listeners = [_listener(each, reactor, undo) for each in opened]
        undo.pop_all()
    return listeners


def succeed(listener: AnyListener, settings: ListenerSettings) -> Listener:
    """Make the listener that is to serve a socket from now on, with other settings. It is not started.

    Args:
        listener: Who serves the socket now. It goes on until it is told to retire.
        settings: What the successor is to be; the place is the same.

    Raises:
        InvalidListener: It cannot be.
    """
    if isinstance(listener, ForeignListener):
        raise InvalidListener(
            settings.origin,
            "one of Twisted's own endpoints cannot be changed while it listens; start the service again",
        )
    wire = _find_wire(settings)
    layers = _layers(settings, wire)
    unix = listener.port is None
    for mistake in _form_mistakes(settings, wire, is_stream=not listener.is_datagram, may_be_unix=unix):
        raise mistake
    with _files_of(settings):
        return listener.succeed(settings, wire, layers)


def _listener(opened: Opened, reactor: Any, undo: contextlib.ExitStack) -> AnyListener:
    settings = opened.settings
    wire = _find_wire(settings)
    layers = _layers(settings, wire)
    with _files_of(settings):
        if isinstance(settings.place, Foreign):
            foreign = ForeignListener(wire, settings, settings.place, layers, reactor)
            undo.callback(foreign.stop)
            return foreign
        listener = Listener(wire, opened, layers)
    may_be_unix = listener.port is None
    for mistake in _form_mistakes(
        settings, wire, is_stream=not listener.is_datagram, may_be_unix=may_be_unix
    ):
        raise mistake
    return listener


def _find_wire(settings: ListenerSettings) -> WireProtocol:
    try:
        return find(settings.protocol)
    except ValueError as problem:
        raise InvalidListener(settings.origin, str(problem), "protocol") from None


def _mistakes(settings: ListenerSettings) -> Iterator[InvalidListener]:
    """Find every mistake of one listener; make everything once as it will be made, so that it is found now."""
    is_stream = _is_stream(settings.place)
    wire = None
    try:
        wire = _find_wire(settings)
    except InvalidListener as mistake:
        yield mistake
    yield from _form_mistakes(
        settings, wire, is_stream=is_stream, may_be_unix=not isinstance(settings.place, Internet)
    )
    if is_stream is not False:
        try:
            Layers(settings, settings.protocol)
        except InvalidTLS as problem:
            for setting, said in problem.mistakes:
                yield InvalidListener(settings.origin, said, f"tls.{setting}".rstrip("."))
    try:
        AccessList.read(settings.door.allow, settings.door.deny)
    except ValueError as problem:
        yield InvalidListener(settings.origin, str(problem))
    if wire is not None:
        yield from _building_mistakes(settings, wire, is_stream=is_stream)


def _form_mistakes(
    settings: ListenerSettings, wire: WireProtocol | None, *, is_stream: bool | None, may_be_unix: bool
) -> Iterator[InvalidListener]:
    """Find what a protocol, or a socket, cannot do; None: the protocol, or the form of the socket, is not known."""
    if is_stream is True and wire is not None and wire.stream is None:
        yield InvalidListener(
            settings.origin, f"{wire.name} has no stream form; it is spoken over udp and unixgram"
        )
    if is_stream is False and wire is not None and wire.datagram is None:
        yield InvalidListener(
            settings.origin, f"{wire.name} has no datagram form; it is spoken over tcp, unix and tls"
        )
    if is_stream is False and (settings.tls is not None or settings.proxy is not None):
        yield InvalidListener(settings.origin, "TLS and PROXY headers are for streams; this is for datagrams")
    elif settings.proxy == () and not may_be_unix:
        yield InvalidListener(
            settings.origin,
            "proxy names nobody, so that everybody would be refused; name the proxies' networks, such as 10.0.0.0/8",
            "proxy",
        )


def _building_mistakes(
    settings: ListenerSettings, wire: WireProtocol, *, is_stream: bool | None
) -> Iterator[InvalidListener]:
    """Build the form of a protocol that is needed, or both if that is not known."""
    try:
        if wire.stream is not None and is_stream is not False:
            wire.make_stream(settings.options)
        if wire.datagram is not None and is_stream is not True:
            wire.make_datagram(settings.options)
    except Exception as problem:  # noqa: BLE001  # whatever somebody else's protocol raises
        text = str(problem) if isinstance(problem, ValueError | TypeError | OSError) else repr(problem)
        yield InvalidListener(settings.origin, f"{wire.name}: {text}")


def _layers(settings: ListenerSettings, wire: WireProtocol) -> Layers:
    with _files_of(settings):
        return Layers(settings, wire.name)


@contextlib.contextmanager
def _files_of(settings: ListenerSettings) -> Iterator[None]:
    """Name the listener whose files, or what they say, cannot be used."""
    try:
        yield
    except ValueError as problem:
        raise InvalidListener(settings.origin, str(problem)) from problem


def _is_stream(place: Place) -> bool | None:
    match place:
        case Internet():
            return place.transport == "tcp"
        case UnixSocket():
            return place.transport == "unix"
        case Foreign():
            return True
        case Inherited():
            return None


def _overlap(one: Place, other: Place) -> bool:
    """Whether two places are, in part at least, the same."""
    match one, other:
        case Internet(), Internet():
            same = (one.transport, one.port) == (other.transport, other.port) and one.port != 0
            return same and (one.interface == other.interface or not one.interface or not other.interface)
        case UnixSocket(), UnixSocket():
            return one.path == other.path
        case Inherited(), Inherited():
            return one == other
    return False


def _show(place: Place) -> str:
    """Name a place that may overlap with another."""
    match place:
        case Internet():
            return f"{place.transport}:{place.port}" + (f" on {place.interface}" if place.interface else "")
        case UnixSocket():
            return place.path
    return "the inherited socket"
