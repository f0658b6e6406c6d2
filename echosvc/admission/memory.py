"""What connections have the process and the kernel hold for them, and who has to go if it is too much.

A client that sends and reads nothing back leaves bytes in three places: in our queue, in the kernel's send buffer and, once
we read no more of it, in the kernel's receive buffer. Counted are

- what is queued here, and what the kernel was given and has not sent yet;
- what the kernel has sent, once none of it was acknowledged for `STUCK` seconds. On a long path an honest client always has much
  on its way, and acknowledges some of it all the time: that is never counted. So it is with what a UNIX socket's peer has not read;
- what the kernel has received, once nothing was read for `STUCK` seconds. An honest client that takes what it is sent is
  read again long before.

Only connections that hold something are looked at: one that has queued something says so, and the sweep finds the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from typing import Any, Generic, Protocol, TypeVar

from echosvc.admission.sweep import Connection, Member

__all__ = ["LOOK", "MEMORY", "STUCK", "Holding", "Memory"]

M = TypeVar("M", bound=Member)

MEMORY = "memory"
"""All together had more held for them than they may, and it had much for long."""

#: Seconds without progress after which what the kernel has sent, or received, is counted. A retransmission that is lost once
#: or twice takes as long.
STUCK = 3.0

#: Seconds between two looks at what the kernel holds for a connection: three system calls, 2 us. What is queued here is free to
#: look at.
LOOK = 0.5


class Holding(Connection, Protocol):
    """What is asked of a connection."""

    def queued(self) -> int:
        """Tell how many bytes wait here to be sent."""

    def unsent(self) -> int:
        """Tell how many bytes the kernel has been given and has not sent yet."""

    def received_memory(self) -> int:
        """Tell how many bytes of memory the kernel needs for what was not read yet."""


class _Held:
    """What the kernel holds for one connection.

    Args:
        connection: The connection.
        now: When it is looked at first.

    Attributes:
        counted: Bytes of it that are counted.
        anything: Whether it holds anything, counted or not.
    """

    __slots__ = ("_came", "_delivered", "_delivered_at", "_looked", "_read_at", "anything", "counted")

    def __init__(self, connection: Holding, now: float) -> None:
        self._came = self._delivered = -1
        self._look(connection, now)

    def size(self, connection: Holding, now: float) -> int:
        """Tell how many bytes are counted of what the kernel and we hold."""
        if now - self._looked >= LOOK:
            self._look(connection, now)
        return connection.queued() + self.counted

    def _look(self, connection: Holding, now: float) -> None:
        self._looked = now
        undelivered, received = connection.undelivered(), connection.received_memory()
        if self._came != connection.bytes_in:
            self._came, self._read_at = connection.bytes_in, now
        if self._delivered != connection.bytes_out - undelivered:
            self._delivered, self._delivered_at = connection.bytes_out - undelivered, now
        self.anything = bool(undelivered or received)
        self.counted = 0
        if undelivered:
            self.counted += undelivered if now - self._delivered_at >= STUCK else connection.unsent()
        if now - self._read_at >= STUCK:
            self.counted += received


class Memory(Generic[M]):
    """Bounds what is held for all connections together.

    Args:
        most: Bytes. Over it, those that hold much of it for long are aborted.

    Attributes:
        most: As given; may be changed.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._holders: dict[M, _Held | None] = {}

    def add(self, member: M) -> None:
        """Look at a connection, until nothing is held for it."""
        self._holders.setdefault(member, None)

    def remove(self, member: M) -> None:
        """A connection has ended: nothing is held for it. Idempotent."""
        self._holders.pop(member, None)

    def holders(self) -> list[M]:
        """Tell for which connections something was held when they were last looked at."""
        return list(self._holders)

    def held(self, member: M, now: float) -> int:
        """Tell how many bytes are held for a connection, as far as they count.

        Args:
            member: Whose.
            now: Seconds for which connections were served since some moment.
        """
        connection: Any = member.connection
        if connection is None or member not in self._holders:
            return 0
        held = self._holders[member]
        if held is None:
            held = self._holders[member] = _Held(connection, now)
        return held.size(connection, now)

    def free(self, now: float) -> Iterator[M]:
        """Abort those that hold the most for the longest, until the rest is within bounds. To be called every `TICK` seconds.

        Args:
            now: As for `held`.

        Yields:
            Those that are aborted.
        """
        found: list[tuple[float, int, M]] = []
        total = 0
        for member in self.holders():
            size, held = self.held(member, now), self._holders[member]
            if not size and (held is None or not held.anything):
                del self._holders[member]
                continue
            total += size
            # A slow reader takes some now and then. One that takes nothing is worth as much as several, or as one that
            # has several times as much.
            found.append((size * (1 + now - member.moved), size, member))
        found.sort(key=itemgetter(0))
        while total > self.most:
            _, size, member = found.pop()
            total -= size
            del self._holders[member]
            yield member
            connection: Any = member.connection
            connection.why = MEMORY
            connection.abortConnection()
