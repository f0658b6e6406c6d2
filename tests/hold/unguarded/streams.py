"""What the promises about connections rest on."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from echosvc.admission import memory, quota, sweep
from echosvc.protocols.echo import Echo
from echosvc.transports import accepting
from echosvc.transports.connection import DirectConnection
from echosvc.transports.hub import Hub
from echosvc.transports.stream import PatientConnection, StreamPort
from tests.hold.carriers import over
from tests.hold.unguarded.registry import guard_of, replace


def _nothing(*_: Any) -> None:
    """Do nothing."""


@guard_of("T02")
def _forget() -> None:
    """Who has left is forgotten."""
    replace(sweep.Sweep, "remove", _nothing)


@guard_of("T01")
def _finish() -> None:
    """What waits is sent before a connection is closed whose peer has finished."""
    replace(Echo, "readConnectionLost", lambda echo: echo.transport.abortConnection())


@guard_of("T01-urgent")
def _ask_again() -> None:
    """After an event with urgent data or an end the kernel is asked again."""
    replace(Hub, "_read_on", lambda hub, fd, member, event: member.doRead())


@guard_of(*over("T06"))
def _queue_the_rest() -> None:
    """What the kernel does not take is queued."""

    def write(connection: DirectConnection, data: bytes) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(connection.fileno(), data)

    replace(DirectConnection, "write", write)


@guard_of(*over("T07"))
def _keep_nothing() -> None:
    """A connection that is idle keeps no buffer."""
    connection_made = Echo.connectionMade

    def connection_made_with_buffer(echo: Any) -> None:
        connection_made(echo)
        echo.buffer = bytearray(4096)

    replace(Echo, "connectionMade", connection_made_with_buffer)


@guard_of(*over("T11-memory"))
def _pause() -> None:
    """Nothing is read while much waits to be sent."""
    replace(Echo, "connectionMade", _nothing)
    replace(Echo, "readConnectionLost", lambda echo: echo.transport.loseConnection())


@guard_of(*over("T10"), *over("T11-crowd"))
def _bound_memory() -> None:
    """Nothing is read while much waits to be sent; and if it is too much in all, those that hold the most have to go."""
    _pause()
    replace(memory.Memory, "free", lambda memory, now: ())


@guard_of("T11-kernel")
def _count_the_kernel() -> None:
    """What the kernel holds counts, too, and it holds little that it cannot send."""
    replace(accepting, "UNSENT", 2**31 - 1)
    replace(memory._Held, "size", lambda held, connection, now: connection.queued())


@guard_of(*over("T11-close"), *over("T11-stuck"))
def _give_up() -> None:
    """A connection is aborted whose peer takes nothing of what waits."""
    replace(PatientConnection, "_watch_stall", _nothing)


@guard_of(*over("T11-slow"))
def _ask_what_arrived() -> None:
    """What has arrived counts, not only what the kernel has taken."""
    replace(PatientConnection, "_delivered", lambda connection: connection.bytes_out)


@guard_of(*over("T12"))
def _look_at_everybody() -> None:
    """The idle are looked for."""
    replace(sweep.Sweep, "look", _nothing)


@guard_of(*over("T13"))
def _count_sources() -> None:
    """A source has no more than its part."""
    replace(quota.Quota, "refuses_source", _nothing)


@guard_of("T14")
def _keep_a_spare_descriptor() -> None:
    """Who cannot be accepted is closed in the place of a descriptor that is kept for that."""
    replace(accepting.SpareDescriptor, "give_up", lambda spare: False)


@guard_of("T15", "T15-half-open")
def _let_many_wait() -> None:
    """Many may wait to be accepted. Twisted's own default is 50."""
    start_listening = StreamPort.startListening

    def start_listening_to_few(port: Any) -> None:
        start_listening(port)
        port.socket.listen(1)

    replace(StreamPort, "startListening", start_listening_to_few)
