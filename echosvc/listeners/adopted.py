"""What a socket that a service manager passes on brings along: which of its options are set here, and which are respected.

An option that changes what is read, what is sent, or how long a call takes is set as a socket of our own has it: the protocols,
the transports and the limits rely on that. An option that says how packets travel (IP_TOS, IP_TTL, SO_MARK, SO_SNDBUF and many more)
is the operator's, and is not touched. docs/operations.md lists both.

An accepted connection is made with the options that its listener has at that moment. Those that waited before the socket was
adopted have the old ones, so that they are set once more on each connection.

Sources: socket(7), ip(7), ipv6(7), tcp(7), udp(7); numbers from asm-generic/socket.h, linux/in.h, linux/in6.h, linux/udp.h.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
from collections.abc import Iterable
from typing import TypeAlias

from echosvc.transports import display
from echosvc.transports.accepting import NO_LINGER
from echosvc.transports.linux import LINUX, SOL_UDP, UDP_GRO, UDP_SEGMENT

__all__ = ["set_adopted_options", "set_connection_options", "unsuitable"]

_Option: TypeAlias = tuple[int, int]
"""Level and number."""

#: IPPROTO_MPTCP (RFC 8684), which Python 3.11 does not name: TCP, to the user of the socket.
_MPTCP = 262

#: By type: the protocols that are served. 0 is a UNIX socket's.
_PROTOCOLS = {
    socket.SOCK_STREAM: (0, socket.IPPROTO_TCP, _MPTCP),
    socket.SOCK_DGRAM: (0, socket.IPPROTO_UDP),
}


def _numbers(level: int, *numbers: int) -> tuple[_Option, ...]:
    return tuple((level, number) for number in numbers) if LINUX else ()


#: Errors of earlier packets and the time at which packets left. Each waits in the error queue and keeps the socket ready until it is
#: read; for TCP the first turns every passing ICMP error into the end of a connection.
_ERROR_QUEUE = {
    socket.AF_INET: _numbers(socket.IPPROTO_IP, 11, 26),  # IP_RECVERR, IP_RECVERR_RFC4884
    socket.AF_INET6: _numbers(socket.IPPROTO_IP, 11, 26)
    + _numbers(socket.IPPROTO_IPV6, 25, 31),  # IPV6_RECVERR, IPV6_RECVERR_RFC4884
}
_TIMESTAMPING = _numbers(socket.SOL_SOCKET, 37, 65)  # SO_TIMESTAMPING, old and new

#: What TCP connections have from their listener. SO_OOBINLINE makes an urgent byte one of the stream; with TCP_CORK a small answer waits
#: for 0.2 s.
_CONNECTION = _numbers(socket.SOL_SOCKET, 10) + _numbers(socket.IPPROTO_TCP, 3) + _TIMESTAMPING

#: Control messages beside every datagram: they make it slower to read, and together take the room in which PKTINFO says where it was
#: sent to. SO_TIMESTAMP and SO_TIMESTAMPNS (old and new), SO_RXQ_OVFL, SO_RCVMARK, SO_RCVPRIORITY;
_ANCILLARY = _numbers(socket.SOL_SOCKET, 29, 35, 63, 64, 40, 75, 82)
#: IP_RECVOPTS, IP_RETOPTS, IP_RECVTTL, IP_RECVTOS, IP_PASSSEC, IP_RECVORIGDSTADDR, IP_CHECKSUM, IP_RECVFRAGSIZE;
_ANCILLARY_IPV4 = _numbers(socket.IPPROTO_IP, 6, 7, 12, 13, 18, 20, 23, 25)
#: IPV6_2292PKTINFO, _2292HOPOPTS, _2292DSTOPTS, _2292RTHDR, _2292HOPLIMIT, IPV6_FLOWINFO, IPV6_RECVHOPLIMIT, _RECVHOPOPTS, _RECVRTHDR,
#: _RECVDSTOPTS, _RECVPATHMTU (which is a message of its own, without a datagram), _RECVTCLASS, _RECVORIGDSTADDR, _RECVFRAGSIZE; and
#: IP_PKTINFO, which says on an IPv6 socket what IPV6_RECVPKTINFO says.
_ANCILLARY_IPV6 = _numbers(socket.IPPROTO_IPV6, 2, 3, 4, 5, 8, 11, 51, 53, 56, 58, 60, 66, 74, 77) + _numbers(
    socket.IPPROTO_IP, 8
)

#: SO_BROADCAST would let answers go to a whole network, SO_WIFI_STATUS fills the error queue. UDP_CORK keeps every answer back,
#: UDP_SEGMENT cuts it into several, UDP_GRO joins several datagrams into one, UDP_ENCAP takes those that look like ESP away.
_DATAGRAM = _numbers(socket.SOL_SOCKET, 6, 41) + _numbers(SOL_UDP, 1, UDP_SEGMENT, UDP_GRO, 100)


def set_adopted_options(sock: socket.socket) -> None:
    """Give an adopted socket the options that a socket of our own has, and leave it all others.

    Args:
        sock: Of TCP, UDP or a UNIX socket. What its system does not know of all this is left out.
    """
    # Ready sockets would otherwise be told by SIGIO, which ends a process that does not expect it.
    fcntl.fcntl(sock, fcntl.F_SETFL, fcntl.fcntl(sock, fcntl.F_GETFL) & ~os.O_ASYNC | os.O_NONBLOCK)
    if sock.family == socket.AF_UNIX:
        return
    if sock.type == socket.SOCK_STREAM:
        set_connection_options(sock)
        return
    is_ipv6 = sock.family == socket.AF_INET6
    _clear(sock, _TIMESTAMPING + _ERROR_QUEUE[sock.family] + _ANCILLARY + _ANCILLARY_IPV4 + _DATAGRAM)
    _clear(sock, _ANCILLARY_IPV6 if is_ipv6 else ())


def set_connection_options(sock: socket.socket) -> None:
    """Give a TCP socket the options that a connection of our own has.

    SO_LINGER would make closing a reset, or a wait for the peer in which nothing else is served. With SO_RCVLOWAT the system keeps
    silent about what a client sent until there is more of it.

    Args:
        sock: A connection that an adopted listener has accepted, or the listener, from which later ones have theirs.
    """
    with contextlib.suppress(OSError):  # the connection is gone, or it is MPTCP and does not know of it
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
    _clear(sock, _CONNECTION + _ERROR_QUEUE[sock.family])


def _clear(sock: socket.socket, options: Iterable[_Option]) -> None:
    for level, number in options:
        with contextlib.suppress(OSError):  # unknown to this system, or to MPTCP
            sock.setsockopt(level, number, 0)


def unsuitable(sock: socket.socket) -> str | None:
    """Find out why a socket of a family and type that are served cannot be served all the same.

    Args:
        sock: A stream or datagram socket.

    Returns:
        The reason, and what is needed instead; None if there is none.
    """
    if sock.proto not in _PROTOCOLS[socket.SocketKind(sock.type)]:
        return f"a socket of protocol {sock.proto} cannot be served; of internet sockets TCP and UDP can"
    if sock.type == socket.SOCK_STREAM:
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        return (
            None if listens else "it is a connection, not a listening socket; the socket unit needs Accept=no"
        )
    name = sock.getsockname()
    if not name or (sock.family != socket.AF_UNIX and not name[1]):
        return "it is bound to no address, so that no client could reach it; bind it before it is passed"
    with contextlib.suppress(OSError):  # as it should be
        peer = sock.getpeername()
        shown = peer if sock.family == socket.AF_UNIX else display(*peer[:2])
        return (
            f"it is connected to {shown!r}, so that it hears of no other client; pass one that is only bound"
        )
    ended = select.POLLHUP | (select.POLLRDHUP if LINUX else 0)
    poll = select.poll()
    poll.register(sock, ended)
    if any(events & ended for _, events in poll.poll(0)):
        return "it was shut down, and would be ready for ever; pass another one"
    return None
