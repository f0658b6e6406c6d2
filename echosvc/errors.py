"""Every error a user can meet, and the exit code that each one ends with.

The tree has three branches, so that a caller can tell who has to act:

- `UserError`: what was asked for cannot be done; ask for something else.
- `PeerError`: the other end, or the network between, did something else than echo.
- `LocalError`: this machine refused what was asked for correctly.

Every error is one line of text that says what happened and, where there is one, the way out. This
module knows nothing of the rest of echosvc.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, unique
from typing import ClassVar

__all__ = [
    "AddressNotAvailable",
    "AlreadyRunning",
    "CannotStart",
    "ConnectionEnded",
    "ConnectionFailed",
    "EchoLost",
    "EchoMismatch",
    "EchosvcError",
    "ExitCode",
    "Interrupted",
    "InvalidConfig",
    "InvalidListener",
    "InvalidOption",
    "InvalidTLS",
    "InvalidTarget",
    "ListenError",
    "ListenNotPermitted",
    "LocalError",
    "NameNotFound",
    "NoReply",
    "OutputError",
    "PayloadTooLarge",
    "PeerError",
    "PortInUse",
    "Refused",
    "StartNotPermitted",
    "UserError",
]


@unique
class ExitCode(IntEnum):
    """How `echosvc` and `twistd echosvc` end. From 64 on the numbers are those of sysexits.h."""

    OK = 0
    """Every byte came back the same; the daemon was stopped by SIGTERM."""
    NO_REPLY = 1
    """Something that was sent did not come back: lost, late, or the connection ended first."""
    USAGE = 64
    """An option, an argument or a target makes no sense (EX_USAGE)."""
    NAME_NOT_FOUND = 68
    """The host name has no address (EX_NOHOST)."""
    UNAVAILABLE = 69
    """Client: the connection or port was refused. Daemon: the port is in use (EX_UNAVAILABLE)."""
    SOFTWARE = 70
    """No worker comes to serve, whatever the reason; the log has it (EX_SOFTWARE)."""
    SYSTEM = 71
    """The system refused: no such local address, out of descriptors (EX_OSERR)."""
    OUTPUT = 74
    """Standard output or standard input failed (EX_IOERR)."""
    WRONG_BYTES = 76
    """What came back is not what was sent (EX_PROTOCOL)."""
    PERMISSION = 77
    """Not allowed: a port below 1024 without the right to it (EX_NOPERM)."""
    CONFIG = 78
    """The configuration file cannot be used (EX_CONFIG)."""
    INTERRUPTED = 130
    """Ctrl-C ended it, as a shell reports SIGINT."""


class EchosvcError(Exception):
    """The root of all errors of echosvc. `str()` is one line for a person.

    Args:
        text: That line. What cannot be printed in it, because a file or a command line had it, is escaped.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.SYSTEM

    def __init__(self, text: str = "") -> None:
        super().__init__(_one_line(text))


class UserError(EchosvcError):
    """What was asked for makes no sense; nothing was done."""

    exit_code = ExitCode.USAGE


class InvalidOption(UserError):
    """An option has a value that cannot be used.

    Args:
        option: The option as typed, for example ``--port``.
        value: The value as typed.
        remedy: What would have been right.
    """

    def __init__(self, option: str, value: str, remedy: str) -> None:
        super().__init__(f"{option} {value}: {remedy}")
        self.option = option
        self.value = value
        self.remedy = remedy


class InvalidTarget(UserError):
    """A client's target string cannot be understood.

    Args:
        target: The target as given.
        remedy: What would have been right.
    """

    def __init__(self, target: str, remedy: str) -> None:
        super().__init__(f"target {target!r}: {remedy}")
        self.target = target
        self.remedy = remedy


class InvalidListener(UserError):
    """What describes a listener cannot be used.

    Args:
        origin: Who described it, for example ``--listen ecko=tcp:8080`` or ``echosvc.toml:3``.
        problem: What is wrong, and what would be right.
        setting: Which attribute of the listener's settings is wrong, for example ``tls.client_ca``; empty: several.
    """

    def __init__(self, origin: str, problem: str, setting: str = "") -> None:
        super().__init__(f"{origin}: {problem}")
        self.origin = origin
        self.problem = problem
        self.setting = setting


class InvalidTLS(UserError, ValueError):
    """TLS cannot be spoken with the files that are named, or without packages that are not installed.

    Args:
        mistakes: All that is wrong: each with the attribute of the TLS settings that it is about (empty: several).
    """

    def __init__(self, mistakes: Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(problem for _, problem in mistakes))
        self.mistakes = tuple(mistakes)


class InvalidConfig(UserError):
    """A configuration file cannot be used.

    Args:
        mistakes: Each in one line, with file and line.
    """

    exit_code = ExitCode.CONFIG

    def __init__(self, mistakes: Sequence[str]) -> None:
        more = (
            f" (and {len(mistakes) - 1} more; `echosvc config check` tells all)" if len(mistakes) > 1 else ""
        )
        super().__init__(f"{mistakes[0]}{more}")
        self.mistakes = tuple(map(_one_line, mistakes))


