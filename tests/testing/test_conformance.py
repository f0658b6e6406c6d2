"""Every wire protocol of ours passes the conformance kits."""

from __future__ import annotations

from twisted.internet.interfaces import IProtocolFactory, IReactorTime
from twisted.internet.protocol import AbstractDatagramProtocol
from twisted.trial.unittest import SynchronousTestCase

from echosvc.protocols import find
from echosvc.protocols.chargen import PATTERN, DatagramChargen
from echosvc.protocols.daytime import DatagramDaytime, DaytimeFactory, daytime
from echosvc.protocols.qotd import DatagramQotd, QotdFactory, QotdOptions, quote_of_the_day
from echosvc.protocols.time import DatagramTime, TimeFactory, time_octets
from echosvc.testing import DatagramConformance, StreamConformance

#: 1985-10-26 08:15:00 UTC.
NOW = 499_162_500.0


class EchoTests(StreamConformance, DatagramConformance, SynchronousTestCase):
    """Echo (RFC 862) answers with what it was sent."""

    wire = find("echo")

    def expected(self, sent: bytes) -> bytes:
        """The same."""
        return sent


class DiscardTests(StreamConformance, DatagramConformance, SynchronousTestCase):
    """Discard (RFC 863) answers nothing."""

    wire = find("discard")

    def expected(self, sent: bytes) -> None:
        """Nothing."""


class ChargenTests(StreamConformance, SynchronousTestCase):
    """Chargen (RFC 864) sends its pattern without end, whatever it is sent."""

    wire = find("chargen")
    endless = True

    def expected(self, sent: bytes) -> bytes:
        """The pattern."""
        return PATTERN * 5


class DatagramChargenTests(DatagramConformance, SynchronousTestCase):
    """Chargen answers a datagram with the beginning of its pattern."""

    wire = find("chargen")

    def make_protocol(self, reactor: IReactorTime) -> AbstractDatagramProtocol:
        """Always as many characters as are allowed."""
        return DatagramChargen(randint=lambda _, most: most)

    def expected(self, sent: bytes) -> bytes:
        """No more than was sent."""
        return PATTERN[: min(len(sent), 512)]


class QotdTests(StreamConformance, SynchronousTestCase):
    """Qotd (RFC 865) tells the quote of the day, and closes."""

    wire = find("qotd")
    closes_first = True

    def make_factory(self, reactor: IReactorTime) -> IProtocolFactory:
        """It keeps fake time."""
        return QotdFactory(now=lambda: NOW, reactor=reactor)

    def expected(self, sent: bytes) -> bytes:
        """The quote of that day."""
        return quote_of_the_day(QotdOptions().quotes, NOW)


class DatagramQotdTests(DatagramConformance, SynchronousTestCase):
    """Qotd answers a datagram with the same."""

    wire = find("qotd")

    def make_protocol(self, reactor: IReactorTime) -> AbstractDatagramProtocol:
        """On that day."""
        return DatagramQotd(now=lambda: NOW)

    expected = QotdTests.expected


class DaytimeTests(StreamConformance, SynchronousTestCase):
    """Daytime (RFC 867) tells the time in words, and closes."""

    wire = find("daytime")
    closes_first = True

    def make_factory(self, reactor: IReactorTime) -> IProtocolFactory:
        """It keeps fake time."""
        return DaytimeFactory(now=lambda: NOW, reactor=reactor)

    def expected(self, sent: bytes) -> bytes:
        """That time."""
        return daytime(NOW)


class DatagramDaytimeTests(DatagramConformance, SynchronousTestCase):
    """Daytime answers a datagram with the same."""

    wire = find("daytime")

    def make_protocol(self, reactor: IReactorTime) -> AbstractDatagramProtocol:
        """At that time."""
        return DatagramDaytime(now=lambda: NOW)

    expected = DaytimeTests.expected


class TimeTests(StreamConformance, SynchronousTestCase):
    """Time (RFC 868) tells the time as a number, and closes."""

    wire = find("time")
    closes_first = True

    def make_factory(self, reactor: IReactorTime) -> IProtocolFactory:
        """It keeps fake time."""
        return TimeFactory(now=lambda: NOW, reactor=reactor)

    def expected(self, sent: bytes) -> bytes:
        """That time."""
        return time_octets(NOW)


class DatagramTimeTests(DatagramConformance, SynchronousTestCase):
    """Time answers a datagram with the same."""

    wire = find("time")

    def make_protocol(self, reactor: IReactorTime) -> AbstractDatagramProtocol:
        """At that time."""
        return DatagramTime(now=lambda: NOW)

    expected = TimeTests.expected
