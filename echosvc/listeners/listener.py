"""A listener: one bound address that speaks one wire protocol."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred

from echosvc.listeners.settings import ListenerSettings
from echosvc.listeners.sockets import bind_all, where
from echosvc.protocols import WireProtocol, find
from echosvc.transports import DatagramPort, Screen, StreamPort

__all__ = ["Listener", "open_listeners"]


class Listener:
    """One bound address that speaks one wire protocol.

    Args:
        wire: What it speaks; it must have the form (stream or datagram) that the socket needs.
        sock: The bound socket. The listener owns it.
        settings: What describes it.

    Attributes:
        where: Where it listens, as logs show it, for example ``TCP [::]:8080 (IPv6 and IPv4)``.
        port: The port number that was bound.
    """

    def __init__(self, wire: WireProtocol, sock: socket.socket, settings: ListenerSettings) -> None:
        self.wire = wire
        self.where = where(sock)
        self.port: int = sock.getsockname()[1]
        self.is_datagram = sock.type == socket.SOCK_DGRAM
        self._sock = sock
        self._settings = settings
        self._served: StreamPort | DatagramPort | None = None

    def __str__(self) -> str:
        """Say what listens where, in one line."""
        return f"{self.wire.name} ({self.wire.rfc}) listens on {self.where}"

    def start(self, reactor: Any, screen: Screen) -> None:
        """Begin to serve.

        Args:
            reactor: Watches the socket and keeps time.
            screen: Asked about every datagram first. Streams do not use it.
        """
        served: StreamPort | DatagramPort
        if self.is_datagram:
            assert self.wire.datagram is not None  # noqa: S101  # open_listeners has seen to it
            served = DatagramPort(self._sock, self.wire.datagram(), reactor, screen=screen)
        else:
            assert self.wire.stream is not None  # noqa: S101  # likewise
            served = StreamPort(
                self._sock, self.wire.stream(), reactor, stall_timeout=self._settings.stall_timeout
            )
        served.startListening()
        self._served = served

    def stop(self) -> Deferred[object]:
        """Stop accepting, and close the socket.

        Returns:
            Fires when it is closed. Connections that were accepted live on.
        """
        if self._served is None:
            self._sock.close()
            return maybeDeferred(lambda: None)
        return maybeDeferred(self._served.stopListening)

    def drops(self) -> Counter[str]:
        """Tell what was dropped or aborted so far, by reason."""
        if isinstance(self._served, DatagramPort):
            return self._served.all_drops()
        return self._served.aborts if self._served is not None else Counter()

    def totals(self) -> str:
        """Tell what was served so far, in words."""
        if isinstance(self._served, DatagramPort):
            port = self._served
            return (
                f"{port.datagrams_in} datagrams ({port.bytes_in} bytes) in, "
                f"{port.datagrams_out} ({port.bytes_out} bytes) out"
            )
        return f"{self._served.sessionno if self._served is not None else 0} connections"

    def shortfall(self) -> str | None:
        """Say what the system granted less of than was asked for, and how to get it; None if nothing."""
        if not self.is_datagram:
            return None
        granted = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        asked = self._settings.receive_buffer
        if granted >= asked:
            return None
        return (
            f"receive buffer is {granted} bytes, not {asked}: more is lost in a burst; "
            f"`sysctl -w net.core.rmem_max={asked}` allows it"
        )


def open_listeners(settings: Sequence[ListenerSettings]) -> list[Listener]:
    """Bind every listener of a service; nothing is served until each is started.

    Args:
        settings: What to listen on.

    Returns:
        One listener for each of `settings`, in their order.

    Raises:
        ListenError: One could not be opened. None is left open.
        ValueError: A wire protocol is unknown, or lacks the form that its listener needs.
    """
    wires = [_wire_for(each) for each in settings]
    sockets = bind_all(settings)
    return [Listener(*each) for each in zip(wires, sockets, settings, strict=True)]


def _wire_for(listener: ListenerSettings) -> WireProtocol:
    try:
        wire = find(listener.protocol)
    except KeyError:
        raise ValueError(f"{listener.origin}: there is no protocol {listener.protocol!r}") from None
    if (wire.stream if listener.transport == "tcp" else wire.datagram) is None:
        raise ValueError(f"{listener.origin}: {wire.name} is not spoken over {listener.transport.upper()}")
    return wire
