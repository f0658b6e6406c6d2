"""Which wire protocols there are, by name."""

from __future__ import annotations

from echosvc.protocols.echo import ECHO
from echosvc.protocols.wire import WireProtocol

__all__ = ["find", "known", "register"]

_known: dict[str, WireProtocol] = {}


def register(wire: WireProtocol) -> WireProtocol:
    """Make a wire protocol known, so that a listener can name it.

    Args:
        wire: The protocol. It must have a stream or a datagram form.

    Returns:
        The same protocol.

    Raises:
        ValueError: The name is taken by another protocol, or the protocol has neither form.
    """
    if wire.stream is None and wire.datagram is None:
        raise ValueError(f"{wire.name}: a wire protocol needs a stream or a datagram form")
    if _known.setdefault(wire.name, wire) is not wire:
        raise ValueError(f"{wire.name}: there is already a protocol of this name")
    return wire


def find(name: str) -> WireProtocol:
    """Look up a wire protocol.

    Args:
        name: Its name, for example ``echo``.

    Raises:
        KeyError: There is none of this name.
    """
    return _known[name]


def known() -> list[WireProtocol]:
    """List all wire protocols, sorted by name."""
    return [_known[name] for name in sorted(_known)]


register(ECHO)
