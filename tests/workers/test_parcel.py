"""Tests of settings on their way to a worker."""

from __future__ import annotations

from ipaddress import ip_network

from twisted.trial.unittest import SynchronousTestCase

from echosvc.admission import DoorSettings, GateSettings, Limits, ScreenSettings
from echosvc.listeners import Inherited, Internet, ListenerSettings, TLSSettings, UnixSocket
from echosvc.protocols import ChargenOptions
from echosvc.settings import Settings
from echosvc.workers.parcel import pack, unpack

RICH = Settings(
    listeners=(
        ListenerSettings(
            protocol="echo",
            place=Internet("tcp", 8080, "::1"),
            name="lines",
            origin="--listen é",
            interface_origin="--interface ::1",
            tls=TLSSettings(cert="c", key="k", alpn=("a", "b")),
            proxy=(ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")),
            door=DoorSettings(allow=("10.0.0.0/8", "@file"), limits=Limits(max_connections=5), lifetime=7.5),
        ),
        ListenerSettings(
            protocol="chargen",
            place=UnixSocket("unixgram", "@name", mode=0o600, lockfile=True),
            options=ChargenOptions(),
            screen=ScreenSettings(low_ports=(862, 2049), rate=5.0),
            proxy=(),
        ),
        ListenerSettings(protocol="discard", place=Inherited(index=3), stall_timeout=1.5),
    ),
    gate=GateSettings(limits=Limits(accept_rate=0.5), ipv6_prefix=56),
    grace=3.5,
    workers="auto",
)


class ParcelTests(SynchronousTestCase):
    """What is unpacked."""

    def test_it_is_what_was_packed(self) -> None:
        """Every kind of place, network and option, and who asked for it."""
        self.assertEqual(unpack(pack(RICH)), RICH)

    def test_so_are_defaults(self) -> None:
        """A setting that is added and cannot be packed is found here."""
        plain = Settings(listeners=(ListenerSettings(protocol="echo", place=Internet("udp", 7)),))

        self.assertEqual(unpack(pack(plain)), plain)

    def test_the_options_of_a_protocol_keep_their_values(self) -> None:
        """Not only their defaults."""
        other = ChargenOptions(allow_amplification=True)
        settings = Settings(
            listeners=(ListenerSettings(protocol="chargen", place=Internet("tcp", 19), options=other),)
        )

        self.assertEqual(unpack(pack(settings)), settings)

    def test_an_unknown_protocol_is_named(self) -> None:
        """It was registered by the parent's program, and this one has not."""
        packed = pack(RICH).replace('"chargen"', '"nobody"')

        problem = self.assertRaises(ValueError, unpack, packed)

        self.assertIn("nobody", str(problem))
