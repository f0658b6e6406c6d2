"""The real command, as a process of its own."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.cli.servers import DatagramServer, StreamServer, echo_stream
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "RES_OPTIONS": "attempts:1 timeout:1",  # so that a machine without a name server says so soon
}
COMMAND = [sys.executable, "-m", "echosvc"]

#: Seconds after which a process that should have ended fails its test.
PATIENCE = 40

Finished = subprocess.CompletedProcess[bytes]


class CommandCase(SynchronousTestCase):
    """Runs the command against servers of the test."""

    def run_command(self, *arguments: object, sent: bytes = b"") -> Finished:
        """Run it with standard input from a pipe, until it ends."""
        command = [*COMMAND, *map(str, arguments)]
        return subprocess.run(
            command, input=sent, capture_output=True, env=ENVIRONMENT, timeout=PATIENCE, check=False
        )

    def start_command(self, *arguments: object, output: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
        """Start it with pipes; it is killed at the end of the test if it still runs."""
        with heeding_sigint():
            process = subprocess.Popen(
                [*COMMAND, *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.PIPE,
                env=ENVIRONMENT,
            )
        self.addCleanup(end, process)
        return process

    def assert_failed(self, finished: Finished, code: int, *words: str) -> None:
        """It must have ended with this code and one line on standard error that has these words."""
        message = finished.stderr.decode()
        self.assertEqual(code, finished.returncode, message)
        self.assertEqual(1, len(message.splitlines()), message)
        self.assertTrue(message.startswith("echosvc: "), message)
        for each in words:
            self.assertIn(each, message)

    def stream_server(self, serve: Callable[[socket.socket], None] = echo_stream) -> int:
        """Start a TCP server, by default an echo; return its port."""
        server = StreamServer(serve)
        self.addCleanup(server.stop)
        return server.port

    def datagram_server(self, answer: Callable[[bytes], bytes | None] = bytes) -> DatagramServer:
        """Start a UDP server, by default an echo."""
        server = DatagramServer(answer)
        self.addCleanup(server.stop)
        return server


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process if it still runs, and release what it held."""
    process.kill()
    process.communicate()


@contextlib.contextmanager
def heeding_sigint() -> Iterator[None]:
    """Start processes that Ctrl-C ends, as a terminal does.

    With `&` a shell starts its processes with SIGINT ignored; they hand that on, and the command keeps to it.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Terminal:
    """The command at a terminal: everything it writes is seen as a user sees it.

    Args:
        arguments: The command's.
    """

    def __init__(self, *arguments: object) -> None:
        self._master, slave = pty.openpty()
        with heeding_sigint():
            self._process = subprocess.Popen(
                [*COMMAND, *map(str, arguments)],
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env=ENVIRONMENT,
                start_new_session=True,
            )
        os.close(slave)
        self.screen = ""
        self._seen = 0

    def type(self, text: str) -> None:
        """Type, as on a keyboard."""
        os.write(self._master, text.encode())

    def interrupt(self) -> None:
        """Do what Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def wait_for(self, text: str) -> None:
        """Wait until this appears after what was waited for last."""
        for _ in until(lambda: self.screen.find(text, self._seen) >= 0):
            if not self._read():
                raise AssertionError(f"{text!r} never appeared; the screen shows {self.screen!r}")
        self._seen = self.screen.find(text, self._seen) + len(text)

    def wait_for_end(self) -> int:
        """Wait until the command has ended; return its exit code."""
        for _ in until(lambda: not self._read()):
            pass
        return self._process.wait(PATIENCE)

    def close(self) -> None:
        """Kill the command if it still runs, and close the terminal."""
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def _read(self) -> bool:
        """Read what the command writes next; False at its end."""
        if not select.select([self._master], [], [], PATIENCE)[0]:
            raise AssertionError(f"nothing happened; the screen shows {self.screen!r}")
        try:
            data = os.read(self._master, 4096)
        except OSError:  # EIO, when nobody has the other side open any more
            return False
        self.screen += data.decode().replace("\r\n", "\n")
        return bool(data)
