"""What has to run in a process of its own: connections that are nothing but trouble.

A program of its own that needs nothing but Python::

    churn.py HOST PORT SECONDS RATE   so many a second; prints how many there were

One of four is given up before the server can have answered: a SYN with a forged source port, whose answer nobody expects
(that needs root, otherwise there are three kinds). One is reset as soon as it stands, one ended, and one says a word,
ends and does not wait for the answer.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import sys
import time

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER
_TCP = struct.Struct(
    "!HHIIBBHHH"
)  # ports, sequence, acknowledgement, header length, flags, window, checksum, urgent
_SYN = 2


def checksum(data: bytes) -> int:
    """Sum as RFC 1071 has it; of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def syn(host: str, source_port: int, port: int) -> bytes:
    """Make the header that asks for a connection from a host to itself."""
    header = _TCP.pack(source_port, port, source_port, 0, 5 << 4, _SYN, 65535, 0, 0)
    address = socket.inet_aton(host)
    right = checksum(address * 2 + struct.pack("!HH", socket.IPPROTO_TCP, len(header)) + header)
    return header[:16] + struct.pack("!H", right) + header[18:]


def churn(host: str, port: int, seconds: float, rate: float) -> int:
    """Make them, and return how many."""
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) if os.geteuid() == 0 else None
    made = 0
    started = time.monotonic()
    while (passed := time.monotonic() - started) < seconds:
        if made >= passed * rate:
            time.sleep(0.001)
            continue
        kind = made % 4
        made += 1
        with contextlib.suppress(OSError):
            if kind == 0 and raw is not None:
                raw.sendto(syn(host, random.randrange(1024, 32768), port), (host, 0))
                continue
            with socket.create_connection((host, port), 5) as sock:
                if kind == 3:
                    sock.sendall(b"word")
                    sock.shutdown(socket.SHUT_WR)
                if kind != 2:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    return made


if __name__ == "__main__":
    there, number, most, each = sys.argv[1:]
    sys.stdout.write(f"{churn(there, int(number), float(most), float(each))}\n")
