"""The gate: decides about every connection when it is accepted, and knows all that are in.

One for a service. Each listener has a `Door` of it, with what is said for that listener alone: who may come, how long they may
stay. What a door lets in holds a `Ticket` until it ends. Nothing here is done for a message.

One source never keeps another out: it has at most three quarters of all places, if nothing else is said; and when all are
taken, the connection that has been idle the longest makes room.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime

from echosvc.admission.access import AccessList
from echosvc.admission.memory import MEMORY, Memory
from echosvc.admission.quota import ACCEPT_RATE, MAX_CONNECTIONS, Limits, Quota
from echosvc.admission.settings import DoorSettings
from echosvc.admission.sources import Sources
from echosvc.admission.sweep import PATIENCE, TICK, Connection, Member, Sweep
from echosvc.transports.admission import PROXY_UNTRUSTED

__all__ = ["ACCESS_DENIED", "EVICTED_IDLE", "Door", "Gate", "Ticket"]

ACCESS_DENIED = "access-denied"
"""The peer's address may not connect."""

EVICTED_IDLE = "evicted-idle"
"""All places were taken, and it had been idle the longest."""


class Gate:
    """Keeps the limits that all listeners of a service share.

    Args:
        limits: The limits.
        clock: Calls later.
        seconds: Tells the time, in seconds of a clock that is not set.
        sources: Who counts as one source.
        max_queued: Bytes that may be held for all connections together, as `Memory` counts them. Over it, those that hold
            much of it for long are aborted.

    Attributes:
        quota: What of the limits is used.
        sources: Who counts as one source.
        memory: What is held for connections.
        timer: Looks at connections; None if there are none.
    """

    def __init__(
        self,
        limits: Limits,
        clock: IReactorTime,
        *,
        seconds: Callable[[], float] = time.monotonic,
        sources: Sources | None = None,
        max_queued: int = 64 * 1024 * 1024,
    ) -> None:
        self.quota = Quota(limits, seconds)
        self.sources = sources or Sources()
        self.memory: Memory[Ticket] = Memory(max_queued)
        self.timer: IDelayedCall | None = None
        #: Seconds for which connections were served. When we could not run, for whatever reason, nobody could be heard: that
        #: is nobody's idleness.
        self.now = 0.0
        self._seconds = seconds
        self._clock = clock
        self._doors: list[Door] = []
        self._ticked = 0.0

    def door(
        self,
        settings: DoorSettings,
        access: AccessList,
        *,
        trusts: Callable[[IAddress], bool] | None = None,
    ) -> Door:
        """Make the door of one listener.

        Args:
            settings: What holds there, besides what holds for all.
            access: Who may connect: the networks of the settings.
            trusts: Tells whether a peer is a proxy that may announce others; nobody else may connect. Access, limits of a
                source and rates are for the clients, and the proxy's connection only takes a place. None: peers are
                clients.
        """
        quota = Quota(settings.limits, self._seconds) if settings.limits != Limits() else None
        self._doors = [each for each in self._doors if not each.is_closed or each.tickets()]
        door = Door(self, quota, settings, access, trusts)
        self._doors.append(door)
        return door

    def connections(self) -> list[Any]:
        """Tell which connections are in, but for those of which only the number is known (`quota.count`)."""
        return [connection for door in self._doors for connection in door.connections()]

    def change(self, limits: Limits, *, max_queued: int) -> None:
        """Keep other limits from now on. Nobody who is in is thrown out for that, and everybody counts."""
        quota = Quota(limits, self._seconds)
        for door in self._doors:
            for ticket in door.tickets():
                quota.add(ticket.source)
            door.quotas[-1] = quota
        self.quota = quota
        self.memory.most = max_queued

    def stop(self) -> None:
        """Look at nobody any more, until the next connection comes."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def idlest(self, door: Door | None) -> tuple[Door, Member, Connection] | None:
        """Find the connection that has been idle the longest; None if none has been for a while.

        Args:
            door: Whose connections are looked at; None for all.
        """
        found = [
            (each, member, connection)
            for each in ([door] if door is not None else self._doors)
            for member, connection in each.sweep.idlest()
        ]
        return min(found, key=lambda each: each[1].moved, default=None)

    def evict(self, door: Door, member: Member, connection: Connection) -> None:
        """End a connection that makes room for another."""
        member.deadline = self.now + PATIENCE  # it is on its way out
        door.counts[EVICTED_IDLE] += 1
        connection.why = EVICTED_IDLE
        connection.abortConnection()

    def wake(self) -> None:
        """Begin to look at connections: there is one."""
        self._ticked = self._seconds()
        self.timer = self._clock.callLater(TICK, self._tick)

    def _tick(self) -> None:
        now = self._seconds()
        self.now += min(max(now - self._ticked, 0.0), 2 * TICK)
        self._ticked = now
        try:
            for door in self._doors:
                door.sweep.look(self.now)
            for ticket in self.memory.free(self.now):
                ticket.count(MEMORY)
        finally:
            # Not when the last one leaves: where one comes after the other, each would make and cancel a timer.
            self.timer = self._clock.callLater(TICK, self._tick) if self.quota.count else None


class Door:
    """Decides who may come in at one listener. Made by `Gate.door`.

    Attributes:
        counts: How many were refused, or ended early, by reason.
        access: Who may connect. Another list may be put in its place.
        is_closed: Nobody comes in here any more; it is forgotten when all have left.
        sweep: Knows who has come in here and how long it may stay.
    """

    def __init__(
        self,
        gate: Gate,
        quota: Quota | None,
        settings: DoorSettings,
        access: AccessList,
        trusts: Callable[[IAddress], bool] | None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.is_closed = False
        self.access = access
        self.gate = gate
        self.quotas = [gate.quota] if quota is None else [quota, gate.quota]
        self.sweep = Sweep(idle_timeout=settings.idle_timeout, lifetime=settings.lifetime, ended=self.counts)
        self._trusts = trusts
        self._limits_users = settings.user_limits

    def admit(self, peer: IAddress) -> Ticket | None:
        """Decide about a connection that was accepted.

        Args:
            peer: Who connects: an IPv4 or IPv6 address, or a user of this machine.

        Returns:
            None if it is to be closed at once; the refusal has been counted.
        """
        source = reason = None
        kind = Ticket
        full = self.full()
        if self._trusts is None:
            source, reason = self.judge(peer)
        elif not self._trusts(peer):
            reason = PROXY_UNTRUSTED
        elif full is not None:
            kind = _Provisional
        if reason is None and full is not None and any(each.is_overbooked() for each in self.quotas):
            reason = MAX_CONNECTIONS
        if reason is None and self._trusts is None:
            reason = self.refuses_all(full)
        if reason is not None:
            self.counts[reason] += 1
            return None
        ticket = kind(self.gate.now)
        ticket.door, ticket.source = self, source
        self.sweep.add(ticket)
        for quota in self.quotas:
            quota.add(source)
        if self.gate.timer is None:
            self.gate.wake()
        return ticket

    def moved(self) -> tuple[int, int]:
        """Tell how many bytes those who are in have sent, and been sent, so far."""
        bytes_in = bytes_out = 0
        for each in self.connections():
            bytes_in += each.bytes_in
            bytes_out += each.bytes_out
        return bytes_in, bytes_out

    def queued(self) -> int:
        """Tell how many bytes are held for those who are in, as `Memory` counts them."""
        memory, now = self.gate.memory, self.gate.now
        return sum(memory.held(each, now) for each in memory.holders() if each.door is self)

    def tickets(self) -> list[Ticket]:
        """Tell who is in."""
        members: list[Any] = self.sweep.members()
        return members

    def connections(self) -> list[Any]:
        """Tell which connections are in, but for those of which nothing is known but that they are."""
        return [each.connection for each in self.tickets() if each.connection is not None]

    def judge(self, client: IAddress) -> tuple[bytes | None, str | None]:
        """Tell which source a client is, and why it may not come in, as far as that is concerned; None if it may."""
        source = self.gate.sources.of_peer(client, users=self._limits_users)
        if source is None:
            return None, None
        host = getattr(client, "host", None)
        if host is not None and not (self.access.is_empty or self.access.admits(host)):
            return source, ACCESS_DENIED
        for quota in self.quotas:
            if reason := quota.refuses_source(source):
                return source, reason
        return source, None

    def full(self, besides: int = 0) -> Quota | None:
        """Tell where all places are taken: this listener's, else those of all; None if there is room.

        Args:
            besides: Of those who are in, how many are not counted.
        """
        for quota in self.quotas:
            if quota.count - besides >= quota.most:
                return quota
        return None

    def refuses_all(self, full: Quota | None) -> str | None:
        """Tell why nobody at all may come in now; None if somebody may, who then has come as far as rates go, and has room.

        Args:
            full: Where all places are taken, if they are.
        """
        spare = None
        if full is not None:
            # If this listener is full, one that ends here makes room in both.
            spare = self.gate.idlest(self if full is not self.gate.quota else None)
            if spare is None:
                return MAX_CONNECTIONS
        # Nobody who is refused for another reason takes a token from those who are not.
        for quota in self.quotas:
            if quota.rate is not None and not quota.rate.take(b""):
                return ACCEPT_RATE
        if spare is not None:
            self.gate.evict(*spare)
        return None


class Ticket(Member):
    """The leave of one connection to be here. See `echosvc.transports.admission.Ticket`. Made by `Door.admit`.

    Attributes:
        door: Where it came in; None once it has left.
        source: Where it came from; None if that is not counted.
        has_place: There was room for it when it came, or it has made some.
    """

    __slots__ = ("door", "source")

    has_place = True

    door: Door | None
    source: bytes | None

    def enter(self, connection: Connection) -> None:
        """The connection is made."""
        self.connection = connection

    def announce(self, peer: IAddress) -> bool:
        """The PROXY header has come: decide about the client, as `Door.admit` does where there is no proxy.

        Args:
            peer: Whom the header names; whoever has sent it, if it names nobody.

        Returns:
            Whether it may stay. If not, the refusal has been counted, and the connection is to be aborted.
        """
        door = self.door
        if door is None:
            return False
        source, reason = door.judge(peer)
        if reason is None:
            reason = door.refuses_all(None if self.has_place else door.full(besides=1))
        if reason is not None:
            door.counts[reason] += 1
            if self.connection is not None:
                self.connection.why = reason
            return False
        if source is not None:
            self.source = source
            for quota in door.quotas:
                quota.add_source(source)
        return True

    def waits(self) -> None:
        """Something is held for the connection."""
        if self.door is not None:
            self.door.gate.memory.add(self)

    def count(self, reason: str) -> None:
        """Count why the connection ends early."""
        if self.door is not None:
            self.door.counts[reason] += 1

    def leave(self) -> None:
        """It has ended, or was never made. To say it twice is to say it once."""
        door, self.door, self.connection = self.door, None, None
        if door is None:
            return
        door.sweep.remove(self)
        door.gate.memory.remove(self)
        for quota in door.quotas:
            quota.remove(self.source)


class _Provisional(Ticket):
    """The leave of a proxy's connection for which there was no room: its client must make some when it is announced.

    Not before, or whoever is refused then would have thrown somebody out.
    """

    __slots__ = ()

    has_place = False
