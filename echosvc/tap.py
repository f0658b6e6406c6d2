"""twistd's options, and from options to a service. Whatever is wrong ends here, in one line.

Nothing in this module imports the reactor before a service is made, so that ``twistd --reactor`` works.
"""

from __future__ import annotations

import contextlib
import difflib
import platform
import re
import sys
import time
from typing import Any, ClassVar, Literal, NoReturn

from twisted.application.service import IService
from twisted.copyright import version as twisted_version
from twisted.python import usage

from echosvc import __version__
from echosvc.admission import GateSettings, read_networks
from echosvc.errors import EchosvcError, InvalidListener, InvalidOption, UserError
from echosvc.listeners import Endpoint, Internet, ListenerSettings, parse_endpoint
from echosvc.listeners.grammar import check_interface
from echosvc.service import open_service
from echosvc.settings import Settings, read_config
from echosvc.settings.options import (
    DOOR_OPTIONS,
    GATE_OPTIONS,
    SCREEN_OPTIONS,
    door_settings,
    gate_settings,
    screen_settings,
)
from echosvc.settings.values import number, port, seconds

__all__ = ["DEFAULT_PORT", "Options", "makeService"]

#: Port 7 (RFC 862) needs privileges; 8007 is as near as an ordinary user comes.
DEFAULT_PORT = "8007"

_HELP = """\
Serves echo (RFC 862) over TCP and UDP: every byte and every datagram goes back where it came from.
Without options: port {port}, on every address, IPv4 and IPv6.

Examples:
  twistd -n echosvc --port 8080             stay in the foreground, log to the terminal
  twistd -n echosvc -p 0                    one free number for TCP and UDP; the log says which
  twistd -n echosvc -i 127.0.0.1 -i ::1     this machine only
  twistd -n echosvc --udp-port off          TCP only
  twistd -n echosvc --listen echo=tcp:8080 --listen daytime=tcp:1300 --listen echo=unix:/run/echo.sock
  twistd -n echosvc --listen echo=tls:8443:cert=full.pem:key=key.pem --config echosvc.toml
  twistd --pidfile=/run/echosvc.pid --logfile=/var/log/echosvc.log --uid=nobody echosvc -p 7
                                            daemon on RFC 862's own port, without root's rights

Then:
  printf hello | nc -N localhost {port}       echosvc talk localhost {port}       echosvc ping localhost {port}

`echosvc protocols` lists what can be spoken; `echosvc config check FILE` finds mistakes.

Endpoints: tcp:PORT, udp:PORT, unix:PATH, unixgram:PATH, tls:PORT:cert=FILE:key=FILE, systemd:name=NAME,
haproxy:ENDPOINT, and what Twisted knows. An IPv6 address goes in brackets: tcp:8080:interface=[::1]

Exit codes: 0 stopped by SIGTERM, 64 usage, 69 port in use, 71 no such address or other system error,
77 not permitted, 78 the configuration file is wrong."""


