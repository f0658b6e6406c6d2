"""Tests of what gathers a TLS client's first message."""

from __future__ import annotations

import contextlib
import ssl
import tracemalloc

from twisted.trial.unittest import SynchronousTestCase

from echosvc.transports.client_hello import HELLO, RECORDS, ClientHello, HelloGatherer


def client_hello(
    host: str | None = "localhost",
    protocols: tuple[str, ...] = (),
    *,
    most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    options: int = 0,
) -> bytes:
    """Let the standard library's client say hello."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = most
    context.options |= options
    context.check_hostname = False
    if protocols:
        context.set_alpn_protocols(list(protocols))
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=host)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def in_records(message: bytes, size: int) -> bytes:
    """Cut a handshake message into records of a size."""
    pieces = [message[start : start + size] for start in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + len(each).to_bytes(2) + each for each in pieces)


class GatheringTests(SynchronousTestCase):
    """When it is whole."""

    def fed(self, data: bytes, step: int) -> tuple[int, HelloGatherer]:
        """Feed some bytes at a time; return after how many it was enough, 0 for never."""
        gatherer = HelloGatherer()
        for start in range(0, len(data), step):
            if gatherer.feed(data[start : start + step]):
                return start + step, gatherer
            if gatherer.is_too_long:
                break
        return 0, gatherer

    def test_is_whole_with_its_last_byte(self) -> None:
        """Neither before nor after, however it is cut into segments and records."""
        hello = client_hello()
        for whole in (hello, in_records(hello[5:], 100), in_records(hello[5:], 40)):
            count, gatherer = self.fed(whole, 1)

            self.assertEqual(count, len(whole))
            self.assertEqual(gatherer.data, whole)
            self.assertEqual(gatherer.hello().server_name, "localhost")

    def test_keeps_what_comes_behind_it(self) -> None:
        """OpenSSL has it all."""
        hello = client_hello() + b"more"
        count, gatherer = self.fed(hello, len(hello))

        self.assertEqual((count, gatherer.data), (len(hello), hello))

    def test_hands_on_what_is_no_hello(self) -> None:
        """OpenSSL knows which alert is right: for another message, another kind of record, an empty one, one too long, none at all."""
        for other in (
            in_records(b"\x02\x00\x00\x10" + bytes(16), 100),
            b"\x17" + client_hello()[1:],
            b"\x16\x03\x01\x00\x00",
            b"\x16\x03\x01\x40\x01",
            b"GET / HTTP/1.1\r\n\r\n",
        ):
            count, gatherer = self.fed(other, 1)

            self.assertEqual((0 < count <= len(other), gatherer.hello()), (True, ClientHello()))

    def test_one_that_announces_too_much_is_refused_at_once(self) -> None:
        """9 bytes are enough to know."""
        count, gatherer = self.fed(bytes.fromhex("16030104000100fffa"), 1)

        self.assertEqual((count, gatherer.is_too_long, len(gatherer.data)), (0, True, 9))

    def test_many_small_records_are_refused(self) -> None:
        """Each costs time: a message of 16 KB in records of a byte would take a tenth of a second."""
        hello = b"\x01" + (HELLO - 9).to_bytes(3) + bytes(HELLO - 9)
        count, gatherer = self.fed(in_records(hello, 1), 6)
        self.assertEqual((count, gatherer.is_too_long), (0, True))
        self.assertLessEqual(len(gatherer.data), 6 * (RECORDS + 1))

    def test_the_longest(self) -> None:
        """It takes 16 KiB, headers of records included; a byte more is refused before it has come."""
        for size in (HELLO, 5000):
            headers = 5 * -(-HELLO // (size + 5))
            for more in (0, 1):
                length = HELLO - headers - 4 + more
                data = in_records(b"\x01" + length.to_bytes(3) + bytes(length), size)
                count, gatherer = self.fed(data, 1)

                self.assertEqual((len(data), gatherer.is_too_long), (HELLO + more, bool(more)))
                self.assertEqual(count, 0 if more else HELLO)

    def test_a_record_that_announces_too_much_is_refused_at_once(self) -> None:
        """However little the message has announced: nothing past the bound is ever waited for."""
        begun = b"\x01" + (16000).to_bytes(3) + bytes(14986)
        count, gatherer = self.fed(
            in_records(begun, HELLO) + bytes.fromhex("1603014000") + bytes(16300), 1000
        )

        self.assertEqual((count, gatherer.is_too_long), (0, True))
        self.assertLess(len(gatherer.data), HELLO)

    def test_every_byte_is_kept_once(self) -> None:
        """What waits for the rest takes the memory of what has come, and a few objects."""
        hello = b"\x01" + (HELLO - 100).to_bytes(3) + bytes(HELLO - 100)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        gatherer = HelloGatherer()
        self.assertFalse(gatherer.feed(in_records(hello, 5000)[:-1]))

        self.assertLess(tracemalloc.get_traced_memory()[0], HELLO + 1024)


class ParsingTests(SynchronousTestCase):
    """What it asks for."""

    def hello_of(self, data: bytes) -> ClientHello:
        """Gather it whole."""
        gatherer = HelloGatherer()
        self.assertTrue(gatherer.feed(data))
        return gatherer.hello()

    def test_names_a_host_and_protocols(self) -> None:
        """In lower case, and in the client's order."""
        self.assertEqual(
            self.hello_of(client_hello("LocalHost", ("h2", "echo"))),
            ClientHello("localhost", (b"h2", b"echo"), has_tickets=True),
        )

    def test_may_name_neither(self) -> None:
        """Then there is neither."""
        self.assertEqual(self.hello_of(client_hello(None)), ClientHello(has_tickets=True))

    def test_tells_who_keeps_the_sessions(self) -> None:
        """The client, by TLS 1.3 or by tickets of TLS 1.2; or the server. What a record has behind the message does not count."""
        old = ssl.TLSVersion.TLSv1_2
        for most, options, has_tickets in (
            (old, ssl.OP_NO_TICKET, False),
            (old, 0, True),
            (ssl.TLSVersion.TLSv1_3, ssl.OP_NO_TICKET, True),
        ):
            hello = client_hello(most=most, options=options)
            self.assertEqual(self.hello_of(hello).has_tickets, has_tickets)
            behind = hello[5:] + bytes.fromhex("00230000")
            self.assertEqual(self.hello_of(in_records(behind, 16000)).has_tickets, has_tickets)

    def test_a_host_that_is_not_ascii(self) -> None:
        """It is none (RFC 6066 section 3); what the client offers to speak is known all the same."""
        hello = client_hello("localhost", ("h2",)).replace(b"localhost", b"loc\xffl\xfeost")

        self.assertEqual(self.hello_of(hello), ClientHello(None, (b"h2",), has_tickets=True))

    def test_one_that_makes_no_sense_asks_for_nothing(self) -> None:
        """Whatever is damaged in it: OpenSSL judges it, and nothing is raised here."""
        whole = client_hello("localhost", ("h2", "echo"))
        for at in range(9, len(whole)):
            for value in (0, 0xFF):
                damaged = whole[:at] + bytes([value]) + whole[at + 1 :]
                self.assertIsInstance(self.hello_of(damaged), ClientHello)
            cut = whole[9:at]
            self.assertIsInstance(
                self.hello_of(in_records(b"\x01" + len(cut).to_bytes(3) + cut, HELLO)), ClientHello
            )
