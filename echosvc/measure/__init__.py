"""Pure arithmetic for measuring: numbers and times in, numbers out. No I/O, and no clock of its own."""

from echosvc.measure.round_trips import RoundTrips
from echosvc.measure.schedule import next_slot

__all__ = ["RoundTrips", "next_slot"]
