"""What a TLS listener is tested against: a client of the standard library's `ssl`, in memory, and hostile ones."""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from echosvc.listeners.certificates import NO_COMPRESSED_CERTIFICATES
from tests.certificates import Authority, Issued
from tests.waiting import until

__all__ = ["VERSIONS", "Client", "KeyUpdater", "client_context", "server_context"]

#: Every version that is spoken.
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


def client_context(
    authority: Authority,
    version: ssl.TLSVersion | None = None,
    *,
    folder: str = "",
    own: Issued | None = None,
) -> ssl.SSLContext:
    """Make a client's context.

    Args:
        authority: Whom it trusts.
        version: The only version that it speaks; None for all.
        folder: Where its own certificate is written.
        own: Its own certificate; None if it has none.
    """
    context = ssl.create_default_context(cadata=authority.pem.decode())
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python 3.13 has it by itself
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if own is not None:
        context.load_cert_chain(*own.write(folder, "client"))
    return context


def server_context(cert: str, key: str, client_ca: str | None = None) -> ssl.SSLContext:
    """Make a server's context.

    Args:
        cert: The file of its certificate.
        key: The file of its key.
        client_ca: The file of those whose certificate a client must show; None if it need not show one.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.options |= NO_COMPRESSED_CERTIFICATES
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class Client:
    """A TLS client without a network.

    Args:
        context: How it speaks.
        host: Whom it asks for.
        session: Resume this one.

    Attributes:
        tls: The connection.
        shaken: Its part of the handshake is done.
        heard: Everything it has heard.
        finished: The server's close_notify has come.
        error: What ended it; None if nothing did.
    """

    def __init__(
        self, context: ssl.SSLContext, host: str | None = "localhost", session: ssl.SSLSession | None = None
    ) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host, session=session)
        self.heard = b""
        self.finished = False
        self.error: ssl.SSLError | None = None
        self.shaken = False

    def take(self, data: bytes = b"") -> None:
        """Take what the server has sent."""
        self._incoming.write(data)
        try:
            if not self.shaken:
                self.tls.do_handshake()
                self.shaken = True
            for _ in until(lambda: self.finished):
                piece = self.tls.read(1 << 16)
                self.heard += piece
                self.finished = not piece
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.finished = True
        except ssl.SSLError as error:
            self.error = error

    def give(self) -> bytes:
        """Return what is to be sent to the server."""
        return self._outgoing.read()

    def write(self, data: bytes) -> None:
        """Send."""
        self.tls.write(data)

    def finish(self) -> None:
        """Send close_notify, and go on listening."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()


class KeyUpdater:
    """Takes over from a TLS 1.3 client, and asks for new keys, again and again (RFC 8446 section 4.6.3).

    Args:
        context: The client's; its secrets go to a file from now on.
        folder: Where the file is.
    """

    def __init__(self, context: ssl.SSLContext, folder: str) -> None:
        self._log = Path(folder) / "secrets"
        context.keylog_filename = str(self._log)
        self._secret = b""
        self._sent = 0

    def ask(self) -> bytes:
        """Return one record that asks for new keys. The client must not have sent anything since its handshake."""
        # A handshake message: key_update, 1 byte, update_requested.
        record = self._seal(bytes.fromhex("1800000101") + b"\x16")
        self._secret, self._sent = self._expand(b"traffic upd", 48), 0
        return record

    def ask_in_two(self) -> tuple[bytes, bytes]:
        """Return the same message cut over two records (RFC 8446 section 5.1)."""
        message = bytes.fromhex("1800000101")
        records = self._seal(message[:4] + b"\x16"), self._seal(message[4:] + b"\x16")
        self._secret, self._sent = self._expand(b"traffic upd", 48), 0
        return records

    def say(self, data: bytes) -> bytes:
        """Return one record of data, under the same condition."""
        return self._seal(data + b"\x17")

    def _seal(self, content: bytes) -> bytes:
        if not self._secret:
            lines = [line.split() for line in self._log.read_text().splitlines()]
            (self._secret,) = [
                bytes.fromhex(each[2]) for each in lines if each[0] == "CLIENT_TRAFFIC_SECRET_0"
            ]
        # Application data, as the network sees it.
        header = bytes.fromhex("170303") + (len(content) + 16).to_bytes(2, "big")
        key, iv = self._expand(b"key", 32), int.from_bytes(self._expand(b"iv", 12), "big")
        nonce = (iv ^ self._sent).to_bytes(12, "big")
        self._sent += 1  # records under these keys
        return header + AESGCM(key).encrypt(nonce, content, header)

    def _expand(self, label: bytes, length: int) -> bytes:
        """HKDF-Expand-Label (RFC 8446 section 7.1), for TLS_AES_256_GCM_SHA384."""
        name = b"tls13 " + label
        info = length.to_bytes(2, "big") + bytes([len(name)]) + name + b"\0"
        expanded: Any = HKDFExpand(hashes.SHA384(), length, info).derive(self._secret)
        return bytes(expanded)
