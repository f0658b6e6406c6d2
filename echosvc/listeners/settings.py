"""What describes a listener, wherever the description came from."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Any, Literal, TypeAlias

import attrs

from echosvc.admission import DoorSettings, ScreenSettings

__all__ = [
    "ANSWER_RATE",
    "BACKLOG",
    "RECEIVE_BUFFER",
    "STALL_TIMEOUT",
    "Foreign",
    "Inherited",
    "Internet",
    "Limits",
    "ListenerSettings",
    "Network",
    "Place",
    "TLSSettings",
    "TLSVersion",
    "UnixSocket",
]

Network: TypeAlias = IPv4Network | IPv6Network

#: Versions of TLS that can be the least one.
TLSVersion: TypeAlias = Literal["1.2", "1.3"]


@attrs.frozen
class Limits:
    """What one of a listener's numbers is, if nobody says otherwise, and what it can be.

    Attributes:
        default: What it is.
        low: The least that it can be.
        high: The most.
    """

    default: int
    low: int
    high: int


BACKLOG = Limits(1024, 1, 65535)
RECEIVE_BUFFER = Limits(4 * 1024 * 1024, 2048, 2**30)
ANSWER_RATE = Limits(100, 1, 1_000_000)
STALL_TIMEOUT = 300.0


@attrs.frozen
class Internet:
    """A TCP or UDP port.

    Attributes:
        transport: ``tcp`` or ``udp``.
        port: 1 to 65535, or 0 for a free number, which listeners in a row share as far as they can.
        interface: An IPv4 or IPv6 literal (``fe80::1%eth0`` for link-local), or ``""`` for every address.
    """

    transport: Literal["tcp", "udp"]
    port: int
    interface: str = ""


@attrs.frozen
class UnixSocket:
    """A UNIX socket: a file, or a name in Linux' abstract namespace.

    Attributes:
        transport: ``unix`` (stream) or ``unixgram`` (datagrams).
        path: Where; ``@name`` is abstract.
        mode: Who may connect, as permission bits. Whoever may write may connect.
        lockfile: Hold ``PATH.lock`` locked, so that two services that start in the same moment cannot both
            take the path.
    """

    transport: Literal["unix", "unixgram"]
    path: str
    mode: int = 0o660
    lockfile: bool = False


@attrs.frozen
class Inherited:
    """A socket that a service manager has opened and passes on (sd_listen_fds(3)).

    Attributes:
        name: Its name (``FileDescriptorName=``), or
        index: its number, from 0.
    """

    name: str | None = None
    index: int | None = None


@attrs.frozen
class Foreign:
    """Any other stream endpoint that Twisted or a plugin of it knows.

    Attributes:
        description: The endpoint string, as `twisted.internet.endpoints.serverFromString` reads it.
    """

    description: str


Place: TypeAlias = Internet | UnixSocket | Inherited | Foreign


@attrs.frozen(kw_only=True)
class TLSSettings:
    """How TLS is spoken on a stream listener.

    Attributes:
        cert: File with the certificate, followed by those of its issuers (PEM), for whoever names no host or
            an unknown one.
        key: File with its private key (PEM).
        cert_dir: Folder with a certificate and key for each of several hosts, from which a client's server name
            (SNI) chooses: ``*.pem`` with both in one file, or folders with ``fullchain.pem`` and ``privkey.pem``.
        client_ca: File with the certificates (PEM) one of which must have issued the client's own. None: a client
            needs none.
        alpn: Application protocols (RFC 7301) of which a client that offers any must offer one. Empty: the wire
            protocol's name is offered, and who offers others is served all the same.
        min_version: The least version of TLS that is spoken.
        ciphers: Ciphers of TLS 1.2 as ``openssl ciphers`` reads them. None: those with forward secrecy and authenticated
            encryption.
    """

    cert: str | None = None
    key: str | None = None
    cert_dir: str | None = None
    client_ca: str | None = None
    alpn: tuple[str, ...] = ()
    min_version: TLSVersion = "1.2"
    ciphers: str | None = None


@attrs.frozen(kw_only=True)
class ListenerSettings:
    """One address to listen on, and what to speak there.

    Attributes:
        protocol: Name of a wire protocol, for example ``echo``, or ``package.module:object``.
        place: Where to listen.
        name: How logs name the listener; by default as the protocol is named.
        origin: Who asked for it, as errors name it, for example ``--port 8080``.
        interface_origin: Who asked for its address, if that is somebody else, for example ``--interface ::1``.
        tls: Speak TLS; None for plain bytes.
        proxy: Expect a PROXY header, from these networks only (and from a proxy on a UNIX socket); None: expect none.
        options: What the protocol's own settings are: an instance of its `WireProtocol.options`. None: its defaults.
        backlog: Streams: connections that may wait to be accepted. Twisted's own default of 50 refuses clients
            in a burst; the kernel caps it at net.core.somaxconn.
        receive_buffer: Datagrams: bytes of them that may wait in the kernel. A small datagram costs the
            kernel 768 bytes or more, so that the usual default of 208 KiB holds some 270 of them, and
            4 MiB some 5000.
        stall_timeout: Streams: seconds after which a connection is aborted whose peer takes nothing of what waits
            for it.
        answer_rate: Datagrams: how many are let in in a second, for a protocol whose answers may be longer than what
            they answer. Others are not limited.
        door: Streams: who may connect, and how long connections may stay.
        screen: UDP: which datagrams are let in, besides what `door` says of networks.
        log_connections: Streams: of so many connections that end one has a line in the log; 0 for none. None: as for all
            listeners.
    """

    protocol: str
    place: Place
    name: str = attrs.field(default=attrs.Factory(lambda self: self.protocol, takes_self=True))
    origin: str = "listener"
    interface_origin: str | None = None
    tls: TLSSettings | None = None
    proxy: tuple[Network, ...] | None = None
    options: Any = None
    backlog: int = BACKLOG.default
    receive_buffer: int = RECEIVE_BUFFER.default
    stall_timeout: float = STALL_TIMEOUT
    answer_rate: float = float(ANSWER_RATE.default)
    door: DoorSettings = attrs.field(factory=DoorSettings)
    screen: ScreenSettings = attrs.field(factory=ScreenSettings)
    log_connections: int | None = None
