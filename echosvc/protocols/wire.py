"""What a wire protocol is to the house: a name, a source, and how to build its Twisted protocols."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import DatagramProtocol

__all__ = ["WireProtocol"]


@attrs.frozen(kw_only=True)
class WireProtocol:
    """Something that can be spoken on a listener.

    Attributes:
        name: How options and logs name it, for example ``echo``.
        rfc: Where it is specified, for example ``RFC 862``.
        summary: What it does, in one line.
        stream: Builds the factory that serves one stream listener; None if it has no stream form.
        datagram: Builds the protocol that serves one datagram listener; None if it has no datagram form.
    """

    name: str
    rfc: str
    summary: str
    stream: Callable[[], IProtocolFactory] | None = None
    datagram: Callable[[], DatagramProtocol] | None = None
