"""Protocols by somebody who logs whatever peers send, in every way there is, and raises it.

The service under test loads it from its working directory (``--listen stream=talkative:Stream@tcp:0``). As a program
it is the control, stock Twisted with the same protocols::

    talkative.py PORT-OF-ECHO PORT-OF-STREAM-AND-DATAGRAM PORT-OF-MANY

which logs to standard output, as twistd does.
"""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Any

from twisted.internet import defer
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.logger import Logger
from twisted.python import log

__all__ = ["PRINTING_WAYS", "SOCKET", "WAYS", "Datagram", "Many", "Stream"]

_log = Logger()

#: What each way to log is called in what it logs. The name of the peer is what a connection is called by.
WAYS = (
    "peer-name",
    "old-message",
    "old-system",
    "old-reason",
    "old-failure",
    "new-field",
    "new-format",
    "new-object",
    "new-failure",
    "new-system",
    "warned",
    "deferred",
    "datagram-raised",
    "connection-raised",
)

#: Likewise, where each line is an entry: a new line among the hostile bytes makes two of it.
PRINTING_WAYS = ("printed", "printed-error", "standard-logging")

#: A socket file whose name the service logs when it starts.
SOCKET = "socket-file\x1b\u202e"


class _Holder:
    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text


class _Talker(Protocol):
    peer = ""

    def logPrefix(self) -> str:
        return f"peer-name {self.peer}"

    def dataReceived(self, data: bytes) -> None:
        text = data.decode("utf-8", "surrogateescape")
        log.msg(f"old-message {text}")
        log.msg("old-system", system=text)
        log.err(ValueError("-"), f"old-reason {text}")
        log.err(ValueError(f"old-failure {text}"))
        _log.info("{what}", what=f"new-field {text}")
        _log.info(f"new-format {text}".replace("{", "{{"))
        _log.info("{what}", what=_Holder(f"new-object {text}"))
        _log.info("new-system", log_system=text)
        try:
            raise KeyError(f"new-failure {text}")  # noqa: TRY301  # for a traceback
        except KeyError:
            _log.failure("it failed")
        print("printed", text)  # noqa: T201
        print("printed-error", text, file=sys.stderr)  # noqa: T201
        warnings.warn(f"warned {text}", stacklevel=1)
        logging.getLogger("talkative").warning("standard-logging %s", text)
        defer.fail(ValueError(f"deferred {text}"))
        raise ValueError(f"connection-raised {text}")


class Stream(Factory):
    """Logs all that a connection sends, and the name it goes by."""

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """Make a protocol that knows the name of its peer."""
        protocol = _Talker()
        protocol.peer = (getattr(addr, "name", None) or b"").decode("utf-8", "surrogateescape")
        return protocol


class Datagram(DatagramProtocol):
    """Raises every datagram."""

    def datagramReceived(self, datagram: bytes, _: object) -> None:
        """Raise it."""
        raise ValueError(f"datagram-raised {datagram.decode('utf-8', 'surrogateescape')}")


#: Lines of code that log. A gate that knows lines of code lets a few entries of each through.
LINES = 200

_scope: dict[str, Any] = {"log": _log}
exec("def say(what):\n" + "  log.info('{what}', what=what)\n" * LINES, _scope)


class Many(Protocol):
    """Logs what it was sent from many lines of code, and answers."""

    def dataReceived(self, data: bytes) -> None:
        """Log it."""
        _scope["say"](data.decode("ascii"))
        assert self.transport is not None
        self.transport.write(b"said")


def _main() -> None:
    from twisted.internet import reactor as installed  # noqa: PLC0415
    from twisted.logger import globalLogBeginner, textFileLogObserver  # noqa: PLC0415
    from twisted.protocols.wire import Echo  # noqa: PLC0415

    reactor: Any = installed
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)])
    echo, talk, many = map(int, sys.argv[1:])
    reactor.listenTCP(echo, Factory.forProtocol(Echo))
    reactor.listenTCP(talk, Stream())
    reactor.listenUDP(talk, Datagram())
    reactor.listenTCP(many, Factory.forProtocol(Many))
    reactor.run()


if __name__ == "__main__":
    _main()
