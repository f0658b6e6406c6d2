"""What ended a connection, in words for a person."""

from __future__ import annotations

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

__all__ = ["how_it_ended"]


def how_it_ended(reason: Failure) -> str:
    """Say in words why `connectionLost` was called.

    Args:
        reason: What Twisted gave it.
    """
    if reason.check(ConnectionDone):
        return "the server closed the connection"
    if reason.check(ConnectionAborted):
        return "the connection was aborted here"
    if reason.check(ConnectionLost):
        # Twisted keeps no errno: a reset and a connection that timed out look the same.
        return "the connection was reset, or broke on the way"
    return str(reason.value) or type(reason.value).__name__
