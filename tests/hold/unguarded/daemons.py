"""What the promises to a service manager rest on."""

from __future__ import annotations

import threading
import time
from typing import Any

from echosvc.service import launching
from echosvc.service.notify import Notifier
from tests.hold.unguarded.registry import guard_of, replace


@guard_of("T30-notify")
def _bind_first() -> None:
    """Who is ready has bound everything."""
    make = Notifier.__init__

    def make_ready(notifier: Any, *arguments: Any) -> None:
        make(notifier, *arguments)
        notifier.ready()
        time.sleep(1)

    replace(Notifier, "__init__", make_ready)


@guard_of("T30-watchdog")
def _ask_the_reactor() -> None:
    """It is the reactor that tells the watchdog. A thread would go on although nobody is served."""
    ready = Notifier.ready

    def tell(notifier: Any) -> None:
        while notifier._socket is not None:
            notifier._send("WATCHDOG=1")
            time.sleep(0.5)

    def ready_in_a_thread(notifier: Any) -> None:
        ready(notifier)
        if notifier._watchdog_loop.running:
            threading.Thread(target=tell, args=(notifier,), daemon=True).start()

    replace(Notifier, "ready", ready_in_a_thread)


@guard_of("T30-rights")
def _forbid_new_privileges() -> None:
    """A program that is executed gets no rights that the service does not have."""
    replace(launching, "forbid_new_privileges", lambda: None)
