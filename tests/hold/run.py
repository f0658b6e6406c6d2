"""What a promise has to work with: a server, a directory, and a place to say how far it is."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from tests.hold.carriers import Carrier, listener
from tests.hold.service import Server, start_control, start_service
from tests.hold.xinetd import Xinetd

__all__ = ["Run", "Subject"]

T = TypeVar("T")

#: Seconds of silence before the first word on standard error, and between two.
PATIENCE = 2.0


class Subject(Enum):
    """Who is held to a promise; the value is what it is called."""

    SERVICE = "echosvc"
    STOCK = "stock Twisted"
    XINETD = "xinetd"
    UNGUARDED = "without its guard"


class Run:
    """One promise being shown.

    Args:
        name: The promise's name.
        directory: An empty directory of its own.
        subject: Who is held to it.
        long: Take minutes where seconds give a first idea.
        carrier: Over what clients connect.

    Attributes:
        name: As given.
        directory: As given.
        subject: As given.
        control: Somebody else's server is held to it, which knows none of our options.
        long: As given.
        carrier: As given.
        servers: Everything started with `serve`, to be judged and stopped by the runner.
        step: What is being done, for a person who waits.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        *,
        subject: Subject = Subject.SERVICE,
        long: bool = False,
        carrier: Carrier = Carrier.TCP,
    ) -> None:
        self.name = name
        self.directory = directory
        self.subject = subject
        self.control = subject in (Subject.STOCK, Subject.XINETD)
        self.long = long
        self.carrier = carrier
        self.servers: list[Server] = []
        self.step = ""
        self._things = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Begin to say how far it is."""
        self.using(_saying(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything that was started, whatever happened."""
        self._things.close()

    def using(self, thing: contextlib.AbstractContextManager[T]) -> T:
        """Enter a context that is left when the promise is through, even on Ctrl-C."""
        return self._things.enter_context(thing)

    def serve(
        self, *options: str, prefix: tuple[str, ...] = (), timer: bool = False, limits: bool = False
    ) -> Server:
        """Start the service on a free port, or the other server when this is a control.

        Args:
            options: What else to tell the service. The others know none of them.
            prefix: A command that starts the command, for example ``ip netns exec NAME``.
            timer: Watch the reactor by a timer (`Server.timer_lateness`). The others have none.
            limits: Leave xinetd the limits that it comes with: they are what is tried.

        Returns:
            The server, listening on TCP and UDP, and over the promise's own carrier.
        """
        directory = self.server_directory()
        if self.subject is Subject.XINETD:
            server: Server = Xinetd(directory, prefix, limits=limits)
        elif self.subject is Subject.STOCK:
            server = start_control(directory, prefix)
        else:
            where = listener(self.carrier, directory)
            more = ("--listen", where) if where and "--config" not in options else ()
            server = start_service(directory, (*options, *more), prefix, timer=timer)
        self.watch(server)
        server.wait_until_listening(self.carrier)
        return server

    def server_directory(self) -> Path:
        """Make a directory for one more server."""
        directory = self.directory / f"server-{len(self.servers)}"
        directory.mkdir()
        return directory

    def watch(self, server: Server) -> None:
        """Have a server judged and stopped by the runner."""
        self.servers.append(server)
        self.using(contextlib.closing(server))


@contextlib.contextmanager
def _saying(run: Run) -> Iterator[None]:
    """Write now and then what takes so long."""
    started = time.monotonic()
    done = threading.Event()

    def say() -> None:
        while not done.wait(PATIENCE):
            waited = time.monotonic() - started
            sys.stderr.write(f"{run.name}: {waited:.0f} s {run.step}".rstrip() + "\n")

    thread = threading.Thread(target=say, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
