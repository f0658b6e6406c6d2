"""Tests of asking: plain servers in threads answer, or do not."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from echosvc.cli._asking import Answer, Place, TLSAsked, ask_all
from echosvc.cli._questions import CLOSED, SILENCE, Question, datagram_question, stream_question
from tests.certificates import Authority, folder_for
from tests.cli.servers import DatagramServer, StreamServer, echo_stream, free_port

#: More than anything here takes; where it runs out, that is what is tried.
LONG, SHORT = 20.0, 0.15


class AskingCase(SynchronousTestCase):
    """Asks servers of the test."""

    def place(self, port: int, question: Question | None, **more: Any) -> Place:
        """Where something on this machine is asked over TCP."""
        assert question is not None
        return Place(
            label="it",
            family=socket.AF_INET,
            address=("127.0.0.1", port),
            question=question,
            **{"is_stream": True, **more},
        )

    def ask(self, place: Place, timeout: float = LONG) -> Answer:
        """Ask at one place."""
        (answer,) = ask_all([place], timeout)
        return answer

    def server(self, serve: Callable[[socket.socket], None] = echo_stream) -> int:
        """Start a TCP server; return its port."""
        server = StreamServer(serve)
        self.addCleanup(server.stop)
        return server.port

    def datagrams(self, answer: Callable[[bytes], bytes | None]) -> tuple[int, list[bytes]]:
        """Start a UDP server; return its port, and what it receives."""
        server = DatagramServer(answer)
        self.addCleanup(server.stop)
        return server.port, server.received


class StreamTests(AskingCase):
    """Over connections."""

    def test_right_and_wrong(self) -> None:
        """Whoever answers right is well; what is wrong with others is said in words."""
        port = self.server()
        right = self.ask(self.place(port, stream_question("echo")))
        wrong = self.ask(self.place(port, Question(b"\x1b", lambda came, _: False if came else None)))

        self.assertEqual("", right.problem)
        self.assertTrue(right.seconds is not None and right.seconds < LONG)
        self.assertEqual("it answers something else: b'\\x1b'", wrong.problem)

    def test_an_end_without_an_answer(self) -> None:
        """Nobody waits for more."""
        answer = self.ask(self.place(self.server(lambda _: None), stream_question("time")))

        self.assertEqual("it ends the connection without an answer", answer.problem)

    def test_our_direction_is_ended_if_that_is_the_question(self) -> None:
        """As discard has it: whoever throws all away ends when we do."""

        def discard(connection: socket.socket) -> None:
            while connection.recv(4096):
                pass

        question = stream_question("discard")
        said = [self.ask(self.place(self.server(each), question)).problem for each in (discard, echo_stream)]

        self.assertEqual(("", True), (said[0], said[1].startswith("it answers something else")))

    def test_a_header_comes_first(self) -> None:
        """For listeners that expect what a proxy says."""
        port = self.server()
        both = Question(b"world", lambda came, _: came == b"hello world" or None)

        self.assertEqual("", self.ask(self.place(port, both, header=b"hello ")).problem)

    def test_nobody_answers(self) -> None:
        """It is given up when the time is over; the others are known by then."""
        with socket.create_server(("127.0.0.1", 0)) as hangs:
            places = [
                self.place(hangs.getsockname()[1], stream_question("echo")),
                self.place(self.server(), stream_question("echo")),
            ]
            late, well = ask_all(places, SHORT)

        self.assertEqual(("no answer within 0.15 s", ""), (late.problem, well.problem))

    def test_nobody_listens(self) -> None:
        """The system's own words."""
        answer = self.ask(self.place(free_port(socket.SOCK_STREAM), stream_question("echo")))

        self.assertEqual("connection refused", answer.problem)

    def test_a_listener_for_others(self) -> None:
        """To be closed at once is right there, with a reset or without; anywhere else a reset is wrong."""

        def reset(connection: socket.socket) -> None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

        port = self.server(reset)
        problems = [
            self.ask(self.place(port, CLOSED)).problem,
            self.ask(self.place(self.server(lambda _: None), CLOSED)).problem,
            self.ask(self.place(port, stream_question("time"))).problem,
            self.ask(self.place(free_port(socket.SOCK_STREAM), CLOSED)).problem,
        ]

        self.assertEqual(["", "", "connection reset by peer", "connection refused"], problems)

    def test_an_address_that_this_machine_has_not(self) -> None:
        """Is no fault where it need not be there: a machine without IPv6."""
        place = attrs.evolve(self.place(7, stream_question("echo")), address=("203.0.113.9", 7))

        def connect(*_: object) -> None:
            raise OSError(99, "Cannot assign requested address")

        self.patch(socket.socket, "connect", connect)
        missing = self.ask(attrs.evolve(place, may_be_missing=True))

        self.assertEqual(("", None), (missing.problem, missing.seconds))
        self.assertEqual("cannot assign requested address", self.ask(place).problem)


