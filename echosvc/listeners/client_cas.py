"""Who may have issued a client's certificate, and which of those certificates are revoked: the file of a listener's client CAs.

How OpenSSL follows a client's certificates to the file depends on what is in it, because its rules fit no file at all:

- **Without revocation lists** (CRLs) a chain ends at the first certificate that is in the file, be it a root or an
  intermediate (X509_V_FLAG_PARTIAL_CHAIN).
- **With CRLs, and with every issuer up to its root**, a chain ends at the root, and every certificate in it needs a CRL of its
  issuer that is valid now (X509_V_FLAG_CRL_CHECK_ALL), the root included. A chain that ended at an intermediate
  would be refused always: OpenSSL wants that one checked, too, and does not look for its issuer any more.
- **With CRLs, and with intermediates whose issuers are not in the file**, a chain ends at the first certificate that is in the
  file, and only the client's own is checked (X509_V_FLAG_CRL_CHECK). Then no other intermediate may stand between, as a
  revoked one would be let in: CRLs of those that are not in the file are left out, and a file with an intermediate
  that another certificate of it has issued is refused.

So a client that cannot be checked is refused. What is in the file and is not used is told by `ClientCAs.unused`.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import attrs
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from echosvc.listeners.pem import MistakeError, read_pem, understood, validity

__all__ = ["ClientCAs", "read_client_cas"]

CRL = x509.CertificateRevocationList

#: How long before a CRL expires it is told; for one that lives shortly, in the second half of its life.
SOON = timedelta(days=3)


@attrs.frozen
class ClientCAs:
    """The client CAs of a listener.

    Attributes:
        place: The file, as warnings name it.
        certificates: Those that end a chain, or may be in it.
        crls: The revocation lists by which certificates are checked; if there are none, nothing is.
        flags: How OpenSSL follows a chain; see the module.
        unused: What is in the file and is of no use, and who is refused for that; each in one line.
    """

    place: str
    certificates: Sequence[x509.Certificate]
    crls: Sequence[CRL]
    flags: ssl.VerifyFlags
    unused: Sequence[str]

    @property
    def pem(self) -> bytes:
        """All that OpenSSL shall know."""
        certificates = b"".join(each.public_bytes(Encoding.PEM) for each in self.certificates)
        return certificates + b"".join(each.public_bytes(Encoding.PEM) for each in self.crls)

    def warnings(self) -> Iterator[str]:
        """Say what is not valid now, or soon will not be. OpenSSL refuses clients for it."""
        yield from validity(self.place, self.certificates)
        now = datetime.now(UTC)
        for crl in self.crls:
            begins, ends = crl.last_update_utc, crl.next_update_utc
            if begins > now:
                yield (
                    f"{self.place}: {_named(crl)} is not valid before {begins:%F %T} UTC; clients are refused until "
                    "then; is the clock right?"
                )
            elif ends is not None and ends < now:
                yield f"{self.place}: {_named(crl)} expired at {ends:%F %T} UTC: clients are refused; get the next one"
            elif ends is not None and ends - now < min(SOON, (ends - begins) / 2):
                yield (
                    f"{self.place}: {_named(crl)} expires at {ends:%F %T} UTC, and clients are refused from then on; "
                    "get the next one"
                )


def read_client_cas(path: str) -> ClientCAs:
    """Read a file of client CAs.

    Args:
        path: The file (PEM).

    Raises:
        MistakeError: It cannot be used.
    """
    file = read_pem(f"client CA file {path}", path)
    certificates = file.certificates()
    crls = file.crls()
    with understood(file.place):
        unused = [*file.unused(certificates=True, crls=True)]
        cas = list(_cas(file.place, certificates, unused))
        if not cas:
            raise MistakeError(
                file.place, "there is no certificate of a CA in it, so that every client is refused"
            )
        flags = ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
        if crls:
            flags = _flags(file.place, cas)
            crls = list(
                _usable(file.place, crls, cas, unused, only_known=ssl.VERIFY_X509_PARTIAL_CHAIN in flags)
            )
            unused += _unchecked(file.place, cas, crls)
        return ClientCAs(file.place, cas, crls, flags, unused)


def _cas(
    place: str, certificates: Iterable[x509.Certificate], unused: list[str]
) -> Iterator[x509.Certificate]:
    """Choose the certificates that may issue others. One that has issued itself is a client's own, trusted by itself."""
    seen = set()
    for certificate in certificates:
        if certificate in seen:
            unused.append(f"{place}: not used: {_subject(certificate)} is in it twice")
        elif not (_is_ca(certificate) or certificate.subject == certificate.issuer):
            unused.append(f"{place}: not used: {_subject(certificate)} is no CA: it can have issued none")
        else:
            yield certificate
        seen.add(certificate)


