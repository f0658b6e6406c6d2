"""Descriptors that peers send over UNIX sockets (SCM_RIGHTS), where no protocol wants them.

A descriptor that is sent is held by the kernel until it is received, and its last close may block: a TCP socket with SO_LINGER
and unsent data for as long as its sender likes, a file of FUSE or NFS for as long as its server likes. So no such close is ever made in
the reactor's thread:

- Since Linux 6.16 a receiver can have the kernel refuse them (SO_PASSRIGHTS): the sender is told EPERM. What a listening socket
  says holds for the connections that are made from then on.
- Before, and for what was sent before, descriptors are received, all 253 that one message can carry, and handed to a few threads
  of ours (`SENT`). Those receive in turn what a UNIX socket holds, switch lingering off, and close. Nothing waits for them, the end of the
  process included: a process that ends does not linger (Linux: PF_EXITING).
- Our own sockets hold what was sent and not read. One that may hold something is closed in a thread, too.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import socket
import struct
import termios
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from echosvc.transports.accepting import NO_LINGER
from echosvc.transports.linux import (
    LINUX,
    SIOCATMARK,
    SO_PASSCRED,
    SO_PASSPIDFD,
    SO_PASSRIGHTS,
    SO_PASSSEC,
    Control,
)

__all__ = [
    "MOST_SENT",
    "RESERVE",
    "REST",
    "RIGHTS_ROOM",
    "SENT",
    "SentDescriptors",
    "close_bound",
    "close_connection",
    "is_urgent",
    "keep_urgent_data",
    "kernel_refuses",
    "received",
    "refuse_descriptors",
]

#: Descriptors in one message at most (SCM_MAX_FD), and the room of a control buffer that takes them all.
MOST_SENT = 253
RIGHTS_ROOM = socket.CMSG_SPACE(MOST_SENT * 4)

#: Threads at most, and descriptors that may wait for them before another message is received. Only files whose server does not answer keep a thread for long.
THREADS, WAITING = 4, 512

#: Descriptors that must be free for this: if one cannot be received, the kernel closes it in our thread.
RESERVE = WAITING + MOST_SENT

#: Seconds for which a UNIX socket is not read while too many wait, and after which a thread that could not be started is tried again.
REST = 0.1

#: Seconds that the close of a bound socket is waited for: so another can be bound to its name at once, if nothing hinders.
GRACE = 0.05

#: Messages and connections that are taken out of a descriptor, and of all that it holds, before it is closed with the rest. A socket
#: holds some 280 with the system's own buffers.
_MOST_TAKEN = 4096

#: Room for what else a sender may have its socket report beside a message: credentials, times. Without room, descriptors are cut off,
#: and the kernel closes those.
_BESIDE = 256

#: Told of messages that brought descriptors, in a thread; None where they are not counted.
Tell = Callable[[int], None] | None


def refuse_descriptors(sock: socket.socket) -> bool:
    """Have the kernel refuse descriptors that are sent to a UNIX socket.

    Args:
        sock: Any UNIX socket. If it listens, connections that are made from now on refuse them, too.

    Returns:
        Whether it holds none for sure: they were refused already when it was made. False, and nothing was done, where the kernel
        cannot refuse them (before Linux 6.16).
    """
    try:
        if not sock.getsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS):
            return True
        sock.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)
    except OSError:
        pass
    return False


def kernel_refuses() -> bool:
    """Whether this kernel can refuse descriptors."""
    with socket.socket(socket.AF_UNIX) as sock, contextlib.suppress(OSError):
        refuse_descriptors(sock)
        return refuse_descriptors(sock)
    return False


def keep_urgent_data(sock: socket.socket) -> None:
    """Have a read of a UNIX connection stop before urgent data: it would drop that, and close its descriptors in the reactor's thread."""
    with contextlib.suppress(OSError):  # before Linux 5.15 there is none
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)


def is_urgent(sock: socket.socket) -> bool:
    """Tell whether the next byte of a UNIX connection is urgent (SIOCATMARK); it comes alone."""
    with contextlib.suppress(
        OSError, ValueError
    ):  # before Linux 5.15 none is; nor is it where the socket has been closed
        return any(fcntl.ioctl(sock, SIOCATMARK, bytes(4)))
    return False


