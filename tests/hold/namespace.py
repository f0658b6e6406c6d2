"""A network namespace of our own, in which nobody else's packets and rules are. Needs root and ``ip``."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.hold.forge import needs_root
from tests.hold.promise import Skipped

__all__ = ["Namespace", "namespace"]

_CLONE_NEWNET = 0x40000000


class Namespace:
    """A network namespace.

    Args:
        name: Its name, as ``ip netns`` knows it.

    Attributes:
        name: As given.
        command: A command that runs a command inside.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.command = ("ip", "netns", "exec", name)

    def ip(self, *arguments: str) -> None:
        """Run ``ip`` inside."""
        run_ip("-n", self.name, *arguments)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Be inside with this thread. A socket that is made here stays here."""
        libc = ctypes.CDLL(None, use_errno=True)
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(Path("/run/netns") / self.name, os.O_RDONLY)
        try:
            if libc.setns(there, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            yield
        finally:
            libc.setns(here, _CLONE_NEWNET)
            os.close(there)
            os.close(here)


@contextlib.contextmanager
def namespace() -> Iterator[Namespace]:
    """Make a namespace with its loopback up, and remove it, with every link that ends in it.

    Raises:
        Skipped: Not root, no ``ip``, or the system does not allow it.
    """
    needs_root()
    if shutil.which("ip") is None:
        raise Skipped("needs ip (iproute2)")
    space = Namespace(f"hold-{os.getpid()}")
    try:
        run_ip("netns", "add", space.name)
    except subprocess.CalledProcessError as problem:
        raise Skipped(f"cannot make a network namespace: {problem.stderr.strip()}") from problem
    try:
        space.ip("link", "set", "lo", "up")
        yield space
    finally:
        run_ip("netns", "del", space.name)


def run_ip(*arguments: str) -> None:
    """Run ``ip``.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
