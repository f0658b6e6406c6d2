"""TLS between a stream and its protocol, on the side that listens: `TLSFactory` wraps a factory, as Twisted's own does.

OpenSSL, and how producers and writes meet it, is Twisted's (`TLSMemoryBIOProtocol`). What differs:

- Each direction ends by itself. The peer's close_notify ends its direction (RFC 8446 section 6.1): the protocol is told
  as of a half-closed connection, and whatever it writes still arrives, then our close_notify. Twisted loses what is queued
  (its ticket 5341), and an echo whose client says all and half-closes was answered 0 to 1 time in 30. Over TLS 1.2 the
  same is done, though there the peer may throw away what comes after its own close_notify (RFC 5246 section 7.2.1).
- A FIN without close_notify is a truncation, which anybody on the way can forge. It is never told as the end of the input:
  a protocol may act on that. What is queued is still sent, with our close_notify to show that it is whole, and the
  protocol is told of a connection that was lost.
- Nobody waits for the peer's answer to our close_notify (neither RFC asks for it): it might never come.
- A protocol is made when the handshake is done. Whoever fails it has met nobody, and a protocol may ask at once who its
  peer is. A handshake that takes too long is aborted; one that fails is told why, and closed.
- What a protocol writes while it is handed data leaves in one piece when it returns. Twisted sends each record by itself,
  or everything a turn later.

Needs the packages of ``twisted[tls]``; nothing else imports this module before TLS is asked for.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any

from OpenSSL.SSL import Error, WantReadError, ZeroReturnError
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IHandshakeListener,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IReactorTime,
)
from twisted.internet.protocol import Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer, providedBy

__all__ = ["TLSFactory", "TLSProtocol"]

#: The most that one record carries (RFC 8446 section 5.1).
RECORD = 2**14

#: Bytes handed to OpenSSL at once, and after which its output is sent. Its buffers grow to hold them, and never shrink.
#: With half of it a bulk transfer costs 1.2 times the CPU.
PIECE = 4 * RECORD

#: Bytes that TLS may answer by itself in the life of a connection: some 600 new keys, which a peer needs after 2^24 records
#: (RFC 8446 section 5.5). Whoever asks for them all the time and reads nothing would otherwise fill the memory.
CONTROL = RECORD


@implementer(IHalfCloseableProtocol)
class TLSProtocol(TLSMemoryBIOProtocol):
    """One TLS connection: the protocol of a stream, and the transport of the protocol that it makes.

    Args:
        factory: Made it.
        address: Who connects.
    """

    factory: TLSFactory
    transport: Any
    disconnecting = False
    _deadline: IDelayedCall
    #: The peer's direction has ended: what comes now is thrown away (RFC 8446 section 6.1).
    _input_ended = False
    #: Our direction has ended.
    _output_ended = False
    #: Our direction is to end when there is no producer any more.
    _write_closing = False
    #: Output waits for the end of `dataReceived`, or until there is more than a piece of it.
    _held = False
    #: Bytes that the protocol has written since output was last sent.
    _unsent = 0
    #: Bytes sent since the handshake that nobody wrote: what TLS itself answers.
    _control = 0

    def __init__(self, factory: TLSFactory, address: IAddress | None) -> None:
        # A protocol that does nothing stands in until the handshake is done.
        super().__init__(factory, Protocol(), _connectWrapped=False)
        self._address = address

    def makeConnection(self, transport: Any) -> None:
        """Await the handshake."""
        super().makeConnection(transport)
        directlyProvides(self, providedBy(transport))  # Twisted's own loop keeps only the last interface
        self._deadline = self.factory.clock.callLater(self.factory.handshake_timeout, self._late)

    # -- the handshake

    def _checkHandshakeStatus(self) -> None:
        """Go on with the handshake as far as what has come allows. Twisted's name for it."""
        try:
            self._tlsConnection.do_handshake()
        except WantReadError:
            pass
        except Error:
            self._refuse()
        else:
            self._flush()
            self._handshakeDone = True
            self._deadline.cancel()
            self._begin()
            self._hand_on()

    def _begin(self) -> None:
        """Make the protocol that is spoken."""
        protocol = self.factory.wrappedFactory.buildProtocol(self._address)
        if protocol is None:
            self.loseConnection()
            return
        self.wrappedProtocol = protocol
        protocol.makeConnection(self)
        if IHandshakeListener.providedBy(protocol):
            protocol.handshakeCompleted()

    def _refuse(self) -> None:
        """End a handshake that has failed.

        The alert says why. Closed at once, a connection on which there is more to read is reset, and the alert is lost: to a
        client that TLS 1.3 lets send before its certificate is looked at, for one. So only our direction is closed, and
        the rest of the handshake's time is the client's to hear it.
        """
        self._refused("tls-handshake-failed")
        self._input_ended = self._output_ended = self._lostTLSConnection = True
        self._flush()
        self.transport.loseWriteConnection()

    def _late(self) -> None:
        if not self._lostTLSConnection:
            self._refused("tls-handshake-late")
        self.abortConnection()

    def _refused(self, reason: str) -> None:
        self.factory.refused[reason] += 1
        self.transport.why = reason  # as our own connections count their end

    # -- input

    def dataReceived(self, data: bytes) -> None:
        """Decrypt what came, and hand it on."""
        for start in range(0, len(data), PIECE):
            if self._input_ended:
                return
            self._held = True
            try:
                self._tlsConnection.bio_write(data[start : start + PIECE])
                if self._handshakeDone:
                    self._hand_on()
                else:
                    self._checkHandshakeStatus()
            finally:
                self._held = False
                self._flush()

    def _hand_on(self) -> None:
        connection = self._tlsConnection
        while not self._input_ended:
            try:
                data = connection.recv(RECORD)
            except WantReadError:
                return
            except ZeroReturnError:
                self._input_ended = True
                self._tell_end_of_input()
            except Error:
                self._close(Failure())
            else:
                self.wrappedProtocol.dataReceived(data)

    def _tell_end_of_input(self) -> None:
        if IHalfCloseableProtocol.providedBy(self.wrappedProtocol):
            self.wrappedProtocol.readConnectionLost()
        else:
            self._close()

    def readConnectionLost(self) -> None:
        """The peer has closed its direction under TLS: as it should after close_notify, or in the middle of something."""
        if not self._handshakeDone:
            self.transport.loseConnection()
        elif not self._input_ended:
            self._close(_truncated())

    def writeConnectionLost(self) -> None:
        """Our direction is closed: tell the protocol."""
        if IHalfCloseableProtocol.providedBy(self.wrappedProtocol):
            self.wrappedProtocol.writeConnectionLost()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # Twisted has a default
        """Tell the protocol that the connection has ended, and why."""
        if self._deadline.active():
            self._deadline.cancel()
        if not (self._handshakeDone or self._lostTLSConnection):
            self.factory.refused["tls-handshake-failed"] += 1
        elif not self._input_ended and reason.check(ConnectionDone):
            self._reason = _truncated()  # from a transport that does not know half-close
        self._input_ended = self._output_ended = self._lostTLSConnection = True
        super().connectionLost(reason)

    # -- output

    def write(self, data: bytes) -> None:
        """Encrypt and send."""
        sent = 0
        while sent < len(data) and not self._output_ended:
            try:
                taken = self._tlsConnection.send(data[sent : sent + RECORD])
            except Error:
                self._close(Failure())
                return
            sent += taken
            self._unsent += taken
            if self._unsent >= PIECE:
                self._flush()
        if not self._held:
            self._flush()

    def _flush(self) -> None:
        """Send what OpenSSL has put out: all of it, where Twisted stops after 32 KiB, and a longer flight never leaves."""
        written, self._unsent = self._unsent, 0
        size = PIECE
        while size == PIECE and self._tlsConnection is not None:
            try:
                records = self._tlsConnection.bio_read(PIECE)
            except WantReadError:
                return
            size = len(records)
            if not written and self._handshakeDone:
                self._control += size
            self.transport.write(records)
        if self._control > CONTROL:
            self._refused("tls-control-flood")
            self.abortConnection()

    # -- closing

    def loseWriteConnection(self) -> None:
        """End our direction when what was written is sent and no producer is registered, and go on reading."""
        self._write_closing = True
        if self._producer is None:
            self._half_close()

    def unregisterProducer(self) -> None:
        """Take no more from the producer; end what was to end after it."""
        super().unregisterProducer()
        if self._write_closing:
            self._half_close()

    def _half_close(self) -> None:
        if not self._output_ended:
            self._end_output()
            self.transport.loseWriteConnection()  # nothing can follow a close_notify

    def abortConnection(self) -> None:
        """Close now, and forget what is queued. No close_notify says that it was whole, as Twisted's would."""
        self.disconnecting = True
        self._input_ended = self._output_ended = self._lostTLSConnection = True
        self.transport.abortConnection()

    def _close(self, reason: Failure | None = None) -> None:
        """Close when what is queued is sent, whether or not the protocol has asked for it.

        Args:
            reason: What the protocol will be told; None for what the transport tells.
        """
        self._reason = reason
        self.disconnecting = True
        producer = self._producer
        if producer is None:
            self._shutdownTLS()
        else:
            self.unregisterProducer()  # a transport whose producer is paused never closes
            producer.stopProducing()

    def _shutdownTLS(self) -> None:
        """End our direction, and close when it is sent. What Twisted calls when a protocol wants to close, and may."""
        if not self._lostTLSConnection:
            self._end_output()
            self._input_ended = self._lostTLSConnection = True
            self.transport.loseConnection()

    def _end_output(self) -> None:
        """Send close_notify, if it is not sent."""
        if not self._output_ended:
            self._output_ended = True
            with suppress(Error):  # TLS has failed already
                self._tlsConnection.shutdown()
            self._flush()


