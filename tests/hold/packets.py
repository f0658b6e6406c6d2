"""Packets written byte by byte: a storm of forged ones, a reflector that they can be played off against, single odd ones.

A program of its own that needs nothing but Python, and root::

    packets.py storm SOURCE COUNT HOST PORT DATAGRAMS RATE   from port 40000 of COUNT addresses, SOURCE the first; prints seconds
    packets.py half-open SOURCE COUNT HOST PORT SECONDS RATE    asks likewise for connections; prints how often
    packets.py reflect HOST PORT SECONDS                     a UDP echo of somebody else's; prints what came each 0.1 s
    packets.py count HOST PORT SECONDS                       prints how many datagrams came
"""

from __future__ import annotations

import socket
import struct
import sys
import time

__all__ = ["ipv4_packet", "ipv4_syn", "ipv6_packet"]

_UDP = struct.Struct("!HHHH")  # source port, destination port, length, checksum (RFC 768)
_IPV4 = struct.Struct("!BBHHHBBH4s4s")  # RFC 791
_IPV6 = struct.Struct("!IHBB16s16s")  # RFC 8200
# Ports, sequence, acknowledgement, header length, flags, window, checksum, urgent (RFC 9293).
_TCP = struct.Struct("!HHIIBBHHH")
_SYN = 2
_SO_RCVBUFFORCE = 33


def ipv4_packet(source: str, source_port: int, host: str, port: int, payload: bytes) -> bytes:
    """Write a UDP datagram with its IPv4 header, without UDP's checksum, which may be left out."""
    udp = _UDP.pack(source_port, port, _UDP.size + len(payload), 0) + payload
    ends = socket.inet_aton(source), socket.inet_aton(host)
    length = _IPV4.size + len(udp)
    header = _IPV4.pack(0x45, 0, length, 0, 0, 64, socket.IPPROTO_UDP, 0, *ends)
    return header[:10] + struct.pack("!H", _checksum(header)) + header[12:] + udp


def ipv6_packet(source: str, source_port: int, host: str, port: int, payload: bytes) -> bytes:
    """Write a UDP datagram with its IPv6 header; UDP's checksum may not be left out there."""
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, host)
    length = _UDP.size + len(payload)
    udp = _UDP.pack(source_port, port, length, 0) + payload
    checksum = _checksum(ends + struct.pack("!II", length, socket.IPPROTO_UDP) + udp) or 0xFFFF
    header = _IPV6.pack(6 << 28, length, socket.IPPROTO_UDP, 64, ends[:16], ends[16:])
    return header + udp[:6] + struct.pack("!H", checksum) + udp[8:]


def ipv4_syn(source: str, source_port: int, host: str, port: int) -> bytes:
    """Write the packet that asks for a TCP connection."""
    ends = socket.inet_aton(source) + socket.inet_aton(host)
    tcp = _TCP.pack(source_port, port, source_port, 0, 5 << 4, _SYN, 65535, 0, 0)
    checksum = _checksum(ends + struct.pack("!HH", socket.IPPROTO_TCP, len(tcp)) + tcp)
    length = _IPV4.size + len(tcp)
    header = _IPV4.pack(0x45, 0, length, 0, 0, 64, socket.IPPROTO_TCP, 0, ends[:4], ends[4:])
    return (
        header[:10]
        + struct.pack("!H", _checksum(header))
        + header[12:]
        + tcp[:16]
        + struct.pack("!H", checksum)
        + tcp[18:]
    )


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) & ~1]))
    total += data[-1] << 8 if len(data) & 1 else 0
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def storm(source: str, count: int, host: str, port: int, datagrams: int, rate: float) -> float:
    """Send datagrams from many addresses in turn, at most so many in a second; return how long it took."""
    template = ipv4_packet(source, 40_000, host, port, b"storm")
    head, tail = template[:12], template[16:]
    first = int.from_bytes(socket.inet_aton(source), "big")
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        started = time.monotonic()
        for number in range(datagrams):
            # The kernel computes the checksum of the header anew (raw(7)).
            forged = (first + number % count).to_bytes(4, "big")
            sock.sendto(head + forged + tail, (host, 0))
            if number % 100 == 0 and (early := number / rate - (time.monotonic() - started)) > 0:
                time.sleep(early)
        return time.monotonic() - started


def half_open(source: str, count: int, host: str, port: int, seconds: float, rate: float) -> int:
    """Ask for connections in the name of many addresses in turn, none of which answers; return how often."""
    first = int.from_bytes(socket.inet_aton(source), "big")
    asked = 0
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        started = time.monotonic()
        while (passed := time.monotonic() - started) < seconds:
            if asked >= passed * rate:
                time.sleep(0.001)
                continue
            forged = socket.inet_ntoa((first + asked % count).to_bytes(4, "big"))
            sock.sendto(ipv4_syn(forged, 40_000, host, port), (host, 0))
            asked += 1
    return asked


def reflect(host: str, port: int, seconds: float, *, answer: bool) -> list[int]:
    """Take what comes, perhaps send it back; return how many came in each tenth of a second."""
    tenths = [0] * round(seconds * 10)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 8 << 20)
        sock.bind((host, port))
        sock.settimeout(0.05)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        started = time.monotonic()
        while (tenth := int((time.monotonic() - started) * 10)) < len(tenths):
            try:
                payload, peer = sock.recvfrom(100)
            except TimeoutError:
                continue
            tenths[tenth] += 1
            if answer:
                sock.sendto(payload, peer)
    return tenths


def main(arguments: list[str]) -> None:
    """Do what the command line says."""
    match arguments:
        case ["storm", source, count, host, port, datagrams, rate]:
            took = storm(source, int(count), host, int(port), int(datagrams), float(rate))
            sys.stdout.write(f"{took}\n")
        case ["half-open", source, count, host, port, seconds, rate]:
            asked = half_open(source, int(count), host, int(port), float(seconds), float(rate))
            sys.stdout.write(f"{asked}\n")
        case ["reflect" | "count" as what, host, port, seconds]:
            tenths = reflect(host, int(port), float(seconds), answer=what == "reflect")
            sys.stdout.write(f"{' '.join(map(str, tenths))}\n")
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
