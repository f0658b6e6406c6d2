"""`echosvc talk` at a terminal."""

from __future__ import annotations

import socket
import sys
from unittest import skipUnless

from echosvc.errors import ExitCode
from tests.cli.command import CommandCase, Terminal
from tests.cli.servers import free_port


class TerminalCase(CommandCase):
    """Has a terminal."""

    def terminal(self, *arguments: object) -> Terminal:
        """Start the command at a terminal."""
        terminal = Terminal("talk", *arguments)
        self.addCleanup(terminal.close)
        return terminal


class StreamConversationTests(TerminalCase):
    """Over TCP."""

    def test_lines(self) -> None:
        """Each line is sent with its line end, its echo is printed, and "q" ends it."""
        received: list[bytes] = []

        def echo(connection: socket.socket) -> None:
            while data := connection.recv(65536):
                received.append(data)
                connection.sendall(data)

        port = self.stream_server(echo)
        terminal = self.terminal("127.0.0.1", port)
        terminal.wait_for(f"connected to 127.0.0.1:{port}")
        for line in ("hello", "", "grüß dich, queen"):
            terminal.wait_for("> ")
            terminal.type(f"{line}\n")
            terminal.wait_for(f"{line}\n{line}\n")  # as typed, and as it came back
        terminal.wait_for("> ")
        terminal.type("q\n")

        self.assertEqual(ExitCode.OK, terminal.wait_for_end())
        self.assertEqual("hello\n\ngrüß dich, queen\n", b"".join(received).decode())

    def test_end_of_file(self) -> None:
        """Ctrl-D ends it, too."""
        terminal = self.terminal("127.0.0.1", self.stream_server())
        terminal.wait_for("> ")
        terminal.type("\x04")

        self.assertEqual(ExitCode.OK, terminal.wait_for_end())
        self.assertTrue(terminal.screen.endswith("\n"))

    def test_interrupted(self) -> None:
        """Ctrl-C ends it without a traceback."""
        terminal = self.terminal("127.0.0.1", self.stream_server())
        terminal.wait_for("> ")
        terminal.interrupt()

        self.assertEqual(ExitCode.INTERRUPTED, terminal.wait_for_end())
        self.assertTrue(terminal.screen.endswith("\nechosvc: interrupted\n"), terminal.screen)

    def test_server_closes_at_the_prompt(self) -> None:
        """When the server closes while the prompt waits, that is said at once, on a line of its own."""
        terminal = self.terminal("127.0.0.1", self.stream_server(lambda connection: None))

        self.assertEqual(ExitCode.NO_REPLY, terminal.wait_for_end())
        self.assertTrue(
            terminal.screen.endswith("\nechosvc: the server closed the connection\n"), terminal.screen
        )

    def test_server_closes_instead_of_answering(self) -> None:
        """When the server closes instead of answering, it is said how many bytes are missing."""
        terminal = self.terminal("127.0.0.1", self.stream_server(lambda connection: void(connection.recv(6))))
        terminal.wait_for("> ")
        terminal.type("hello\n")

        terminal.wait_for("echosvc: 6 bytes never came back: the server closed the connection\n")
        self.assertEqual(ExitCode.NO_REPLY, terminal.wait_for_end())

    def test_wrong_bytes(self) -> None:
        """A server that answers with something else is told of, and ends it."""
        port = self.stream_server(lambda connection: connection.sendall(connection.recv(6).upper()))
        terminal = self.terminal("127.0.0.1", port)
        terminal.wait_for("> ")
        terminal.type("hello\n")

        terminal.wait_for(r"wrong bytes came back at offset 0: expected b'hello\n', received b'HELLO\n'")
        self.assertEqual(ExitCode.WRONG_BYTES, terminal.wait_for_end())

    def test_greeting(self) -> None:
        """A server that speaks first is no echo service, and is told of while the prompt waits."""
        terminal = self.terminal(
            "127.0.0.1", self.stream_server(lambda connection: connection.sendall(b"220 hi"))
        )

        self.assertEqual(ExitCode.WRONG_BYTES, terminal.wait_for_end())
        self.assertIn("expected nothing, received b'220 hi'", terminal.screen)

    def test_slow_answer(self) -> None:
        """While an answer is slow the user is told and may go on; it is printed when it comes."""
        go_on, told = socket.socketpair()
        self.addCleanup(told.close)
        self.addCleanup(go_on.close)

        def slow(connection: socket.socket) -> None:
            data = connection.recv(6)
            told.recv(1)
            connection.sendall(data)
            connection.recv(1)

        terminal = self.terminal("127.0.0.1", self.stream_server(slow), "-W", "0.2")
        terminal.wait_for("> ")
        terminal.type("hello\n")
        terminal.wait_for("nothing came back within 0.2 s\n> ")
        go_on.send(b"!")
        terminal.wait_for("hello\n> ")
        terminal.type("q\n")

        self.assertEqual(ExitCode.OK, terminal.wait_for_end())

    def test_refused(self) -> None:
        """A port where nobody listens is one line, and no prompt."""
        port = free_port(socket.SOCK_STREAM)
        terminal = self.terminal("127.0.0.1", port)

        self.assertEqual(ExitCode.UNAVAILABLE, terminal.wait_for_end())
        self.assertEqual(f"echosvc: 127.0.0.1:{port} refused: nobody listens there\n", terminal.screen)


