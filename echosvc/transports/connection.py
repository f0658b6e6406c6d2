"""What our stream connections do faster than Twisted's: write at once, and read until there is no more.

Twisted queues what a protocol writes, asks the reactor to be told when the socket has room, and sends in
the reactor's next turn: two epoll_ctl calls and a turn for every message, 2.3 times the CPU of a C server
with 50 connections. This way it is 1.2 times.

Here a write goes to the kernel at once when nothing waits before it; what the kernel does not take is
queued by Twisted as ever, with all that hangs on the queue (producers, half-close, flushing on close).

A mixin, to stand before a connection class of Twisted's: accepted or connected, TCP or UNIX.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

from twisted.internet import tcp
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IProducer
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST

from echosvc.transports.hub import Hub
from echosvc.transports.linux import received_memory, unacknowledged, unread, unsent

__all__ = ["DirectConnection"]

#: Read size to begin with: the largest bytes object that Python allocates by itself. Any larger one comes from malloc
#: and is given back in part, for another 0.3 to 0.45 us, of 5 to 6 that a small echo costs.
TINY_READ = 512 - sys.getsizeof(b"")

#: Read size once a read came back full.
SMALL_READ = 16 * 1024

#: Read size once that came back full, too: a bulk transfer. Just less than what glibc maps anew for every buffer (128 KiB;
#: a read of 16 KiB into such a one takes 20 us, not 2). With 1 MiB messages on 2 connections the rate is 1.1 to 1.4 times
#: that of C; it is 1.05 with 64 KiB and 0.7 with 256 KiB.
BULK_READ = 120 * 1024

#: Bytes read for one event before it is everyone else's turn: a tenth of a millisecond. More made nothing quicker.
READ_TURN = 2 * BULK_READ

#: Bytes sent in all up to which a connection closes without waiting for room: so few leave room in any kernel's buffer.
#: With more the close waits, and the wait can be watched.
LITTLE = 16 * 1024


#: What waits is kept in pieces, each an object of some 50 bytes more; of those shorter than so many bytes, so many at a time
#: become one. (From a peer that sends a byte at a time and reads nothing, 64 KiB took 3 MiB.)
SMALL_PIECE, SMALL_PIECES = 512, 64


class DirectConnection(tcp.Connection):
    """Writes at once when nothing is queued, and reads until there is no more.

    Reads and writes go to the descriptor's number, which is quicker than the socket object (0.3 us). So nobody else may close
    the socket: the number could be another connection's by then.

    Attributes:
        bytes_in: Bytes read.
        bytes_out: Bytes that the kernel has taken.
        held: Bytes that were read and are not handed on yet: a layer above keeps them (TLS, while its protocol has paused).
        messages_in: Reads that were handed to the protocol.
        messages_out: Writes that the protocol made. All four together cost an echo 55 ns.
        edge_triggered: Tells the hub that only news are of interest: what was readable and is not read to
            the end is not told again, unless reading is stopped and started.
    """

    edge_triggered = True
    bytes_in = 0
    bytes_out = 0
    messages_in = 0
    messages_out = 0
    held = 0
    _fd = -1
    #: True while bytes may go straight to the kernel: nothing queued, nothing special going on. One flag,
    #: because asking for all that matters at every write would cost as much as it saves.
    _direct = False
    _reading = False
    #: Remembered from one event to the next: a message of 64 KiB is then one read, as in C, and not two (1.0 times
    #: the CPU of C, 1.3 before).
    _read_size = TINY_READ
    _broken = False
    _small_pieces = 0

    def _be_direct(self) -> None:
        """Begin, once connected."""
        self._fd = self.socket.fileno()
        self._direct = self._is_plain()

    # -- writing

    def write(self, data: bytes) -> None:
        """Send what the kernel takes now, and queue the rest."""
        self.messages_out += 1
        if not self._direct or type(data) is not bytes:
            super().write(data)
            self._join_small(len(data))
            return
        try:
            taken = os.write(self._fd, data)
        except BlockingIOError:
            taken = 0
        except OSError as problem:
            taken = 0
            # The kernel tells of a loss only once: a read would see an orderly end. These two are no loss.
            self._broken = problem.errno not in (errno.ENOBUFS, errno.ENOMEM)
        self.bytes_out += taken
        if taken < len(data):
            rest = memoryview(data)[taken:]  # not a copy: a message may be large
            self._tempDataBuffer.append(rest)  # type: ignore[arg-type]  # joined later, as bytes are
            self._tempDataLen += len(rest)
            self._join_small(len(rest))
            self.startWriting()  # first, so that what the producer writes when it is paused is queued, too
            self._maybePauseProducer()

    def writeSequence(self, iovec: Any) -> None:
        """Send or queue all of it, as one message."""
        pieces = list(iovec)
        if all(type(piece) is bytes for piece in pieces):
            self.write(b"".join(pieces))
        else:
            super().writeSequence(pieces)  # which says what is wrong with them

    def _join_small(self, length: int) -> None:
        """Keep what waits in few pieces.

        Args:
            length: Bytes of the piece that was queued last.
        """
        if length < SMALL_PIECE:
            self._small_pieces += 1
            if self._small_pieces == SMALL_PIECES:
                self._small_pieces = 0
                self._tempDataBuffer[-SMALL_PIECES:] = [b"".join(self._tempDataBuffer[-SMALL_PIECES:])]

    def writeSomeData(self, data: bytes) -> int | ConnectionLost:
        """Send from the queue, and count what the kernel took."""
        taken = super().writeSomeData(data)
        if isinstance(taken, int):
            self.bytes_out += taken
        return taken

    def _is_plain(self) -> bool:
        """Whether a write could go past the queue without overtaking or skipping anything."""
        return not (
            not self.connected
            or self.disconnecting
            or self._aborting
            or self._writeDisconnecting
            or self.TLS  # what is written must be encrypted first
            or self._tempDataLen
            or self.dataBuffer
            or (self.producer is not None and not self.streamingProducer)  # asked again by the queue alone
        )

    def startWriting(self) -> None:
        """Wait for room; until then everything is queued."""
        self._direct = False
        super().startWriting()

    def stopWriting(self) -> None:
        """Wait no longer: the queue is empty, or the connection over."""
        self.reactor.removeWriter(self)
        self._direct = self._is_plain()

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:  # noqa: FBT001  # Twisted's
        """Take data from a producer; one that must be asked for each piece is asked by the queue."""
        super().registerProducer(producer, streaming)
        if not streaming and self.connected and not self.TLS:
            self.startWriting()  # asks the producer again, though what was written before is already sent

    def startTLS(self, ctx: Any, normal: bool = True) -> None:  # noqa: FBT001, FBT002  # Twisted's
        """Encrypt from here on. TLS hands its own output to the queue."""
        self._direct = False
        super().startTLS(ctx, normal)

    def loseConnection(self) -> None:
        """Close when everything is sent. The protocol is told when it is no longer in the middle of something."""
        hub = self.reactor
        if self._direct and self.bytes_out <= LITTLE and isinstance(hub, Hub) and hub.finish(self):
            self._direct = self._reading = False
            self.disconnecting = 1
        else:
            super().loseConnection()

    def abortConnection(self) -> None:
        """Close now, and forget what is queued."""
        super().abortConnection()
        self._direct = False

    # -- what waits, and where

    def queued(self) -> int:
        """Tell how many bytes wait here, to be sent or to be handed on; the kernel has others."""
        return len(self.dataBuffer) - self.offset + self._tempDataLen + self.held

    def undelivered(self) -> int:
        """Tell how many of the bytes sent the peer's system does not have yet: the kernel holds them."""
        return unacknowledged(self.socket)

    def unsent(self) -> int:
        """Tell how many of those the kernel has not sent yet."""
        return unsent(self.socket)

    def unread(self) -> int:
        """Tell how many bytes have come in that were not read yet: the kernel holds them."""
        return unread(self.socket)

    def received_memory(self) -> int:
        """Tell how many bytes of memory the kernel needs for those."""
        return received_memory(self.socket)

    # -- reading

    def doRead(self) -> Any:
        """Hand the protocol what is there. Called by the hub when there is something new.

        A read that comes back short has emptied the socket (or has come to urgent data, of which the hub knows), and
        the next byte will be news. Bulk data is read in larger pieces, up to a bound; for what is left then, the news
        are asked for again.
        """
        room = READ_TURN
        while True:
            size = self._read_size
            try:
                data = os.read(self._fd, size)
            except BlockingIOError:
                return None
            except OSError:
                return CONNECTION_LOST
            got = len(data)
            if not got:
                return CONNECTION_LOST if self._broken else CONNECTION_DONE
            self.bytes_in += got
            self.messages_in += 1
            # Not remembered between reads: startTLS and others put another protocol here.
            self.protocol.dataReceived(data)
            if got < TINY_READ:
                self._read_size = TINY_READ
                return None
            self._read_size = SMALL_READ if got < SMALL_READ else BULK_READ
            if got < size or not self._reading:
                return None
            room -= got
            if room <= 0:
                self.stopReading()
                self.startReading()
                return None

    def startReading(self) -> None:
        """Wait for something to read."""
        self._reading = True
        self.reactor.addReader(self)

    def stopReading(self) -> None:
        """Leave in the kernel what is there."""
        if self._reading:
            self._reading = False
            self.reactor.removeReader(self)
