"""Tests of what is checked before anything is opened: every mistake is found, and said in one line."""

from __future__ import annotations

import socket
from ipaddress import ip_network
from typing import Any

import attrs
from twisted.internet import tcp
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import DatagramProtocol

from echosvc.errors import ExitCode
from echosvc.listeners import (
    Foreign,
    ListenerSettings,
    TLSSettings,
    check_listeners,
    inherited,
)
from echosvc.protocols import DatagramEcho, EchoFactory, WireProtocol, register, registry
from tests.listeners.cases import (
    FOREIGN,
    ListenerCase,
    PortReactor,
    inherited_listener,
    tcp_listener,
    udp_listener,
    unix_listener,
    unixgram_listener,
)
from tests.machine import open_descriptors

#: A port that is never opened here.
PORT = 8007

NO_SUCH_FILE = TLSSettings(cert="/nowhere/full.pem", key="/nowhere/key.pem")
PROXIES = (ip_network("10.0.0.0/8"),)


@attrs.frozen
class Greeting:
    """Settings of a protocol's own."""

    text: str = "hello"


class OpeningCase(ListenerCase):
    """Knows a stream protocol and a datagram protocol, and one that is never content."""

    def setUp(self) -> None:
        """Register them, and leave the registry as it was."""
        self.patch(registry, "_registered", dict(registry._registered))
        self.made: list[object] = []
        register(WireProtocol(name="streamed", rfc="none", summary="x", stream=EchoFactory))
        register(WireProtocol(name="datagrams", rfc="none", summary="x", datagram=DatagramEcho))
        register(
            WireProtocol(
                name="greeting",
                rfc="none",
                summary="x",
                stream=self.make_stream,
                datagram=self.make_datagram,
                options=Greeting,
            )
        )
        self.problem: Exception | None = None
        self.reactor = PortReactor()
        tcp._reservedFD.reserve()  # Twisted's first port would, for as long as the process lives

    def make_stream(self, options: Greeting) -> IProtocolFactory:
        """Build the factory of a protocol that has settings."""
        if self.problem is not None:
            raise self.problem
        self.made.append(("stream", options))
        return EchoFactory()

    def make_datagram(self, options: Greeting) -> DatagramProtocol:
        """Build its datagram protocol."""
        self.made.append(("datagram", options))
        return DatagramEcho()

    def foreign(self, description: str = FOREIGN, **more: Any) -> ListenerSettings:
        """Describe a listener on an endpoint of Twisted's."""
        return ListenerSettings(
            **{"protocol": "echo", "origin": "--listen f", "place": Foreign(description), **more}
        )

    def pass_on(self, *kinds: socket.SocketKind) -> None:
        """Pass sockets to this process, all of the name "echo"."""
        passed = []
        for kind in kinds:
            sock = socket.socket(socket.AF_INET, kind)
            self.addCleanup(sock.close)
            sock.bind(("127.0.0.1", 0))
            if kind == socket.SOCK_STREAM:
                sock.listen()
            passed.append(("echo", sock.fileno()))
        self.patch(inherited, "_passed", passed)


