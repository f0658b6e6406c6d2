"""What the promises rest on that are about what surrounds the service: its clock, its log, its system's calls."""

from __future__ import annotations

import time
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from echosvc import tap
from echosvc.admission import gate
from echosvc.observe import flood, log_guard
from echosvc.transports.stream import StreamPort
from tests.hold.unguarded.datagrams import _bear_what_cannot_be_sent
from tests.hold.unguarded.registry import guard_of, replace


@guard_of("T23")
def _bear_errors() -> None:
    """What the system refuses is counted, and that is all."""
    _bear_what_cannot_be_sent()

    def fail(port: Any, problem: OSError) -> None:
        raise problem

    replace(StreamPort, "_cannot_accept", fail)


@guard_of("T24-hostile")
def _escape() -> None:
    """What is logged is made safe to print."""
    replace(log_guard, "safe_event", lambda event: event)


@guard_of("T24-flood")
def _hold_back() -> None:
    """What is logged too often is held back."""
    replace(flood, "ENTRIES", 10**9)


@guard_of("T24-sinks")
def _wait_for_no_reader() -> None:
    """Nobody waits for whoever reads the log, and what cannot be logged is borne."""
    replace(log_guard.LogGuard, "start", lambda guard: None)


@guard_of("UNITS-features")
def _write_no_code() -> None:
    """TLS needs no memory that is written and then executed, as callbacks of cffi (pyOpenSSL's) do."""
    from echosvc.listeners.certificates import Certificates  # noqa: PLC0415  # needs an extra

    make: Any = Certificates.__init__

    def make_with_callback(*arguments: Any, **more: Any) -> None:
        import_module("cffi").FFI().callback("void(void)", lambda: None)
        make(*arguments, **more)

    replace(Certificates, "__init__", make_with_callback)


@guard_of("T26")
def _go_by_a_clock_that_is_not_set() -> None:
    """Time is told by a clock that nobody sets."""
    replace(tap, "time", SimpleNamespace(monotonic=time.time))
    make: Any = gate.Gate.__init__
    make.__kwdefaults__["seconds"] = time.time


@guard_of("T26-stop")
def _count_only_time_of_service() -> None:
    """The time in which nobody could be heard is nobody's idleness."""

    def smallest(first: Any, *others: Any, **how: Any) -> Any:
        return first if others else min(first, **how)

    vars(gate)["min"] = smallest
