"""One TLS session, without a transport: bytes of records in, bytes of the stream out, and the other way round.

The standard library's `ssl` does the cryptography, between two buffers in memory. All sessions share these two, `_IN` and `_OUT`: a
buffer of OpenSSL grows and never shrinks, and 100 KB that came once would cost each idle connection 700 KB. So both are empty
before and after each call of OpenSSL: it is handed one record at the most, which the session has taken then or has refused, and
what it has put out is sent at once. Nothing of one session is ever there when another is served.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

__all__ = ["HEADER", "RECORD", "Records", "Session"]

#: Bytes of a record's header, and the most of the stream that one carries (RFC 8446 section 5.1).
HEADER, RECORD = 5, 2**14

_IN, _OUT = ssl.MemoryBIO(), ssl.MemoryBIO()


class Session:
    """A server's side of TLS.

    Args:
        context: What it begins from.
        send: Called with what is to be sent to the peer, alerts too, before a method returns or raises.

    Attributes:
        tls: The TLS object. Its methods that read or write are for this class alone.
        answered: Bytes that TLS has sent by itself since the handshake: what it says to new keys, for example. OpenSSL says that with
            the next read or write. One such answer leaves with a write, and is not counted: what is written is bounded elsewhere.
        waits: TLS sends nothing now: the peer's message of the handshake (new keys) has come in part, cut over records (RFC 8446
            section 5.1). After more input `go_on` tries again.
        unsent: What has to be sent then.
    """

    __slots__ = ("_send", "answered", "tls", "unsent", "waits")

    def __init__(self, context: ssl.SSLContext, send: Callable[[bytes], None]) -> None:
        self.tls = context.wrap_bio(_IN, _OUT, server_side=True)
        self.answered = 0
        self.waits = False
        self.unsent: bytes | bytearray = b""
        self._send = send

    def shake(self, record: bytes | memoryview) -> bool:
        """Go on with the handshake.

        Args:
            record: A record, or a part of one.

        Returns:
            Whether it is done.

        Raises:
            ssl.SSLError: It has failed; the peer is told why.
        """
        _IN.write(record)
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        else:
            return True
        finally:
            self._settle()

    def receive(self, record: bytes | memoryview) -> bytes | None:
        """Decrypt.

        Args:
            record: A record, or a part of one.

        Returns:
            What it carries of the stream; empty if it ends the peer's direction (close_notify), None if there is nothing yet.

        Raises:
            ssl.SSLError: It is damaged, or makes no sense; the peer is told why.
        """
        _IN.write(record)
        try:
            return self.tls.read(RECORD)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLZeroReturnError:
            return b""
        finally:
            self.answered += self._settle()

    def write(self, data: bytes) -> None:
        """Encrypt and send; if that has to wait, keep it.

        Args:
            data: At least one byte.

        Raises:
            ssl.SSLError: TLS has failed before; nothing more was sent.
        """
        if self.unsent:
            self.unsent += data
            return
        write, sent = self.tls.write, 0
        try:
            sent = write(data)
            self._send(_OUT.read())
            while sent < len(data):  # one record was filled
                sent += write(memoryview(data)[sent:])
                self._send(_OUT.read())
        except ssl.SSLWantReadError:
            self._settle()
            self.waits, self.unsent = True, bytearray(data[sent:])
        except ssl.SSLError:
            self._settle()
            raise

    def go_on(self) -> None:
        """Send what has waited; if it has to wait on, keep it.

        Raises:
            ssl.SSLError: TLS has failed before; nothing more was sent.
        """
        unsent, self.unsent, self.waits = self.unsent, b"", False
        if unsent:
            self.write(bytes(unsent))

    def close(self) -> bool:
        """End our direction: send close_notify, unless TLS has failed.

        Returns:
            Whether it is ended; not if that has to wait.
        """
        try:
            if not self.unsent:
                self.tls.unwrap()
        except ssl.SSLError as problem:  # it wants the peer's, too
            self.waits = problem.reason == "SHUTDOWN_WHILE_IN_INIT"
        self._settle()
        return not self.waits

    def _settle(self) -> int:
        """Leave nothing in the buffers; return how many bytes were put out."""
        if _IN.pending:  # refused
            _IN.read()
        if output := _OUT.read():
            self._send(output)
        return len(output)


class Records:
    """Cuts what comes of a stream into records, so that each can be paid for by itself.

    Whether they make sense is OpenSSL's to say.
    """

    __slots__ = ("_at", "_data", "_rest")

    def __init__(self) -> None:
        self._data: bytes = b""
        self._at = 0  # where the next one begins
        self._rest = 0  # bytes still to come of the one that was taken last

    def __len__(self) -> int:
        """Tell how many bytes wait here."""
        return len(self._data) - self._at

    def is_ready(self) -> bool:
        """Whether `take` would return something."""
        return len(self) >= HEADER or (len(self) > 0 and self._rest > 0)

    def is_one(self, data: bytes) -> bool:
        """Whether these bytes are one record, whole, and all there is: nearly always so, where messages are small."""
        return (
            len(data) > HEADER
            and len(data) == HEADER + (data[3] << 8 | data[4])
            and not (self._rest or self._data)
        )

    def feed(self, data: bytes) -> None:
        """Take what has come."""
        self._data = self._data[self._at :] + data if self._data else data
        self._at = 0

    def take(self) -> memoryview:
        """Return the next record, or as much of it as has come; nothing if that is less than its header."""
        data, start = self._data, self._at
        end = start + self._rest
        if end == start and start + HEADER <= len(data):
            end += HEADER + (data[start + 3] << 8 | data[start + 4])
        self._rest = max(0, end - len(data))
        self._at = min(end, len(data))
        if self._at == len(data):
            self.clear()
        return memoryview(data)[start:end]

    def clear(self) -> None:
        """Forget what waits here."""
        self._data, self._at = b"", 0