class CheckTests(OpeningCase):
    """What can be found without opening a socket."""

    def check(self, *settings: ListenerSettings) -> list[str]:
        """Find mistakes, each in one line; open nothing."""
        before = open_descriptors()
        mistakes = check_listeners(settings)
        self.assertEqual(before, open_descriptors())
        self.assertEqual([1] * len(mistakes), [len(str(each).splitlines()) for each in mistakes])
        self.assertEqual({ExitCode.USAGE}, {ExitCode.USAGE, *(each.exit_code for each in mistakes)})
        return [str(each) for each in mistakes]

    def test_good_ones(self) -> None:
        """Nothing is said of listeners that can be opened."""
        self.assertEqual(
            [],
            self.check(
                tcp_listener(PORT),
                udp_listener(PORT),
                unix_listener("/nowhere/s"),
                unixgram_listener("/nowhere/d"),
                inherited_listener("echo"),
                inherited_listener("streamed"),
                self.foreign(),
                tcp_listener(PORT + 1, protocol="streamed", proxy=PROXIES),
                udp_listener(PORT + 1, protocol="datagrams"),
            ),
        )

    def test_unknown_protocol(self) -> None:
        """With the nearest name that there is."""
        self.assertEqual(
            ["--port 8007: there is no protocol 'ecko'; did you mean echo?"],
            self.check(tcp_listener(PORT, protocol="ecko")),
        )

    def test_protocol_without_streams(self) -> None:
        """On every kind of stream listener."""
        for each in (
            tcp_listener(PORT, protocol="datagrams", origin="o"),
            unix_listener("/x", protocol="datagrams", origin="o"),
            self.foreign(protocol="datagrams", origin="o"),
        ):
            self.assertEqual(
                ["o: datagrams has no stream form; it is spoken over udp and unixgram"], self.check(each)
            )

    def test_protocol_without_datagrams(self) -> None:
        """On either kind of datagram listener."""
        for each in (
            udp_listener(PORT, protocol="streamed", origin="o"),
            unixgram_listener("/x", protocol="streamed", origin="o"),
        ):
            self.assertEqual(
                ["o: streamed has no datagram form; it is spoken over tcp, unix and tls"], self.check(each)
            )

    def test_layers_of_streams_on_datagrams(self) -> None:
        """There is neither TLS nor a PROXY header in datagrams."""
        for layers in ({"tls": NO_SUCH_FILE}, {"proxy": PROXIES}, {"proxy": ()}):
            for each in (
                udp_listener(PORT, origin="o", **layers),
                unixgram_listener("/x", origin="o", **layers),
            ):
                self.assertEqual(
                    ["o: TLS and PROXY headers are for streams; this is for datagrams"], self.check(each)
                )

    def test_certificate_that_cannot_be_read(self) -> None:
        """Found now, and not when the first client comes; whoever asked for it is named."""
        mistakes = check_listeners([tcp_listener(PORT, tls=NO_SUCH_FILE)])

        self.assertEqual(["tls.cert", "tls.key"], [each.setting for each in mistakes])
        for mistake, path in zip(mistakes, ("/nowhere/full.pem", "/nowhere/key.pem"), strict=True):
            self.assertTrue(str(mistake).startswith("--port 8007: "), mistake)
            self.assertIn(path, str(mistake))

    def test_tls_without_a_certificate(self) -> None:
        """It is no single setting that is wrong."""
        (mistake,) = check_listeners([tcp_listener(PORT, tls=TLSSettings())])

        self.assertEqual("tls", mistake.setting)
        self.assertIn("TLS: there is no certificate", str(mistake))

    def test_proxy_that_is_nobody(self) -> None:
        """Everybody would be refused; on a UNIX socket it is enough, since the file says who can be the proxy."""
        said = "o: proxy names nobody, so that everybody would be refused; name the proxies' networks, such as 10.0.0.0/8"
        self.assertEqual([said], self.check(tcp_listener(PORT, origin="o", proxy=())))
        self.assertEqual(
            [], self.check(unix_listener("/nowhere/s", proxy=()), inherited_listener("x", proxy=()))
        )

    def test_every_mistake_of_one_listener(self) -> None:
        """What is wrong with its protocol, its proxy and its files is told at once."""
        mistakes = check_listeners([tcp_listener(PORT, protocol="ecko", proxy=(), tls=NO_SUCH_FILE)])

        self.assertEqual(["protocol", "proxy", "tls.cert", "tls.key"], [each.setting for each in mistakes])
        self.problem = ValueError("no")
        both = check_listeners([tcp_listener(PORT, protocol="greeting", proxy=())])
        self.assertEqual(["proxy", ""], [each.setting for each in both])

    def test_settings_that_a_protocol_refuses(self) -> None:
        """Whatever it raises is one line that names the protocol, and never a traceback."""
        for problem, text in (
            (ValueError("text: too long"), "text: too long"),
            (TypeError("text must be a string"), "text must be a string"),
            (FileNotFoundError(2, "No such file", "/x"), "[Errno 2] No such file: '/x'"),
            (RuntimeError("I am\nbroken"), "RuntimeError('I am\\nbroken')"),
            (KeyError(), "KeyError()"),
        ):
            self.problem = problem

            self.assertEqual(
                [f"--port 8007: greeting: {text}"], self.check(tcp_listener(PORT, protocol="greeting"))
            )

    def test_settings_are_handed_to_the_protocol(self) -> None:
        """The listener's own; or the protocol's defaults."""
        self.check(
            tcp_listener(PORT, protocol="greeting", options=Greeting("hi")),
            udp_listener(PORT, protocol="greeting"),
            inherited_listener("x", protocol="greeting", options=Greeting("either")),
        )

        self.assertEqual(
            [
                ("stream", Greeting("hi")),
                ("datagram", Greeting()),
                ("stream", Greeting("either")),
                ("datagram", Greeting("either")),
            ],
            self.made,
        )

    def test_a_form_that_is_not_needed(self) -> None:
        """It may well be broken: it is not built."""
        self.problem = ValueError("no streams today")

        self.assertEqual([], self.check(udp_listener(PORT, protocol="greeting")))

    def test_place_asked_for_twice(self) -> None:
        """Each kind of place, as its own kind names it, with both who asked for it."""
        for place, first, second in (
            ("tcp:8007 on 127.0.0.1", tcp_listener(PORT), tcp_listener(PORT)),
            ("udp:8007", udp_listener(PORT, ""), udp_listener(PORT, "")),
            ("tcp:8007 on ::1", tcp_listener(PORT, ""), tcp_listener(PORT, "::1")),
            ("tcp:8007", tcp_listener(PORT, "::1"), tcp_listener(PORT, "")),
            ("/x", unix_listener("/x"), unix_listener("/x", 0o666)),
            ("/x", unix_listener("/x"), unixgram_listener("/x")),
            ("the inherited socket", inherited_listener("echo"), inherited_listener("echo")),
            ("the inherited socket", inherited_listener(index=0), inherited_listener(index=0)),
        ):
            settings = [attrs.evolve(first, origin="one"), attrs.evolve(second, origin="other")]

            self.assertEqual([f"other: {place} is already taken by one"], self.check(*settings))

    def test_places_that_are_not_the_same(self) -> None:
        """Another transport, port, address, path or name; and any number of free ports."""
        self.assertEqual(
            [],
            self.check(
                tcp_listener(PORT),
                udp_listener(PORT),
                tcp_listener(PORT + 1),
                tcp_listener(PORT, "::1"),
                tcp_listener(0, ""),
                tcp_listener(0, ""),
                unix_listener("/x"),
                unix_listener("/y"),
                inherited_listener("x"),
                inherited_listener("y"),
                inherited_listener(index=0),
                self.foreign("tcp6:1"),
                self.foreign("tcp6:2"),
            ),
        )

    def test_every_mistake_is_found(self) -> None:
        """In the order of the listeners; one that comes third to a place is told of the first, once."""
        origins = [
            mistake.partition(":")[0]
            for mistake in self.check(
                tcp_listener(PORT, origin="a"),
                tcp_listener(PORT, origin="b"),
                udp_listener(PORT, protocol="streamed", origin="c"),
                tcp_listener(PORT, protocol="ecko", origin="d"),
                tcp_listener(PORT + 1, origin="e"),
            )
        ]

        self.assertEqual(["b", "c", "d", "d"], origins)
