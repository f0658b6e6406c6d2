"""What the service did, for people who look."""

from echosvc.observe.drops import DropReport
from echosvc.observe.log_guard import LogGuard
from echosvc.observe.log_pipe import own_pipes

__all__ = ["DropReport", "LogGuard", "own_pipes"]
