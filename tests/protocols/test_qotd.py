"""Tests of the qotd protocols."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from twisted.internet.interfaces import IUDPTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from echosvc.protocols import DatagramQotd, QotdFactory, QotdOptions, find
from echosvc.protocols.qotd import quote_of_the_day
from tests.doubles import DatagramTransport

DAY = 86_400


class QuotesCase(SynchronousTestCase):
    """Writes files of quotes."""

    def write(self, content: bytes) -> str:
        """Write a file; return its path."""
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = Path(folder.name) / "quotes"
        path.write_bytes(content)
        return str(path)


class FileTests(QuotesCase):
    """A file of quotes is read as fortune's are, and what RFC 865 does not allow is refused."""

    def quotes(self, content: bytes) -> tuple[bytes, ...]:
        """Read a file."""
        return QotdOptions(file=self.write(content)).quotes

    def refusal(self, content: bytes) -> str:
        """What is said of a file that is refused, without its path."""
        file = self.write(content)
        with self.assertRaises(ValueError) as refused:
            QotdOptions(file=file)
        said = str(refused.exception)
        self.assertTrue(said.startswith(f"file {file}"), said)
        self.assertNotIn("\n", said)
        return said[len(f"file {file}") :]

    def test_a_percent_sign_stands_between_two(self) -> None:
        """The last one may have one after it or not."""
        for content in (
            b"one\n%\ntwo\nlines\n",
            b"one\n%\ntwo\nlines\n%\n",
            b"%\none\n%\n%\n\n%\ntwo\nlines",
        ):
            self.assertEqual(self.quotes(content), (b"one\r\n", b"two\r\nlines\r\n"))

    def test_only_a_line_of_its_own_separates(self) -> None:
        """A quote may speak of percent."""
        self.assertEqual(self.quotes(b"100 %\n%d\n"), (b"100 %\r\n%d\r\n",))

    def test_blanks(self) -> None:
        """Empty lines around a quote and spaces at the ends of lines go; inside it stays as it is, tabs expanded."""
        self.assertEqual(
            self.quotes(b"\n\na  \n\n\tb\tc\n\n% \n d"), (b"a\r\n\r\n        b       c\r\n", b" d\r\n")
        )

    def test_line_ends_of_other_systems(self) -> None:
        """A file that was written on Windows is read alike, with its byte order mark."""
        self.assertEqual(
            self.quotes(b"\xef\xbb\xbfone\r\ntwo\r\n%\r\nthree\r\n"), (b"one\r\ntwo\r\n", b"three\r\n")
        )

    def test_refuses_what_is_not_ascii(self) -> None:
        """The error names the quote, the line where it begins, and the character."""
        for wrong, name in (
            (b"\xc3\xa9", "'\u00e9'"),
            (b"\xe9", "'\ufffd'"),
            (b"\a", r"'\x07'"),
            (b"\x7f", r"'\x7f'"),
        ):
            self.assertEqual(
                self.refusal(b"fine\nso far\n%\n%\ncaf" + wrong + b"\n%\nfine\n"),
                f", quote 2 (line 5): {name} is not a printing ASCII character (RFC 865)",
            )

    def test_refuses_what_is_too_long(self) -> None:
        """Fewer than 512 characters, the line ends among them."""
        self.assertEqual(len(self.quotes(b"x" * 509)[0]), 511)
        self.assertEqual(
            self.refusal(b"x" * 510),
            ", quote 1 (line 1): 512 characters with its line ends; RFC 865 has fewer than 512",
        )

    def test_refuses_a_file_without_quotes(self) -> None:
        """Empty, or with separators alone."""
        for content in (b"", b"\n \n", b"%\n%\n"):
            self.assertEqual(self.refusal(content), ": there is no quote in it")

    def test_refuses_a_file_that_cannot_be_read(self) -> None:
        """The system's reason is in the error."""
        for file, why in (("/nonexistent/quotes", "No such file or directory"), ("/", "Is a directory")):
            with self.assertRaisesRegex(ValueError, f"^file {file}: {why}$"):
                QotdOptions(file=file)

    def test_is_read_once(self) -> None:
        """A service that has dropped its privileges, or changed its root, need not find it again."""
        file = self.write(b"one")
        options = QotdOptions(file=file)
        Path(file).unlink()

        self.assertEqual(quote_of_the_day(options.quotes, 0), b"one\r\n")
        QotdFactory(options)

    def test_are_what_options_differ_in(self) -> None:
        """Options that name one file are equal only if it has the same quotes: a reload finds that it has changed."""
        path = self.write(b"one\n")
        before, again = QotdOptions(file=path), QotdOptions(file=path)
        Path(path).write_bytes(b"two\n")

        self.assertEqual(before, again)
        self.assertNotEqual(before, QotdOptions(file=path))


