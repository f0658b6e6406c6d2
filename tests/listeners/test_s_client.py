"""Tests of our contexts against `openssl s_client`, which shows what other clients do not."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from twisted.trial.unittest import SkipTest

from echosvc.listeners.certificates import Certificates
from tests.certificates import Issued
from tests.listeners.certificate_case import CertificateCase


class SClientTests(CertificateCase):
    """A client that others have written."""

    def setUp(self) -> None:
        """See whether there is one, and write whom it trusts."""
        super().setUp()
        self.program = shutil.which("openssl")
        if self.program is None:
            raise SkipTest("openssl is not installed")
        self.ca = self.write("ca.pem", self.authority.pem)

    def talk(
        self,
        certificates: Certificates,
        *options: str,
        own: Issued | None = None,
        typed: bytes = b"",
        greeting: bytes = b"welcome\n",
    ) -> tuple[str, Exception | None]:
        """Have a client connect, type something and leave; return what it shows, and what ended our side."""
        if own is not None:
            cert, key = own.write(self.folder, "own")
            options = (*options, "-cert", cert, "-key", key)
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        listening.settimeout(5)
        ends = f"127.0.0.1:{listening.getsockname()[1]}"
        command: Any = [
            self.program,
            "s_client",
            "-connect",
            ends,
            "-servername",
            "localhost",
            "-CAfile",
            self.ca,
        ]
        client = subprocess.Popen(
            [*command, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.addCleanup(client.kill)
        problem = None
        accepted, _ = listening.accept()
        with accepted:
            accepted.settimeout(5)
            try:
                with certificates.context().wrap_socket(
                    accepted, server_side=True, do_handshake_on_connect=False
                ) as tls:
                    tls.context = certificates.context_for("localhost")
                    tls.do_handshake()
                    tls.sendall(greeting)
                    assert client.stdin is not None
                    client.stdin.write(typed + b"bye\n")
                    client.stdin.flush()
                    for _ in range(9):
                        data = tls.recv(99)
                        if not data or b"bye" in data:
                            break
            except OSError as error:
                problem = error
        shown, _ = client.communicate(timeout=5)
        return shown.decode(errors="replace"), problem

    def test_a_client_with_a_certificate(self) -> None:
        """It is served if it is not revoked; it is not told whose certificate is wanted, because `ssl` cannot say so."""
        honest, revoked = self.authority.issue("honest"), self.authority.issue("revoked")
        ca = self.write("clients.pem", self.authority.pem + self.authority.crl(revoked))
        certificates = self.read(client_ca=ca)
        for version in ("-tls1_2", "-tls1_3"):
            shown, problem = self.talk(certificates, version, own=honest)
            self.assertIsNone(problem)
            self.assertIn("welcome", shown)
            self.assertIn("Verify return code: 0 (ok)", shown)
            self.assertIn("No client certificate CA names sent", shown)
            shown, problem = self.talk(certificates, version, own=revoked)
            self.assertIn("certificate revoked", str(problem))
            self.assertIn("alert certificate revoked", shown)

    def test_each_kind_of_key(self) -> None:
        """Over TLS 1.3, too, a client is shown the certificate whose signature it understands."""
        other = self.authority.issue("localhost", private=rsa.generate_private_key(65537, 2048))
        self.write("dir/rsa.pem", other.chain + other.key)
        certificates = self.read(cert_dir=str(self.folder / "dir"))
        for version in ("-tls1_2", "-tls1_3"):
            for algorithm, shown_as in (("rsa_pss_rsae_sha256", "rsa.pss"), ("ECDSA+SHA256", "ecdsa")):
                shown, problem = self.talk(certificates, version, "-sigalgs", algorithm)
                self.assertIsNone(problem)
                # OpenSSL 3.0 says RSA-PSS, 3.5 rsa_pss_rsae_sha256.
                self.assertRegex(shown, f"(?i)Peer signature type: {shown_as}")

    def test_renegotiation_is_refused(self) -> None:
        """A new handshake in the middle costs us more than the client."""
        shown, problem = self.talk(self.read(), "-tls1_2", typed=b"R\n", greeting=b"")

        self.assertIn("RENEGOTIATING", shown)
        self.assertIn("no renegotiation", shown)
        self.assertIsInstance(problem, ssl.SSLError | ConnectionError | type(None))

    def test_no_cipher_without_forward_secrecy(self) -> None:
        """Whatever such a client offers, nothing is agreed on."""
        issued = self.authority.issue("localhost", private=rsa.generate_private_key(65537, 2048))
        cert, key = issued.write(self.folder, "rsa")
        shown, problem = self.talk(self.read(cert=cert, key=key), "-tls1_2", "-cipher", "kRSA")

        self.assertIn("no shared cipher", str(problem))
        self.assertIn("alert handshake failure", shown)
