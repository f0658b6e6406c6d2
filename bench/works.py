"""The works that every server is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs

__all__ = ["IDLE", "WORKS", "Work"]


@attrs.frozen
class Work:
    """One kind of load.

    Attributes:
        name: As `--work` takes it and the JSON file has it.
        title: As tables and the picture have it.
        mode: The load generator's mode.
        size: Bytes in a message or datagram.
        options: What else the load generator is told.
    """

    name: str
    title: str
    mode: Literal["tcp", "churn", "udp", "idle"]
    size: int
    options: Mapping[str, int] = attrs.field(factory=dict[str, int])

    @property
    def transport(self) -> Literal["tcp", "udp"]:
        """What a server must speak to be given this work."""
        return "udp" if self.mode == "udp" else "tcp"

    @property
    def arguments(self) -> list[str]:
        """The work in the load generator's words."""
        return [self.mode, f"size={self.size}", *(f"{name}={value}" for name, value in self.options.items())]


_KIB = 1024

IDLE = Work("idle", "TCP, 10 000 idle connections", "idle", 64, {"connections": 10_000})

# UDP windows: as many datagrams in flight as keep a server busy and still fit into a default receive buffer
# (212 992 bytes, of which the kernel lets three quarters fill; a datagram of 64 bytes counts 768, one of 1200
# bytes 2304). So nothing is lost for want of a setting; what is lost all the same is the server's.
WORKS: tuple[Work, ...] = (
    # Here alone the load sleeps between messages, as a client that waits for its answer does. One that polls is
    # back within 2 us: then a slow server never comes to sleep, and looks quicker than C, which does.
    Work("tcp-1", "TCP 64 B, 1 connection", "tcp", 64, {"connections": 1, "sleeps": 1}),
    Work("tcp-50", "TCP 64 B, 50 connections", "tcp", 64, {"connections": 50}),
    Work("tcp-200", "TCP 64 B, 200 connections", "tcp", 64, {"connections": 200}),
    Work("tcp-1k", "TCP 1 KiB, 50 connections", "tcp", _KIB, {"connections": 50}),
    Work("tcp-64k", "TCP 64 KiB, 10 connections", "tcp", 64 * _KIB, {"connections": 10}),
    Work("tcp-1m", "TCP 1 MiB, 2 connections", "tcp", _KIB * _KIB, {"connections": 2}),
    Work("connect", "TCP connect, echo 64 B, close", "churn", 64, {"connections": 32}),
    IDLE,
    Work("udp-1", "UDP 64 B, 1 flow", "udp", 64, {"connections": 1, "window": 128}),
    Work("udp-50", "UDP 64 B, 50 flows", "udp", 64, {"connections": 50, "window": 3}),
    Work("udp-1200", "UDP 1200 B, 1 flow", "udp", 1200, {"connections": 1, "window": 64}),
    Work(
        "udp-segments",
        "UDP 1200 B, segmenting sender",
        "udp",
        1200,
        {"connections": 1, "window": 80, "segments": 40, "gro": 1},
    ),
)