class BuiltInTests(SynchronousTestCase):
    """The quotes that are built in."""

    def test_are_as_the_rfc_has_them(self) -> None:
        """They pass the same check as everyone's: 16 of them, each with where it comes from."""
        quotes = QotdOptions().quotes

        self.assertEqual(len(set(quotes)), 16)
        for quote in quotes:
            self.assertRegex(quote, rb"(?s)^[!-~].*\r\n        -- [ -~]+\r\n$")
            self.assertLess(max(map(len, quote.splitlines())), 80)


class QotdTests(QuotesCase):
    """Who asks is told the quote of the day."""

    def test_each_quote_has_its_day(self) -> None:
        """One after the other, from midnight to midnight in UTC, and then from the first again."""
        quotes = (b"one", b"two", b"three")
        for seconds, quote in (
            (0, b"one"),
            (DAY - 0.1, b"one"),
            (DAY, b"two"),
            (2.5 * DAY, b"three"),
            (3 * DAY, b"one"),
        ):
            self.assertEqual(quote_of_the_day(quotes, seconds), quote)

    def test_a_connection_is_told(self) -> None:
        """The quote of the day when it was made, and then it is closed."""
        clock = Clock()
        factory = QotdFactory(QotdOptions(file=self.write(b"one\n%\ntwo")), now=clock.seconds, reactor=clock)
        told = []
        for _ in range(3):
            transport = StringTransport()
            factory.buildProtocol(None).makeConnection(transport)
            self.assertTrue(transport.disconnecting)
            told.append(transport.value())
            clock.advance(DAY)

        self.assertEqual(told, [b"one\r\n", b"two\r\n", b"one\r\n"])

    def test_a_datagram_is_answered(self) -> None:
        """The empty one and any other, each with the quote of the day."""
        clock = Clock()
        transport = DatagramTransport()
        qotd = DatagramQotd(QotdOptions(file=self.write(b"one\n%\ntwo")), now=clock.seconds)
        qotd.makeConnection(cast(IUDPTransport, transport))
        for datagram in (b"", b"another, please"):
            qotd.datagramReceived(datagram, ("192.0.2.1", 1025))
        clock.advance(DAY)
        qotd.datagramReceived(b"", ("192.0.2.1", 1025))

        self.assertEqual([answer for answer, _ in transport.sent], [b"one\r\n", b"one\r\n", b"two\r\n"])

    def test_quotes_are_built_in(self) -> None:
        """Without a file there is something to say, to streams and to datagrams the same."""
        stream, datagrams = StringTransport(), DatagramTransport()
        QotdFactory(now=lambda: 0, reactor=Clock()).buildProtocol(None).makeConnection(stream)
        qotd = DatagramQotd(now=lambda: 0)
        qotd.makeConnection(cast(IUDPTransport, datagrams))
        qotd.datagramReceived(b"", ("192.0.2.1", 1025))

        self.assertEqual(stream.value(), QotdOptions().quotes[0])
        self.assertEqual(datagrams.sent, [(QotdOptions().quotes[0], ("192.0.2.1", 1025))])

    def test_the_service_knows_it(self) -> None:
        """Qotd is RFC 865, has a file of quotes, and answers an empty datagram with more."""
        wire = find("qotd")
        assert wire.stream is not None
        assert wire.datagram is not None

        self.assertEqual((wire.rfc, wire.options, wire.amplifies), ("RFC 865", QotdOptions, True))
        self.assertIsInstance(wire.stream(QotdOptions()), QotdFactory)
        self.assertIsInstance(wire.datagram(QotdOptions()), DatagramQotd)
