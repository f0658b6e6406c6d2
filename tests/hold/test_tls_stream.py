"""Tests of the promises' TLS client, and of the one that sends nothing but KeyUpdates: OpenSSL must understand both."""

from __future__ import annotations

import contextlib
import socket
import ssl
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import Authority, folder_for
from tests.hold.clients import in_threads
from tests.hold.tls_stream import LEAST, RECORD, TLSStream, client_context
from tests.hold.tls_talker import Sealer
from tests.waiting import until


class TLSCase(SynchronousTestCase):
    """Has a server's side, in memory."""

    def setUp(self) -> None:
        """Make both sides of a connection."""
        folder = folder_for(self)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*Authority().issue("localhost").write(folder))
        self.keys = Path(folder) / "keys"
        self.received, self.answers = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = self.context.wrap_bio(self.received, self.answers, server_side=True)
        ours, self.theirs = socket.socketpair()
        self.theirs.settimeout(5)
        self.client = TLSStream(ours, self.client_settings())
        self.client.settimeout(5)
        self.addCleanup(self.client.close)
        self.addCleanup(self.theirs.close)
        in_threads(lambda number: self.client.handshake() if number else self.serve(), count=2, at_once=2)

    def client_settings(self) -> ssl.SSLContext:
        """Those of the client."""
        return client_context()

    def serve(self) -> None:
        """Make the handshake, on the server's side."""
        for _ in range(10):
            try:
                self.server.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.theirs.sendall(self.answers.read())
                self.received.write(self.theirs.recv(2**16))
        self.theirs.sendall(self.answers.read())

    def say(self, data: bytes) -> None:
        """Send something from the server's side."""
        self.server.write(data)
        self.theirs.sendall(self.answers.read())

    def heard(self) -> bytes:
        """All that the server's side can decrypt now."""
        self.theirs.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while data := self.theirs.recv(2**16):
                self.received.write(data)
        said = b""
        with contextlib.suppress(ssl.SSLWantReadError):
            while piece := self.server.read(RECORD):
                said += piece
        return said


class StreamTests(TLSCase):
    """The client."""

    def test_both_ways(self) -> None:
        """What is sent arrives, and what comes is received, in pieces of the size that is asked for."""
        self.client.sendall(b"there")
        self.say(b"and back")

        self.assertEqual(b"there", self.heard())
        self.assertEqual([b"and", b" ba", b"ck"], [self.client.recv(3) for _ in range(3)])

    def test_half_close(self) -> None:
        """After close_notify of its own it goes on receiving: what has come before, and what comes later."""
        self.say(b"before")
        self.assertEqual(b"b", self.client.recv(1))
        self.client.shutdown(socket.SHUT_WR)
        self.say(b", after")

        self.assertEqual(b"efore", self.client.recv(5))
        self.assertEqual(b", after", self.client.recv(99))
        self.assertEqual(b"", self.heard())
        self.assertEqual(b"", self.theirs.recv(1))

    def test_end(self) -> None:
        """close_notify is the end; an end without it is an error."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.server.unwrap()
        self.theirs.sendall(self.answers.read())

        self.assertEqual(b"", self.client.recv(9))

    def test_truncated(self) -> None:
        """An end without close_notify is an error."""
        self.theirs.shutdown(socket.SHUT_WR)

        self.assertRaises(ConnectionResetError, self.client.recv, 9)

    def test_nothing_is_left(self) -> None:
        """A caller that polls, and asks for enough, finds nothing that no poll tells of."""
        self.client.setblocking(False)
        data = bytes(RECORD) * 3
        for start in range(0, len(data), 10_000):
            self.say(data[start : start + 10_000])
        came = b""
        with contextlib.suppress(BlockingIOError):
            for _ in range(100):
                came += self.client.recv(LEAST)

        self.assertEqual(data, came)
        self.assertEqual(0, self.client.tls.pending())

    def test_no_room(self) -> None:
        """What the socket has taken in part is sent on with the next call, and counted once."""
        self.client.setblocking(False)
        data = bytes(range(256)) * 2**14
        sent = 0
        heard = b""
        for _ in until(lambda: sent == len(data)):
            try:
                sent += self.client.send(memoryview(data)[sent:])
            except BlockingIOError:
                heard += self.heard()

        self.assertEqual(data, heard + self.heard())


class SealerTests(TLSCase):
    """The client that sends KeyUpdates."""

    def client_settings(self) -> ssl.SSLContext:
        """Those of a client that tells its secrets."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.keylog_filename = str(self.keys)
        return context

    def test_understood(self) -> None:
        """OpenSSL takes the KeyUpdates, and what comes after each."""
        lines = (line.split() for line in self.keys.read_text().splitlines())
        secret = next(bytes.fromhex(line[2]) for line in lines if line[0] == "CLIENT_TRAFFIC_SECRET_0")
        cipher = self.client.tls.cipher()
        assert cipher is not None
        sealer = Sealer(secret, cipher[0])
        for word in (b"one", b"two"):
            self.theirs_takes(sealer.update() + sealer.update() + sealer.seal(23, word))

            self.assertEqual(word, self.heard())

    def theirs_takes(self, records: bytes) -> None:
        """Send records past the client."""
        self.client.sock.sendall(records)
