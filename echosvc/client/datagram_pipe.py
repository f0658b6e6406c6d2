"""A stream of any length through a datagram echo service, a small window of datagrams at a time.

Nothing is sent a second time: a datagram that does not come back ends the pipe, because what was lost is
what the user wants to know.
"""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred, DeferredQueue, DeferredSemaphore
from twisted.python.failure import Failure

from echosvc.client.datagram import DatagramEchoClient
from echosvc.client.pipe import Sink, Source
from echosvc.errors import EchoLost, EchoMismatch, NoReply

__all__ = ["CHUNK", "WINDOW", "pipe_datagrams"]

#: Bytes of payload in a datagram: with tag and headers it fits the smallest IPv6 path (1280, RFC 8200).
CHUNK = 1200

#: Datagrams on the way: far fewer than a receive buffer of Linux's default size holds (about 250).
WINDOW = 32


@attrs.frozen(eq=False)
class _OnTheWay:
    """One datagram whose payload is not handed to the sink yet."""

    size: int
    answer: Deferred[bytes]


async def pipe_datagrams(client: DatagramEchoClient, source: Source, sink: Sink, *, patience: float) -> int:
    """Send what a source gives, and give a sink what comes back right, in order.

    Args:
        client: Sends and checks. It stays open.
        source: Where bytes come from.
        sink: Where they go.
        patience: Seconds to wait for each datagram.

    Returns:
        How many bytes came back: all of them.

    Raises:
        EchoMismatch: The offset counts from the start of the stream.
        EchoLost: Datagrams did not come back; everything on the way was waited for, so that the count of
            what is missing is right.
        PeerError: What else the client says of a datagram that could not be delivered.
        Exception: What source or sink raised.
    """
    on_the_way: DeferredQueue[_OnTheWay | Failure | None] = DeferredQueue()
    room = DeferredSemaphore(WINDOW)

    async def send_all() -> None:
        while piece := await source():
            for start in range(0, len(piece), CHUNK):
                chunk = piece[start : start + CHUNK]
                await room.acquire()
                on_the_way.put(_OnTheWay(len(chunk), client.echo(chunk, patience)))

    sending = Deferred.fromCoroutine(send_all()).addBoth(on_the_way.put)
    verified = 0
    try:
        while (oldest := await on_the_way.get()) is not None:
            if isinstance(oldest, Failure):
                oldest.raiseException()
            try:
                payload = await oldest.answer
            except NoReply as silence:
                sending.cancel()
                missing = oldest.size + await _missing(on_the_way.pending)
                raise EchoLost(missing, f"{silence}, and UDP does not send again") from None
            except EchoMismatch as wrong:
                raise EchoMismatch(verified + wrong.offset, wrong.expected, wrong.received) from None
            sink(payload)
            verified += len(payload)
            room.release()
    finally:
        sending.cancel()
        for each in on_the_way.pending:
            if isinstance(each, _OnTheWay):
                each.answer.addErrback(lambda _: None)
                each.answer.cancel()
    return verified


async def _missing(pending: list[_OnTheWay | Failure | None]) -> int:
    """Wait for what is still on the way, and count the bytes of it that did not come back."""
    missing = 0
    for each in list(pending):
        if isinstance(each, _OnTheWay):
            try:
                await each.answer
            except Exception:  # noqa: BLE001  # for whatever reason it did not come back
                missing += each.size
    return missing
