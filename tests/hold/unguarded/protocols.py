"""What the promises about protocols and parsers rest on."""

from __future__ import annotations

import math
import socket
from typing import Any

from echosvc.protocols import chargen
from echosvc.protocols import time as time_protocol
from echosvc.transports import proxy_header
from tests.hold.unguarded.registry import guard_of, replace


@guard_of("T04")
def _send_whole_rings() -> None:
    """What is sent at once ends where it begins."""
    replace(chargen, "_PIECE", chargen.PATTERN[:-74] * 8)


@guard_of("T18")
def _answer_with_no_more() -> None:
    """An answer is no longer than its request."""
    make = chargen.DatagramChargen.__init__

    def make_generous(itself: Any, *arguments: Any, **named: Any) -> None:
        make(itself, *arguments, **named)
        itself._amplify = True

    replace(chargen.DatagramChargen, "__init__", make_generous)


@guard_of("T25", "T25-wire")
def _expect_anything() -> None:
    """A word that is no address is no address, and no mistake of ours."""
    replace(proxy_header, "_packed", lambda family, word: socket.inet_pton(family, word.decode("ascii")))


@guard_of("T26-2036")
def _roll_over() -> None:
    """The time begins again at zero."""
    most, epoch = 2**32 - 1, time_protocol._EPOCH
    replace(
        time_protocol,
        "time_octets",
        lambda now: min(math.floor(now) + epoch, most).to_bytes(4, "big"),
    )
