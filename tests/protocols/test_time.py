"""Tests of the time protocols."""

from __future__ import annotations

from typing import cast

from twisted.internet.interfaces import IUDPTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from echosvc.protocols import DatagramTime, TimeFactory, find
from echosvc.protocols.time import time_octets
from tests.doubles import DatagramTransport
from tests.protocols.doubles import moment


class TimeOctetsTests(SynchronousTestCase):
    """The time as 32 bits."""

    def test_examples_of_the_rfc(self) -> None:
        """RFC 868 itself says what five moments are; the last is before 1900 and negative there."""
        for seconds, utc in [
            (1, (1900, 1, 1, 0, 0, 1)),
            (2_208_988_800, (1970, 1, 1, 0, 0, 0)),
            (2_398_291_200, (1976, 1, 1, 0, 0, 0)),
            (2_524_521_600, (1980, 1, 1, 0, 0, 0)),
            (2_629_584_000, (1983, 5, 1, 0, 0, 0)),
            (-1_297_728_000 % 2**32, (1858, 11, 17, 0, 0, 0)),
        ]:
            self.assertEqual(time_octets(moment(*utc)), seconds.to_bytes(4, "big"), utc)

    def test_begins_again_in_2036(self) -> None:
        """The 32 bits are used up on 7 February 2036 at 06:28:16 UTC."""
        end = moment(2036, 2, 7, 6, 28, 16)

        self.assertEqual(time_octets(end - 1), b"\xff\xff\xff\xff")
        self.assertEqual(time_octets(end), b"\x00\x00\x00\x00")
        self.assertEqual(time_octets(end + 1), b"\x00\x00\x00\x01")

    def test_tells_full_seconds(self) -> None:
        """A second that has begun is not over, before 1970 either."""
        self.assertEqual(time_octets(0.999), time_octets(0))
        self.assertEqual(time_octets(-0.001), time_octets(-1))


class TimeTests(SynchronousTestCase):
    """Who asks is told the time."""

    def test_a_connection_is_told_the_time(self) -> None:
        """Four octets, of the moment when it was made, and then the connection is closed."""
        clock = Clock()
        factory = TimeFactory(now=clock.seconds, reactor=clock)
        for _ in range(2):
            clock.advance(10)
            transport = StringTransport()
            factory.buildProtocol(None).makeConnection(transport)

            self.assertEqual(transport.value(), time_octets(clock.seconds()))
            self.assertTrue(transport.disconnecting)

    def test_a_datagram_is_answered_with_the_time(self) -> None:
        """The empty one, with which RFC 868 asks, and any other."""
        transport = DatagramTransport()
        time = DatagramTime(now=lambda: 5.5)
        time.makeConnection(cast(IUDPTransport, transport))
        for datagram in (b"", b"what time is it?"):
            time.datagramReceived(datagram, ("192.0.2.1", 1025))

        self.assertEqual(transport.sent, [(time_octets(5), ("192.0.2.1", 1025))] * 2)

    def test_the_service_knows_it(self) -> None:
        """Time is RFC 868, has no settings, and answers an empty datagram with more."""
        wire = find("time")
        assert wire.stream is not None
        assert wire.datagram is not None

        self.assertEqual((wire.rfc, wire.options, wire.amplifies), ("RFC 868", None, True))
        self.assertIsInstance(wire.stream(), TimeFactory)
        self.assertIsInstance(wire.datagram(), DatagramTime)
