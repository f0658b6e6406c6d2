"""Tests of the tests' certificates: a client that is as strict as Python 3.13's accepts them, unless they are revoked."""

from __future__ import annotations

import ssl
from datetime import timedelta
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import DAY, Authority, Issued, folder_for

#: Everything that OpenSSL checks of a chain, its revocation lists included.
STRICT = ssl.VERIFY_X509_STRICT | ssl.VERIFY_CRL_CHECK_CHAIN


class CertificateTests(SynchronousTestCase):
    """A root, an authority below it, and what both issue."""

    def setUp(self) -> None:
        """Make both."""
        self.root = Authority()
        self.middle = Authority("Test Intermediate", parent=self.root)
        self.folder = folder_for(self)

    def refusal(self, issued: Issued, *crls: bytes, flags: ssl.VerifyFlags = STRICT) -> str:
        """Shake hands with a server that shows a certificate; return why the client refuses it, or nothing."""
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(*issued.write(self.folder))
        trusted = Path(self.folder) / "trusted.pem"  # revocation lists are read from files alone
        trusted.write_bytes(b"".join([self.root.pem, *crls]))
        client = ssl.create_default_context(cafile=trusted)
        client.verify_flags |= flags
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        ends = [
            client.wrap_bio(to_client, to_server, server_hostname="localhost"),
            server.wrap_bio(to_server, to_client, server_side=True),
        ]
        for turn in range(6):
            try:
                ends[turn % 2].do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLCertVerificationError as error:
                return error.verify_message
        return ""

    def test_a_strict_client_accepts_them(self) -> None:
        """Issued by the root, by an authority below it, and by one below that."""
        lowest = Authority("Test Issuer", parent=self.middle)
        for authority in (self.root, self.middle, lowest):
            issued = authority.issue("localhost")

            self.assertEqual("", self.refusal(issued, flags=ssl.VERIFY_X509_STRICT))
        self.assertEqual((lowest.own, self.middle.own), issued.issuers)

    def test_revoked(self) -> None:
        """A list names a certificate, or the authority that issued it; every authority must have a list."""
        leaf = self.middle.issue("localhost")
        other = self.middle.issue("localhost")
        root, middle = self.root.crl(), self.middle.crl(other)

        self.assertEqual("", self.refusal(leaf, root, middle))
        self.assertEqual("certificate revoked", self.refusal(other, root, middle))
        self.assertEqual("certificate revoked", self.refusal(leaf, self.root.crl(self.middle), middle))
        self.assertEqual("unable to get certificate CRL", self.refusal(leaf, root))

    def test_dates_of_a_list(self) -> None:
        """They are chosen."""
        leaf = self.root.issue("localhost")
        hour = timedelta(hours=1)

        self.assertEqual("", self.refusal(leaf, self.root.crl(begins=-hour, ends=hour)))
        self.assertEqual("CRL has expired", self.refusal(leaf, self.root.crl(begins=-2 * DAY, ends=-hour)))
        self.assertEqual("CRL is not yet valid", self.refusal(leaf, self.root.crl(begins=hour)))
