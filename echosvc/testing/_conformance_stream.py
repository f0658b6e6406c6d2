"""The conformance kit for wire protocols on streams, in memory."""

from __future__ import annotations

from functools import cached_property

from echosvc.testing._conformance import Calls, TurnedClock, ticks
from echosvc.testing._promises import Client, StreamPromises
from echosvc.testing._streams import WINDOW, MemoryClient, MemoryListener

__all__ = ["StreamConformance"]


class StreamConformance(StreamPromises):
    """Tests that every wire protocol on a stream must pass. Mix it into a trial test case:

        class TestShout(StreamConformance, SynchronousTestCase):
            wire = SHOUT

            def expected(self, sent: bytes) -> bytes:
                return sent.upper()

    Without `expected` the kit compares the protocol with itself. Connections are in memory and time is fake, so that
    nothing depends on the machine. Timers are found on ``self.transport.reactor`` and on the installed reactor; a
    factory that has to be handed a reactor is built in `make_factory`.
    """  # noqa: D415  # the example belongs to the sentence

    @cached_property
    def _clock(self) -> TurnedClock:
        return TurnedClock()

    @cached_property
    def _listener(self) -> MemoryListener:
        listener = MemoryListener(self.make_factory(self._clock), clock=self._clock)
        self.addCleanup(listener.stop)
        return listener

    @cached_property
    def _calls(self) -> Calls:
        return Calls(self._clock)

    def _connect(self, *, window: int | None = None) -> MemoryClient:
        listener = self._listener
        self._calls  # noqa: B018  # from here on every new one is a connection's
        return listener.connect(window=window or WINDOW)

    def _pass(self, seconds: float) -> None:
        self._clock.pump(ticks(seconds))

    def _left(self) -> list[str]:
        still_open = sum(not client.is_closed for client in self._listener.clients)
        connections = [f"{still_open} open connections"] if still_open else []
        return [*map(str, self._calls.new()), *connections]

    def _queued(self, client: Client) -> int:
        assert isinstance(client, MemoryClient)  # noqa: S101  # _connect has made it
        return client.transport.queued

    def _is_unaware(self, client: Client) -> bool:
        assert isinstance(client, MemoryClient)  # noqa: S101  # likewise
        return not client.is_closed
