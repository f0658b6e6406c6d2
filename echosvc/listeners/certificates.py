"""Files of certificates and keys, read into what OpenSSL serves them from.

`Certificates` reads all of them at once, when a listener is made and again on every reload: a client's server name (SNI)
chooses from what is in memory and never touches the disk, so that unknown names cost nobody anything. (Twisted's own
directory of certificates is read whole for each of them.)

Everything that is wrong is one line that says what, where, and what would be right. Needs the packages of
``twisted[tls]``; nothing else imports this module before TLS is asked for.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.ssl import Certificate, CertificateOptions, trustRootFromCertificates
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from echosvc.errors import InvalidTLS
from echosvc.listeners.settings import TLSSettings

__all__ = ["Certificates"]

#: What stands between a PEM block's name and the rest of its first line (RFC 7468 section 2).
_LABEL = re.compile(rb"^-----BEGIN ([^-]+)-----", re.MULTILINE)


class _MistakeError(Exception):
    """A certificate or key cannot be used.

    Args:
        place: The file or folder, and what it is for.
        problem: What is wrong with it, and what would be right.
    """

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"{place}: {problem}")


class _Noted:
    """Notes mistakes, so that all of them are told and not the first.

    Attributes:
        mistakes: Each with the attribute of the settings that it is about.
    """

    def __init__(self) -> None:
        self.mistakes: list[tuple[str, str]] = []

    @contextlib.contextmanager
    def about(self, setting: str) -> Iterator[None]:
        """Note a mistake with one of the settings, and go on after the block."""
        try:
            yield
        except _MistakeError as mistake:
            self.mistakes.append((setting, str(mistake)))


@attrs.frozen
class _Identity:
    """A certificate, those of its issuers, and its key.

    Attributes:
        setting: Which of the settings has led to it.
        place: The file, as errors and warnings name it.
        chain: Its own certificate first.
        key: Its private key.
        names: Hosts that it names, in lower case; ``*.example.org`` stands for any one label.
        warnings: Which of its certificates are not valid now.
    """

    setting: str
    place: str
    chain: Sequence[x509.Certificate]
    key: Any
    names: Sequence[bytes]
    warnings: Sequence[str]


@attrs.frozen
class _Loaded:
    """Everything that was read at one time."""

    default: SSL.Context
    warnings: Sequence[str]


@implementer(IOpenSSLServerConnectionCreator)
class Certificates:
    """Begins connections of OpenSSL that know every certificate of a listener.

    TLS 1.2 and up, with the ciphers that Twisted chooses and in our order. A client that names a host (SNI) is shown the
    certificate that names it, exactly or by a wildcard; any other is shown the default: ``cert``, or the first of
    ``cert_dir``. Certificates are taken in that order, the folder's by their file names, and the first that names a host
    is the one for it. Sessions are resumed by tickets, as OpenSSL does: nothing is kept here for a client that may come back.

    Args:
        settings: Which files. They are found again by a reload, whatever folder the process is in by then.
        alpn: Application protocols (RFC 7301) in the order in which they are preferred, if `settings` names none.

    Raises:
        InvalidTLS: Some of the files cannot be used; all of those are told.
    """

    def __init__(self, settings: TLSSettings, alpn: Sequence[str] = ()) -> None:
        self._settings = attrs.evolve(
            settings,
            cert=_absolute(settings.cert),
            key=_absolute(settings.key),
            cert_dir=_absolute(settings.cert_dir),
            client_ca=_absolute(settings.client_ca),
        )
        self._alpn = [name.encode() for name in settings.alpn or alpn]
        self._loaded = self._load()

    def reload(self) -> None:
        """Read everything again. Connections that begin from now on are shown what was read, others keep what they have.

        A ticket from before resumes nothing: whoever comes with one shows its certificate to the new `client_ca`.

        Raises:
            InvalidTLS: Some of the files cannot be used. What was read before is still used.
        """
        self._loaded = self._load()

    def warnings(self) -> list[str]:
        """Say what was read and is not as it should be, each in one line: a certificate that has expired, for example."""
        return list(self._loaded.warnings)

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Begin a connection. Called by Twisted's TLS."""
        return SSL.Connection(self._loaded.default, None)

    def _load(self) -> _Loaded:
        noted = _Noted()
        identities = list(_identities(self._settings, noted))
        issuers: Sequence[x509.Certificate] = ()
        warnings = [line for each in identities for line in each.warnings]
        if self._settings.client_ca is not None:
            with noted.about("client_ca"):
                issuers, expired = _issuers(self._settings.client_ca)
                warnings += expired
        if noted.mistakes:
            raise InvalidTLS(noted.mistakes)
        by_name: dict[bytes, SSL.Context] = {}

        def find(name: bytes | None) -> SSL.Context | None:
            name = (name or b"").lower()
            return by_name.get(name) or by_name.get(b"*." + name.partition(b".")[2])

        default = self._context(identities[0], issuers, find)
        owners: dict[bytes, _Identity] = {}
        for identity in identities:
            context = default if identity is identities[0] else self._context(identity, issuers)
            if not identity.names and identity is not identities[0]:
                warnings.append(
                    f"{identity.place}: never used: the certificate names no host (subjectAltName)"
                )
            for name in identity.names:
                owner = owners.setdefault(name, identity)
                by_name.setdefault(name, context)
                if owner.chain[0] != identity.chain[0]:
                    warnings.append(f"{identity.place}: not used for {name.decode()}: {owner.place} is")
        return _Loaded(default, warnings)

    def _context(
        self, identity: _Identity, issuers: Sequence[x509.Certificate], find: Any = None
    ) -> SSL.Context:
        """Make what connections with one certificate begin from."""
        try:
            trusted = [Certificate.loadPEM(each.public_bytes(Encoding.PEM)) for each in issuers]
            context = CertificateOptions(
                privateKey=identity.key,
                certificate=identity.chain[0],  # type: ignore[arg-type]  # annotated as pyOpenSSL's own, which is deprecated
                extraCertChain=identity.chain[1:],  # type: ignore[arg-type]  # likewise
                trustRoot=trustRootFromCertificates(trusted) if issuers else None,
                contextForServerName=find,
                enableSessionTickets=True,
            ).getContext()
        except (SSL.Error, crypto.Error) as problem:
            said = f"{identity.place}: OpenSSL refuses it: {_reason(problem)}"
            raise InvalidTLS([(identity.setting, said)]) from problem
        context.set_options(SSL.OP_NO_RENEGOTIATION)
        context.set_alpn_select_callback(self._select)  # Twisted's ends a handshake that could go on
        for issuer in issuers:
            context.add_client_ca(issuer)  # a client with several certificates sees which one is wanted
        return context

    def _select(self, _: SSL.Connection, offered: list[bytes]) -> Any:
        """Choose by ALPN what will be spoken; refuse whoever offers only others, if a choice was configured.

        RFC 7301 section 3.2 has a server refuse. Where nobody has named protocols there is nothing to decide, though: our
        name confirms what was agreed on by the port number, to those who ask, and libraries that always offer
        ``http/1.1`` are no reason to refuse their bytes.
        """
        for name in self._alpn:
            if name in offered:
                return name
        if self._settings.alpn:
            raise SSL.Error("no_application_protocol")  # makes OpenSSL send the alert of that name
        return SSL.NO_OVERLAPPING_PROTOCOLS


