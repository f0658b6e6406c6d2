"""The beginning of a TLS connection: what a client may take before it has shown who it is.

- It costs what a plain connection costs, and what it has sent, until its first message is whole (`client_hello`). Only then a
  session begins.
- Handshakes that are not done are limited in number (`handshakes`), in what they are sent, and in time: from when the session
  begins, or from when more than a little of an unfinished message is held.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from typing import Any

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from echosvc.transports.client_hello import ClientHello, HelloGatherer
from echosvc.transports.handshakes import FLIGHT, SMALL, Handshakes
from echosvc.transports.tls_session import Session

__all__ = ["FAILED", "LATE", "TOO_LONG", "Handshake", "HandshakeSettings", "Refusal"]

FAILED, LATE, TOO_LONG, EVICTED = (
    "tls-handshake-failed",
    "tls-handshake-late",
    "tls-handshake-too-long",
    "tls-handshake-evicted",
)

#: What is known of a client before its first message is whole.
_NO_HELLO = ClientHello()

#: A fatal alert, before anything is encrypted (RFC 8446 section 6).
_ALERT = bytes.fromhex("15 0303 0002 02")
_ILLEGAL_PARAMETER, _NO_APPLICATION_PROTOCOL = b"\x2f", b"\x78"

#: Those of this process: memory is one.
_HANDSHAKES = Handshakes()

_log = Logger()


@attrs.frozen(kw_only=True)
class HandshakeSettings:
    """What all handshakes of a listener share.

    Attributes:
        context: Tells what a session begins from, for each client whose first message has come: this one.
        context_for: Tells which context has the certificate for the host that the client names, or for one that names none.
            None: the one that the session begins from.
        required: Protocols of which a client that offers any must offer one (ALPN); none for any.
        timeout: Seconds that a handshake may take, from when the connection is accepted.
        unfinished: Where those are known that are not done; by default one for the process.
    """

    context: Callable[[ClientHello], ssl.SSLContext]
    context_for: Callable[[str | None], ssl.SSLContext] | None = None
    required: Sequence[bytes] = ()
    timeout: float = 10.0
    unfinished: Handshakes = _HANDSHAKES


class Refusal(Exception):
    """A handshake has failed.

    Args:
        reason: What it is counted as.
        alert: What the client is to be told; nothing where OpenSSL has told it.
    """

    def __init__(self, reason: str, alert: bytes = b"") -> None:
        super().__init__(reason)
        self.reason = reason
        self.alert = alert


class Handshake:
    """One handshake.

    Args:
        settings: Those of its listener.
        transport: Carries it.
        clock: Keeps the deadline.
        send: Sends what TLS puts out.
        give_up: Called with the reason if it is late or makes room for another.

    Attributes:
        hello: What the client asks for, once its first message is whole.
        session: Begins then.
    """

    def __init__(
        self,
        settings: HandshakeSettings,
        transport: Any,
        clock: IReactorTime,
        *,
        send: Callable[[bytes], None],
        give_up: Callable[[str], None],
    ) -> None:
        self.hello = _NO_HELLO
        self.session: Session | None = None
        self._settings = settings
        self._transport = transport
        self._send = send
        self._give_up = give_up
        self._gatherer: HelloGatherer | None = None
        self._taken = 0
        self._deadline: IDelayedCall = clock.callLater(settings.timeout, give_up, LATE)

    def gather(self, data: bytes) -> bytes:
        """Take a piece of the client's first message, as long as there is no session.

        Returns:
            All that has come, once that message is whole and the session has begun; nothing before.

        Raises:
            Refusal: It is too long, or the client offers only protocols that are not spoken (RFC 7301 section 3.2).
        """
        gatherer = self._gatherer = self._gatherer or HelloGatherer()
        if not gatherer.feed(data):
            if gatherer.is_too_long:
                raise Refusal(TOO_LONG, _ALERT + _ILLEGAL_PARAMETER)
            if len(gatherer.data) > SMALL:
                self._settings.unfinished.add(self, self._source())
            return b""
        self._gatherer = None
        self.hello = gatherer.hello()
        required, offered = self._settings.required, self.hello.protocols
        if required and offered and not set(required) & set(offered):
            raise Refusal(FAILED, _ALERT + _NO_APPLICATION_PROTOCOL)
        self._settings.unfinished.add(self, self._source())
        self.session = Session(self._settings.context(self.hello), self._send)
        if self._settings.context_for is not None:
            self.session.tls.context = self._settings.context_for(self.hello.server_name)
        return bytes(gatherer.data)

    def _source(self) -> object:
        """Return what the connection is counted for: the source that admission knows, else the peer's host."""
        ticket = getattr(self._transport, "ticket", None)
        return getattr(ticket, "source", None) or getattr(self._transport.getPeer(), "host", None)

    def shake(self, record: memoryview) -> bool:
        """Hand a record to the session, or a part of one.

        Returns:
            Whether the handshake is done.

        Raises:
            Refusal: It has failed, or takes more than `FLIGHT` bytes.
        """
        assert self.session is not None  # noqa: S101  # `gather` has returned the record
        try:
            done = self.session.shake(record)
        except ssl.SSLError as problem:
            raise Refusal(FAILED) from problem
        self._taken += len(record)
        if self._taken > FLIGHT and not done:
            _log.warn(
                "TLS handshake with {peer} given up: its messages take more than {most} bytes; "
                "is its chain of certificates that long?",
                peer=self._transport.getPeer(),
                most=FLIGHT,
            )
            raise Refusal(TOO_LONG)
        return done

    def make_room(self) -> None:
        """End, for another: this one is the oldest."""
        self.end()
        self._give_up(EVICTED)

    def forget(self) -> None:
        """Give its memory back. The deadline stays."""
        self._settings.unfinished.remove(self)
        self.session = self._gatherer = None

    def end(self) -> None:
        """It is done, or over. Idempotent."""
        self.forget()
        if self._deadline.active():
            self._deadline.cancel()
