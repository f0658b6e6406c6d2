"""What the promises rest on that are about what surrounds the service: its clock, its log, its system's calls."""

from __future__ import annotations

import contextlib
import os
import time
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from echosvc import tap
from echosvc.admin import server
from echosvc.admission import gate
from echosvc.listeners import inherited, listener, unix_sockets
from echosvc.observe import flood, log_guard
from echosvc.transports.datagram import DatagramPort
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


@guard_of("ADMIN-host")
def _look_at_the_host() -> None:
    """A browser names the host whose page it shows."""
    replace(server, "is_loopback_host", lambda host: True)


@guard_of("PROXY-unix")
def _bind_with_a_mode() -> None:
    """A socket file has the rights that its endpoint says."""
    replace(unix_sockets, "_umask", lambda mask: contextlib.nullcontext(os.umask(0)))


@guard_of("ADOPTED")
def _set_options() -> None:
    """Options that an adopted socket brings along are set as on one of our own."""
    replace(inherited, "set_adopted_options", lambda sock: None)
    replace(listener, "set_connection_options", lambda sock: None)
    replace(DatagramPort, "_drain_error_queue", lambda port: False)
