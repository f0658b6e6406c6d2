"""Tests of the UNIX stream port and its connections, on real sockets and a reactor that the test turns by hand."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import tempfile
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IFileDescriptorReceiver
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, SynchronousTestCase
from zope.interface import implementer

from echosvc.protocols import EchoFactory
from echosvc.transports import UnixStreamPort
from echosvc.transports.hub import hub_for
from echosvc.transports.linux import LINUX
from echosvc.transports.unix import UnixTransport
from tests.doubles import FakeReactor
from tests.transports.test_stream import RecorderFactory, have_own_spare
from tests.waiting import until

STALL_TIMEOUT = 10.0


@implementer(IFileDescriptorReceiver)
class Receiver(Protocol):
    """Remembers the descriptors it is handed."""

    def __init__(self) -> None:
        self.descriptors: list[int] = []
        self.data = b""

    def fileDescriptorReceived(self, descriptor: int) -> None:
        """Remember."""
        self.descriptors.append(descriptor)

    def dataReceived(self, data: bytes) -> None:
        """Remember."""
        self.data += data


class UnixPortCase(SynchronousTestCase):
    """Opens a port, and clients of it."""

    def setUp(self) -> None:
        """Make the reactor, and a folder whose path is short enough."""
        self.reactor = FakeReactor()
        self.hub = hub_for(self.reactor)
        folder = tempfile.mkdtemp(prefix="echosvc-")
        self.addCleanup(shutil.rmtree, folder)
        self.path = str(Path(folder) / "echo")

    def open_port(self, factory: Any, path: str | None = None) -> UnixStreamPort:
        """Open a port for a factory."""
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(path or self.path)
        sock.listen()
        return self.open_port_on(sock, factory)

    def open_port_on(self, sock: socket.socket, factory: Any) -> UnixStreamPort:
        """Open a port on a socket that listens."""
        port = UnixStreamPort(sock, factory, self.reactor, stall_timeout=STALL_TIMEOUT)
        port.startListening()
        self.addCleanup(self.close, port)
        return port

    def close(self, port: UnixStreamPort) -> None:
        """Close a port, and what it has accepted."""
        for each in self.transports():
            each.abortConnection()
        if port.connected:
            port.stopListening()
        self.reactor.advance(0)

    def client(self, port: UnixStreamPort, path: str | None = None) -> socket.socket:
        """Connect a client; nobody has accepted it yet."""
        client = socket.socket(socket.AF_UNIX)
        self.addCleanup(client.close)
        client.settimeout(5)
        if path is not None:
            client.bind(path)
        client.connect(port.socket.getsockname())
        return client

    def connect(self, port: UnixStreamPort, path: str | None = None) -> tuple[socket.socket, UnixTransport]:
        """Connect a client; return its socket and the connection on our side."""
        client = self.client(port, path)
        port.doRead()
        (transport,) = self.transports()
        return client, transport

    def transports(self) -> Sequence[UnixTransport]:
        """The connections that are served."""
        return [each for each in self.hub.getReaders() if isinstance(each, UnixTransport)]


class PortTests(UnixPortCase):
    """Accepting."""

    def test_tells_who_listens(self) -> None:
        """A path, or an abstract name."""
        self.assertEqual(UNIXAddress(self.path.encode()), self.open_port(EchoFactory()).getHost())
        if not LINUX:
            raise SkipTest("abstract names need Linux")
        name = f"\0{self.path}"
        self.assertEqual(UNIXAddress(name.encode()), self.open_port(EchoFactory(), name).getHost())

    def test_tells_the_protocol_who_connects(self) -> None:
        """Few clients have a name."""
        for path, expected in ((None, None), (f"{self.path}-client", f"{self.path}-client".encode())):
            factory = RecorderFactory()
            port = self.open_port(factory, f"{self.path}-{expected is None}")
            _, transport = self.connect(port, path)

            self.assertEqual([UNIXAddress(expected)], factory.addresses)
            self.assertEqual(UNIXAddress(expected), transport.getPeer())
            peers: Any = (*factory.addresses, transport.getPeer())
            self.assertEqual([os.geteuid()] * 2, [each.uid for each in peers])
            self.assertEqual(port.getHost(), transport.getHost())
            self.assertIn("Recorder", transport.logPrefix())
            self.close(port)

    def test_a_user_that_is_not_known(self) -> None:
        """Where the system does not tell, there is none."""
        self.patch(socket, "SO_PEERCRED", 0x7FFF)
        factory = RecorderFactory()
        _, transport = self.connect(self.open_port(factory))

        peers: Any = (*factory.addresses, transport.getPeer())
        self.assertEqual([None, None], [each.uid for each in peers])

    def test_accepts_many_at_once(self) -> None:
        """A turn of the reactor serves all who wait."""
        factory = RecorderFactory()
        port = self.open_port(factory)
        for _ in range(5):
            self.client(port)
        port.doRead()
        port.doRead()

        self.assertEqual((5, 5), (len(factory.built), port.sessionno))

    def test_makes_the_socket_non_blocking(self) -> None:
        """A blocking one, as a service manager passes it, cannot stop the reactor."""
        port = self.open_port(RecorderFactory())

        port.doRead()  # nobody there: returns at once
        self.assertFalse(port.socket.getblocking())

    def test_a_factory_may_refuse(self) -> None:
        """Whoever gets no protocol is closed, as Twisted has it."""
        factory = RecorderFactory()
        self.patch(factory, "buildProtocol", lambda _: None)
        port = self.open_port(factory)
        client = self.client(port)
        port.doRead()

        self.assertEqual(b"", client.recv(1))
        self.assertEqual(0, port.sessionno)

    def test_out_of_descriptors(self) -> None:
        """Whoever comes when no descriptor is left is closed and not left waiting, as Twisted has it."""
        have_own_spare(self)
        port = self.open_port(RecorderFactory())
        clients = [self.client(port) for _ in range(3)]
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
        try:
            port.doRead()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

        self.assertEqual([b""] * 3, [client.recv(1) for client in clients])

    def test_leaves_the_file_to_others(self) -> None:
        """Who has bound the socket removes it."""
        port = self.open_port(RecorderFactory())
        stopped = port.stopListening()
        self.reactor.advance(0)

        self.successResultOf(stopped)
        self.assertTrue(Path(self.path).is_socket())
        with socket.socket(socket.AF_UNIX) as late:
            self.assertRaises(ConnectionRefusedError, late.connect, self.path)


class ConnectionTests(UnixPortCase):
    """Connections are direct, as TCP's are, and served by the hub."""

    def test_echo(self) -> None:
        """What is sent comes back, at once and byte for byte, and is counted."""
        client, transport = self.connect(self.open_port(EchoFactory()))
        for message in (b"hello", b"x" * 100_000):
            client.sendall(message)
            received = b""
            for _ in until(lambda: len(received) == len(message)):
                self.hub.doRead()
                received += client.recv(len(message))

            self.assertEqual(message, received)
        self.assertEqual((100_005, 100_005), (transport.bytes_in, transport.bytes_out))
        self.assertEqual(transport.messages_in, transport.messages_out)
        self.assertEqual([], self.hub.getWriters())

    def test_half_closed_client_gets_everything(self) -> None:
        """Send and shut down at once: the echo arrives whole, and then the end."""
        client, _ = self.connect(self.open_port(EchoFactory()))
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)
        for _ in range(3):
            self.hub.doRead()

        self.assertEqual([b"hello", b""], [client.recv(100), client.recv(100)])
        self.assertEqual([], list(self.transports()))

    def test_what_a_read_has_left_is_told_again(self) -> None:
        """More than one read takes, and nothing new comes."""
        factory = RecorderFactory()
        client, transport = self.connect(self.open_port(factory))
        transport.bufferSize = 10
        client.sendall(b"x" * 25)
        for _ in range(3):
            self.hub.doRead()

        self.assertEqual(25, transport.bytes_in)

    def test_descriptors_travel_beside_the_bytes(self) -> None:
        """In both directions, as on Twisted's own transports."""
        client, transport = self.connect(self.open_port(Factory.forProtocol(Receiver)))
        receiver: Any = transport.protocol
        reading, writing = os.pipe()
        for each in (reading, writing):
            self.addCleanup(os.close, each)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [reading]).tobytes())]
        client.sendmsg([b"in"], rights)
        self.hub.doRead()
        transport.sendFileDescriptor(writing)
        transport.write(b"out")
        self.hub.doRead()
        data, received, _, _ = socket.recv_fds(client, 1, 1)
        for each in (*receiver.descriptors, *received):
            self.addCleanup(os.close, each)
        os.write(received[0], b"through")

        self.assertEqual((b"in", b"out"), (receiver.data, data + client.recv(100)))
        self.assertEqual(b"through", os.read(receiver.descriptors[0], 100))

    def fill(self, transport: UnixTransport) -> None:
        """Write until the kernel takes no more and something stays queued."""
        for _ in until(lambda: transport.dataBuffer):
            transport.write(b"x" * 1_000_000)
            transport.doWrite()

    def test_a_peer_that_takes_nothing_is_aborted(self) -> None:
        """After the port's time, and counted there."""
        port = self.open_port(RecorderFactory())
        _, transport = self.connect(port)
        self.fill(transport)
        self.reactor.pump([STALL_TIMEOUT / 8] * 7)
        self.assertEqual({}, port.aborts)
        self.reactor.pump([STALL_TIMEOUT / 8] * 2)

        self.assertEqual({"stall-timeout": 1}, port.aborts)
        self.assertEqual([], list(self.transports()))

    def test_a_slow_reader_is_left_alone(self) -> None:
        """Whoever takes something, now and then, is waited for."""
        port = self.open_port(RecorderFactory())
        client, transport = self.connect(port)
        self.fill(transport)
        for _ in range(4):
            self.reactor.pump([STALL_TIMEOUT / 8] * 7)
            client.recv(300_000)
            self.hub.doRead()

        self.assertEqual({}, port.aborts)
        self.assertTrue(transport.connected)

    def test_one_that_was_not_accepted_by_our_port(self) -> None:
        """Has the house's own patience, and nobody who counts."""
        ours, client = socket.socketpair(socket.AF_UNIX)
        self.addCleanup(client.close)
        ours.setblocking(False)
        transport = UnixTransport(ours, Protocol(), None, None, 0, self.reactor)
        transport.protocol.makeConnection(transport)
        transport.write(b"hello")

        self.assertEqual((300.0, None), (transport.stall_timeout, transport.aborts))
        self.assertEqual(b"hello", client.recv(99))
        transport.connectionLost(Failure(CONNECTION_DONE))
