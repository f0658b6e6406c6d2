"""The client against a real echo over loopback."""

from __future__ import annotations

import random
import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.trial.unittest import SkipTest, TestCase

from echosvc.client import DatagramEchoClient, EchoClient, EchoPipe, Target, connect, connect_stream
from echosvc.client.connection import open_stream
from echosvc.errors import Refused
from echosvc.protocols import DatagramEcho, EchoFactory
from echosvc.transports import DatagramPort, display
from echosvc.transports.client import StreamClient
from tests.client.doubles import Pieces


def free_port(kind: socket.SocketKind, host: str) -> int:
    """Find a port where nobody listens."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, kind) as found:
        found.bind((host, 0))
        port: int = found.getsockname()[1]
        return port


class LoopbackCase(TestCase):
    """What every test here needs."""

    timeout = 30
    host = "127.0.0.1"

    def setUp(self) -> None:
        """Skip where the address does not exist."""
        try:
            free_port(socket.SOCK_STREAM, self.host)
        except OSError as problem:
            raise SkipTest(f"this machine has no {self.host}: {problem.strerror}") from None


class StreamTests(LoopbackCase):
    """TCP."""

    def serve(self) -> str:
        """Start an echo; return the target."""
        service: Any = reactor
        port = service.listenTCP(0, EchoFactory(), interface=self.host)
        self.addCleanup(port.stopListening)
        return display(self.host, port.getHost().port)

    async def test_connections_are_direct(self) -> None:
        """By address and by name, the client uses the same transports as the service."""
        where = self.serve()
        for target in (
            (where, where.replace(self.host, "localhost")) if self.host == "127.0.0.1" else (where,)
        ):
            client = await connect(target)
            assert isinstance(client, EchoClient)
            self.assertIsInstance(client.transport, StreamClient)
            await client.close()

    async def test_echo(self) -> None:
        """A few bytes and eight megabytes come back, in order, and the connection closes."""
        client = await connect(self.serve())
        assert isinstance(client, EchoClient)
        big = random.Random(1).randbytes(8_000_000)

        answers = await gatherResults([client.echo(b"hello"), client.echo(big), client.echo(b"bye")])
        await client.close()

        self.assertEqual([b"hello", big, b"bye"], answers)

    async def test_close_with_outstanding(self) -> None:
        """Closing at once loses nothing of what was sent before."""
        client = await connect_stream(Target.parse(self.serve()))
        big = random.Random(2).randbytes(3_000_000)
        answer = client.echo(big)

        await client.close()

        self.assertEqual(big, await answer)

    async def test_pipe(self) -> None:
        """A pipe of many windows comes back whole."""
        pieces = [random.Random(seed).randbytes(700_000) for seed in range(20)]
        taken = bytearray()
        pipe = EchoPipe(Pieces(*pieces, b""), taken.extend, reactor, patience=20)

        await open_stream(Target.parse(self.serve()), pipe, timeout=10)

        self.assertEqual(14_000_000, await pipe.done)
        self.assertEqual(b"".join(pieces), bytes(taken))

    async def test_refused(self) -> None:
        """A port where nobody listens is reported as refused."""
        target = display(self.host, free_port(socket.SOCK_STREAM, self.host))

        await self.assertFailure(connect(target), Refused)


class StreamIPv6Tests(StreamTests):
    """TCP over IPv6."""

    host = "::1"


class DatagramTests(LoopbackCase):
    """UDP."""

    largest = 65507

    async def open(self, port: int) -> DatagramEchoClient:
        """Get a client for a port."""
        client = await connect(f"udp:{display(self.host, port)}")
        assert isinstance(client, DatagramEchoClient)
        self.addCleanup(client.close)
        return client

    def serve(self) -> int:
        """Start an echo; return its port."""
        sock = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((self.host, 0))
        port = DatagramPort(sock, DatagramEcho(), reactor)
        port.startListening()
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        return number

    async def test_echo(self) -> None:
        """Datagrams come back, the empty and the largest one too."""
        client = await self.open(self.serve())
        for size in (0, 1, 1400, self.largest - 16):
            payload = random.Random(size).randbytes(size)
            self.assertEqual(payload, await client.echo(payload, 10))
        self.assertEqual((0, 0, 0), (client.late, client.duplicate, client.foreign))

    async def test_refused(self) -> None:
        """A port where nobody listens is reported as refused, promptly, and so are later calls."""
        client = await self.open(free_port(socket.SOCK_DGRAM, self.host))
        for _ in range(3):
            await self.assertFailure(client.echo(b"hello", 20), Refused)

    async def test_many_refused(self) -> None:
        """Of many calls to a port where nobody listens, each is refused or at least ends."""
        client = await self.open(free_port(socket.SOCK_DGRAM, self.host))

        await gatherResults([self.assertFailure(client.echo(b"hello", 20), Refused) for _ in range(20)])


class DatagramIPv6Tests(DatagramTests):
    """UDP over IPv6."""

    host = "::1"
    largest = 65487
