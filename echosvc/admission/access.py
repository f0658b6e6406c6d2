"""Who may connect at all, by address."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_interface
from pathlib import Path
from typing import TypeAlias

from echosvc.admission.sources import packed

__all__ = ["AccessList", "Network", "read_networks"]

Network: TypeAlias = IPv4Network | IPv6Network

#: For the 4 bytes of an IPv4 address or the 16 of an IPv6 one: for each prefix length, the longest first, how far a
#: number is shifted, and what is said of the prefixes of that length.
_Tables: TypeAlias = dict[int, list[tuple[int, dict[int, bool]]]]


class AccessList:
    """Networks that may connect, and networks that may not.

    The longest network that an address is in decides. Of two that are the same, the one that denies does. An address in
    none of them is refused if there is a list of who may, and else admitted, as xinetd(8) has it (only_from, no_access).

    An address is looked up in one dict for each length that occurs, so that 100 000 networks cost as much as one.

    Args:
        allow: Who may connect; None if that is not said. An empty list says that nobody may.
        deny: Who may not; None if that is not said.

    Attributes:
        is_empty: Neither is said: everybody is admitted.
    """

    def __init__(self, allow: Iterable[Network] | None = None, deny: Iterable[Network] | None = None) -> None:
        self._others = allow is None
        self.is_empty = allow is None and deny is None
        self._tables: _Tables = {4: [], 16: []}
        found: dict[tuple[int, int], dict[int, bool]] = {}
        for networks, verdict in ((allow, True), (deny, False)):  # the latter overwrite the former
            for each in networks or ():
                shift = each.max_prefixlen - each.prefixlen
                prefixes = found.setdefault((each.max_prefixlen // 8, shift), {})
                prefixes[int(each.network_address) >> shift] = verdict
        for (size, shift), prefixes in sorted(found.items()):
            self._tables[size].append((shift, prefixes))

    @classmethod
    def read(cls, allow: Iterable[str], deny: Iterable[str]) -> AccessList:
        """Read both lists as a user writes them.

        Args:
            allow: Networks, and ``@FILE`` for files of them; nothing if that is not said. A file that is empty allows
                nobody.
            deny: Likewise.

        Raises:
            ValueError: One cannot be read; see `read_networks`.
        """
        allowed, denied = tuple(allow), tuple(deny)
        return cls(
            read_networks(allowed) if allowed else None,
            read_networks(denied) if denied else None,
        )

    def admits(self, host: str | None) -> bool:
        """Decide about one peer.

        Args:
            host: Its address as text; the scope of a link-local one does not matter. None: a peer on a UNIX socket, whose
                file says who may connect.
        """
        if host is None:
            return True
        address = packed(host)
        number = int.from_bytes(address, "big")
        for shift, prefixes in self._tables[len(address)]:
            verdict = prefixes.get(number >> shift)
            if verdict is not None:
                return verdict
        return self._others


def read_networks(entries: Iterable[str]) -> tuple[Network, ...]:
    """Read networks as a user writes them.

    Args:
        entries: Each a network (``192.0.2.0/24``, ``2001:db8::/32``), an address, or ``@FILE``: a file with one of them a
            line, in which ``#`` begins a comment.

    Returns:
        The networks. One of IPv4-mapped addresses is the IPv4 network that it stands for, since peers are called that.

    Raises:
        ValueError: One of them is none, or a file cannot be read; the message names the file and the line.
    """
    return tuple(network for entry in entries for network in _read(entry))


def _read(entry: str) -> Iterator[Network]:
    if not entry.startswith("@"):
        yield _network(entry)
        return
    name = entry[1:]
    try:
        text = Path(name).read_text(encoding="utf-8")
    except (OSError, ValueError) as problem:
        raise ValueError(f"{name}: cannot be read: {getattr(problem, 'strerror', None) or problem}") from None
    for number, line in enumerate(text.splitlines(), 1):
        if said := line.partition("#")[0].strip():
            try:
                yield _network(said)
            except ValueError as problem:
                raise ValueError(f"{name}:{number}: {problem}") from None


def _network(text: str) -> Network:
    try:
        interface = ip_interface(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is no network; give one such as 192.0.2.0/24, 2001:db8::/32 or 192.0.2.1, or @FILE"
        ) from None
    network = interface.network
    if interface.ip != network.network_address:
        raise ValueError(f"{text!r} is an address inside a network; the network is {network}")
    if isinstance(network, IPv6Network):
        mapped = (
            network.network_address.ipv4_mapped
        )  # None for a prefix shorter than that of all mapped addresses
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - 96))
    return network
