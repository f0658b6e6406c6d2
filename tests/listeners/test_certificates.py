"""Tests of files of certificates and keys: what is wrong with them, what is not used, and which hosts they serve."""

from __future__ import annotations

import shlex
import ssl
import time
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
from tests.listeners.certificate_case import CertificateCase


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
        for name in ("secret.key", "a secret; of 'mine'.key"):
            path = self.write(name, self.issued.encrypted_key)

            self.assertIn(f"key file {path}: the key is encrypted", self.problem(key=path))
            self.assertIn(f"openssl pkey -in {shlex.quote(path)} -out", self.problem(key=path))

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
