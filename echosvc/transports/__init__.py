"""How bytes move: the stream port and its connections, the datagram port.

Knows Twisted and the kernel, and nothing of echo, options or logs above it.
"""

from echosvc.transports.addresses import HostPort, display
from echosvc.transports.batch import DatagramBatch, IDatagramBatchProtocol
from echosvc.transports.datagram import DatagramPort, IUndeliverable
from echosvc.transports.messages import MAX_DATAGRAM
from echosvc.transports.peer import Peer, Source
from echosvc.transports.screening import Arrival, Envelopes, LocalEnvelope, Refusal, Screen
from echosvc.transports.stream import StreamPort, StreamTransport
from echosvc.transports.unix import UnixStreamPort, UserAddress
from echosvc.transports.unixgram import UnixDatagramPort

__all__ = [
    "MAX_DATAGRAM",
    "Arrival",
    "DatagramBatch",
    "DatagramPort",
    "Envelopes",
    "HostPort",
    "IDatagramBatchProtocol",
    "IUndeliverable",
    "LocalEnvelope",
    "Peer",
    "Refusal",
    "Screen",
    "Source",
    "StreamPort",
    "StreamTransport",
    "UnixDatagramPort",
    "UnixStreamPort",
    "UserAddress",
    "display",
]
