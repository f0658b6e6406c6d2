"""What a datagram protocol sees of datagrams that came in together."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from zope.interface import Interface

from echosvc.transports.messages import Messages
from echosvc.transports.peer import Source

__all__ = ["DatagramBatch", "IDatagramBatchProtocol"]


class IDatagramBatchProtocol(Interface):
    """A datagram protocol that takes datagrams by the batch, where the transport has them so.

    It is a `DatagramProtocol` all the same, and is given single datagrams by other transports.
    """

    def batch_received(batch: DatagramBatch) -> None:  # noqa: N805  # zope's interfaces leave out `self`
        """Take datagrams that the screen has let in.

        The batch and all it shows are good until this returns. `DatagramBatch.send_back` answers each with
        itself; other answers are written to the transport, one by one.
        """


class DatagramBatch:
    """Datagrams that came in together, from any number of peers; those of one peer are in order.

    It is made by a `DatagramPort`, and over when the protocol's `batch_received` returns: nothing that it has
    shown may be used after that. The views are released then; slices of them are not, and would go on to show
    what comes into that memory next. ``len(batch)`` is the number of datagrams. Iteration gives each one's payload, a
    `memoryview`, and its source, which may be kept: an answer written to it leaves from the address asked. A payload
    may be changed in place; `send_back` sends what it then is.
    """

    def __init__(
        self, messages: Messages, which: Sequence[int], send_back: Callable[[Sequence[int]], None]
    ) -> None:
        self._messages: Messages | None = messages
        self._which = which
        self._send_back = send_back
        self._count = messages.count(which)
        self._shown: list[memoryview] = []

    def __len__(self) -> int:
        """Return the number of datagrams."""
        return self._count

    def __iter__(self) -> Iterator[tuple[memoryview, Source]]:
        """Show each datagram and where it came from.

        Raises:
            RuntimeError: The batch is over.
        """
        messages = self._open()
        for index in self._which:
            source = messages.source(index)
            for payload in messages.datagrams(index):
                self._shown.append(payload)
                yield payload, source
                self._open()  # it may have ended meanwhile, also in the middle of a message

    def send_back(self) -> None:
        """Answer each datagram with itself, as it is now, in as few system calls as this system can.

        What the kernel refuses is counted by the port and never raised. Does nothing once the port is closed.

        Raises:
            RuntimeError: The batch is over.
        """
        self._open()
        self._send_back(self._which)

    def end(self) -> None:
        """End it: the memory is about to be used again. Called by the port."""
        self._messages = None
        for payload in self._shown:
            # BufferError: somebody holds on to it after all, and will read other bytes.
            with contextlib.suppress(BufferError):
                payload.release()

    def _open(self) -> Messages:
        if self._messages is None:
            raise RuntimeError("the batch is over: copy what is needed later before batch_received returns")
        return self._messages
