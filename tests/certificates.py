"""Throw-away certificate authorities, what they issue and what they revoke: made in memory, in less than a millisecond each.

They are as RFC 5280 wants them, so that a client that sets VERIFY_X509_STRICT, as Python 3.13's does, accepts them.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID
from twisted.trial.unittest import SynchronousTestCase

__all__ = ["DAY", "Authority", "Issued", "folder_for"]

DAY = timedelta(days=1)

#: Certificates and revocation lists: RFC 5280 section 4.2.1.3 wants an authority to say so.
_MAY_SIGN = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


@attrs.frozen
class Issued:
    """A certificate with its key.

    Attributes:
        certificate: The certificate.
        issuers: Those of who issued it, up to the root and without it.
        private: Its key.
    """

    certificate: x509.Certificate
    issuers: tuple[x509.Certificate, ...]
    private: Any

    @property
    def pem(self) -> bytes:
        """The certificate alone."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def chain(self) -> bytes:
        """The certificate and those of its issuers."""
        return b"".join(each.public_bytes(Encoding.PEM) for each in (self.certificate, *self.issuers))

    @property
    def key(self) -> bytes:
        """The key, as it is."""
        return self._key(NoEncryption())

    @property
    def encrypted_key(self) -> bytes:
        """The key, under a passphrase."""
        return self._key(BestAvailableEncryption(b"secret"))

    def _key(self, encryption: Any) -> bytes:
        pem: bytes = self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
        return pem

    def write(self, folder: str | Path, name: str = "server") -> tuple[str, str]:
        """Write chain and key to a folder; return both paths."""
        cert, key = Path(folder) / f"{name}.crt", Path(folder) / f"{name}.key"
        cert.write_bytes(self.chain)
        key.write_bytes(self.key)
        return str(cert), str(key)


def folder_for(test: SynchronousTestCase) -> str:
    """Make a folder that goes when the test ends; return its path."""
    folder = TemporaryDirectory(prefix="echosvc-")
    test.addCleanup(folder.cleanup)
    return folder.name


class Authority:
    """Issues certificates.

    Args:
        name: Its common name.
        parent: Who issued its own certificate; None if it did so itself.

    Attributes:
        own: Its own certificate.
    """

    def __init__(self, name: str = "Test CA", parent: Authority | None = None) -> None:
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._parent = parent
        self._private = ec.generate_private_key(ec.SECP256R1())
        self._crls = 0
        issuer = parent or self
        self.own = issuer._sign(
            self._name,
            self._private,
            [x509.BasicConstraints(ca=True, path_length=None), _MAY_SIGN],
        )

    def issue(
        self, *names: str, private: Any = None, begins: timedelta = -DAY, ends: timedelta = DAY
    ) -> Issued:
        """Issue a certificate for some hosts, or for a client.

        Args:
            names: What it names (subjectAltName); none for a certificate that names no host.
            private: Its key; a new one if None.
            begins: From when on it is valid, counted from now.
            ends: Until when.
        """
        private = private or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0] if names else "nobody")])
        hosts = [x509.SubjectAlternativeName([x509.DNSName(each) for each in names])] if names else []
        certificate = self._sign(subject, private, hosts, begins, ends)
        return Issued(certificate, self._chain(), private)

    def crl(self, *revoked: Issued | Authority, begins: timedelta = -DAY, ends: timedelta = DAY) -> bytes:
        """Write the list of certificates that it has revoked, as PEM.

        Args:
            revoked: What it has issued and now revokes: certificates, or authorities below it. The list names no others.
            begins: When the list was made (thisUpdate), counted from now.
            ends: Until when it is valid (nextUpdate).
        """
        now = datetime.now(UTC)
        self._crls += 1
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._name)
            .last_update(now + begins)
            .next_update(now + ends)
            .add_extension(self._key_identifier(), critical=False)
            .add_extension(x509.CRLNumber(self._crls), critical=False)
        )
        for each in revoked:
            certificate = each.own if isinstance(each, Authority) else each.certificate
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(certificate.serial_number)
                .revocation_date(now + begins)
                .build()
            )
        return builder.sign(self._private, hashes.SHA256()).public_bytes(Encoding.PEM)

    @property
    def pem(self) -> bytes:
        """Its own certificate."""
        return self.own.public_bytes(Encoding.PEM)

    def _chain(self) -> tuple[x509.Certificate, ...]:
        """Its own certificate and those above it, without the root's."""
        return (self.own, *self._parent._chain()) if self._parent else ()

    def _key_identifier(self) -> x509.AuthorityKeyIdentifier:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self._private.public_key())

    def _sign(
        self,
        subject: x509.Name,
        private: Any,
        extensions: list[Any],
        begins: timedelta = -DAY,
        ends: timedelta = DAY,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(private.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + ends)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
            .add_extension(self._key_identifier(), critical=False)
        )
        for extension in extensions:
            critical = isinstance(extension, (x509.BasicConstraints, x509.KeyUsage))
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(self._private, hashes.SHA256())
