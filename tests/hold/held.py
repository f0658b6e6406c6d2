"""What is promised of the memory that the kernel holds for clients, beside what the process holds."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time

from tests.hold.carriers import listener
from tests.hold.clients import IPV4, answers, connect, in_threads, receive_all, send_all_and_shut
from tests.hold.kernel import held_memory
from tests.hold.programs import reset_at_end
from tests.hold.promise import kept, promise
from tests.hold.run import Run

__all__ = ["kernel_memory", "may_hold"]

MIB = 1024 * 1024

#: Clients that send and never read, and bytes that may be held for all of them.
GREEDY, BOUND = 60, 16 * MIB

#: Seconds in which the bound holds again: what does not move counts after 3, and is looked at twice a second.
SECONDS = 8.0

#: Bytes over the bound that may be left: what honest clients have on their way, which never counts.
HONEST = 16 * MIB


def may_hold(run: Run, most: int, *, stall_timeout: float = 300) -> tuple[str, ...]:
    """Tell the service, in options, how much it may hold for all clients.

    Args:
        run: Has a directory for the file.
        most: Bytes.
        stall_timeout: Of all listeners, in seconds.
    """
    lines = ["[limits]", f"max-queued = {most}", "[defaults]", f"stall-timeout = {stall_timeout}"]
    where = (listener(run.carrier, run.directory) or "echo=tcp:0").removeprefix("echo=")
    where = where.replace("=server.", f"={run.directory}/server.")
    lines += ["[[listener]]", 'protocol = "echo"', f'endpoint = "{where}"']  # a file without any is refused
    config = run.directory / "held.toml"
    config.write_text("\n".join(lines))
    # The file's defaults are those of its own listeners.
    return "--config", str(config), "--stall-timeout", str(stall_timeout)


@promise(
    "T11-kernel",
    f"{GREEDY} clients that send and never read, and {BOUND // MIB} MiB for all: within {SECONDS:g} s process and kernel hold no more for them,"
    " and honest bulk clients meanwhile get everything",
    deadline=90,
    unguarded=r"held \d{3,} MiB",
)
def kernel_memory(run: Run) -> str:
    """Those that hold the most are aborted, under the reason `memory`."""
    server = run.serve(*may_hold(run, BOUND), "--max-per-source", "1000")
    payload = os.urandom(8_000_000)
    whole: list[bool] = []
    highest = 0

    def bulk(_: int) -> None:
        with connect(IPV4, server.tcp) as sock:
            sender = threading.Thread(target=send_all_and_shut, args=(sock, payload), daemon=True)
            sender.start()
            whole.append(receive_all(sock, len(payload)) == payload)
            sender.join()

    with contextlib.ExitStack() as opened:
        greedy = [opened.enter_context(reset_at_end(connect(IPV4, server.tcp))) for _ in range(GREEDY)]
        for sock in greedy:
            sock.setblocking(False)
        over = time.monotonic() + SECONDS
        honest = threading.Thread(target=lambda: in_threads(bulk, count=20, at_once=2), daemon=True)
        honest.start()
        while time.monotonic() < over:
            for sock in greedy:
                with contextlib.suppress(OSError):
                    sock.send(bytes(MIB))
            highest = max(highest, held_memory(server.place))
            time.sleep(0.02)
        honest.join()
        left = held_memory(server.place)
        ended = sum(_is_reset(sock) for sock in greedy)
        answers(server.tcp, server.udp)
    figures = (
        f"held {left / MIB:.0f} MiB, {highest / MIB:.0f} at most; {ended} of {GREEDY} aborted;"
        f" {sum(whole)} of 20 honest bulk clients got all of {len(payload) / 1e6:.0f} MB"
    )
    kept(left <= BOUND + HONEST and sum(whole) == 20 and ended < GREEDY, figures)
    return figures


def _is_reset(sock: socket.socket) -> bool:
    try:
        sock.send(b"x")
    except BlockingIOError:
        return False
    except OSError:
        return True
    return False
