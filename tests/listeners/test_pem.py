"""Tests of how OpenSSL is handed what was read: in memory, whatever the process may and may not do."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.trial.unittest import SkipTest

from echosvc.transports.linux import LINUX
from tests.listeners.certificate_case import CertificateCase
from tests.machine import UNMEASURED, open_descriptors

#: prctl(2): not dumpable, as workers are; and memory that is writable is never executable, as the units have it.
_SET_DUMPABLE, _SET_MDWE = 4, 65

_CONFINED = """
import ctypes, os, ssl, sys
prctl = ctypes.CDLL(None).prctl
if prctl({option}, {value}, 0, 0, 0):
    sys.exit(3)
from echosvc.listeners.certificates import Certificates
from echosvc.listeners.settings import TLSSettings
"localhost".encode("idna")  # whose module cannot be read later
if os.geteuid() == 0:
    for path in sys.argv[1:]:
        os.chmod(path, 0o644)
    os.chmod(os.path.dirname(sys.argv[1]), 0o755)
    os.setgid(65534)
    os.setuid(65534)
    prctl({option}, {value}, 0, 0, 0)
certificates = Certificates(TLSSettings(cert=sys.argv[1], key=sys.argv[2], client_ca=sys.argv[3]))
certificates.reload()
context, to_client, to_server = ssl.create_default_context(cafile=sys.argv[3]), ssl.MemoryBIO(), ssl.MemoryBIO()
context.load_cert_chain(sys.argv[1], sys.argv[2])
client = context.wrap_bio(to_client, to_server, server_hostname="localhost")
server = certificates.context().wrap_bio(to_server, to_client, server_side=True)
server.context = certificates.context_for("localhost")
done = set()
for _ in range(4):
    for each in (client, server):
        try:
            each.do_handshake()
            done.add(each)
        except ssl.SSLWantReadError:
            pass
sys.exit(len(done) != 2)
"""


class FileTests(CertificateCase):
    """Python's `ssl` takes keys and revocation lists by their paths alone."""

    def setUp(self) -> None:
        """Write who issues clients' certificates, with a list."""
        super().setUp()
        self.ca = self.write("ca.pem", self.authority.pem + self.authority.crl())

    def serves(self) -> None:
        """An honest client is let in."""
        own = self.authority.issue("client")
        self.assertIsNone(self.refusal(self.read(client_ca=self.ca), own))

    def test_in_memory(self) -> None:
        """Nothing is written to a disk, and nothing stays open."""
        if not LINUX:
            raise SkipTest("only Linux has files in memory")
        before = open_descriptors()
        with mock.patch.object(tempfile, "NamedTemporaryFile", side_effect=AssertionError):
            self.serves()

        self.assertEqual(before, open_descriptors())

    def test_without_files_in_memory(self) -> None:
        """On another system, or without /proc, they are in a file of this user's that is gone at once."""
        folder = self.folder / "tmp"
        folder.mkdir()
        modes: list[tuple[Path, int]] = []
        load = ssl.SSLContext.load_verify_locations

        def look(context: ssl.SSLContext, *args: Any, **more: Any) -> None:
            modes.extend((Path(path).parent, Path(path).stat().st_mode & 0o777) for path in args[:1] if path)
            load(context, *args, **more)

        with (
            mock.patch.object(Path, "exists", return_value=False),
            mock.patch.object(tempfile, "tempdir", str(folder)),
            mock.patch.object(ssl.SSLContext, "load_verify_locations", look),
        ):
            self.serves()

        self.assertEqual([(folder, 0o600)], modes)
        self.assertEqual([], list(folder.iterdir()))

    def test_without_anywhere_to_put_them(self) -> None:
        """It is said in one line what is missing."""
        with (
            mock.patch.object(Path, "exists", return_value=False),
            mock.patch.object(tempfile, "tempdir", "/nowhere"),
        ):
            self.assertEqual(
                f"certificate file {self.cert}: cannot be handed to OpenSSL: No such file or directory; it needs /proc or "
                "a folder for temporary files",
                self.problem(),
            )

    def test_confined(self) -> None:
        """A process without root's rights that is not dumpable serves and reloads; so does one that may run no memory it writes."""
        if not LINUX:
            raise SkipTest("only Linux confines processes so")
        issued = self.authority.issue("localhost")
        cert, key = issued.write(self.folder, "both")
        for option, value in ((_SET_DUMPABLE, 0), (_SET_MDWE, 1)):
            program = _CONFINED.format(option=option, value=value)
            done = subprocess.run(
                [sys.executable, "-c", program, cert, key, self.ca],
                env=UNMEASURED | {"PYTHONPATH": os.pathsep.join(sys.path)},
                capture_output=True,
                timeout=60,
                check=False,
            )
            if done.returncode == 3 and option == _SET_MDWE:
                raise SkipTest("this kernel has no PR_SET_MDWE")
            self.assertEqual((0, b""), (done.returncode, done.stderr))
