"""What is spoken: one module for each wire protocol, and the registry that finds them.

A protocol is an ordinary Twisted `Protocol` or `DatagramProtocol`; what bounds, counts and speeds it up
is the transport under it.
"""

from echosvc.protocols.echo import DatagramEcho, Echo, EchoFactory
from echosvc.protocols.registry import find, known, register
from echosvc.protocols.wire import WireProtocol

__all__ = ["DatagramEcho", "Echo", "EchoFactory", "WireProtocol", "find", "known", "register"]
