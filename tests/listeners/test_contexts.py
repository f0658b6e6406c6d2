"""Tests of what TLS connections begin from: which keys, versions, ciphers and names, which clients, and when they change."""

from __future__ import annotations

import os
import ssl
import sys
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from echosvc.errors import InvalidTLS
from echosvc.listeners.certificates import NO_COMPRESSED_CERTIFICATES, Certificates
from echosvc.listeners.settings import TLSSettings
from echosvc.transports.client_hello import ClientHello
from tests.certificates import DAY, Authority
from tests.listeners.certificate_case import CertificateCase, Server
from tests.transports.tls_peer import VERSIONS, Client, client_context


class KindTests(CertificateCase):
    """A host has one certificate for each kind of key."""

    def setUp(self) -> None:
        """Write a second one, of RSA, into a folder."""
        super().setUp()
        self.rsa = self.authority.issue("localhost", private=rsa.generate_private_key(65537, 2048))
        self.write("dir/rsa.pem", self.rsa.chain + self.rsa.key)
        self.directory = str(self.folder / "dir")

    def shown_to(self, certificates: Certificates, ciphers: str, host: str | None = "localhost") -> Any:
        """Tell what is shown to a client of TLS 1.2 that knows only some ciphers."""
        context = self.client_context(ssl.TLSVersion.TLSv1_2)
        context.set_ciphers(ciphers)
        client, _ = self.shake(certificates, host, context=context)
        return client.tls.getpeercert(binary_form=True) if client.shaken else None

    def test_each_client_is_shown_what_it_understands(self) -> None:
        """Also one that names no host, if both are for the same; nothing is said of it."""
        certificates = self.read(cert_dir=self.directory)
        for host in ("localhost", None):
            for ciphers, expected in (("ECDHE+aRSA", self.rsa), ("ECDHE+aECDSA", self.issued)):
                self.assertEqual(
                    expected.certificate.public_bytes(Encoding.DER),
                    self.shown_to(certificates, ciphers, host),
                )
        self.assertEqual([], certificates.warnings())
        self.assertIsNone(self.refusal(certificates, version=ssl.TLSVersion.TLSv1_3))

    def test_both_with_their_own_issuers(self) -> None:
        """Each is shown with the chain that stands in its file."""
        middle = Authority("Intermediate", self.authority)
        below = middle.issue("localhost", private=rsa.generate_private_key(65537, 2048))
        self.write("dir/rsa.pem", below.chain + below.key)
        certificates = self.read(cert_dir=self.directory)

        self.assertIsNotNone(self.shown_to(certificates, "ECDHE+aRSA"))
        self.assertIsNotNone(self.shown_to(certificates, "ECDHE+aECDSA"))

    def test_a_second_one_of_a_kind(self) -> None:
        """It is not used; so is one that names not all of the hosts, for a client that names none."""
        other = self.authority.issue("localhost", "second", private=rsa.generate_private_key(65537, 2048))
        path = self.write("dir/s.pem", other.chain + other.key)
        certificates = self.read(cert_dir=self.directory)

        self.assertEqual(
            [
                f"certificate file {path}: not used for localhost: certificate file {self.directory}/rsa.pem is"
            ],
            certificates.warnings(),
        )
        for host, expected in (("localhost", self.rsa), ("second", other), (None, self.rsa)):
            self.assertEqual(
                expected.certificate.public_bytes(Encoding.DER),
                self.shown_to(certificates, "ECDHE+aRSA", host),
            )

    def test_one_for_other_hosts(self) -> None:
        """A client that names no host is shown the default alone, whatever it understands."""
        other = self.authority.issue("other", private=rsa.generate_private_key(65537, 2048))
        self.write("dir/rsa.pem", other.chain + other.key)

        self.assertIsNone(self.shown_to(self.read(cert_dir=self.directory), "ECDHE+aRSA", None))


