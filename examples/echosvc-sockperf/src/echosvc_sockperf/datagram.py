"""Sockperf over datagrams: each is a message. All that came in together is answered together, where it lies."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import DatagramProtocol
from zope.interface import implementer

from echosvc.transports import DatagramBatch, IDatagramBatchProtocol, Source
from echosvc_sockperf.message import is_question, turn

__all__ = ["DatagramResponder"]


@implementer(IDatagramBatchProtocol)
class DatagramResponder(DatagramProtocol):
    """Answer each datagram that is a message and asks for it. Others are thrown away."""

    transport: Any  # a port of UDP, or of UNIX datagrams
    noisy = False

    def batch_received(self, batch: DatagramBatch) -> None:
        """Answer all at once if all are to be answered, as they are while somebody measures; else one by one.

        Payloads are where the kernel has put them, and `send_back` sends them from there: there is no copy, and one
        system call for all.
        """
        datagrams = list(batch)
        if all(is_question(payload) for payload, _ in datagrams):
            for payload, _ in datagrams:
                turn(payload)
            batch.send_back()
            return
        for payload, source in datagrams:
            self.datagramReceived(bytes(payload), source)

    def datagramReceived(self, datagram: bytes, addr: Source) -> None:
        """Answer one."""
        if is_question(datagram):
            answer = bytearray(datagram)
            turn(answer)
            self.transport.write(bytes(answer), addr)
