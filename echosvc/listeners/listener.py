"""A listener: one bound address that speaks one wire protocol."""

from __future__ import annotations

import socket
from collections import Counter
from math import inf
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from echosvc.admission import AccessList, DatagramScreen, Door, Gate, Screens
from echosvc.listeners.adopted import set_connection_options
from echosvc.listeners.layers import Layers
from echosvc.listeners.settings import Inherited, ListenerSettings
from echosvc.listeners.sockets import Opened, set_receive_buffer, where
from echosvc.observe import ConnectionLog, ListenerSnapshot
from echosvc.protocols import WireProtocol
from echosvc.transports import DatagramPort, StreamPort, UnixDatagramPort, UnixStreamPort
from echosvc.transports.datagram import RECEIVE_QUEUE_FULL
from echosvc.transports.own_source import OwnSource
from echosvc.transports.pace import Pace, PacedStreamPort, PacedUnixStreamPort
from echosvc.transports.rights import close_bound
from echosvc.transports.unix import receives_descriptors
from echosvc.transports.unix_names import can_answer_paths

__all__ = ["Listener", "describe"]


_log = Logger(namespace="echosvc")

#: Seconds between two looks at which addresses this host has.
ADDRESSES_SECONDS = 1.0

_Port: TypeAlias = StreamPort | DatagramPort


