"""A listener's own certificates: read with their keys from files and folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from echosvc.listeners.pem import PEM, MistakeError, Noted, read_pem, understood
from echosvc.listeners.settings import TLSSettings

__all__ = ["Identity", "read_identities"]


@attrs.frozen
class Identity:
    """A certificate, those of its issuers, and its key.

    Attributes:
        setting: Which of the settings has led to it.
        place: The file, as errors and warnings name it.
        chain: Its own certificate first.
        pem: All of them and the private key, for OpenSSL.
        kind: The kind of its key. A client is shown the one it understands of several certificates with keys of different kinds.
        names: Hosts that it names, in lower case; ``*.example.org`` stands for any one label.
        unused: What is in its files and is not used, each in one line.
    """

    setting: str
    place: str
    chain: Sequence[x509.Certificate]
    pem: bytes = attrs.field(repr=False)
    kind: type
    names: Sequence[str]
    unused: Sequence[str]


def read_identities(settings: TLSSettings, noted: Noted) -> list[Identity]:
    """Read every certificate with its key: the default first, then the folder's by their file names.

    Args:
        settings: Which files.
        noted: Takes the mistakes.

    Returns:
        Those that can be used.
    """
    found: list[Identity | None] = []
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
        raise MistakeError(place, f"cannot be read: {problem.strerror} ({problem.filename})") from problem
    if not pairs:
        raise MistakeError(
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


def _identity(setting: str, cert: str, key_setting: str, key: str, noted: Noted) -> Identity | None:
    """Read a certificate and its key; None if there was a mistake, which is noted."""
    place = f"certificate file {cert}"
    chain: Sequence[x509.Certificate] | None = None
    private: Any = None
    with noted.about(setting):
        cert_file = read_pem(place, cert)
        chain = cert_file.certificates()
    with noted.about(key_setting):
        key_file = read_pem(f"key file {key}", key)
        private = key_file.key()
    if chain is None or private is None:
        return None
    with noted.about(setting), understood(place):
        matches = [_public(each) == _public(private) for each in chain]
        identity = Identity(
            setting,
            place,
            chain,
            b"".join(each.public_bytes(Encoding.PEM) for each in chain)
            + private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            type(private),
            _names(chain[0]),
            list(_unused(cert_file, key_file)),
        )
        if matches[0]:
            return identity
        if any(matches):
            raise MistakeError(
                place,
                f"the key belongs to certificate {matches.index(True) + 1} in it; put that one first, then its issuers",
            )
        problem = f"the key does not belong to the certificate in {cert}; give the one it was made with"
        noted.mistakes.append((key_setting, f"{key_file.place}: {problem}"))
    return None


def _unused(cert: PEM, key: PEM) -> Iterator[str]:
    """Say what neither OpenSSL nor we make use of. One file may be named twice, for both."""
    if cert.path == key.path:
        yield from cert.unused(certificates=True, keys=1)
    else:
        yield from cert.unused(certificates=True)
        yield from key.unused(keys=1)


def _public(owner: Any) -> bytes:
    """Return the public key of a private one, or the one in a certificate, in a form that can be compared."""
    key: bytes = owner.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return key


def _names(certificate: x509.Certificate) -> list[str]:
    """Return the hosts that a certificate names (RFC 9525 section 6.3: the common name is not one of them)."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [name.lower() for name in names.get_values_for_type(x509.DNSName)]
