"""Bound sockets, made before the reactor runs: so that errors are the user's to see, and privileges can go."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Sequence

import attrs

from echosvc.errors import AddressNotAvailable, ListenError, ListenNotPermitted, PortInUse
from echosvc.listeners.inherited import adopt
from echosvc.listeners.settings import Foreign, Inherited, Internet, ListenerSettings, UnixSocket
from echosvc.listeners.unix_sockets import SocketFile, open_unix_socket, show_path
from echosvc.transports import display
from echosvc.transports.linux import LINUX, SO_RCVBUFFORCE
from echosvc.transports.own_source import OwnSource
from echosvc.transports.rights import close_bound

__all__ = ["Opened", "explain", "open_all", "open_beside", "open_socket", "set_receive_buffer", "where"]

#: How often one free number for TCP and UDP is looked for. Each try fails only if the number the kernel
#: picked for the one is taken for the other, so that a handful would do.
_TRIES = 64


@attrs.frozen
class Opened:
    """A socket that was opened for a listener.

    Attributes:
        settings: What asked for it.
        sock: The socket, bound, listening if it is a stream; None where Twisted's own endpoint will open it.
        file: The file of a UNIX socket, to be removed at the end.
    """

    settings: ListenerSettings
    sock: socket.socket | None
    file: SocketFile | None = None

    def close(self) -> None:
        """Remove the socket's file and close it."""
        if self.file is not None:
            self.file.remove()  # first: a closed socket's file gives its number to the next, which would be taken for it
        if self.sock is not None:
            close_bound(self.sock)


def open_all(listeners: Sequence[ListenerSettings]) -> list[Opened]:
    """Open what each listener listens on; all of it, or nothing.

    Listeners that ask for port 0 share the number of the one before, as far as they can (TCP and UDP, several addresses).
    It is tried again with another while one of them finds it taken.

    Args:
        listeners: What to listen on.

    Returns:
        What was opened, in the order of `listeners`; several for one that asks for several inherited sockets.

    Raises:
        ListenError: One of them could not be opened; the error names the option. Nothing is left open.
    """
    for _ in range(_TRIES - 1):
        with contextlib.suppress(_FreeNumberTaken):
            return _try_open_all(listeners)
    return _try_open_all(listeners)


class _FreeNumberTaken(PortInUse):
    """The number that was free for one listener is taken for another: try again."""


def _try_open_all(listeners: Sequence[ListenerSettings]) -> list[Opened]:
    opened: list[Opened] = []
    number = _FreeNumber()
    taken: dict[int, str] = {}
    try:
        for listener in listeners:
            match listener.place:
                case Internet():
                    opened.append(Opened(listener, _open_port(listener, listener.place, number)))
                case UnixSocket():
                    opened.append(Opened(listener, *open_unix_socket(listener, listener.place)))
                case Inherited():
                    opened += _adopt(listener, listener.place, taken)
                case Foreign():
                    opened.append(Opened(listener, None))
    except BaseException:
        for each in opened:
            each.close()
        raise
    return opened


def _adopt(listener: ListenerSettings, place: Inherited, taken: dict[int, str]) -> list[Opened]:
    sockets = adopt(place, listener.origin, taken)
    for sock in sockets:
        if sock.type == socket.SOCK_DGRAM and sock.family != socket.AF_UNIX:
            set_receive_buffer(sock, listener.receive_buffer)
            OwnSource(sock, inherited=True)
    return [Opened(listener, sock) for sock in sockets]


class _FreeNumber:
    """The free number that listeners share: the last that was found."""

    def __init__(self) -> None:
        self._number = 0
        self._taken: set[tuple[str, str]] = set()

    def find(self, place: Internet) -> int:
        """Look up the number that a listener is to have; 0 for another."""
        one = place.interface
        taken = any(
            transport == place.transport and (one == other or not one or not other)
            for transport, other in self._taken
        )
        return 0 if taken else self._number

    def remember(self, place: Internet, number: int) -> None:
        """Take notice of the number that it got."""
        if number != self._number:
            self._number = number
            self._taken.clear()
        self._taken.add((place.transport, place.interface))


def _open_port(listener: ListenerSettings, place: Internet, number: _FreeNumber) -> socket.socket:
    if place.port:
        return open_socket(listener, place, place.port)
    try:
        sock = open_socket(listener, place, number.find(place))
    except PortInUse as taken:
        raise _FreeNumberTaken(taken.option, taken.where, taken.problem) from taken
    number.remember(place, sock.getsockname()[1])
    return sock


def open_socket(listener: ListenerSettings, place: Internet, port: int) -> socket.socket:
    """Open the TCP or UDP socket of one listener.

    Args:
        listener: What asks for it.
        place: What to open.
        port: The number to bind, 0 for a free one (in place of `place.port`).

    Returns:
        The socket, bound, listening if TCP, and non-blocking.

    Raises:
        ListenError: It could not be opened; the error names the option. Nothing is left open.
    """
    try:
        if place.interface:
            family = socket.AF_INET6 if ":" in place.interface else socket.AF_INET
            return _open(listener, place.transport, family, place.interface, port)
        return _open_any(listener, place.transport, port)
    except OSError as problem:
        transport = place.transport.upper()
        where = f"{transport} {display(place.interface or '*', port)}"
        raise explain(listener, where, problem, transport) from problem


