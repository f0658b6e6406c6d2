"""Without what keeps a TLS client from costing others memory or time."""

from __future__ import annotations

from typing import Any

from echosvc.transports import client_hello, tls, tls_handshake, turns
from echosvc.transports.handshakes import Handshakes
from echosvc.transports.tls_session import Session
from echosvc.transports.trim import Trimmer
from tests.hold.unguarded.registry import guard_of, replace


@guard_of("TLS-silent", "TLS-announce")
def _wait_for_the_hello() -> None:
    """There is no session before the client's first message is whole."""
    begin = tls_handshake.Handshake.__init__

    def begin_at_once(handshake: Any, *arguments: Any, **more: Any) -> None:
        begin(handshake, *arguments, **more)
        handshake.session = Session(handshake._settings.context_for(None), handshake._send)

    replace(tls_handshake.Handshake, "__init__", begin_at_once)


@guard_of("TLS-hello")
def _bound_the_hello() -> None:
    """A first message has a longest size."""
    replace(client_hello, "HELLO", 2**30)


@guard_of("TLS-hellos")
def _count_unfinished_hellos() -> None:
    """A long first message that is not whole is one of the limited number."""
    replace(tls_handshake, "SMALL", 2**30)


@guard_of("TLS-room")
def _make_room() -> None:
    """Handshakes that are not done are limited in number, and the oldest makes room."""
    replace(Handshakes, "add", lambda known, handshake, source: None)


@guard_of("TLS-return")
def _give_back() -> None:
    """Memory is given back when many have left."""
    replace(Trimmer, "leave", lambda trimmer: None)


@guard_of("TLS-turn-records", "TLS-turn-keys")
def _take_turns() -> None:
    """After a millisecond it is others' turn."""
    replace(tls, "TURN", 3600.0)
    replace(turns, "TURN", 3600.0)
