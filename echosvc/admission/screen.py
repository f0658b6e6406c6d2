"""The screen: which datagrams are never answered.

UDP has no connection, so that anyone can send a datagram in anyone's name. One datagram forged from our
own port would make an echo answer itself for ever (130 000 datagrams a second in stock Twisted); between
two echo services it would make a storm (CERT CA-1996-01, CVE-2024-2169).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from echosvc.transports import Screen

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
        A callable that takes the source ports of a batch of datagrams, and returns for each that is to be
        dropped its position and the reason.
    """
    refused = {0: SOURCE_PORT_ZERO, **dict.fromkeys(own_ports, SOURCE_PORT_OWN)}

    def screen(ports: Sequence[int]) -> Mapping[int, str]:
        if refused.keys().isdisjoint(ports):  # nearly always: 25 ns for each datagram of a batch of 64
            return {}
        return {position: refused[port] for position, port in enumerate(ports) if port in refused}

    return screen
