"""What a datagram port asks before a protocol sees anything: the screen.

Whether a datagram is let in follows, but for how many there are, from who sent it and at which address of ours: from its
envelope. So a screen is asked about batches of envelopes, remembers what it has found out about each, and has one described
only if it does not know it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from echosvc.transports.peer import Source

__all__ = ["Arrival", "Envelopes", "LocalEnvelope", "Refusal", "Screen"]

_MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96, RFC 4291 2.5.5.2


class Arrival(NamedTuple):
    """Who sent a datagram, and where to.

    Attributes:
        source: The 4 bytes of an IPv4 address (also on a dual-stack socket), or the 16 of an IPv6 one.
        port: The source port.
        destination: The address that was asked, likewise; empty or all zeros where the system did not say.
    """

    source: bytes
    port: int
    destination: bytes

    @classmethod
    def of(cls, source: bytes, port: int, destination: bytes) -> Arrival:
        """Describe an arrival, with IPv4 addresses as such."""
        return cls(source.removeprefix(_MAPPED), port, destination.removeprefix(_MAPPED))


LocalEnvelope: TypeAlias = tuple[int | None, Source]
"""The envelope of a UNIX datagram: the user who has sent it, if that is known, and the name under which it was sent."""


class Envelopes(Protocol):
    """The messages of one batch, as a screen sees them."""

    @property
    def coalesced(self) -> Mapping[int, int]:
        """The positions of messages that hold several datagrams; empty if there are none."""

    def envelopes(self) -> Sequence[Hashable]:
        """Tell each message's envelope. Those of one peer that asked at one address are equal, all others differ."""

    def arrival(self, envelope: Any) -> Arrival:
        """Describe an envelope."""

    def counts(self) -> Mapping[int, int]:
        """Tell how many datagrams there are in each message that holds several."""


Refusal: TypeAlias = tuple[str, int]
"""Why a message is refused, and how many datagrams at its beginning are let in all the same: 0 unless it holds several."""

Screen: TypeAlias = Callable[[Envelopes], Mapping[int, Refusal]]
"""Looks at a batch before any protocol does, and returns the position of each message that is refused, wholly or in part.
An empty mapping lets all in."""
