"""What the service did, for people who look."""

from echosvc.observe.complaints import Complaints
from echosvc.observe.connections import ConnectionLog
from echosvc.observe.drops import DropReport
from echosvc.observe.lateness import LatenessWatch
from echosvc.observe.log_guard import LogGuard
from echosvc.observe.log_pipe import own_pipes
from echosvc.observe.process import take_snapshot
from echosvc.observe.snapshot import LatenessSnapshot, ListenerSnapshot, Snapshot, merge

__all__ = [
    "Complaints",
    "ConnectionLog",
    "DropReport",
    "LatenessSnapshot",
    "LatenessWatch",
    "ListenerSnapshot",
    "LogGuard",
    "Snapshot",
    "merge",
    "own_pipes",
    "take_snapshot",
]
