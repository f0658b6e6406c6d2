"""What is promised where an address means something only together with its link: fe80::/10."""

from __future__ import annotations

import os

from tests.hold.clients import HOSTS, one_datagram, ping
from tests.hold.namespace import namespace, run_ip
from tests.hold.promise import Skipped, kept, promise
from tests.hold.run import Run

__all__ = ["link_local"]

#: The service's end of the link and the client's.
OURS, THEIRS = "fe80::e1", "fe80::e2"


@promise(
    "LINK",
    "link-local IPv6, UDP and TCP: a neighbour on a link is answered over that link",
    deadline=30,
)
def link_local(run: Run) -> str:
    """The neighbour lives in a network namespace at the other end of a veth pair."""
    if "IPv6" not in HOSTS:
        raise Skipped("needs IPv6")
    space = run.using(namespace())
    here, there = f"hold{os.getpid()}", "client"
    run_ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", space.name)
    # nodad: otherwise the addresses are tentative for a second, and cannot be used.
    run_ip("address", "add", f"{OURS}/64", "dev", here, "nodad")
    space.ip("address", "add", f"{THEIRS}/64", "dev", there, "nodad")
    run_ip("link", "set", here, "up")
    space.ip("link", "set", there, "up")
    server = run.serve()
    asked = f"{OURS}%{there}"
    with space.inside():
        sizes = (0, 1, 1000, 1452, 9000)
        answered = [size for size in sizes if one_datagram(asked, server.udp, bytes(size)) == bytes(size)]
        kept(answered == list(sizes), f"of the datagrams of {sizes} bytes only {answered} were answered")
        pings = ping(asked, server.tcp, count=20, interval=0)
    return f"{asked}: {len(answered)}/{len(sizes)} datagrams, {len(pings.seconds)}/20 TCP pings"
