"""Numbers, addresses and networks, as they stand in endpoints, options and files."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from echosvc.listeners.settings import Network

__all__ = ["check_interface", "parse_networks", "parse_number"]


def parse_number(name: str, value: str, low: int, high: int) -> int:
    """Read a whole number in ASCII digits; `int` alone would take "1_0", " 1" and other scripts' digits.

    Raises:
        ValueError: It is none from `low` to `high`.
    """
    if re.fullmatch(r"[0-9]{1,12}", value) and low <= int(value) <= high:
        return int(value)
    raise ValueError(f"{name} {value}: must be a number from {low} to {high}")


def check_interface(value: str) -> str:
    """Make sure that something is an address to listen on, or empty.

    Raises:
        ValueError: It is not.
    """
    if not value:
        return value
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        hint = "127.0.0.1 and ::1 are localhost" if value == "localhost" else "names are not looked up"
        raise ValueError(f"must be an IPv4 or IPv6 address ({hint})") from None
    if isinstance(address, ipaddress.IPv6Address) and address.is_link_local and not address.scope_id:
        raise ValueError(f"a link-local address needs its link: {value}%eth0")
    return value


def parse_networks(values: Sequence[str]) -> tuple[Network, ...]:
    """Read networks such as ``10.0.0.0/8``, ``fd00::/8`` or ``192.0.2.1``.

    IPv4 addresses in IPv6 form (``::ffff:10.0.0.0/104``) are those of IPv4, as peers are wherever they are compared.

    Raises:
        ValueError: One of them is none.
    """
    networks = []
    for value in values:
        try:
            networks.append(_unmapped(ipaddress.ip_network(value)))
        except ValueError as problem:
            what = str(problem).removeprefix(repr(value)).removeprefix(value).strip()
            raise ValueError(f"proxy {value!r}: {what}; give networks such as 10.0.0.0/8,fd00::/8") from None
    return tuple(networks)


def _unmapped(network: Network) -> Network:
    first = network.network_address
    if isinstance(first, ipaddress.IPv6Address) and first.ipv4_mapped and network.prefixlen >= 96:
        return ipaddress.IPv4Network((first.ipv4_mapped, network.prefixlen - 96))
    return network
