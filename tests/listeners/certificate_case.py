"""What tests of certificates share: they write files, read them, and shake hands in memory."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.x509 import load_der_x509_certificate
from twisted.trial.unittest import SynchronousTestCase

from echosvc.errors import InvalidTLS
from echosvc.listeners.certificates import Certificates
from echosvc.listeners.settings import TLSSettings
from echosvc.transports.client_hello import HelloGatherer
from tests.certificates import Authority, Issued, folder_for
from tests.transports.tls_peer import Client, client_context

__all__ = ["CertificateCase", "Server"]


class Server:
    """Our side of a connection, in memory.

    Args:
        certificates: What it begins from.

    Attributes:
        tls: The connection.
        error: What ended it; None if nothing did.
    """

    def __init__(self, certificates: Certificates) -> None:
        self._certificates = certificates
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._gatherer: HelloGatherer | None = HelloGatherer()
        self.tls = certificates.context().wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.error: ssl.SSLError | None = None
        self._step: Callable[[], Any] = self.tls.do_handshake

    def take(self, data: bytes) -> None:
        """Take what the client has sent; choose a certificate when its first message is there, as a connection does."""
        self._incoming.write(data)
        if data and self._gatherer is not None:
            assert self._gatherer.feed(data)
            hello = self._gatherer.hello()
            self.tls = self._certificates.context(hello).wrap_bio(
                self._incoming, self._outgoing, server_side=True
            )
            self.tls.context = self._certificates.context_for(hello.server_name)
            self._step = self.tls.do_handshake
            self._gatherer = None

    def exchange(self, client: Client) -> None:
        """Carry bytes both ways until there are none."""
        for _ in range(5):
            client.take()
            self.take(client.give())
            if self.error is None:
                try:
                    self._step()
                    self._step = lambda: self.tls.read(1)
                    self._step()
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLError as error:
                    self.error = error
            client.take(self._outgoing.read())


class CertificateCase(SynchronousTestCase):
    """Writes files, and reads them."""

    def setUp(self) -> None:
        """Make a folder, and who issues what is written there."""
        self.now = 0.0
        self.folder = Path(folder_for(self))
        self.authority = Authority()
        self.issued = self.authority.issue("localhost")
        self.cert, self.key = self.issued.write(self.folder)

    def write(self, name: str, data: bytes) -> str:
        """Write a file; return its path."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return str(path)

    def read(self, **settings: Any) -> Certificates:
        """Read the files that settings name; without any, the default ones."""
        return Certificates(
            TLSSettings(**({"cert": self.cert, "key": self.key} | settings)),
            ("echo", "echo/1"),
            clock=lambda: self.now,
        )

    def read_folder(self) -> Certificates:
        """Read the folder alone."""
        return Certificates(TLSSettings(cert_dir=str(self.folder)))

    def problem(self, **settings: Any) -> str:
        """Return what is said of files that cannot be used."""
        error = self.assertRaises(InvalidTLS, self.read, **settings)
        self.assertIsInstance(error, ValueError)
        self.assertNotIn("\n", str(error))
        return str(error)

    def client_context(
        self, version: ssl.TLSVersion | None = None, own: Issued | None = None
    ) -> ssl.SSLContext:
        """Make what a client begins from; one that takes any host's certificate of our authority."""
        context = client_context(self.authority, version, folder=str(self.folder), own=own)
        context.check_hostname = False
        return context

    def shake(
        self,
        certificates: Certificates,
        host: str | None = "localhost",
        *,
        version: ssl.TLSVersion | None = None,
        own: Issued | None = None,
        offered: tuple[str, ...] = (),
        session: ssl.SSLSession | None = None,
        context: ssl.SSLContext | None = None,
    ) -> tuple[Client, Server]:
        """Shake hands with a client; return it and our side."""
        if context is None:
            context = self.client_context(version, own)
            if offered:
                context.set_alpn_protocols(list(offered))
        client = Client(context, host, session)
        server = Server(certificates)
        server.exchange(client)
        return client, server

    def refusal(self, certificates: Certificates, own: Issued | None = None, **options: Any) -> str | None:
        """Shake hands with a client that shows a certificate; return why it was refused, or None if it was let in."""
        client, server = self.shake(certificates, own=own, **options)
        if server.error is None:
            self.assertTrue(client.shaken)
            self.assertIsNone(client.error)
            return None
        self.assertIsNotNone(client.error)
        return getattr(server.error, "verify_message", None) or str(server.error.reason)

    def shown(self, certificates: Certificates, host: str | None) -> Any:
        """Tell which certificate is shown to a client that asks for a host."""
        client, _ = self.shake(certificates, host)
        return load_der_x509_certificate(client.tls.getpeercert(binary_form=True) or b"")
