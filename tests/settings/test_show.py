"""Tests of settings as a file."""

from __future__ import annotations

import tomllib
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import attrs
from hypothesis import assume, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from echosvc.admission import DoorSettings, GateSettings, Limits, ScreenSettings
from echosvc.listeners import (
    Foreign,
    Inherited,
    Internet,
    ListenerSettings,
    TLSSettings,
    UnixSocket,
    check_listeners,
)
from echosvc.protocols import ChargenOptions, EchoFactory, QotdOptions, WireProtocol, find, registry
from echosvc.settings import Settings, read_config, show
from tests.certificates import Authority
from tests.settings.authors import Colour, Inner, Rich
from tests.settings.cases import ConfigCase


def shown(*listeners: ListenerSettings) -> list[dict[str, Any]]:
    """The tables that are written of listeners."""
    tables: list[dict[str, Any]] = tomllib.loads(show(Settings(listeners=listeners)))["listener"]
    return tables


class ShowTests(SynchronousTestCase):
    """What is written."""

    def test_defaults_are_written_out(self) -> None:
        """Whoever reads it sees everything that holds, and nothing that does not apply."""
        self.assertEqual(
            [
                {
                    "protocol": "echo",
                    "name": "echo",
                    "endpoint": "udp:8007",
                    "backlog": 1024,
                    "rcvbuf": 4194304,
                    "stall-timeout": 300.0,
                    "answer-rate": 100.0,
                    "datagram-rate": 10000.0,
                    "datagram-burst": 0.0,
                    "datagram-rate-total": 200000.0,
                    "idle-timeout": 3600.0,
                    "lifetime": 0.0,
                    "byte-rate": 0.0,
                    "byte-rate-total": 0.0,
                    "user-limits": True,
                }
            ],
            shown(ListenerSettings(protocol="echo", place=Internet("udp", 8007))),
        )

    def test_options_are_written_out(self) -> None:
        """So are those of the protocol, also where nobody said any."""
        for options in (None, ChargenOptions()):
            (table,) = shown(ListenerSettings(protocol="chargen", place=Internet("tcp", 19), options=options))
            self.assertEqual({"allow-amplification": False}, table["options"])

    def test_limits_of_the_service(self) -> None:
        """A table of its own; numbers that nobody has said are not in it: they follow from the system and each other."""
        listeners = (ListenerSettings(protocol="echo", place=Internet("tcp", 7)),)
        sizes = {"max-queued": 67108864, "ipv4-prefix": 32, "ipv6-prefix": 64}
        self.assertEqual(sizes, tomllib.loads(show(Settings(listeners=listeners)))["limits"])
        limits = Limits(max_connections=10, max_per_source=2, accept_rate=5.0, accept_rate_per_source=0.5)
        said = Settings(listeners=listeners, gate=GateSettings(limits=limits))

        self.assertEqual(
            {
                "max-connections": 10,
                "max-per-source": 2,
                "accept-rate": 5.0,
                "accept-rate-per-source": 0.5,
                **sizes,
            },
            tomllib.loads(show(said))["limits"],
        )

    def test_who_may_come_in(self) -> None:
        """If somebody has said so."""
        door = DoorSettings(
            allow=("10.0.0.0/8",),
            deny=("@/x", "::/0"),
            limits=Limits(max_connections=3),
            idle_timeout=0.0,
            lifetime=9.0,
        )
        (table,) = shown(ListenerSettings(protocol="echo", place=Internet("tcp", 7), door=door))
        expected = {
            "allow": ["10.0.0.0/8"],
            "deny": ["@/x", "::/0"],
            "max-connections": 3,
            "idle-timeout": 0.0,
            "lifetime": 9.0,
        }

        self.assertEqual(expected, {name: table.get(name) for name in expected})

    def test_layers(self) -> None:
        """TLS is a table; what is not asked for is not in it: names for ALPN, if there are any, are insisted on."""
        tls = TLSSettings(cert="a.crt", key="a.key")
        (table,) = shown(
            ListenerSettings(
                protocol="echo", place=Internet("tcp", 7), tls=tls, proxy=(ip_network("10.0.0.0/8"),)
            )
        )

        self.assertEqual({"cert": "a.crt", "key": "a.key", "min-version": "1.2"}, table["tls"])
        self.assertEqual(["10.0.0.0/8"], table["proxy"])

    def test_proxy_on_a_unix_socket(self) -> None:
        """No network at all is not the same as no header."""
        (table,) = shown(ListenerSettings(protocol="echo", place=UnixSocket("unix", "/run/x"), proxy=()))

        self.assertEqual([], table["proxy"])


