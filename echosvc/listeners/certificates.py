"""What TLS connections of a listener begin from: `ssl.SSLContext` objects made of files of certificates and keys.

`Certificates` reads all files at once, when a listener is made and again on every reload: a client's server name (SNI)
chooses from what is in memory and never touches the disk. Reading them is in `identities`, `client_cas` and `pem`.
"""

from __future__ import annotations

import os
import re
import ssl
import time
from collections.abc import Callable, Mapping, Sequence

import attrs

from echosvc.errors import InvalidTLS
from echosvc.listeners.client_cas import ClientCAs, read_client_cas
from echosvc.listeners.identities import Identity, read_identities
from echosvc.listeners.pem import MistakeError, Noted, as_file, validity
from echosvc.listeners.settings import TLSSettings
from echosvc.transports.client_hello import ClientHello

__all__ = ["NO_COMPRESSED_CERTIFICATES", "Certificates"]

#: Ciphers of TLS 1.2 if the settings name none: forward secrecy and authenticated encryption, AES in hardware first. Those of TLS
#: 1.3 have both.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"

#: Seconds after which the keys of session tickets are new. A stolen key opens no more than these, and a client whose certificate
#: has expired, or whose CRL has, is resumed for no longer.
TICKET_LIFE = 600.0

#: SSL_OP_NO_RX_CERTIFICATE_COMPRESSION (RFC 8879) of OpenSSL 3.2, which Python has no name for; older ones have no such bit and ignore it.
#: What a handshake may take is counted as it comes, and a compressed chain grows: 86 KB of certificates came as less than 48.
NO_COMPRESSED_CERTIFICATES = 1 << 33

#: Sessions of TLS 1.2 clients without tickets that OpenSSL may keep, 1.2 KB each; it would keep 20 480, and Python cannot say less.
SESSIONS = 256

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@attrs.frozen
class _Loaded:
    """Everything that was read at one time.

    Attributes:
        identities: Every certificate of the listener.
        client_cas: Who may have issued a client's.
        default: For clients that name no host, or an unknown one.
        by_name: For the others.
        unused: What is not used, each in one line.
    """

    identities: Sequence[Identity]
    client_cas: ClientCAs | None
    default: ssl.SSLContext
    by_name: Mapping[str, ssl.SSLContext]
    unused: Sequence[str]

    def choose(self, name: str | None) -> ssl.SSLContext:
        """Return what shows the certificate of a host, exactly or by a wildcard."""
        name = (name or "").lower()
        wildcard = "*." + name.partition(".")[2]
        return self.by_name.get(name) or self.by_name.get(wildcard) or self.default


