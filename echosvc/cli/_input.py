"""Standard input, piece by piece as it is asked for, read by a thread."""

from __future__ import annotations

import os
import select
from queue import SimpleQueue
from threading import Thread
from typing import Any

from twisted.internet.defer import Deferred

from echosvc.client.pipe import Source
from echosvc.errors import OutputError

__all__ = ["Input", "Lines"]

#: Bytes per read. A pipe gives at most 64 KiB, a file everything asked for.
_PIECE = 256 * 1024


class Input:
    """Standard input.

    A thread waits in plain blocking reads, and only when a piece was asked for, so that no more is read than
    is wanted. It is a daemon: the end of the program does not wait for a user who types nothing.

    Args:
        reactor: Pieces arrive in its thread.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._asked: SimpleQueue[Deferred[bytes]] = SimpleQueue()
        Thread(target=self._read, name="standard input", daemon=True).start()

    def __call__(self) -> Deferred[bytes]:
        """Ask for the next piece.

        Returns:
            Fires with what there is, and with ``b""`` at the end. Fails with `OutputError` if standard input
            cannot be read.
        """
        asked: Deferred[bytes] = Deferred()
        self._asked.put(asked)
        return asked

    def _read(self) -> None:
        while True:
            asked = self._asked.get()
            try:
                piece = _read_some()
            except OSError as problem:
                self._reactor.callFromThread(
                    asked.errback, OutputError(f"standard input: {problem.strerror}")
                )
            else:
                self._reactor.callFromThread(asked.callback, piece)


def _read_some() -> bytes:
    while True:
        try:
            return os.read(0, _PIECE)
        except BlockingIOError:  # another program made the shared descriptor non-blocking
            select.select([0], [], [])


class Lines:
    """Standard input by lines.

    Args:
        source: Gives pieces of any size.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._rest = b""
        self._at_end = False

    async def next(self) -> bytes | None:
        """Wait for the next line, without its line end. A last line may lack one. None at the end.

        Raises:
            OutputError: Standard input cannot be read.
        """
        while b"\n" not in self._rest and not self._at_end:
            piece = await self._source()
            self._at_end = not piece
            self._rest += piece
        line, newline, self._rest = self._rest.partition(b"\n")
        return line if line or newline else None