class ThereAndBackTests(ConfigCase):
    """What is written says the same when it is read."""

    def setUp(self) -> None:
        """Know a protocol with settings of every type."""
        super().setUp()
        self.patch(registry, "_registered", dict(registry._registered))
        registry.register(
            WireProtocol(
                name="rich", rfc="none", summary="x", stream=lambda options: EchoFactory(), options=Rich
            )
        )

    def test_options_of_every_type(self) -> None:
        """Tables in tables, lists, choices, paths and what is not set."""
        options = Rich(
            sizes=[1],
            grid=[[1], []],
            words=("a", "b"),
            limits={"max_size": 3},
            inner=Inner(1),
            inners=(Inner(2, "n"), Inner(3)),
            side="right",
            colour=Colour.BLUE,
            file=Path("/tmp/x"),
            secret=4,
        )
        text = show(
            Settings(
                listeners=(ListenerSettings(protocol="rich", place=Internet("tcp", 1), options=options),)
            )
        )
        (listener,) = self.read(text)

        self.assertEqual(options, listener.options)


_TEXT = st.text(
    st.sampled_from(":=[]\\@%'\"/ \n") | st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    min_size=1,
    max_size=12,
)
_ADDRESSES = st.one_of(
    st.ip_addresses(v=4).map(str), st.sampled_from(["", "::", "::1", "2001:db8::7", "fe80::1%eth0"])
)


def _as_written(place: UnixSocket) -> UnixSocket:
    """An abstract name has neither mode nor lock file."""
    return UnixSocket(place.transport, place.path) if place.path.startswith("@") else place


_STREAMS = st.one_of(
    st.builds(Internet, st.just("tcp"), st.integers(0, 65535), _ADDRESSES),
    st.builds(UnixSocket, st.just("unix"), _TEXT, st.integers(0, 0o777), st.booleans()).map(_as_written),
    st.sampled_from([Foreign("tcp6:7"), Foreign("tcp6:7:interface=\\:\\:1"), Foreign("stdio:")]),
)
_DATAGRAMS = st.one_of(
    st.builds(Internet, st.just("udp"), st.integers(0, 65535), _ADDRESSES),
    st.builds(UnixSocket, st.just("unixgram"), _TEXT, st.integers(0, 0o777)).map(_as_written),
)
_EITHER = st.one_of(
    st.builds(Inherited, name=st.text(st.characters(categories=["L", "N"]), min_size=1)),
    st.builds(Inherited, index=st.integers(0, 9999)),
)
_NETWORKS = st.ip_addresses(v=4).map(ip_network) | st.sampled_from(
    [ip_network("10.0.0.0/8"), ip_network("::/0")]
)
_LIMITS = {
    "backlog": st.integers(1, 65535),
    "receive_buffer": st.integers(2048, 2**30),
    "stall_timeout": st.floats(1e-9, 1e9, exclude_max=True),
    "answer_rate": st.floats(1, 1e6),
    "screen": st.builds(
        ScreenSettings,
        low_ports=st.lists(st.integers(1, 1023) | st.just(2049), max_size=2).map(tuple),
        rate=st.floats(0, 1e6),
        burst=st.floats(0, 1e6),
        total=st.floats(0, 1e7),
    ),
    "name": _TEXT,
}
_ALPN = st.lists(st.text(st.characters(codec="ascii"), min_size=1, max_size=9), max_size=3).map(tuple)


