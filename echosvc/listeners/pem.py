"""Files in PEM (RFC 7468): what is in them, what is wrong with them, and what of them is not used.

Everything that is wrong is one line that says what, where, and what would be right.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

__all__ = ["PEM", "MistakeError", "Noted", "as_file", "read_pem", "understood", "validity"]

#: What stands between a PEM block's name and the rest of its first line (RFC 7468 section 2).
_LABEL = re.compile(rb"^-----BEGIN ([^-]+)-----", re.MULTILINE)

_BLOCK = re.compile(rb"^-----BEGIN ([^-]+)-----.*?^-----END \1-----", re.MULTILINE | re.DOTALL)

_CERTIFICATES = ("CERTIFICATE", "X509 CERTIFICATE")
_CRLS = ("X509 CRL",)

T = TypeVar("T")


class MistakeError(Exception):
    """A certificate or key cannot be used.

    Args:
        place: The file or folder, and what it is for.
        problem: What is wrong with it, and what would be right.
    """

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"{place}: {problem}")


class Noted:
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
        except MistakeError as mistake:
            self.mistakes.append((setting, str(mistake)))


@attrs.frozen
class PEM:
    """A file's contents.

    Attributes:
        place: The file and what it is for, as errors and warnings name it.
        path: The file.
        data: All of it.
        labels: The names of its blocks, in their order.
    """

    place: str
    path: str
    data: bytes
    labels: Sequence[str]

    def certificates(self) -> list[x509.Certificate]:
        """Return all certificates, in their order.

        Raises:
            MistakeError: There is none, or one is damaged.
        """
        if not any(label in _CERTIFICATES for label in self.labels):
            raise MistakeError(self.place, f"there is no certificate in it, only {', '.join(self.labels)}")
        return self._all(_CERTIFICATES, x509.load_pem_x509_certificate, "a certificate")

    def crls(self) -> list[x509.CertificateRevocationList]:
        """Return all certificate revocation lists, in their order.

        Raises:
            MistakeError: One is damaged.
        """
        return self._all(_CRLS, x509.load_pem_x509_crl, "a revocation list (CRL)")

    def _all(self, labels: Sequence[str], load: Callable[[bytes], T], what: str) -> list[T]:
        """Load every block that has one of the labels. One that has no end, or another's, is damaged, too."""
        expected = sum(label in labels for label in self.labels)
        try:
            found = [load(block[0]) for block in _BLOCK.finditer(self.data) if block[1].decode() in labels]
        except Exception:  # noqa: BLE001  # cryptography's errors have no root but this, and their number grows
            found = []
        if len(found) != expected:
            raise MistakeError(self.place, f"{what} in it is damaged; copy the file again")
        return found

    def key(self) -> PrivateKeyTypes:
        """Return the first private key.

        Raises:
            MistakeError: There is none, or it cannot be used.
        """
        if not any(_is_key(label) for label in self.labels):
            raise MistakeError(self.place, f"there is no private key in it, only {', '.join(self.labels)}")
        try:
            return load_pem_private_key(self.data, None)
        except TypeError as problem:  # the only one that it is: a passphrase is asked for
            raise MistakeError(
                self.place,
                "the key is encrypted, and a service cannot ask for the passphrase; decrypt it: "
                f"`(umask 077; openssl pkey -in {shlex.quote(self.path)} -out PLAIN.pem)`",
            ) from problem
        except Exception as problem:  # see _all
            raise MistakeError(
                self.place, "the private key in it is damaged or of an unknown kind; copy the file again"
            ) from problem

    def unused(self, *, certificates: bool = False, keys: int = 0, crls: bool = False) -> Iterator[str]:
        """Say which blocks are not used.

        Args:
            certificates: Certificates are.
            keys: So many private keys are.
            crls: Revocation lists are.
        """
        used = {"EC PARAMETERS", *(_CERTIFICATES if certificates else ()), *(_CRLS if crls else ())}
        keys_left = keys
        found: Counter[str] = Counter()
        for label in self.labels:
            if _is_key(label) and keys_left:
                keys_left -= 1
            elif label not in used:
                found[label] += 1
        for label, count in found.items():
            times = f" ({count} times)" if count > 1 else ""
            yield f"{self.place}: not used: {label}{times}{self._hint(label, keys)}"

    def _hint(self, label: str, keys: int) -> str:
        if label == "TRUSTED CERTIFICATE":
            return f"; `openssl x509 -in {shlex.quote(self.path)}` writes it as CERTIFICATE"
        if _is_key(label):
            return "; only the first private key is" if keys else "; keep private keys elsewhere"
        return ""


def read_pem(place: str, path: str) -> PEM:
    """Read a file.

    Args:
        place: The file and what it is for.
        path: The file.

    Raises:
        MistakeError: It cannot be read, or is not PEM.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as problem:
        raise MistakeError(
            place, f"cannot be read: {problem.strerror}; name a PEM file that this user may read"
        ) from problem
    if not data.strip():
        raise MistakeError(place, "is empty; it should hold PEM, text that begins with -----BEGIN")
    labels = [each.decode("ascii", "replace") for each in _LABEL.findall(data)]
    if not labels:
        raise MistakeError(
            place,
            "is not PEM, text that begins with -----BEGIN; if it is DER, `openssl x509 -inform der` converts a certificate "
            "and `openssl pkey -inform der` a key",
        )
    return PEM(place, path, data, labels)


@contextlib.contextmanager
def understood(place: str) -> Iterator[None]:
    """Say which file it is in which cryptography finds what it does not understand: some of it only when it is asked."""
    try:
        yield
    except MistakeError:
        raise
    except Exception as problem:  # see _all
        raise MistakeError(place, f"there is something in it that is not understood: {problem}") from problem


def validity(place: str, certificates: Iterable[x509.Certificate]) -> Iterator[str]:
    """Say which certificates are not valid now. They are used all the same: it may be the clock that is wrong."""
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


@contextlib.contextmanager
def as_file(data: bytes) -> Iterator[str]:
    """Put bytes where OpenSSL can read them: Python hands it private keys and CRLs by their paths alone.

    The files that were named are not read a second time: they may have changed, and hold what is not to be used. On Linux the
    bytes stay in memory (memfd_create(2)); elsewhere, and without /proc, they are in a file of this user's for a moment.

    Args:
        data: What OpenSSL shall read.

    Returns:
        The path, good inside the block.

    Raises:
        OSError: There is no /proc and no folder for temporary files.
    """
    with contextlib.ExitStack() as opened:
        if hasattr(os, "memfd_create") and Path("/proc/self/fd").exists():
            file = opened.enter_context(os.fdopen(os.memfd_create("pem"), "wb"))
            path = f"/proc/self/fd/{file.fileno()}"
        else:
            named = opened.enter_context(tempfile.NamedTemporaryFile())
            file, path = named, named.name  # type: ignore[assignment]  # a wrapper that has all that a file has
        file.write(data)
        file.flush()
        yield path


def _is_key(label: str) -> bool:
    return label.endswith("PRIVATE KEY")
