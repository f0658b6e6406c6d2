"""Datagrams that lie about where they come from, made with raw sockets. Needs root."""

from __future__ import annotations

import os
import socket
import struct

from tests.hold.promise import Skipped

__all__ = ["forge", "needs_root"]

_UDP = struct.Struct("!HHHH")  # source port, destination port, length, checksum (RFC 768)
_IPV6_CHECKSUM = 7  # linux/in6.h: where in the payload the kernel puts the checksum it computes


def needs_root() -> None:
    """Go on if we are root.

    Raises:
        Skipped: We are not.
    """
    if os.geteuid() != 0:
        raise Skipped("needs root")


def forge(source: str, source_port: int, host: str, port: int, payload: bytes) -> None:
    """Send one datagram in somebody's name.

    Args:
        source: Whom it claims to come from: one of this machine's addresses.
        source_port: And from which port; 0 is possible.
        host: Where it goes.
        port: And to which port.
        payload: What it says.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    header = _UDP.pack(source_port, port, _UDP.size + len(payload), 0)  # 0: no checksum, allowed over IPv4
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_UDP) as sock:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_CHECKSUM, 6)
        sock.bind((source, 0))
        sock.sendto(header + payload, (host, 0))
