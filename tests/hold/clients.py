"""The witnesses: clients made of plain blocking sockets and threads. Nothing here is Twisted, or ours."""

from __future__ import annotations

import contextlib
import queue
import socket
import statistics
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from tests.hold.carriers import GIVE_UP, IPV4, Carrier, Place, Stream, address, connect, dial
from tests.hold.promise import Broken

__all__ = [
    "GIVE_UP",
    "HOSTS",
    "IPV4",
    "IPV6",
    "NOT_TRIED",
    "Pings",
    "address",
    "answers",
    "connect",
    "in_threads",
    "one_datagram",
    "ping",
    "ping_steadily",
    "receive_all",
    "receive_exactly",
    "send_all_and_shut",
]

T = TypeVar("T")

IPV6 = "::1"


def _has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as sock:
        sock.bind((IPV6, 0))
        return True
    return False


#: This machine's own addresses, by the name of their family. Not every container has IPv6.
HOSTS = {"IPv4": IPV4, "IPv6": IPV6} if _has_ipv6() else {"IPv4": IPV4}

#: What a result says that could have shown more.
NOT_TRIED = "" if "IPv6" in HOSTS else "; IPv6 NOT TRIED: this machine has none"

_PIECE = 256 * 1024


def send_all_and_shut(sock: Stream, data: bytes) -> None:
    """Send everything and half-close. What a dying connection makes of it is seen by who reads."""
    with contextlib.suppress(OSError):
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)


def receive_all(sock: Stream, room: int) -> memoryview:
    """Read until the end of the stream, or until the connection breaks.

    Args:
        sock: Where from.
        room: The most that may come; one byte more ends the reading, too.

    Returns:
        What came.
    """
    came = memoryview(bytearray(room + 1))
    count = 0
    with contextlib.suppress(OSError):
        while count <= room and (size := sock.recv_into(came[count : count + _PIECE])):
            count += size
    return came[:count]


def receive_exactly(sock: Stream, count: int) -> bytes:
    """Read so many bytes.

    Raises:
        Broken: The stream ended or fell silent before.
    """
    came = bytearray()
    try:
        while len(came) < count and (piece := sock.recv(count - len(came))):
            came += piece
    except OSError as problem:
        raise Broken(f"{len(came)} of {count} bytes came back, then {problem}") from problem
    if len(came) < count:
        raise Broken(f"{len(came)} of {count} bytes came back, then the connection ended")
    return bytes(came)


class Pings:
    """How long small messages took to come back.

    Attributes:
        seconds: One round trip after the other.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []

    @property
    def worst(self) -> float:
        """The longest round trip, in seconds."""
        return max(self.seconds)

    @property
    def median(self) -> float:
        """The middle round trip, in seconds."""
        return statistics.median(self.seconds)

    def quantile(self, share: float) -> float:
        """What so large a share of the round trips (0 to 1) took at most, in seconds."""
        return sorted(self.seconds)[min(len(self.seconds) - 1, int(share * len(self.seconds)))]


def ping(
    host: str, port: int | Place, *, count: int, interval: float, until: Callable[[], bool] = lambda: False
) -> Pings:
    """Send 64 bytes, wait for them, and again.

    Args:
        host: An address.
        port: A TCP port, or a place.
        count: How often.
        interval: Seconds between an answer and the next message.
        until: Ends the pinging earlier, after the first answer for which it is true.

    Raises:
        Broken: An answer was wrong or did not come.
    """
    pings = Pings()
    place = port if isinstance(port, Place) else Place(Carrier.TCP, str(port))
    with dial(place, host) as sock:
        for number in range(count):
            message = f"{number:064d}".encode()
            started = time.perf_counter()
            sock.sendall(message)
            if receive_exactly(sock, len(message)) != message:
                raise Broken(f"ping {number} came back wrong")
            pings.seconds.append(time.perf_counter() - started)
            if until():
                break
            time.sleep(interval)
    return pings


def ping_steadily(place: Place, *, interval: float, until: Callable[[], bool]) -> Pings:
    """Send 64 bytes at fixed times, whether or not those before have come back.

    `ping` sends nothing while it waits, so that a long wait counts no more than a short one; here it counts for all who would have
    come meanwhile.

    Args:
        place: Where.
        interval: Seconds between two messages.
        until: Ends it.

    Raises:
        Broken: An answer was wrong or did not come.
    """
    pings = Pings()
    sent: list[float] = []
    with dial(place) as sock:
        came = b""
        due = time.perf_counter()
        while (over := until()) is False or len(pings.seconds) < len(sent):
            now = time.perf_counter()
            if now >= due and not over:
                sock.sendall(b"%064d" % len(sent))
                sent.append(now)
                due += interval
            sock.settimeout(max(interval / 10, due - now) if not over else GIVE_UP)
            try:
                piece = sock.recv(2**16)
            except TimeoutError:
                if over:
                    raise Broken(f"{len(sent) - len(pings.seconds)} pings did not come back") from None
                continue
            now = time.perf_counter()
            came += piece
            while len(came) >= 64 and piece:
                if came[:64] != b"%064d" % len(pings.seconds):
                    raise Broken(f"ping {len(pings.seconds)} came back wrong")
                came = came[64:]
                pings.seconds.append(now - sent[len(pings.seconds)])
            if not piece:
                raise Broken("the connection ended")
    return pings


def one_datagram(host: str, port: int, payload: bytes, *, wait: float = 2.0) -> bytes | None:
    """Ask once by UDP, from a connected socket, which sees only what comes from the address asked.

    Returns:
        The answer, or None if there was none within `wait` seconds.
    """
    family, sockaddr = address(host, port)
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(wait)
        sock.connect(sockaddr)
        try:
            sock.send(payload)
            return sock.recv(65535)
        except OSError:
            return None


def answers(tcp: int, udp: int) -> None:
    """Check that an honest client is served: TCP and UDP, IPv4 and IPv6.

    Raises:
        Broken: It is not.
    """
    for host in HOSTS.values():
        ping(host, tcp, count=3, interval=0)
        if one_datagram(host, udp, b"honest") != b"honest":
            raise Broken(f"an honest datagram to {host} was not answered")


def in_threads(work: Callable[[int], T], *, count: int, at_once: int) -> list[T]:
    """Call ``work(0)`` to ``work(count - 1)``, some at a time.

    The threads are daemons: when the deadline interrupts the waiting, nobody waits for them.

    Returns:
        What the calls returned, in their order.

    Raises:
        Exception: What the first failing call raised; calls that had not begun are not made.
    """
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(count):
        todo.put(number)
    done: dict[int, T] = {}
    failures: list[Exception] = []

    def worker() -> None:
        with contextlib.suppress(queue.Empty):
            while not failures:
                number = todo.get_nowait()
                try:
                    done[number] = work(number)
                except Exception as problem:  # noqa: BLE001  # handed to who waits
                    failures.append(problem)

    threads = [threading.Thread(target=worker, daemon=True) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException:  # interrupted: nothing more is begun
        with contextlib.suppress(queue.Empty):
            while True:
                todo.get_nowait()
        raise
    if failures:
        raise failures[0]
    return [done[number] for number in range(count)]
