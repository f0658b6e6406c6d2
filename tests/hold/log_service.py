"""The service with protocols that log what peers send, logging to whatever a promise wants it to log to."""

from __future__ import annotations

import contextlib
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.hold.clients import IPV4, connect, receive_exactly
from tests.hold.promise import kept
from tests.hold.run import Run
from tests.hold.service import START, NotServing, Server, free_ports, twistd
from tests.hold.talkative import SOCKET

__all__ = ["ENTRY", "Logging", "start_logging"]

#: What `Logging.say_much` has logged.
ENTRY = b"x" * 400

_TALKATIVE = Path(__file__).with_name("talkative.py")


@dataclass(frozen=True)
class Logging:
    """The running service.

    Attributes:
        server: Its process. What it has written to standard output is its log, if that was not sent elsewhere.
        directory: Where it runs.
        echo: The port of echo, TCP and UDP.
        talk: The port of `talkative.Stream` and `talkative.Datagram`.
        many: The port of `talkative.Many`.
        proxied: The port of `talkative.Stream` behind the PROXY protocol.
    """

    server: Server
    directory: Path
    echo: int
    talk: int
    many: int
    proxied: int

    def say_much(self) -> None:
        """Have 90 kB logged, 200 entries from as many lines of code, and wait for that.

        The fifth time is the last: the service lets no more than five entries from one line through in a minute.

        Raises:
            Broken: It does not answer.
        """
        with connect(IPV4, self.many) as sock:
            sock.sendall(ENTRY)  # one read: what comes in two is logged twice
            kept(receive_exactly(sock, 4) == b"said", "it answers wrong")

    def stop(self) -> None:
        """End it.

        Raises:
            Broken: Not with exit code 0.
        """
        kept(self.server.alive(), "the service is dead")
        code = self.server.stop()
        kept(code == 0, f"SIGTERM ended the service with {code} in place of 0")


def start_logging(
    run: Run,
    twistd_options: Sequence[str] = (),
    *,
    options: Sequence[str] = (),
    prefix: Sequence[str] = (),
    output: str = "",
) -> Logging:
    """Start the service, or the control, and wait until it listens.

    What it logs has tracebacks, as it must: it is not judged by the runner, but stopped.

    Args:
        run: Stops it.
        twistd_options: Where to log to, as twistd has it. The control has no choice.
        options: How to log, as the service has it. Nor has it here.
        prefix: A command that starts the command.
        output: Where to send its standard output and standard error.
    """
    directory = Path(tempfile.mkdtemp(prefix="logging-", dir=run.directory))
    shutil.copy(_TALKATIVE, directory)
    ports = free_ports(4)
    echo, talk, many, proxied = ports
    listeners = (
        f"echo=tcp:{echo}",
        f"echo=udp:{echo}",
        f"stream=talkative:Stream@tcp:{talk}",
        f"datagram=talkative:Datagram@udp:{talk}",
        f"many=talkative:Many@tcp:{many}",
        f"proxied=talkative:Stream@haproxy:tcp:{proxied}",
        f"file=talkative:Stream@unix:{SOCKET}",
    )
    if run.control:
        command = [sys.executable, "-P", "talkative.py", *map(str, (echo, talk, many))]
    else:
        asked = [word for each in listeners for word in ("--listen", each)]
        command = [*twistd(), "-n", "--pidfile=", *twistd_options, "echosvc", *options, *asked]
    redirect = ("sh", "-c", 'exec "$@" >"$0" 2>&1', output) if output else ()
    # Unbuffered, Python does not say when a pipe takes nothing more.
    server = Server(["env", "-u", "PYTHONUNBUFFERED", *prefix, *redirect, *command], directory)
    run.using(contextlib.closing(server))
    until = time.monotonic() + START
    while not _listens(many) or not _listens(echo):
        if time.monotonic() > until or not server.alive():
            raise NotServing(f"the server does not listen: {server.log().strip()[-300:]}")
        time.sleep(0.02)
    return Logging(server, directory, *ports)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((IPV4, port), timeout=1):
        return True
    return False
