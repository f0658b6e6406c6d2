"""Tests of files of certificates and keys: what is wrong with them, and whom they serve how."""

from __future__ import annotations

import os
import ssl
import time
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from echosvc.errors import InvalidTLS
from echosvc.listeners.certificates import Certificates
from echosvc.listeners.settings import TLSSettings
from tests.certificates import DAY, Authority
from tests.listeners.certificate_case import CertificateCase, Server
from tests.transports.tls_peer import VERSIONS, Client, client_context


class MistakeTests(CertificateCase):
    """Everything that is wrong is said in one line, with the file's name and what would be right."""

    def test_no_such_file(self) -> None:
        """It is named, with what the system says."""
        self.assertEqual(
            self.problem(cert="/nowhere.pem"),
            "certificate file /nowhere.pem: cannot be read: No such file or directory; "
            "name a PEM file that this user may read",
        )
        self.assertIn("key file /nowhere.pem: cannot be read", self.problem(key="/nowhere.pem"))
        self.assertIn("client CA file /nowhere.pem: cannot be read", self.problem(client_ca="/nowhere.pem"))
        self.assertIn(f"key file {Path.cwd()}/nowhere.pem: ", self.problem(key="nowhere.pem"))

    def test_all_mistakes_are_told(self) -> None:
        """Each with the setting that it is about."""
        wrong = {"cert": "/c.pem", "key": "/k.pem", "cert_dir": "/d", "client_ca": "/a.pem"}
        error: Any = self.assertRaises(InvalidTLS, self.read, **wrong)

        self.assertEqual(["cert", "key", "cert_dir", "client_ca"], [setting for setting, _ in error.mistakes])
        for path, (_, said) in zip(wrong.values(), error.mistakes, strict=True):
            self.assertIn(f" {path}: cannot be read: ", said)
        self.assertEqual("; ".join(said for _, said in error.mistakes), str(error))

    def test_which_setting_is_wrong(self) -> None:
        """A key that does not belong is a mistake of the key; a file of the folder is one of the folder."""
        other = self.authority.issue("other.example")
        _, key = other.write(self.folder, "other")
        folder = self.folder / "several"
        folder.mkdir()
        (folder / "a.pem").write_bytes(other.pem)
        (folder / "b.pem").write_bytes(other.key)
        error: Any = self.assertRaises(InvalidTLS, self.read, key=key, cert_dir=str(folder))

        self.assertEqual(["key", "cert_dir", "cert_dir"], [setting for setting, _ in error.mistakes])
        self.assertIn("the key does not belong", error.mistakes[0][1])

    def test_what_openssl_refuses_of_an_issuer(self) -> None:
        """It is said, and it is no traceback."""
        path = self.write("ca.pem", self.authority.pem)
        refusal = ssl.SSLError(1, "[X509] wrong somehow (_ssl.c:1)")
        refusal.reason = "WRONG_SOMEHOW"
        with mock.patch.object(ssl.SSLContext, "load_verify_locations", side_effect=refusal):
            said = self.problem(client_ca=path)

        self.assertEqual(f"client CA file {path}: OpenSSL refuses it: wrong somehow", said)

    def test_empty_files(self) -> None:
        """An empty file of client CAs would let nobody in, or everybody."""
        path = self.write("empty.pem", b"\n")

        for role in ("cert", "key", "client_ca"):
            self.assertIn(f"{path}: is empty", self.problem(**{role: path}))

    def test_not_pem(self) -> None:
        """It is said how DER is converted."""
        path = self.write("server.der", self.issued.certificate.public_bytes(Encoding.DER))

        self.assertIn(f"{path}: is not PEM", self.problem(cert=path))
        self.assertIn("openssl x509 -inform der", self.problem(cert=path))

    def test_the_wrong_kind(self) -> None:
        """A key for a certificate and the other way round: it is said what there is."""
        self.assertIn(
            f"{self.key}: there is no certificate in it, only PRIVATE KEY", self.problem(cert=self.key)
        )
        self.assertIn(
            f"{self.cert}: there is no private key in it, only CERTIFICATE", self.problem(key=self.cert)
        )
        self.assertIn(f"client CA file {self.key}: there is no cert", self.problem(client_ca=self.key))

    def test_a_certificate_of_no_known_version(self) -> None:
        """There are versions 1 to 3; whatever else cryptography does not understand is said as well."""
        der = self.issued.certificate.public_bytes(Encoding.DER)
        self.assertEqual(1, der.count(b"\xa0\x03\x02\x01\x02"))
        other = ssl.DER_cert_to_PEM_cert(der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07"))
        path = self.write("version.crt", other.encode())

        for role in ("cert", "client_ca"):
            self.assertIn(f"{path}: a certificate in it is damaged", self.problem(**{role: path}))

    def test_damaged_files(self) -> None:
        """What cannot be decoded is not served."""
        cert = self.write("cut.crt", self.issued.pem.replace(b"MII", b"M!I"))
        key = self.write("cut.key", self.issued.key.replace(b"MIG", b"MIx"))

        self.assertIn(f"{cert}: a certificate in it is damaged", self.problem(cert=cert))
        for cut in (self.authority.pem[:200], b"-----BEGIN CERTIFICATE-----\n"):
            path = self.write("cut.pem", self.authority.pem + cut)
            self.assertIn(f"{path}: a certificate in it is damaged", self.problem(client_ca=path))
        self.assertIn(f"{key}: the private key in it is damaged", self.problem(key=key))

    def test_an_encrypted_key(self) -> None:
        """Nobody is there to be asked; it is said how to decrypt it."""
        path = self.write("secret.key", self.issued.encrypted_key)

        self.assertIn(f"key file {path}: the key is encrypted", self.problem(key=path))
        self.assertIn(f"openssl pkey -in {path} -out", self.problem(key=path))

    def test_a_key_that_does_not_belong(self) -> None:
        """Both files are named."""
        path = self.write("other.key", self.authority.issue("localhost").key)

        self.assertEqual(
            self.problem(key=path),
            f"key file {path}: the key does not belong to the certificate in {self.cert}; "
            "give the one it was made with",
        )

    def test_certificates_in_the_wrong_order(self) -> None:
        """A client would be shown the issuer's."""
        path = self.write("chain.pem", self.authority.pem + self.issued.pem)

        self.assertEqual(
            f"certificate file {path}: the key belongs to certificate 2 in it; put that one first, then its issuers",
            self.problem(cert=path),
        )

    def test_what_openssl_refuses(self) -> None:
        """A key that is too short, for example."""
        private = rsa.generate_private_key(65537, 1024)
        cert, key = self.authority.issue("localhost", private=private).write(self.folder, "short")

        self.assertEqual(
            self.problem(cert=cert, key=key), f"certificate file {cert}: OpenSSL refuses it: ee key too small"
        )

    def test_what_is_not_understood(self) -> None:
        """A certificate with a malformed list of names is not served as one without names."""
        issued = self.authority.issue("xn--a.example.org")
        path = self.write("odd.pem", issued.pem)
        self.write("odd.key", issued.key)
        der = issued.certificate.public_bytes(Encoding.DER).replace(b"xn--a", b"\xff\xfe\xfd\xfc\xfb")
        self.write("odd.pem", ssl.DER_cert_to_PEM_cert(der).encode())

        self.assertIn(
            f"{path}: there is something in it", self.problem(cert=path, key=str(self.folder / "odd.key"))
        )

    def test_nothing_at_all(self) -> None:
        """Without a certificate there is no TLS."""
        error = self.assertRaises(InvalidTLS, Certificates, TLSSettings())

        self.assertIn("give a certificate file and its key file, or a folder", str(error))

    def test_folders(self) -> None:
        """One that is not there, and one in which there is nothing."""
        empty = self.folder / "empty"
        (empty / "live").mkdir(parents=True)
        self.write("empty/README", b"nothing here")

        self.assertIn(
            "certificate folder /nowhere: cannot be read: No such", self.problem(cert_dir="/nowhere")
        )
        self.assertIn(
            f"folder {empty}: there is no certificate in it; put in", self.problem(cert_dir=str(empty))
        )

    def test_files_in_a_folder(self) -> None:
        """Each must hold both, a certificate and its key."""
        path = self.write("x/a.pem", self.issued.pem)
        self.assertIn(
            f"key file {path}: there is no private key", self.problem(cert_dir=str(self.folder / "x"))
        )
        path = self.write("y/live/fullchain.pem", self.issued.pem)
        self.assertIn("privkey.pem: cannot be read", self.problem(cert_dir=str(self.folder / "y")))


class WarningTests(CertificateCase):
    """What is not as it should be and is served all the same."""

    def test_nothing_to_say(self) -> None:
        """All is well."""
        self.assertEqual(self.read(client_ca=self.write("ca.pem", self.authority.pem)).warnings(), [])

    def test_certificates_that_are_not_valid_now(self) -> None:
        """It may be the clock that is wrong; and a client decides for itself."""
        old = self.authority.issue("old", ends=-timedelta(hours=1)).write(self.folder, "old")
        new = self.authority.issue("new", begins=timedelta(hours=1)).write(self.folder, "new")

        (expired,) = self.read(cert=old[0], key=old[1]).warnings()
        (early,) = self.read(cert=new[0], key=new[1]).warnings()
        self.assertRegex(expired, rf"^certificate file {old[0]}: CN=old expired at [\d: -]+ UTC; renew it$")
        self.assertRegex(
            early, rf"^certificate file {new[0]}: CN=new is not valid before [\d: -]+ UTC; is the clock"
        )

    def test_client_cas_that_are_not_valid_now(self) -> None:
        """Nobody whom they have issued a certificate will be let in."""
        path = self.write("ca.pem", Authority("CA", ends=-timedelta(hours=1)).pem)

        (warning,) = self.read(client_ca=path).warnings()
        self.assertRegex(warning, rf"^client CA file {path}: CN=CA expired")

    def test_two_certificates_for_one_name(self) -> None:
        """The first is used, by file name; the one that is given by itself comes before all."""
        for name, hosts in (("a", ("one.example.org",)), ("b", ("one.example.org", "localhost"))):
            issued = self.authority.issue(*hosts)
            self.write(f"dir/{name}.pem", issued.chain + issued.key)
        folder = self.folder / "dir"

        one, two = (f"certificate file {folder / each}" for each in ("a.pem", "b.pem"))
        self.assertEqual(
            self.read(cert_dir=str(folder)).warnings(),
            [
                f"{two}: not used for one.example.org: {one} is",
                f"{two}: not used for localhost: certificate file {self.cert} is",
            ],
        )

        self.assertEqual(self.shown(self.read(cert_dir=str(folder)), "localhost"), self.issued.certificate)

    def test_one_certificate_twice(self) -> None:
        """The default may be one of the folder's."""
        self.write("dir/a.pem", self.issued.chain + self.issued.key)

        self.assertEqual(self.read(cert_dir=str(self.folder / "dir")).warnings(), [])

    def test_a_certificate_that_names_no_host(self) -> None:
        """It can only be the default."""
        nameless = self.authority.issue()
        path = self.write("dir/a.pem", nameless.chain + nameless.key)
        cert, key = nameless.write(self.folder, "nameless")

        self.assertEqual(self.read(cert=cert, key=key).warnings(), [])
        self.assertEqual(
            self.read(cert_dir=str(self.folder / "dir")).warnings(),
            [f"certificate file {path}: never used: the certificate names no host (subjectAltName)"],
        )


class ExpiryTests(CertificateCase):
    """When what was read is no longer valid, for those who watch."""

    def test_the_first_of_each_kind(self) -> None:
        """The listener's own certificates and their issuers', client CAs, and revocation lists."""
        middle = Authority("Intermediate", self.authority, ends=DAY / 2)
        issued = middle.issue("localhost")
        cert, key = issued.write(self.folder, "below")
        second = Authority("Second", ends=DAY / 4)
        lists = self.authority.crl(ends=DAY / 8), second.crl()
        ca = self.write("ca.pem", b"".join((self.authority.pem, second.pem, *lists)))
        self.write("dir/a.pem", self.issued.chain + self.issued.key)

        alone = self.read().expires()
        self.assertEqual({"certificate": self.issued.certificate.not_valid_after_utc.timestamp()}, alone)
        found = self.read(cert=cert, key=key, cert_dir=str(self.folder / "dir"), client_ca=ca).expires()
        now = time.time()
        for kind, days in (("certificate", 1 / 2), ("client-ca", 1 / 4), ("crl", 1 / 8)):
            self.assertAlmostEqual(days, (found.pop(kind) - now) / 86_400, 2)
        self.assertEqual({}, found)

    def test_without_lists(self) -> None:
        """There is nothing to say of them."""
        ca = self.write("ca.pem", self.authority.pem)

        self.assertEqual(["certificate", "client-ca"], sorted(self.read(client_ca=ca).expires()))


class ServerNameTests(CertificateCase):
    """Which certificate a client is shown."""

    def setUp(self) -> None:
        """Write two files, and a folder as certbot makes it."""
        super().setUp()
        self.by_name: dict[str, Any] = {}
        self.folder = self.folder / "live"
        for name, file in (
            ("b.example.org", "b.pem"),
            ("*.wild.example.org", "Wild.pem"),
            ("Certbot.example.org", "certbot/"),
        ):
            issued = self.authority.issue(name)
            self.by_name[name] = issued.certificate
            if file.endswith("/"):
                self.write(f"{file}fullchain.pem", issued.chain)
                self.write(f"{file}privkey.pem", issued.key)
                self.write(f"{file}chain.pem", self.authority.pem)
            else:
                self.write(file, issued.chain + issued.key)
        self.write(".hidden.pem", b"an editor's")
        self.write("README", b"not a certificate")
        self.write("old/README", b"nor this")

    def test_the_one_that_names_the_host(self) -> None:
        """Exactly or by a wildcard, whatever the case."""
        certificates = self.read(cert_dir=str(self.folder))

        for host, expected in (
            ("b.example.org", "b.example.org"),
            ("B.Example.ORG", "b.example.org"),
            ("certbot.example.org", "Certbot.example.org"),
            ("x.wild.example.org", "*.wild.example.org"),
        ):
            self.assertEqual(self.shown(certificates, host), self.by_name[expected])

    def test_the_default_for_everybody_else(self) -> None:
        """A wildcard stands for one label, neither for none nor for two."""
        certificates = self.read(cert_dir=str(self.folder))

        for host in (
            None,
            "unknown",
            "wild.example.org",
            "x.y.wild.example.org",
            "localhost",
            "xn--nxasmq6b.org",
        ):
            self.assertEqual(self.shown(certificates, host), self.issued.certificate)

    def test_the_first_of_a_folder_is_the_default(self) -> None:
        """By file name, as a shell sorts in the C locale."""
        self.assertEqual(self.shown(self.read_folder(), "unknown"), self.by_name["*.wild.example.org"])

    def test_unknown_names_do_not_touch_the_disk(self) -> None:
        """Nor do known ones: everything was read before."""
        certificates = self.read_folder()
        for path in sorted(self.folder.rglob("*.pem")):
            path.unlink()

        self.assertEqual(self.shown(certificates, "unknown"), self.by_name["*.wild.example.org"])
        self.assertEqual(self.shown(certificates, "b.example.org"), self.by_name["b.example.org"])

    def test_issuers_are_shown_too(self) -> None:
        """A client that knows the root alone can follow the chain."""
        issued = Authority("Intermediate", self.authority).issue("deep.example.org")
        self.write("a.pem", issued.chain + issued.key)

        client, _ = self.shake(self.read(cert_dir=str(self.folder)), "deep.example.org")
        self.assertIsNone(client.error)
        self.assertTrue(client.shaken)


class UnusedTests(CertificateCase):
    """What stands in a file and is not used is named."""

    def test_other_blocks(self) -> None:
        """A key beside the certificate, a second key, what other servers want; not what `openssl ecparam` writes before a key."""
        parameters = b"-----BEGIN %b PARAMETERS-----\nAAAA\n-----END %b PARAMETERS-----\n"
        other = self.authority.issue("other")
        cert = self.write("a.crt", self.issued.chain + self.issued.key + parameters % (b"DH", b"DH"))
        key = self.write("a.key", parameters % (b"EC", b"EC") + self.issued.key + other.key + other.pem)

        self.assertEqual(
            [
                f"certificate file {cert}: not used: PRIVATE KEY; keep private keys elsewhere",
                f"certificate file {cert}: not used: DH PARAMETERS",
                f"key file {key}: not used: PRIVATE KEY; only the first private key is",
                f"key file {key}: not used: CERTIFICATE",
            ],
            self.read(cert=cert, key=key).warnings(),
        )
        self.assertIsNone(self.refusal(self.read(cert=cert, key=key)))

    def test_one_file_for_both(self) -> None:
        """It has a certificate and its key: all of it is used."""
        path = self.write("both.pem", self.issued.key + self.issued.chain)

        self.assertEqual([], self.read(cert=path, key=path).warnings())
        self.assertIsNone(self.refusal(self.read(cert=path, key=path)))


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
                    own = self.authority.issue("somebody")
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
            context = self.client_context(version, self.authority.issue("somebody"))
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
        context = self.client_context(ssl.TLSVersion.TLSv1_2)
        context.options |= ssl.OP_NO_TICKET
        kept = []
        for _ in range(300):
            client, server = self.shake(certificates, context=context)
            self.assertTrue(client.shaken)
            client.finish()
            server.exchange(client)
            server.tls.unwrap()  # only after our close_notify it is kept
            kept.append(certificates.context().session_stats()["number"])

        self.assertLessEqual(max(kept), 256)
        self.assertGreater(max(kept), 200)
        again, _ = self.shake(certificates, context=context, session=client.tls.session)
        self.assertTrue(again.tls.session_reused)


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
        client, server = Client(client_context(self.authority)), Server(certificates.context())
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