class NegotiationTests(CertificateCase):
    """Versions, ciphers, ALPN, sessions."""

    def test_versions(self) -> None:
        """TLS 1.2 and up."""
        context = client_context(self.authority)
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1

        self.assertEqual("UNSUPPORTED_PROTOCOL", self.refusal(self.read(), context=context))
        for version in VERSIONS:
            self.assertIsNone(self.refusal(self.read(), version=version))

    def test_no_compressed_certificates(self) -> None:
        """No client is offered to pack its certificates (RFC 8879): what a handshake may take is counted as it comes."""
        certificates = self.read()
        for context in (certificates.context(), certificates.context_for("localhost")):
            self.assertTrue(context.options & NO_COMPRESSED_CERTIFICATES)

    def test_the_least_version(self) -> None:
        """Clients of TLS 1.2 can be kept out."""
        certificates = self.read(min_version="1.3")

        self.assertEqual("UNSUPPORTED_PROTOCOL", self.refusal(certificates, version=ssl.TLSVersion.TLSv1_2))
        self.assertIsNone(self.refusal(certificates, version=ssl.TLSVersion.TLSv1_3))

    def test_forward_secrecy_alone(self) -> None:
        """A stolen key opens no connection that was recorded: a cipher whose keys come from the certificate's is refused."""
        issued = self.authority.issue("localhost", private=rsa.generate_private_key(65537, 2048))
        cert, key = issued.write(self.folder, "rsa")
        context = client_context(self.authority, ssl.TLSVersion.TLSv1_2)
        context.set_ciphers("AES128-GCM-SHA256")

        self.assertEqual("NO_SHARED_CIPHER", self.refusal(self.read(cert=cert, key=key), context=context))
        self.assertIsNone(
            self.refusal(self.read(cert=cert, key=key, ciphers="AES128-GCM-SHA256"), context=context)
        )

    def test_ciphers(self) -> None:
        """Those that the settings name, separated by colons, commas or spaces; others are refused."""
        context = client_context(self.authority, ssl.TLSVersion.TLSv1_2)
        context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
        for ciphers in (
            "ECDHE+CHACHA20:ECDHE+AES256",
            "ECDHE+AES256,!SHA1",
            "@SECLEVEL=2 +ECDHE ECDHE+AES256",
        ):
            certificates = self.read(ciphers=ciphers)
            self.assertEqual("NO_SHARED_CIPHER", self.refusal(certificates, context=context))
            self.assertIsNone(self.refusal(certificates))
            self.assertEqual([], certificates.warnings())

    def test_ciphers_that_are_unknown(self) -> None:
        """OpenSSL passes over them, as long as it knows one; here each is a mistake of the setting."""
        error: Any = self.assertRaises(
            InvalidTLS, self.read, ciphers="ECDHE+AESGCM:AES-NONSENSE,TLS_AES_128_GCM_SHA256"
        )

        self.assertEqual(
            error.mistakes,
            tuple(
                (
                    "ciphers",
                    f"TLS ciphers: OpenSSL knows no {name} of TLS 1.2; `openssl ciphers -s -tls1_2 -v` lists all",
                )
                for name in ("AES-NONSENSE", "TLS_AES_128_GCM_SHA256")
            ),
        )
        for nothing in ("", "!ALL", "ECDHE+AESGCM:@SECLEVEL=9"):
            self.assertEqual(f"TLS ciphers: OpenSSL finds none in {nothing!r}", self.problem(ciphers=nothing))

    def test_ciphers_that_no_client_can_use(self) -> None:
        """They are those of TLS 1.2; what is not used is said."""
        (warning,) = self.read(ciphers="ECDHE+AESGCM", min_version="1.3").warnings()

        self.assertEqual(
            "TLS ciphers: not used: they are those of TLS 1.2, and the least version is 1.3", warning
        )

    def test_the_server_chooses_the_cipher(self) -> None:
        """A client's order does not count, and there is forward secrecy."""
        context = client_context(self.authority, ssl.TLSVersion.TLSv1_2)
        context.set_ciphers("ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-GCM-SHA384")
        client, _ = self.shake(self.read(), context=context)

        self.assertEqual((client.tls.cipher() or ("",))[0], "ECDHE-ECDSA-AES256-GCM-SHA384")

    def test_alpn(self) -> None:
        """The first of ours that the client offers, too; without one both go on all the same."""
        certificates = self.read()

        for offered, selected in (
            ((), None),
            (("echo",), "echo"),
            (("echo/1", "echo"), "echo"),
            (("h2", "echo/1"), "echo/1"),
            (("h2", "http/1.1"), None),
        ):
            client, _ = self.shake(certificates, offered=offered)
            self.assertEqual((client.shaken, client.tls.selected_alpn_protocol()), (True, selected))

    def test_alpn_that_was_chosen(self) -> None:
        """A connection can tell whether it has to refuse a client that offers only others: `ssl` does not refuse it."""
        certificates = self.read(alpn=("echo/2",))

        self.assertEqual((True, ("echo/2",)), (certificates.alpn_required, certificates.alpn))
        self.assertEqual(
            self.shake(certificates, offered=("echo/2",))[0].tls.selected_alpn_protocol(), "echo/2"
        )
        self.assertEqual((False, ("echo", "echo/1")), (self.read().alpn_required, self.read().alpn))

    def test_alpn_names(self) -> None:
        """They have 1 to 255 ASCII characters; a protocol whose own name is no such name is spoken without."""
        for name in ("", "x" * 256, "\xe9"):
            error: Any = self.assertRaises(InvalidTLS, self.read, alpn=("echo", name))
            self.assertEqual(error.mistakes, (("alpn", f"alpn {name!r}: must be 1 to 255 ASCII characters"),))
        settings = TLSSettings(cert=self.cert, key=self.key)
        self.assertEqual((), Certificates(settings, ("\xe9",)).alpn)
        self.assertIsNone(self.refusal(Certificates(settings, ("\xe9",)), offered=("echo",)))

    def test_alpn_whatever_the_server_name(self) -> None:
        """The choice of a certificate changes nothing else."""
        other = self.authority.issue("other")
        self.write("dir/a.pem", other.chain + other.key)
        client, server = self.shake(self.read(cert_dir=str(self.folder / "dir")), "other", offered=("echo",))

        self.assertEqual(client.tls.selected_alpn_protocol(), "echo")
        self.assertEqual(server.tls.selected_alpn_protocol(), "echo")

    def test_sessions_are_resumed(self) -> None:
        """Whatever the version and the name, with and without client certificates; and never after a reload."""
        other = self.authority.issue("other")
        self.write("dir/a.pem", other.chain + other.key)
        ca = self.write("ca.pem", self.authority.pem)
        for settings in ({}, {"client_ca": ca}):
            certificates = self.read(cert_dir=str(self.folder / "dir"), **settings)
            for version in VERSIONS:
                for host in ("localhost", "other"):
                    own = self.authority.issue("client")
                    context = self.client_context(version, own)
                    client, _ = self.shake(certificates, host, context=context)
                    again, server = self.shake(
                        certificates, host, context=context, session=client.tls.session
                    )
                    self.assertTrue(again.tls.session_reused, (settings, version, host))
                    shown = server.tls.getpeercert(binary_form=True)
                    self.assertEqual(shown, own.certificate.public_bytes(Encoding.DER) if settings else None)
                    certificates.reload()
                    late, _ = self.shake(certificates, host, context=context, session=client.tls.session)
                    self.assertFalse(late.tls.session_reused)
                    self.assertTrue(late.shaken)

    def test_tickets_grow_old(self) -> None:
        """After ten minutes their keys are new: what an old one has encrypted stays secret, and a client shows itself again."""
        certificates = self.read(client_ca=self.write("ca.pem", self.authority.pem))
        for version in VERSIONS:
            context = self.client_context(version, self.authority.issue("client"))
            client, _ = self.shake(certificates, context=context)
            self.now += 599
            again, _ = self.shake(certificates, context=context, session=client.tls.session)
            self.now += 1
            late, server = self.shake(certificates, context=context, session=client.tls.session)
            self.assertEqual(
                (True, False, True, None),
                (again.tls.session_reused, late.tls.session_reused, late.shaken, server.error),
            )

    def test_sessions_of_clients_without_tickets_take_little(self) -> None:
        """TLS 1.2 has the server keep them; we keep a few hundred, and OpenSSL would keep 20 000 by itself."""
        certificates = self.read()
        others = [self.client_context(version) for version in VERSIONS]
        tickets = [self.shake(certificates, context=each)[0].tls.session for each in others]
        context = self.client_context(ssl.TLSVersion.TLSv1_2)
        context.options |= ssl.OP_NO_TICKET
        kept = []
        for _ in range(300):
            client, server = self.shake(certificates, context=context)
            self.assertTrue(client.shaken)
            client.finish()
            server.exchange(client)
            server.tls.unwrap()  # only after our close_notify it is kept
            kept.append(certificates.context(ClientHello()).session_stats()["number"])

        self.assertLessEqual(max(kept), 256)
        self.assertGreater(max(kept), 200)
        again, _ = self.shake(certificates, context=context, session=client.tls.session)
        self.assertTrue(again.tls.session_reused)
        for other, ticket in zip(others, tickets, strict=True):  # and no ticket is lost
            again, _ = self.shake(certificates, context=other, session=ticket)
            self.assertTrue(again.tls.session_reused)
        self.assertEqual(certificates.context().session_stats()["number"], 0)


