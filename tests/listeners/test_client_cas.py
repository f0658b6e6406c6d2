"""Tests of the file of client CAs: who is let in, who is revoked, and what of it is not used."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from echosvc.listeners.certificates import Certificates
from tests import certificates
from tests.certificates import DAY, Authority, Issued
from tests.listeners.certificate_case import CertificateCase
from tests.transports.tls_peer import VERSIONS

_REVOKED = "certificate revoked"
_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
_NO_CRL = "unable to get certificate CRL"


def _list(name: str) -> str:
    return f"the revocation list (CRL) of CN={name}"


def _crl(
    authority: Authority, *revoked: Issued | Authority, begins: timedelta = -DAY, ends: timedelta = 9 * DAY
) -> bytes:
    return authority.crl(*revoked, begins=begins, ends=ends)


class ClientCACase(CertificateCase):
    """Has a root, an intermediate, and clients of both."""

    def setUp(self) -> None:
        """Make them."""
        super().setUp()
        self.root = Authority("Root")
        self.middle = Authority("Middle", self.root)
        self.client = self.middle.issue("client")
        self.direct = self.root.issue("direct")

    def read_ca(self, *contents: bytes) -> Certificates:
        """Read a file with these contents."""
        self.ca = self.write("ca.pem", b"".join(contents))
        return self.read(client_ca=self.ca)

    def refused(self, own: Issued, *contents: bytes) -> str | None:
        """Show a client's certificate to a listener with such a file, over every version; return why it is refused."""
        certificates = self.read_ca(*contents)
        first, second = (self.refusal(certificates, own, version=version) for version in VERSIONS)
        self.assertEqual(first, second)
        return first

    def warned(self, *contents: bytes) -> list[str]:
        """Return what is said of a file with such contents, without its name."""
        said = self.read_ca(*contents).warnings()
        place = f"client CA file {self.ca}: "
        for line in said:
            self.assertTrue(line.startswith(place), line)
            self.assertNotIn("\n", line)
        return [line.removeprefix(place) for line in said]


class WithoutListsTests(ClientCACase):
    """A chain ends at the first certificate that is in the file."""

    def test_who_is_let_in(self) -> None:
        """Whatever of root and intermediate the file has, as long as the chain gets there."""
        stranger = "unable to get local issuer certificate"
        for contents, client, direct in (
            ((self.root.pem,), None, None),
            ((self.root.pem, self.middle.pem), None, None),
            ((self.middle.pem,), None, stranger),
        ):
            self.assertEqual(
                (client, direct), (self.refused(self.client, *contents), self.refused(self.direct, *contents))
            )
            self.assertEqual([], self.warned(*contents))

    def test_a_client_sends_what_is_missing(self) -> None:
        """With the root alone it has to send the intermediate."""
        alone = Issued(self.client.certificate, (), self.client.private)

        self.assertIsNotNone(self.refused(alone, self.root.pem))
        self.assertIsNone(self.refused(alone, self.root.pem, self.middle.pem))
        self.assertIsNone(self.refused(alone, self.middle.pem))

    def test_a_client_that_has_issued_itself(self) -> None:
        """Its own certificate in the file lets it in, and no one else."""
        private = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "itself")])
        now = datetime.now(UTC)
        built = x509.CertificateBuilder(name, name, private.public_key(), 1, now - DAY, now + DAY)
        itself = Issued(built.sign(private, hashes.SHA256()), (), private)

        self.assertIsNone(self.refused(itself, itself.pem))
        self.assertIsNotNone(self.refused(self.direct, itself.pem))

    def test_a_clients_certificate_is_no_ca(self) -> None:
        """It lets no one in, not even that client, and is named; alone it is a mistake."""
        self.assertEqual(
            ["not used: CN=client is no CA: it can have issued none"],
            self.warned(Authority("Other").pem, self.client.pem),
        )
        self.assertIsNotNone(self.refused(self.client, Authority("Other").pem, self.client.pem))
        self.assertIn(
            "ca.pem: there is no certificate of a CA in it, so that every client is refused",
            self.problem(client_ca=self.write("ca.pem", self.client.pem)),
        )


