"""TLS between a stream and its protocol, on the side that listens: `TLSFactory` wraps a factory of protocols.

The connection:

- It begins with a handshake (`tls_handshake`), and the protocol is made when that is done: it may ask at once who its peer is.
- Each direction ends by itself. The peer's close_notify ends its direction (RFC 8446 section 6.1): the protocol is told
  as of a half-closed connection, and whatever it writes still arrives, then our close_notify. Over TLS 1.2 the same is done,
  though there the peer may throw away what comes after its own close_notify (RFC 5246 section 7.2.1).
- A FIN without close_notify is a truncation, which anyone on the way can forge. It is never told as the end of the input:
  a protocol may act on that. What is queued is still sent, with our close_notify to show that it is whole, and the
  protocol is told of a connection that was lost.
- No answer to our close_notify is waited for (neither RFC asks for it): it might never come.

The work:

- A peer chooses how many records its bytes are, and one may cost 50 us (new keys) however short it is. So each is decrypted by
  itself, and after half a millisecond it is others' turn (`turns`). Meanwhile, and while the protocol has paused its transport,
  nothing more is read.
- What a protocol writes while it is handed data leaves in one piece when it returns.
"""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Iterable
from typing import Any

from cryptography import x509
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IHandshakeListener,
    INegotiated,
    IProducer,
    IProtocolFactory,
    IReactorTime,
    ISSLTransport,
)
from twisted.internet.protocol import Protocol
from twisted.protocols.policies import ProtocolWrapper
from twisted.python import log
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer, providedBy

from echosvc.transports.client_hello import RECORDS, ClientHello
from echosvc.transports.ends import FAILED as PROTOCOL_FAILED
from echosvc.transports.per_reactor import per_reactor
from echosvc.transports.tls_handshake import FAILED, TOO_LONG, Handshake, HandshakeSettings, Refusal
from echosvc.transports.tls_session import RECORD, Records, Session
from echosvc.transports.trim import Trimmer
from echosvc.transports.turns import TURN, Turns

__all__ = ["TLSFactory", "TLSProtocol"]

#: Bytes of output that are gathered before they are sent.
PIECE = 4 * RECORD

#: Bytes that TLS may answer by itself in the life of a connection: some 600 new keys, which a peer needs after 2^24 records
#: (RFC 8446 section 5.5). Asked for them all the time by a peer that reads nothing, it would otherwise fill the memory.
CONTROL = RECORD

#: Why a connection ends after its handshake if a record is damaged or makes no sense, or the peer says that it gives up (an alert).
BROKEN = "tls-failed"

#: Stands in for the protocol until there is one, and afterwards.
_NONE = Protocol()


