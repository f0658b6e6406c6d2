"""Where a datagram was sent to decides whether it is answered: what was sent to many is answered by none.

An answer to a broadcast or multicast address is what a forger wants: one datagram in the name of the victim, and
every host of the network answers it (the Fraggle attack; RFC 1122, 4.1.3.4 and 3.2.1.3, have hosts drop
what claims to come from such an address for the same reason). Nor could it leave from the address that was asked.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Sequence

__all__ = ["DESTINATION_BROADCAST", "DESTINATION_MULTICAST", "Destinations"]

DESTINATION_BROADCAST = "destination-broadcast"
"""Sent to all hosts of an IPv4 network."""

DESTINATION_MULTICAST = "destination-multicast"
"""Sent to a group: 224.0.0.0/4 (RFC 5771) or ff00::/8 (RFC 4291, 2.7)."""

_EVERYBODY = ipaddress.IPv4Address("255.255.255.255")

#: Addresses remembered. All are forgotten when there are more: a whole network may be routed to this host.
_REMEMBERED = 1024


class Destinations:
    """Tells addresses of this host from those of many, and remembers its own.

    The others are looked at again each time: they are rare, and the network may be given other numbers.

    Attributes:
        ours: Addresses of this host, as the kernel writes them.
    """

    def __init__(self) -> None:
        self.ours: set[bytes] = set()

    def refused(self, destinations: Sequence[bytes]) -> dict[int, str]:
        """Tell which datagrams are not to be answered.

        Args:
            destinations: The address that each was sent to: 4 or 16 bytes, or none if the kernel did not say.

        Returns:
            The position of each that was sent to many, and the reason.
        """
        if self.ours.issuperset(destinations):
            return {}
        reasons = {}
        for each in {*destinations} - self.ours:
            try:
                reason = _reason(each)
            except OSError:  # no descriptor to ask with: no reason to be silent, nor to believe it for ever
                continue
            if reason:
                reasons[each] = reason
                continue
            if len(self.ours) >= _REMEMBERED:
                self.ours.clear()
            self.ours.add(each)
        return {index: reasons[each] for index, each in enumerate(destinations) if each in reasons}


def _reason(destination: bytes) -> str | None:
    """Say why an address is not one of this host.

    Raises:
        OSError: It cannot be told now.
    """
    if not destination:
        return None
    address = ipaddress.ip_address(destination)
    plain = getattr(address, "ipv4_mapped", None) or address
    if plain.is_multicast:
        return DESTINATION_MULTICAST
    if plain == _EVERYBODY:  # the kernel would say so only if it had a route there
        return DESTINATION_BROADCAST
    return DESTINATION_BROADCAST if plain.version == 4 and _is_broadcast(address) else None


def _is_broadcast(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Ask the kernel, which alone knows the networks' masks: connect(2) to a broadcast address is refused.

    PKTINFO would tell (the address in the header is not the local one, ip(7)), but not on a dual-stack socket.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((str(address), 9))
        except OSError as problem:
            return problem.errno == errno.EACCES
    return False
