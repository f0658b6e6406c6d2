"""`echosvc ping` as a user sees it."""

from __future__ import annotations

import re
import signal
import socket
import sys
from unittest import skipUnless

from echosvc.errors import ExitCode
from tests.cli.command import PATIENCE, CommandCase
from tests.cli.servers import free_port

QUICK = ("-i", "0.01")


class PingTests(CommandCase):
    """Pings of real servers."""

    def ping(self, *arguments: object) -> tuple[int, str]:
        """Run it; return the exit code and what it printed."""
        finished = self.run_command("ping", *QUICK, *arguments)
        self.assertEqual(b"", finished.stderr)
        return finished.returncode, finished.stdout.decode()

    def test_over_tcp(self) -> None:
        """Three probes are a header, three lines and the summary of ping(8)."""
        port = self.stream_server()
        code, printed = self.ping("-c", 3, "localhost", port)

        self.assertEqual(ExitCode.OK, code)
        figures = r"\d+\.\d{3}"
        pattern = (
            rf"PING localhost:{port} \(127\.0\.0\.1:{port}\) over TCP: 64 bytes\n"
            + "".join(
                rf"64 bytes from 127\.0\.0\.1:{port}: seq={number} time={figures} ms\n"
                for number in (1, 2, 3)
            )
            + rf"\n--- localhost:{port} echo statistics ---\n3 sent, 3 received, 0% lost, time \d+ ms\n"
            rf"rtt min/avg/max/mdev = {figures}/{figures}/{figures}/{figures} ms\n"
        )
        self.assertTrue(re.fullmatch(pattern, printed), printed)

    def test_over_udp(self) -> None:
        """Over UDP -s is the size of the datagram."""
        server = self.datagram_server()
        code, printed = self.ping("-c", 2, "-s", 16, f"udp:127.0.0.1:{server.port}")

        self.assertEqual(ExitCode.OK, code)
        self.assertEqual([16, 16], [len(each) for each in server.received])
        self.assertIn("2 sent, 2 received, 0% lost", printed)

    def test_size_over_tcp(self) -> None:
        """Over TCP a probe may be a single byte, or a hundred thousand."""
        for size in (1, 100_000):
            code, printed = self.ping("-c", 2, "-s", size, "127.0.0.1", self.stream_server())
            self.assertEqual(ExitCode.OK, code)
            self.assertIn(f"{size} bytes from", printed)

    def test_too_small_for_udp(self) -> None:
        """A datagram too small for its tag is a usage error that says why."""
        for size in (15, 65508):
            finished = self.run_command("ping", "-s", size, "udp:127.0.0.1:7")
            self.assert_failed(finished, ExitCode.USAGE, f"-s {size}", "16", "which probe it is")

    def test_partial_loss(self) -> None:
        """A probe without a reply has its line, and the loss is in summary and exit code."""
        seen: list[bytes] = []

        def lose_the_second(datagram: bytes) -> bytes | None:
            seen.append(datagram)
            return None if len(seen) == 2 else datagram

        server = self.datagram_server(lose_the_second)
        code, printed = self.ping("-c", 4, "-W", 0.2, f"udp:127.0.0.1:{server.port}")

        self.assertEqual(ExitCode.NO_REPLY, code)
        self.assertIn(f"seq=2: no reply from 127.0.0.1:{server.port} within 0.2 s\n", printed)
        self.assertIn("4 sent, 3 received, 25% lost", printed)

    def test_no_reply_over_tcp(self) -> None:
        """A TCP server that takes everything and says nothing has lost every probe."""

        def swallow(connection: socket.socket) -> None:
            while connection.recv(65536):
                pass

        code, printed = self.ping("-c", 2, "-W", 0.2, "127.0.0.1", self.stream_server(swallow))

        self.assertEqual(ExitCode.NO_REPLY, code)
        self.assertIn("2 sent, 0 received, 100% lost", printed)
        self.assertNotIn("rtt", printed)

    def test_refused_over_tcp(self) -> None:
        """Without a connection there is nothing to summarise: one line."""
        port = free_port(socket.SOCK_STREAM)
        finished = self.run_command("ping", "127.0.0.1", port)

        self.assert_failed(finished, ExitCode.UNAVAILABLE, f"127.0.0.1:{port} refused")
        self.assertEqual(b"", finished.stdout)

    @skipUnless(sys.platform.startswith("linux"), "other systems do not report refusals")
    def test_refused_over_udp(self) -> None:
        """Over UDP each refused probe has its line, at once."""
        port = free_port(socket.SOCK_DGRAM)
        code, printed = self.ping("-c", 3, "-W", PATIENCE, "--udp", "127.0.0.1", port)

        self.assertEqual(ExitCode.UNAVAILABLE, code)
        self.assertIn(f"seq=3: 127.0.0.1:{port} refused: nobody listens there\n", printed)
        self.assertIn("3 sent, 0 received, 100% lost", printed)

    def test_wrong_bytes(self) -> None:
        """Wrong bytes are told with their place, over UDP for each probe, over TCP once."""
        server = self.datagram_server(lambda datagram: datagram[:-1] + bytes([datagram[-1] ^ 1]))
        code, printed = self.ping("-c", 2, f"udp:127.0.0.1:{server.port}")
        self.assertEqual(
            (ExitCode.WRONG_BYTES, 2), (code, printed.count("wrong bytes came back at offset 47"))
        )

        port = self.stream_server(lambda connection: connection.sendall(bytes(64)))
        code, printed = self.ping("-c", 2, "127.0.0.1", port)
        self.assertEqual(
            (ExitCode.WRONG_BYTES, 1), (code, printed.count("wrong bytes came back at offset 0"))
        )
        self.assertIn("0 received", printed)

    def test_server_closes(self) -> None:
        """When the server closes the connection, that is told, and the summary is printed."""
        code, printed = self.ping(
            "127.0.0.1", self.stream_server(lambda connection: void(connection.recv(64)))
        )

        self.assertEqual(ExitCode.NO_REPLY, code)
        self.assertIn("the server closed the connection\n", printed)
        self.assertIn("echo statistics", printed)

    def test_interrupted(self) -> None:
        """Ctrl-C prints the summary, and the exit code is 0 if all came back."""
        process = self.start_command("ping", "-i", 30, "127.0.0.1", self.stream_server())
        assert process.stdout is not None
        process.stdout.readline()
        self.assertIn(b"seq=1", process.stdout.readline())
        process.send_signal(signal.SIGINT)

        self.assertEqual(ExitCode.OK, process.wait(PATIENCE))
        self.assertIn(b"1 sent, 1 received, 0% lost", process.stdout.read())


def void(_: object) -> None:
    """Forget a value."""
