"""Tests of shout, in memory: the conformance kit of echosvc, and what is shout's own."""

from __future__ import annotations

from importlib.metadata import entry_points

from twisted.trial.unittest import SynchronousTestCase

from echosvc.protocols import find
from echosvc.testing import DatagramConformance, MemoryDatagramPort, MemoryListener, StreamConformance
from echosvc_shout import SHOUT, ShoutOptions


class StreamConformanceTests(StreamConformance, SynchronousTestCase):
    """Shout serves connections as every wire protocol must."""

    wire = SHOUT

    def expected(self, sent: bytes) -> bytes:
        """Expect upper case."""
        return sent.upper()


class SwappedStreamConformanceTests(StreamConformance, SynchronousTestCase):
    """So it does with settings."""

    wire = SHOUT
    options = ShoutOptions(mode="swap")

    def expected(self, sent: bytes) -> bytes:
        """Expect upper for lower and lower for upper."""
        return sent.swapcase()


class DatagramConformanceTests(DatagramConformance, SynchronousTestCase):
    """Shout answers datagrams as every wire protocol must."""

    wire = SHOUT

    def expected(self, sent: bytes) -> bytes:
        """Expect upper case."""
        return sent.upper()


class ModeTests(SynchronousTestCase):
    """What `mode` does."""

    def test_each_mode_has_its_letters(self) -> None:
        """Letters are raised, lowered, or swapped, over a stream and in a datagram alike."""
        for mode, answer in (("upper", b"ECHO 862"), ("lower", b"echo 862"), ("swap", b"eCHO 862")):
            options = ShoutOptions(mode=mode)
            client = MemoryListener(SHOUT, options=options).connect()
            port = MemoryDatagramPort(SHOUT, options=options)

            client.send(b"Echo 862")
            port.deliver(b"Echo 862")

            self.assertEqual(client.receive(), answer)
            self.assertEqual([payload for payload, _ in port.take()], [answer])

    def test_upper_is_the_default(self) -> None:
        """Without settings, shout shouts."""
        client = MemoryListener(SHOUT).connect()

        client.send(b"hello")

        self.assertEqual(client.receive(), b"HELLO")

    def test_only_ascii_changes(self) -> None:
        """Bytes that are no ASCII letters stay what they are: UTF-8 is neither broken nor understood."""
        client = MemoryListener(SHOUT).connect()

        client.send("größer, ÿ, \0, €".encode())

        self.assertEqual(client.receive().decode(), "GRößER, ÿ, \0, €")

    def test_an_unknown_mode_is_refused(self) -> None:
        """The message names the option and says what would be right."""
        problem = self.assertRaises(ValueError, ShoutOptions, mode="loud")

        self.assertIn("'mode' must be in ('upper', 'lower', 'swap')", str(problem))


class EntryPointTests(SynchronousTestCase):
    """The package, once it is installed."""

    def test_it_is_found_by_name(self) -> None:
        """A listener finds shout by the name that the package's entry point gives it."""
        self.assertIn("shout", entry_points(group="echosvc.protocols").names)
        self.assertIs(find("shout"), SHOUT)
