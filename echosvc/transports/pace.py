"""Connections that are read no faster than is said: each of them, and all of a listener together.

Whoever may be read no further is left in the kernel, whose buffer fills until its peer waits. Eight times a second it is looked
whether somebody may be read again, by one timer for the listener, as long as somebody waits. What is written is not limited:
an echo has nothing else to say than what it has read.

To wake a connection and read costs 20 us, however little may be read then. So nobody is woken for a byte or two: each when half a
second's worth has come together (or a whole read, which is less), and where all of them together have come to their end,
as many as can have a message, in turn. (Woken for whatever there was, 3000 that sent all the time took a whole core.)

A PROXY header and a handshake of TLS have deadlines of their own, and are not the client's to make shorter: they are read at
once, and not counted.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python.failure import Failure

from echosvc.transports.connection import SMALL_READ
from echosvc.transports.handshakes import FLIGHT
from echosvc.transports.proxy import ProxyFactory
from echosvc.transports.proxy_header import HEADER_MAX
from echosvc.transports.stream import PatientConnection, StreamPort, StreamTransport
from echosvc.transports.unix import UnixStreamPort, UnixTransport

__all__ = ["Pace", "PacedStreamPort", "PacedUnixStreamPort"]

#: Seconds between two looks at those who wait.
LOOK = 0.125

#: Seconds' worth for which a connection is woken: half of what is saved up, so that none of it is lost while it waits for a look.
ENOUGH = 0.5

#: Bytes, a small message, for which one is woken where all together are the limit, if that is not more than `ENOUGH` either.
TURN = 64

#: Seconds' worth of all together after which nobody needs to be read in turn any more.
PLENTY = 0.75

#: Those who are woken in one look at most, if all together are the limit: some 2000 in a second, for 5 % of a core.
MOST_WOKEN = 256

#: Bytes in a read before the client is heard: the smallest segment of TCP. What comes behind a header is not counted up to here.
UNPACED_READ = 536

#: Bytes that are not counted at most: the longest header and the longest handshake that are taken.
UNPACED = HEADER_MAX + FLIGHT


class _Bucket:
    """So many bytes a second, a second's worth of them at once after a pause; a read may leave it in debt.

    Args:
        rate: Bytes in a second.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._full_at = -inf

    def room(self, now: float) -> float:
        """Tell how many bytes may be read now; none if it is less than 1."""
        return (now + 1.0 - max(self._full_at, now)) * self._rate

    def spend(self, count: int, now: float) -> None:
        """Count what was read."""
        self._full_at = max(self._full_at, now) + count / self._rate

    def enough_at(self) -> float:
        """Tell when there is room for what a connection is woken for."""
        return self._full_at - 1.0 + min(ENOUGH, SMALL_READ / self._rate)


class Pace:
    """How fast the connections of one listener may be read. Those who have waited the longest are read first.

    Args:
        each: Bytes in a second of each connection; infinite for any number.
        total: Bytes in a second of all of them together; infinite for any number.
        clock: Calls later.
        seconds: Tells the time, in seconds of a clock that is not set.
    """

    def __init__(
        self, each: float, total: float, clock: IReactorTime, *, seconds: Callable[[], float] = monotonic
    ) -> None:
        self.seconds = seconds
        self._each = each
        self._total = _Bucket(total) if total < inf else None
        self._turn = max(1.0, min(TURN, total * ENOUGH))
        self._plenty = max(1.0, total * PLENTY)
        #: All together have come to their end, and whoever waits is read in turn: a newcomer too.
        self._scarce = False
        self._clock = clock
        #: When each may be woken.
        self._waiting: dict[_PacedConnection, float] = {}
        self._timer: IDelayedCall | None = None

    def bucket(self) -> _Bucket | None:
        """Make the bucket of one connection; None if it needs none of its own."""
        return _Bucket(self._each) if self._each < inf else None

    def room(self, bucket: _Bucket | None, turn: int) -> int:
        """Tell how many bytes may be read of a connection now.

        Args:
            bucket: Its own.
            turn: What is left of its last turn.
        """
        now = self.seconds()
        found = inf if bucket is None else bucket.room(now)
        if self._total is not None:
            found = min(found, self._total.room(now))
            if self._scarce and self._timer is not None:
                found = min(found, turn)
        return int(min(found, SMALL_READ))

    def spend(self, bucket: _Bucket | None, count: int) -> None:
        """Count what was read of a connection."""
        now = self.seconds()
        if bucket is not None:
            bucket.spend(count, now)
        if self._total is not None:
            self._total.spend(count, now)
            self._scarce = self._scarce or self._total.room(now) < 1

    def wait(self, connection: _PacedConnection, bucket: _Bucket | None) -> None:
        """Have a connection read again when there is room, behind those who wait already."""
        self._waiting[connection] = -inf if bucket is None else bucket.enough_at()
        if self._timer is None:
            self._timer = self._clock.callLater(LOOK, self._look)

    def holds(self, connection: _PacedConnection) -> bool:
        """Whether a connection waits to be read again."""
        return connection in self._waiting

    def forget(self, connection: _PacedConnection) -> None:
        """It has ended."""
        self._waiting.pop(connection, None)
        if not self._waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        now = self.seconds()
        due = [connection for connection, when in self._waiting.items() if when <= now]
        turn = 0
        if self._total is not None:
            room = max(0.0, self._total.room(now))
            self._scarce = self._scarce and room < self._plenty
            if self._scarce:
                due = due[: min(MOST_WOKEN, int(room / self._turn))]
            turn = int(room / max(1, len(due)))
        # Once more when nobody waits any longer: until then those who are woken now have their turns.
        self._timer = self._clock.callLater(LOOK, self._look) if self._waiting else None
        for connection in due:
            del self._waiting[connection]
            connection.go_on(turn)


