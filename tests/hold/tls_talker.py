"""One client that makes much work of few bytes, in a process of its own.

A program of its own, which needs Python and, for ``keys``, cryptography::

    tls_talker.py PLACE bulk SECONDS      sends without a pause, and reads what comes
    tls_talker.py PLACE records SECONDS   likewise over TLS, each byte in a record of its own
    tls_talker.py PLACE keys SECONDS      likewise over TLS 1.3, nothing but KeyUpdates that ask for none (RFC 8446 section 4.6.3)

It prints a line when it begins, and then how many bytes it has sent, how many came, and how often it was cut off, after which it connects again.
"""

from __future__ import annotations

import contextlib
import hmac
import select
import ssl
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.hold.carriers import Place, Stream, dial
from tests.hold.tls_stream import TLSStream

#: Messages that are made at once, and KeyUpdates before it begins: to make one takes as long as to read it.
MANY, READY = 2000, 30_000

#: A handshake message of type key_update, whose request_update is update_not_requested.
KEY_UPDATE = b"\x18\x00\x00\x01\x00"

_HANDSHAKE, _DATA = 22, 23


class Sealer:
    """Encrypts one direction of a TLS 1.3 connection (RFC 8446 section 5.2): the standard library sends no KeyUpdate.

    Args:
        secret: The secret of the direction, as SSLKEYLOGFILE has it.
        cipher: The name of its cipher suite, one of those with AES-GCM.
    """

    def __init__(self, secret: bytes, cipher: str) -> None:
        self._hash, self._size = ("sha384", 32) if "AES_256_GCM" in cipher else ("sha256", 16)
        self._secret = secret
        self._begin()

    def _begin(self) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415  # not for the others

        self._aead = AESGCM(self._expand(b"key", self._size))
        self._iv = int.from_bytes(self._expand(b"iv", 12))
        self._number = 0

    def seal(self, kind: int, content: bytes) -> bytes:
        """Make a record.

        Args:
            kind: The type of its content.
            content: At most 16 KiB.
        """
        head = struct.pack("!BHH", _DATA, 0x0303, len(content) + 17)
        nonce = (self._iv ^ self._number).to_bytes(12)
        self._number += 1
        return head + self._aead.encrypt(nonce, content + bytes([kind]), head)

    def update(self) -> bytes:
        """Make a KeyUpdate, and go on with the next key."""
        record = self.seal(_HANDSHAKE, KEY_UPDATE)
        self._secret = self._expand(b"traffic upd", len(self._secret))
        self._begin()
        return record

    def _expand(self, label: bytes, length: int) -> bytes:
        """HKDF-Expand-Label without a context, of no more than one block (section 7.1; RFC 5869 section 2.3)."""
        info = struct.pack("!HB", length, len(label) + 6) + b"tls13 " + label + b"\0"
        return hmac.digest(self._secret, info + b"\1", self._hash)[:length]


def bulk(place: Place) -> tuple[Stream, Callable[[], bytes]]:
    """Connect; return the connection and what makes the next bytes for its socket."""
    piece = bytes(256 * 1024)
    return dial(place), lambda: piece


def records(place: Place) -> tuple[Stream, Callable[[], bytes]]:
    """Likewise."""
    stream = dial(place)
    assert isinstance(stream, TLSStream)

    def make() -> bytes:
        for _ in range(MANY):
            stream.tls.write(b"x")
        return stream.take()

    return stream.sock, make


def keys(place: Place) -> tuple[Stream, Callable[[], bytes]]:
    """Likewise. A byte to echo, now and then, shows that it is all understood."""
    with tempfile.NamedTemporaryFile() as log:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.keylog_filename = log.name
        stream = dial(place, context=context)
        found = [line.split() for line in Path(log.name).read_text().splitlines()]
    assert isinstance(stream, TLSStream)
    cipher = stream.tls.cipher()
    assert cipher is not None
    secret = next(line[2] for line in found if line[0] == "CLIENT_TRAFFIC_SECRET_0")
    sealer = Sealer(bytes.fromhex(secret), cipher[0])

    def some(count: int) -> bytes:
        return b"".join(sealer.update() for _ in range(count)) + sealer.seal(_DATA, b"x")

    ready = [some(MANY) for _ in range(READY // MANY)]
    return stream.sock, lambda: ready.pop(0) if ready else some(MANY)


WAYS = {"bulk": bulk, "records": records, "keys": keys}


def talk(place: Place, way: str, seconds: float) -> str:
    """Send what the socket takes for so long, and return what came of it."""
    sent = came = cut = 0
    stream, make = WAYS[way](place)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    until = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError), stream:
            for out, back in _flow(stream, make, until):
                sent += out
                came += back
        if time.monotonic() >= until:
            return f"{sent} {came} {cut}\n"
        cut += 1
        stream, make = WAYS[way](place)


def _flow(stream: Stream, make: Callable[[], bytes], until: float) -> Iterator[tuple[int, int]]:
    """Send and read until the time is over, or the peer ends it; yield how many bytes were sent, and how many came."""
    stream.setblocking(False)
    rest = memoryview(b"")
    while time.monotonic() < until:
        rest = rest or memoryview(make())
        readable, writable, _ = select.select([stream], [stream], [], 0.1)
        out = back = 0
        if writable:
            out = stream.send(rest)
            rest = rest[out:]
        if readable:
            back = len(stream.recv(2**20))
            if not back:
                return
        yield out, back


if __name__ == "__main__":
    where, how, long = sys.argv[1:]
    sys.stdout.write(talk(Place.parse(where), how, float(long)))
