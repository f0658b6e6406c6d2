"""What is spoken: one module for each wire protocol, and the registry that finds them.

A protocol is an ordinary Twisted `Protocol` or `DatagramProtocol`; what bounds, counts and speeds it up
is the transport under it.
"""

from echosvc.protocols.chargen import ChargenFactory, ChargenOptions, DatagramChargen
from echosvc.protocols.daytime import DatagramDaytime, DaytimeFactory
from echosvc.protocols.discard import DatagramDiscard, DiscardFactory
from echosvc.protocols.echo import DatagramEcho, Echo, EchoFactory
from echosvc.protocols.qotd import DatagramQotd, QotdFactory, QotdOptions
from echosvc.protocols.registry import KnownProtocol, find, known, register
from echosvc.protocols.time import DatagramTime, TimeFactory
from echosvc.protocols.wire import WireProtocol

__all__ = [
    "ChargenFactory",
    "ChargenOptions",
    "DatagramChargen",
    "DatagramDaytime",
    "DatagramDiscard",
    "DatagramEcho",
    "DatagramQotd",
    "DatagramTime",
    "DaytimeFactory",
    "DiscardFactory",
    "Echo",
    "EchoFactory",
    "KnownProtocol",
    "QotdFactory",
    "QotdOptions",
    "TimeFactory",
    "WireProtocol",
    "find",
    "known",
    "register",
]
