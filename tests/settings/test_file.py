"""Tests of configuration files that are good."""

from __future__ import annotations

import sys
from ipaddress import ip_network
from typing import Any

import attrs

from echosvc.admission import DoorSettings, GateSettings, Limits
from echosvc.listeners import Foreign, Inherited, Internet, ListenerSettings, TLSSettings, UnixSocket
from echosvc.protocols import ChargenOptions, QotdOptions
from echosvc.settings import read_config
from tests.certificates import Authority
from tests.settings.cases import ConfigCase


class ListenerTests(ConfigCase):
    """From tables to listeners."""

    def one(self, text: str) -> ListenerSettings:
        """Read a file that says one listener."""
        (listener,) = self.read(text)
        return listener

    def test_least(self) -> None:
        """A protocol and an endpoint are enough; all else has a default."""
        path = self.file('[[listener]]\nprotocol = "echo"\nendpoint = "tcp:8080"')

        self.assertEqual(
            (ListenerSettings(protocol="echo", place=Internet("tcp", 8080), origin=f"{path}:3"),),
            read_config(path).listeners,
        )

    def test_most(self) -> None:
        """Everything that can be said reaches the listener."""
        cert, key = Authority().issue("example.org").write(self.folder)
        path = self.file(
            f"""
            [[listener]]
            protocol = "chargen"
            name = "noise"
            endpoint = "tcp:8443:interface=[::1]"
            proxy = ["10.0.0.0/8", "fd00::/8"]
            backlog = 5
            rcvbuf = 65536
            stall-timeout = 7
            answer-rate = 9.5
            allow = "10.0.0.0/8"
            deny = ["10.1.0.0/16", "::1"]
            idle-timeout = 60
            lifetime = 86400
            byte-rate = 1000
            byte-rate-total = 9e6
            max-connections = 100
            max-per-source = 3
            accept-rate = 50
            accept-rate-per-source = 0.5
            options.allow-amplification = true
            [listener.tls]
            cert = "{cert}"
            key = "{key}"
            certdir = "{self.folder / "more"}"
            client-ca = "{self.folder / "ca.pem"}"
            alpn = ["one", "two"]
            min-version = "1.3"
            ciphers = "ECDHE+CHACHA20:!SHA1"
            """
        )
        (self.folder / "more").mkdir()
        (self.folder / "ca.pem").write_bytes(Authority().pem)
        Authority().issue("b.example.org").write(self.folder / "more")
        (self.folder / "more" / "b.pem").write_bytes(
            b"".join((self.folder / "more" / f"server.{each}").read_bytes() for each in ("crt", "key"))
        )

        self.assertEqual(
            (
                ListenerSettings(
                    protocol="chargen",
                    name="noise",
                    place=Internet("tcp", 8443, "::1"),
                    origin=f"{path}:5",
                    proxy=(ip_network("10.0.0.0/8"), ip_network("fd00::/8")),
                    backlog=5,
                    receive_buffer=65536,
                    stall_timeout=7.0,
                    answer_rate=9.5,
                    door=DoorSettings(
                        allow=("10.0.0.0/8",),
                        deny=("10.1.0.0/16", "::1"),
                        limits=Limits(
                            max_connections=100,
                            max_per_source=3,
                            accept_rate=50.0,
                            accept_rate_per_source=0.5,
                        ),
                        idle_timeout=60.0,
                        lifetime=86400.0,
                        byte_rate=1000.0,
                        byte_rate_total=9e6,
                    ),
                    options=ChargenOptions(allow_amplification=True),
                    tls=TLSSettings(
                        cert=cert,
                        key=key,
                        cert_dir=str(self.folder / "more"),
                        client_ca=str(self.folder / "ca.pem"),
                        alpn=("one", "two"),
                        min_version="1.3",
                        ciphers="ECDHE+CHACHA20:!SHA1",
                    ),
                ),
            ),
            read_config(path).listeners,
        )

    def test_limits(self) -> None:
        """What holds for all listeners together is a table of its own."""
        path = self.file(
            """
            [limits]
            max-connections = 100
            max-per-source = 3
            accept-rate = 50
            accept-rate-per-source = 0.5
            max-queued = 1048576
            ipv4-prefix = 24
            ipv6-prefix = 48
            [[listener]]
            protocol = "echo"
            endpoint = "tcp:7"
            """
        )
        limits = Limits(max_connections=100, max_per_source=3, accept_rate=50.0, accept_rate_per_source=0.5)

        self.assertEqual(
            GateSettings(limits=limits, max_queued=1048576, ipv4_prefix=24, ipv6_prefix=48),
            read_config(path).gate,
        )

    def test_who_may_connect_by_default(self) -> None:
        """A listener that says nothing has the defaults' lists, and one that says `[]` has none."""
        found = self.read(
            """
            [defaults]
            allow = ["10.0.0.0/8"]
            deny = "10.1.0.0/16"
            idle-timeout = 0
            lifetime = 60
            byte-rate = 5
            byte-rate-total = 6
            user-limits = false
            [[listener]]
            protocol = "echo"
            endpoint = "tcp:7"
            [[listener]]
            protocol = "echo"
            endpoint = "tcp:8"
            allow = []
            lifetime = 0
            byte-rate = 0
            user-limits = true
            """
        )

        self.assertEqual(
            [
                DoorSettings(
                    allow=("10.0.0.0/8",),
                    deny=("10.1.0.0/16",),
                    idle_timeout=0.0,
                    lifetime=60.0,
                    byte_rate=5.0,
                    byte_rate_total=6.0,
                    user_limits=False,
                ),
                DoorSettings(deny=("10.1.0.0/16",), idle_timeout=0.0, lifetime=0.0, byte_rate_total=6.0),
            ],
            [each.door for each in found],
        )

    def test_kinds_of_places(self) -> None:
        """Every kind of endpoint can be in a file."""
        for endpoint, place in (
            ("udp:8080:interface=127.0.0.1", Internet("udp", 8080, "127.0.0.1")),
            ("unix:/run/x:mode=600", UnixSocket("unix", "/run/x", 0o600)),
            ("unixgram:@x", UnixSocket("unixgram", "@x")),
            ("systemd:name=x", Inherited(name="x")),
            ("tcp6:8080", Foreign("tcp6:8080")),
        ):
            found = self.one(f'[[listener]]\nprotocol = "echo"\nendpoint = "{endpoint}"')
            self.assertEqual(place, found.place)

    def test_several_endpoints(self) -> None:
        """A list of endpoints is as many listeners, each of which knows its own line."""
        path = self.file(
            """\
            [[listener]]
            protocol = "echo"
            name = "lab"
            endpoint = [
                "tcp:7",  # RFC 862
                "udp:7", "udp:8",

                "unix:/run/echo",
            ]
            """
        )

        self.assertEqual(
            [("lab", f"{path}:{line}") for line in (5, 6, 6, 8)],
            [(each.name, each.origin) for each in read_config(path).listeners],
        )

    def test_name(self) -> None:
        """By default a listener is named as its protocol is."""
        for line, name in (("", "echo"), ('name = "lab"', "lab"), ('name = ""', "echo")):
            self.assertEqual(
                name, self.one(f'[[listener]]\nprotocol = "echo"\nendpoint = "tcp:7"\n{line}').name
            )

    def test_inline(self) -> None:
        """Listeners may as well be a list of inline tables."""
        text = 'listener = [\n{protocol = "echo", endpoint = "tcp:7"},\n{protocol = "time", endpoint = "tcp:37"},\n]'

        self.assertEqual(["echo", "time"], [each.protocol for each in self.read(text)])
        self.assertEqual(["2", "3"], [each.origin.rpartition(":")[2] for each in self.read(text)])

    def test_mark_at_the_beginning(self) -> None:
        """The mark with which some editors begin a file is not part of it, and Windows' line ends are line ends."""
        text = b'\xef\xbb\xbf[[listener]]\r\nprotocol = "echo"\r\nendpoint = "tcp:7"\r\n'
        (listener,) = self.read(text)

        self.assertTrue(listener.origin.endswith(":3"), listener.origin)


