"""Why connections end, in the words under which that is counted.

Whoever ends a connection that is neither its peer nor its protocol says so before, in the connection's `why`:
``idle-timeout`` for one. Of all others this module tells.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

__all__ = ["ABORTED", "CLOSED", "FAILED", "LOST", "PEER_CLOSED", "EndLog", "why_ended"]

PEER_CLOSED = "peer-closed"
"""The peer ended its direction before we ended ours."""

CLOSED = "closed"
"""Its protocol closed it."""

LOST = "lost"
"""It was reset, or broken on the way; or the process ended first."""

ABORTED = "aborted"
"""Its protocol aborted it."""

FAILED = "failed"
"""Its protocol raised something, which is in the log."""

_ENDS: dict[type[BaseException] | None, str] = {
    ConnectionDone: CLOSED,
    ConnectionLost: LOST,
    ConnectionAborted: ABORTED,
}


def why_ended(reason: Failure, *, peer_ended: bool = False) -> str:
    """Say why a connection has ended of which nobody else says so.

    Args:
        reason: What its protocol is told.
        peer_ended: The peer had ended its direction before we ended ours.
    """
    why = _ENDS.get(reason.type, FAILED)
    return PEER_CLOSED if peer_ended and why == CLOSED else why


class EndLog(Protocol):
    """Told of connections as they begin and end, if anybody wants to be told."""

    def begins(self, connection: Any) -> None:
        """A connection was accepted."""

    def ends(self, connection: Any, why: str) -> None:
        """It has ended; its socket is not closed yet.

        Args:
            connection: As `begins` was told, or one that was there before anybody wanted to be told.
            why: As it is counted.
        """
