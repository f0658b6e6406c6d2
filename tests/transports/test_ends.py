"""Tests of why connections are counted to have ended."""

from __future__ import annotations

import socket
import struct
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from echosvc.protocols import EchoFactory
from echosvc.transports import StreamPort
from echosvc.transports.ends import why_ended
from tests.transports.test_stream import STALL_TIMEOUT, StreamCase


class Obeying(Protocol):
    """Does what its peer says."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        """Do it."""
        match data:
            case b"close":
                self.transport.loseConnection()
            case b"abort":
                self.transport.abortConnection()
            case b"half":
                self.transport.loseWriteConnection()
            case b"abort and raise":
                self.transport.abortConnection()
                raise ValueError("a bug")
            case _:
                raise ValueError("a bug")


class WordTests(SynchronousTestCase):
    """What the end of a connection is called."""

    def test_follows_from_what_the_protocol_is_told(self) -> None:
        """And from who was first."""
        for problem, why, peer_first in (
            (ConnectionDone(), "closed", "peer-closed"),
            (ConnectionLost(), "lost", "lost"),
            (ConnectionAborted(), "aborted", "aborted"),
            (ValueError(), "failed", "failed"),
        ):
            failure = Failure(problem)

            self.assertEqual((why, peer_first), (why_ended(failure), why_ended(failure, peer_ended=True)))


class EndTests(StreamCase):
    """Ends of real connections."""

    def turn(self) -> None:
        """Have the hub and the reactor turn some times."""
        for _ in range(3):
            self.hub.doRead()
            self.reactor.advance(0)

    def obeying(self) -> StreamPort:
        """Open a port whose protocol obeys."""
        factory = Factory.forProtocol(Obeying)
        factory.noisy = False
        return self.open_port(factory)  # type: ignore[arg-type]

    def test_the_peer_closes(self) -> None:
        """With an echo still to be sent, too; and what was moved is added up."""
        port = self.open_port(EchoFactory())
        for size in (0, 5, 300):
            client, _ = self.connect(port)
            client.sendall(b"x" * size)
            client.shutdown(socket.SHUT_WR)
            self.turn()

        self.assertEqual({"peer-closed": 3}, port.ended)
        self.assertEqual((3, 305, 305), (port.sessionno, port.bytes_in, port.bytes_out))

    def test_the_peer_resets(self) -> None:
        """Having closed its direction first, too."""
        port = self.open_port(EchoFactory())
        client, _ = self.connect(port)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
        client.close()
        self.turn()

        self.assertEqual({"lost": 1}, port.ended)

    def test_the_protocol_ends_it(self) -> None:
        """In good order, or not; and the peer that closes after that does not change why."""
        for said, why in ((b"close", "closed"), (b"abort", "aborted"), (b"half", "closed")):
            port = self.obeying()
            client, _ = self.connect(port)
            client.sendall(said)
            self.turn()
            client.close()
            self.turn()

            self.assertEqual({why: 1}, port.ended)
            self.close(port)

    def test_the_protocol_fails(self) -> None:
        """Its bug is in the log. A connection that it has aborted before has ended once."""
        for said in (b"?", b"abort and raise"):
            port = self.obeying()
            client, _ = self.connect(port)
            client.sendall(said)
            self.turn()

            self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))
            self.assertEqual(({"failed": 1}, len(said)), (port.ended, port.bytes_in))
            self.close(port)

    def test_a_stall(self) -> None:
        """Is counted as such, though it is an abort."""
        port = self.open_port(EchoFactory())
        _, transport = self.connect(port)
        self.fill(transport)
        self.wait(STALL_TIMEOUT * 1.5)
        self.turn()

        self.assertEqual({"stall-timeout": 1}, port.ended)

    def test_whoever_else_ends_it_says_why(self) -> None:
        """The peer that closes at last does not change that."""
        port = self.open_port(EchoFactory())
        client, transport = self.connect(port)
        transport.why = "idle-timeout"
        transport.end()
        client.close()
        self.turn()

        self.assertEqual({"idle-timeout": 1}, port.ended)

    def test_the_end_of_the_process(self) -> None:
        """Ends connections, too: nobody asked for that but us."""
        port = self.open_port(EchoFactory())
        self.connect(port)
        self.hub.connectionLost(Failure(ConnectionLost()))

        self.assertEqual({"lost": 1}, port.ended)