def received(ancillary: Iterable[Control]) -> list[int]:
    """Return the descriptors in the control messages that `socket.recvmsg` has returned; they are the caller's now."""
    return [
        descriptor
        for level, kind, data in ancillary
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        for (descriptor,) in struct.iter_unpack("@i", data[: len(data) // 4 * 4])
    ]


def _call_later(seconds: float, call: Callable[[], None]) -> object:
    from twisted.internet import reactor  # noqa: PLC0415  # installs one: only when it is needed

    clock: Any = reactor
    return clock.callLater(seconds, call)


class SentDescriptors:
    """Closes descriptors in threads of its own, which end with the process.

    The threads are started when there is something to close, so that a process that forks before has none. One that cannot be started
    is tried again a little later, as long as something waits.

    Args:
        call_later: Calls something after some seconds, in the reactor's thread.
    """

    def __init__(self, call_later: Callable[[float, Callable[[], None]], object] = _call_later) -> None:
        self._queue: queue.SimpleQueue[tuple[int, Tell]] = queue.SimpleQueue()
        self._threads = 0
        self._lock = threading.Lock()
        self._waiting = 0
        self._call_later = call_later
        self._tries_again = False

    def may_receive(self) -> int:
        """Return how many messages may be received now, each with as many descriptors as one can carry: then all fit in `RESERVE`."""
        return max(0, RESERVE - self._waiting) // MOST_SENT

    def close(self, descriptors: Iterable[int], tell: Tell = None) -> None:
        """Close descriptors, some time later. To be called in the reactor's thread.

        Args:
            descriptors: They belong to this class from now on.
            tell: Called in a thread for each that is a UNIX socket and holds descriptors, with the number of messages that brought them.
        """
        for each in descriptors:
            with self._lock:
                self._waiting += 1
            self._queue.put((each, tell))
            self._start_threads()

    def _start_threads(self) -> None:
        """Have a thread for each descriptor that waits, as far as there may be so many and the system has them."""
        while self._take_place():
            if not _start(self._work):
                with self._lock:
                    self._threads -= 1
                if not self._tries_again:
                    self._tries_again = True
                    self._call_later(REST, self._try_again)
                return

    def _take_place(self) -> bool:
        with self._lock:
            more = self._waiting > self._threads < THREADS
            self._threads += more
        return more

    def _try_again(self) -> None:
        self._tries_again = False
        self._start_threads()

    def _work(self) -> None:
        while True:
            descriptor, tell = self._queue.get()
            messages = 0
            with contextlib.suppress(RecursionError):  # sockets in sockets in sockets: all are closed
                messages = _dismantle(descriptor)
            with self._lock:
                self._waiting -= 1
            if messages and tell is not None:
                tell(messages)


SENT = SentDescriptors()


def close_connection(sock: socket.socket, tell: Tell = None) -> None:
    """Close a UNIX connection of ours that may hold descriptors. The peer sees the end at once.

    Args:
        sock: No other process has it. It is closed when this returns, or detached, and closed soon.
        tell: Called in a thread if it holds descriptors, with the number of messages that brought them.
    """
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)  # from here on nothing more can be sent to it
        if not any(fcntl.ioctl(sock, termios.FIONREAD, bytes(4))):
            sock.close()  # no descriptor comes without a byte
            return
    if sock.fileno() >= 0:
        SENT.close([sock.detach()], tell)


def close_bound(sock: socket.socket) -> None:
    """Close a bound socket: one of UNIX, which may hold descriptors, in a thread of its own.

    What it holds is not taken out: others may have the same socket, and go on to serve it.

    Args:
        sock: It listens, or takes datagrams. It is closed when this returns, or if that takes longer than `GRACE`, later.
    """
    if sock.family != socket.AF_UNIX:
        sock.close()
        return
    if thread := _start(sock.close):
        thread.join(GRACE)
    else:
        sock.close()


def _start(work: Callable[[], None]) -> threading.Thread | None:
    """Begin a thread for which the end of the process does not wait; None if the system has none left."""
    thread = threading.Thread(target=work, name="closes descriptors", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread


def _dismantle(descriptor: int, left: Iterator[object] | None = None) -> int:
    """Close a descriptor, and before it what would be closed with it.

    Args:
        descriptor: What was sent. Its sender, and others, may have it, too, and go on to use it.
        left: Has one item for each message or connection that may still be taken; None at the outermost.

    Returns:
        How many messages with descriptors it held.
    """
    if left is None:
        left = iter(range(_MOST_TAKEN))
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError:  # no socket
        with contextlib.suppress(OSError):  # EIO of a network file system, for one: it is closed all the same
            os.close(descriptor)
        return 0
    with sock, contextlib.suppress(OSError):  # until nothing is left
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            return 0
        sock.setblocking(False)
        sock.shutdown(socket.SHUT_RD)  # from here on nothing more comes, and nothing is waited for
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return _take_out(sock, left)
        for _ in left:
            _dismantle(sock.accept()[0].detach(), left)
    return 0


def _take_out(sock: socket.socket, left: Iterator[object]) -> int:
    """Dismantle what was sent to a UNIX socket; return how many messages brought some."""
    keep_urgent_data(sock)
    if LINUX:
        for option in (SO_PASSSEC, SO_PASSPIDFD):  # one takes room, the other opens a descriptor
            with contextlib.suppress(OSError):  # not known to this kernel
                sock.setsockopt(socket.SOL_SOCKET, option, 0)
        # Every message has credentials then, and the end has none: that tells it from an empty message of SOCK_SEQPACKET.
        sock.setsockopt(socket.SOL_SOCKET, SO_PASSCRED, 1)
    messages = 0
    with contextlib.suppress(OSError):  # EAGAIN: nothing is left
        for _ in left:
            data, ancillary, _, _ = sock.recvmsg(65_536, RIGHTS_ROOM + _BESIDE, socket.MSG_DONTWAIT)
            sent = received(ancillary)
            messages += bool(sent)
            for each in sent:
                _dismantle(each, left)
            if not data and (not ancillary or sock.type == socket.SOCK_STREAM):
                break
    return messages