class PayloadTooLarge(UserError, ValueError):
    """A payload does not fit into one datagram.

    Args:
        size: Its size in bytes.
        limit: The largest that fits, in bytes.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"a payload of {size} bytes does not fit into a datagram: the limit is {limit}")
        self.size = size
        self.limit = limit


class PeerError(EchosvcError):
    """The other end, or the network between, did not do what RFC 862 asks."""

    exit_code = ExitCode.NO_REPLY


class EchoMismatch(PeerError):
    """The bytes that came back are not the bytes that were sent.

    Args:
        offset: Where the first wrong byte stands, in bytes from the start of what this client has sent
            on the connection (stream) or from the start of the payload (datagram).
        expected: What should have stood there (at most the rest of the message; may be shortened).
        received: What came instead (may be shortened).
    """

    exit_code = ExitCode.WRONG_BYTES

    #: How many bytes of each side the error keeps: enough to see, never a megabyte in a log.
    KEPT = 64

    def __init__(self, offset: int, expected: bytes, received: bytes) -> None:
        self.offset = offset
        self.expected = expected[: self.KEPT]
        self.received = received[: self.KEPT]
        super().__init__(
            f"wrong bytes came back at offset {offset}: "
            f"expected {_excerpt(self.expected)}, received {_excerpt(self.received)}"
        )


class EchoLost(PeerError):
    """The connection ended before everything came back.

    Args:
        missing: How many bytes that were handed to the connection never came back.
        why: What ended it, in words.
    """

    def __init__(self, missing: int, why: str) -> None:
        super().__init__(f"{missing} {'byte' if missing == 1 else 'bytes'} never came back: {why}")
        self.missing = missing
        self.why = why


class ConnectionEnded(PeerError):
    """The connection ended before the user was done with it, although everything sent had come back.

    Args:
        why: What ended it, in words.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class NoReply(PeerError):
    """Nothing came back in time.

    Args:
        peer: Who was asked, as ``host:port``.
        timeout: How long was waited, in seconds.
    """

    def __init__(self, peer: str, timeout: float) -> None:
        super().__init__(f"no reply from {peer} within {timeout:g} s")
        self.peer = peer
        self.timeout = timeout


class Refused(PeerError):
    """The peer's system says that nobody listens there.

    Args:
        peer: Who was asked, as ``host:port``.
    """

    exit_code = ExitCode.UNAVAILABLE

    def __init__(self, peer: str) -> None:
        super().__init__(f"{peer} refused: nobody listens there")
        self.peer = peer


class ConnectionFailed(PeerError):
    """The connection could not be made, for another reason than a refusal.

    Args:
        peer: Who was asked, as ``host:port``.
        why: What the system says.
    """

    exit_code = ExitCode.UNAVAILABLE

    def __init__(self, peer: str, why: str) -> None:
        super().__init__(f"cannot reach {peer}: {why}")
        self.peer = peer
        self.why = why


class LocalError(EchosvcError):
    """This machine refused something that was asked for correctly."""


class Interrupted(LocalError):
    """Ctrl-C ended it before it was done."""

    exit_code = ExitCode.INTERRUPTED

    def __init__(self) -> None:
        super().__init__("interrupted")


class NameNotFound(LocalError):
    """A host name has no address.

    Args:
        name: The name.
    """

    exit_code = ExitCode.NAME_NOT_FOUND

    def __init__(self, name: str) -> None:
        super().__init__(f"{name}: no address found for this name")
        self.name = name


class OutputError(LocalError):
    """Standard input or output failed.

    Args:
        why: What the system says.
    """

    exit_code = ExitCode.OUTPUT

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class ListenError(LocalError):
    """A listener could not be opened; no listener of the service is open afterwards.

    Args:
        option: The option that asked for it, as typed, for example ``--port 8080``.
        where: The address, for example ``TCP 127.0.0.1:8080``.
        problem: What the system says, and the way out.
    """

    def __init__(self, option: str, where: str, problem: str) -> None:
        super().__init__(f"{option}: {where}: {problem}")
        self.option = option
        self.where = where
        self.problem = problem


class PortInUse(ListenError):
    """Another socket already has the port."""

    exit_code = ExitCode.UNAVAILABLE


class ListenNotPermitted(ListenError):
    """The port, or what is spoken there, needs a privilege that this process does not have."""

    exit_code = ExitCode.PERMISSION


class AddressNotAvailable(ListenError):
    """The address is not one of this machine's."""


class CannotStart(LocalError):
    """The service cannot be started, although everything it listens on could be opened.

    Args:
        what: What was to be done: an option as typed, for example ``--pidfile /run/echosvc.pid``.
        problem: What the system says, and the way out.
    """

    def __init__(self, what: str, problem: str) -> None:
        super().__init__(f"{what}: {problem}")
        self.what = what
        self.problem = problem


class AlreadyRunning(CannotStart):
    """The pidfile names a process that runs."""

    exit_code = ExitCode.UNAVAILABLE


class StartNotPermitted(CannotStart):
    """It needs a right that this process does not have."""

    exit_code = ExitCode.PERMISSION


def _excerpt(data: bytes) -> str:
    """Show bytes so that they are safe in a terminal and a log: ASCII, everything else escaped."""
    if not data:
        return "nothing"
    shown = repr(data[:16])
    return shown if len(data) <= 16 else f"{shown}…"


def _one_line(text: str) -> str:
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