def open_beside(listener: ListenerSettings, sock: socket.socket) -> socket.socket:
    """Open one more socket at the address of one that is open: the kernel chooses between them (SO_REUSEPORT).

    The first was bound without leave to share, so that it was refused if anybody was there, and whoever comes without that leave is
    refused as ever. It is given leave only here.

    Args:
        listener: Who listens there.
        sock: The socket that is open.

    Raises:
        ListenError: It could not be opened. Nothing is left open.
    """
    another = socket.socket(sock.family, sock.type)
    try:
        another.setblocking(False)
        for each in (sock, another):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if sock.family == socket.AF_INET6:
            only = sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            another.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        if sock.type == socket.SOCK_STREAM:
            another.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            set_receive_buffer(another, listener.receive_buffer)
            OwnSource(another, inherited=False)
        another.bind(sock.getsockname())
        if sock.type == socket.SOCK_STREAM:
            another.listen(listener.backlog)
    except OSError as problem:
        another.close()
        raise explain(listener, where(sock), problem, where(sock)[:3]) from problem
    return another


def where(sock: socket.socket) -> str:
    """Say where a bound socket listens, as logs show it: ``TCP [::]:8080 (IPv6 and IPv4)``."""
    if sock.family == socket.AF_UNIX:
        kind = "unix" if sock.type == socket.SOCK_STREAM else "unixgram"
        return f"{kind}:{show_path(sock.getsockname())}"
    transport = "TCP" if sock.type == socket.SOCK_STREAM else "UDP"
    host, port = sock.getsockname()[:2]
    dual = sock.family == socket.AF_INET6 and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    return f"{transport} {display(host, port)}{' (IPv6 and IPv4)' if dual else ''}"


def _open_any(listener: ListenerSettings, transport: str, port: int) -> socket.socket:
    """Listen on every address: one dual-stack socket, or IPv4 alone on a machine without IPv6."""
    try:
        return _open(listener, transport, socket.AF_INET6, "::", port, dual_stack=True)
    except OSError as problem:
        if problem.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.ENOPROTOOPT):
            raise
    return _open(listener, transport, socket.AF_INET, "0.0.0.0", port)  # noqa: S104  # asked for


def _open(
    listener: ListenerSettings,
    transport: str,
    family: socket.AddressFamily,
    host: str,
    port: int,
    *,
    dual_stack: bool = False,
) -> socket.socket:
    stream = transport == "tcp"
    sock = socket.socket(family, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual_stack)
        if stream:
            # Lets a restart bind while connections of the last run are in TIME_WAIT. Never for UDP: there it
            # would let two services share a port, and the kernel give each a part of the datagrams.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            set_receive_buffer(sock, listener.receive_buffer)
            OwnSource(sock, inherited=False)  # before anything can arrive
        sock.bind(_resolve(family, host, port))
        if stream:
            sock.listen(listener.backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _resolve(family: socket.AddressFamily, host: str, port: int) -> tuple[object, ...]:
    """Turn a literal into what bind takes; a link-local one needs its scope as a number."""
    try:
        return socket.getaddrinfo(host, port, family, flags=socket.AI_NUMERICHOST)[0][4]
    except socket.gaierror as problem:  # "fe80::1%nosuch"
        raise OSError(errno.ENODEV, "no such network interface") from problem


def set_receive_buffer(sock: socket.socket, size: int) -> None:
    """Have the kernel keep so many bytes of datagrams; fewer, if the system allows no more."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    if LINUX and sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) < size:
        # The system's limit (net.core.rmem_max) is below; root may pass it. The kernel reports the double of
        # what was set, its own overhead included, so "below size" means that less than half was granted.
        with contextlib.suppress(PermissionError):
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size)


def explain(listener: ListenerSettings, where: str, problem: OSError, transport: str = "TCP") -> ListenError:
    """Turn what the system said into an error that names the option and the way out.

    Args:
        listener: What could not be opened.
        where: The address, as the error names it.
        problem: What the system said.
        transport: ``TCP`` or ``UDP``.
    """
    match problem.errno:
        case errno.EADDRINUSE:
            return PortInUse(
                listener.origin,
                where,
                f"already in use; stop what listens there (`ss -ln{'t' if transport == 'TCP' else 'u'}p` "
                f"shows it) or choose another port, 0 for any free one",
            )
        case errno.EACCES | errno.EPERM:
            return ListenNotPermitted(
                listener.origin,
                where,
                "not permitted; ports below 1024 need root (twistd --uid drops it again) or "
                "CAP_NET_BIND_SERVICE; or choose a port from 1024 on",
            )
        case errno.EADDRNOTAVAIL | errno.ENODEV | errno.EINVAL | errno.EAFNOSUPPORT:
            return AddressNotAvailable(
                listener.interface_origin or listener.origin,
                where,
                f"{problem.strerror}; give an address of this machine (`ip address` lists them)",
            )
    return ListenError(listener.origin, where, problem.strerror or str(problem))
