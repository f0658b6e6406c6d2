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

from tests.hold.promise import Broken

__all__ = [
    "HOSTS",
    "IPV4",
    "IPV6",
    "NOT_TRIED",
    "Pings",
    "answers",
    "connect",
    "in_threads",
    "one_datagram",
    "ping",
    "receive_all",
    "receive_exactly",
    "send_all_and_shut",
]

T = TypeVar("T")

IPV4 = "127.0.0.1"
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

#: Seconds after which a silent socket is given up. No promise is that slow; it only ends a hang.
GIVE_UP = 20.0

_PIECE = 256 * 1024


def address(host: str, port: int) -> tuple[socket.AddressFamily, tuple[object, ...]]:
    """Turn a literal into what a socket takes; a plain ``connect`` drops the scope of ``fe80::1%eth0``."""
    family, _, _, _, sockaddr = socket.getaddrinfo(
        host, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
    )[0]
    return family, sockaddr


def connect(host: str, port: int, *, receive_buffer: int = 0) -> socket.socket:
    """Connect by TCP.

    Args:
        host: An address.
        port: A port.
        receive_buffer: Bytes for SO_RCVBUF, set before connecting so that the window is small from the start.
    """
    family, sockaddr = address(host, port)
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(GIVE_UP)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        sock.connect(sockaddr)
    except BaseException:
        sock.close()
        raise
    return sock


def send_all_and_shut(sock: socket.socket, data: bytes) -> None:
    """Send everything and half-close. What a dying connection makes of it is seen by who reads."""
    with contextlib.suppress(OSError):
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)


def receive_all(sock: socket.socket, room: int) -> memoryview:
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


def receive_exactly(sock: socket.socket, count: int) -> bytes:
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
    host: str, port: int, *, count: int, interval: float, until: Callable[[], bool] = lambda: False
) -> Pings:
    """Send 64 bytes, wait for them, and again.

    Args:
        host: An address.
        port: A TCP port.
        count: How often.
        interval: Seconds between an answer and the next message.
        until: Ends the pinging earlier, after the first answer for which it is true.

    Raises:
        Broken: An answer was wrong or did not come.
    """
    pings = Pings()
    with connect(host, port) as sock:
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
