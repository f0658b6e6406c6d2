"""How bytes move: the stream port and its connections, the datagram port.

Knows Twisted and the kernel, and nothing of echo, options or logs above it.
"""

from echosvc.transports.addresses import HostPort, display
from echosvc.transports.datagram import MAX_DATAGRAM, DatagramPort, IUndeliverable, Peer, Screen
from echosvc.transports.stream import StreamPort, StreamTransport

__all__ = [
    "MAX_DATAGRAM",
    "DatagramPort",
    "HostPort",
    "IUndeliverable",
    "Peer",
    "Screen",
    "StreamPort",
    "StreamTransport",
    "display",
]
