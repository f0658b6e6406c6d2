"""The admin listener: bound with all others, served first to last, and apart from what is admitted to them."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger

from echosvc.admin.pages import Pages, Snapshots
from echosvc.admin.server import AdminFactory
from echosvc.listeners.sockets import Opened
from echosvc.listeners.unix_sockets import show_path
from echosvc.transports import StreamPort, UnixStreamPort, display

__all__ = ["AdminListener"]

_log = Logger(namespace="echosvc")

#: Seconds after which a connection is aborted that takes nothing of its answer. All have a deadline besides.
_STALL = 10.0


class AdminListener:
    """A bound socket on which the service is watched.

    Args:
        opened: The bound socket. The listener owns it, and its file.

    Attributes:
        where: Where it listens, as logs show it: a URL, or the path of a UNIX socket.
    """

    def __init__(self, opened: Opened) -> None:
        assert opened.sock is not None  # noqa: S101  # only our own endpoints are allowed
        self._opened = opened
        self._sock = opened.sock
        self._is_unix = opened.sock.family == socket.AF_UNIX
        self._factory: AdminFactory | None = None
        self._port: StreamPort | None = None
        name = opened.sock.getsockname()
        self.where = f"unix:{show_path(name)}" if self._is_unix else f"http://{display(*name[:2])}/"

    def start(self, reactor: Any, snapshots: Snapshots, is_ready: Callable[[], bool]) -> None:
        """Begin to answer.

        Args:
            reactor: Watches the socket and keeps time.
            snapshots: Takes a snapshot of each process that serves.
            is_ready: Tells whether every listener is up and the service is not stopping.
        """
        self._factory = AdminFactory(Pages(snapshots, is_ready).answer, reactor, is_local=self._is_local())
        kind = UnixStreamPort if self._is_unix else StreamPort
        self._port = kind(self._sock, self._factory, reactor, stall_timeout=_STALL)
        self._port.startListening()

    def stop(self) -> Deferred[object]:
        """Stop answering, close the socket, and remove its file.

        Returns:
            Fires when it is closed. Connections have been aborted.
        """
        if self._port is None or self._factory is None:
            self._opened.close()
            return maybeDeferred(lambda: None)
        if self._opened.file is not None and (problem := self._opened.file.remove()):
            _log.warn("admin: {problem}", problem=problem)
        self._factory.close()
        return maybeDeferred(self._port.stopListening)

    def _is_local(self) -> bool:
        """Whether it listens on a loopback address."""
        return (
            not self._is_unix
            and ipaddress.ip_address(self._sock.getsockname()[0].partition("%")[0]).is_loopback
        )

    def warnings(self) -> list[str]:
        """Say if others than this machine can reach it."""
        if self._is_unix or self._is_local():
            return []
        return ["anybody who can reach this address can read what the service does; a firewall should know"]