class ListTests(ClientCACase):
    """With revocation lists and all issuers in the file, every certificate of a chain is checked."""

    def test_a_root_with_its_list(self) -> None:
        """Clients of it are let in, if they are not on the list."""
        self.assertIsNone(self.refused(self.direct, self.root.pem, _crl(self.root)))
        self.assertEqual(_REVOKED, self.refused(self.direct, self.root.pem, _crl(self.root, self.direct)))

    def test_root_and_intermediate(self) -> None:
        """An honest client is let in; it is not if its certificate is revoked, or its issuer's."""
        cas = self.root.pem, self.middle.pem

        self.assertIsNone(self.refused(self.client, *cas, _crl(self.root), _crl(self.middle)))
        self.assertEqual([], self.warned(*cas, _crl(self.root), _crl(self.middle)))
        self.assertEqual(
            _REVOKED, self.refused(self.client, *cas, _crl(self.root), _crl(self.middle, self.client))
        )
        self.assertEqual(
            _REVOKED, self.refused(self.client, *cas, _crl(self.root, self.middle), _crl(self.middle))
        )
        self.assertEqual(
            ["not used: CN=Middle is revoked: clients below it are refused"],
            self.warned(*cas, _crl(self.root, self.middle), _crl(self.middle)),
        )

    def test_an_intermediate_that_the_client_sends(self) -> None:
        """It needs a list of its own in the file."""
        lists = _crl(self.root), _crl(self.middle)

        self.assertIsNone(self.refused(self.client, self.root.pem, *lists))
        self.assertEqual(
            [
                _list("Middle")
                + " is of use only for clients that send its issuer's certificate, which is not in the file"
            ],
            self.warned(self.root.pem, *lists),
        )
        self.assertEqual(
            _REVOKED,
            self.refused(self.client, self.root.pem, _crl(self.root, self.middle), _crl(self.middle)),
        )
        self.assertEqual(_NO_CRL, self.refused(self.client, self.root.pem, _crl(self.root)))

    def test_an_issuer_without_a_list(self) -> None:
        """Clients below it are refused, since none can be found to be revoked; it is named."""
        cas = self.root.pem, self.middle.pem
        for crl, name in ((_crl(self.root), "Middle"), (_crl(self.middle), "Root")):
            self.assertEqual(_NO_CRL, self.refused(self.client, *cas, crl))
            self.assertEqual(
                [f"there is no revocation list (CRL) of CN={name} in it: clients below that are refused"],
                self.warned(*cas, crl),
            )
        self.assertIsNone(self.refused(self.direct, *cas, _crl(self.root)))

    def test_why_chains_do_not_end_at_an_intermediate(self) -> None:
        """OpenSSL refuses honest clients then: it checks the end of the chain, too, and not with its issuer's key."""
        flags = ssl.VERIFY_CRL_CHECK_CHAIN | ssl.VERIFY_X509_PARTIAL_CHAIN
        for contents, refused in (
            ((self.root.pem, _crl(self.root)), False),
            ((self.root.pem, self.middle.pem, _crl(self.root), _crl(self.middle)), True),
            ((self.middle.pem, _crl(self.middle)), True),
            ((self.middle.pem, _crl(self.root), _crl(self.middle)), True),
        ):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.cert, self.key)
            context.load_verify_locations(self.write("ca.pem", b"".join(contents)))
            context.verify_mode = ssl.CERT_REQUIRED
            context.verify_flags |= flags
            certificates = self.read()
            self.patch(certificates, "context", lambda _=None, context=context: context)
            self.patch(certificates, "context_for", lambda _, context=context: context)
            own = self.direct if len(contents) == 2 and not refused else self.client
            self.assertEqual(refused, self.refusal(certificates, own) is not None)


class IntermediateWithListTests(ClientCACase):
    """Without the root, a chain ends at what is in the file, and the client's own certificate is checked."""

    def test_an_intermediate_alone(self) -> None:
        """Its clients are let in, if they are not revoked."""
        self.assertIsNone(self.refused(self.client, self.middle.pem, _crl(self.middle)))
        self.assertEqual([], self.warned(self.middle.pem, _crl(self.middle)))
        self.assertEqual(_REVOKED, self.refused(self.client, self.middle.pem, _crl(self.middle, self.client)))

    def test_no_intermediate_may_come_between(self) -> None:
        """One that is revoked would be let in: its list is not used, and its clients are refused."""
        below = Authority("Below", self.middle)
        contents = self.middle.pem, _crl(self.middle, below), _crl(below)

        self.assertEqual(_NO_CRL, self.refused(below.issue("client"), *contents))
        self.assertIsNone(self.refused(self.client, *contents))
        self.assertEqual(
            [
                "not used: the revocation list (CRL) of CN=Below: its issuer's certificate is not in the file",
            ],
            self.warned(*contents),
        )

    def test_an_intermediate_below_another(self) -> None:
        """Whether it is revoked could not be checked: it is said what is missing."""
        below = Authority("Below", self.middle)
        path = self.write(
            "ca.pem", b"".join((self.middle.pem, below.pem, _crl(self.middle, below), _crl(below)))
        )

        self.assertEqual(
            f"client CA file {path}: whether CN=Below is revoked cannot be checked, because who issued CN=Middle is not "
            "in it; add CN=Root, up to the root, and their revocation lists (CRLs), or leave CN=Below out",
            self.problem(client_ca=path),
        )

    def test_without_a_list_of_its_own(self) -> None:
        """Its clients are refused; those of another are not."""
        other = Authority("Other")
        contents = self.middle.pem, other.pem, _crl(other)

        self.assertEqual(_NO_CRL, self.refused(self.client, *contents))
        self.assertIsNone(self.refused(other.issue("x"), *contents))
        self.assertEqual(
            ["there is no revocation list (CRL) of CN=Middle in it: clients below that are refused"],
            self.warned(*contents),
        )


