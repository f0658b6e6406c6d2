"""What the service did, for people who look."""

from echosvc.observe.drops import DropReport

__all__ = ["DropReport"]
