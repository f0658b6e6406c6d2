"""What a machine may lack: tests that need it are skipped by its name, and all others do without it."""

from __future__ import annotations

import gc
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import skipUnless

from twisted.trial.unittest import SkipTest
from twisted.trial.util import suppress

from echosvc.transports.accepting import SPARE, SpareDescriptor

__all__ = [
    "FAMILIES",
    "FORKING",
    "HAS_IPV6",
    "LOOPBACKS",
    "OTHER_LOOPBACK",
    "UNMEASURED",
    "family_of",
    "needs_ipv6",
    "no_descriptor",
    "open_descriptors",
]


#: For `suppress` of a class whose tests fork: Python warns of it, since 3.12, if earlier tests have left threads. The children here
#: take no lock.
FORKING = [suppress(message=".* use of fork", category=DeprecationWarning)]


def _has_ipv6() -> bool:
    """Docker's default network, for one, has no IPv6 address, not even on the loopback interface."""
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def family_of(host: str) -> socket.AddressFamily:
    """Return the family of a socket for an address.

    Raises:
        SkipTest: The kernel has no such sockets, as one that was started with ipv6.disable=1: it cannot bind ``::`` either.
    """
    if ":" not in host:
        return socket.AF_INET
    try:
        socket.socket(socket.AF_INET6).close()
    except OSError:
        raise SkipTest("this kernel has no IPv6") from None
    return socket.AF_INET6


HAS_IPV6 = _has_ipv6()

#: The loopback addresses that there are.
LOOPBACKS = ("127.0.0.1", "::1") if HAS_IPV6 else ("127.0.0.1",)

#: The families of their sockets.
FAMILIES = tuple(map(family_of, LOOPBACKS))

#: A loopback address beside 127.0.0.1: IPv6's, if there is one.
OTHER_LOOPBACK = "::1" if HAS_IPV6 else "127.0.0.2"

needs_ipv6 = skipUnless(HAS_IPV6, "this machine has no IPv6")

#: The environment of a child that becomes another user: coverage would have it write its data where that user may not.
UNMEASURED = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


def open_descriptors() -> int:
    """Count the descriptors of this process, without those that other tests have left to the garbage collector."""
    gc.collect()
    return len(os.listdir("/dev/fd"))  # noqa: PTH208  # a count; Path would open it twice


@contextmanager
def no_descriptor(spare: SpareDescriptor = SPARE, *, left: int = 0) -> Iterator[None]:
    """Leave this process no descriptor, or so many, beside the spare one that it may have."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    gc.collect()  # what other tests have left is not to go in the middle of this one
    if spare.give_up():
        spare.keep()  # with a number below the limit
    free = [os.dup(0) for _ in range(left + 1)]
    for each in free:
        os.close(each)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[-1], limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
