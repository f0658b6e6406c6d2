"""Connections that are read no faster than is said: each of them, and all of a listener together.

Whoever may be read no further is left in the kernel, whose buffer fills until its peer waits. Eight times a second it is looked
whether somebody may be read again, by one timer for the listener, as long as somebody waits. What is written is not limited:
an echo has nothing else to say than what it has read.
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
from echosvc.transports.stream import PatientConnection, StreamPort, StreamTransport
from echosvc.transports.unix import UnixStreamPort, UnixTransport

__all__ = ["Pace", "PacedStreamPort", "PacedUnixStreamPort"]

#: Seconds between two looks at those who wait.
LOOK = 0.125


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
        self._clock = clock
        self._waiting: dict[_PacedConnection, None] = {}
        self._timer: IDelayedCall | None = None

    def bucket(self) -> _Bucket | None:
        """Make the bucket of one connection; None if it needs none of its own."""
        return _Bucket(self._each) if self._each < inf else None

    def room(self, bucket: _Bucket | None) -> int:
        """Tell how many bytes may be read of a connection now."""
        now = self.seconds()
        found = inf if bucket is None else bucket.room(now)
        if self._total is not None:
            found = min(found, self._total.room(now))
        return int(min(found, SMALL_READ))

    def spend(self, bucket: _Bucket | None, count: int) -> None:
        """Count what was read of a connection."""
        now = self.seconds()
        for each in (bucket, self._total):
            if each is not None:
                each.spend(count, now)

    def wait(self, connection: _PacedConnection) -> None:
        """Have a connection read again when there is room."""
        self._waiting[connection] = None
        if self._timer is None:
            self._timer = self._clock.callLater(LOOK, self._look)

    def forget(self, connection: _PacedConnection) -> None:
        """It has ended."""
        self._waiting.pop(connection, None)
        if not self._waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        waiting, self._waiting = self._waiting, {}
        for connection in waiting:
            if connection.may_be_read():
                connection.go_on()
            else:
                self._waiting[connection] = None
        if self._waiting:
            self._timer = self._clock.callLater(LOOK, self._look)


class _PacedConnection(PatientConnection):
    """What is read at a pace, before the class that is to be paced."""

    #: Told again of what a read has left.
    edge_triggered = False
    _pace: Pace
    _bucket: _Bucket | None
    #: Its protocol wants to read, whether or not it may.
    _wanted = False

    def _be_paced(self, pace: Pace) -> None:
        self._pace = pace
        self._bucket = pace.bucket()

    def doRead(self, *arguments: Any) -> Any:
        """Read what may be read. Called by the hub."""
        room = self._pace.room(self._bucket)
        if room < 1:
            super().stopReading()
            self._pace.wait(self)
            return None
        before = self.bytes_in
        try:
            return self._read_some(room)
        finally:
            self._pace.spend(self._bucket, self.bytes_in - before)

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

    def may_be_read(self) -> bool:
        """Whether there is room for something."""
        return self._pace.room(self._bucket) >= 1

    def go_on(self) -> None:
        """Read again, if its protocol still wants to."""
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
        self._be_paced(server.pace)  # first: reading begins in here
        super().__init__(sock, protocol, client, server, sessionno, reactor)


class _PacedUnixTransport(_PacedConnection, UnixTransport):
    """One accepted UNIX connection. What comes with descriptors is read whole, and may leave a debt."""

    def __init__(
        self, sock: Any, protocol: Any, client: Any, server: Any, sessionno: int, reactor: Any
    ) -> None:
        self._be_paced(server.pace)
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