class StrangeNameTests(CertificateCase):
    """A client may name whatever it likes."""

    def test_a_name_that_is_not_ascii(self) -> None:
        """It is treated as none, and nothing is written to standard error."""
        said: list[Any] = []
        self.patch(sys, "unraisablehook", said.append)
        for version in VERSIONS:
            client, server = Client(self.client_context(version)), Server(self.read())
            client.take()
            server.take(client.give().replace(b"localhost", b"loc\xffl\xfeost"))
            server.exchange(client)
            self.assertIsNotNone(client.error)  # it has sent something else than it believes
        self.assertEqual([], said)

    def test_a_second_message_with_another_name(self) -> None:
        """A client that is asked to begin again (TLS 1.3) changes nothing by a name that is not ASCII."""
        said: list[Any] = []
        self.patch(sys, "unraisablehook", said.append)
        context = self.client_context(ssl.TLSVersion.TLSv1_3)
        certificates = self.read()
        certificates.context().set_ecdh_curve("secp384r1")  # for which the client has sent no key yet
        client, server = Client(context), Server(certificates)
        client.take()
        server.take(client.give())
        self.assertRaises(ssl.SSLWantReadError, server.tls.do_handshake)
        client.take(server._outgoing.read())
        again = client.give()
        self.assertIn(b"localhost", again)
        server.take(again.replace(b"localhost", b"loc\xffl\xfeost"))
        server.exchange(client)

        self.assertEqual([], said)


