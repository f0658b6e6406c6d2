"""What the promises about datagrams rest on."""

from __future__ import annotations

import errno
import os
from typing import Any

from echosvc.admission import rate, rules, screen
from echosvc.transports import datagram, destinations, linux, mmsg, own_source
from tests.hold.unguarded.registry import guard_of, replace


@guard_of("T03")
def _make_room() -> None:
    """There is room for the largest datagram. Twisted has 8192 bytes."""
    replace(mmsg, "_ROOM", 8192)


@guard_of("T22")
def _make_room_for_fragments() -> None:
    """There is room for what comes in pieces."""
    replace(mmsg, "_ROOM", 1500)


@guard_of("T05")
def _ask_where_it_was_sent_to() -> None:
    """The kernel is asked which address a datagram was sent to."""
    linux.PKTINFO_OPTIONS.clear()


@guard_of("T09")
def _ask_what_was_dropped() -> None:
    """The kernel is asked how many datagrams it had no room for."""
    replace(datagram, "kernel_drops", lambda sock: 0)


@guard_of("T16", "T16-ports")
def _go_by_rules() -> None:
    """What no client can have sent is refused."""
    replace(rules.Rules, "refuses", lambda itself, arrival: None)


@guard_of("T21")
def _look_where_it_was_sent_to() -> None:
    """What was sent to many is refused, and what no client can have sent."""
    _go_by_rules()
    replace(destinations.Destinations, "refused", lambda itself, addresses: {})


@guard_of("T17", "T19")
def _limit_the_rate() -> None:
    """A source has no more than its rate."""
    replace(rate.Allowance, "ask", lambda itself, count: None)


@guard_of("T08")
def _bear_with_neighbours() -> None:
    """Who asks on this machine has not to keep to a rate."""
    replace(screen, "is_loopback", lambda address: False)


@guard_of("T20")
def _end_the_turn() -> None:
    """A turn ends, whatever still waits."""
    do_read = datagram.DatagramPort.doRead

    def read_to_the_end(port: Any) -> None:
        before = -1
        while port.datagrams_in > before:
            before = port.datagrams_in
            do_read(port)

    replace(datagram.DatagramPort, "doRead", read_to_the_end)


@guard_of("T23-send")
def _bear_what_cannot_be_sent() -> None:
    """What the system refuses to send is counted, and that is all."""

    def fail(port: Any, doing: str, number: int) -> None:
        raise OSError(number, f"{doing}: {os.strerror(number)}", errno.errorcode.get(number))

    replace(datagram.DatagramPort, "_failed", fail)


@guard_of("OWN")
def _know_the_device() -> None:
    """What is sent in the host's own name comes in through its loopback device."""
    replace(own_source, "_attach", lambda sock, code: None)
