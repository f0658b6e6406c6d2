"""Tests of how the promises' clients connect: over each carrier as they should, and as whom."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.certificates import folder_for
from tests.hold.carriers import Carrier, Place, dial, find_place, listener, over

LOG = """\
[-] echo (RFC 862) listens on TCP [::]:40123 (IPv6 and IPv4)
[-] echo (RFC 862) listens on UDP [::]:40123 (IPv6 and IPv4)
[-] echo (RFC 862) listens on TCP [::]:40124 (IPv6 and IPv4), TLS
[-] echo (RFC 862) listens on unix:/tmp/socket
[-] echo (RFC 862) listens on TCP [::]:40125 (IPv6 and IPv4), PROXY from 127.0.0.0/8, ::1/128
"""

OTHER_USER = 12345


class NameTests(SynchronousTestCase):
    """What promises and places are called."""

    def test_promises(self) -> None:
        """Plain TCP has the promise's own name."""
        self.assertEqual(("T07", "T07-tls", "T07-unix", "T07-proxy"), over("T07"))
        self.assertEqual(("T07", "T07-proxy"), over("T07", Carrier.TCP, Carrier.PROXY))

    def test_places(self) -> None:
        """A program is told a place in one word; a number alone is a port of plain TCP."""
        for place in (Place(Carrier.TLS, "40123"), Place(Carrier.UNIX, "/tmp/a:b")):
            self.assertEqual(place, Place.parse(str(place)))
        self.assertEqual(Place(Carrier.TCP, "7"), Place.parse("7"))

    def test_log(self) -> None:
        """Where each carrier's listener is, is read from the service's log."""
        found = {each: find_place(each, LOG) for each in Carrier}

        self.assertEqual(
            {
                Carrier.TCP: Place(Carrier.TCP, "40123"),
                Carrier.TLS: Place(Carrier.TLS, "40124"),
                Carrier.UNIX: Place(Carrier.UNIX, "/tmp/socket"),
                Carrier.PROXY: Place(Carrier.PROXY, "40125"),
            },
            found,
        )
        self.assertIsNone(find_place(Carrier.TLS, LOG.splitlines()[0]))

    def test_listeners(self) -> None:
        """Each but plain TCP has a listener beside `--port`; that of TLS has its certificate made."""
        folder = Path(folder_for(self))
        listeners = {each: listener(each, folder) for each in Carrier}

        self.assertIsNone(listeners[Carrier.TCP])
        self.assertEqual("echo=tls:0:cert=server.crt:key=server.key", listeners[Carrier.TLS])
        self.assertTrue((folder / "server.key").exists())
        self.assertEqual(f"echo=unix:{folder}/socket:mode=666", listeners[Carrier.UNIX])


class DialTests(SynchronousTestCase):
    """How a client connects."""

    def listen(self) -> tuple[socket.socket, str]:
        """Listen by TCP; return the listener, and its port."""
        server = socket.create_server(("127.0.0.1", 0))
        server.settimeout(5)
        self.addCleanup(server.close)
        return server, str(server.getsockname()[1])

    def test_tcp(self) -> None:
        """From the address that is asked for, with the options that are asked for."""
        server, port = self.listen()
        small = ((socket.SOL_SOCKET, socket.SO_SNDBUF, 4608),)
        with dial(Place(Carrier.TCP, port), source="127.0.0.2", options=small, patience=3.0) as client:
            accepted, (source, _) = server.accept()
            accepted.close()

            assert isinstance(client, socket.socket)
            self.assertEqual(("127.0.0.2", 3.0), (source, client.gettimeout()))
            self.assertEqual(2 * 4608, client.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF))

    def test_proxy(self) -> None:
        """The header names the source, or the client itself."""
        server, port = self.listen()
        for source, named in (("192.0.2.1", "192.0.2.1"), ("", "127.0.0.1")):
            with dial(Place(Carrier.PROXY, port), source=source) as client:
                accepted, _ = server.accept()
                with accepted:
                    own = client.getsockname()[1]
                    self.assertEqual(
                        f"PROXY TCP4 {named} 127.0.0.1 {own} {port}\r\n".encode(), accepted.recv(200)
                    )

    def test_unix(self) -> None:
        """As the user that is asked for, and afterwards as before."""
        folder = Path(folder_for(self))
        folder.chmod(0o755)
        path = str(folder / "socket")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            (folder / "socket").chmod(0o666)
            server.listen()
            for source in ("", str(OTHER_USER)):
                if source and os.geteuid() != 0:
                    raise SkipTest("only root can be another user")
                with dial(Place(Carrier.UNIX, path), source=source):
                    accepted, _ = server.accept()
                    with accepted:
                        peer = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
                    self.assertEqual(int(source or os.geteuid()), struct.unpack("@3i", peer)[1])
                self.assertNotEqual(OTHER_USER, os.geteuid())

    def test_refused(self) -> None:
        """A refusal is an error, and leaves nothing open."""
        server, port = self.listen()
        server.close()

        self.assertRaises(ConnectionRefusedError, dial, Place(Carrier.PROXY, port))
