"""Tests of the crowd's clients, which must notice what they are there to notice."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.hold import crowd, service
from tests.hold.carriers import Carrier, Place
from tests.hold.crowd import LARGEST, Client, Crowd
from tests.hold.promise import Broken
from tests.waiting import until


class ClientTests(SynchronousTestCase):
    """A client whose server is the test."""

    def setUp(self) -> None:
        """Connect one, and let it send its first piece."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        place = Place(Carrier.TCP, str(listener.getsockname()[1]))
        self.client = Client(place, "127.0.0.1", 1)
        self.addCleanup(self.client.sock.close)
        self.server, _ = listener.accept()
        self.addCleanup(self.server.close)
        self.server.settimeout(5)
        for _ in until(lambda: self.client.sent >= 2):
            self.client.next_piece()
            self.client.send()
        self.piece = self.server.recv(LARGEST)

    def answer(self, data: bytes) -> None:
        """Answer, and let the client read."""
        self.server.sendall(data)
        self.client.sock.settimeout(5)
        self.client.receive()

    def test_right(self) -> None:
        """What was sent is right, in as many parts as it comes."""
        self.answer(self.piece[:1])
        self.assertFalse(self.client.is_idle())
        self.answer(self.piece[1:])
        self.assertEqual(self.client.came, len(self.piece))

    def test_wrong(self) -> None:
        """One wrong byte is seen."""
        self.assertRaises(Broken, self.answer, self.piece[:-1] + bytes([self.piece[-1] ^ 1]))

    def test_too_much(self) -> None:
        """More than was sent is seen, even if it continues the noise."""
        more = self.client._at(self.client.sent, 10)
        self.assertRaises(Broken, self.answer, self.piece + bytes(more))

    def test_ended(self) -> None:
        """An end that nobody asked for is seen."""
        self.server.shutdown(socket.SHUT_WR)
        self.client.sock.settimeout(5)
        self.assertRaises(Broken, self.client.receive)

    def test_crowd_waits_for_all(self) -> None:
        """It ends when everything is back."""
        self.server.sendall(self.piece)
        Crowd([self.client]).run(-1)

        self.assertTrue(self.client.is_idle())

    def test_crowd_gives_up(self) -> None:
        """It does not wait for ever for what does not come."""
        self.patch(crowd, "GIVE_UP", 0.05)
        problem = self.assertRaises(Broken, Crowd([self.client]).run, -1)

        self.assertIn("nothing has come", str(problem))

    def test_reset(self) -> None:
        """A connection that was reset is a broken promise, not a fault of the test."""
        self.server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
        self.server.close()
        self.client.sock.settimeout(5)

        self.assertRaises(Broken, self.client.receive)

    def test_room(self) -> None:
        """Nobody begins a piece while too much is on the way."""
        self.server.sendall(self.piece)
        self.client.sock.settimeout(5)
        self.client.receive()
        self.patch(crowd, "ON_THE_WAY", 0)
        many = Crowd([self.client])
        many._begin_pieces()

        self.assertTrue(self.client.is_idle())

    def test_waited(self) -> None:
        """How long a client waited is seen."""
        time.sleep(0.02)
        self.answer(self.piece)

        self.assertGreaterEqual(self.client.waited, 0.02)


class LaunchTests(SynchronousTestCase):
    """How twistd is started."""

    def test_as_a_user_does(self) -> None:
        """Without a wish, there is nothing between."""
        self.assertNotIn("launch.py", " ".join(service.twistd()))

    def test_on_a_reactor(self) -> None:
        """A wish goes to the launcher."""
        self.patch(service, "_reactor", None)
        service.use_reactor("poll")

        self.assertEqual(service.twistd()[-1], "poll")
        self.assertEqual(service.twistd(timer=True)[-1], "poll,timer")

    def test_installed(self) -> None:
        """Each name is the reactor, and the event loop, that it says."""
        script = (
            "import select, launch, sys; reactor = launch.install(sys.argv[1]);"
            "loop = type(getattr(reactor, '_asyncioEventloop', None)).__module__.partition('.')[0];"
            "print(type(reactor).__name__, loop, hasattr(select, 'epoll'))"
        )

        def said(name: str) -> str:
            done = subprocess.run(
                [sys.executable, "-c", script, name],
                cwd=Path(service.__file__).parent,
                env={**os.environ, "PYTHONSAFEPATH": "", "PYTHONWARNINGS": "ignore"},
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            return done.stdout.strip() or done.stderr

        expected = {
            "epoll": "EPollReactor builtins True",
            "poll": "PollReactor builtins True",
            "select": "SelectReactor builtins True",
            "asyncio": "AsyncioSelectorReactor asyncio True",
            "uvloop": "AsyncioSelectorReactor uvloop True",
            "no-epoll": "PollReactor builtins False",
        }
        self.assertEqual(set(service.REACTORS), set(expected))
        if find_spec("uvloop") is None:
            del expected["uvloop"]
        self.assertEqual(expected, {name: said(name) for name in expected})