class TimeTests(ClientCACase):
    """Lists grow old."""

    def test_an_expired_list(self) -> None:
        """Who has been revoked since is unknown: everybody below is refused, and it is said."""
        crl = _crl(self.root, begins=-2 * DAY, ends=-timedelta(hours=1))

        self.assertEqual("CRL has expired", self.refused(self.direct, self.root.pem, crl))
        (said,) = self.warned(self.root.pem, crl)
        self.assertRegex(
            said,
            r"^the revocation list \(CRL\) of CN=Root expired at [\d: -]+ UTC: clients are refused; get the next one$",
        )

    def test_a_list_of_tomorrow(self) -> None:
        """It may be the clock."""
        crl = _crl(self.root, begins=timedelta(hours=1), ends=DAY)

        self.assertEqual("CRL is not yet valid", self.refused(self.direct, self.root.pem, crl))
        (said,) = self.warned(self.root.pem, crl)
        self.assertRegex(
            said, r"is not valid before [\d: -]+ UTC; clients are refused until then; is the clock right"
        )

    def test_a_list_that_soon_expires(self) -> None:
        """It is said three days before; of one that lives for less than six, in the second half of its life."""
        for begins, days, soon in ((-30, 2.9, True), (-30, 3.1, False), (-1, 1.1, False), (-1, 0.9, True)):
            crl = _crl(self.root, begins=begins * DAY, ends=days * DAY)
            self.assertIsNone(self.refused(self.direct, self.root.pem, crl))
            said = self.warned(self.root.pem, crl)
            self.assertEqual(soon, bool(said), said)
            if soon:
                self.assertRegex(
                    said[0],
                    r"CN=Root expires at [\d: -]+ UTC, and clients are refused from then on; get the next one$",
                )

    def test_the_newest_list_counts(self) -> None:
        """An older one in the same file is named; one of tomorrow does not count before."""
        old, new = _crl(self.root, begins=-DAY), _crl(self.root, self.direct, begins=-DAY / 2)
        early = _crl(self.root, begins=DAY / 2)

        self.assertEqual(_REVOKED, self.refused(self.direct, self.root.pem, new, old, early))
        said = self.warned(self.root.pem, new, old, early)
        self.assertEqual(2, len(said))
        for line in said:
            self.assertRegex(
                line,
                r"^not used: the revocation list \(CRL\) of CN=Root of [\d: -]+ UTC: there is a newer one$",
            )

    def test_two_cas_of_one_name(self) -> None:
        """Each has its own key and its own list, as when a CA has a new key: neither list replaces the other."""
        old, new = Authority("CA"), Authority("CA")
        revoked, honest = old.issue("revoked"), old.issue("honest")
        contents = old.pem, new.pem, _crl(old, revoked, begins=-DAY), _crl(new, begins=-DAY / 2)

        self.assertEqual([], self.warned(*contents))
        self.assertEqual(_REVOKED, self.refused(revoked, *contents))
        for own in (honest, new.issue("honest")):
            self.assertIsNone(self.refused(own, *contents))

    def test_a_forged_list_replaces_none(self) -> None:
        """It is newer, and is not used; the one that counts is."""
        contents = self.root.pem, _crl(self.root, self.direct), _crl(Authority("Root"), begins=-DAY / 2)

        self.assertEqual(_REVOKED, self.refused(self.direct, *contents))
        self.assertIsNone(self.refused(self.root.issue("honest"), *contents))

    def test_a_ticket_from_before_the_reload(self) -> None:
        """A client that was revoked since shows itself again, and is refused; an honest one is let in."""
        for version in VERSIONS:
            certificates = self.read_ca(self.root.pem, _crl(self.root))
            tickets = []
            for own in (self.direct, self.root.issue("honest")):
                context = self.client_context(version, own)
                client, _ = self.shake(certificates, context=context)
                again, _ = self.shake(certificates, context=context, session=client.tls.session)
                self.assertTrue(again.tls.session_reused)
                tickets.append((context, again.tls.session))
            self.write("ca.pem", self.root.pem + _crl(self.root, self.direct))
            certificates.reload()

            self.assertEqual(
                [_REVOKED, None],
                [
                    self.refusal(certificates, context=context, session=session)
                    for context, session in tickets
                ],
            )


