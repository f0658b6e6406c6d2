"""What the tests of messages share: a server's socket, and clients'."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from echosvc.transports import linux
from echosvc.transports.batched_messages import BatchedMessages, messages_for
from echosvc.transports.linux import PKTINFO_OPTIONS
from echosvc.transports.messages import Messages, Unsent
from tests.doubles import udp_socket
from tests.machine import family_of

__all__ = ["Bench", "MessagesCase"]


class Bench:
    """A server's socket, clients' sockets, and messages on the server's."""

    def __init__(self, host: str = "127.0.0.1", *, make: Any = messages_for, **options: int) -> None:
        self.stack = contextlib.ExitStack()
        family = family_of(host)
        self.server = self.stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        if host == "::":
            self.server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.server.bind((host, 0))
        self.server.setblocking(False)
        self.server.setsockopt(socket.SOL_SOCKET, linux.SO_RCVBUFFORCE if os.geteuid() == 0 else 8, 8 << 20)
        self.server.setsockopt(*PKTINFO_OPTIONS[family], 1)
        self.port: int = self.server.getsockname()[1]
        self.messages: Messages = make(self.server)

    def client(self, host: str = "127.0.0.1", **options: int) -> socket.socket:
        """Open a client, connected to the server at `host`: deaf to answers from elsewhere."""
        bind = "::1" if ":" in host else "127.0.0.1"
        sock = self.stack.enter_context(udp_socket(bind))
        sock.connect((host, self.port))
        return sock

    def receive(self) -> list[list[bytes]]:
        """Receive, and copy the datagrams of each message."""
        count = self.messages.receive()
        return [[bytes(each) for each in self.messages.datagrams(index)] for index in range(count)]

    def send_back(self, which: Sequence[int] | None = None) -> list[Unsent]:
        """Send messages back, and forget them."""
        unsent = self.messages.send_back(range(len(self.messages.lengths)) if which is None else which)
        self.messages.release()
        return unsent


class MessagesCase(SynchronousTestCase):
    """Skips where there is no recvmmsg."""

    def bench(self, host: str = "127.0.0.1", **options: Any) -> Bench:
        """Make a bench that is cleared at the end."""
        bench = Bench(host, **options)
        self.addCleanup(bench.stack.close)
        if "make" not in options and not isinstance(bench.messages, BatchedMessages):
            raise SkipTest("needs recvmmsg and sendmmsg")
        self.addCleanup(bench.messages.release)
        return bench