_SHARES = st.builds(
    Limits,
    max_connections=st.none() | st.integers(1, 10**7),
    max_per_source=st.none() | st.integers(1, 10**7),
    accept_rate=st.none() | st.floats(0.001, 1e6),
    accept_rate_per_source=st.none() | st.floats(0.001, 1e6),
)
_TIMES = st.just(0.0) | st.floats(1, 1e8)
_DOORS = st.builds(
    DoorSettings,
    allow=st.lists(_NETWORKS.map(str), max_size=2).map(tuple),
    deny=st.lists(_NETWORKS.map(str), max_size=2).map(tuple),
    limits=_SHARES,
    idle_timeout=_TIMES,
    lifetime=_TIMES,
    byte_rate=_TIMES,
    byte_rate_total=_TIMES,
    user_limits=st.booleans(),
)
_GATES = st.builds(
    GateSettings,
    limits=_SHARES,
    max_queued=st.integers(2**20, 2**40),
    ipv4_prefix=st.integers(8, 32),
    ipv6_prefix=st.integers(40, 128),
)


class FuzzTests(ConfigCase):
    """Random settings."""

    def setUp(self) -> None:
        """Have files to name."""
        super().setUp()
        self.quotes = self.file("Say less.", "quotes")
        issued = Authority().issue("example.org")
        self.cert, self.key = issued.write(self.folder)
        self.ca = str(Path(self.folder) / "ca.pem")
        Path(self.ca).write_bytes(Authority().pem)
        self.hosts = self.folder / "hosts"
        self.hosts.mkdir()
        (self.hosts / "example.org.pem").write_bytes(issued.chain + issued.key)

    def listeners(self, data: Any) -> tuple[ListenerSettings, ...]:
        """Draw some that are good."""
        options = st.one_of(
            st.just(("echo", None)),
            st.just(("time", None)),
            st.builds(ChargenOptions, allow_amplification=st.booleans()).map(lambda each: ("chargen", each)),
            st.sampled_from([QotdOptions(), QotdOptions(file=self.quotes), None]).map(
                lambda each: ("qotd", each)
            ),
        )
        tls = st.builds(
            TLSSettings,
            cert=st.just(self.cert),
            key=st.just(self.key),
            cert_dir=st.sampled_from([None, str(self.hosts)]),
            client_ca=st.sampled_from([None, self.ca]),
            alpn=_ALPN,
            min_version=st.sampled_from(["1.2", "1.3"]),
            ciphers=st.sampled_from([None, "ECDHE+AESGCM:!SHA1"]),
        )
        drawn = []
        for _ in range(data.draw(st.integers(1, 4))):
            place = data.draw(_STREAMS | _DATAGRAMS | _EITHER)
            layers: dict[str, Any] = {}
            if getattr(place, "transport", None) not in ("udp", "unixgram"):
                layers["tls"] = data.draw(st.none() | tls)
                layers["proxy"] = data.draw(st.none() | st.lists(_NETWORKS, max_size=2).map(tuple))
            limits = {name: data.draw(each) for name, each in _LIMITS.items()}
            protocol, chosen = data.draw(options)
            layers["door"] = data.draw(_DOORS)
            drawn.append(ListenerSettings(protocol=protocol, options=chosen, place=place, **limits, **layers))
        assume(not check_listeners(drawn))
        return tuple(drawn)

    @given(st.data())
    def test_what_is_written_says_the_same(self, data: Any) -> None:
        """Whatever the settings are, a service that reads the file is the same."""
        listeners, gate = self.listeners(data), data.draw(_GATES)
        read = read_config(self.file(show(Settings(listeners=listeners, gate=gate))))

        self.assertEqual(
            [effective(each) for each in listeners], [effective(each) for each in read.listeners]
        )
        self.assertEqual(gate, read.gate)

    @given(st.data())
    def test_what_was_read_is_written_the_same_again(self, data: Any) -> None:
        """A file that was written stays as it is when it is read and written."""
        text = show(Settings(listeners=self.listeners(data)))

        self.assertEqual(text, show(Settings(listeners=self.read(text))))


def effective(listener: ListenerSettings) -> ListenerSettings:
    """The same listener with all defaults filled in, and without who asked for it."""
    wire = find(listener.protocol)
    options = wire.options() if wire.options is not None and listener.options is None else listener.options
    return attrs.evolve(listener, options=options, origin="a file")
