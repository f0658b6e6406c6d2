"""Protocols on datagrams that are wrong, each in one way; and one that looks wrong and is not."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall

from echosvc.protocols import DatagramEcho
from echosvc.transports import DatagramBatch

__all__ = [
    "Amplifying",
    "AnsweringTheFirst",
    "ChangingTooMuch",
    "Decoding",
    "Delaying",
    "IgnoringTheEmpty",
    "LeavingTimers",
    "Naming",
    "OneByOne",
    "Raising",
    "RemakingAddresses",
    "Reversing",
    "SkippingInBatches",
    "Stuttering",
    "Truncating",
    "Varying",
]

Addr = tuple[str, int]


class OneByOne(DatagramEcho):
    """An echo that writes each answer itself, also those to a batch."""

    def batch_received(self, batch: DatagramBatch) -> None:
        """Take them one by one."""
        for payload, source in batch:
            self.datagramReceived(bytes(payload), source)  # type: ignore[arg-type]  # a UNIX socket's is another


class IgnoringTheEmpty(OneByOne):
    """Takes no bytes for no datagram."""

    def datagramReceived(self, datagram: bytes, addr: Addr) -> None:
        """Answer the others."""
        if datagram:
            self.transport.write(datagram, addr)


class Raising(OneByOne):
    """Looks at the first byte, which an empty datagram does not have."""

    def datagramReceived(self, datagram: bytes, addr: Addr) -> None:
        """Look, and answer."""
        if datagram[0] < 256:
            self.transport.write(datagram, addr)


class Truncating(OneByOne):
    """Has a buffer of its own."""

    def datagramReceived(self, datagram: bytes, addr: Addr) -> None:
        """Answer the beginning."""
        self.transport.write(datagram[:8192], addr)


class RemakingAddresses(OneByOne):
    """Takes an address apart, and puts another together."""

    def datagramReceived(self, datagram: bytes, addr: Addr) -> None:
        """Answer an address that looks the same."""
        self.transport.write(datagram, addr if isinstance(addr, str) else (addr[0], addr[1]))


class AnsweringTheFirst(OneByOne):
    """Takes everybody for the first who has asked."""

    first: Addr | None = None

    def datagramReceived(self, datagram: bytes, addr: Addr) -> None:
        """Answer that one."""
        self.first = self.first or addr
        self.transport.write(datagram, self.first)


class Reversing(OneByOne):
    """Answers a batch from its end."""

    def batch_received(self, batch: DatagramBatch) -> None:
        """Keep copies, and answer."""
        for payload, source in reversed([(bytes(payload), source) for payload, source in batch]):
            self.datagramReceived(payload, source)  # type: ignore[arg-type]  # as above


class SkippingInBatches(OneByOne):
    """Takes the end of what it was given for the end of a batch."""

    def batch_received(self, batch: DatagramBatch) -> None:
        """Stop at the first that is empty."""
        for payload, source in batch:
            if not payload:
                return
            self.datagramReceived(bytes(payload), source)  # type: ignore[arg-type]  # as above


class Amplifying(OneByOne):
    """Is polite."""

    def datagramReceived(self, datagram: bytes, addr: Addr) -> None:
        """Answer, and thank."""
        self.transport.write(datagram + b" thanks!", addr)


class Stuttering(OneByOne):
    """Wants to be heard."""

    def datagramReceived(self, datagram: bytes, addr: Addr) -> None:
        """Answer twice."""
        self.transport.write(datagram, addr)
        self.transport.write(datagram, addr)


class Decoding(OneByOne):
    """Believes that everybody speaks UTF-8."""

    def datagramReceived(self, datagram: bytes, addr: Addr) -> None:
        """Believe."""
        self.transport.write(datagram.decode().encode(), addr)


class Naming(OneByOne):
    """Wants to know with whom it has to do; a UNIX socket may have no name."""

    def datagramReceived(self, datagram: bytes, addr: Addr) -> None:
        """Name who asks, and answer."""
        self.last = f"from {addr[0]}"
        self.transport.write(datagram, addr)


class ChangingTooMuch(OneByOne):
    """Writes into a batch, as it may, and writes too much."""

    def batch_received(self, batch: DatagramBatch) -> None:
        """Blank the first byte, and send it back."""
        for payload, _ in batch:
            payload[:1] = bytes(len(payload[:1]))
        batch.send_back()


class Varying(OneByOne):
    """Answers with as many bytes, and never the same. That is all right."""

    count = 0

    def datagramReceived(self, datagram: bytes, addr: Addr) -> None:
        """Count, and answer."""
        self.count += 1
        self.transport.write(bytes([self.count % 256]) * len(datagram), addr)

    def batch_received(self, batch: DatagramBatch) -> None:
        """Answer other bytes than to single ones."""
        self.count += 7
        super().batch_received(batch)


class LeavingTimers(OneByOne):
    """Counts once a minute, for ever.

    Args:
        clock: Keeps time.
    """

    def __init__(self, clock: Any) -> None:
        self._count = LoopingCall(list)
        self._count.clock = clock

    def startProtocol(self) -> None:
        """Begin."""
        self._count.start(60)


class Delaying(OneByOne):
    """An echo that thinks for a second, and is otherwise all right.

    Args:
        clock: Keeps time.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._due: set[IDelayedCall] = set()

    def datagramReceived(self, datagram: bytes, addr: Addr) -> None:
        """Think."""
        self._due = {call for call in self._due if call.active()}
        self._due.add(self._clock.callLater(1, self._answer, datagram, addr))

    def _answer(self, datagram: bytes, addr: Addr) -> None:
        self.transport.write(datagram, addr)

    def stopProtocol(self) -> None:
        """Think no more."""
        for call in self._due:
            if call.active():
                call.cancel()
