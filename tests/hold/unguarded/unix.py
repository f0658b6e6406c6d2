"""What the promises about UNIX sockets rest on."""

from __future__ import annotations

import os
from collections.abc import Iterable

from echosvc.transports import rights
from tests.hold.unguarded.registry import guard_of, replace


@guard_of("before Linux 6.16")
def _refuse() -> None:
    """The kernel refuses descriptors."""
    replace(rights, "SO_PASSRIGHTS", 0x7FFF)  # no kernel has an option of this number


@guard_of("UNIX-descriptors", "UNIX-received")
def _close_apart() -> None:
    """Descriptors are refused, or closed where nothing waits for that."""
    _refuse()

    def close(_: rights.SentDescriptors, descriptors: Iterable[int]) -> None:
        for each in descriptors:
            os.close(each)

    replace(rights.SentDescriptors, "close", close)
