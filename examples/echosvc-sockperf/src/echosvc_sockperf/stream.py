"""Sockperf over a connection: messages one after the other, each as long as its header says."""

from __future__ import annotations

from twisted.internet.protocol import Factory

from echosvc.protocols import Echo
from echosvc_sockperf.message import HEADER, LARGEST, read_header, turn

__all__ = ["Responder", "ResponderFactory"]


class Responder(Echo):
    """Answer messages until the peer has finished. What is no message closes the connection.

    An answer leaves as its message comes in, so that no more than the beginning of a header ever waits here. Half-close
    and backpressure are `Echo`'s.
    """

    def __init__(self) -> None:
        self._header = b""  # the beginning of one, or a whole one that begins no message
        self._left = 0  # bytes of a message that are still to come
        self._asked = False  # whether that message is to be answered

    def dataReceived(self, data: bytes) -> None:
        """Send back what belongs to messages that are to be answered."""
        buffer = bytearray(self._header + data)
        answers = bytearray()
        start = 0
        while self._left or self._begin(buffer, start):
            piece = buffer[start : start + self._left]
            if not piece:
                break
            if self._asked:
                answers += piece
            self._left -= len(piece)
            start += len(piece)
        if answers:
            self.transport.write(bytes(answers))
        self._header = bytes(buffer[start : start + HEADER])
        if len(self._header) == HEADER:
            # It begins no message. It stays here, so that nothing after it is understood, and we finish as if the
            # peer had: what is answered still reaches it.
            self.readConnectionLost()

    def _begin(self, buffer: bytearray, start: int) -> bool:
        """Begin the message at `start`, if there is a whole header, and it is that of a message."""
        if len(buffer) - start < HEADER:
            return False
        asks, length = read_header(buffer, start)
        if not HEADER <= length <= LARGEST:
            return False
        if asks:
            turn(buffer, start)
        self._asked, self._left = asks, length
        return True


class ResponderFactory(Factory[Responder]):
    """Builds one `Responder` for each connection."""

    protocol = Responder
    noisy = False