class Options(usage.Options):
    """What `twistd echosvc` can be told.

    Attributes:
        settings: What the options say, once they are parsed.
    """

    synopsis = "[options]"

    optParameters: ClassVar[list[list[object]]] = [
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
            "max-connections",
            None,
            None,
            "Connections at once, of all listeners together. Default: 65536, or what descriptors allow.",
        ],
        [
            "max-per-source",
            None,
            None,
            "Of them, from one IPv4 address or IPv6 /64. Default: three quarters.",
        ],
        ["accept-rate", None, None, "Connections that may come in a second. Default: any number."],
        ["accept-rate-per-source", None, None, "Of them, from one source. Default: three quarters."],
        [
            "datagram-rate",
            None,
            None,
            "UDP: datagrams let in in a second from one source, or off. Default: 10000.",
        ],
        ["datagram-burst", None, None, "UDP: of them, at once. Default: a second's worth."],
        [
            "datagram-rate-total",
            None,
            None,
            "UDP: datagrams let in in a second from all sources, or off. Default: 200000.",
        ],
        [
            "low-ports",
            None,
            None,
            "UDP: source ports below 1024 that may ask all the same, for example 862,2049.",
        ],
        ["config", "c", None, "TOML file that says what to listen on; `echosvc config show` writes one."],
    ]

    settings: Settings

    def __init__(self) -> None:
        super().__init__()
        self._interfaces: list[str] = []
        self._listens: list[str] = []
        self._networks: dict[str, list[str]] = {}

    def opt_interface(self, address: str) -> None:
        """Address to listen on, repeatable; default: every address. 0.0.0.0 is IPv4 alone, :: IPv6 alone."""
        if address in self._interfaces:
            raise InvalidOption("--interface", address, "given twice")
        self._interfaces.append(_interface(address))

    opt_i = opt_interface

    def opt_listen(self, listener: str) -> None:
        """NAME=ENDPOINT, repeatable: speak the protocol NAME there; NAME=package.module:object@ENDPOINT imports it."""
        self._listens.append(listener)

    opt_l = opt_listen

    def opt_allow(self, network: str) -> None:
        """Network or @FILE of networks that may connect, repeatable; then nobody else may."""
        self._add_network("allow", network)

    def opt_deny(self, network: str) -> None:
        """Network or @FILE of networks that may not connect, repeatable; the longest network decides."""
        self._add_network("deny", network)

    def _add_network(self, name: str, entry: str) -> None:
        try:
            read_networks([entry])
        except ValueError as problem:
            raise UserError(f"--{name}: {problem}") from None
        self._networks.setdefault(name, []).append(entry)

    def opt_version(self) -> NoReturn:
        """Print the version and exit."""
        print(  # noqa: T201  # asked for
            f"echosvc {__version__} (Twisted {twisted_version}, Python {platform.python_version()})"
        )
        sys.exit(0)

    def parseArgs(self, *args: str) -> None:
        """Refuse what is not an option."""
        if args:
            raise UserError(
                f"{args[0]}: not an option"
                + (f"; did you mean --port {args[0]}?" if args[0].isdigit() else "")
            )

    def parseOptions(self, options: list[str] | None = None) -> None:
        """Parse, and exit with one line on standard error if anything is wrong.

        Twisted's own way with a usage error is the whole help page on standard output.

        Raises:
            SystemExit: With `ExitCode.USAGE`.
        """
        try:
            super().parseOptions(options)
        except usage.UsageError as problem:
            _exit(UserError(self._better(str(problem))))
        except UserError as problem:
            _exit(problem)

    def postOptions(self) -> None:
        """Check every value and make the settings.

        Raises:
            UserError: A value makes no sense.
        """
        backlog = number("--backlog", self["backlog"], 1, 65535)
        receive_buffer = number("--rcvbuf", self["rcvbuf"], 2048, 2**30)
        stall_timeout = seconds("--stall-timeout", self["stall-timeout"])
        limits = {
            "backlog": backlog,
            "receive_buffer": receive_buffer,
            "stall_timeout": stall_timeout,
            "door": door_settings(self._networks, self._given(*DOOR_OPTIONS)),
            "screen": screen_settings(self._given(*SCREEN_OPTIONS)),
        }
        listeners = [self._listener(each, limits) for each in self._listens]
        gate = gate_settings(self._given(*GATE_OPTIONS), GateSettings())
        if self["config"] is not None:
            said = read_config(self["config"])
            gate = gate_settings(self._given(*GATE_OPTIONS), said.gate)
            listeners += said.listeners
        echo = self._echo(limits, needed=not listeners)
        unused = (
            [] if echo or self._listens else [*self._networks, *self._given(*DOOR_OPTIONS, *SCREEN_OPTIONS)]
        )
        if unused:
            raise UserError(
                f"--{unused[0]} is for --port and --listen; a file says it in [[listener]] or [defaults]"
            )
        self.settings = Settings(listeners=(*echo, *listeners), gate=gate)

    def _given(self, *names: str) -> dict[str, str]:
        return {name: self[name] for name in names if self[name] is not None}

    def _echo(self, limits: dict[str, Any], *, needed: bool) -> list[ListenerSettings]:
        """What --port and its like say: nothing, if none of them is given and something else is."""
        ports = self._ports(DEFAULT_PORT if needed else "off")
        if not ports and needed:
            raise UserError("--tcp-port off --udp-port off: nothing to serve; leave one of them out")
        if not ports and self._interfaces:
            raise UserError(
                "--interface is for --port; an endpoint has its own: tcp:8080:interface=127.0.0.1"
            )
        return [
            ListenerSettings(
                protocol="echo",
                place=Internet(transport, port, interface),
                origin=origin,
                interface_origin=f"--interface {interface or '*'}",
                **limits,
            )
            for interface in self._interfaces or [""]
            for transport, (origin, port) in ports.items()
        ]

    def _listener(self, text: str, limits: dict[str, Any]) -> ListenerSettings:
        """Understand one --listen."""
        origin = f"--listen {text}"
        name, equals, rest = text.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
            raise InvalidOption("--listen", text, "must be NAME=ENDPOINT, for example echo=tcp:8080")
        found = (
            None if rest.startswith(("unix:", "unixgram:")) else re.fullmatch(r"([\w.]+:[\w.]+)@(.+)", rest)
        )
        protocol, description = found.groups() if found else (name, rest)
        try:
            endpoint = parse_endpoint(description)
        except ValueError as problem:
            raise InvalidListener(origin, str(problem)) from None
        return ListenerSettings(
            protocol=protocol,
            name=name,
            origin=origin,
            **_said_by(endpoint),
            **{**limits, **_backlog(endpoint)},
        )

    def _ports(self, default: str) -> dict[Literal["tcp", "udp"], tuple[str, int]]:
        ports: dict[Literal["tcp", "udp"], tuple[str, int]] = {}
        both = default
        if self["port"] is not None:
            both = self["port"]
            port("--port", both)
        for transport in ("tcp", "udp"):
            option, value = f"--{transport}-port", self[f"{transport}-port"]
            if value is None:
                option, value = "--port", both
            if value != "off":
                ports[transport] = (f"{option} {value}", port(option, value, off=option != "--port"))
        return ports

    def getUsage(self, width: int | None = None) -> str:
        """Write the help page."""
        return f"{_HELP.format(port=DEFAULT_PORT)}\n\n{super().getUsage(width)}"

    def _better(self, problem: str) -> str:
        """Name the option first and offer the way out, where getopt only says what is wrong."""
        if (found := re.fullmatch(r"option (--?\S+) (.*)", problem)) is None:
            return problem
        option, what = found.groups()
        if what == "not recognized":
            known = [f"--{name.rstrip('=')}" for name in self.longOpt]
            near = difflib.get_close_matches(option, known, 1)
            hint = f"did you mean {near[0]}?" if near else "`twistd echosvc --help` lists them"
            return f"{option}: no such option; {hint}"
        return f"{option}: {what}; `twistd echosvc --help` explains it"


