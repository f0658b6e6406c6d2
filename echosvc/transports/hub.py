"""The hub: an epoll of ours inside the reactor's, so that a ready connection costs no turn of the reactor.

A reactor pays for every ready descriptor: a logging context, a dispatch through several calls, and, in Twisted's
way of writing, two epoll_ctl calls per message. Connections therefore register here, and the hub's own descriptor is
one reader of the reactor. One reactor event then serves every ready connection in a tight loop. That works on any
reactor that can watch a descriptor.

Rules, each of which a test holds:

- The hub joins the reactor with its first member and leaves it with its last: an idle hub is no reader left behind.
- Transports that say so (`edge_triggered`) read until the kernel has no more, and are told only of news:
  epoll then need not ask the kernel about each of them again at every wait, which nested epolls do twice.
- One event can hold several pieces of news (data, urgent data, more data, the end or a reset), and a read stops at each:
  after an event with urgent data or an end the kernel is asked again.
- Within a batch an event may be stale. A descriptor that was closed, or that no longer wants to read, is
  looked up and not found; one whose number was given to a new connection meanwhile is in `_fresh`.
- A turn is bounded, in events and in time, so that timers and everyone else's descriptors are not late.
- What a protocol raises closes its connection, is logged once in its logging context, and touches no other.
- A connection that ends is not taken out of the epoll: closing its descriptor does that. (An edge told while a starting
  process still holds a copy finds no member, or a successor with nothing to read.)
"""

from __future__ import annotations

import contextlib
import errno
import select
import sys
from collections.abc import Callable, Iterator, Mapping
from time import monotonic
from typing import Any, TypeAlias

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableDescriptor, IReactorFDSet, IReadDescriptor
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python import context, log, threadable
from twisted.python.failure import Failure
from zope.interface import implementer

from echosvc.transports.linux import discard_errors
from echosvc.transports.per_reactor import per_reactor

__all__ = ["Hub", "hub_for"]

#: Events taken at once: small echoes at 7 us each are then under 2 ms. Where members take longer, fewer are taken.
#: (Always 256, with 252 bulk connections: timers 32 ms late at the median and 116 at worst; so, 3 and 9.)
BATCH = 256

#: A batch smaller than this was all there was: asking again at once would find nothing, at the price of a system call.
SMALL = 32

#: Seconds after which a turn ends with the batch in hand; what is left waits for the reactor's next turn.
TURN = 0.002

#: What epoll_ctl says if it cannot watch another descriptor, and seconds until it is asked again.
_NO_ROOM, NO_ROOM_REST = (errno.ENOMEM, errno.ENOSPC), 0.1

#: The two ordinary ends, made once: a Failure is dear.
_ENDS = {type(end): Failure(end) for end in (CONNECTION_DONE, CONNECTION_LOST)}

Member: TypeAlias = Any  # what can be watched: any of Twisted's descriptors


class _Served(Mapping[str, Any]):
    """The logging context of a turn: names the member that is served now, and asks for the name only if it is logged.

    Twisted makes one for every event: 1 us. This one is entered once a turn, and costs an attribute a member: 10 ns.
    """

    member: Member | None = None

    def __getitem__(self, key: str) -> Any:
        return self.copy()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.copy())

    def __len__(self) -> int:
        return len(self.copy())

    def copy(self) -> dict[str, Any]:
        """Return the context as it is now: what Twisted calls for each line that it logs.

        A thread inherits the context in which it was started, but not the name of whoever is served later.
        """
        if self.member is None or threadable.ioThread not in (None, threadable.getThreadID()):
            return {"system": "-"}
        try:
            return {"system": self.member.logPrefix()}
        except Exception:  # noqa: BLE001  # somebody else's method; as Twisted has it
            return {"system": "(buggy logPrefix method)"}


