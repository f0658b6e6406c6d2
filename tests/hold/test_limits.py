"""Tests of what judges T12 to T14: it must see what it is there to see."""

from __future__ import annotations

import itertools
import socket
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.hold import greedy, limits
from tests.hold.carriers import Carrier, Place


class SocketCase(SynchronousTestCase):
    """Has a server that does as a test says."""

    def setUp(self) -> None:
        """Listen."""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(5)
        self.addCleanup(self.listener.close)
        self.port = self.listener.getsockname()[1]

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """Connect; return the client's socket and the server's."""
        client = socket.create_connection(("127.0.0.1", self.port), 5)
        self.addCleanup(client.close)
        server, _ = self.listener.accept()
        self.addCleanup(server.close)
        return client, server


class FateTests(SocketCase):
    """What becomes of a client."""

    def test_served(self) -> None:
        """Something comes back."""
        client, server = self.pair()
        server.sendall(b"?")

        self.assertEqual("served", limits._fate(client))

    def test_closed(self) -> None:
        """In good order, or not."""
        for end in (lambda server: server.shutdown(socket.SHUT_WR), lambda server: server.close()):
            client, server = self.pair()
            client.sendall(b"unread")
            end(server)

            self.assertEqual("closed", limits._fate(client))

    def test_hung(self) -> None:
        """Nothing comes."""
        client, _ = self.pair()
        client.settimeout(0.01)

        self.assertEqual("hung", limits._fate(client))


class WatchTests(SocketCase):
    """The ends of many connections are seen."""

    def test_sees_who_has_ended_and_when(self) -> None:
        """Not who is answered."""
        (silent, ending), (slow, answering) = self.pair(), self.pair()
        watch = limits._Watch([silent], [slow])
        before = time.monotonic()
        ending.close()
        watch.run(before + 0.2, iter([(before, slow), (before + 9.0, slow)]))
        self.assertEqual(b".", answering.recv(9))
        answering.sendall(b".")
        watch.run(time.monotonic() + 0.05, iter([(before + 9.0, slow)]))

        self.assertEqual([silent], list(watch.ended))
        self.assertTrue(before <= watch.ended[silent] <= time.monotonic())

    def test_everybody_sends_once_in_ten_seconds(self) -> None:
        """One after the other."""
        one: Any = "one"
        other: Any = "other"
        found = list(itertools.islice(limits._spread([one, other], until=100.0), 4))

        self.assertEqual([(95.0, one), (100.0, other), (105.0, one), (110.0, other)], found)


class CountTests(SynchronousTestCase):
    """What the log says was counted."""

    def test_lines_are_added_up(self) -> None:
        """Each says what came since the last."""
        with TemporaryDirectory() as folder:
            log = Path(folder) / "log"
            log.write_text("x: dropped: a-b 3, c 1\nsomething a-b 5\nx: dropped: c 9, a-b 4\n")
            server: Any = SimpleNamespace(log=log.read_text)

            self.assertEqual({"a-b": 7}, limits._counted(server, "a-b", "d"))
            self.assertEqual(3, limits._lines(server))


class GreedyTests(SocketCase):
    """The source that wants everything."""

    def test_what_came_of_it(self) -> None:
        """Let in, refused, or nothing heard."""
        self.patch(greedy, "PATIENCE", 0.05)
        place = Place(Carrier.TCP, str(self.port))
        self.assertIsNone(greedy.connect(place, "127.0.0.2"))
        self.listener.close()

        self.assertIs(False, greedy.connect(place, "127.0.0.2"))

    def test_counts(self) -> None:
        """As often as it was told to."""
        self.patch(greedy, "connect", lambda *_: True)
        asked, let_in, hung = map(int, greedy.main(Place.parse("7"), "127.0.0.2", 1000, 0.05).split())

        self.assertEqual((asked, 0), (let_in, hung))
        self.assertLessEqual(asked, 51)
