"""How long a connection may be idle, and how long it may live: found by looking, now and then, at what it has counted.

A timer for each connection, reset by each message, would cost every message. Connections count their bytes anyway: whoever
looks at the count once a second knows who has moved since. So nothing is done for a message, and to look costs 0.2 us for
each connection and second; of one that has moved the kernel is asked what it holds for it (1 us), which `memory` then counts.

What the kernel has taken to send is not counted when the peer takes it: a slow reader moves nothing that we see for as long as there is
enough in the kernel. So whoever seems to be idle is asked what is still to be delivered, halfway to the moment at which it
could be ended for that, and again at that moment.
"""

from __future__ import annotations

from collections import Counter
from operator import attrgetter
from typing import Protocol

__all__ = ["IDLE_TIMEOUT", "LIFETIME", "ROUND", "TICK", "Connection", "Member", "Sweep"]

IDLE_TIMEOUT = "idle-timeout"
"""Nothing was read or sent for so long."""

LIFETIME = "lifetime"
"""It has lived for as long as connections may."""

#: Seconds in which everybody is looked at once: what times are exact to.
ROUND = 1.0

#: Looks in a round: 10 000 connections are then 0.3 ms at a time.
LOOKS = 8

#: Seconds between two looks.
TICK = ROUND / LOOKS

#: Seconds that a connection has to send what is queued when its time is over, before it is aborted.
PATIENCE = 5.0

#: Seconds without a byte after which a connection may be closed to make room for another: longer than anybody waits for an
#: answer on a slow link, and shorter than what a slowloris pauses.
SPARE_AFTER = 10.0

#: As many of those are known at a time, and so make room in one round. (To put 65 000 in order takes 5 ms.)
MOST_SPARE = 1024


class Connection(Protocol):
    """What is looked at.

    Attributes:
        bytes_in: Bytes read so far.
        bytes_out: Bytes sent so far.
        why: Set to the reason before it is ended.
    """

    bytes_in: int
    bytes_out: int
    why: str | None

    def end(self) -> None:
        """Close when everything is sent."""

    def abortConnection(self) -> None:
        """Close now."""

    def undelivered(self) -> int:
        """Tell how many of the bytes sent the peer's system does not have yet."""

    def unread(self) -> int:
        """Tell how many bytes have come in that were not read yet."""

    def held_back(self) -> bool:
        """Whether it waits for us, who read no faster than is said."""


class Member:
    """What is remembered of one connection.

    Attributes:
        connection: None before it is made and after it has ended.
        since: When it came.
        moved: When it was last seen to have moved a byte.
        seen: How many bytes it had moved then.
        deadline: When it is aborted, if it has been asked to end.
        part: Those who are looked at together with it.
    """

    __slots__ = ("connection", "deadline", "moved", "part", "seen", "since")

    part: set[Member]

    def __init__(self, now: float) -> None:
        self.connection: Connection | None = None
        self.since = self.moved = now
        self.seen = 0
        self.deadline: float | None = None

    def waits(self) -> None:
        """The kernel holds something for the connection."""


