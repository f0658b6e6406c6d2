"""The summary of ping(8): how many came back, and how long they took."""

from __future__ import annotations

import math

import attrs

__all__ = ["RoundTrips"]


@attrs.define
class RoundTrips:
    """Counts probes and summarises their round-trip times, in constant memory however many there are.

    Attributes:
        sent: Probes sent.
        received: Probes whose echo came back in time.
        minimum: The shortest round trip in seconds; infinite before the first.
        maximum: The longest round trip in seconds; 0 before the first.
        mean: The mean round trip in seconds; 0 before the first.
    """

    sent: int = 0
    received: int = 0
    minimum: float = math.inf
    maximum: float = 0.0
    mean: float = 0.0
    _squares: float = 0.0  # the sum of squared distances from the mean

    def add(self, seconds: float) -> None:
        """Count a probe that came back.

        Args:
            seconds: How long it took.
        """
        self.received += 1
        self.minimum = min(self.minimum, seconds)
        self.maximum = max(self.maximum, seconds)
        # Welford, "Note on a method for calculating corrected sums of squares and products" (1962): as
        # sqrt(mean(x^2) - mean(x)^2) is written, it loses every digit when the times hardly differ.
        distance = seconds - self.mean
        self.mean += distance / self.received
        self._squares += distance * (seconds - self.mean)

    @property
    def lost(self) -> int:
        """Probes that did not come back in time."""
        return self.sent - self.received

    @property
    def loss(self) -> float:
        """The share of probes that did not come back in time, 0 to 1; 0 if none was sent."""
        return self.lost / self.sent if self.sent else 0.0

    @property
    def mdev(self) -> float:
        """The spread of the round trips in seconds: the root of mean(x^2) - mean(x)^2, as iputils' ping."""
        return math.sqrt(self._squares / self.received) if self.received else 0.0
