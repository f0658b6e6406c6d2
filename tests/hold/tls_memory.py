"""What is promised of TLS before the handshake is done, and after it: what may wait costs little, and room is made for others.

The idle after the handshake are T07-tls, and those that never read T10-tls and T11-tls.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.hold.carriers import IPV4, Carrier, Stream, connect, dial
from tests.hold.clients import answers, in_threads, ping, receive_exactly
from tests.hold.forge import needs_root
from tests.hold.kernel import connection
from tests.hold.overload import CAP, memory_group
from tests.hold.programs import allow_descriptors, reset_at_end
from tests.hold.promise import Promise, kept, promise
from tests.hold.run import Run
from tests.hold.service import Server
from tests.hold.tls_stream import RECORD, client_context

__all__ = ["UNFINISHED", "memory_returns", "oldest_makes_room"]

KIB, MIB = 1024, 1024 * 1024

#: A ClientHello of 128 KiB, cut into records, all but its last byte (RFC 8446 sections 4 and 5.1): OpenSSL takes no longer one.
_BODY = b"\x03\x03" + random.Random(12).randbytes(128 * KIB - 2)
_HELLO = b"\x01" + len(_BODY).to_bytes(3) + _BODY
LONG_HELLO = b"".join(
    b"\x16\x03\x01" + len(part).to_bytes(2) + part
    for part in (_HELLO[start : start + RECORD] for start in range(0, len(_HELLO), RECORD))
)[:-1]

#: A ClientHello just under the 16 KiB that are taken, in two records, all but its last byte.
_NEARLY = b"\x01" + (15_000).to_bytes(3) + _BODY[:15_000]
NEARLY_LONG_HELLO = b"".join(
    b"\x16\x03\x01" + len(part).to_bytes(2) + part for part in (_NEARLY[:14_000], _NEARLY[14_000:])
)[:-1]

#: No more of it than what says how long it will be: the heads of the record and of the message.
ANNOUNCED = b"\x16\x03\x01\x00\x04" + _HELLO[:4]

#: Seconds in which all that is measured must be over: the service ends a handshake that takes longer.
DEADLINE = 10.0

#: How many come before it is measured: what all share is there then.
FEW = 100

#: Seconds in which memory is given back after many have left.
SETTLED = 12.0

#: How many unfinished handshakes there are beside honest clients, how many of those come, and seconds that each may wait.
MANY, HONEST, WAIT = 1000, 20, 5.0

#: Two sources, all of 127.0.0.0/8 being ours.
HERE, ELSEWHERE = "127.0.0.2", "127.0.0.3"


@dataclass(frozen=True)
class Unfinished:
    """One way to begin a handshake and leave it at that.

    Attributes:
        name: Of the promise.
        words: What each of them does.
        sent: What each of them sends.
        count: How many there are.
        kib: Memory that each may cost, in KiB.
        unguarded: As a promise has it.
    """

    name: str
    words: str
    sent: bytes
    count: int
    kib: int
    unguarded: str | None = None


def _first_flight() -> bytes:
    """What an honest client sends first."""
    outgoing = ssl.MemoryBIO()
    client = client_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def _unfinished(way: Unfinished) -> Promise:
    @promise(
        way.name,
        f"{way.count} TLS clients that {way.words} cost at most {way.kib} KiB each, or are refused; in {CAP // MIB} MiB they kill nothing",
        deadline=60,
        unguarded=way.unguarded,
        carrier=Carrier.TLS,
    )
    def keep(run: Run) -> str:
        """Memory is compared between the first hundred and the last, so that what all share is not counted."""
        needs_root()
        group = run.using(memory_group(CAP))
        join = f'echo $$ >"{group}/cgroup.procs" && exec "$@"'
        with allow_descriptors(way.count), contextlib.ExitStack() as sockets:
            server = run.serve("--max-per-source", str(way.count + 200), prefix=("sh", "-c", join, "sh"))
            ping(IPV4, server.place, count=3, interval=0)
            began = time.monotonic()

            def more(count: int) -> list[socket.socket]:
                new = in_threads(lambda _: _begin(server, way.sent), count=count, at_once=4)
                return [sockets.enter_context(each) for each in new]

            waiting = more(FEW)
            _taken(server, waiting)
            before, held = server.anonymous(), server.descriptors()
            run.step = f"{way.count} of them"
            with contextlib.suppress(ConnectionRefusedError):  # by a dead service
                waiting += more(way.count - FEW)
            _taken(server, waiting)
            kept(server.alive(), f"the service was killed by {way.count} clients that {way.words}")
            after, held = server.anonymous(), server.descriptors() - held
            ping(IPV4, server.place, count=3, interval=0)
            took = time.monotonic() - began
        each = (after - before) / (way.count - FEW)
        figures = (
            f"{way.count - FEW} more came, {held} of them were held: {each:.0f} bytes each (Anonymous of smaps_rollup), an honest client was"
            f" served beside them; {took:.1f} s"
        )
        kept(took < DEADLINE, f"{figures}: too slow, this machine is too busy")
        kept(each <= way.kib * KIB, figures)
        return figures

    return keep


UNFINISHED = tuple(
    map(
        _unfinished,
        (
            Unfinished("TLS-silent", "send nothing", b"", 2700, 3, "was killed|[0-9]{5,} bytes each"),
            Unfinished(
                "TLS-announce",
                "announce a ClientHello of 128 KiB and send 9 bytes",
                ANNOUNCED,
                2700,
                3,
                "was killed|[0-9]{4,} bytes each",
            ),
            Unfinished(
                "TLS-flight", "send a whole ClientHello and go on no further", _first_flight(), 384, 48
            ),
            Unfinished(
                "TLS-hello",
                "send all but the last byte of a ClientHello of 128 KiB",
                LONG_HELLO,
                200,
                48,
                "[0-9]{5,} bytes each",
            ),
            Unfinished(
                "TLS-hellos",
                "send all but the last byte of a ClientHello of 15 KiB in two records",
                NEARLY_LONG_HELLO,
                2000,
                6,
                "was killed|[0-9]{5,} bytes each",
            ),
        ),
    )
)


@promise(
    "TLS-return",
    "after 3000 TLS connections have closed, 1000 each silent, unfinished and idle, memory is within 16 MiB of before",
    deadline=120,
    unguarded=r"\+\d{2,}\.\d MiB afterwards",
    carrier=Carrier.TLS,
)
def memory_returns(run: Run) -> str:
    """A hundred of each have come and gone before it is measured."""
    kinds: tuple[Callable[[Server], Stream], ...] = (
        lambda server: _begin(server, b""),
        lambda server: _begin(server, LONG_HELLO),
        _echoed,
    )
    with allow_descriptors(3000):
        server = run.serve("--max-per-source", "4000")
        _come_and_go(server, kinds, 100)
        before = server.resident()
        run.step = "3000 connections"
        held = _come_and_go(server, kinds, 1000)
        until = time.monotonic() + SETTLED
        while (left := server.resident() - before) > 16 * MIB and time.monotonic() < until:
            time.sleep(0.1)
    ping(IPV4, server.place, count=3, interval=0)
    figures = f"{held / MIB:.0f} MiB while they are there, {left / MIB:+.1f} MiB afterwards (VmRSS)"
    kept(left <= 16 * MIB, figures)
    return figures


@promise(
    "TLS-room",
    f"{MANY} unfinished TLS handshakes of one source: the oldest make room, and {HONEST} honest clients of it and {HONEST} of another all get in",
    deadline=60,
    unguarded="all are held",
    carrier=Carrier.TLS,
)
def oldest_makes_room(run: Run) -> str:
    """Before the time of the first of them is over."""
    hello = _first_flight()
    with allow_descriptors(MANY), contextlib.ExitStack() as sockets:
        server = run.serve("--max-per-source", str(MANY + 200))
        began = time.monotonic()
        # One after the other, so that their ages differ.
        waiting = [sockets.enter_context(_begin(server, hello, HERE)) for _ in range(MANY)]
        waits = {source: [_honest(server, source) for _ in range(HONEST)] for source in (HERE, ELSEWHERE)}
        ended = _ended(waiting)
        took = time.monotonic() - began
    answers(server.tcp, server.udp)
    figures = (
        f"{MANY} in {took:.1f} s, {sum(ended)} of them ended, {_prefix(ended)} of those the oldest; honest clients have their echo"
        f" within {max(waits[HERE]) * 1e3:.0f} ms from the same source, {max(waits[ELSEWHERE]) * 1e3:.0f} ms from another"
    )
    kept(took < DEADLINE, f"{figures}: too slow, this machine is too busy")
    kept(sum(ended), f"{figures}: all are held")
    kept(sum(ended) == _prefix(ended), figures)
    kept(max(*waits[HERE], *waits[ELSEWHERE]) <= WAIT, figures)
    return figures


def _begin(server: Server, sent: bytes, source: str = "") -> socket.socket:
    """Connect and send something; one that is refused meanwhile has an ended connection."""
    sock = reset_at_end(connect(IPV4, int(server.place.where), source=source))
    with contextlib.suppress(ConnectionError):
        sock.sendall(sent)
    return sock


def _echoed(server: Server) -> Stream:
    sock = reset_at_end(dial(server.place))
    sock.sendall(b"word")
    kept(receive_exactly(sock, 4) == b"word", "a connection was answered wrong")
    return sock


def _taken(server: Server, waiting: Sequence[Stream]) -> None:
    """Wait until the service has read all that was sent, 3 seconds at most."""
    until = time.monotonic() + 3
    here = IPV4, int(server.place.where)

    def is_unread(sock: Stream) -> bool:
        theirs = connection(here, sock.getsockname())
        return theirs is not None and theirs.unread > 0

    for sock in waiting:
        while is_unread(sock) and time.monotonic() < until:
            time.sleep(0.01)


def _honest(server: Server, source: str) -> float:
    """Connect, and have a word echoed; return how many seconds that took."""
    began = time.monotonic()
    with dial(server.place, source=source) as sock:
        sock.sendall(b"word")
        kept(receive_exactly(sock, 4) == b"word", "an honest client was answered wrong")
    return time.monotonic() - began


def _come_and_go(server: Server, kinds: tuple[Callable[[Server], Stream], ...], count: int) -> int:
    """Have so many connections of each kind at once; return the memory that was held then."""
    before = server.descriptors()
    with contextlib.ExitStack() as sockets:
        there = in_threads(
            lambda number: kinds[number % len(kinds)](server), count=len(kinds) * count, at_once=4
        )
        for sock in there:
            sockets.enter_context(sock)
        _taken(server, there)
        held = server.resident()
    until = time.monotonic() + 10
    while server.descriptors() > before and time.monotonic() < until:
        time.sleep(0.05)
    return held


def _ended(waiting: list[socket.socket]) -> list[bool]:
    """Which of the connections have ended."""
    poll = select.poll()
    for sock in waiting:
        poll.register(sock, select.POLLRDHUP)  # not for what the server has to say
    numbers = {number for number, _ in poll.poll(0)}
    return [sock.fileno() in numbers for sock in waiting]


def _prefix(ended: list[bool]) -> int:
    """How many of the first have ended, before the first that has not."""
    return ended.index(False) if False in ended else len(ended)