class ClientCertificateTests(CertificateCase):
    """Mutual TLS, whatever the server name."""

    def test_who_is_let_in(self) -> None:
        """Whoever has a certificate from one of the CAs, and nobody else."""
        other = self.authority.issue("other")
        self.write("dir/a.pem", other.chain + other.key)
        second = Authority("Second CA")
        certificates = self.read(
            client_ca=self.write("ca.pem", self.authority.pem + second.pem), cert_dir=str(self.folder / "dir")
        )
        for host in ("localhost", "other"):
            for own in (
                self.authority.issue("x"),
                second.issue("x"),
                Authority("Intermediate", second).issue("x"),
            ):
                client, server = self.shake(certificates, host, own=own)
                self.assertTrue(client.shaken)
                self.assertIsNone(server.error)
                self.assertEqual(
                    server.tls.getpeercert(binary_form=True), own.certificate.public_bytes(Encoding.DER)
                )
            for stranger, reason in (
                (None, "PEER_DID_NOT_RETURN_A_CERTIFICATE"),
                (Authority("Another CA").issue("x"), "unable to get local issuer certificate"),
                (self.authority.issue("x", ends=-DAY / 2), "certificate has expired"),
            ):
                for version in VERSIONS:
                    self.assertEqual(reason, self.refusal(certificates, stranger, host=host, version=version))


class ReloadTests(CertificateCase):
    """Certificates are renewed while the service runs."""

    def test_new_connections_are_shown_the_new_one(self) -> None:
        """Those that have begun keep what they have."""
        certificates = self.read()
        client, server = Client(client_context(self.authority)), Server(certificates)
        client.take()
        server.take(client.give())
        renewed = self.authority.issue("localhost")
        renewed.write(self.folder)
        certificates.reload()

        self.assertEqual(self.shown(certificates, "localhost"), renewed.certificate)
        server.exchange(client)
        shown = client.tls.getpeercert(binary_form=True)
        self.assertEqual(shown, self.issued.certificate.public_bytes(Encoding.DER))

    def test_from_another_folder(self) -> None:
        """Twistd has gone to another one by then (``--rundir``); the files are those that were meant."""
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(self.folder)
        certificates = self.read(cert=Path(self.cert).name, key=Path(self.key).name)
        os.chdir("/")
        self.authority.issue("other.example").write(self.folder)
        before = self.shown(certificates, None)
        certificates.reload()

        self.assertNotEqual(before, self.shown(certificates, None))

    def test_a_mistake_changes_nothing(self) -> None:
        """The old ones stay, with what was said of them."""
        certificates = self.read()
        Path(self.key).write_bytes(self.authority.issue("localhost").key)
        self.assertRaises(InvalidTLS, certificates.reload)

        self.assertEqual(self.shown(certificates, "localhost"), self.issued.certificate)

    def test_warnings_are_of_what_was_read_last(self) -> None:
        """A renewed certificate is no longer complained of."""
        self.authority.issue("localhost", ends=-timedelta(hours=1)).write(self.folder)
        certificates = self.read()
        self.assertEqual(len(certificates.warnings()), 1)
        self.issued.write(self.folder)
        certificates.reload()

        self.assertEqual(certificates.warnings(), [])