def _is_ca(certificate: x509.Certificate) -> bool:
    """Find out whether OpenSSL takes a certificate for a CA's (RFC 5280 section 4.2.1.9)."""
    with contextlib.suppress(x509.ExtensionNotFound):
        if not certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign:
            return False
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _flags(place: str, cas: Sequence[x509.Certificate]) -> ssl.VerifyFlags:
    """Choose how chains are followed where there are CRLs; see the module.

    Raises:
        MistakeError: They cannot be.
    """
    without_issuer = [each for each in cas if not any(_issued(each, ca) for ca in cas)]
    if not without_issuer:
        return ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN
    for each in cas:
        for ca in cas:
            if ca is not each and _issued(each, ca) and each.subject != each.issuer:
                raise MistakeError(
                    place,
                    f"whether {_subject(each)} is revoked cannot be checked, because who issued "
                    f"{_subject(without_issuer[0])} is not in it; add {without_issuer[0].issuer.rfc4514_string()}, up to "
                    f"the root, and their revocation lists (CRLs), or leave {_subject(each)} out",
                )
    return ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF | ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN


def _usable(
    place: str, crls: Sequence[CRL], cas: Sequence[x509.Certificate], unused: list[str], *, only_known: bool
) -> Iterator[CRL]:
    """Choose the CRLs that OpenSSL can make use of."""
    now = datetime.now(UTC)
    newest: dict[tuple[bytes, bytes], CRL] = {}
    for crl in sorted(crls, key=lambda crl: (crl.last_update_utc <= now, crl.last_update_utc), reverse=True):
        named = [ca for ca in cas if ca.subject == crl.issuer]
        signers = [ca for ca in named if _signed(crl, ca)]
        if reason := _not_understood(crl):
            unused.append(f"{place}: not used: {_named(crl)}: {reason}")
        elif named and not signers:
            unused.append(
                f"{place}: not used: {_named(crl)}: the certificate of that name in it has not signed it"
            )
        elif not named and only_known:
            unused.append(f"{place}: not used: {_named(crl)}: its issuer's certificate is not in the file")
        elif newest.setdefault((_issuer(crl, signers), _scope(crl)), crl) is not crl:
            unused.append(
                f"{place}: not used: {_named(crl)} of {crl.last_update_utc:%F %T} UTC: there is a newer one"
            )
        else:
            if not named:
                unused.append(
                    f"{place}: {_named(crl)} is of use only for clients that send its issuer's certificate, which is not "
                    "in the file"
                )
            yield crl


def _issuer(crl: CRL, signers: Sequence[x509.Certificate]) -> bytes:
    """Return what two lists of one issuer share: two CAs may have one name, and different keys."""
    if signers:
        return signers[0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return crl.issuer.public_bytes() + _extension(crl, x509.AuthorityKeyIdentifier)


def _scope(crl: CRL) -> bytes:
    """Return what a list is about, where it is not about all that its issuer has issued (RFC 5280 section 5.2.5)."""
    return _extension(crl, x509.IssuingDistributionPoint)


def _extension(crl: CRL, kind: type[x509.ExtensionType]) -> bytes:
    return b"".join(each.value.public_bytes() for each in crl.extensions if isinstance(each.value, kind))


def _not_understood(crl: CRL) -> str | None:
    """Say what kind of CRL it is, if OpenSSL passes over it."""
    for each in crl.extensions:
        if isinstance(each.value, x509.DeltaCRLIndicator):
            return "it has only what is new since another one (a delta CRL); give a complete one"
        if isinstance(each.value, x509.IssuingDistributionPoint) and each.value.indirect_crl:
            return "it is about certificates that others have issued (an indirect CRL)"
    return None


def _unchecked(place: str, cas: Sequence[x509.Certificate], crls: Sequence[CRL]) -> Iterator[str]:
    """Say whose clients are refused, because the certificates that they have issued cannot be checked or are revoked."""
    for ca in cas:
        known = [crl for crl in crls if crl.issuer == ca.subject and _signed(crl, ca)]
        if not known:
            yield f"{place}: there is no revocation list (CRL) of {_subject(ca)} in it: clients below that are refused"
        elif not _signs_crls(ca):
            yield (
                f"{place}: {_subject(ca)} may sign no revocation lists (CRLs; key usage): its own is not "
                "believed, clients below it are refused"
            )
        for crl in crls:
            if crl.issuer == ca.issuer and crl.get_revoked_certificate_by_serial_number(ca.serial_number):
                yield f"{place}: not used: {_subject(ca)} is revoked: clients below it are refused"


def _signs_crls(ca: x509.Certificate) -> bool:
    try:
        return ca.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    except x509.ExtensionNotFound:
        return True


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (
        ValueError,
        TypeError,
        InvalidSignature,
        UnsupportedAlgorithm,
    ):  # other names, keys, or a signature of others
        return False
    return True


def _signed(crl: CRL, issuer: x509.Certificate) -> bool:
    try:
        return crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]  # it raises for keys that sign none
    except (TypeError, UnsupportedAlgorithm):
        return False


def _subject(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()


def _named(crl: CRL) -> str:
    return f"the revocation list (CRL) of {crl.issuer.rfc4514_string()}"