class TLSFactory(TLSMemoryBIOFactory):
    """Puts TLS, as the side that listens, between a stream and the protocols of a factory.

    Args:
        inner: Builds a protocol for each connection whose handshake is done. If it builds none, the connection is closed.
        context_factory: Begins a connection of OpenSSL for each one that is accepted.
        clock: Keeps the deadline of the handshake.
        refused: Where handshakes are counted that failed (``tls-handshake-failed``) or took too long
            (``tls-handshake-late``), and peers that had TLS answer too much (``tls-control-flood``).
        handshake_timeout: Seconds that a handshake may take.
    """

    def __init__(
        self,
        inner: IProtocolFactory,
        context_factory: IOpenSSLServerConnectionCreator,
        clock: IReactorTime,
        *,
        refused: Counter[str],
        handshake_timeout: float = 10.0,
    ) -> None:
        super().__init__(context_factory, isClient=False, wrappedFactory=inner, clock=clock)
        self.clock = clock
        self.refused = refused
        self.handshake_timeout = handshake_timeout

    def buildProtocol(self, addr: IAddress | None) -> TLSProtocol:
        """Build what speaks TLS with one peer."""
        return TLSProtocol(self, addr)


def _truncated() -> Failure:
    return Failure(ConnectionLost("the peer closed without close_notify: what it sent may be cut short"))
