"""For people who write their own wire protocols, and for ours: doubles in memory, and conformance kits.

Doubles:

- `MemoryListener` serves stream connections in memory; a `MemoryClient` is driven by the test.
- `MemoryDatagramPort` serves datagrams in memory, one by one or by the batch.
- `LoopbackReactor`, `SocketClient` and `narrow_socket` do the same on real sockets, turned by hand.

Time is `twisted.internet.task.Clock`. Conformance kits are mixins of tests for a trial test case:

- `StreamConformance` and `DatagramConformance` for wire protocols;
- `ListenerConformance` for kinds of listeners.

Nothing here is imported by the service.
"""

from echosvc.testing._conformance_datagram import DatagramConformance
from echosvc.testing._conformance_listener import ListenerConformance
from echosvc.testing._conformance_stream import StreamConformance
from echosvc.testing._datagrams import MemoryDatagramPort
from echosvc.testing._expected import ANYTHING, Expected
from echosvc.testing._loopback import LoopbackReactor, SocketClient, SocketLike, narrow_socket
from echosvc.testing._streams import MemoryClient, MemoryListener
from echosvc.testing._transport import MemoryTransport, UnboundedQueue

__all__ = [
    "ANYTHING",
    "DatagramConformance",
    "Expected",
    "ListenerConformance",
    "LoopbackReactor",
    "MemoryClient",
    "MemoryDatagramPort",
    "MemoryListener",
    "MemoryTransport",
    "SocketClient",
    "SocketLike",
    "StreamConformance",
    "UnboundedQueue",
    "narrow_socket",
]
