"""twistd's options, and from options to a service. Whatever is wrong ends here, in one line.

Nothing in this module imports the reactor before a service is made, so that ``twistd --reactor`` works.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import platform
import re
import sys
import time
from typing import Any, ClassVar, Literal, NoReturn

import attrs
from twisted.application.service import IService
from twisted.copyright import version as twisted_version
from twisted.python import usage

from echosvc import __version__
from echosvc.admission import read_networks
from echosvc.errors import EchosvcError, InvalidListener, InvalidOption, UserError
from echosvc.listeners import Endpoint, Internet, ListenerSettings, parse_endpoint
from echosvc.listeners.grammar import check_interface
from echosvc.service import open_service
from echosvc.service.launching import guard
from echosvc.service.notify import Notifier
from echosvc.service.preflight import check_twistd
from echosvc.settings import Settings, read_config
from echosvc.settings.admin import admin_option
from echosvc.settings.options import (
    DOOR_OPTIONS,
    GATE_OPTIONS,
    SCREEN_OPTIONS,
    SERVICE_OPTIONS,
    door_settings,
    gate_settings,
    screen_settings,
    service_settings,
)
from echosvc.settings.parameters import DEFAULT_PORT, PARAMETERS
from echosvc.settings.values import number, port, seconds, word
from echosvc.workers.service import open_workers

__all__ = ["DEFAULT_PORT", "Options", "makeService"]

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

Exit codes: 0 stopped by SIGTERM, 64 usage, 69 port in use, 70 no worker serves, 71 no such address or other system error,
77 not permitted, 78 the configuration file is wrong."""


class Options(usage.Options):
    """What `twistd echosvc` can be told.

    Attributes:
        settings: What the options say, once they are parsed.
    """

    synopsis = "[options]"

    optParameters: ClassVar[list[list[object]]] = PARAMETERS

    settings: Settings
    #: Certificates, keys and so on are read now, so that what is wrong with them is said now.
    reads_files = True

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
            self.understand(options)
            if self.parent is not None:
                check_twistd(self.parent)
        except EchosvcError as problem:
            _exit(problem)

    def understand(self, options: list[str] | None) -> None:
        """Parse.

        Raises:
            UserError: Something is wrong.
        """
        self._given_options = None if options is None else list(options)
        try:
            super().parseOptions(options)
        except usage.UsageError as problem:
            raise UserError(self._better(str(problem))) from None

    def again(self) -> Settings:
        """Understand the same options once more: the files that they name may say something else by now.

        Raises:
            UserError: Something is wrong now.
        """
        fresh = Options()
        fresh.understand(self._given_options)
        return fresh.settings

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
        said = Settings(listeners=())
        gate = gate_settings(self._given(*GATE_OPTIONS), said.gate)
        service = service_settings(self._given(*SERVICE_OPTIONS))
        if self["config"] is not None:
            said = read_config(self["config"], files=self.reads_files)
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
        admin = admin_option(self["admin"], said.admin)
        self.settings = attrs.evolve(said, listeners=(*echo, *listeners), gate=gate, admin=admin, **service)

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
            None
            if rest.lower().startswith(("unix:", "unixgram:"))
            else re.fullmatch(r"([\w.]+:[\w.]+)@(.+)", rest)
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
            if word(value, "off") != "off":
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
        opener = open_workers if options.settings.workers else open_service
        service = opener(
            options.settings,
            reactor,
            reread=options.again if options["config"] is not None else None,
            notifier=Notifier(reactor, os.environ),
        )
    except EchosvcError as problem:
        _exit(problem)
    if options.parent is not None:
        guard(service, options.parent)
    return service


def _exit(problem: EchosvcError) -> NoReturn:
    """End with one line on standard error and the error's own exit code."""
    with contextlib.suppress(AttributeError, OSError):  # standard error is closed, or its disk is full
        sys.stderr.write(f"echosvc: {problem}\n")
    raise SystemExit(problem.exit_code)


def _interface(value: str) -> str:
    if not value:
        raise InvalidOption("--interface", value, "is empty: give an address, or leave it out for every one")
    try:
        return check_interface(value)
    except ValueError as problem:
        raise InvalidOption("--interface", value, str(problem)) from None


def _said_by(endpoint: Endpoint) -> dict[str, Any]:
    return {"place": endpoint.place, "tls": endpoint.tls, "proxy": endpoint.proxy}


def _backlog(endpoint: Endpoint) -> dict[str, Any]:
    return {} if endpoint.backlog is None else {"backlog": endpoint.backlog}