class DatagramConversationTests(TerminalCase):
    """Over UDP."""

    def test_lines(self) -> None:
        """Each line arrives at the server exactly as typed, as one datagram, and its echo is printed."""
        server = self.datagram_server()
        terminal = self.terminal("--udp", "127.0.0.1", server.port)
        terminal.wait_for(f"sending datagrams to 127.0.0.1:{server.port}")
        for line in ("hello", "", " two words "):
            terminal.wait_for("> ")
            terminal.type(f"{line}\n")
            terminal.wait_for(f"{line}\n{line}\n")
        terminal.wait_for("> ")
        terminal.type("q\n")

        self.assertEqual(ExitCode.OK, terminal.wait_for_end())
        self.assertEqual([b"hello", b"", b" two words "], server.received)

    def test_another_answer(self) -> None:
        """A different answer is printed, safely for a terminal, and marked; the exit code says so, too."""
        server = self.datagram_server(lambda datagram: b"\x1b[2J" + datagram.upper())
        terminal = self.terminal(f"udp:127.0.0.1:{server.port}")
        terminal.wait_for("> ")
        terminal.type("hello\n")
        terminal.wait_for("\\x1b[2JHELLO\n(this is not what was sent)\n> ")
        terminal.type("q\n")

        self.assertEqual(ExitCode.WRONG_BYTES, terminal.wait_for_end())

    def test_no_answer(self) -> None:
        """When nothing comes back the user is told and may go on; the exit code says so at the end."""
        server = self.datagram_server(lambda datagram: None if datagram == b"lost" else datagram)
        terminal = self.terminal(f"udp:127.0.0.1:{server.port}", "-W", "0.2")
        terminal.wait_for("> ")
        terminal.type("lost\n")
        terminal.wait_for("nothing came back within 0.2 s\n> ")
        terminal.type("hello\n")
        terminal.wait_for("hello\nhello\n> ")
        terminal.type("q\n")

        self.assertEqual(ExitCode.NO_REPLY, terminal.wait_for_end())

    @skipUnless(sys.platform.startswith("linux"), "other systems do not report refusals")
    def test_refused(self) -> None:
        """A refusal is told at once, and the user may start the server and try again."""
        terminal = self.terminal("--udp", "127.0.0.1", free_port(socket.SOCK_DGRAM))
        terminal.wait_for("> ")
        terminal.type("hello\n")
        terminal.wait_for("refused: nobody listens there\n> ")
        terminal.type("q\n")

        self.assertEqual(ExitCode.UNAVAILABLE, terminal.wait_for_end())


def void(_: object) -> None:
    """Forget a value."""