class DatagramTests(AskingCase):
    """With datagrams."""

    def udp(self, port: int, question: Question | None) -> Place:
        """Where something is asked over UDP."""
        return self.place(port, question, is_stream=False)

    def test_right_and_wrong(self) -> None:
        """One answer decides."""
        right, _ = self.datagrams(bytes)
        wrong, _ = self.datagrams(lambda _: b"x" * 20)
        problems = [self.ask(self.udp(port, datagram_question("echo"))).problem for port in (right, wrong)]

        self.assertEqual(["", "it answers something else: b'xxxxxxxxxxxxxxxx'…"], problems)

    def test_one_may_be_lost(self) -> None:
        """It is asked again."""
        seen: list[bytes] = []
        port, received = self.datagrams(lambda datagram: datagram if len(seen) else seen.append(datagram))
        answer = self.ask(self.udp(port, datagram_question("echo")), 4.0)

        self.assertEqual(("", 2), (answer.problem, len(received)))

    def test_no_answer(self) -> None:
        """It is asked until the time is over."""
        port, _ = self.datagrams(lambda _: None)

        self.assertEqual(
            "no answer within 0.15 s", self.ask(self.udp(port, datagram_question("time")), SHORT).problem
        )

    def test_silence(self) -> None:
        """Silence is right for those that never answer, an answer or a refusal is not."""
        silent, received = self.datagrams(lambda _: None)
        talks, _ = self.datagrams(bytes)
        nobody = free_port(socket.SOCK_DGRAM)
        problems = [self.ask(self.udp(port, SILENCE)).problem for port in (silent, talks, nobody)]

        self.assertEqual(["", "it answers something else: b''", "connection refused"], problems)
        self.assertEqual([b""], received)

    def test_unix(self) -> None:
        """A server that answers to a name finds one."""
        path = str(Path(folder_for(self)) / "gram")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
            server.bind(path)
            place = Place(label="it", family=socket.AF_UNIX, address=path, question=SILENCE, is_stream=False)
            problem = self.ask(place).problem
            _, client = server.recvfrom(100)

        self.assertEqual("", problem)
        self.assertTrue(client)


class TLSTests(AskingCase):
    """Over TLS, spoken by Python's own."""

    def setUp(self) -> None:
        """Issue a certificate."""
        folder = folder_for(self)
        authority = Authority()
        self.files = authority.issue("localhost").write(folder)
        self.issuer = Path(folder) / "ca.pem"
        self.issuer.write_bytes(authority.pem)

    def tls_server(self, serve: Callable[[socket.socket], None] = echo_stream, *, wants: bool = False) -> int:
        """Start a server; return its port."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.files)
        if wants:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.issuer)
            context.maximum_version = (
                ssl.TLSVersion.TLSv1_2
            )  # a part of the handshake there, and not after it

        def handshake(connection: socket.socket) -> None:
            with context.wrap_socket(connection, server_side=True) as secure:
                serve(secure)

        return self.server(handshake)

    def asked(self, port: int, protocol: str = "echo", **tls: Any) -> str:
        """What is wrong."""
        return self.ask(self.place(port, stream_question(protocol), tls=TLSAsked(**tls))).problem

    def test_any_certificate_will_do(self) -> None:
        """Unless one is asked for."""
        port = self.tls_server()

        self.assertEqual("", self.asked(port))
        self.assertIn("TLS: unable to get local issuer", self.asked(port, host="localhost"))

    def test_a_certificate_that_is_asked_for(self) -> None:
        """It must be trusted, and name the host."""
        context = ssl.create_default_context(cafile=self.issuer)
        context.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python 3.13 has it by itself
        self.patch(ssl, "create_default_context", lambda: context)
        port = self.tls_server()

        self.assertEqual("", self.asked(port, host="localhost"))
        self.assertIn("ostname mismatch", self.asked(port, host="example.com"))

    def test_a_certificate_of_ours(self) -> None:
        """A listener that wants one, which we have not, is well if it says so."""
        port = self.tls_server(wants=True)

        self.assertEqual("", self.asked(port, may_refuse=True))
        self.assertIn("TLS: ", self.asked(port))

    def test_discard(self) -> None:
        """Our direction is ended as TLS ends it, and its answer must be nothing."""

        def discard(connection: socket.socket) -> None:
            while connection.recv(4096):
                pass
            assert isinstance(connection, ssl.SSLSocket)
            connection.unwrap()

        self.assertEqual("", self.asked(self.tls_server(discard), "discard"))
        self.assertIn("TLS: ", self.asked(self.tls_server(), "discard"))

    def test_no_tls(self) -> None:
        """What is said is short."""
        self.assertRegex(self.asked(self.server()), "^TLS: [a-z ]+$")
