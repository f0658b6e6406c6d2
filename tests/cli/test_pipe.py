"""`echosvc talk` as a pipe."""

from __future__ import annotations

import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryFile
from threading import Thread
from typing import BinaryIO
from unittest import skipUnless

from echosvc.errors import ExitCode
from tests.cli.command import COMMAND, ENVIRONMENT, PATIENCE, CommandCase, end
from tests.cli.servers import free_port
from tests.waiting import until

THREE_MEGABYTES = random.Random(7).randbytes(3_000_000)


class StreamPipeTests(CommandCase):
    """Over TCP."""

    def test_all_back(self) -> None:
        """Three megabytes through the pipe come out the same, and the exit code says so."""
        finished = self.run_command("talk", "localhost", self.stream_server(), sent=THREE_MEGABYTES)

        self.assertEqual((0, b""), (finished.returncode, finished.stderr))
        self.assertEqual(THREE_MEGABYTES, finished.stdout)

    def test_nothing(self) -> None:
        """An empty standard input is an empty stream, which comes back."""
        finished = self.run_command("talk", f"127.0.0.1:{self.stream_server()}")

        self.assertEqual((0, b"", b""), (finished.returncode, finished.stdout, finished.stderr))

    def test_from_a_file(self) -> None:
        """Standard input may be a file, and standard output, too."""
        with TemporaryFile() as given, TemporaryFile() as taken:
            given.write(THREE_MEGABYTES)
            given.seek(0)
            code = subprocess.run(
                [*COMMAND, "talk", "127.0.0.1", str(self.stream_server())],
                stdin=given,
                stdout=taken,
                env=ENVIRONMENT,
                timeout=PATIENCE,
                check=False,
            ).returncode
            taken.seek(0)
            back = taken.read()

        self.assertEqual(0, code)
        self.assertEqual(THREE_MEGABYTES, back)

    def test_wrong_byte(self) -> None:
        """A changed byte is reported with its place, and only what is right before it is put out."""

        def shout(connection: socket.socket) -> None:
            while data := connection.recv(65536):
                connection.sendall(data.replace(b"w", b"W"))

        finished = self.run_command("talk", "127.0.0.1", self.stream_server(shout), sent=b"hello world")

        self.assert_failed(finished, ExitCode.WRONG_BYTES, "offset 6", "b'world'", "b'World'")
        self.assertEqual(b"hello ", finished.stdout)

    def test_more_than_was_sent(self) -> None:
        """Bytes added at the end are wrong bytes."""

        def add(connection: socket.socket) -> None:
            while data := connection.recv(65536):
                connection.sendall(data)
            connection.sendall(b"bye")

        finished = self.run_command("talk", "127.0.0.1", self.stream_server(add), sent=b"hello")

        self.assert_failed(finished, ExitCode.WRONG_BYTES, "offset 5", "nothing", "b'bye'")

    def test_closed_early(self) -> None:
        """A server that closes before everything is back is reported, with how much is missing."""

        def close_early(connection: socket.socket) -> None:
            connection.sendall(connection.recv(4, socket.MSG_WAITALL))
            while connection.recv(65536):
                pass

        finished = self.run_command("talk", "127.0.0.1", self.stream_server(close_early), sent=b"123456789")

        self.assert_failed(finished, ExitCode.NO_REPLY, "5 bytes never came back", "closed the connection")
        self.assertEqual(b"1234", finished.stdout)

    def test_reset(self) -> None:
        """A connection that is reset is reported with how much is missing, and without a traceback."""

        def reset(connection: socket.socket) -> None:
            connection.recv(1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        finished = self.run_command("talk", "127.0.0.1", self.stream_server(reset), sent=b"12")

        # Not with the word "reset": when the system reports the error before the end of the stream, Twisted
        # takes it for a close.
        self.assert_failed(finished, ExitCode.NO_REPLY, "2 bytes never came back")

    def test_silence(self) -> None:
        """A server that never answers is given up after the time that -W says."""

        def stay_silent(connection: socket.socket) -> None:
            while connection.recv(65536):
                pass
            released.recv(1)

        hold, released = socket.socketpair()
        self.addCleanup(released.close)
        port = self.stream_server(stay_silent)
        self.addCleanup(hold.close)
        finished = self.run_command("talk", "127.0.0.1", port, "-W", "0.3", sent=b"12345")

        self.assert_failed(finished, ExitCode.NO_REPLY, "5 bytes never came back", "within 0.3 s")

    def test_refused(self) -> None:
        """A port where nobody listens is reported by name."""
        port = free_port(socket.SOCK_STREAM)
        finished = self.run_command("talk", "127.0.0.1", port, sent=b"x")

        self.assert_failed(finished, ExitCode.UNAVAILABLE, f"127.0.0.1:{port} refused")


class DatagramPipeTests(CommandCase):
    """Over UDP."""

    def test_all_back(self) -> None:
        """A stream through datagrams comes out the same."""
        server = self.datagram_server()
        finished = self.run_command("talk", "--udp", "127.0.0.1", server.port, sent=THREE_MEGABYTES[:300_000])

        self.assertEqual((0, b""), (finished.returncode, finished.stderr))
        self.assertEqual(THREE_MEGABYTES[:300_000], finished.stdout)

    def test_lost(self) -> None:
        """A datagram that does not come back is not sent again, and the missing bytes are counted."""
        server = self.datagram_server(lambda datagram: None if b"lost" in datagram else datagram)
        sent = b"x" * 1200 + b"lost" + b"x" * 1196 + b"the rest"
        finished = self.run_command("talk", f"udp:127.0.0.1:{server.port}", "-W", "0.3", sent=sent)

        self.assert_failed(finished, ExitCode.NO_REPLY, "1200 bytes never came back", "within 0.3 s")
        self.assertEqual(b"x" * 1200, finished.stdout)
        self.assertEqual(3, len(server.received))

    def test_wrong_byte(self) -> None:
        """A changed byte is reported with its place in the stream."""
        server = self.datagram_server(lambda datagram: datagram[:-1] + b"?")
        finished = self.run_command("talk", f"udp:127.0.0.1:{server.port}", sent=b"hello")

        self.assert_failed(finished, ExitCode.WRONG_BYTES, "offset 4", "b'o'", "b'?'")

    @skipUnless(sys.platform.startswith("linux"), "other systems do not report refusals")
    def test_refused(self) -> None:
        """A port where nobody listens is reported at once."""
        port = free_port(socket.SOCK_DGRAM)
        finished = self.run_command("talk", f"udp:127.0.0.1:{port}", sent=b"hello")

        self.assert_failed(finished, ExitCode.UNAVAILABLE, f"127.0.0.1:{port} refused")


class StandardStreamTests(CommandCase):
    """Standard input and output that fail."""

    def test_reader_gone(self) -> None:
        """When the reader of standard output goes away, that is one line and an exit code."""
        process = self.start_command("talk", "127.0.0.1", self.stream_server())
        assert process.stdin and process.stdout and process.stderr
        process.stdout.close()
        process.stdin.write(b"hello")
        process.stdin.flush()

        self.assertEqual(ExitCode.OUTPUT, process.wait(PATIENCE))
        self.assertEqual(b"echosvc: standard output: Broken pipe\n", process.stderr.read())
        process.stdout = None

    @skipUnless(Path("/dev/full").exists(), "no full disk to be had")
    def test_disk_full(self) -> None:
        """A full disk is one line and an exit code, for data and for help pages."""
        port = self.stream_server()
        for arguments in (
            ["talk", "127.0.0.1", str(port)],
            ["ping", "-c", "1", "127.0.0.1", str(port)],
            ["--help"],
        ):
            with Path("/dev/full").open("wb") as full:
                finished = subprocess.run(
                    [*COMMAND, *arguments],
                    input=b"hello",
                    stdout=full,
                    stderr=subprocess.PIPE,
                    env=ENVIRONMENT,
                    timeout=PATIENCE,
                    check=False,
                )
            self.assert_failed(finished, ExitCode.OUTPUT, "standard output", "No space left")

    def test_closed(self) -> None:
        """Standard streams that the shell closed are not mistaken for something else."""
        port = self.stream_server()
        for closed, words in (("<&-", "standard input"), (">&-", "standard output")):
            finished = subprocess.run(
                ["sh", "-c", f'echo hello | "$@" {closed}', "sh", *COMMAND, "talk", "127.0.0.1", str(port)],
                capture_output=True,
                env=ENVIRONMENT,
                timeout=PATIENCE,
                check=False,
            )
            self.assert_failed(finished, ExitCode.OUTPUT, words, "Bad file descriptor")

    def test_non_blocking_descriptors(self) -> None:
        """Pipes that another program made non-blocking are waited for."""
        given, giving = os.pipe()
        taking, taken = os.pipe()
        for each in (given, taken):
            os.set_blocking(each, False)
        process = subprocess.Popen(
            [*COMMAND, "talk", "127.0.0.1", str(self.stream_server())],
            stdin=given,
            stdout=taken,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
        )
        self.addCleanup(end, process)
        os.close(given)
        os.close(taken)
        with os.fdopen(taking, "rb") as back, os.fdopen(giving, "wb", buffering=0) as there:
            there.write(b"hello")
            self.assertEqual(b"hello", back.read(5))  # by now it waits for more input
            writer = Thread(target=feed, args=(there, THREE_MEGABYTES))
            writer.start()
            self.assertEqual(THREE_MEGABYTES, back.read())
            writer.join()

        self.assertEqual(0, process.wait(PATIENCE))

    def test_shared_descriptors_stay_blocking(self) -> None:
        """The pipes are left as they are: other programs may share them."""
        process = self.start_command("talk", "127.0.0.1", self.stream_server())
        assert process.stdin and process.stdout
        process.stdin.write(b"hello")
        process.stdin.flush()

        self.assertEqual(b"hello", process.stdout.read(5))
        self.assertTrue(os.get_blocking(process.stdin.fileno()) and os.get_blocking(process.stdout.fileno()))


class InterruptedTests(CommandCase):
    """Ctrl-C in a pipe."""

    def assert_interrupted(self, process: subprocess.Popen[bytes]) -> None:
        """Ctrl-C must end it with one line."""
        process.send_signal(signal.SIGINT)
        self.assertEqual(ExitCode.INTERRUPTED, process.wait(PATIENCE))
        assert process.stderr is not None
        self.assertEqual(b"echosvc: interrupted\n", process.stderr.read())

    def test_while_waiting_for_input(self) -> None:
        """Ctrl-C ends it while it waits for standard input."""
        for prefix in ("", "udp:"):
            port = self.datagram_server().port if prefix else self.stream_server()
            process = self.start_command("talk", f"{prefix}127.0.0.1:{port}")
            assert process.stdin and process.stdout
            process.stdin.write(b"hello")
            process.stdin.flush()
            self.assertEqual(b"hello", process.stdout.read(5))

            self.assert_interrupted(process)

    def test_while_the_reader_sleeps(self) -> None:
        """Ctrl-C ends it while it waits for whoever reads its output."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, writing)
        process = self.start_command("talk", "127.0.0.1", self.stream_server(), output=writing)
        assert process.stdin is not None
        process.stdin.write(bytes(150_000))  # more than the output's pipe holds
        process.stdin.flush()
        for _ in until(lambda: not select.select([], [writing], [], 0)[1]):
            self.assertIsNone(process.poll())
            time.sleep(0.01)

        self.assert_interrupted(process)


def feed(there: BinaryIO, data: bytes) -> None:
    """Write everything, then close."""
    with there:
        for _ in until(lambda: not data):
            data = data[there.write(data) :]
