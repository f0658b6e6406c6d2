"""Tests of the daytime protocols."""

from __future__ import annotations

import os
import time
from typing import cast

from twisted.internet.interfaces import IUDPTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from echosvc.protocols import DatagramDaytime, DaytimeFactory, find
from echosvc.protocols.daytime import daytime
from tests.doubles import DatagramTransport
from tests.protocols.doubles import moment

MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


class DaytimeLineTests(SynchronousTestCase):
    """The date and the time as a line."""

    def test_form_of_the_rfc(self) -> None:
        """Weekday, month, day, year, time and zone stand as in RFC 867's example; it is one line."""
        self.assertEqual(
            daytime(moment(1982, 2, 22, 17, 37, 43)), b"Monday, February 22, 1982 17:37:43-UTC\r\n"
        )

    def test_numbers(self) -> None:
        """The time has two digits each, the day as many as it needs; a second that has begun is not over."""
        self.assertEqual(
            daytime(moment(2026, 3, 5, 4, 3, 2) + 0.9), b"Thursday, March 5, 2026 04:03:02-UTC\r\n"
        )

    def test_every_month_has_its_english_name(self) -> None:
        """From January to December."""
        for number, name in enumerate(MONTHS, 1):
            self.assertIn(f", {name} 15, 2026 ".encode(), daytime(moment(2026, number, 15, 0, 0, 0)))

    def test_every_day_has_its_english_name(self) -> None:
        """From Monday, 16 November 2026 on."""
        for number, name in enumerate(DAYS, 16):
            line = f"{name}, November {number}, 2026 12:00:00-UTC\r\n".encode()
            self.assertEqual(daytime(moment(2026, 11, number, 12, 0, 0)), line)

    def test_is_in_utc_wherever_the_machine_is(self) -> None:
        """The time zone of the machine makes no difference."""

        def restore() -> None:
            os.environ.pop("TZ", None)
            if before is not None:
                os.environ["TZ"] = before
            time.tzset()

        before = os.environ.get("TZ")
        self.addCleanup(restore)
        os.environ["TZ"] = "NOWHERE+5"
        time.tzset()

        self.assertEqual(daytime(0), b"Thursday, January 1, 1970 00:00:00-UTC\r\n")


class DaytimeTests(SynchronousTestCase):
    """Who asks is told the date and the time."""

    def test_a_connection_is_told(self) -> None:
        """One line, of the moment when it was made, and then the connection is closed."""
        clock = Clock()
        factory = DaytimeFactory(now=clock.seconds, reactor=clock)
        for _ in range(2):
            clock.advance(86_400)
            transport = StringTransport()
            factory.buildProtocol(None).makeConnection(transport)

            self.assertEqual(transport.value(), daytime(clock.seconds()))
            self.assertTrue(transport.disconnecting)

    def test_a_datagram_is_answered(self) -> None:
        """The empty one and any other, each with the line."""
        transport = DatagramTransport()
        protocol = DatagramDaytime(now=lambda: 5.5)
        protocol.makeConnection(cast(IUDPTransport, transport))
        for datagram in (b"", b"what day is it?"):
            protocol.datagramReceived(datagram, ("192.0.2.1", 1025))

        self.assertEqual(transport.sent, [(daytime(5), ("192.0.2.1", 1025))] * 2)

    def test_the_service_knows_it(self) -> None:
        """Daytime is RFC 867, has no settings, and answers an empty datagram with more."""
        wire = find("daytime")
        assert wire.stream is not None
        assert wire.datagram is not None

        self.assertEqual((wire.rfc, wire.options, wire.amplifies), ("RFC 867", None, True))
        self.assertIsInstance(wire.stream(), DaytimeFactory)
        self.assertIsInstance(wire.datagram(), DatagramDaytime)
