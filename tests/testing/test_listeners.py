"""Every kind of stream listener of ours keeps the same promises, on real sockets."""

from __future__ import annotations

import socket
import ssl
from ipaddress import ip_network

import attrs
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from echosvc.admission import Gate, Limits, Screens
from echosvc.listeners import ListenerSettings, TLSSettings, open_listeners
from echosvc.listeners.listener import Listener
from echosvc.testing import ListenerConformance, LoopbackReactor, SocketLike, narrow_socket
from echosvc.transports.linux import LINUX
from tests.certificates import Authority
from tests.listeners.cases import ListenerCase, inherited_listener, tcp_listener, unix_listener
from tests.listeners.test_inherited import InheritedCase
from tests.machine import needs_ipv6
from tests.testing.tls_socket import TLSSocket
from tests.transports.tls_peer import Client, client_context

__all__: list[str] = []


class OurListener(ListenerConformance):
    """Opens a listener as the service does, from its description."""

    def settings(self) -> ListenerSettings:
        """Describe it."""
        raise NotImplementedError

    def serve(self, reactor: LoopbackReactor) -> None:
        """Open it."""
        (listener,) = open_listeners([self.settings()], reactor)
        assert isinstance(listener, Listener)
        self.addCleanup(listener.stop)
        gate = Gate(Limits(), Clock())  # the service's: its timer outlives connections for a moment
        listener.start(reactor, Screens([]), gate)
        self.port = listener.port

    def connect(self) -> SocketLike:
        """Connect over IPv4."""
        return self.tcp()

    def tcp(self) -> socket.socket:
        """Connect to the port."""
        assert self.port is not None
        return narrow_socket(("127.0.0.1", self.port))


class TCPTests(OurListener, SynchronousTestCase):
    """A TCP port."""

    def settings(self) -> ListenerSettings:
        """On loopback."""
        return tcp_listener()


@needs_ipv6
class DualStackTests(OurListener, SynchronousTestCase):
    """A TCP port on every address, which an IPv6 client uses."""

    def settings(self) -> ListenerSettings:
        """On all addresses."""
        return tcp_listener(interface="")

    def connect(self) -> SocketLike:
        """Connect over IPv6."""
        assert self.port is not None
        return narrow_socket(("::1", self.port))


class UnixTests(OurListener, ListenerCase):
    """A UNIX socket."""

    def settings(self) -> ListenerSettings:
        """In a folder of its own."""
        self.path = str(self.folder() / "echo")
        return unix_listener(self.path)

    def connect(self) -> SocketLike:
        """Connect to the file."""
        return narrow_socket(self.path)


class AbstractTests(OurListener, SynchronousTestCase):
    """A UNIX socket that has a name and no file."""

    if not LINUX:
        skip = "abstract names are Linux's own"

    def settings(self) -> ListenerSettings:
        """Under a name of its own."""
        return unix_listener(f"@{self.id()}")

    def connect(self) -> SocketLike:
        """Connect to the name."""
        return narrow_socket(f"\0{self.id()}")


class TLSTests(OurListener, ListenerCase):
    """TLS 1.3 on a TCP port."""

    version = ssl.TLSVersion.TLSv1_3

    def settings(self) -> ListenerSettings:
        """With a certificate of its own."""
        authority = Authority()
        cert, key = authority.issue("localhost").write(self.folder(), "server")
        self.context = client_context(authority, self.version)
        return tcp_listener(tls=TLSSettings(cert=str(cert), key=str(key)))

    def connect(self) -> SocketLike:
        """Connect, and begin the handshake."""
        return TLSSocket(self.tcp(), Client(self.context))


class TLS12Tests(TLSTests):
    """TLS 1.2 on a TCP port: a client's close_notify ends only its own direction, as in 1.3."""

    version = ssl.TLSVersion.TLSv1_2


class ProxyTests(OurListener, SynchronousTestCase):
    """A TCP port behind a proxy that names its clients, in words."""

    proxies = (ip_network("127.0.0.0/8"),)
    header = b"PROXY TCP4 192.0.2.1 198.51.100.1 49152 7\r\n"

    def settings(self) -> ListenerSettings:
        """For a proxy on this machine."""
        return tcp_listener(proxy=self.proxies)

    def tcp(self) -> socket.socket:
        """Connect as the proxy does."""
        sock = super().tcp()
        sock.sendall(self.header)
        return sock


class Proxy2Tests(ProxyTests):
    """The same in binary: version 2, PROXY, TCP over IPv4, 12 bytes."""

    header = (
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"
        + socket.inet_aton("192.0.2.1")
        + socket.inet_aton("198.51.100.1")
        + bytes.fromhex("c000 0007")
    )


class ProxyTLSTests(TLSTests):
    """TLS on a TCP port behind a proxy that does not look into it."""

    def settings(self) -> ListenerSettings:
        """Both."""
        return attrs.evolve(super().settings(), proxy=ProxyTests.proxies)

    def tcp(self) -> socket.socket:
        """Connect as the proxy does."""
        sock = super().tcp()
        sock.sendall(Proxy2Tests.header)
        return sock


class AdoptedTests(OurListener, InheritedCase):
    """A socket that a service manager has opened."""

    def settings(self) -> ListenerSettings:
        """The first of them."""
        with socket.create_server(("127.0.0.1", 0), backlog=128) as sock:
            self.hand_over(sock)
        self.announce(1)
        return inherited_listener(index=0)
