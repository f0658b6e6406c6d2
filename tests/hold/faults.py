"""What is promised when the system fails: a call that returns an error harms at most whom it was made for.

The errors are injected into the running service by strace(1), which makes a call return one in place of being made.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.hold.clients import IPV4, connect, one_datagram, receive_exactly
from tests.hold.promise import Broken, Skipped, kept, promise
from tests.hold.run import Run
from tests.hold.service import Server, trouble

__all__ = ["failing_calls"]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


#: What a router or a firewall has said of an address, which the next call on the socket returns (icmp_err_convert in
#: net/ipv4/icmp.c, tab_unreach in net/ipv6/icmp.c of Linux).
_ICMP = "ECONNREFUSED EHOSTUNREACH ENETUNREACH ENOPROTOOPT EMSGSIZE EOPNOTSUPP EHOSTDOWN ENONET EACCES EPROTO"

#: Echoes over each transport after every fault.
ECHOES = 100

#: How often a fault is injected, and seconds after which the next one has its turn anyway.
OFTEN, SECONDS = 20, 4.0

#: Seconds for the service to close what its clients have closed.
SETTLE = 3.0

#: Seconds that a client waits for an answer that may have been lost.
PATIENCE = 0.02


@dataclass(frozen=True)
class Place:
    """Where a server is reached.

    Attributes:
        tcp: The TCP port.
        udp: The UDP port.
        unix: A directory with the sockets ``stream`` and ``datagrams``; None if it has none.
    """

    tcp: int
    udp: int
    unix: Path | None


@dataclass(frozen=True)
class Call:
    """A system call, and what it can return.

    Attributes:
        names: Its names: Python and Twisted use one or another.
        errors: What the kernel can return from it: its man page, tcp(7), udp(7), unix(7), and what ICMP brings.
        traffic: Makes the service call it.
        leaks: A call that was not made leaves a descriptor behind: nobody could have closed it.
        unix: It is about UNIX sockets.
    """

    names: str
    errors: tuple[str, ...]
    traffic: Callable[[Place], None]
    leaks: bool = field(default=False, kw_only=True)
    unix: bool = field(default=False, kw_only=True)


def _connections(place: Place) -> None:
    """Connect, say little, and leave."""
    for _ in range(5):
        with contextlib.suppress(OSError), connect(IPV4, place.tcp) as sock:
            sock.settimeout(10 * PATIENCE)
            sock.sendall(b"hello")
            sock.recv(5)


def _messages(place: Place) -> None:
    """Stay, and say much."""
    with contextlib.suppress(OSError), connect(IPV4, place.tcp) as sock:
        sock.settimeout(10 * PATIENCE)
        for _ in range(20):
            sock.sendall(b"hello")
            sock.recv(5)


def _datagrams(place: Place) -> None:
    for _ in range(20):
        one_datagram(IPV4, place.udp, b"hello", wait=PATIENCE)


def _unix_messages(place: Place) -> None:
    assert place.unix is not None
    for _ in range(5):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10 * PATIENCE)
            sock.connect(str(place.unix / "stream"))
            for _ in range(4):
                sock.sendall(b"hello")
                sock.recv(5)


def _unix_datagrams(place: Place) -> None:
    assert place.unix is not None
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.bind("")  # the kernel gives it a name to be answered at (unix(7), autobind)
        for _ in range(20):
            with contextlib.suppress(OSError):
                sock.sendto(b"hello", str(place.unix / "datagrams"))
                sock.recv(5)


CALLS = (
    Call(
        "accept4",
        # accept(2): of the process, of the system, of a firewall, and "already-pending network errors on the new socket".
        _words(
            "EMFILE ENFILE ENOBUFS ENOMEM ECONNABORTED EPERM EINTR EAGAIN EPROTO ENETDOWN ENOPROTOOPT EHOSTDOWN ENONET"
            " EHOSTUNREACH EOPNOTSUPP ENETUNREACH ETIMEDOUT"
        ),
        _connections,
    ),
    # No EAGAIN where there is something to read: edge-triggered, nobody would say so again, and the kernel never does it.
    Call(
        "read,recvfrom",
        _words(f"EINTR ECONNRESET ETIMEDOUT ENETDOWN ENOMEM ENOBUFS EPIPE {_ICMP}"),
        _messages,
    ),
    Call(
        "write,sendto",
        _words(f"EINTR EAGAIN EPIPE ECONNRESET ETIMEDOUT ENETDOWN EPERM ENOMEM ENOBUFS {_ICMP}"),
        _messages,
    ),
    Call("recvmmsg,recvfrom", _words(f"EINTR EAGAIN ENOMEM ENOBUFS ENETDOWN {_ICMP}"), _datagrams),
    Call(
        "sendmmsg,sendmsg,sendto",
        _words(f"EINTR EAGAIN EPERM ENOMEM ENOBUFS EIO EINVAL EADDRNOTAVAIL ENETDOWN {_ICMP}"),
        _datagrams,
    ),
    Call("epoll_wait", ("EINTR",), _messages),
    Call("epoll_ctl", ("ENOMEM", "ENOSPC"), _connections),
    Call("getsockname", ("ENOBUFS",), _connections),
    Call("shutdown", ("ENOTCONN",), _unix_messages, unix=True),
    Call("recvmsg", ("EINTR", "ECONNRESET", "ENOMEM", "ENOBUFS"), _unix_messages, unix=True),
    Call(
        "write,sendto,sendmsg",
        ("EINTR", "EAGAIN", "EPIPE", "ECONNRESET", "ENOMEM", "ENOBUFS"),
        _unix_messages,
        unix=True,
    ),
    Call("recvmsg", ("EINTR", "EAGAIN", "ECONNRESET", "ENOMEM", "ENOBUFS"), _unix_datagrams, unix=True),
    Call(
        "sendto,sendmsg",
        _words(
            "EINTR EAGAIN ECONNREFUSED ECONNRESET ENOENT EACCES EPERM EMSGSIZE EPROTOTYPE EPIPE ENOTDIR ENOMEM ENOBUFS"
        ),
        _unix_datagrams,
        unix=True,
    ),
    Call("close", ("EINTR", "EIO", "ENOSPC", "EDQUOT"), _connections, leaks=True),
)

#: When a call fails, as strace has it: FIRST..LAST+STEP. It ends by itself: a service that strace leaves in the middle of
#: an injected call is told that there is no such call (ENOSYS).
FIRST = "1..1"
EVERY_FIFTH = f"5..{5 * OFTEN}+5"
BOTH = f"1..{5 * OFTEN - 4}+5"

#: How many errors there must be at least, and how often they are injected.
AT_LEAST = {False: (50, 1000), True: (100, 2000)}


@promise(
    "T23",
    f"a system call that fails harms nobody else: {ECHOES} echoes over TCP and UDP after each, no traceback, no descriptor lost",
    deadline=900,
    stock=r"Traceback|Unhandled",
)
def failing_calls(run: Run) -> str:
    """One call and one error after the other, under traffic that makes the call."""
    if shutil.which("strace") is None:
        raise Skipped("needs strace")
    directory = run.directory / "sockets"
    directory.mkdir()
    options = [f"--listen=echo=unix:{directory}/stream", f"--listen=echo=unixgram:{directory}/datagrams"]
    server = run.serve(*options)
    place = Place(server.tcp, server.udp, None if run.control else directory)
    torture = _Torture(server, place, run.directory / "calls")
    with connect(IPV4, server.tcp) as idle:
        torture.check("at the start")
        for call, error in _chosen(run):
            for when in (FIRST, EVERY_FIFTH) if run.long else (BOTH,):
                run.step = f"{call.names} fails with {error}"
                torture.inject(call, error, when)
        idle.sendall(b"still there")
        kept(receive_exactly(idle, 11) == b"still there", f"{torture}; an idle connection was cut")
    errors, often = AT_LEAST[run.long]
    kept(torture.errors >= errors and torture.injected >= often, f"{torture}: too few")
    return str(torture)


def _chosen(run: Run) -> Iterator[tuple[Call, str]]:
    """All; or, for a short look, of each call every other one."""
    for call in CALLS:
        if not (run.control and call.unix):
            for error in call.errors[:: 1 if run.long else 2]:
                yield call, error


class _Torture:
    """Injects faults, checks the service after each, and counts.

    Args:
        server: The service.
        place: Where it is reached.
        calls: A file for strace.

    Attributes:
        errors: Combinations of a call and an error that were injected at least once.
        injected: How often in all.
    """

    def __init__(self, server: Server, place: Place, calls: Path) -> None:
        self._server = server
        self._place = place
        self._calls = calls
        self._descriptors: int | None = None
        self._recovery = 0.0
        self._unreached: list[str] = []
        self._done: set[tuple[str, str, bool]] = set()
        self.injected = 0

    @property
    def errors(self) -> int:
        """How many combinations of a call and an error there were."""
        return len(self._done)

    def __str__(self) -> str:
        """Write the figures."""
        unreached = f"; never called: {', '.join(self._unreached)}" if self._unreached else ""
        return (
            f"{self.errors} combinations of a call and an error, {self.injected} injected, {ECHOES}/{ECHOES} TCP and UDP"
            f" echoes after each, the first after {self._recovery * 1e3:.0f} ms at most{unreached}"
        )

    def inject(self, call: Call, error: str, when: str) -> None:
        """Have a call fail under traffic, and see what is left.

        Raises:
            Broken: The service has not borne it.
            Skipped: strace may not do this here.
        """
        name = f"{call.names}: {error} ({when})"
        if self._place.unix is None and call.unix:
            return
        often = 1 if when == FIRST else OFTEN
        with self._failing(call, error, when):
            until = time.monotonic() + SECONDS
            while (count := self._count()) < often and time.monotonic() < until:
                call.traffic(self._place)
        count = self._count()
        self.injected += count
        if count:
            self._done.add((call.names, error, call.unix))
        else:
            self._unreached.append(name)
        if call.leaks:
            self._descriptors = None
        self.check(name)

    @contextlib.contextmanager
    def _failing(self, call: Call, error: str, when: str) -> Iterator[None]:
        # A "?" before a name: it need not exist on this machine.
        names = ",".join(f"?{name}" for name in call.names.split(","))
        command = ["strace", "-f", "-o", str(self._calls), "-p", str(self._server.pid)]
        command += ["-e", f"trace={names}", "-e", f"inject={names}:error={error}:when={when}"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
            try:
                assert strace.stderr is not None
                said = strace.stderr.readline()
                if "attached" not in said:
                    raise Skipped(f"strace cannot attach: {said.strip()}")
                yield
            finally:
                strace.terminate()  # it lets the service go before it ends

    def _count(self) -> int:
        return self._calls.read_text(errors="replace").count("(INJECTED)")

    def check(self, after: str) -> None:
        """Echo, and look at the log and the descriptors.

        Args:
            after: What came before.

        Raises:
            Broken: Something is wrong.
        """
        kept(self._server.alive(), f"{self}; the service died of {after}")
        try:
            self._echo()
        except (Broken, OSError) as problem:
            raise Broken(f"{self}; after {after}: {problem}") from problem
        found = trouble(self._server.log())
        kept(found is None, f"{self}; after {after} the log has: {found}")
        if self._descriptors is None:
            self._descriptors = self._server.descriptors()
        until = time.monotonic() + SETTLE
        while (open_now := self._server.descriptors()) > self._descriptors:
            lost = open_now - self._descriptors
            kept(time.monotonic() < until, f"{self}; after {after} {lost} descriptors are lost")
            time.sleep(0.01)

    def _echo(self) -> None:
        started = time.monotonic()
        with connect(IPV4, self._server.tcp) as sock:
            for number in range(ECHOES):
                word = f"{number:08d}".encode()
                sock.sendall(word)
                if receive_exactly(sock, len(word)) != word:
                    raise Broken(f"echo {number} over TCP was wrong")
                if number == 0:
                    self._recovery = max(self._recovery, time.monotonic() - started)
            sock.shutdown(socket.SHUT_WR)
            sock.recv(1)  # it has closed, too
        for number in range(ECHOES):
            word = f"{number:08d}".encode()
            if one_datagram(IPV4, self._server.udp, word) != word:
                raise Broken(f"datagram {number} was not answered")
