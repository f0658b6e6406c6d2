"""Tests of what is done when a connection cannot be accepted."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import AbstractContextManager
from typing import Any

from echosvc.transports import stream
from echosvc.transports.accepting import REST, SpareDescriptor
from tests.machine import no_descriptor
from tests.transports.test_stream import RecorderFactory, StreamCase


class FailingSocket:
    """A port's socket, whose accept fails some times first.

    Args:
        sock: The real one.
        errors: What it fails with.
    """

    def __init__(self, sock: socket.socket, *errors: int) -> None:
        self._sock = sock
        self._errors = list(errors)

    def __getattr__(self, name: str) -> Any:
        """Everything else is as it is."""
        return getattr(self._sock, name)

    def _accept(self) -> Any:
        if self._errors:
            number = self._errors.pop(0)
            raise OSError(number, os.strerror(number))
        return self._sock._accept()  # type: ignore[attr-defined]


class AcceptTests(StreamCase):
    """Nobody is left waiting for ever, nothing spins, and who is in is served."""

    def setUp(self) -> None:
        """Open a port, with a spare descriptor of the test's own."""
        super().setUp()
        self.spare = SpareDescriptor()
        self.addCleanup(self.spare.give_up)
        self.patch(stream, "SPARE", self.spare)
        self.factory = RecorderFactory()
        self.port = self.open_port(self.factory)
        self.addCleanup(self.drop_all)

    def drop_all(self) -> None:
        """End every connection."""
        for each in self.factory.built:
            transport: Any = each.transport
            if transport is not None:
                self.drop(transport)

    def clients(self, count: int) -> list[socket.socket]:
        """Have so many wait to be accepted."""
        waiting = [socket.create_connection(("127.0.0.1", self.port.getHost().port), 5) for _ in range(count)]
        for each in waiting:
            self.addCleanup(each.close)
        return waiting

    def let_fail(self, *errors: int) -> None:
        """Let the next calls of accept fail, then work."""
        port: Any = self.port
        port.socket = FailingSocket(port.socket, *errors)

    def no_descriptor(self, left: int = 0) -> AbstractContextManager[None]:
        """Have none left, or so many."""
        return no_descriptor(self.spare, left=left)

    def test_out_of_descriptors(self) -> None:
        """Whoever waits is closed, in the place of the spare descriptor, and counted; there is no line in the log."""
        clients = self.clients(5)
        with self.no_descriptor(left=2):
            self.port.doRead()

        self.assertEqual({"accept-EMFILE": 3}, self.port.aborts)
        self.assertEqual(2, len(self.factory.built))
        for client in clients[2:]:
            self.assertEqual(b"", client.recv(1))
        self.assertIn(self.port, self.reactor.getReaders())

    def test_descriptors_again(self) -> None:
        """The next is served as if nothing had been; the spare one is there again."""
        self.clients(3)
        with self.no_descriptor():
            self.port.doRead()
        self.clients(1)
        self.port.doRead()

        self.assertEqual(1, len(self.factory.built))
        self.assertTrue(self.spare.give_up())

    def test_many_are_turned_away_in_turns(self) -> None:
        """Others have theirs between."""
        self.patch(stream, "ACCEPT_TURN", 4)
        self.clients(6)
        with self.no_descriptor():
            counts = []
            for _ in range(3):
                self.port.doRead()
                counts.append(self.port.aborts["accept-EMFILE"])

        self.assertEqual([4, 6, 6], counts)

    def test_out_of_descriptors_without_a_spare_one(self) -> None:
        """A thread has taken it: the port rests, and does not spin."""
        self.clients(1)
        self.spare.give_up()
        with self.no_descriptor():
            self.port.doRead()
            self.assertNotIn(self.port, self.reactor.getReaders())
            self.reactor.advance(REST)
        self.port.doRead()

        self.assertEqual({"accept-EMFILE": 1}, self.port.aborts)
        self.assertEqual(1, len(self.factory.built))

    def test_a_spare_descriptor_that_is_taken_meanwhile(self) -> None:
        """Those who wait are closed; then the port rests until there may be one again."""
        self.clients(2)
        with self.no_descriptor():
            self.patch(self.spare, "keep", lambda: False)
            self.port.doRead()

        self.assertEqual({"accept-EMFILE": 2}, self.port.aborts)
        self.assertNotIn(self.port, self.reactor.getReaders())

    def test_what_is_one_connections_trouble_keeps_no_other_out(self) -> None:
        """It is gone already, or a packet filter forbids it; the others are accepted in the same moment."""
        self.let_fail(errno.ECONNABORTED, errno.EPERM, errno.EPROTO)
        self.clients(1)
        for _ in range(4):
            self.assertIn(self.port, self.reactor.getReaders())
            self.port.doRead()

        self.assertEqual({"accept-ECONNABORTED": 1, "accept-EPERM": 1, "accept-EPROTO": 1}, self.port.aborts)
        self.assertEqual(1, len(self.factory.built))

    def test_where_the_system_cannot_even_watch_the_port_rests_again(self) -> None:
        """No memory for that either: it is tried until there is."""
        self.let_fail(errno.ENFILE)
        self.port.doRead()
        start = self.port.startReading

        def refuse() -> None:
            self.patch(self.port, "startReading", start)
            raise OSError(errno.ENOMEM, "no memory")

        self.patch(self.port, "startReading", refuse)
        self.reactor.advance(REST)
        self.assertNotIn(self.port, self.reactor.getReaders())
        self.reactor.advance(REST)

        self.assertIn(self.port, self.reactor.getReaders())
        self.assertEqual({"accept-ENFILE": 1, "accept-ENOMEM": 1}, self.port.aborts)

    def test_where_the_system_cannot_the_port_rests(self) -> None:
        """No files, no buffers, no memory in the whole system, or what nobody has thought of: it asks again in 0.1 s."""
        for number in (errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EIO):
            self.let_fail(number)
            self.port.doRead()
            self.assertNotIn(self.port, self.reactor.getReaders())
            self.reactor.advance(REST)
            self.assertIn(self.port, self.reactor.getReaders())
        self.clients(1)
        self.port.doRead()

        self.assertEqual(
            {f"accept-{name}": 1 for name in ("ENFILE", "ENOBUFS", "ENOMEM", "EIO")}, self.port.aborts
        )
        self.assertEqual(1, len(self.factory.built))

    def test_an_error_without_a_name(self) -> None:
        """Is counted as one."""
        self.let_fail(99_999)
        self.port.doRead()

        self.assertEqual({"accept-error": 1}, self.port.aborts)

    def test_a_port_that_is_closed_while_it_rests(self) -> None:
        """It stays closed, and leaves no timer."""
        for wait in (0.0, REST):
            self.let_fail(errno.ENFILE)
            self.port.doRead()
            closed = self.port.stopListening()
            self.reactor.advance(wait)

            self.successResultOf(closed)
            self.assertEqual([], self.reactor.getDelayedCalls())
            self.assertEqual([], self.reactor.getReaders())
            self.port = self.open_port(self.factory)

    def test_the_spare_descriptor(self) -> None:
        """There is one or there is none, however often it is asked for."""
        self.assertTrue(self.spare.keep())
        number: int = self.spare._fd
        self.assertTrue(self.spare.keep())
        self.assertEqual(number, self.spare._fd)
        self.assertTrue(self.spare.give_up())
        self.assertFalse(self.spare.give_up())
        with self.no_descriptor():
            self.assertFalse(self.spare.keep())
        self.assertTrue(self.spare.keep())

        self.assertFalse(os.get_inheritable(self.spare._fd))
