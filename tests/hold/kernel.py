"""What the Linux kernel says about sockets, from outside the process that owns them."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Connection", "connection", "datagrams_sent", "parse_connection"]


@dataclass(frozen=True)
class Connection:
    """One end of a TCP connection, from ``/proc/net/tcp``.

    Attributes:
        unacknowledged: Bytes the owner has written that the peer's kernel has not acknowledged.
        unread: Bytes that came and that the owner has not read.
        owned: A process still holds it; otherwise the kernel finishes it alone.
    """

    unacknowledged: int
    unread: int
    owned: bool


def connection(port: int, peer_port: int) -> Connection | None:
    """Find the end of a connection that has this local port and this remote one, or None."""
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                if found := parse_connection(line, port, peer_port):
                    return found
    return None


def parse_connection(line: str, port: int, peer_port: int) -> Connection | None:
    """Read one line of the table, or None if it is about other ports."""
    _, local, remote, _, queues, _, _, _, _, inode, *_ = line.split()
    if (_port(local), _port(remote)) != (port, peer_port):
        return None
    unacknowledged, unread = (int(each, 16) for each in queues.split(":"))
    return Connection(unacknowledged, unread, inode != "0")


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


def datagrams_sent() -> int:
    """How many UDP datagrams this machine's sockets have sent (raw ones do not count), IPv4 and IPv6."""
    names, values = (
        line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Udp:")
    )
    sent = int(values[names.index("OutDatagrams")])
    with contextlib.suppress(FileNotFoundError):
        found = re.search(r"^Udp6OutDatagrams\s+(\d+)", Path("/proc/net/snmp6").read_text(), re.MULTILINE)
        sent += int(found.group(1)) if found else 0
    return sent
