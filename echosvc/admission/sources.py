"""What counts as one source, where something is limited for each."""

from __future__ import annotations

import socket
from functools import lru_cache

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress

from echosvc.transports import UserAddress

__all__ = ["Sources", "key_of_user", "packed"]

_MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96, RFC 4291 2.5.5.2

#: Addresses whose source is remembered: 0.1 MiB. To find it anew takes 0.4 us.
REMEMBERED = 1024

_NAT64 = bytes.fromhex("0064ff9b") + bytes(8)  # 64:ff9b::/96, RFC 6052 2.1


def key_of_user(uid: int | None) -> bytes:
    """Tell which source a user of this machine is; all of whom nothing is known are one.

    Args:
        uid: As the kernel has it.
    """
    return b"user of this machine %d" % uid if uid is not None else b"unknown user of this machine"


def packed(host: str) -> bytes:
    """Turn an address as text into its bytes, 4 if it is an IPv4 one, mapped into IPv6 or not, else 16.

    The scope of a link-local address is left out. Our own ports have IPv4 as IPv4; ports of Twisted's and proxies may not.

    Raises:
        OSError: It is none.
    """
    if ":" not in host:
        return socket.inet_pton(socket.AF_INET, host)
    address = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    return address.removeprefix(_MAPPED)


class Sources:
    """Networks of a size, each of which counts as one source.

    An IPv4 address is a host, or the many behind one NAT. In IPv6 everybody has at least a /64 to themselves (RFC 7421): to
    count single addresses there would be to count nothing. No key of an IPv4 source is that of an IPv6 one: they have at
    most 4 bytes, and at least 5; that of a user (`key_of_user`) has more than 16. Two kinds of IPv6 address have not the network of their own that this supposes: a link-local one
    (fe80::/10) is a source by itself, and one that stands for an IPv4 address (NAT64 and the like, 64:ff9b::/96) is that one. The
    same link-local address on two links is one source: the bytes do not tell them apart.

    Args:
        ipv4: Bits of an IPv4 address that are looked at, 8 to 32.
        ipv6: Bits of an IPv6 address that are looked at, 40 to 128.
    """

    def __init__(self, ipv4: int = 32, ipv6: int = 64) -> None:
        self._cuts = {4: _Cut(ipv4), 16: _Cut(ipv6)}
        #: `key` of an address as text. Most connections come from where others came from.
        self.key_of_host = lru_cache(REMEMBERED)(lambda host: self.key(packed(host)))

    def of_peer(self, peer: IAddress, *, users: bool = True) -> bytes | None:
        """Tell which source the peer of a connection is.

        Args:
            peer: An address of a host, or a user of this machine.
            users: Whether each user is a source.

        Returns:
            None if it is none.
        """
        if isinstance(peer, IPv4Address | IPv6Address):
            return self.key_of_host(peer.host)
        if users and isinstance(peer, UserAddress) and peer.uid is not None:
            return key_of_user(peer.uid)
        return None

    def key(self, address: bytes) -> bytes:
        """Tell which source an address belongs to.

        Args:
            address: Its 4 or 16 bytes.
        """
        if address.startswith(_NAT64):
            address = address[12:]
        elif len(address) == 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80:
            return address
        return self._cuts[len(address)].of(address)


class _Cut:
    """The first bits of an address."""

    def __init__(self, bits: int) -> None:
        self._whole, rest = divmod(bits, 8)
        self._mask = 0xFF00 >> rest & 0xFF

    def of(self, address: bytes) -> bytes:
        whole = self._whole
        if not self._mask:
            return address[:whole]
        return address[:whole] + bytes([address[whole] & self._mask])
