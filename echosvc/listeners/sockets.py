"""Bound sockets, made before the reactor runs: so that errors are the user's to see, and privileges can go."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Sequence

from echosvc.errors import AddressNotAvailable, ListenError, ListenNotPermitted, PortInUse
from echosvc.listeners.settings import ListenerSettings
from echosvc.transports import display
from echosvc.transports.linux import LINUX, SO_RCVBUFFORCE

__all__ = ["bind_all", "open_socket", "where"]

#: How often one free number for TCP and UDP is looked for. Each try fails only if the number the kernel
#: picked for the one is taken for the other, so that a handful would do.
_TRIES = 64


def bind_all(listeners: Sequence[ListenerSettings]) -> list[socket.socket]:
    """Open one socket for each listener; all of them, or none.

    Listeners that ask for port 0 share one number, tried again with another while one of them finds it
    taken.

    Args:
        listeners: What to listen on.

    Returns:
        The sockets, bound, listening if TCP, and non-blocking, in the order of `listeners`.

    Raises:
        ListenError: One of them could not be opened; the error names the option. No socket is left open.
    """
    for _ in range(_TRIES - 1):
        with contextlib.suppress(_FreeNumberTaken):
            return _try_bind_all(listeners)
    return _try_bind_all(listeners)


class _FreeNumberTaken(PortInUse):
    """The number that was free for one listener is taken for another: try again."""


def _try_bind_all(listeners: Sequence[ListenerSettings]) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    shared = 0
    try:
        for listener in listeners:
            try:
                sock = open_socket(listener, listener.port or shared)
            except PortInUse as taken:
                if listener.port:
                    raise
                raise _FreeNumberTaken(taken.option, taken.where, taken.problem) from taken
            sockets.append(sock)
            if not listener.port:
                shared = sock.getsockname()[1]
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def open_socket(listener: ListenerSettings, port: int) -> socket.socket:
    """Open the socket of one listener.

    Args:
        listener: What to open.
        port: The number to bind, 0 for a free one (in place of `listener.port`).

    Returns:
        The socket, bound, listening if TCP, and non-blocking.

    Raises:
        ListenError: It could not be opened; the error names the option. Nothing is left open.
    """
    try:
        if listener.interface:
            family = socket.AF_INET6 if ":" in listener.interface else socket.AF_INET
            return _open(listener, family, listener.interface, port)
        return _open_any(listener, port)
    except OSError as problem:
        raise _explain(listener, port, problem) from problem


def where(sock: socket.socket) -> str:
    """Say where a bound socket listens, as logs show it: ``TCP [::]:8080 (IPv6 and IPv4)``."""
    transport = "TCP" if sock.type == socket.SOCK_STREAM else "UDP"
    host, port = sock.getsockname()[:2]
    dual = sock.family == socket.AF_INET6 and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    return f"{transport} {display(host, port)}{' (IPv6 and IPv4)' if dual else ''}"


def _open_any(listener: ListenerSettings, port: int) -> socket.socket:
    """Listen on every address: one dual-stack socket, or IPv4 alone on a machine without IPv6."""
    try:
        return _open(listener, socket.AF_INET6, "::", port, dual_stack=True)
    except OSError as problem:
        if problem.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.ENOPROTOOPT):
            raise
    return _open(listener, socket.AF_INET, "0.0.0.0", port)  # noqa: S104  # asked for


def _open(
    listener: ListenerSettings,
    family: socket.AddressFamily,
    host: str,
    port: int,
    *,
    dual_stack: bool = False,
) -> socket.socket:
    stream = listener.transport == "tcp"
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
            _set_receive_buffer(sock, listener.receive_buffer)
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


def _set_receive_buffer(sock: socket.socket, size: int) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    if LINUX and sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) < size:
        # The system's limit (net.core.rmem_max) is below; root may pass it. The kernel reports the double of
        # what was set, its own overhead included, so "below size" means that less than half was granted.
        with contextlib.suppress(PermissionError):
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size)


def _explain(listener: ListenerSettings, port: int, problem: OSError) -> ListenError:
    """Turn what the system said into an error that names the option and the way out."""
    transport = listener.transport.upper()
    place = f"{transport} {display(listener.interface or '*', port)}"
    match problem.errno:
        case errno.EADDRINUSE:
            return PortInUse(
                listener.origin,
                place,
                f"already in use; stop what listens there (`ss -ln{'t' if transport == 'TCP' else 'u'}p` "
                f"shows it) or choose another port, 0 for any free one",
            )
        case errno.EACCES | errno.EPERM:
            return ListenNotPermitted(
                listener.origin,
                place,
                "not permitted; ports below 1024 need root (twistd --uid drops it again) or "
                "CAP_NET_BIND_SERVICE; or choose a port from 1024 on",
            )
        case errno.EADDRNOTAVAIL | errno.ENODEV | errno.EINVAL | errno.EAFNOSUPPORT:
            return AddressNotAvailable(
                f"--interface {listener.interface or '*'}",
                place,
                f"{problem.strerror}; give an address of this machine (`ip address` lists them)",
            )
    return ListenError(listener.origin, place, f"{problem.strerror}")
