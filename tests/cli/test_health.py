"""Tests of `echosvc health`."""

from __future__ import annotations

import socket
from ipaddress import ip_network
from typing import Any

from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.trial.unittest import SynchronousTestCase

from echosvc.admission import DoorSettings
from echosvc.cli._health import HealthOptions, places_of
from echosvc.cli._questions import CLOSED, CONNECTED, SILENCE
from echosvc.errors import ExitCode, InvalidListener, InvalidOption, UserError
from echosvc.listeners import Foreign, Inherited, Internet, ListenerSettings, TLSSettings, UnixSocket
from echosvc.protocols import WireProtocol
from tests.cli.command import CommandCase
from tests.cli.servers import free_port
from tests.cli.test_config import FileCase

TCP = Internet("tcp", 7)
UDP = Internet("udp", 7)

SHOUT = WireProtocol(name="shout", rfc="none", summary="", stream=Factory, datagram=DatagramProtocol)


def listener(place: Any, protocol: str = "echo", **more: Any) -> ListenerSettings:
    """A listener that speaks something somewhere."""
    return ListenerSettings(protocol=protocol, place=place, **more)


class PlaceTests(SynchronousTestCase):
    """Where and what is asked of a listener."""

    def test_every_address(self) -> None:
        """A listener on every address is asked at one of each family; without IPv6 the first will do."""
        four, six = places_of([listener(TCP)])

        self.assertEqual(("127.0.0.1", 7), four.address)
        self.assertEqual(("::1", 7), six.address[:2])
        self.assertEqual((False, True), (four.may_be_missing, six.may_be_missing))
        self.assertEqual(["echo at TCP 127.0.0.1:7", "echo at TCP [::1]:7"], [four.label, six.label])
        self.assertEqual((socket.AF_INET, socket.AF_INET6), (four.family, six.family))

    def test_one_address(self) -> None:
        """One on an address is asked there, and must be."""
        for interface, asked in (("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("192.0.2.1", "192.0.2.1")):
            (place,) = places_of([listener(Internet("udp", 7, interface))])
            self.assertEqual((asked, False, False), (place.address[0], place.is_stream, place.may_be_missing))

    def test_a_link_local_address(self) -> None:
        """Its interface is part of it."""
        (place,) = places_of([listener(Internet("tcp", 7, "fe80::1%lo"))])

        self.assertEqual(socket.if_nametoindex("lo"), place.address[3])

    def test_unix_sockets(self) -> None:
        """Files and names."""
        file, name = places_of([listener(UnixSocket("unix", "/x")), listener(UnixSocket("unixgram", "@x"))])

        self.assertEqual(("/x", True, "echo at unix:/x"), (file.address, file.is_stream, file.label))
        self.assertEqual(("\0x", False, "echo at unixgram:@x"), (name.address, name.is_stream, name.label))

    def test_a_proxy_is_spoken_for(self) -> None:
        """A header that says that nobody is behind it, where we may send one; elsewhere we must be closed at once."""
        ours, others = (ip_network("127.0.0.0/8"),), (ip_network("10.0.0.0/8"),)
        trusted = places_of([listener(TCP, proxy=ours), listener(UnixSocket("unix", "/x"), proxy=())])
        four, six, unix = trusted
        refused = places_of([listener(TCP, proxy=others, tls=TLSSettings(cert_dir="x"))])

        self.assertEqual([b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"] * 2, [four.header, unix.header])
        self.assertEqual([CLOSED] * 3, [each.question for each in (six, *refused)])
        self.assertEqual([(b"", None)] * 3, [(each.header, each.tls) for each in (six, *refused)])

    def test_lists_of_networks(self) -> None:
        """Whoever is not served is closed at once over TCP, and hears nothing over UDP; a proxy, too, that speaks for itself."""
        door = DoorSettings(deny=("127.0.0.0/8",))
        ours = (ip_network("0.0.0.0/0"), ip_network("::/0"))
        found = places_of([listener(each, door=door) for each in (TCP, UDP)])
        proxied, _ = places_of([listener(TCP, door=door, proxy=ours)])
        unix, *_ = places_of([listener(UnixSocket("unix", "/x"), door=door)])

        self.assertEqual([CLOSED, SILENCE, CLOSED], [each.question for each in (*found[::2], proxied)])
        self.assertEqual([b"", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"], [found[0].header, proxied.header])
        for each in (*found[1::2], unix):
            self.assertTrue(each.question.says)

    def test_tls(self) -> None:
        """Whose certificate must be shown is said; a refusal will do where one of ours is asked for."""
        plain, wants = (
            listener(Internet("tcp", 7, "127.0.0.1"), tls=TLSSettings(cert_dir="x", client_ca=ca))
            for ca in (None, "y")
        )
        asked = [each.tls for each in places_of([plain, wants], "localhost")]
        unasked = [each.tls for each in places_of([plain])]

        self.assertEqual(
            [("localhost", False), ("localhost", True)], [(e.host, e.may_refuse) for e in asked if e]
        )
        self.assertEqual([(None, False)], [(each.host, each.may_refuse) for each in unasked if each])

    def test_protocols_of_others(self) -> None:
        """To be there is enough; one that is not installed here is a mistake."""
        other = "tests.cli.test_health:SHOUT"
        questions = [each.question for each in places_of([listener(each, other) for each in (TCP, UDP)])]

        self.assertEqual([CONNECTED, CONNECTED, SILENCE, SILENCE], questions)
        with self.assertRaisesRegex(InvalidListener, "no protocol 'ecko'"):
            places_of([listener(TCP, "ecko")])

    def test_nobody_knows_where(self) -> None:
        """A free port, a socket of a service manager, an endpoint of Twisted's: they have to be named."""
        for place in (Internet("tcp", 0), Inherited(name="x"), Foreign("onion:80")):
            with self.assertRaisesRegex(InvalidListener, "^it: .* name what it is to be asked"):
                places_of([listener(place, origin="it")])

    def test_lists_that_cannot_be_read(self) -> None:
        """A file that is not there any more is a mistake."""
        with self.assertRaisesRegex(InvalidListener, "/nowhere"):
            places_of([listener(TCP, door=DoorSettings(allow=("@/nowhere",)))])


class OptionTests(SynchronousTestCase):
    """What can be told."""

    def understood(self, *options: str) -> HealthOptions:
        """Parse a command line."""
        asked = HealthOptions()
        asked.understand(list(options))
        return asked

    def test_nothing(self) -> None:
        """The service without options, with two seconds of time."""
        asked = self.understood()

        self.assertEqual((2.0, None, False), (asked.timeout, asked.verify, asked.verbose))
        self.assertEqual([8007, 8007], [each.place.port for each in asked.settings.listeners])  # type: ignore[union-attr]  # both are Internet's

    def test_those_of_the_service_and_its_own(self) -> None:
        """In any order."""
        asked = self.understood(
            "-v", "--port", "8080", "--udp-port=off", "--timeout", "0.5", "--verify", "host"
        )

        self.assertEqual((0.5, "host", True), (asked.timeout, asked.verify, asked.verbose))
        self.assertEqual([Internet("tcp", 8080)], [each.place for each in asked.settings.listeners])

    def test_endpoints(self) -> None:
        """Echo, or what is named before; TLS without its files."""
        asked = self.understood(
            "tcp:7", "time=udp:37", "unix:/run/a\\=b", "echo=tls:8443", "echo=HAProxy:TLS:8444"
        )
        found = [(each.protocol, each.place, each.tls is not None) for each in asked.settings.listeners]

        self.assertEqual(
            [
                ("echo", Internet("tcp", 7), False),
                ("time", Internet("udp", 37), False),
                ("echo", UnixSocket("unix", "/run/a=b"), False),
                ("echo", Internet("tcp", 8443), True),
                ("echo", Internet("tcp", 8444), True),
            ],
            found,
        )

    def test_wrong_ones(self) -> None:
        """Each is named."""
        for value in ("x", "0", "0.001", "3601", "-1", "1e3", ""):
            with self.assertRaisesRegex(InvalidOption, "^--timeout .*must be a number of seconds"):
                self.understood("--timeout", value)
        with self.assertRaisesRegex(InvalidOption, "^--verify : must be the name of a host"):
            self.understood("--verify=")
        for wrong in ("--nonsense", "ecko", "--port=x"):
            with self.assertRaises(UserError):
                self.understood(wrong)

    def test_a_host(self) -> None:
        """Is what the other commands are told; it is said how this machine is asked, and which command asks another."""
        for endpoint, here, elsewhere in (
            ("tls:localhost:8443", "tls:8443", "openssl s_client -quiet -connect localhost:8443"),
            ("echo=TLS:[::1]:8443", "tls:8443", "openssl s_client -quiet -connect '[::1]:8443'"),
            ("time=tcp:192.0.2.1:37", "tcp:37", "echosvc ping 192.0.2.1:37"),
            ("udp:host:7", "udp:7", "echosvc ping --udp host:7"),
        ):
            problem = self.assertRaises(UserError, self.understood, endpoint)
            self.assertEqual(
                f"{endpoint}: a health check asks this machine, and names no host: {here}; `{elsewhere}` asks another",
                str(problem),
            )


class CommandTests(CommandCase):
    """The command, against servers that nobody here wrote."""

    def test_all_is_well(self) -> None:
        """Nothing is said, and the code is 0; one line for each if that is asked for."""
        port, other = self.stream_server(), self.datagram_server().port
        endpoints = [f"tcp:{port}:interface=127.0.0.1", f"echo=udp:{other}:interface=127.0.0.1"]
        quiet = self.run_command("health", *endpoints)
        verbose = self.run_command("health", "-v", *endpoints)

        self.assertEqual((0, b"", b""), (quiet.returncode, quiet.stdout, quiet.stderr))
        self.assertEqual((0, b""), (verbose.returncode, verbose.stderr))
        self.assertRegex(
            verbose.stdout.decode(),
            rf"^echo at TCP 127\.0\.0\.1:{port}: answers, [\d.]+ ms\necho at UDP 127\.0\.0\.1:{other}: answers, [\d.]+ ms\n$",
        )

    def test_somebody_does_not_answer(self) -> None:
        """It is named, on standard error, and the code is 69."""
        nobody = free_port(socket.SOCK_STREAM)
        finished = self.run_command(
            "health",
            f"tcp:{self.stream_server()}:interface=127.0.0.1",
            f"time=tcp:{nobody}:interface=127.0.0.1",
        )

        self.assert_failed(
            finished, ExitCode.UNAVAILABLE, f"time at TCP 127.0.0.1:{nobody}: connection refused"
        )
        self.assertEqual(b"", finished.stdout)

    def test_wrong_use(self) -> None:
        """Ends with 64, and the help says what would be right."""
        self.assert_failed(self.run_command("health", "--timeout", "x"), ExitCode.USAGE, "--timeout x")
        self.assert_failed(self.run_command("health", "tcp:0"), ExitCode.USAGE, "tcp:0", "echosvc health")
        helped = self.run_command("health", "--help")

        self.assertEqual((0, b""), (helped.returncode, helped.stderr))
        for word in (b"--timeout", b"--verify", b"--config", b"69"):
            self.assertIn(word, helped.stdout)


class FileTests(FileCase):
    """With the file of the service."""

    def test_the_files_that_it_names_are_not_read(self) -> None:
        """Keys are for the service alone."""
        port = self.stream_server()
        path = self.file(
            f'[[listener]]\nprotocol = "echo"\nendpoint = "tls:{port}:interface=127.0.0.1:cert=/no/c:key=/no/k"\n'
        )

        self.assert_failed(self.run_command("health", "--config", path), ExitCode.UNAVAILABLE, "TLS: ")

    def test_a_wrong_file(self) -> None:
        """Ends with 78, as for the service."""
        path = self.file("[[listener]]\n")

        self.assert_failed(
            self.run_command("health", "--config", path), ExitCode.CONFIG, f"{path}:1: protocol is missing"
        )
