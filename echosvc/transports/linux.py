"""Numbers of the Linux kernel that Python 3.11's socket module does not name, and what depends on them.

Sources: linux/in.h, linux/in6.h, linux/udp.h, asm-generic/socket.h, linux/errqueue.h, linux/sock_diag.h. On
another system the sets of options here are empty and the features that need them are off; nothing else
changes.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import sys
import termios
from typing import TypeAlias

__all__ = [
    "CREDENTIALS",
    "ERROR_QUEUE_OPTIONS",
    "LINUX",
    "PKTINFO_OPTIONS",
    "SCM_CREDENTIALS",
    "SIOCATMARK",
    "SOL_UDP",
    "SO_PASSCRED",
    "SO_PASSPIDFD",
    "SO_PASSRIGHTS",
    "SO_PASSSEC",
    "SO_RCVBUFFORCE",
    "UDP_GRO",
    "UDP_SEGMENT",
    "Control",
    "any_address",
    "coalesced_size",
    "control_messages",
    "destination",
    "discard_errors",
    "kernel_drops",
    "pack_control",
    "queued_errno",
    "received_memory",
    "reply_control",
    "round_trip",
    "unacknowledged",
    "unread",
    "unsent",
]

LINUX = sys.platform.startswith("linux")

IP_PKTINFO = 8
IP_RECVERR = 11
IPV6_RECVERR = 25
SO_RCVBUFFORCE = 33
SO_MEMINFO = 55
SO_PASSCRED = 16
SO_PASSPIDFD = 76
SO_PASSRIGHTS = 83
SO_PASSSEC = 34
SCM_CREDENTIALS = 2
SIOCATMARK = 0x8905
SIOCOUTQNSD = 0x894B
SOL_UDP = 17
UDP_SEGMENT = 103
UDP_GRO = 104

#: Errors discarded at once; if there are more, epoll tells of them again.
MOST_ERRORS = 256

Control: TypeAlias = tuple[int, int, bytes]
"""A control message as `socket.sendmsg` takes it: level, type, data."""

#: For each family the options that make the kernel say which local address a datagram was sent to.
#: An IPv6 socket that is not IPv6-only reports IPv4 destinations as mapped IPv6 ones.
PKTINFO_OPTIONS: dict[int, tuple[int, int]] = (
    {
        socket.AF_INET: (socket.IPPROTO_IP, IP_PKTINFO),
        socket.AF_INET6: (socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO),
    }
    if LINUX
    else {}
)

#: For each family the options that make the kernel report ICMP errors on the socket's error queue.
#: A dual-stack socket needs both: IPv4 errors are queued under the IPv4 option.
ERROR_QUEUE_OPTIONS: dict[int, tuple[tuple[int, int], ...]] = (
    {
        socket.AF_INET: ((socket.IPPROTO_IP, IP_RECVERR),),
        socket.AF_INET6: (
            (socket.IPPROTO_IPV6, IPV6_RECVERR),
            (socket.IPPROTO_IP, IP_RECVERR),
        ),
    }
    if LINUX
    else {}
)

CREDENTIALS = struct.Struct("@iII")
"""What tells of the peer of a UNIX socket (struct ucred, unix(7)): process, user and group."""

_MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96, RFC 4291 2.5.5.2
_IN_PKTINFO = struct.Struct("@i4s4s")  # ifindex, spec_dst, addr
_IN6_PKTINFO = struct.Struct("@16si")  # addr, ifindex
_EXTENDED_ERR = struct.Struct("@IBBBBII")  # errno, origin, type, code, pad, info, data
_CMSG_HEADER = struct.Struct("@Nii")  # length with this header, level, type
_TCP_INFO = struct.Struct("@68xI28xI")  # struct tcp_info (linux/tcp.h): tcpi_rtt in us, tcpi_total_retrans
_MEMINFO = struct.Struct("@9I")  # SK_MEMINFO_RMEM_ALLOC to SK_MEMINFO_DROPS


def reply_control(ancillary: list[Control]) -> list[Control]:
    """Build the control message that sends an answer from the address that was asked.

    Only PKTINFO goes back: other messages that the kernel may have delivered beside it (a drop count, a
    segment size) are refused with EINVAL on the way out. The interface index is zero, so that routing
    decides, except for link-local addresses, which mean nothing without it.

    Args:
        ancillary: What `socket.recvmsg` returned.

    Returns:
        Control messages for `socket.sendmsg`; empty where the kernel did not say.
    """
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
            _, local, _ = _IN_PKTINFO.unpack(data[: _IN_PKTINFO.size])
            return [(level, kind, _IN_PKTINFO.pack(0, local, b"\0\0\0\0"))]
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            local, index = _IN6_PKTINFO.unpack(data[: _IN6_PKTINFO.size])
            link_local = local[0] == 0xFE and local[1] & 0xC0 == 0x80  # fe80::/10, RFC 4291 2.5.6
            return [(level, kind, _IN6_PKTINFO.pack(local, index if link_local else 0))]
    return []


def destination(ancillary: list[Control]) -> bytes:
    """Read which address a datagram was sent to: one of ours, or one of many hosts.

    Args:
        ancillary: What `socket.recvmsg` returned.

    Returns:
        Its 4 or 16 bytes; none where the kernel did not say.
    """
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
            _, _, address = _IN_PKTINFO.unpack(data[: _IN_PKTINFO.size])
            return bytes(address)
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            address, _ = _IN6_PKTINFO.unpack(data[: _IN6_PKTINFO.size])
            return bytes(address)
    return b""


def any_address(family: int, peer: bytes) -> Control:
    """Build a PKTINFO that says nothing: an answer with it leaves from where routing decides.

    Args:
        family: The socket's.
        peer: The 16 bytes of the peer's address, if the family is IPv6: one that is IPv4-mapped is refused
            (EINVAL) unless the local address is, too.

    Returns:
        A control message for `socket.sendmsg`.
    """
    if family == socket.AF_INET:
        return (socket.IPPROTO_IP, IP_PKTINFO, bytes(_IN_PKTINFO.size))
    address = peer[:12] + bytes(4) if peer[:12] == _MAPPED else bytes(16)
    return (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _IN6_PKTINFO.pack(address, 0))


def control_messages(raw: bytes) -> list[Control]:
    """Take a control buffer apart, as CMSG_NXTHDR does (cmsg(3)).

    Args:
        raw: As much of the buffer as the kernel has filled.

    Returns:
        Level, type and data of each message; nothing from the first one on that does not fit.
    """
    found = []
    at = 0
    while at + _CMSG_HEADER.size <= len(raw):
        length, level, kind = _CMSG_HEADER.unpack_from(raw, at)
        if not _CMSG_HEADER.size <= length <= len(raw) - at:
            break
        found.append((level, kind, raw[at + _CMSG_HEADER.size : at + length]))
        at += socket.CMSG_SPACE(length - _CMSG_HEADER.size)
    return found


def pack_control(message: Control) -> bytes:
    """Write a control message as the kernel has it, without padding behind it."""
    level, kind, data = message
    return _CMSG_HEADER.pack(_CMSG_HEADER.size + len(data), level, kind) + data


def coalesced_size(ancillary: list[Control]) -> int:
    """Tell the size of the datagrams that the kernel has put together in one message (UDP_GRO).

    Args:
        ancillary: The message's control messages.

    Returns:
        Bytes of each datagram, the last of which may be shorter; 0 if the message is a single datagram.
    """
    for level, kind, data in ancillary:
        if (level, kind) == (SOL_UDP, UDP_GRO):
            return int.from_bytes(data[:4], sys.byteorder)
    return 0


def kernel_drops(sock: socket.socket) -> int:
    """Tell how many datagrams the kernel has dropped at this socket, mostly because its buffer was full.

    This is the number that SO_RXQ_OVFL would add to every message. Asked for (SO_MEMINFO, Linux 4.12) it costs
    nothing per message, and is there even if nothing more arrives.

    Args:
        sock: A datagram socket.

    Returns:
        The count since the socket was made, modulo 2^32; 0 where the system does not tell.
    """
    return _memory(sock)[-1]


def received_memory(sock: socket.socket) -> int:
    """Tell how many bytes of memory the kernel needs for what was received and not read yet.

    That is more than the bytes: a segment of one takes 768. What came from a UNIX socket is in its sender's account.

    Args:
        sock: Connected.

    Returns:
        Bytes of memory; 0 where the system does not tell.
    """
    return _memory(sock)[0]


def _memory(sock: socket.socket) -> tuple[int, ...]:
    if not LINUX:
        return (0,) * 9
    try:
        return _MEMINFO.unpack(sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, _MEMINFO.size))
    except (OSError, struct.error):  # from a kernel that tells less
        return (0,) * 9


def discard_errors(descriptor: int) -> None:
    """Empty the error queue of a stream socket, of which epoll tells for as long as something is in it.

    Nothing is put there by itself, but an inherited socket can have an option that does: SO_TIMESTAMPING, for one. An
    error that has ended the connection is not there; reading or writing meets it.

    Args:
        descriptor: Of the socket, or of anything else, to which nothing is done.
    """
    if not LINUX:
        return
    with contextlib.suppress(OSError):  # EAGAIN: it is empty
        view = socket.socket(fileno=descriptor)
        try:
            for _ in range(MOST_ERRORS):
                view.recvmsg(0, 0, socket.MSG_ERRQUEUE)
        finally:
            view.detach()


def queued_errno(ancillary: list[Control]) -> int | None:
    """Read which error a message from the error queue reports.

    Args:
        ancillary: What `socket.recvmsg` with ``MSG_ERRQUEUE`` returned.

    Returns:
        The errno (``ECONNREFUSED`` for ICMP port unreachable), or None if there is none.
    """
    for level, kind, data in ancillary:
        if (level, kind) in (
            (socket.IPPROTO_IP, IP_RECVERR),
            (socket.IPPROTO_IPV6, IPV6_RECVERR),
        ):
            number: int = _EXTENDED_ERR.unpack(data[: _EXTENDED_ERR.size])[0]
            return number
    return None


def unacknowledged(sock: socket.socket) -> int:
    """Tell how many bytes of a connection the peer's system has not acknowledged (tcp(7), SIOCOUTQ).

    Args:
        sock: Connected; of a UNIX socket it is the memory of what the peer has not read.

    Returns:
        Bytes sent or waiting in the kernel; 0 where the system does not tell.
    """
    if not LINUX:
        return 0
    return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)


def unread(sock: socket.socket) -> int:
    """Tell how many bytes have come in on a connection that were not read yet (FIONREAD)."""
    return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4)), sys.byteorder)


def unsent(sock: socket.socket) -> int:
    """Tell how many bytes the kernel was given to send and has not sent yet (SIOCOUTQNSD, linux/sockios.h).

    Args:
        sock: Connected.

    Returns:
        Bytes, which the peer's window or the path leaves no room for; 0 where the system does not tell, and of a UNIX socket: its
        peer has all at once.
    """
    if not LINUX or sock.family == socket.AF_UNIX:
        return 0
    return int.from_bytes(fcntl.ioctl(sock.fileno(), SIOCOUTQNSD, bytes(4)), sys.byteorder)


def round_trip(sock: socket.socket) -> tuple[float, int] | None:
    """Tell what TCP has measured on a connection (tcp(7), TCP_INFO).

    Args:
        sock: Connected, or not any more, and not closed.

    Returns:
        The smoothed round trip, in seconds, and how many segments were sent again; None where the system does not tell.
    """
    if not LINUX or sock.family == socket.AF_UNIX:
        return None
    try:
        microseconds, again = _TCP_INFO.unpack(
            sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        )
    except (OSError, struct.error):  # the latter from a kernel that tells less
        return None
    return microseconds / 1e6, again
