"""The options of ``twistd echosvc`` that have a value and may be given once, as Twisted's parser wants them."""

from __future__ import annotations

__all__ = ["DEFAULT_PORT", "PARAMETERS"]

#: Port 7 (RFC 862) needs privileges; 8007 is as near as an ordinary user comes.
DEFAULT_PORT = "8007"

#: Long name, short name, default, help.
PARAMETERS: list[list[object]] = [
    [
        "port",
        "p",
        None,
        f"Port of echo, TCP and UDP; 0 takes one free number for both. Default: {DEFAULT_PORT}.",
    ],
    ["tcp-port", None, None, "Another port for TCP; 'off' leaves TCP out."],
    ["udp-port", None, None, "Another port for UDP; 'off' leaves UDP out."],
    ["backlog", None, "1024", "TCP connections that may wait to be accepted."],
    ["rcvbuf", None, str(4 * 1024 * 1024), "Bytes of datagrams that may wait to be read."],
    [
        "stall-timeout",
        None,
        "300",
        "Seconds after which a connection is aborted whose peer takes nothing of what waits for it.",
    ],
    [
        "idle-timeout",
        None,
        None,
        "Seconds without a byte after which a connection is ended, or off. Default: 3600.",
    ],
    [
        "lifetime",
        None,
        None,
        "Seconds after which a connection is ended in any case, or off. Default: off.",
    ],
    [
        "grace",
        None,
        None,
        "Seconds that connections have to finish when it is stopped. Default: 10.",
    ],
    [
        "workers",
        None,
        None,
        "Processes that serve, 1 to 256; 'auto' for one on each processor. Default: none but this one.",
    ],
    [
        "max-connections",
        None,
        None,
        "Connections at once, of all listeners together. Default: 65536, or what descriptors allow.",
    ],
    [
        "max-per-source",
        None,
        None,
        "Of them, from one IPv4 address, IPv6 /64 or local user. Default: three quarters.",
    ],
    ["accept-rate", None, None, "Connections that may come in a second. Default: any number."],
    ["accept-rate-per-source", None, None, "Of them, from one source. Default: three quarters."],
    [
        "user-limits",
        None,
        None,
        "UNIX sockets: on, each user of this machine is one source; off, for a local proxy. Default: on.",
    ],
    [
        "datagram-rate",
        None,
        None,
        "Datagrams let in in a second from one source, or off. Default: 10000.",
    ],
    ["datagram-burst", None, None, "Of them, at once. Default: a second's worth."],
    [
        "datagram-rate-total",
        None,
        None,
        "Datagrams let in in a second from all sources, or off. Default: 200000.",
    ],
    [
        "low-ports",
        None,
        None,
        "UDP: source ports below 1024 that may ask all the same, for example 862,2049.",
    ],
    ["admin", None, None, "Serve metrics and health over HTTP: tcp:PORT (on 127.0.0.1) or unix:PATH."],
    ["log-format", None, None, "text or json: one object on a line for each event. Default: text."],
    [
        "log-connections",
        None,
        None,
        "A line for each connection that ends: off, on, or 1/N for one in N. Default: off.",
    ],
    ["config", "c", None, "TOML file that says what to listen on; `echosvc config show` writes one."],
]
