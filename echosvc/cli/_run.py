"""Run the reactor for one piece of work, with Ctrl-C that always works and time that never jumps."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Coroutine
from functools import partial
from threading import Thread
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from echosvc.cli._output import GLANCE, Output
from echosvc.errors import Interrupted

__all__ = ["run"]

_T = TypeVar("_T")


def run(start: Callable[[Any], Coroutine[Any, Any, _T]], output: Output) -> _T:
    """Run the global reactor until a piece of work is done.

    Ctrl-C cancels it. Work that has something to say then (a summary) may still succeed.

    Args:
        start: Begins the work, given the reactor.
        output: Where the work writes. Ctrl-C also ends a write that waits for its reader.

    Returns:
        What it returned.

    Raises:
        Interrupted: Ctrl-C cancelled it before it was done.
        Exception: What it raised.
    """
    from twisted.internet import reactor as installed  # noqa: PLC0415  # installs it: only here

    reactor: Any = installed
    reactor.seconds = time.monotonic  # timers must not follow a clock that somebody sets
    _do_not_wait_for_lookups(reactor)
    outcome: list[_T | Failure] = []
    interrupted = False

    def begin() -> None:
        work = Deferred.fromCoroutine(start(reactor))

        def cancel() -> None:
            nonlocal interrupted
            interrupted = True
            work.cancel()

        def on_sigint(*_: object) -> None:
            output.interrupted = True  # at once: the reactor may be waiting for whoever reads the output
            reactor.callFromThread(cancel)

        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as a shell sets it for "command &"
            signal.signal(signal.SIGINT, on_sigint)
            LoopingCall(lambda: None).start(GLANCE)  # waiting for the network is interrupted now and then
        work.addBoth(finish)

    def finish(result: _T | Failure) -> None:
        outcome.append(result)
        reactor.stop()

    reactor.callWhenRunning(begin)
    reactor.run(installSignalHandlers=False)
    (result,) = outcome
    if not isinstance(result, Failure):
        return result
    if interrupted:
        raise Interrupted
    raise cast("BaseException", result.value)


def _do_not_wait_for_lookups(reactor: Any) -> None:
    """Let the end of the program leave behind a name server that does not answer.

    The reactor joins the threads of its pool when it stops, and Python those that are not daemons. Nothing
    but name lookups uses them here.
    """
    reactor.getThreadPool().threadFactory = partial(Thread, daemon=True)
    reactor.removeSystemEventTrigger(reactor.threadpoolShutdownID)
