"""What the conformance kits share: what is tested, what is expected of it, and how a failure is told."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import Clock
from twisted.python import log

from echosvc.protocols import WireProtocol
from echosvc.testing._expected import ANYTHING, Expected

if TYPE_CHECKING:
    from twisted.trial.unittest import SynchronousTestCase as _TestCase
else:
    _TestCase = object  # the kits are mixins: the test case is the author's choice

__all__ = ["Calls", "Conformance", "TurnedClock", "steps", "ticks"]

#: Seconds that pass at once. What a protocol asks for at the end of one wait begins no later than that.
_TICK = 0.25


class TurnedClock(Clock):
    """A clock that treats timed calls as a reactor does.

    A call that is asked for meanwhile waits for the next turn, so that one that asks for itself again and again
    (``callLater(0, …)``) does not take for ever; and what a call raises is logged.
    """

    def advance(self, amount: float) -> None:
        """Let time pass, and make the calls that are due."""
        self.rightNow += amount
        for call in sorted(self.calls, key=lambda each: each.getTime()):
            if call.active() and call.getTime() <= self.rightNow:
                self.calls.remove(call)
                call.called = True
                try:
                    call.func(*call.args, **call.kw)
                except Exception:  # noqa: BLE001  # whatever a protocol raises
                    log.err()


class Conformance(_TestCase):
    """What every kit asks of its author.

    Attributes:
        wire: What is tested.
        options: The wire protocol's options; None for their defaults.
        patience: Seconds, of a fake clock, within which the protocol does what it does later than at once.
    """

    wire: WireProtocol
    options: Any = None
    patience: float = 60.0

    def expected(self, sent: bytes) -> Expected:
        """Tell what the protocol answers. Override this.

        Args:
            sent: Streams: all that a client has sent before it has finished. Datagrams: the payload of one. The kits
                send `sample`, beginnings and repetitions of it, and bytes that make no sense at all.

        Returns:
            The whole answer; or a compiled pattern that the whole answer matches; None if there is no answer
            (streams: no byte; datagrams: no datagram, for an empty one is an answer); or `ANYTHING`, the default, if
            you make no statement. Answers that vary need a pattern, or a protocol that is made with what they vary by.
        """
        return ANYTHING

    def _hold(self, kept: object, promise: str, instead: str) -> None:
        """Fail if a promise was not kept, and say what a conforming protocol does."""
        if not kept:
            self.fail(f"A conforming protocol {promise}. {instead}")

    def _nothing_raised(self) -> None:
        failures = self.flushLoggedErrors()
        raised = "\n".join(failure.getTraceback() for failure in failures)
        self._hold(not failures, "raises nothing, whatever a client does", f"This was raised:\n{raised}")

    def _wire(self) -> WireProtocol:
        wire = getattr(self, "wire", None)
        if not isinstance(wire, WireProtocol):
            raise TypeError(
                f"{type(self).__name__}.wire is the WireProtocol that is to be tested, not {wire!r}"
            )
        return wire


class Calls:
    """Timed calls that were not there before.

    Args:
        clock: Where a protocol's timed calls belong. Those of the installed reactor are watched, too, if there is one.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._before = self._now()

    def new(self) -> list[IDelayedCall]:
        """Return those that have come since."""
        return [call for call in self._now() if not any(call is old for old in self._before)]

    def _now(self) -> Sequence[IDelayedCall]:
        installed: Any = sys.modules.get("twisted.internet.reactor")  # the reactor itself, not a module
        return [*self._clock.getDelayedCalls(), *(installed.getDelayedCalls() if installed else ())]


def steps(patience: float) -> list[float]:
    """Cut a time into steps that grow: what happens soon is found soon, and little is done for what never happens."""
    return [0.0, *(patience / 2**exponent for exponent in range(6, 0, -1)), patience / 64]


def ticks(seconds: float) -> list[float]:
    """Cut a time into equal pieces that are small enough for timers that start timers."""
    count = max(1, math.ceil(seconds / _TICK))
    return [seconds / count] * count
