"""The conformance kit for kinds of listeners: the same promises, on real sockets."""

from __future__ import annotations

from functools import cached_property

from echosvc.protocols import find
from echosvc.testing._conformance import Calls, ticks
from echosvc.testing._expected import Expected
from echosvc.testing._loopback import LoopbackReactor, SocketClient, SocketLike
from echosvc.testing._promises import StreamPromises

__all__ = ["ListenerConformance"]

#: Seconds of the machine's own time for which a kernel may keep loopback bytes to itself, and how often it may.
_LATE = 0.005
_TIMES = 3


class ListenerConformance(StreamPromises):
    """Tests that every kind of stream listener must pass. Mix it into a trial test case:

        class TestTCP(ListenerConformance, SynchronousTestCase):
            def serve(self, reactor: LoopbackReactor) -> None:
                self.port = reactor.listenTCP(0, self.make_factory(reactor), interface="127.0.0.1")

            def connect(self) -> socket.socket:
                return narrow_socket(("127.0.0.1", self.port.getHost().port))

    The promises are those of `StreamConformance`, kept by an echo on the listener over the machine's own kernel. Sockets
    are on loopback, and everything is in one thread that never sleeps; time is fake.

    Attributes:
        wire: What is spoken; echo, if nothing else is said.
    """  # noqa: D415  # the example belongs to the sentence

    wire = find("echo")
    many = 100

    #: More than a connection's buffers in the kernel hold: up to 4 MiB to send and 6 to receive, on either side
    #: (tcp_wmem, tcp_rmem), and a listener's own besides.
    _flood = 64 * 1024 * 1024
    _on_the_way = 40 * 1024 * 1024
    _sip = 16 * 1024

    def serve(self, reactor: LoopbackReactor) -> None:
        """Open the listener. Override this.

        Everything that watches descriptors of this reactor is closed after the test.

        Args:
            reactor: Serves the listener. It is turned by the kit.
        """
        raise NotImplementedError(f"{type(self).__name__}.serve opens the listener that is tested")

    def connect(self) -> SocketLike:
        """Connect a client to the listener. Override this.

        Returns:
            A connected socket, blocking or not, best a `narrow_socket`, or a connection through one.
        """
        raise NotImplementedError(f"{type(self).__name__}.connect returns a socket connected to the listener")

    def expected(self, sent: bytes) -> Expected:
        """Tell what is answered: the same bytes. Override this if something else than echo is spoken."""
        return sent

    @cached_property
    def _reactor(self) -> LoopbackReactor:
        reactor = LoopbackReactor()
        self.addCleanup(reactor.close)
        self.serve(reactor)
        return reactor

    @cached_property
    def _calls(self) -> Calls:
        return Calls(self._reactor)

    @cached_property
    def _descriptors(self) -> set[object]:
        return {*self._reactor.getReaders(), *self._reactor.getWriters()}

    def _connect(self, *, window: int | None = None) -> SocketClient:
        self._calls, self._descriptors  # noqa: B018  # from here on every new one is a connection's
        client = SocketClient(self.connect(), self._reactor)
        self.addCleanup(client.abort)
        return client

    def _pass(self, seconds: float) -> None:
        if seconds:
            for _ in range(_TIMES):
                self._reactor.turn(_LATE)
        for tick in ticks(seconds):
            self._reactor.advance(tick)

    def _left(self) -> list[str]:
        descriptors = {*self._reactor.getReaders(), *self._reactor.getWriters()} - self._descriptors
        return [*map(str, self._calls.new()), *map(str, descriptors)]
