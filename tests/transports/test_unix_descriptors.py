"""Tests of descriptors that travel over UNIX connections, beside bytes that are written directly."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.error import FileDescriptorOverrun
from twisted.trial.unittest import SynchronousTestCase

from echosvc.transports import UnixStreamPort
from echosvc.transports.hub import hub_for
from tests.doubles import FakeReactor
from tests.transports.test_stream import RecorderFactory


class DescriptorTests(SynchronousTestCase):
    """A descriptor leaves with bytes, whichever comes first."""

    def setUp(self) -> None:
        """Connect."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = str(Path(folder.name) / "s")
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(path)
        listening.listen()
        reactor = FakeReactor()
        self.hub = hub_for(reactor)
        port = UnixStreamPort(listening, RecorderFactory(), reactor, stall_timeout=10)
        port.startListening()
        self.client = socket.socket(socket.AF_UNIX)
        self.client.settimeout(5)
        self.addCleanup(self.client.close)
        self.client.connect(path)
        port.doRead()
        port.stopListening()
        reactor.advance(0)
        (self.transport,) = [each for each in self.hub.getReaders() if each is not port]
        self.protocol = self.transport.protocol
        self.addCleanup(self.close)

    def close(self) -> None:
        """Close what is still open."""
        if self.transport.connected:
            self.transport.abortConnection()
            self.hub.advance(0)

    def received(self) -> tuple[bytes, int]:
        """What the client gets: bytes, and how many descriptors."""
        self.hub.doRead()
        data, descriptors, _, _ = socket.recv_fds(self.client, 100, 10)
        for each in descriptors:
            os.close(each)
        return data, len(descriptors)

    def test_before_its_byte(self) -> None:
        """It leaves with the byte."""
        self.transport.sendFileDescriptor(0)
        self.transport.write(b"x")

        self.assertEqual(self.received(), (b"x", 1))

    def test_after_its_byte(self) -> None:
        """It waits for the next, if its own has left; the connection lives on."""
        self.transport.write(b"x")
        self.transport.sendFileDescriptor(0)
        self.assertEqual(self.received(), (b"x", 0))
        self.transport.write(b"y")

        self.assertEqual(self.received(), (b"y", 1))

    def test_writes_are_direct_again_afterwards(self) -> None:
        """One descriptor does not slow down all that follows."""
        self.transport.sendFileDescriptor(0)
        self.transport.write(b"x")
        self.received()
        self.transport.write(b"direct")

        self.assertEqual(self.client.recv(100), b"direct")

    def test_without_a_byte(self) -> None:
        """To close with one that has nothing to leave with is an error, as Twisted has it."""
        self.transport.sendFileDescriptor(0)
        self.transport.loseConnection()
        self.hub.doRead()

        self.protocol.lost.trap(FileDescriptorOverrun)

    def test_counts(self) -> None:
        """Bytes and messages of a UNIX connection are counted."""
        self.client.send(b"abc")
        self.hub.doRead()
        counts: Any = (self.transport.bytes_in, self.transport.messages_in)

        self.assertEqual(counts, (3, 1))
