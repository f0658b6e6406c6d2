"""What a wire protocol is to the house: a name, a source, and how to build its Twisted protocols."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
        options: An attrs class of what a listener's own settings may say; both builders are then called with an
            instance of it. None if there is nothing to say; both are then called without arguments.
        amplifies: A datagram of its may be answered by a longer one, so that a forger could use it against
            others: it is rate-limited.
    """

    name: str
    rfc: str
    summary: str
    stream: Callable[..., IProtocolFactory] | None = None
    datagram: Callable[..., DatagramProtocol] | None = None
    options: type[Any] | None = None
    amplifies: bool = False

    def make_stream(self, options: Any = None) -> IProtocolFactory:
        """Build the factory of a stream listener.

        Args:
            options: An instance of `options`; None for its defaults.
        """
        if self.stream is None:
            raise ValueError(f"{self.name} has no stream form")
        return self.stream(*self._arguments(options))

    def make_datagram(self, options: Any = None) -> DatagramProtocol:
        """Build the protocol of a datagram listener.

        Args:
            options: An instance of `options`; None for its defaults.
        """
        if self.datagram is None:
            raise ValueError(f"{self.name} has no datagram form")
        return self.datagram(*self._arguments(options))

    def _arguments(self, options: Any) -> list[Any]:
        if self.options is None:
            return []
        return [self.options() if options is None else options]
