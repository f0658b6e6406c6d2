"""How many TLS handshakes may be unfinished at a time.

Each holds some 40 KiB for a client that has said nothing but hello, or up to 16 KiB of a hello that is not whole.
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["FLIGHT", "SMALL", "Handshakes", "Unfinished"]

#: Those of one process take 20 MiB. An honest one is done in two round trips: with 0.2 s for that, 2500 clients a second have room.
MOST = 512

#: Bytes that a client may send before its handshake is done. Its certificates are among them, if it is asked for them: five
#: with RSA keys of 4096 bits take 10 KB.
FLIGHT = 48 * 1024

#: Bytes of a first message that is not whole for which a handshake is not counted yet. Nearly all clients say less: one whose
#: network is slow is as old as its message is whole, and silence costs no place.
SMALL = 2 * 1024


class Unfinished(Protocol):
    """A handshake that is not done."""

    def make_room(self) -> None:
        """End, for a newer one. `Handshakes.remove` is called before this returns."""


class Handshakes:
    """Those that are not done. When there are too many, the oldest makes room for the next.

    So no number of them keeps a client out: a handshake that goes on is the oldest only if as many others begin within the time
    that it takes.

    Args:
        most: How many there may be. Three quarters of them may be of one source; the oldest of that source then makes room.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._share = max(1, most * 3 // 4)
        self._all: dict[Unfinished, object] = {}
        self._by_source: dict[object, dict[Unfinished, None]] = {}

    def __len__(self) -> int:
        """Tell how many there are."""
        return len(self._all)

    def add(self, handshake: Unfinished, source: object) -> None:
        """Count one from now on. One that is counted stays as old as it is.

        Args:
            handshake: Which.
            source: What it is counted for.
        """
        if handshake in self._all:
            return
        own = self._by_source.get(source, {})
        if len(own) >= self._share:
            next(iter(own)).make_room()
        elif len(self._all) >= self._most:
            next(iter(self._all)).make_room()
        self._all[handshake] = source
        self._by_source.setdefault(source, {})[handshake] = None

    def remove(self, handshake: Unfinished) -> None:
        """One is done, or over. Idempotent."""
        if handshake not in self._all:
            return
        source = self._all.pop(handshake)
        own = self._by_source[source]
        del own[handshake]
        if not own:
            del self._by_source[source]