def _absolute(path: str | None) -> str | None:
    return None if path is None else os.path.abspath(path)  # noqa: PTH100  # resolve would follow links, once for all


def _identities(settings: TLSSettings, noted: _Noted) -> list[_Identity]:
    """Read every certificate with its key: the default first, then the folder's by their file names."""
    found: list[_Identity | None] = []
    if settings.cert is not None and settings.key is not None:
        found.append(_identity("cert", settings.cert, "key", settings.key, noted))
    elif settings.cert_dir is None:
        noted.mistakes.append(
            ("", "TLS: there is no certificate; give a certificate file and its key file, or a folder")
        )
    if settings.cert_dir is not None:
        with noted.about("cert_dir"):
            for cert, key in _pairs_in(settings.cert_dir):
                found.append(_identity("cert_dir", str(cert), "cert_dir", str(key), noted))
    return [each for each in found if each is not None]


def _pairs_in(folder: str) -> list[tuple[Path, Path]]:
    place = f"certificate folder {folder}"
    try:
        pairs = list(_pairs(Path(folder)))
    except OSError as problem:
        raise _MistakeError(place, f"cannot be read: {problem.strerror} ({problem.filename})") from problem
    if not pairs:
        raise _MistakeError(
            place,
            "there is no certificate in it; put in NAME.pem, with the certificates and the key, or a folder with "
            "fullchain.pem and privkey.pem, as certbot makes them",
        )
    return pairs


