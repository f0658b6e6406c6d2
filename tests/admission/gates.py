"""What tests of the gate share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from echosvc.admission.access import AccessList
from echosvc.admission.gate import Door, Gate, Ticket
from echosvc.admission.quota import Limits
from echosvc.admission.settings import DoorSettings
from echosvc.transports import UserAddress

#: Of all proxies the one that may not announce anybody.
STRANGER = "203.0.113.99"


class FakeConnection:
    """Counts what a test says, and ends at once when it is told to."""

    def __init__(self, ticket: Ticket) -> None:
        self.ticket = ticket
        self.bytes_in = self.bytes_out = self.waiting = 0
        self.left = self.not_sent = self.received = 0
        self.ended: list[str] = []
        self.why: str | None = None

    def queued(self) -> int:
        """What a test says."""
        return self.waiting

    def undelivered(self) -> int:
        """What a test says."""
        return self.left

    def unsent(self) -> int:
        """What a test says."""
        return self.not_sent

    def unread(self) -> int:
        """What a test says."""
        return self.received

    def received_memory(self) -> int:
        """A byte for each."""
        return self.received

    def held_back(self) -> bool:
        """It never is."""
        return False

    def end(self) -> None:
        """Remember, and wait for what is queued."""
        self.ended.append("end")
        if not self.waiting:
            self.ticket.leave()

    def abortConnection(self) -> None:
        """Remember; the end is told later."""
        self.ended.append("abort")


def address(host: str) -> IAddress:
    """The address of a peer; that of a user on a UNIX socket is written ``user 5``."""
    if host.startswith("user "):
        user = UserAddress(None)
        user.uid = int(host[5:])
        return user
    return IPv6Address("TCP", host, 40000) if ":" in host else IPv4Address("TCP", host, 40000)


class GateCase(SynchronousTestCase):
    """Makes a gate, and lets connections in."""

    def make(self, *, max_queued: int = 1000, **limits: Any) -> Self:
        """Make a gate with some limits; return what makes doors of it."""
        self.clock = Clock()
        self.clock.advance(1000.0)
        self.gate = Gate(Limits(**limits), self.clock, seconds=self.clock.seconds, max_queued=max_queued)
        return self

    def door(
        self,
        allow: Sequence[str] = (),
        *,
        proxied: bool = False,
        idle_timeout: float = 0.0,
        lifetime: float = 0.0,
        user_limits: bool = True,
        **limits: Any,
    ) -> Door:
        """Make the door of a listener."""
        settings = DoorSettings(
            idle_timeout=idle_timeout, lifetime=lifetime, user_limits=user_limits, limits=Limits(**limits)
        )
        trusts = (lambda peer: peer != address(STRANGER)) if proxied else None
        return self.gate.door(settings, AccessList.read(allow, ()), trusts=trusts)

    def enter(self, door: Door, host: str | None = "192.0.2.1") -> FakeConnection | None:
        """Let a connection in, if it may; None stands for a UNIX socket's peer, too."""
        ticket = door.admit(address(host) if host is not None else UNIX)
        if ticket is None:
            return None
        connection = FakeConnection(ticket)
        ticket.enter(connection)
        return connection

    def entered(self, door: Door, *hosts: str | None) -> list[FakeConnection]:
        """Let connections in all of which may."""
        made = [self.enter(door, host) for host in hosts]
        found = [each for each in made if each is not None]
        self.assertEqual(len(made), len(found), door.counts)
        return found

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.pump([0.125] * round(seconds * 8))


UNIX: IAddress = UNIXAddress("/run/client")
"""A peer of which the system does not tell who it is."""
