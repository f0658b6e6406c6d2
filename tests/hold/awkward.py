"""Protocols that are awkward to serve: one cannot begin, one blocks the reactor, one tries to get rights back.

The service under test loads them from its working directory (``--listen stuck=awkward:STUCK@tcp:0``).
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from twisted.internet.protocol import Factory, Protocol

from echosvc.protocols import WireProtocol

__all__ = ["BROKEN", "RIGHTS", "STUCK"]


class _Broken(Factory[Protocol]):
    def startFactory(self) -> None:
        raise RuntimeError("cannot begin")


class _Stuck(Protocol):
    """Does nothing, and lets nobody else do anything, for as many seconds as it is told."""

    def dataReceived(self, data: bytes) -> None:
        time.sleep(float(data))


class _Rights(Protocol):
    """Tries to become root in every way there is, and tells what came of it.

    The file "id" in the working directory is a program that is root's and sets the user id.
    """

    def connectionMade(self) -> None:
        tries: dict[str, Callable[[], object]] = {
            "setuid(0)": lambda: os.setuid(0),
            "seteuid(0)": lambda: os.seteuid(0),
            "setgid(0)": lambda: os.setgid(0),
            "setgroups([0])": lambda: os.setgroups([0]),
        }
        got = []
        for name, attempt in tries.items():
            try:
                attempt()
            except PermissionError:
                continue
            got.append(name)
        became = subprocess.run([str(Path("id").resolve()), "-u"], capture_output=True, text=True, check=True)
        assert self.transport is not None
        self.transport.write(json.dumps({"got": got, "became": int(became.stdout)}).encode())
        self.transport.loseConnection()


BROKEN = WireProtocol(name="broken", rfc="none", summary="cannot begin", stream=_Broken)
STUCK = WireProtocol(name="stuck", rfc="none", summary="blocks", stream=lambda: Factory.forProtocol(_Stuck))
RIGHTS = WireProtocol(
    name="rights", rfc="none", summary="wants to be root", stream=lambda: Factory.forProtocol(_Rights)
)