class Sweep:
    """Looks at connections, and ends those whose time is over.

    Args:
        idle_timeout: Seconds without a byte in either direction after which a connection is ended; 0 for never.
        lifetime: Seconds after which it is ended in any case; 0 for never.
        ended: Where those are counted, under ``idle-timeout`` and ``lifetime``.
    """

    def __init__(self, *, idle_timeout: float, lifetime: float, ended: Counter[str]) -> None:
        self._idle_timeout = idle_timeout
        self._ask_after = min(idle_timeout or SPARE_AFTER, SPARE_AFTER) / 2
        self._lifetime = lifetime
        self._ended = ended
        # So that each is looked at once in a round, however many come and go.
        self._parts: list[set[Member]] = [set() for _ in range(LOOKS)]
        self._looks = 0
        self._added = 0
        self._found: list[Member] = []  # in this round: the longest idle first
        self._idle: list[Member] = []  # in the round before: the longest idle last
        self._undelivered: dict[Member, int] = {}  # when last asked, of those with whom it is not nothing
        self._now = 0.0

    def add(self, member: Member) -> None:
        """Look at one more."""
        self._added += 1
        member.part = self._parts[self._added % LOOKS]
        member.part.add(member)

    def remove(self, member: Member) -> None:
        """Look at it no more; it must have been added."""
        member.part.remove(member)
        self._undelivered.pop(member, None)

    def members(self) -> list[Member]:
        """Tell who is looked at."""
        return [member for part in self._parts for member in part]

    def look(self, now: float) -> None:
        """Look at the next eighth of the connections. To be called every `TICK` seconds.

        Args:
            now: Seconds for which connections were served since some moment.
        """
        self._now = now
        part = self._looks % LOOKS
        self._looks += 1
        if part == 0:
            self._idle, self._found = self._found[::-1], []
        idle = [member for member in list(self._parts[part]) if self._stays_idle(member, now)]
        spare_before = now - SPARE_AFTER
        self._found = [each for each in self._found if each.deadline is None and each.connection is not None]
        if len(self._found) == MOST_SPARE:
            spare_before = min(spare_before, self._found[-1].moved)
        if spare := [member for member in idle if member.moved < spare_before]:
            self._found = sorted(self._found + spare, key=attrgetter("moved"))[:MOST_SPARE]

    def _stays_idle(self, member: Member, now: float) -> bool:
        """End a connection whose time is over; return whether it is another that has not moved since the last round."""
        connection = member.connection
        if connection is None:
            return False
        if member.deadline is not None:
            if now >= member.deadline:
                connection.abortConnection()
            return False
        # Half a round is the mean of what times are wrong by.
        if self._lifetime and now - member.since >= self._lifetime - ROUND / 2:
            self._end(member, connection, now, LIFETIME)
            return False
        seen = connection.bytes_in + connection.bytes_out
        if seen != member.seen:
            member.seen, member.moved = seen, now
            self._undelivered_to(member, connection)
            return False
        idle = now - member.moved
        if self._idle_timeout and idle >= self._idle_timeout - ROUND / 2:
            if not self._moves_unseen(member, connection):
                self._end(member, connection, now, IDLE_TIMEOUT)
            return False
        # Two rounds' time passes in one at most: this is done once or twice, and not in every round.
        if self._ask_after <= idle < self._ask_after + 2 * ROUND:
            self._remember(member, self._undelivered_to(member, connection))
            if connection.held_back():
                member.moved = now
        return member.moved < now

    def _undelivered_to(self, member: Member, connection: Connection) -> int:
        """Ask what is still to be delivered; say so if the kernel holds that or anything else for it."""
        undelivered = connection.undelivered()
        if undelivered or connection.unread():
            member.waits()
        return undelivered

    def _moves_unseen(self, member: Member, connection: Connection) -> bool:
        """Whether one that seems to be idle is not: it has taken what it was sent before, or waits for us to read it."""
        undelivered = connection.undelivered()
        if undelivered == self._undelivered.get(member, 0) and not connection.held_back():
            return False
        self._remember(member, undelivered)
        member.moved = self._now
        return True

    def _remember(self, member: Member, undelivered: int) -> None:
        if undelivered:
            self._undelivered[member] = undelivered
        else:
            self._undelivered.pop(member, None)

    def idlest(self) -> list[tuple[Member, Connection]]:
        """Find the connection that has been idle the longest, as of the last round; none if nobody has been for 10 seconds."""
        while self._idle or self._found:
            if not self._idle:  # all who were known then have left: whoever was found in this round will do
                self._idle, self._found = self._found[::-1], []
            member = self._idle[-1]
            connection = member.connection
            if (
                connection is not None
                and member.deadline is None
                and member.moved < self._now - SPARE_AFTER
                and connection.bytes_in + connection.bytes_out == member.seen
                and not self._moves_unseen(member, connection)
            ):
                return [(member, connection)]
            self._idle.pop()
        return []

    def _end(self, member: Member, connection: Connection, now: float, reason: str) -> None:
        self._ended[reason] += 1
        member.deadline = now + PATIENCE
        connection.why = reason
        connection.end()