class _PacedConnection(PatientConnection):
    """What is read at a pace, before the class that is to be paced."""

    #: Told again of what a read has left.
    edge_triggered = False
    _pace: Pace
    _bucket: _Bucket | None
    #: What takes its PROXY header, and makes way for who is behind it; None if there is no header.
    _gatherer: Any
    #: Bytes left of its turn.
    _turn = 0
    #: Its protocol wants to read, whether or not it may.
    _wanted = False

    def _be_paced(self, port: Any, protocol: Any) -> None:
        self._pace = port.pace
        self._bucket = port.pace.bucket()
        self._gatherer = protocol if isinstance(port.factory, ProxyFactory) else None

    def doRead(self, *arguments: Any) -> Any:
        """Read what may be read. Called by the hub."""
        unpaced = 0 if self._is_heard() else UNPACED_READ
        room = unpaced or self._pace.room(self._bucket, self._turn)
        if room < 1:
            self._wait()
            return None
        before = self.bytes_in
        try:
            return self._read_some(room)
        finally:
            came = self.bytes_in - before
            self._turn = max(0, self._turn - came)
            self._pace.spend(self._bucket, max(0, came - unpaced))
            # Not asked again at once: there would be room for a byte or two by then.
            if not unpaced and came >= room and room < SMALL_READ:
                self._wait()

    def held_back(self) -> bool:
        """Whether it waits for us, who read no faster than is said."""
        return self._pace.holds(self)

    def _is_heard(self) -> bool:
        """Whether it is the client's bytes that come now, and no header or handshake."""
        protocol: Any = self.protocol
        heard = protocol is not self._gatherer and getattr(protocol, "_handshakeDone", True)
        return heard or self.bytes_in >= UNPACED

    def _wait(self) -> None:
        super().stopReading()
        self._pace.wait(self, self._bucket)

    def _read_some(self, room: int) -> Any:
        try:
            data = os.read(self._fd, room)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not data:
            return CONNECTION_LOST if self._broken else CONNECTION_DONE
        self.bytes_in += len(data)
        self.messages_in += 1
        self.protocol.dataReceived(data)
        return None

    def go_on(self, turn: int) -> None:
        """Read again, if its protocol still wants to.

        Args:
            turn: Bytes that it may read though others wait.
        """
        self._turn = turn
        if self._wanted and not self.disconnecting:
            self.startReading()

    def startReading(self) -> None:
        """Wait for something to read."""
        self._wanted = True
        super().startReading()

    def stopReading(self) -> None:
        """Leave in the kernel what is there."""
        self._wanted = False
        super().stopReading()

    def connectionLost(self, reason: Failure) -> None:
        """Wait no longer."""
        self._pace.forget(self)
        super().connectionLost(reason)


class _PacedTransport(_PacedConnection, StreamTransport):
    """One accepted TCP connection."""

    def __init__(
        self, sock: Any, protocol: Any, client: Any, server: Any, sessionno: int, reactor: Any
    ) -> None:
        self._be_paced(server, protocol)  # first: reading begins in here
        super().__init__(sock, protocol, client, server, sessionno, reactor)


class _PacedUnixTransport(_PacedConnection, UnixTransport):
    """One accepted UNIX connection. What comes with descriptors is read whole, and may leave a debt."""

    def __init__(
        self, sock: Any, protocol: Any, client: Any, server: Any, sessionno: int, reactor: Any
    ) -> None:
        self._be_paced(server, protocol)
        super().__init__(sock, protocol, client, server, sessionno, reactor)

    def _read_some(self, room: int) -> Any:
        return UnixTransport.doRead(self)


class PacedStreamPort(StreamPort):
    """A `StreamPort` whose connections are read at a pace.

    Args:
        pace: How fast.
        arguments: As for `StreamPort`.
    """

    transport = _PacedTransport

    def __init__(self, *arguments: Any, pace: Pace, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.pace = pace


class PacedUnixStreamPort(PacedStreamPort, UnixStreamPort):
    """The same for UNIX sockets."""

    transport: Any = _PacedUnixTransport
