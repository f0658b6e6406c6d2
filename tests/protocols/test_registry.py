"""Tests of the registry of wire protocols."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from echosvc.protocols import DatagramEcho, EchoFactory, WireProtocol, find, known, register, registry


class RegistryTests(SynchronousTestCase):
    """Wire protocols are found by name."""

    def setUp(self) -> None:
        """Leave the registry as it was."""
        self.patch(registry, "_known", dict(registry._known))

    def test_knows_echo(self) -> None:
        """Echo is RFC 862, over streams and datagrams."""
        echo = find("echo")

        self.assertEqual(echo.rfc, "RFC 862")
        self.assertIs(echo.stream, EchoFactory)
        self.assertIs(echo.datagram, DatagramEcho)

    def test_finds_what_was_registered(self) -> None:
        """A protocol of one's own is one call away."""
        mine = register(WireProtocol(name="a-mine", rfc="none", summary="x", stream=EchoFactory))

        self.assertIs(find("a-mine"), mine)
        self.assertEqual([each.name for each in known()], ["a-mine", "echo"])

    def test_refuses_a_name_twice(self) -> None:
        """Two protocols cannot share a name; registering the same one again does nothing."""
        register(find("echo"))

        with self.assertRaisesRegex(ValueError, "echo: there is already"):
            register(WireProtocol(name="echo", rfc="none", summary="x", stream=EchoFactory))

    def test_refuses_a_protocol_without_any_form(self) -> None:
        """A protocol that is spoken over nothing is a mistake."""
        with self.assertRaisesRegex(ValueError, "needs a stream or a datagram form"):
            register(WireProtocol(name="none", rfc="none", summary="x"))

    def test_does_not_find_what_is_not_there(self) -> None:
        """An unknown name is a KeyError."""
        self.assertRaises(KeyError, find, "ecko")
