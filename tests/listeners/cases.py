"""What the tests of listeners share: descriptions, files for a while, and a count of what is open."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import tcp
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from echosvc.errors import EchosvcError, ListenError
from echosvc.listeners import Inherited, Internet, ListenerSettings, TLSSettings, UnixSocket
from echosvc.listeners.sockets import Opened, open_all
from echosvc.transports.linux import LINUX
from tests.doubles import FakeReactor
from tests.machine import HAS_IPV6, open_descriptors

__all__ = [
    "FOREIGN",
    "FOREIGN_HOST",
    "FakeCertificates",
    "ListenerCase",
    "PortReactor",
    "UnixCase",
    "inherited_listener",
    "open_descriptors",
    "tcp_listener",
    "udp_listener",
    "unix_listener",
    "unixgram_listener",
]

#: An endpoint of Twisted's on any port, and its address. Text that begins with `tcp:` is ours; these tests go around that where there
#: is no IPv6.
FOREIGN, FOREIGN_HOST = (
    ("tcp6:0:interface=\\:\\:1", "::1") if HAS_IPV6 else ("tcp:0:interface=127.0.0.1", "127.0.0.1")
)


class FakeCertificates:
    """Reads no files, and has no contexts; remembers how often it is read again.

    Args:
        settings: Which files would be read.
        alpn: What a listener's protocol is called.
    """

    def __init__(self, settings: TLSSettings, alpn: tuple[str, ...] = ()) -> None:
        self.settings = settings
        self.alpn = settings.alpn or alpn
        self.alpn_required = bool(settings.alpn)
        self.reloads = 0

    def context(self) -> None:
        """Have none."""

    def context_for(self, server_name: str | None) -> None:
        """Have none."""

    def reload(self) -> None:
        """Count."""
        self.reloads += 1

    def warnings(self) -> list[str]:
        """Have one."""
        return ["it has expired"]

    def expires(self) -> dict[str, float]:
        """Have done so."""
        return {"certificate": 5.0}


def tcp_listener(port: int = 0, interface: str = "127.0.0.1", **more: Any) -> ListenerSettings:
    """Describe a TCP listener, as options do."""
    return _by_options(Internet("tcp", port, interface), **more)


def udp_listener(port: int = 0, interface: str = "127.0.0.1", **more: Any) -> ListenerSettings:
    """Describe a UDP listener, as options do."""
    return _by_options(Internet("udp", port, interface), **more)


def unix_listener(path: str, mode: int = 0o660, *, lockfile: bool = False, **more: Any) -> ListenerSettings:
    """Describe a listener on a UNIX stream socket."""
    return _listener(UnixSocket("unix", path, mode, lockfile), **more)


def unixgram_listener(path: str, mode: int = 0o660, **more: Any) -> ListenerSettings:
    """Describe a listener on a UNIX datagram socket."""
    return _listener(UnixSocket("unixgram", path, mode), **more)


def inherited_listener(name: str | None = None, index: int | None = None, **more: Any) -> ListenerSettings:
    """Describe a listener on a socket that a service manager passes on."""
    return _listener(Inherited(name, index), **more)


def _by_options(place: Internet, **more: Any) -> ListenerSettings:
    by_options = {
        "origin": f"--port {place.port}",
        "interface_origin": f"--interface {place.interface or '*'}",
    }
    return _listener(place, **({} if "origin" in more else by_options), **more)


def _listener(place: Any, **more: Any) -> ListenerSettings:
    return ListenerSettings(**{"protocol": "echo", "origin": "--listen x", "place": place, **more})


class PortReactor(FakeReactor):
    """A reactor on which Twisted's own TCP ports listen for real; a test turns them by hand."""

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> tcp.Port:
        """Listen as Twisted's reactors do."""
        listening = tcp.Port(port, factory, backlog, interface, self)
        listening.startListening()
        return listening


class ListenerCase(SynchronousTestCase):
    """Makes folders and clients, and closes them."""

    def folder(self) -> Path:
        """Make a folder that is removed at the end; its path is short enough for a socket's."""
        path = tempfile.mkdtemp(prefix="echosvc-")
        self.addCleanup(shutil.rmtree, path)
        return Path(path)

    def client(self, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
        """Make a UNIX socket for a test's own use; it waits at most 5 seconds."""
        sock = socket.socket(socket.AF_UNIX, kind)
        self.addCleanup(sock.close)
        sock.settimeout(5)
        return sock

    def refused(self, kind: type[EchosvcError], call: Callable[..., object], *arguments: object) -> Any:
        """Expect an error, which is one line, and that nothing is open that was not open before."""
        before = open_descriptors()
        error = self.assertRaises(kind, call, *arguments)
        self.assertEqual(before, open_descriptors())
        self.assertEqual(1, len(str(error).splitlines()))
        return error


class UnixCase(ListenerCase):
    """Opens UNIX sockets in a folder of the test's own."""

    def setUp(self) -> None:
        """Make the folder."""
        self.path = str(self.folder() / "echo")

    def open(self, *listeners: ListenerSettings) -> list[Opened]:
        """Open some listeners."""
        opened = open_all(listeners)
        for each in opened:
            self.addCleanup(each.close)
        return opened

    def sock(self, listener: ListenerSettings) -> socket.socket:
        """Open one listener's socket."""
        (opened,) = self.open(listener)
        assert opened.sock is not None
        return opened.sock

    def fails(self, *listeners: ListenerSettings) -> ListenError:
        """Expect that they cannot be opened, in one line, and that none stays open."""
        error = self.refused(ListenError, open_all, listeners)
        assert isinstance(error, ListenError)
        return error

    def crowd(self) -> None:
        """Connect as many clients as may wait where the backlog is 1: the system lets one more wait than it is told."""
        if not LINUX:
            raise SkipTest("needs Linux, which says that a client has to wait for its turn to wait")
        for _ in range(2):
            client = self.client()
            client.setblocking(False)
            client.connect(self.path)

    def leave_stale(self, kind: socket.SocketKind = socket.SOCK_STREAM) -> None:
        """Leave a file behind, as a service does that is killed."""
        with socket.socket(socket.AF_UNIX, kind) as dead:
            dead.bind(self.path)