class UnusedTests(ClientCACase):
    """Whatever of the file is not used is named."""

    def test_other_blocks(self) -> None:
        """Keys, and certificates in a form of OpenSSL's own."""
        trusted = self.middle.pem.replace(b" CERTIFICATE-", b" TRUSTED CERTIFICATE-")
        request = b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"

        self.assertEqual(
            [
                "not used: PRIVATE KEY (2 times); keep private keys elsewhere",
                f"not used: TRUSTED CERTIFICATE; `openssl x509 -in {self.folder}/ca.pem` writes it as CERTIFICATE",
                "not used: CERTIFICATE REQUEST",
            ],
            self.warned(self.root.pem, self.client.key, trusted, request, self.client.key),
        )
        self.assertIsNotNone(
            self.refused(Issued(self.client.certificate, (), self.client.private), self.root.pem, trusted)
        )

    def test_a_certificate_twice(self) -> None:
        """It is named, and the other is used."""
        self.assertEqual(
            ["not used: CN=Root is in it twice"], self.warned(self.root.pem, self.middle.pem, self.root.pem)
        )

    def test_a_list_of_a_namesake(self) -> None:
        """It bears the name of a CA that has not signed it."""
        forged = Authority("Root").crl()

        self.assertEqual(
            [
                "not used: the revocation list (CRL) of CN=Root: the certificate of that name in it has not signed it",
                "there is no revocation list (CRL) of CN=Root in it: clients below that are refused",
            ],
            self.warned(self.root.pem, forged),
        )
        self.assertEqual(_NO_CRL, self.refused(self.direct, self.root.pem, forged))

    def test_lists_that_openssl_passes_over(self) -> None:
        """Those with what is new only, and those about what others have issued."""
        for extension, reason in (
            (
                x509.DeltaCRLIndicator(1),
                "it has only what is new since another one (a delta CRL); give a complete one",
            ),
            (
                x509.IssuingDistributionPoint(
                    None,
                    None,
                    only_contains_user_certs=False,
                    only_contains_ca_certs=False,
                    only_some_reasons=None,
                    indirect_crl=True,
                    only_contains_attribute_certs=False,
                ),
                "it is about certificates that others have issued (an indirect CRL)",
            ),
        ):
            crl = self.crl(extension)
            self.assertEqual(
                f"not used: the revocation list (CRL) of CN=Root: {reason}",
                self.warned(self.root.pem, crl)[0],
            )
            self.assertEqual(_NO_CRL, self.refused(self.direct, self.root.pem, crl))

    def test_a_ca_that_may_sign_no_lists(self) -> None:
        """OpenSSL does not believe its list."""
        usage = dict.fromkeys(_USAGES, False) | {"key_cert_sign": True}
        self.patch(certificates, "_MAY_SIGN", x509.KeyUsage(**usage))
        limited = Authority("Limited")

        self.assertEqual(
            [
                "CN=Limited may sign no revocation lists (CRLs; key usage): its own is not believed, clients below it are refused"
            ],
            self.warned(limited.pem, _crl(limited)),
        )
        self.assertIsNotNone(self.refused(limited.issue("x"), limited.pem, _crl(limited)))

    def test_damaged_lists(self) -> None:
        """They are mistakes: without them the revoked would be let in."""
        crl = _crl(self.root)
        for damaged in (crl.replace(b"MII", b"M!I").replace(b"MIH", b"M!H"), crl[:200], crl[:-20]):
            path = self.write("ca.pem", self.root.pem + damaged)
            self.assertEqual(
                f"client CA file {path}: a revocation list (CRL) in it is damaged; copy the file again",
                self.problem(client_ca=path),
            )

    def crl(self, extension: x509.ExtensionType) -> bytes:
        """Write a list of the root's with an extension."""
        now = datetime.now(UTC)
        built = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.root.own.subject)
            .last_update(now - DAY)
            .next_update(now + DAY)
            .add_extension(x509.CRLNumber(9), critical=False)
            .add_extension(extension, critical=True)
            .sign(self.root._private, hashes.SHA256())
        )
        return built.public_bytes(Encoding.PEM)