@implementer(IReactorFDSet, IReadDescriptor)
class Hub:
    """Watches descriptors for one reactor, and hands everything else on to it.

    To its transports it is the reactor: an `IReactorFDSet` whose every other attribute is the reactor's.

    Args:
        reactor: Watches the hub.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor, self._epoll = reactor, select.epoll()
        self._readers: dict[int, Member] = {}
        self._writers: dict[int, Member] = {}
        self._fresh: set[int] = set()
        self._most = BATCH
        self.is_behind = False  # members were left waiting when the last turn was over
        self._finished: list[Member] = []
        self._served = _Served()
        self._context = {log.ILogContext: self._served}
        self.fileno = self._epoll.fileno

    def __getattr__(self, name: str) -> Any:
        """Hand on what is not ours: time, threads, names, listening."""
        return getattr(self._reactor, name)

    def __repr__(self) -> str:
        """Show the members: trial prints this when a test leaves connections behind."""
        return f"<Hub of {[*self._readers.values(), *self._writers.values()]}>"

    def addReader(self, reader: Member) -> None:
        """Watch for something to read."""
        self._add(reader, self._readers)

    def addWriter(self, writer: Member) -> None:
        """Watch for room to write."""
        self._add(writer, self._writers)

    def removeReader(self, reader: Member) -> None:
        """Watch no longer for something to read."""
        self._remove(reader, self._readers)

    def removeWriter(self, writer: Member) -> None:
        """Watch no longer for room to write."""
        self._remove(writer, self._writers)

    def getReaders(self) -> list[Any]:
        """Return everything that is watched for reading, here and by the reactor."""
        return [*self._readers.values(), *self._others(self._reactor.getReaders())]

    def getWriters(self) -> list[Any]:
        """Return everything that is watched for writing, likewise."""
        return [*self._writers.values(), *self._others(self._reactor.getWriters())]

    def removeAll(self) -> list[Any]:
        """Watch nothing any more, here and in the reactor, and return what was watched."""
        return [*self._remove_members(), *self._others(self._reactor.removeAll())]

    def _others(self, descriptors: list[Any]) -> list[Any]:
        return [each for each in descriptors if each is not self]

    def _remove_members(self) -> list[Member]:
        members = list({**self._readers, **self._writers}.values())
        for fd in {**self._readers, **self._writers}:
            with contextlib.suppress(OSError):  # closed behind our back
                self._epoll.unregister(fd)
        self._readers.clear()
        self._writers.clear()
        self._reactor.removeReader(self)
        return members

    def _add(self, member: Member, wanted: dict[int, Member]) -> None:
        fd = member.fileno()
        if fd in wanted:
            return
        known = fd in self._readers or fd in self._writers
        wanted[fd] = member
        if known:
            self._ask_anew(fd, member)
        else:
            self._watch(fd, member)

    def _ask_anew(self, fd: int, member: Member) -> None:
        """Say what to watch for. Whatever of it is there already is told by the next wait, even if it was told before."""
        with contextlib.suppress(FileNotFoundError):  # there was no room for it: that is tried again
            self._epoll.modify(fd, self._events(fd, member))

    def _watch(self, fd: int, member: Member) -> None:
        """Watch a newcomer; if the kernel has no room for another (epoll_ctl(2)), a little later."""
        if member not in (self._readers.get(fd), self._writers.get(fd)):
            return  # it was to be tried again, and wants nothing any more
        try:
            try:
                self._epoll.register(fd, self._events(fd, member))
            except FileExistsError:  # its input has ended, and now it wants to write
                self._epoll.modify(fd, self._events(fd, member))
            self._fresh.add(fd)
            # Every time: the reactor's own removeAll (trial calls it) takes the hub out without telling it.
            self._reactor.addReader(self)
        except OSError as problem:
            if problem.errno not in _NO_ROOM:
                raise  # it can never be watched
            self._reactor.callLater(NO_ROOM_REST, self._watch, fd, member)

    def _remove(self, member: Member, wanted: dict[int, Member]) -> None:
        fd = member.fileno()
        if fd == -1:  # its socket was closed elsewhere, and with that the kernel's watch ended
            fd = next((number for number, each in wanted.items() if each is member), -1)
        if fd not in wanted:
            return
        del wanted[fd]
        with contextlib.suppress(OSError):  # closed behind our back: there is nothing to undo
            if fd in self._readers or fd in self._writers:
                self._epoll.modify(fd, self._events(fd, member))
            else:
                self._epoll.unregister(fd)
        self._leave_if_empty()

    def _leave_if_empty(self) -> None:
        if not self._readers and not self._writers:
            self._reactor.removeReader(self)

    def _events(self, fd: int, member: Member) -> int:
        """What to watch for. Edge-triggered only while reading alone: a queue is written a piece at a time."""
        if fd not in self._writers:
            edge = select.EPOLLET | select.EPOLLPRI if getattr(member, "edge_triggered", False) else 0
            return select.EPOLLIN | select.EPOLLRDHUP | edge
        if fd not in self._readers:
            return select.EPOLLOUT
        return select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLOUT

    def doRead(self) -> None:
        """Serve every member that is ready, within the bounds of a turn."""
        readers, served, wait, plain_input = self._readers, self._served, self._epoll.poll, select.EPOLLIN
        outside = (
            served.member
        )  # if the reactor was turned from inside a protocol, which has a batch in hand:
        outer = self._fresh if outside is not None else set()  # who joins now is fresh for that, too
        self._fresh = fresh = set[int]()
        began = now = monotonic()
        contexts = context.theContextTracker.currentContext().contexts
        contexts.append(self._context)
        try:
            while True:
                events = wait(0, self._most)
                outer |= fresh
                fresh.clear()
                for fd, event in events:
                    if fresh and fd in fresh:
                        continue
                    if event == plain_input:
                        if (member := readers.get(fd)) is not None:
                            served.member = member
                            try:
                                why: Any = member.doRead()
                            except BaseException:  # noqa: BLE001  # whatever a protocol raises ends its connection
                                why = _failed()
                            if why is not None:
                                self._disconnect(fd, member, why, in_read=True)
                    else:
                        self._serve(fd, event)
                while self._finished:
                    self._end_finished()
                before, now = now, monotonic()
                self.is_behind = not self._is_over(len(events), now - before)
                if not self.is_behind or now - began > TURN:
                    return
        finally:
            contexts.pop()
            served.member = outside
            outer |= fresh
            self._fresh = outer

    def _is_over(self, count: int, seconds: float) -> bool:
        """Whether a batch was the last of its turn; and learn from it how many to take at once."""
        most = self._most
        if seconds > TURN:
            self._most = max(1, int(count * TURN / seconds))
        elif count == most and seconds < TURN / 2:
            self._most = min(BATCH, 2 * most)
        return count < min(SMALL, most)

    def _serve(self, fd: int, event: int) -> None:
        """Serve any event but plain input, in the order that Twisted's reactors keep."""
        reader, writer = self._readers.get(fd), self._writers.get(fd)
        if reader is None and writer is None:
            return
        member: Any = reader if reader is not None else writer
        self._served.member = member
        why: Any = None
        in_read = False
        if event & (select.EPOLLERR | select.EPOLLHUP) == select.EPOLLERR:
            discard_errors(fd)
            event |= select.EPOLLIN | select.EPOLLOUT  # it need not be an end: reading and writing will tell
        if event & select.EPOLLHUP and not event & select.EPOLLIN:
            # All input has been read. A reader has come to the end of it; a writer has lost the connection.
            in_read = reader is not None
            why = CONNECTION_DONE if in_read else CONNECTION_LOST
        else:
            try:
                if reader is not None and event & select.EPOLLIN:
                    in_read = True
                    why = member.doRead()
                    more = event & (select.EPOLLRDHUP | select.EPOLLPRI)
                    if not why and more and self._readers.get(fd) is reader:
                        why = self._read_on(fd, member, event)
                # Looked up again: reading may have begun or ended the wish to write.
                if not why and event & select.EPOLLOUT and (writer := self._writers.get(fd)) is not None:
                    in_read = False
                    why = writer.doWrite()
            except BaseException:  # noqa: BLE001  # whatever a protocol raises ends its connection
                why = _failed()
        if why:
            self._disconnect(fd, member, why, in_read=in_read)

    def _read_on(self, fd: int, member: Member, event: int) -> Any:
        """Read on up to the end, which mostly is next (a read costs less than asking); have anything else told again."""
        why = member.doRead() if event & select.EPOLLRDHUP else None
        if not why and self._readers.get(fd) is member:
            self._ask_anew(fd, member)
        return why

    def _disconnect(self, fd: int, member: Member, why: Any, *, in_read: bool) -> None:
        if self._readers.get(fd) is member:  # by now its number may be another's
            self._end_reading(fd, member)
        reason = _ENDS.get(type(why)) or Failure(why)
        if in_read and isinstance(why, ConnectionDone) and IHalfCloseableDescriptor.providedBy(member):
            self._tell(member, member.readConnectionLost, reason)
        else:
            if self._writers.get(fd) is member:
                self.removeWriter(member)
            self._tell(member, member.connectionLost, reason)

    def _end_reading(self, fd: int, member: Member) -> None:
        """Read no more, ever. What is told only once may be told to nobody: that saves an epoll_ctl."""
        if fd in self._writers or not getattr(member, "edge_triggered", False):
            self.removeReader(member)
        else:
            del self._readers[fd]
            self._leave_if_empty()

    def _tell(self, member: Member, how: Callable[[Failure], None], reason: Failure) -> None:
        """Tell a member of its end, in its logging context."""
        self._served.member = member
        try:
            how(reason)
        except BaseException:  # noqa: BLE001  # the others in this batch must have their turn
            _failed()

    def finish(self, member: Member) -> bool:
        """Let a member that has nothing queued end with the present batch, and read no more.

        Its doWrite is called as if there were room to write. To be told so takes two epoll_ctl calls, an event and
        another turn, a quarter of what a short connection then costs (2.0 times C, not 1.5).

        Returns:
            False, and nothing was done, if no turn is going on.
        """
        if self._served.member is None:
            return False
        if (fd := member.fileno()) in self._readers:
            self._end_reading(fd, member)
        self._finished.append(member)
        return True

    def _end_finished(self) -> None:
        finished, self._finished = self._finished, []
        for member in finished:
            self._served.member = member
            fd = member.fileno()
            if fd == -1 or fd in self._writers:
                continue  # lost meanwhile; or it has written since, and is told of room
            try:
                why = member.doWrite()
            except BaseException:  # noqa: BLE001  # a producer may be asked for more
                why = _failed()
            if why:
                self._disconnect(fd, member, why, in_read=False)

    def connectionLost(self, reason: Failure) -> None:
        """Lose every member: the reactor ends, and disconnects what it watches."""
        for member in self._remove_members():
            log.callWithLogger(member, member.connectionLost, reason)

    def logPrefix(self) -> str:
        """Name the hub in log lines."""
        return "-"


def _failed() -> BaseException | None:
    """Log what a member has just raised, as Twisted would, and return it."""
    log.err()
    return sys.exc_info()[1]


def hub_for(reactor: Any) -> Any:
    """Return the hub of a reactor: always the same one.

    Args:
        reactor: Any reactor, or a hub.

    Returns:
        The hub; the reactor itself where the system has no epoll.
    """
    if isinstance(reactor, Hub) or not hasattr(select, "epoll"):
        return reactor
    return per_reactor(reactor, Hub)
