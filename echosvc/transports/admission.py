"""What a stream port asks before it makes a connection, and tells afterwards: somebody else's decision.

Asked once for each connection and never for a message.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.interfaces import IAddress

__all__ = ["PROXY_UNTRUSTED", "Door", "Ticket"]

PROXY_UNTRUSTED = "proxy-untrusted"
"""The peer may not send a PROXY header, and nobody else may connect here."""


class Ticket(Protocol):
    """The leave of one connection to be here, from the moment it is accepted until it ends."""

    def enter(self, connection: Any) -> None:
        """The connection is made: it counts its bytes, and can be ended."""

    def announce(self, peer: IAddress) -> bool:
        """The PROXY header has come: decide about the client.

        Args:
            peer: Whom the header names; whoever has sent it, if it names nobody.

        Returns:
            Whether it may stay. If not, the refusal has been counted, and the connection is to be aborted.
        """

    def waits(self) -> None:
        """Something is queued on the connection."""

    def leave(self) -> None:
        """It has ended, or was never made. To say it twice is to say it once."""


class Door(Protocol):
    """Decides who may come in at one port."""

    def admit(self, peer: IAddress) -> Ticket | None:
        """Decide about a connection that was accepted.

        Args:
            peer: Who connects.

        Returns:
            None if it is to be closed at once; the refusal has been counted.
        """
