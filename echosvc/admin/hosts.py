"""Which names of a host, as a request has them, mean this machine (RFC 9110, section 7.2).

A browser asks this machine for any page that it shows. What it may read is decided by the host's name: a page of ``evil.example``
may read answers of ``evil.example``, and can have that name lead to 127.0.0.1 (DNS rebinding). The browser still sends the name.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address

__all__ = ["is_loopback_host"]

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+))(?::[0-9]*)?")


def is_loopback_host(host: str) -> bool:
    """Tell whether a host is a name or an address that is this machine on every machine.

    Args:
        host: The value of a ``Host`` header: a name, an IPv4 address or an IPv6 address in brackets, perhaps with a port.

    Returns:
        True for addresses of 127.0.0.0/8 and ::1, and for the names that RFC 6761, section 6.3, keeps for them: localhost and what ends
        in .localhost.
    """
    if (found := _HOST.fullmatch(host.strip())) is None:
        return False
    name = (found[1] or found[2]).lower().removesuffix(".")
    try:
        address = ip_address(name)
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    return address.is_loopback
