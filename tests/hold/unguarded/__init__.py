"""The service without one of its guards: what a promise rests on is switched off, so that its test must fail.

A guard is switched off from outside, in the process that serves: the service itself has no switch for it. Each
function here takes one thing away, at the place that does it; its docstring says what holds as long as it is there.
"""

from __future__ import annotations

from tests.hold.unguarded import daemons as daemons
from tests.hold.unguarded import datagrams as datagrams
from tests.hold.unguarded import lifecycle as lifecycle
from tests.hold.unguarded import protocols as protocols
from tests.hold.unguarded import streams as streams
from tests.hold.unguarded import surroundings as surroundings
from tests.hold.unguarded import tls as tls
from tests.hold.unguarded import unix as unix
from tests.hold.unguarded.registry import GUARDS, switch_off

__all__ = ["GUARDS", "switch_off"]