@implementer(IHalfCloseableProtocol, INegotiated, ISSLTransport)
class TLSProtocol(ProtocolWrapper):
    """One TLS connection: the protocol of a stream, and the transport of the protocol that it makes.

    Args:
        factory: Made it.
        address: Who connects.

    Attributes:
        hello: What the client has asked for: a server name, protocols.
        negotiatedProtocol: What is spoken, as both have agreed (ALPN, RFC 7301); None if they have not.
    """

    factory: TLSFactory
    transport: Any
    disconnecting = False
    hello = ClientHello()
    negotiatedProtocol: bytes | None = None
    #: None once the connection has ended, or a protocol was made.
    _handshake: Handshake | None = None
    #: None before the handshake is done, and once the connection has ended.
    _session: Session | None = None
    #: It waits for its turn to go on.
    _behind = False
    #: The protocol wants no more for now.
    _paused = False
    #: Nothing is read, because what has come before is not handed on yet.
    _stopped = False
    #: The peer's direction has ended: what comes now is thrown away (RFC 8446 section 6.1).
    _input_ended = False
    #: Our direction has ended.
    _output_ended = False
    #: Our direction is to end when there is no producer any more.
    _write_closing = False
    #: The connection closes, or has failed: there is nothing to close once more.
    _over = False
    #: Output that waits until all input is handed on, or until there is a piece of it; None outside.
    _held: list[bytes] | None = None
    _held_size = 0
    _producer: IProducer | None = None
    _streaming = False
    #: Our direction is to end as soon as TLS sends again.
    _ending = False
    #: What the protocol is told in place of what the transport says.
    _reason: Failure | None = None

    def __init__(self, factory: TLSFactory, address: IAddress) -> None:
        self.factory = factory
        self.wrappedProtocol: Any = _NONE
        self._address = address
        self._records = Records()

    def makeConnection(self, transport: Any) -> None:
        """Await the handshake."""
        directlyProvides(self, providedBy(transport))
        self.connected = 1
        self.transport = transport
        self.factory.trimmer.take()
        self._handshake = Handshake(
            self.factory.handshakes, transport, self.factory.clock, send=self._send, give_up=self._give_up
        )

    # -- the handshake

    @property
    def _handshakeDone(self) -> bool:
        """Whether the client can be heard: Twisted's name for it, by which a pace asks any TLS."""
        return self._handshake is None

    def _await_handshake(self, handshake: Handshake, data: bytes) -> None:
        """Go on with the handshake, one record at a time: what it may take is bounded, what comes behind it is not."""
        records = self._records
        try:
            records.feed(handshake.gather(data) if handshake.session is None else data)
            for _ in range(RECORDS):
                if self._over or not records.is_ready():
                    return
                if handshake.shake(records.take()):
                    self._begin(handshake)
                    return
            self._refuse(handshake, Refusal(TOO_LONG))  # no handshake has so many at once
        except Refusal as refusal:
            self._refuse(handshake, refusal)

    def _begin(self, handshake: Handshake) -> None:
        """Make the protocol that is spoken."""
        self._handshake, self._session, self.hello = None, handshake.session, handshake.hello
        handshake.end()
        assert self._session is not None  # noqa: S101  # it is done
        if (name := self._session.tls.selected_alpn_protocol()) is not None:
            self.negotiatedProtocol = name.encode()
        protocol = self.factory.inner.buildProtocol(self._address)
        if protocol is None:
            self.loseConnection()
            return
        self.wrappedProtocol = protocol
        protocol.makeConnection(self)
        if IHandshakeListener.providedBy(protocol):
            protocol.handshakeCompleted()
        self._work()

    def _refuse(self, handshake: Handshake, refusal: Refusal) -> None:
        """End a handshake that has failed.

        The alert says why. Closed at once, a connection on which there is more to read is reset, and the alert is lost: to a
        client that TLS 1.3 lets send before its certificate is looked at, for one. So only our direction is closed, and
        the rest of the handshake's time is the client's to hear it. One that is refused before there is a session has sent
        nothing else, or means no good.
        """
        self._count(refusal.reason)
        self._input_ended = self._output_ended = self._over = True
        if refusal.alert:
            self._send(refusal.alert)
        self._flush()
        handshake.forget()
        self._records.clear()
        if refusal.alert:
            self.transport.loseConnection()
        else:
            self.transport.loseWriteConnection()

    def _give_up(self, reason: str) -> None:
        """End a handshake that is late, or that makes room for another."""
        if not self._over:
            self._count(reason)
        self.abortConnection()

    def _count(self, reason: str) -> None:
        self.factory.refused[reason] += 1
        self.transport.why = reason  # as our own connections count their end

    # -- input

    def dataReceived(self, data: bytes) -> None:
        """Decrypt what came, and hand it on."""
        if self._input_ended:
            return
        self._held = []
        try:
            if self._handshake is not None:
                self._await_handshake(self._handshake, data)
            elif self._records.is_one(data):
                self._hand_on(data)
            else:
                self._records.feed(data)
                if not self._behind:
                    self._work()
        finally:
            self._flush()
            self._held = None

    def _go_on(self) -> None:
        """Hand on more of what has come: it is this connection's turn again."""
        self._behind = False
        self._held = []
        try:
            self._work()
            self._flush()
        except BaseException:  # noqa: BLE001  # whatever a protocol raises ends its connection
            log.err()
            self._reason = Failure()
            self.transport.why = PROTOCOL_FAILED
            self.abortConnection()
        finally:
            self._held = None

    def _work(self) -> None:
        """Hand on what has come, as much as fits into a turn."""
        seconds = self.factory.turns.seconds
        began = seconds()
        records = self._records
        while records.is_ready() and not (self._paused or self._input_ended):
            self._hand_on(records.take())
            if seconds() - began > TURN:
                break
        if self._input_ended:
            records.clear()
        self._count_held()
        if records.is_ready():
            self._stopped = True
            self.transport.pauseProducing()
            if not self._paused:
                self._go_on_later()
        elif self._stopped and not (self._paused or self._over):
            self._stopped = False
            self.transport.resumeProducing()

    def _hand_on(self, record: bytes | memoryview) -> None:
        """Hand on what a record carries, or what it tells."""
        session = self._session
        assert session is not None  # noqa: S101  # as long as there is input
        try:
            data = session.receive(record)
        except ssl.SSLError:
            self._fail()
            return
        if session.waits:
            self._write_on(session)
        if session.answered > CONTROL:
            self._flush()
            self._count("tls-control-flood")
            self.abortConnection()
        elif self._input_ended:
            pass  # with what has waited
        elif data:
            self.wrappedProtocol.dataReceived(data)
        elif data is not None:
            self._tell_end_of_input()

    def _tell_end_of_input(self) -> None:
        self._input_ended = True
        if not (self.disconnecting or self._write_closing):
            self.transport.peer_ended = True
        if IHalfCloseableProtocol.providedBy(self.wrappedProtocol):
            self.wrappedProtocol.readConnectionLost()
        else:
            self._close()

    def readConnectionLost(self) -> None:
        """The peer has closed its direction under TLS: as it should after close_notify, or in the middle of something."""
        if self._handshake is not None:
            if not self._over:
                self._over = True
                self._count(FAILED)
            self.transport.loseConnection()
        elif not self._input_ended:
            self._close(_truncated())

    def writeConnectionLost(self) -> None:
        """Our direction is closed: tell the protocol."""
        if IHalfCloseableProtocol.providedBy(self.wrappedProtocol):
            self.wrappedProtocol.writeConnectionLost()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # Twisted has a default
        """Tell the protocol that the connection has ended, and why."""
        handshake, self._handshake = self._handshake, None
        if handshake is not None:
            handshake.end()
        if handshake is not None and not self._over:
            self.factory.refused[FAILED] += 1
        elif not self._input_ended and reason.check(ConnectionDone):
            self._reason = _truncated()  # from a transport that does not know half-close
        self._session = self._producer = None
        self._records.clear()
        self.connected = 0
        self.factory.trimmer.leave()
        self._input_ended = self._output_ended = self._over = True
        protocol, self.wrappedProtocol = self.wrappedProtocol, _NONE
        protocol.connectionLost(self._reason or reason)

    # -- pausing

    def pauseProducing(self) -> None:
        """Hand the protocol nothing more for now, neither what is to come nor what has come."""
        self._paused = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Go on. What has come already is handed on a little later: a protocol expects nothing from inside this call."""
        self._paused = False
        if not self._stopped:
            self.transport.resumeProducing()
        elif not self._behind:
            self._go_on_later()

    def _go_on_later(self) -> None:
        self._behind = True
        self.factory.turns.later(self._go_on)

    # -- output

    def write(self, data: bytes) -> None:
        """Encrypt and send."""
        session = self._session
        if self._output_ended or self._ending or not data or session is None:
            return
        try:
            if len(data) <= RECORD:
                session.write(data)
            else:
                self._write_pieces(session, data)
        except ssl.SSLError:
            self._fail()
        else:
            if session.waits:
                self._count_held()
                if self._streaming and self._producer is not None:
                    self._producer.pauseProducing()  # type: ignore[attr-defined]  # as it streams

    def _write_on(self, session: Session) -> None:
        """Send what has waited for more input, and end what was to end after it; or wait on."""
        try:
            session.go_on()
        except ssl.SSLError:
            self._fail()
            return
        self._count_held()
        if session.waits:
            return
        if self._ending:
            self._ending = False
            (self._shut if self.disconnecting else self._half_close)()
            return
        full = getattr(
            self.transport, "producerPaused", False
        )  # then the transport resumes it, when it has room
        if self._streaming and self._producer is not None and not full:
            self._producer.resumeProducing()  # type: ignore[attr-defined]  # as it streams

    def _count_held(self) -> None:
        """Tell the transport how many bytes are kept here."""
        unsent = 0 if self._session is None else len(self._session.unsent)
        held = unsent + (len(self._records) if self._records.is_ready() else 0)
        if held or getattr(
            self.transport, "held", 0
        ):  # an attribute of its own costs each idle connection memory
            self.transport.held = held

    def _write_pieces(self, session: Session, data: bytes) -> None:
        """Write so much at a time that what is encrypted and not sent is bounded."""
        outside = self._held is None
        if outside:
            self._held = []
        try:
            for start in range(0, len(data), PIECE):
                if not self._output_ended:
                    session.write(data[start : start + PIECE])
        finally:
            if outside:
                self._flush()
                self._held = None

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """Encrypt and send all of it, as one message."""
        self.write(b"".join(iovec))

    def _send(self, records: bytes) -> None:
        """Send encrypted output, or keep it until all input is handed on."""
        if self._held is None:
            self.transport.write(records)
            return
        self._held.append(records)
        self._held_size += len(records)
        if self._held_size >= PIECE:
            self._flush()

    def _flush(self) -> None:
        """Send what was kept."""
        if self._held:
            held, self._held, self._held_size = self._held, [], 0
            self.transport.write(held[0] if len(held) == 1 else b"".join(held))

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:  # noqa: FBT001  # Twisted's
        """Take data from a producer: what it writes is queued by the transport, which tells it when to wait."""
        self._producer, self._streaming = producer, streaming
        self.transport.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """Take no more from the producer; end what was to end after it."""
        if self._producer is not None:
            self._producer = None
            self.transport.unregisterProducer()
        if self.disconnecting:
            self._shut()
        elif self._write_closing:
            self._half_close()

    # -- closing

    def loseConnection(self) -> None:
        """Close when what was written is sent and no producer is registered. Before the handshake is done, abort."""
        if self._handshake is not None:
            self.abortConnection()
        elif not self.disconnecting:
            self.disconnecting = True
            if self._producer is None:
                self._shut()

    def loseWriteConnection(self) -> None:
        """End our direction when what was written is sent and no producer is registered, and go on reading.

        Before the handshake is done, abort.
        """
        if self._handshake is not None:
            self.abortConnection()
            return
        self._write_closing = True
        if self._producer is None:
            self._half_close()

    def abortConnection(self) -> None:
        """Close now, and forget what is queued. No close_notify says that it was whole."""
        if self._held:
            self._held.clear()
        self.disconnecting = True
        self._input_ended = self._output_ended = self._over = True
        self.transport.abortConnection()

    def _close(self, reason: Failure | None = None) -> None:
        """Close when what is queued is sent, whether or not the protocol has asked for it.

        Args:
            reason: What the protocol will be told; None for what the transport tells.
        """
        self._reason = reason
        self.disconnecting = True
        self._input_ended |= reason is not None  # nothing is waited for
        producer = self._producer
        if producer is None:
            self._shut()
        else:
            self.unregisterProducer()  # a transport whose producer is paused never closes
            producer.stopProducing()

    def _fail(self) -> None:
        """Close because TLS has failed, while its error is handled."""
        self._count(BROKEN)
        self._close(Failure())

    def _shut(self) -> None:
        """End our direction, and close when it is sent."""
        if self._over:
            return
        if self._end_output():
            self._input_ended = self._over = True
            self.transport.loseConnection()
        elif self._paused:
            self.resumeProducing()  # it waits for input

    def _half_close(self) -> None:
        if not self._output_ended and self._end_output():
            self.transport.loseWriteConnection()  # nothing can follow a close_notify

    def _end_output(self) -> bool:
        """Send close_notify, if it is not sent.

        Returns:
            Whether that is done; not if TLS waits for more input, which may come.
        """
        if not self._output_ended:
            if self._session is not None and not self._session.close() and not self._input_ended:
                self._ending = True
                return False
            self._output_ended = True
            self._flush()
        return True

    # -- what a protocol may ask

    def getPeerCertificate(self) -> x509.Certificate | None:
        """Return the client's certificate; None if it has shown none, or the connection has ended."""
        der = None if self._session is None else self._session.tls.getpeercert(binary_form=True)
        return None if der is None else x509.load_der_x509_certificate(der)

    def getHandle(self) -> ssl.SSLObject | None:
        """Return what tells version and cipher; None before the client's first message and after the connection."""
        return None if self._session is None else self._session.tls


