"""What the tests of the screen share: batches of datagrams that nobody has sent."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence

from echosvc.transports import Arrival

__all__ = ["Batch", "arrival", "packed"]


def packed(host: str) -> bytes:
    """Write an address as the kernel has it."""
    return socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)


def arrival(host: str, port: int = 40_000, asked: str = "198.51.100.7") -> Arrival:
    """Describe a datagram."""
    return Arrival.of(packed(host), port, packed(asked))


class Batch:
    """Messages from some arrivals.

    Args:
        arrivals: Each message's.
        counts: How many datagrams there are in messages that hold several.

    Attributes:
        described: The envelopes that somebody had to have described.
    """

    def __init__(self, arrivals: Sequence[Arrival], counts: Mapping[int, int] | None = None) -> None:
        self._arrivals = arrivals
        self._counts = counts or {}
        self.described: list[Arrival] = []

    @property
    def coalesced(self) -> Mapping[int, int]:
        """Which hold several."""
        return dict.fromkeys(self._counts, 10)

    def envelopes(self) -> Sequence[Arrival]:
        """What tells them apart."""
        return self._arrivals

    def arrival(self, envelope: Arrival) -> Arrival:
        """Describe one."""
        self.described.append(envelope)
        return envelope

    def counts(self) -> Mapping[int, int]:
        """How many they hold."""
        return self._counts
