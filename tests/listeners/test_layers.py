"""Tests of what goes between the bytes of a stream and its protocol. TLS and PROXY have tests of their own."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_network
from typing import Any

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from echosvc.listeners import TLSSettings, certificates
from echosvc.listeners.layers import Layers
from echosvc.protocols import EchoFactory
from echosvc.transports import tls
from echosvc.transports.proxy import ProxyFactory
from tests.listeners.cases import FakeCertificates, tcp_listener

PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@attrs.frozen
class FakeTLSFactory:
    """Remembers what it is put around."""

    inner: Any
    handshakes: Any
    clock: Any
    refused: Counter[str] = attrs.field(kw_only=True)

    @property
    def certificates(self) -> FakeCertificates:
        """Whose contexts it uses."""
        (found,) = {each.__self__ for each in (self.handshakes.context, self.handshakes.context_for)}
        assert isinstance(found, FakeCertificates)
        return found

    def doStart(self) -> None:
        """Nothing to do."""

    def doStop(self) -> None:
        """Nothing to do."""


class LayerTests(SynchronousTestCase):
    """Each layer is there if it was asked for."""

    def setUp(self) -> None:
        """Do without files."""
        self.patch(certificates, "Certificates", FakeCertificates)
        self.patch(tls, "TLSFactory", FakeTLSFactory)
        self.factory = EchoFactory()
        self.clock = Clock()

    def layers(self, **settings: Any) -> Layers:
        """Make the layers of a listener."""
        return Layers(tcp_listener(**settings), "echo")

    def test_none(self) -> None:
        """A plain listener's factory is served as it is, there is nothing to reload and nothing to say."""
        layers = self.layers()
        layers.reload()

        self.assertIs(self.factory, layers.around(self.factory, self.clock))
        self.assertEqual([], layers.warnings())
        self.assertEqual({}, layers.expires())
        self.assertEqual("", str(layers))
        self.assertEqual({}, layers.refused)

    def test_tls(self) -> None:
        """Around the factory, with the listener's certificates, on its clock, counted with the listener's refusals."""
        layers = self.layers(tls=TLSSettings(cert="a", key="b"))
        factory: Any = layers.around(self.factory, self.clock)

        self.assertIs(self.factory, factory.inner)
        self.assertEqual(TLSSettings(cert="a", key="b"), factory.certificates.settings)
        self.assertIs(self.clock, factory.clock)
        self.assertIs(layers.refused, factory.refused)
        self.assertEqual(", TLS", str(layers))

    def test_tls_offers_the_protocol_by_name(self) -> None:
        """For whoever agrees on one."""
        factory: Any = self.layers(tls=TLSSettings(cert_dir="d")).around(self.factory, self.clock)

        self.assertEqual(("echo",), factory.certificates.alpn)
        self.assertEqual([], factory.handshakes.required)

    def test_tls_requires_a_protocol_that_the_settings_name(self) -> None:
        """A client that offers only others is refused."""
        factory: Any = self.layers(tls=TLSSettings(cert_dir="d", alpn=("a", "b"))).around(
            self.factory, self.clock
        )

        self.assertEqual([b"a", b"b"], factory.handshakes.required)

    def test_certificates_are_read_again(self) -> None:
        """Those that the factory has, so that connections to come are shown what was read."""
        layers = self.layers(tls=TLSSettings(cert="a", key="b"))
        factory: Any = layers.around(self.factory, self.clock)
        layers.reload()

        self.assertEqual(1, factory.certificates.reloads)
        self.assertEqual(["it has expired"], layers.warnings())
        self.assertEqual({"certificate": 5.0}, layers.expires())

    def test_proxy(self) -> None:
        """Around the factory, and counted with the listener's refusals."""
        layers = self.layers(proxy=PROXIES)
        factory = layers.around(self.factory, self.clock)
        assert isinstance(factory, ProxyFactory)

        self.assertIs(self.factory, factory.inner)
        self.assertIs(self.clock, factory.clock)
        self.assertIsNotNone(factory.buildProtocol(IPv4Address("TCP", "10.1.2.3", 1)))
        self.assertIsNone(factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1)))
        self.assertEqual({"proxy-untrusted": 1}, layers.refused)
        self.assertEqual(", PROXY from 10.0.0.0/8, fd00::/8", str(layers))
        assert layers.trusts is not None
        self.assertTrue(layers.trusts(IPv4Address("TCP", "10.1.2.3", 1)))
        self.assertFalse(layers.trusts(IPv4Address("TCP", "192.0.2.1", 1)))
        self.assertIsNone(self.layers().trusts)

    def test_proxy_from_whoever_may_connect(self) -> None:
        """On a UNIX socket no network is needed; and no network is still a header."""
        layers = self.layers(proxy=())

        self.assertIsInstance(layers.around(self.factory, self.clock), ProxyFactory)
        self.assertEqual(", PROXY from a UNIX socket", str(layers))

    def test_the_proxy_speaks_before_tls(self) -> None:
        """The header is the first thing on the wire, plain, as proxies send it."""
        layers = self.layers(proxy=PROXIES, tls=TLSSettings(cert="a", key="b"))
        factory: Any = layers.around(self.factory, self.clock)

        self.assertIsInstance(factory, ProxyFactory)
        self.assertIsInstance(factory.inner, FakeTLSFactory)
        self.assertIs(self.factory, factory.inner.inner)
        self.assertEqual(", PROXY from 10.0.0.0/8, fd00::/8, TLS", str(layers))