class DefaultTests(ConfigCase):
    """What holds for listeners that do not say otherwise."""

    def limits(self, head: str, *listeners: str) -> list[tuple[Any, ...]]:
        """Backlog, buffer, timeout and rate of each listener of a file."""
        tables = [
            f'[[listener]]\nprotocol = "echo"\nendpoint = "tcp:{port}{each}'
            for port, each in enumerate(listeners, 1)
        ]
        return [
            (each.backlog, each.receive_buffer, each.stall_timeout, each.answer_rate)
            for each in self.read("\n".join((head, *tables)))
        ]

    def test_without(self) -> None:
        """The defaults of a file are those of the options."""
        every = attrs.fields_dict(ListenerSettings)
        expected = tuple(
            every[each].default for each in ("backlog", "receive_buffer", "stall_timeout", "answer_rate")
        )

        self.assertEqual([expected], self.limits("", '"'))
        self.assertEqual([expected], self.limits("[defaults]", '"'))

    def test_applied(self) -> None:
        """They hold for every listener, wherever in the file they stand."""
        head = "[defaults]\nbacklog = 1\nrcvbuf = 4096\nstall-timeout = 2.5\nanswer-rate = 3"

        self.assertEqual([(1, 4096, 2.5, 3.0)] * 2, self.limits(head, '"', '"'))
        (listener,) = self.read(f'[[listener]]\nprotocol = "echo"\nendpoint = "tcp:1"\n{head}')
        self.assertEqual(1, listener.backlog)

    def test_overridden(self) -> None:
        """A listener's own value wins, and over it what its endpoint says."""
        head = "[defaults]\nbacklog = 1\nrcvbuf = 4096\nstall-timeout = 2.5\nanswer-rate = 3"
        own = "backlog = 2\nrcvbuf = 8192\nstall-timeout = 1e3\nanswer-rate = 4"

        self.assertEqual(
            [(2, 8192, 1000.0, 4.0), (9, 8192, 1000.0, 4.0), (9, 4096, 2.5, 3.0)],
            self.limits(head, f'"\n{own}', f':backlog=9"\n{own}', ':backlog=9"'),
        )


