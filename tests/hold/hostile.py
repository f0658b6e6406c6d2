"""What is promised in the face of forgeries and refusals: no loop, no traceback."""

from __future__ import annotations

import re
import socket
import time

from tests.hold.clients import HOSTS, IPV4, NOT_TRIED, answers
from tests.hold.forge import forge, needs_root
from tests.hold.kernel import datagrams_sent
from tests.hold.namespace import namespace
from tests.hold.promise import kept, promise
from tests.hold.run import Run

__all__ = ["own_ports", "send_errors"]

#: Datagrams that others on this machine may send in a second. A loop makes a hundred thousand.
OTHERS = 10

#: Whom a forged datagram claims to come from, and where it goes.
ROUTES = (("127.0.0.5", IPV4), (IPV4, "127.0.0.5"), *((each, each) for each in HOSTS.values()))


@promise(
    "T16",
    "a datagram in the name of our own port, or of port 0, is dropped and counted: no loop is possible",
    deadline=30,
    stock=r"^1 forged datagram .* \d{4,} datagrams",
    # It does not loop with itself: it throws away what has come before it had answered. But it answers, and counts nothing.
    xinetd=r"^\d+ forged datagrams caused [1-9]\d* datagrams in 1 s; counted: (;|$)",
    unguarded=r"\d{4,} datagrams",
)
def own_ports(run: Run) -> str:
    """How many datagrams this machine sends is counted by the kernel."""
    needs_root()
    server = run.serve()
    before = datagrams_sent()
    forge(IPV4, server.udp, IPV4, server.udp, b"loop?")
    time.sleep(1)
    sent = datagrams_sent() - before
    kept(sent <= OTHERS, f"1 forged datagram caused {sent} datagrams in 1 s")
    before = datagrams_sent()
    for source, host in ROUTES:
        for _ in range(10):
            forge(source, server.udp, host, server.udp, b"loop?")
            forge(source, 0, host, server.udp, b"zero?")
    time.sleep(1)
    forged = 20 * len(ROUTES)
    sent = datagrams_sent() - before
    figures = f"{forged} forged datagrams caused {sent} datagrams in 1 s"
    kept(sent <= forged, figures)
    answers(server.tcp, server.udp)
    server.stop()
    counted = dict(re.findall(r"(source-port-\w+) (\d+)", server.log()))
    figures += (
        f"; counted: {', '.join(f'{reason} {number}' for reason, number in counted.items())}{NOT_TRIED}"
    )
    half = forged // 2
    kept(counted == {"source-port-own": str(half + 1), "source-port-zero": str(half)}, figures)
    return figures


@promise(
    "T23-send",
    "what the system refuses to send is counted by name: no traceback, no dead port",
    deadline=30,
    stock=r"^counted: ; [1-9]\d* tracebacks$",
    unguarded=r"^counted: ;",
)
def send_errors(run: Run) -> str:
    """In a network namespace whose rules forbid some of the answers."""
    needs_root()
    space = run.using(namespace())
    refusing = {"10.99.0.2": "prohibit", "10.99.0.3": "unreachable", "10.99.0.4": "blackhole"}
    for host in ("10.99.0.1", *refusing):
        space.ip("address", "add", f"{host}/32", "dev", "lo")
    # Rules of ours have to stand before the one for local addresses, which is number 0.
    space.ip("rule", "add", "pref", "100", "lookup", "local")
    space.ip("rule", "del", "pref", "0")
    for number, (host, refusal) in enumerate(refusing.items()):
        space.ip("rule", "add", "pref", str(10 + number), "to", host, refusal)
    server = run.serve(prefix=space.command)
    for host in refusing:
        with space.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((host, 0))
            for _ in range(100):
                sock.sendto(b"answer me", ("10.99.0.1", server.udp))
    with space.inside():
        for _ in range(100):  # gone before the answer comes: ICMP port unreachable
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(b"answer me", (IPV4, server.udp))
            forge(IPV4, 0, IPV4, server.udp, b"zero?")
        answers(server.tcp, server.udp)
    server.stop()
    counted = dict(re.findall(r"(send-\w+) (\d+)", server.log()))
    figures = (
        f"counted: {', '.join(f'{reason} {number}' for reason, number in sorted(counted.items()))};"
        f" {server.log().count('Traceback')} tracebacks"
    )
    kept(sum(map(int, counted.values())) == 100 * len(refusing), figures)
    return figures