class Listener:
    """One bound socket that speaks one wire protocol.

    Args:
        wire: What it speaks; it must have the form (stream or datagram) that the socket needs.
        opened: The bound socket. The listener owns it, and its file.
        layers: What goes between the bytes and the protocol.

    Raises:
        ValueError: A list of networks cannot be read; the message says which.

    Attributes:
        where: Where it listens, as logs show it, for example ``TCP [::]:8080 (IPv6 and IPv4)``.
        settings: What describes it.
        udp_port: The UDP port that was bound; None if it is none.
        own_name: The name of the UNIX datagram socket that was bound; None if it is none.
        transport: ``tcp``, ``udp``, ``unix`` or ``unixgram``.
    """

    def __init__(self, wire: WireProtocol, opened: Opened, layers: Layers) -> None:
        assert opened.sock is not None  # noqa: S101  # a foreign endpoint is another class's
        self.wire = wire
        self.settings = opened.settings
        self.where = where(opened.sock)
        self._opened = opened
        self._sock = opened.sock
        self._layers = layers
        self._access = AccessList.read(self.settings.door.allow, self.settings.door.deny)
        self._door: Door | None = None
        self._screen: DatagramScreen | None = None
        self._served: _Port | None = None
        self._end_log: ConnectionLog | None = None
        self._own_source: OwnSource | None = None
        self._refreshing: LoopingCall | None = None
        self.port: int | None = None if opened.sock.family == socket.AF_UNIX else opened.sock.getsockname()[1]
        self.is_datagram = opened.sock.type == socket.SOCK_DGRAM
        self.udp_port = self.port if self.is_datagram else None
        self.own_name = opened.sock.getsockname() if self.is_datagram and self.port is None else None
        kinds = ("unix", "unixgram") if self.port is None else ("tcp", "udp")
        self.transport = kinds[self.is_datagram]

    def __str__(self) -> str:
        """Say what listens where, in one line."""
        return f"{describe(self.wire, self.settings)} listens on {self.where}{self._layers}"

    def start(self, reactor: Any, screens: Screens, gate: Gate) -> None:
        """Begin to serve.

        Args:
            reactor: Watches the socket and keeps time.
            screens: Makes the screen that every datagram of an internet socket passes first.
            gate: Asked about every connection first.

        Raises:
            Exception: Whatever the protocol raises when it begins. Nothing is served, and only `stop` can follow.
        """
        served = (
            self._serve_datagrams(reactor, screens)
            if self.is_datagram
            else self._serve_streams(reactor, gate)
        )
        served.startListening()
        self._served = served
        self._use_end_log()

    def _serve_datagrams(self, reactor: Any, screens: Screens) -> _Port:
        protocol = self.wire.make_datagram(self.settings.options)
        if self.port is None:
            screen = screens.user_screen(self.settings.screen, user_limits=self.settings.door.user_limits)
            return UnixDatagramPort(self._sock, protocol, reactor, screen=screen)
        self._watch_addresses(reactor)
        amplifies = self.wire.amplifies
        self._screen = screens.screen(
            self.settings.screen,
            self._access,
            answer_rate=self.settings.answer_rate if amplifies else None,
        )
        return DatagramPort(self._sock, protocol, reactor, screen=self._screen, coalesce=not amplifies)

    def _watch_addresses(self, reactor: Any) -> None:
        self._own_source = OwnSource(self._sock, inherited=isinstance(self.settings.place, Inherited))
        self._refreshing = LoopingCall(self._refresh_addresses, self._own_source)
        self._refreshing.clock = reactor
        self._refreshing.start(ADDRESSES_SECONDS, now=False)

    def _refresh_addresses(self, own_source: OwnSource) -> None:
        before = own_source.problem
        own_source.refresh()
        if own_source.problem not in (None, before):
            _log.warn("{where}: {problem}", where=self.where, problem=_not_recognised(own_source.problem))

    def _stop_watching_addresses(self) -> None:
        if self._refreshing is not None and self._refreshing.running:
            self._refreshing.stop()

    def _serve_streams(self, reactor: Any, gate: Gate) -> _Port:
        self._door = gate.door(self.settings.door, self._access, trusts=self._layers.trusts)
        inner = self.wire.make_stream(self.settings.options)
        factory = self._layers.around(inner, reactor)
        limits: Any = {"stall_timeout": self.settings.stall_timeout, "door": self._door}
        if self.port is None:
            limits["receives"] = receives_descriptors(inner)
        kind: Any = UnixStreamPort if self.port is None else StreamPort
        each, total = self.settings.door.byte_rate, self.settings.door.byte_rate_total
        if each or total:
            kind = PacedUnixStreamPort if self.port is None else PacedStreamPort
            limits["pace"] = Pace(each or inf, total or inf, reactor)
        if isinstance(self.settings.place, Inherited) and self.port is not None:
            limits["prepare"] = set_connection_options
        port: StreamPort = kind(self._sock, factory, reactor, **limits)
        return port

    def listening(self) -> Deferred[bool]:
        """Tell whether it answers.

        Returns:
            Fires when that is known: here at once, since a socket listens from when it is opened.
        """
        return succeed(self.is_serving)

    def stop(self) -> Deferred[object]:
        """Serve what waits in the kernel's queue, then stop accepting, close the socket, and remove its file.

        Returns:
            Fires when it is closed. Connections that were accepted live on.
        """
        self._stop_watching_addresses()
        if self._opened.file is not None and (problem := self._opened.file.remove()):
            _log.warn("{problem}", problem=problem)
        if self._served is None:
            close_bound(self._sock)
            return maybeDeferred(lambda: None)
        served = self._served
        if not served.connected:
            pass  # stopped already
        elif isinstance(served, DatagramPort):
            return maybeDeferred(served.serve_waiting).addCallback(lambda _: served.stopListening())
        else:
            served.accept_waiting()
        return maybeDeferred(served.stopListening)

    def succeed(self, settings: ListenerSettings, wire: WireProtocol, layers: Layers) -> Listener:
        """Make the listener that is to serve this socket from now on, with other settings. It is not started.

        Args:
            settings: Its settings; the place is the same.
            wire: What it speaks.
            layers: What goes between the bytes and the protocol.

        Raises:
            ValueError: A list of networks cannot be read. This listener goes on.
        """
        sock = self._sock.dup()
        try:
            if not self.is_datagram:
                if not isinstance(settings.place, Inherited):
                    sock.listen(settings.backlog)
            elif self.port is not None:
                set_receive_buffer(sock, settings.receive_buffer)
            return Listener(wire, Opened(settings, sock, self._opened.file), layers)
        except BaseException:
            sock.close()
            raise

    def retire(self) -> None:
        """Serve the socket no longer, which its successor serves now. Connections that were accepted live on."""
        self._stop_watching_addresses()
        if self._served is None:
            close_bound(self._sock)
        elif self._served.connected:
            self._served.stopListening()

    def reload(self) -> None:
        """Read lists of networks, certificates and keys again, for the connections to come.

        Raises:
            ValueError: One cannot be used; those that were read before are still used.
        """
        access = AccessList.read(self.settings.door.allow, self.settings.door.deny)
        self._layers.reload()
        self._access = access
        if self._door is not None:
            self._door.access = access
        if self._screen is not None:
            self._screen.use(access)

    def close_door(self) -> Door | None:
        """Tell where connections came in, if any can have come: nobody comes in there any more."""
        if self._door is not None:
            self._door.is_closed = True
        return self._door

    def log_connections(self, one_in: int) -> None:
        """Log connections that end from now on, unless the listener's own settings say otherwise.

        Args:
            one_in: Of so many one has a line; 0 for none.
        """
        one_in = one_in if self.settings.log_connections is None else self.settings.log_connections
        self._end_log = ConnectionLog(self.settings.name, self.where, one_in, _log) if one_in else None
        self._use_end_log()

    def _use_end_log(self) -> None:
        if isinstance(self._served, StreamPort):
            self._served.end_log = self._end_log

    def drops(self) -> Counter[str]:
        """Tell what was dropped, refused or aborted so far, by reason."""
        if isinstance(self._served, DatagramPort):
            return self._served.all_drops()
        counts = Counter(self._layers.refused)
        if self._served is not None:
            counts.update(self._served.aborts)
        if self._door is not None:
            counts.update(self._door.counts)
        return counts

    @property
    def is_serving(self) -> bool:
        """Whether it listens and serves."""
        return self._served is not None and bool(self._served.connected)

    def snapshot(self) -> ListenerSnapshot:
        """Tell all that was counted so far."""
        dropped = self.drops()
        kernel_drops = dropped.pop(RECEIVE_QUEUE_FULL, 0)
        return ListenerSnapshot(
            name=self.settings.name,
            protocol=self.wire.name,
            where=self.where,
            transport=self.transport,
            dropped=dict(dropped),
            kernel_drops=kernel_drops,
            expires=self._layers.expires() if self.is_serving else {},
            **self._traffic(),
        )

    def _traffic(self) -> dict[str, Any]:
        port = self._served
        if port is None:
            return {}
        if isinstance(port, DatagramPort):
            names = ("datagrams_in", "bytes_in", "datagrams_out", "bytes_out")
            return {name: getattr(port, name) for name in names}
        assert self._door is not None  # noqa: S101  # it was made before the port
        moved_in, moved_out = self._door.moved()
        return {
            "opened": port.sessionno,
            "closed": dict(port.ended),
            "bytes_in": port.bytes_in + moved_in,
            "bytes_out": port.bytes_out + moved_out,
            "queued_bytes": self._door.queued(),
        }

    def totals(self) -> str:
        """Tell what was served so far, in words."""
        if isinstance(self._served, DatagramPort):
            port = self._served
            return (
                f"{port.datagrams_in} datagrams ({port.bytes_in} bytes) in, "
                f"{port.datagrams_out} ({port.bytes_out} bytes) out"
            )
        return f"{self._served.sessionno if self._served is not None else 0} connections"

    def warnings(self) -> list[str]:
        """Say what is not as it was asked for, or soon will not be, and what to do about it."""
        found = self._layers.warnings()
        if self.is_datagram and self.port is not None:
            granted = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
            asked = self.settings.receive_buffer
            if granted < asked:
                found.append(
                    f"receive buffer is {granted} bytes, not {asked}: more is lost in a burst; "
                    f"`sysctl -w net.core.rmem_max={asked}` allows it"
                )
        if self._own_source is not None and self._own_source.problem is not None:
            found.append(_not_recognised(self._own_source.problem))
        if self.own_name is not None and not can_answer_paths():
            found.append(
                "there is no /proc here: clients whose name is a path are not answered, and those whose name is abstract are"
            )
        return found


def _not_recognised(problem: str | None) -> str:
    return f"datagrams that another host forges in the name of an IPv6 address of this one are not recognised: {problem}"


def describe(wire: WireProtocol, settings: ListenerSettings) -> str:
    """Name what a listener speaks: ``echo (RFC 862)``, or ``lines: echo (RFC 862)`` if it has a name of its own."""
    spoken = wire.name if wire.rfc == "none" else f"{wire.name} ({wire.rfc})"
    return spoken if settings.name in (wire.name, settings.protocol) else f"{settings.name}: {spoken}"
