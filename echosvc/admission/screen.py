"""The screen: which datagrams are never answered.

UDP has no connection, so that anyone can send a datagram in anyone's name. One datagram forged from our
own port would make an echo answer itself for ever (130 000 datagrams a second in stock Twisted); between
two echo services it would make a storm (CERT CA-1996-01, CVE-2024-2169).
"""

from __future__ import annotations

from collections.abc import Iterable

from echosvc.transports import HostPort, Screen

__all__ = ["SOURCE_PORT_OWN", "SOURCE_PORT_ZERO", "make_screen"]

SOURCE_PORT_ZERO = "source-port-zero"
"""Reserved (RFC 768: "if not used, a value of zero is inserted"); nothing can be answered there."""

SOURCE_PORT_OWN = "source-port-own"
"""The source is a port that we listen on ourselves: our own echo, or an echo service like ours elsewhere."""


def make_screen(own_ports: Iterable[int]) -> Screen:
    """Make the screen for a service that listens on some UDP ports.

    Args:
        own_ports: Every UDP port of the service. The port alone decides, whatever the address: the same
            service on another host, or on another address of this one, would answer as we do.

    Returns:
        A callable that takes a datagram's source and returns the reason to drop it, or None.
    """
    own = frozenset(own_ports)

    def screen(source: HostPort) -> str | None:
        port = source[1]
        if port in own:
            return SOURCE_PORT_OWN
        if port == 0:
            return SOURCE_PORT_ZERO
        return None

    return screen