class LayerTests(ConfigCase):
    """TLS and PROXY headers may be said of the endpoint, or in the table."""

    def test_tls_in_the_endpoint(self) -> None:
        """As on the command line."""
        cert, key = Authority().issue("example.org").write(self.folder)
        (listener,) = self.read(f'[[listener]]\nprotocol="echo"\nendpoint="tls:8443:cert={cert}:key={key}"')

        self.assertEqual(
            (Internet("tcp", 8443), TLSSettings(cert=cert, key=key)), (listener.place, listener.tls)
        )

    def test_tls_in_the_table(self) -> None:
        """It holds for all endpoints of the listener."""
        cert, key = Authority().issue("example.org").write(self.folder)
        listeners = self.read(
            f'[[listener]]\nprotocol="echo"\nendpoint=["tcp:1","unix:/run/x"]\ntls={{cert="{cert}",key="{key}"}}'
        )

        self.assertEqual([TLSSettings(cert=cert, key=key)] * 2, [each.tls for each in listeners])

    def test_tls_from_a_folder(self) -> None:
        """A folder of certificates is enough."""
        folder = self.folder / "hosts" / "example.org"
        folder.mkdir(parents=True)
        issued = Authority().issue("example.org")
        (folder / "fullchain.pem").write_bytes(issued.chain)
        (folder / "privkey.pem").write_bytes(issued.key)
        (listener,) = self.read(
            f'[[listener]]\nprotocol="echo"\nendpoint="tcp:1"\ntls.certdir="{folder.parent}"'
        )

        self.assertEqual(TLSSettings(cert_dir=str(folder.parent)), listener.tls)

    def test_proxy(self) -> None:
        """The table's networks are the ones if both name some."""
        this_machine = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
        ten = (ip_network("10.0.0.0/8"),)
        for endpoint, line, expected in (
            ("tcp:1", "", None),
            ("tcp:1:proxy=10.0.0.0/8", "", ten),
            ("haproxy:tcp:1", "", this_machine),
            ("tcp:1", 'proxy = "10.0.0.0/8"', ten),
            ("haproxy:tcp:1", 'proxy = "10.0.0.0/8"', ten),
            ("tcp:1:proxy=192.0.2.0/24", 'proxy = ["10.0.0.0/8"]', ten),
            ("unix:/run/x", "proxy = []", ()),
        ):
            (listener,) = self.read(f'[[listener]]\nprotocol = "echo"\nendpoint = "{endpoint}"\n{line}')
            self.assertEqual(expected, listener.proxy)


class OptionTests(ConfigCase):
    """A protocol's own settings."""

    def test_defaults(self) -> None:
        """A protocol that has settings is given them even if the file says none; one that has none, none."""
        listeners = self.read(
            "".join(
                f'[[listener]]\nprotocol = "{each}"\nendpoint = "tcp:0"\n' for each in ("chargen", "echo")
            )
        )

        self.assertEqual([ChargenOptions(), None], [each.options for each in listeners])

    def test_file_of_quotes(self) -> None:
        """They are made by the protocol's own class, which reads what they name."""
        quotes = self.file("Say less.\n%\n", "quotes")
        (listener,) = self.read(
            f'[[listener]]\nprotocol = "qotd"\nendpoint = "udp:17"\n[listener.options]\nfile = "{quotes}"'
        )

        self.assertEqual(QotdOptions(file=quotes), listener.options)

    def test_protocol_of_ones_own(self) -> None:
        """A protocol can be named by where it is in Python; its settings are typed by its own class."""
        (self.folder / "echosvc_test_mine.py").write_text(
            "from __future__ import annotations\n"
            "import attrs\n"
            "from echosvc.protocols import EchoFactory, WireProtocol\n"
            "@attrs.frozen\n"
            "class Options:\n"
            "    loud_for: tuple[int, ...] = ()\n"
            "MINE = WireProtocol(\n"
            "    name='mine', rfc='none', summary='mine', stream=lambda options: EchoFactory(), options=Options)\n"
        )
        self.patch(sys, "path", [str(self.folder), *sys.path])
        self.addCleanup(sys.modules.pop, "echosvc_test_mine", None)
        (listener,) = self.read(
            """
            [[listener]]
            protocol = "echosvc_test_mine:MINE"
            endpoint = "tcp:1"
            options = { loud-for = [1, 2] }
            """
        )

        self.assertEqual("echosvc_test_mine:MINE", listener.name)
        self.assertEqual((1, 2), listener.options.loud_for)
