"""Tests of HTTP for a few short answers."""

from __future__ import annotations

import tempfile
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import HTTPChannel, Request

from echosvc.admin.pages import Answer
from echosvc.admin.server import DEADLINE, MOST, REQUEST, AdminFactory

#: What bad requests are made of, beside bytes at random.
PIECES = [
    b"GET / HTTP/1.1\r\n",
    b"POST /metrics HTTP/1.0\r\n",
    b"\r\n",
    b"A: b\r\n",
    b"Accept: application/openmetrics-text;version=",
    b"Content-Length: ",
    b"9" * 5000,
    b"Transfer-Encoding: chunked\r\n",
    b"Cookie: ",
    b"Content-Type: multipart/form-data; boundary=",
]


class Peer(StringTransport):
    """One client's connection.

    Attributes:
        ended: How it was ended: ``closed`` or ``aborted``; None if it is open.
    """

    ended: str | None = None
    protocol: Any

    def loseConnection(self) -> None:
        """Close, and tell."""
        self._end("closed")

    def abortConnection(self) -> None:
        """Abort, and tell."""
        self._end("aborted")

    def _end(self, how: str) -> None:
        if self.ended is None:
            self.ended, self.disconnecting = how, True
            self.protocol.connectionLost(Failure(ConnectionDone()))


class ServerCase(SynchronousTestCase):
    """Serves, and connects clients."""

    def setUp(self) -> None:
        """Answer with the path, and what the client can read."""
        self.clock = Clock()
        self.answers: Any = lambda path, accept: succeed(Answer.text(200, f"{path}|{accept}"))
        self.factory = AdminFactory(self.answer, self.clock)

    def answer(self, path: str, accept: str) -> Deferred[Answer]:
        """Answer as the test has it by now."""
        found: Deferred[Answer] = self.answers(path, accept)
        return found

    def connect(self) -> Peer:
        """Connect one client."""
        peer = Peer()
        peer.protocol = self.factory.buildProtocol(None)
        peer.protocol.makeConnection(peer)
        return peer

    def say(self, *pieces: bytes) -> Peer:
        """Connect a client that says something, in pieces, as long as it can."""
        peer = self.connect()
        for piece in pieces:
            if peer.ended is None:
                peer.protocol.dataReceived(piece)
        return peer

    def ask(self, *lines: bytes) -> tuple[bytes, bytes]:
        """Ask something; return the first line of the answer and its body. The connection is closed."""
        with capturedLogs() as events:
            peer = self.say(b"\r\n".join([*lines, b"", b""]))
        self.assertEqual([], events)
        self.assertEqual("closed", peer.ended)
        head, _, body = peer.value().partition(b"\r\n\r\n")
        return head.split(b"\r\n")[0], body


