"""How many connections this process can have: so many that it never runs out of descriptors.

Then nobody is accepted whom we cannot serve, and there is always one left for a log that is rotated or a certificate that is
read.
"""

from __future__ import annotations

import resource
from pathlib import Path

from echosvc.admission.quota import overbooked

__all__ = ["DEFAULT_MAX_CONNECTIONS", "provide_for"]

#: As many as one address can have to one port of ours. Idle, they are 128 MiB with us, and more in the kernel.
DEFAULT_MAX_CONNECTIONS = 65_536

#: Descriptors that are kept free for what is opened while we run: logs, certificates, lists, names that are looked up.
SPARE = 16

#: Descriptors that are open where nobody can say how many are.
FEW = 32


def provide_for(connections: int, ceiling: int | None = None, spare: int = 0) -> int:
    """Raise the limit of descriptors (RLIMIT_NOFILE) so far that there is one for each connection.

    The soft limit is only that low by tradition, for programs that call select(2); what the administrator means is the hard
    one. It is raised as far as is needed, and never lowered.

    Args:
        connections: How many are wanted.
        ceiling: Descriptors beyond which none can be used, whatever the limit; None if all can.
        spare: Descriptors that are kept free besides `SPARE`.

    Returns:
        How many there can be: as many, or fewer if the hard limit is too low; at least one.
    """
    ours = _open_now() + SPARE + spare
    wanted = connections + overbooked(connections) + ours
    room = _raise_to(wanted if ceiling is None else min(wanted, ceiling)) - ours
    while connections > 1 and connections + overbooked(connections) > room:
        connections = max(1, min(connections - 1, room))
    return connections


def _raise_to(wanted: int) -> int:
    """Raise the limit if need be and as far as may be; return what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    possible = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    except (
        OSError,
        ValueError,
    ):  # forbidden, by a filter of system calls for one; or more than the system has
        return soft
    return possible


def _open_now() -> int:
    try:
        return sum(1 for _ in Path("/dev/fd").iterdir())
    except OSError:
        return FEW
