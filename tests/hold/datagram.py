"""What is promised of honest datagrams: each comes back once, whole, from the address that was asked."""

from __future__ import annotations

import os
import select
import socket

from tests.hold.clients import HOSTS, IPV4, IPV6, NOT_TRIED, in_threads, one_datagram
from tests.hold.promise import Broken, kept, promise
from tests.hold.run import Run

__all__ = ["every_size", "reply_address"]

#: The most that loopback carries: 65 535 less the UDP header, and over IPv4 less the IP header, too.
#: (The IPv6 header is not counted in the length of its payload, RFC 8200, 3.)
LARGEST = {IPV4: 65507, IPV6: 65527}

_EDGES = [
    size + step for size in (4096, 8192, 9000, 16384, 32768, 65487, 65507, 65527) for step in (-1, 0, 1)
]


def sizes(largest: int) -> list[int]:
    """Which sizes are tried: all up to 2100, every 97th from there on, and the edges."""
    every = {*range(2101), *range(2100, largest, 97), *_EDGES, largest}
    return sorted(size for size in every if size <= largest)


@promise(
    "T03",
    "UDP of every size, IPv4 to 65 507 and IPv6 to 65 527: the same datagram once, the empty one too",
    deadline=60,
    stock=r"IPv4: 8193 bytes were answered with 8192",
    # Its buffer has 2048; and whatever has come meanwhile it throws away once it has answered.
    xinetd=r"^IPv4: \d+ bytes were (not answered|answered with 2048)",
    unguarded=r"IPv4: 8\d{3} bytes were not answered",
)
def every_size(run: Run) -> str:
    """One after the other on one socket, so that a second copy would be taken for the next answer."""
    server = run.serve()
    figures = []
    for name, host in HOSTS.items():
        noise = os.urandom(LARGEST[host])
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(2)
            tried = sizes(LARGEST[host])
            for size in tried:
                payload = noise[len(noise) - size :]
                sock.sendto(payload, (host, server.udp))
                came = _answer(sock, name, size)
                kept(came == payload, f"{name}: {size} bytes were answered with {len(came)} others")
            extra, _, _ = select.select([sock], [], [], 0.1)
            kept(not extra, f"{name}: a datagram came back twice")
        figures.append(f"{name} {len(tried)}/{len(tried)} sizes to {tried[-1]}")
    return ", ".join(figures) + NOT_TRIED


def _answer(sock: socket.socket, name: str, size: int) -> bytes:
    try:
        return sock.recv(70_000)
    except TimeoutError:
        raise Broken(f"{name}: {size} bytes were not answered") from None


@promise(
    "T05",
    "one wildcard UDP socket answers from the address that was asked: 20 of 127/8, and ::1",
    deadline=30,
    stock=r"^[12]/2[01] .* 127\.0\.0\.2 was answered from 127\.0\.0\.1",
    xinetd=r"^[0-2]/2[01] answered",  # one or both of 127.0.0.1 and ::1, if it does not throw them away (T03)
    unguarded=r"was answered from 127\.0\.0\.1",
)
def reply_address(run: Run) -> str:
    """A client that is connected sees an answer only if it comes from the address it asked."""
    server = run.serve()
    hosts = [f"127.0.0.{number}" for number in range(1, 21)] + [IPV6] * ("IPv6" in HOSTS)

    def is_answered(number: int) -> bool:
        word = hosts[number].encode()
        return one_datagram(hosts[number], server.udp, word) == word

    answered = in_threads(is_answered, count=len(hosts), at_once=len(hosts))
    figures = f"{sum(answered)}/{len(hosts)} answered from the address asked{NOT_TRIED}"
    if not all(answered):
        missing = hosts[answered.index(False)]
        raise Broken(f"{figures}; {missing} was answered from {_whence(missing, server.udp)}")
    return figures


def _whence(host: str, port: int) -> str:
    """Ask from a socket that is not connected: where does the answer come from?"""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.5)
        sock.sendto(b"who", (host, port))
        try:
            return str(sock.recvfrom(100)[1][0])
        except OSError:
            return "nowhere"