class AnswerTests(ServerCase):
    """Good requests."""

    def test_get(self) -> None:
        """Is answered, with length and kind, and the connection closed; nothing is logged."""
        peer = self.say(b"GET /x?y=z HTTP/1.1\r\nHost: a\r\nAccept: text/a\r\nAccept: text/b\r\n\r\n")
        head, _, body = peer.value().partition(b"\r\n\r\n")

        self.assertEqual(b"/x|text/a, text/b", body)
        self.assertEqual(
            [
                b"HTTP/1.1 200 OK",
                b"Cache-Control: no-store",
                b"Connection: close",
                b"Content-Length: 17",
                b"Content-Type: text/plain; charset=utf-8",
            ],
            sorted(head.split(b"\r\n"), key=lambda line: (not line.startswith(b"HTTP"), line)),
        )
        self.assertEqual("closed", peer.ended)

    def test_head(self) -> None:
        """The same without a body."""
        peer = self.say(b"HEAD /x HTTP/1.0\r\n\r\n")

        self.assertTrue(peer.value().endswith(b"\r\n\r\n"))
        self.assertIn(b"\r\nContent-Length: 3\r\n", peer.value())

    def test_codes(self) -> None:
        """As the page says."""
        self.answers = lambda *_: succeed(Answer.text(503, "no"))

        self.assertEqual((b"HTTP/1.1 503 Service Unavailable", b"no"), self.ask(b"GET / HTTP/1.1"))

    def test_other_methods(self) -> None:
        """There is nothing to be changed here."""
        for method in (b"POST", b"PUT", b"DELETE", b"OPTIONS", b"CONNECT", b"X"):
            code, _ = self.ask(method + b" / HTTP/1.1", b"Host: a")
            self.assertEqual(b"HTTP/1.1 405 Method Not Allowed", code)

    def test_in_pieces(self) -> None:
        """However it comes."""
        request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        peer = self.say(*(request[place : place + 1] for place in range(len(request))))

        self.assertIn(b"200 OK", peer.value())

    def test_one_request(self) -> None:
        """A second one on the same connection is not answered."""
        peer = self.say(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n")

        self.assertEqual(1, peer.value().count(b"HTTP/1.1 200 OK"))

    def test_an_answer_that_takes_a_while(self) -> None:
        """Is waited for, and sent when it is there."""
        later: Deferred[Answer] = Deferred()
        self.answers = lambda *_: later
        peer = self.say(b"GET / HTTP/1.1\r\n\r\n")
        self.assertEqual((b"", None), (peer.value(), peer.ended))
        later.callback(Answer.text(200, "now"))

        self.assertTrue(peer.value().endswith(b"now"))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_whoever_does_not_wait(self) -> None:
        """Is not answered, what is done for them is stopped, and nothing is logged of it."""
        stopped: list[Any] = []
        self.answers = lambda *_: Deferred(stopped.append)
        peer = self.say(b"GET / HTTP/1.1\r\n\r\n")
        with capturedLogs() as events:
            peer.abortConnection()

        self.assertEqual((1, b"", []), (len(stopped), peer.value(), events))

    def test_a_page_that_fails(self) -> None:
        """Is a code for the client, who learns nothing of the reason, and the reason for the log."""
        self.answers = lambda *_: fail(ValueError("the secret reason"))
        with capturedLogs() as events:
            peer = self.say(b"GET /metrics HTTP/1.1\r\n\r\n")

        self.assertTrue(peer.value().startswith(b"HTTP/1.1 500 "))
        self.assertNotIn(b"secret", peer.value())
        self.assertEqual(["the secret reason"], [str(each["log_failure"].value) for each in events])
        self.flushLoggedErrors(ValueError)

    def test_a_page_that_raises(self) -> None:
        """Likewise where it fails at once: a fault of ours is no bad request."""
        self.answers = lambda *_: int("x")
        with capturedLogs() as events:
            peer = self.say(b"GET /metrics HTTP/1.1\r\n\r\n")

        self.assertEqual((b"HTTP/1.1 500 ", 1), (peer.value()[:13], len(events)))
        self.flushLoggedErrors(ValueError)


class HostTests(ServerCase):
    """Requests for other hosts, as a browser makes them after DNS rebinding."""

    def setUp(self) -> None:
        """Answer only to names of this machine."""
        super().setUp()
        self.factory = AdminFactory(self.answer, self.clock, is_local=True)

    def test_other_hosts(self) -> None:
        """Are refused, with any method and for any page, and the answer says what to ask for."""
        self.answers = lambda *_: self.fail("asked")
        for line in (
            b"GET /metrics HTTP/1.1",
            b"GET /metrics HTTP/1.0",
            b"HEAD / HTTP/1.1",
            b"POST / HTTP/1.1",
        ):
            code, body = self.ask(line, b"Host: evil.example:9007")
            self.assertEqual(b"421 Misdirected Request", code.partition(b" ")[2])
            self.assertIn(b"" if line.startswith(b"HEAD") else b"localhost", body)

    def test_this_machine(self) -> None:
        """Is answered to, also by who names no host, which no browser does."""
        for lines in ((b"Host: LOCALHOST:9007",), (b"Host: 127.0.0.1",), (b"host:[::1]:9007",), ()):
            for version in (b"1.0", b"1.1"):
                self.assertEqual(b"/|", self.ask(b"GET / HTTP/" + version, *lines)[1])

    def test_several_hosts(self) -> None:
        """Each has to be this machine."""
        code, _ = self.ask(b"GET / HTTP/1.1", b"Host: localhost", b"Host: evil.example")

        self.assertIn(b"421", code)

    def test_a_whole_url(self) -> None:
        """What is asked of a proxy is no page here, whatever its host is."""
        self.answers = lambda path, _: succeed(Answer.text(404 if path.startswith("http:") else 200, ""))

        self.assertIn(b"404", self.ask(b"GET http://evil.example/metrics HTTP/1.1", b"Host: localhost")[0])
        self.assertIn(b"421", self.ask(b"GET http://localhost/metrics HTTP/1.1", b"Host: evil.example")[0])


class BoundTests(ServerCase):
    """Bad requests, and bad clients."""

    def test_nonsense(self) -> None:
        """Is answered with 400 and closed, or closed; nothing is logged."""
        for request in (
            b"nonsense\r\n\r\n",
            b"GET /\r\n\r\n",
            b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"GET / HTTP/1.1\r\nA: \x00\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
        ):
            self.assert_bad(request)

    def assert_bad(self, request: bytes) -> None:
        """Check that a request is answered with 400 and closed, and that nothing is logged."""
        with capturedLogs() as events:
            peer = self.say(request)

        self.assertEqual((b"HTTP/1.1 400", "closed", []), (peer.value()[:12], peer.ended, events), request)

    def test_bodies(self) -> None:
        """A request with a body is refused before any of the body is read, wherever the header is; no file is opened for it."""
        self.patch(tempfile, "TemporaryFile", lambda *_: self.fail("a file is opened"))
        for header in (
            *(
                b"Content-Length: " + each
                for each in (b"1", b"100001", b"9" * 5000, b"0" * 5000, b"", b"-0", b"0, 0", b"x")
            ),
            b"content-length:1\r\n 0",
            *(
                b"Transfer-Encoding: " + each
                for each in (b"chunked", b"identity", b"gzip, chunked", b"", b"\xff")
            ),
            b"TRANSFER-ENCODING:chunked",
            b"Content-Length: 0\r\nContent-Length: 0",
        ):
            for lines in (
                (b"POST / HTTP/1.1", header, b"Host: a"),
                (b"GET / HTTP/1.1", b"Host: evil.example", header),
                (b"GET / HTTP/1.0", b"Expect: 100-continue", header, b"Content-Type: multipart/form-data"),
            ):
                self.assert_bad(b"\r\n".join([*lines, b"", b"3\r\nabc\r\n0\r\n\r\n"]))

    def test_no_body(self) -> None:
        """A request may say that its body is empty."""
        self.assertEqual(b"/|", self.ask(b"GET / HTTP/1.1", b"Content-Length: 0")[1])

    def test_what_twisted_cannot_read(self) -> None:
        """An exception while a request is read is a bad request of the peer's: 400 without a traceback."""
        self.patch(Request, "parseCookies", lambda _: int("x"))

        self.assert_bad(b"GET / HTTP/1.1\r\nCookie: x\r\n\r\n")

    def test_odd_headers(self) -> None:
        """Headers that mean nothing here are passed over, whatever is in them."""
        for header in (
            *(b"Range: " + each for each in (b"bytes=9-1", b"bytes=" + b"9" * 5000 + b"-", b"\xff")),
            *(
                name + b": \xff"
                for name in (b"If-Modified-Since", b"If-None-Match", b"If-Match", b"Expect", b"Upgrade")
            ),
            *(
                b"Content-Type: multipart/form-data; " + each
                for each in (b"", b"boundary=", b'boundary="\xff')
            ),
            *(b"Cookie: " + each for each in (b";=;\xff=;a", b"=" * 5000)),
            *(b"Authorization: " + each for each in (b"Basic", b"Basic \xff", b"Basic " + b"A" * 5000)),
            *(b"Connection: " + each for each in (b"", b"\xff", b"Upgrade, HTTP2-Settings")),
        ):
            for method in (b"GET", b"POST"):
                code, _ = self.ask(method + b" / HTTP/1.1", header)
                self.assertIn(code[9:12], (b"200", b"405"), header)

    def test_odd_lines(self) -> None:
        """A target that is no URL is no page, and a method or a target with odd bytes is answered with 400."""
        for target in (
            b"*",
            b"http://[",
            b"//[::1",
            b"/%zz?%=&;=%",
            b"?",
            b"http://a:" + b"9" * 5000,
            b"/\x80\xb0",
        ):
            self.assertEqual(
                target.partition(b"?")[0] + b"|",
                self.ask(b"GET " + target + b" HTTP/1.1")[1].decode().encode("latin-1"),
            )
        for line in (
            b"G\xffT / HTTP/1.1",
            b"GET /\xff HTTP/1.1",
            b"GET /\x00 HTTP/1.1",
            b"GET / HTTP/9.9",
            b"GET  HTTP/1.1",
        ):
            self.assert_bad(line + b"\r\n\r\n")

    @given(st.lists(st.binary(max_size=60) | st.sampled_from(PIECES)))
    def test_whatever_is_said(self, pieces: list[bytes]) -> None:
        """Nothing is raised, and nothing logged."""
        with capturedLogs() as events:
            self.say(*pieces).abortConnection()

        self.assertEqual([], events)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_too_much(self) -> None:
        """Whoever sends more than a request needs is cut off: in one header, in many, in a body, or without any end."""
        for request in (
            b"GET / HTTP/1.1\r\nA: ",
            b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 100,
            b"POST / HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n",
            b"",
        ):
            peer = self.say(request, *[b"x" * 1000] * (REQUEST // 1000 + 1))
            self.assertIsNotNone(peer.ended, request)

    def test_one_deadline(self) -> None:
        """Twisted's own, which begins anew with each byte, on a clock of its own, is not used."""
        self.patch(HTTPChannel, "callLater", lambda *_: self.fail("Twisted's deadline"))
        self.say(b"GET / ", b"HTTP/1.1\r\n")

        self.assertEqual(1, len(self.clock.getDelayedCalls()))

    def test_too_slow(self) -> None:
        """Whoever takes too long is cut off, though something comes all the time."""
        peer = self.connect()
        peer.protocol.dataReceived(b"GET / HTTP/1.1\r\nA: ")
        for _ in range(int(DEADLINE) - 1):
            self.clock.advance(1.0)
            peer.protocol.dataReceived(b"x")
        self.assertIsNone(peer.ended)
        self.clock.advance(1.0)

        self.assertEqual("aborted", peer.ended)

    def test_whoever_says_nothing(self) -> None:
        """Likewise, or makes room for the next: nobody is kept out by those who hold connections."""
        held = [self.connect() for _ in range(MOST)]
        self.assertEqual((b"HTTP/1.1 200 OK", b"/|"), self.ask(b"GET / HTTP/1.1"))
        self.assertEqual(["aborted"] + [None] * (MOST - 1), [each.ended for each in held])
        self.ask(b"GET / HTTP/1.1")
        self.assertEqual(1, sum(each.ended is not None for each in held))
        self.clock.advance(DEADLINE)

        self.assertEqual({"aborted"}, {each.ended for each in held})

    def test_the_end(self) -> None:
        """Everybody is cut off who is still there."""
        held = [self.connect() for _ in range(3)]
        self.factory.close()

        self.assertEqual(["aborted"] * 3, [each.ended for each in held])
        self.assertEqual([], self.clock.getDelayedCalls())