def makeService(options: Options) -> IService:
    """Bind everything and make the service; twistd calls this before it forks and drops privileges.

    Args:
        options: Parsed.

    Returns:
        The service, for twistd to start.

    Raises:
        SystemExit: Something could not be bound; one line on standard error has said what.
    """
    from twisted.internet import reactor as installed  # noqa: PLC0415  # not before --reactor was obeyed

    reactor: Any = installed
    reactor.seconds = time.monotonic  # timers must not follow a clock that somebody sets
    try:
        return open_service(options.settings, reactor)
    except EchosvcError as problem:
        _exit(problem)


def _exit(problem: EchosvcError) -> NoReturn:
    """End with one line on standard error and the error's own exit code."""
    with contextlib.suppress(AttributeError, OSError):  # standard error is closed, or its disk is full
        sys.stderr.write(f"echosvc: {problem}\n")
    raise SystemExit(problem.exit_code)


def _interface(value: str) -> str:
    try:
        return check_interface(value)
    except ValueError as problem:
        raise InvalidOption("--interface", value, str(problem)) from None


def _said_by(endpoint: Endpoint) -> dict[str, Any]:
    return {"place": endpoint.place, "tls": endpoint.tls, "proxy": endpoint.proxy}


def _backlog(endpoint: Endpoint) -> dict[str, Any]:
    return {} if endpoint.backlog is None else {"backlog": endpoint.backlog}
