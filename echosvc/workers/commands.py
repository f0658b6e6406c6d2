"""What the parent and a worker say to each other, in Twisted's AMP over a socket pair."""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.internet.protocol import connectionDone
from twisted.protocols.amp import AMP, Argument, BinaryBoxProtocol, Command, Descriptor, Integer
from twisted.python.failure import Failure

__all__ = [
    "Beat",
    "Become",
    "Bye",
    "CannotBegin",
    "Conversation",
    "Hurry",
    "Logged",
    "Long",
    "Prepare",
    "Snapshot",
    "Stop",
]

#: Bytes of one value of AMP.
_PIECE = 65_535


class Long(Argument):
    """Text of any length: in as many values as it needs."""

    def toBox(self, name: bytes, strings: Any, objects: Any, proto: Any) -> None:
        """Write it under its name, and what does not fit under its name with a number."""
        data = objects[name.decode("ascii")].encode("utf-8", "surrogatepass")
        for place, start in enumerate(range(0, max(1, len(data)), _PIECE)):
            strings[_key(name, place)] = data[start : start + _PIECE]

    def fromBox(self, name: bytes, strings: Any, objects: Any, proto: Any) -> None:
        """Put it together again."""
        data = b""
        place = 0
        while (piece := strings.pop(_key(name, place), None)) is not None:
            data += piece
            place += 1
        objects[name.decode("ascii")] = data.decode("utf-8", "surrogatepass")


def _key(name: bytes, place: int) -> bytes:
    return b"%s %d" % (name, place) if place else name


class Conversation(AMP):
    """AMP that keeps it from the log when it begins and ends."""

    def makeConnection(self, transport: Any) -> None:
        """Begin."""
        BinaryBoxProtocol.makeConnection(self, transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End: whatever was not answered fails."""
        BinaryBoxProtocol.connectionLost(self, reason)
        self.transport = None


class CannotBegin(Exception):
    """A worker cannot do what it was told; `str()` says why."""


class Prepare(Command):
    """To a new worker: this is what we serve. Answered when it could begin at any moment.

    `settings` as `echosvc.workers.parcel` writes them; `sockets` is a list in JSON: for each listener its place in the settings,
    and the descriptors of its sockets, one for each worker or one for all. The answer brings a descriptor of the worker's
    ``stat`` (`echosvc.workers.pulse`), if it has one.
    """

    arguments: ClassVar = [(b"settings", Long()), (b"sockets", Long())]
    response: ClassVar = [(b"stat", Descriptor(optional=True))]
    errors: ClassVar = {CannotBegin: b"CANNOT_BEGIN"}


class Become(Command):
    """To a worker that is prepared: serve, with the sockets of this number. Answered when it does."""

    arguments: ClassVar = [(b"number", Integer())]
    errors: ClassVar = {CannotBegin: b"CANNOT_BEGIN"}


class Stop(Command):
    """To a worker: let those who are connected finish, and end. Answered at once."""


class Hurry(Command):
    """To a worker that stops: wait for nobody any more."""

    requiresAnswer = False


class Snapshot(Command):
    """To a worker that serves: tell what you have served, as JSON."""

    response: ClassVar = [(b"snapshot", Long())]


class Beat(Command):
    """From a worker: my reactor turns."""

    requiresAnswer = False


class Logged(Command):
    """From a worker: this is to be logged, as `echosvc.workers.relay` writes it."""

    arguments: ClassVar = [(b"event", Long())]
    requiresAnswer = False


class Bye(Command):
    """From a worker: this was the last. Answered, so that it knows that all it has said was heard."""