def _pairs(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Find files with a certificate and those with its key."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):  # an editor's, or Kubernetes' own, which has everything a second time
            continue
        if entry.is_dir():
            if {"fullchain.pem", "privkey.pem"} & {each.name for each in entry.iterdir()}:
                yield entry / "fullchain.pem", entry / "privkey.pem"
        elif entry.suffix == ".pem":
            yield entry, entry


def _identity(setting: str, cert: str, key_setting: str, key: str, noted: _Noted) -> _Identity | None:
    """Read a certificate and its key; None if there was a mistake, which is noted."""
    place = f"certificate file {cert}"
    key_place = f"key file {key}"
    chain = private = None
    with noted.about(setting):
        chain = _certificates_in(place, _read(place, cert))
    with noted.about(key_setting):
        private = _key_in(key_place, key, _read(key_place, key))
    if chain is None or private is None:
        return None
    with noted.about(setting), _understood(place):
        matches = [_public(each) == _public(private) for each in chain]
        identity = _Identity(setting, place, chain, private, _names(chain[0]), list(_validity(place, chain)))
        if matches[0]:
            return identity
        if any(matches):
            raise _MistakeError(
                place,
                f"the key belongs to certificate {matches.index(True) + 1} in it; put that one first, then its issuers",
            )
        problem = f"the key does not belong to the certificate in {cert}; give the one it was made with"
        noted.mistakes.append((key_setting, f"{key_place}: {problem}"))
    return None


def _issuers(path: str) -> tuple[Sequence[x509.Certificate], Sequence[str]]:
    """Read the certificates of those who may have issued a client's, and say which are not valid now."""
    place = f"client CA file {path}"
    found = _certificates_in(place, _read(place, path))
    with _understood(place):
        return found, list(_validity(place, found))


@contextlib.contextmanager
def _understood(place: str) -> Iterator[None]:
    """Say which file it is in which cryptography finds what it does not understand: some of it only when it is asked."""
    try:
        yield
    except _MistakeError:
        raise
    except Exception as problem:  # see _certificates_in
        raise _MistakeError(place, f"there is something in it that is not understood: {problem}") from problem


def _read(place: str, path: str) -> bytes:
    try:
        data = Path(path).read_bytes()
    except OSError as problem:
        raise _MistakeError(
            place, f"cannot be read: {problem.strerror}; name a PEM file that this user may read"
        ) from problem
    if not data.strip():
        raise _MistakeError(place, "is empty; it should hold PEM, text that begins with -----BEGIN")
    if not _LABEL.search(data):
        raise _MistakeError(
            place,
            "is not PEM, text that begins with -----BEGIN; if it is DER, `openssl x509 -inform der` converts a certificate "
            "and `openssl pkey -inform der` a key",
        )
    return data


def _certificates_in(place: str, data: bytes) -> list[x509.Certificate]:
    labels = _labels(data)
    if not any(each in ("CERTIFICATE", "X509 CERTIFICATE") for each in labels):
        raise _MistakeError(place, f"there is no certificate in it, only {', '.join(labels)}")
    try:
        return x509.load_pem_x509_certificates(data)
    except Exception as problem:  # cryptography's errors have no root but this, and their number grows
        raise _MistakeError(place, "a certificate in it is damaged; copy the file again") from problem


def _key_in(place: str, path: str, data: bytes) -> Any:
    labels = _labels(data)
    if not any(each.endswith("PRIVATE KEY") for each in labels):
        raise _MistakeError(place, f"there is no private key in it, only {', '.join(labels)}")
    try:
        return load_pem_private_key(data, None)
    except TypeError as problem:  # the only one that it is: a passphrase is asked for
        raise _MistakeError(
            place,
            "the key is encrypted, and nobody is there to be asked for the passphrase; decrypt it: "
            f"`(umask 077; openssl pkey -in {path} -out PLAIN.pem)`",
        ) from problem
    except Exception as problem:  # see _certificates_in
        raise _MistakeError(
            place, "the private key in it is damaged or of an unknown kind; copy the file again"
        ) from problem


def _labels(data: bytes) -> list[str]:
    return [each.decode("ascii", "replace") for each in _LABEL.findall(data)]


def _public(owner: Any) -> bytes:
    """Return the public key of a private one, or the one in a certificate, in a form that can be compared."""
    key: bytes = owner.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return key


def _names(certificate: x509.Certificate) -> list[bytes]:
    """Return the hosts that a certificate names (RFC 9525 section 6.3: the common name is not one of them)."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [name.lower().encode() for name in names.get_values_for_type(x509.DNSName)]


def _validity(place: str, certificates: Sequence[x509.Certificate]) -> Iterator[str]:
    """Say which certificates are not valid now. They are served all the same: it may be the clock that is wrong."""
    now = datetime.now(UTC)
    for certificate in certificates:
        subject = certificate.subject.rfc4514_string()
        if certificate.not_valid_after_utc < now:
            yield f"{place}: {subject} expired at {certificate.not_valid_after_utc:%F %T} UTC; renew it"
        elif certificate.not_valid_before_utc > now:
            yield (
                f"{place}: {subject} is not valid before {certificate.not_valid_before_utc:%F %T} UTC; "
                "is the clock right?"
            )


def _reason(problem: SSL.Error | crypto.Error) -> str:
    """Return the last of what OpenSSL has to say."""
    return str(problem.args[0][-1][-1]) if problem.args and problem.args[0] else str(problem)