class Certificates:
    """Makes the contexts of a listener's TLS connections.

    A client that names a host (SNI) is shown the certificate that names it, exactly or by a wildcard; any other is shown the
    default: ``cert``, or the first of ``cert_dir``. Certificates are taken in that order, the folder's by their file names,
    and the first that names a host is the one for it. A host may have one certificate for each kind of key (ECDSA, RSA):
    OpenSSL shows each client one that it understands.

    Args:
        settings: Which files, and what is spoken. Files are found again by a reload, whatever folder the process is in by then.
        alpn: Application protocols (RFC 7301) in the order in which they are preferred, if `settings` names none.
        clock: Seconds of a clock that is never set.

    Attributes:
        alpn: The application protocols that are spoken.
        alpn_required: A client that offers only others is refused, because the settings name them (RFC 7301 section 3.2).
            Where they name none, our name confirms what was agreed on by the port number, to clients that ask,
            and libraries that always offer ``http/1.1`` are no reason to refuse their bytes. `ssl` cannot refuse
            by itself: the connection has to, before it begins.

    Raises:
        InvalidTLS: Some of the files or settings cannot be used; all of those are told.
    """

    def __init__(
        self,
        settings: TLSSettings,
        alpn: Sequence[str] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = attrs.evolve(
            settings,
            cert=_absolute(settings.cert),
            key=_absolute(settings.key),
            cert_dir=_absolute(settings.cert_dir),
            client_ca=_absolute(settings.client_ca),
        )
        self._clock = clock
        self.alpn = tuple(settings.alpn or filter(_can_be_agreed_on, alpn))
        self.alpn_required = bool(settings.alpn)
        self._use(self._load())

    def context(self, hello: ClientHello | None = None) -> ssl.SSLContext:
        """Return what a new connection on our side begins from. It has no certificate: see `context_for`.

        Tickets and sessions belong to this context, certificates to others: so its keys for tickets can be changed from time
        to time without a file being read. Clients without tickets have a context of their own, so that no number of their
        sessions costs others their tickets.

        Args:
            hello: What the client asks for; None for one that has tickets.
        """
        if self._clock() >= self._fronts_end:
            self._use(self._loaded)
        has_tickets = hello is None or hello.has_tickets
        if self._fronts[has_tickets].session_stats()["number"] > SESSIONS:
            self._fronts[has_tickets] = self._blank(self._loaded.client_cas)
        return self._fronts[has_tickets]

    def context_for(self, server_name: str | None) -> ssl.SSLContext:
        """Return what a connection is to be switched to before its handshake: what has the certificate for a host.

        The connection has to know the name by itself. The ``sni_callback`` of `ssl` is no way to it: a name that is not ASCII
        never reaches it, and Python writes a traceback to standard error for each.

        Args:
            server_name: What the client names (SNI, RFC 6066 section 3); None if it names no host.
        """
        return self._loaded.choose(server_name)

    def reload(self) -> None:
        """Read everything again. Connections that begin from now on are shown what was read, others keep what they have.

        A ticket from before resumes nothing: a client that comes with one shows its certificate to the new `client_ca`.

        Raises:
            InvalidTLS: Some of the files cannot be used. What was read before is still used.
        """
        self._use(self._load())

    def warnings(self) -> list[str]:
        """Say what is not as it should be, each in one line: a certificate that has expired, for example."""
        loaded = self._loaded
        found = [line for each in loaded.identities for line in validity(each.place, each.chain)]
        return [*found, *(loaded.client_cas.warnings() if loaded.client_cas else ()), *loaded.unused]

    def expires(self) -> dict[str, float]:
        """Return when the first of the listener's own certificates, of its client CAs and of their CRLs expires.

        Returns:
            Seconds since 1970, by ``certificate``, ``client-ca`` and ``crl``, as far as there are such.
        """
        loaded, found = self._loaded, {}
        found["certificate"] = min(
            certificate.not_valid_after_utc for each in loaded.identities for certificate in each.chain
        )
        if loaded.client_cas is not None:
            found["client-ca"] = min(each.not_valid_after_utc for each in loaded.client_cas.certificates)
            if ends := [each.next_update_utc for each in loaded.client_cas.crls if each.next_update_utc]:
                found["crl"] = min(ends)
        return {what: when.timestamp() for what, when in found.items()}

    def _use(self, loaded: _Loaded) -> None:
        """Begin connections from what was loaded, with new keys for tickets."""
        fronts = {has_tickets: self._blank(loaded.client_cas) for has_tickets in (False, True)}
        self._loaded, self._fronts = loaded, fronts
        self._fronts_end = self._clock() + TICKET_LIFE

    def _load(self) -> _Loaded:
        noted = Noted()
        settings = self._settings
        identities = read_identities(settings, noted)
        client_cas = None
        if settings.client_ca is not None:
            with noted.about("client_ca"):
                client_cas = read_client_cas(settings.client_ca)
        for wrong in _wrong_ciphers(settings.ciphers):
            noted.mistakes.append(("ciphers", f"TLS ciphers: {wrong}"))
        for name in settings.alpn:
            if not _can_be_agreed_on(name):
                noted.mistakes.append(("alpn", f"alpn {name!r}: must be 1 to 255 ASCII characters"))
        if noted.mistakes:
            raise InvalidTLS(noted.mistakes)

        unused = [line for each in identities for line in each.unused]
        if settings.ciphers is not None and settings.min_version == "1.3":
            unused.append("TLS ciphers: not used: they are those of TLS 1.2, and the least version is 1.3")
        unused += client_cas.unused if client_cas else ()
        owners = _owners(identities, unused)
        contexts: dict[tuple[int, ...], ssl.SSLContext] = {}

        def context(group: Sequence[Identity]) -> ssl.SSLContext:
            key = tuple(map(id, group))
            if key not in contexts:
                contexts[key] = self._context(group, client_cas)
            return contexts[key]

        default = context(_default(identities))
        by_name = {name: context(list(group.values())) for name, group in owners.items()}
        return _Loaded(identities, client_cas, default, by_name, unused)

    def _context(self, identities: Sequence[Identity], client_cas: ClientCAs | None) -> ssl.SSLContext:
        """Make what shows the certificates of one host."""
        context = self._blank(client_cas)
        for identity in identities:
            try:
                with as_file(identity.pem) as path:
                    context.load_cert_chain(path)
            except OSError as problem:
                raise _refused(identity.setting, identity.place, problem) from problem
        if client_cas is not None:
            try:
                with as_file(client_cas.pem) as path:
                    context.load_verify_locations(path)
            except OSError as problem:
                raise _refused("client_ca", client_cas.place, problem) from problem
        return context

    def _blank(self, client_cas: ClientCAs | None) -> ssl.SSLContext:
        """Make a context without certificates."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _VERSIONS[self._settings.min_version]
        context.set_ciphers(self._settings.ciphers or CIPHERS)
        # A new handshake in the middle costs us more than the client.
        context.options |= ssl.OP_NO_RENEGOTIATION | NO_COMPRESSED_CERTIFICATES
        if self.alpn:
            context.set_alpn_protocols(list(self.alpn))
        if client_cas is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.verify_flags |= client_cas.flags
        return context


def _absolute(path: str | None) -> str | None:
    return None if path is None else os.path.abspath(path)  # noqa: PTH100  # resolve would follow links, once for all


def _owners(identities: Sequence[Identity], unused: list[str]) -> dict[str, dict[type, Identity]]:
    """Find out which certificates serve which hosts: of each kind of key the first."""
    owners: dict[str, dict[type, Identity]] = {}
    for identity in identities:
        if not identity.names and identity is not identities[0]:
            unused.append(f"{identity.place}: never used: the certificate names no host (subjectAltName)")
        for name in identity.names:
            owner = owners.setdefault(name, {}).setdefault(identity.kind, identity)
            if owner.chain[0] != identity.chain[0]:
                unused.append(f"{identity.place}: not used for {name}: {owner.place} is")
    return owners


def _default(identities: Sequence[Identity]) -> Sequence[Identity]:
    """Find the certificates for clients that name no host: the first, and those with other keys that name all of its hosts."""
    first = identities[0]
    group = {first.kind: first}
    for identity in identities:
        if first.names and set(first.names) <= set(identity.names):
            group.setdefault(identity.kind, identity)
    return list(group.values())


def _can_be_agreed_on(name: str) -> bool:
    """Find out whether a name can be one of ALPN (RFC 7301 section 3.1) that `ssl` takes."""
    return name.isascii() and 0 < len(name) < 256


def _wrong_ciphers(ciphers: str | None) -> list[str]:
    """Find what OpenSSL does not know, or would pass over, in a list of ciphers; see ``openssl ciphers``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    wrong = []
    for name in re.split(r"[:, ]", ciphers or ""):
        if name and name[0] not in "!-@":
            try:
                context.set_ciphers(name.lstrip("+"))
            except ssl.SSLError:
                wrong.append(f"OpenSSL knows no {name} of TLS 1.2; `openssl ciphers -s -tls1_2 -v` lists all")
    if ciphers is not None and not wrong:
        try:
            context.set_ciphers(ciphers)
        except ssl.SSLError:
            wrong.append(f"OpenSSL finds none in {ciphers!r}")
    return wrong


def _refused(setting: str, place: str, problem: OSError) -> InvalidTLS:
    """Say in one line why OpenSSL cannot use a file, or cannot be given it."""
    if isinstance(problem, ssl.SSLError):
        said = f"OpenSSL refuses it: {(problem.reason or str(problem)).lower().replace('_', ' ')}"
    else:
        said = (
            f"cannot be handed to OpenSSL: {problem.strerror}; it needs /proc or a folder for temporary files"
        )
    return InvalidTLS([(setting, str(MistakeError(place, said)))])
