"""Shout, an example protocol for echosvc: what comes in goes out in other letters.

Letters are those of ASCII. Every other byte stays what it is, so that UTF-8 survives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs
from twisted.internet.interfaces import IAddress, IUDPTransport
from twisted.internet.protocol import DatagramProtocol, Factory

from echosvc.protocols import Echo, WireProtocol

__all__ = ["SHOUT", "DatagramShout", "Shout", "ShoutFactory", "ShoutOptions"]

_MODES: Mapping[str, Callable[[bytes], bytes]] = {
    "upper": bytes.upper,
    "lower": bytes.lower,
    "swap": bytes.swapcase,
}


@attrs.frozen(kw_only=True)
class ShoutOptions:
    """What a listener's settings may say of shout.

    Attributes:
        mode: What becomes of letters: ``upper``, ``lower``, or ``swap`` for each into its other form.

    Raises:
        ValueError: There is no such mode.
    """

    mode: str = attrs.field(default="upper", validator=attrs.validators.in_(tuple(_MODES)))


class Shout(Echo):
    """Send everything back in other letters.

    Half-close and backpressure are `Echo`'s: an answer is as long as its question, and leaves as soon as it can.

    Args:
        options: Which letters.
    """

    def __init__(self, options: ShoutOptions) -> None:
        self._change = _MODES[options.mode]

    def dataReceived(self, data: bytes) -> None:
        """Send back what came, in other letters."""
        self.transport.write(self._change(data))


class ShoutFactory(Factory[Shout]):
    """Builds one `Shout` for each connection.

    Args:
        options: Which letters.
    """

    noisy = False

    def __init__(self, options: ShoutOptions) -> None:
        self._options = options

    def buildProtocol(self, addr: IAddress | None) -> Shout:
        """Build one."""
        return Shout(self._options)


class DatagramShout(DatagramProtocol):
    """Send every datagram back to where it came from, in other letters.

    Args:
        options: Which letters.
    """

    transport: IUDPTransport
    noisy = False

    def __init__(self, options: ShoutOptions) -> None:
        self._change = _MODES[options.mode]

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Send back what came, in other letters."""
        self.transport.write(self._change(datagram), addr)


SHOUT = WireProtocol(
    name="shout",
    rfc="none",
    summary="sends back what it receives, in other letters",
    stream=ShoutFactory,
    datagram=DatagramShout,
    options=ShoutOptions,
)
"""What the entry point names."""