@implementer(IProtocolFactory)
class TLSFactory:
    """Puts TLS, as the side that listens, between a stream and the protocols of a factory.

    Args:
        inner: Builds a protocol for each connection whose handshake is done. If it builds none, the connection is closed.
        handshakes: How they begin.
        clock: Keeps their deadlines, and calls later: the reactor, or a test's clock.
        refused: Where handshakes are counted that failed (``tls-handshake-failed``), took too long (``tls-handshake-late``),
            sent too much (``tls-handshake-too-long``) or made room for others (``tls-handshake-evicted``), peers that had
            TLS answer too much (``tls-control-flood``), and connections on which TLS failed later (``tls-failed``).
        turns: Lets connections go on that have sent more than fits into a turn; None for the one of the reactor.
    """

    def __init__(
        self,
        inner: IProtocolFactory,
        handshakes: HandshakeSettings,
        clock: IReactorTime,
        *,
        refused: Counter[str],
        turns: Turns | None = None,
    ) -> None:
        self.inner = inner
        self.handshakes = handshakes
        self.clock = clock
        self.refused = refused
        self.turns = turns or per_reactor(clock, Turns)
        self.trimmer = per_reactor(clock, Trimmer)

    def buildProtocol(self, addr: IAddress) -> TLSProtocol:
        """Build what speaks TLS with one peer."""
        return TLSProtocol(self, addr)

    def doStart(self) -> None:
        """Begin: a port will use this."""
        self.inner.doStart()

    def doStop(self) -> None:
        """End: a port has used this."""
        self.inner.doStop()


def _truncated() -> Failure:
    return Failure(ConnectionLost("the peer closed without close_notify: what it sent may be cut short"))
