"""Numbers of the Linux kernel that Python 3.11's socket module does not name, and what depends on them.

Sources: linux/in.h, linux/in6.h, asm-generic/socket.h, linux/errqueue.h. On another system the sets of
options here are empty and the features that need them are off; nothing else changes.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
import termios

__all__ = [
    "ERROR_QUEUE_OPTIONS",
    "LINUX",
    "PKTINFO_OPTIONS",
    "SO_RCVBUFFORCE",
    "queued_errno",
    "reply_control",
    "unacknowledged",
]

LINUX = sys.platform.startswith("linux")

IP_PKTINFO = 8
IP_RECVERR = 11
IPV6_RECVERR = 25
SO_RCVBUFFORCE = 33

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

_IN_PKTINFO = struct.Struct("@i4s4s")  # ifindex, spec_dst, addr
_IN6_PKTINFO = struct.Struct("@16si")  # addr, ifindex
_EXTENDED_ERR = struct.Struct("@IBBBBII")  # errno, origin, type, code, pad, info, data

#: A control message as `socket.sendmsg` takes it.
Control = tuple[int, int, bytes]


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
    """Tell how many bytes of a TCP connection the peer's system has not acknowledged (tcp(7), SIOCOUTQ).

    Args:
        sock: Connected.

    Returns:
        Bytes sent or waiting in the kernel; 0 where the system does not tell.
    """
    if not LINUX:
        return 0
    return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
