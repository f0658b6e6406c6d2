"""Which datagrams are never answered, whatever is in them: by source port and address.

UDP has no connection, so that anyone can send a datagram in anyone's name. One datagram forged from our own port would make
an echo answer itself for ever (130 000 datagrams a second in stock Twisted); between two echo services it would make a storm
(CERT CA-1996-01, CVE-2024-2169). Nobody's client has such a port: systems give out ports from 1024 on (RFC 6056, 3.2), mostly
from 32768, while what answers everything that it is sent (echo, chargen, daytime, time, DNS, NTP, SNMP) listens below. OpenBSD's
inetd refuses the same ports and addresses (``dg_badinput``), BIND and HAProxy some of them.
"""

from __future__ import annotations

from collections.abc import Iterable

from echosvc.transports import Arrival

__all__ = [
    "SOURCE_BROADCAST",
    "SOURCE_LOOPBACK",
    "SOURCE_MULTICAST",
    "SOURCE_PORT_LOW",
    "SOURCE_PORT_NFS",
    "SOURCE_PORT_OWN",
    "SOURCE_PORT_ZERO",
    "SOURCE_RESERVED",
    "SOURCE_UNSPECIFIED",
    "Rules",
    "is_loopback",
]

SOURCE_PORT_ZERO = "source-port-zero"
"""Reserved (RFC 768: "if not used, a value of zero is inserted"); nothing can be answered there."""

SOURCE_PORT_OWN = "source-port-own"
"""The source is a port that we listen on ourselves: our own echo, or an echo service like ours elsewhere."""

SOURCE_PORT_LOW = "source-port-low"
"""Below 1024: a service, and not a client."""

SOURCE_PORT_NFS = "source-port-nfs"
"""2049: the one service above 1024 that OpenBSD's inetd names, too."""

SOURCE_UNSPECIFIED = "source-unspecified"
"""0.0.0.0/8 ("this network", RFC 1122, 3.2.1.3) or ::."""

SOURCE_LOOPBACK = "source-loopback"
"""Claims to be on this machine, and has asked at an address where only others need to ask."""

SOURCE_MULTICAST = "source-multicast"
"""224.0.0.0/4 or ff00::/8: a group sends nothing (RFC 1122, 3.2.1.3; RFC 4291, 2.7)."""

SOURCE_RESERVED = "source-reserved"
"""240.0.0.0/4: nobody has such an address (RFC 1112, 4)."""

SOURCE_BROADCAST = "source-broadcast"
"""255.255.255.255. Other broadcast addresses only the kernel knows: it refuses to send there (``send-EACCES``)."""

_NFS = 2049
_LOCALHOST = bytes(15) + b"\1"  # ::1
_BROADCAST = b"\xff" * 4

_BY_FIRST_BYTE = {
    0: SOURCE_UNSPECIFIED,
    **dict.fromkeys(range(224, 240), SOURCE_MULTICAST),
    **dict.fromkeys(range(240, 256), SOURCE_RESERVED),
}


class Rules:
    """What follows from the source alone.

    Args:
        own_ports: Every UDP port of the service. The port alone decides, whatever the address: the same service on another
            host, or on another address of this one, would answer as we do.
        low_ports: Ports below 1024, or 2049, that may ask all the same, unless they are own ones.
    """

    def __init__(self, own_ports: Iterable[int], low_ports: Iterable[int] = ()) -> None:
        self._ports = {**dict.fromkeys(range(1, 1024), SOURCE_PORT_LOW), _NFS: SOURCE_PORT_NFS}
        for port in low_ports:
            self._ports.pop(port, None)
        self._ports |= {0: SOURCE_PORT_ZERO, **dict.fromkeys(own_ports, SOURCE_PORT_OWN)}

    def refuses(self, arrival: Arrival) -> str | None:
        """Tell why a datagram is never answered; None if nothing speaks against it."""
        source, port, destination = arrival
        if reason := self._ports.get(port):
            return reason
        if is_loopback(source):
            known = destination.strip(b"\0")
            return SOURCE_LOOPBACK if known and not is_loopback(destination) else None
        if len(source) == 4:
            return SOURCE_BROADCAST if source == _BROADCAST else _BY_FIRST_BYTE.get(source[0])
        if source[0] == 0xFF:
            return SOURCE_MULTICAST
        return SOURCE_UNSPECIFIED if source == bytes(16) else None


def is_loopback(address: bytes) -> bool:
    """Tell whether an address is one by which a machine speaks to itself: 127.0.0.0/8 or ::1."""
    return address[0] == 127 if len(address) == 4 else address == _LOCALHOST
