"""A source that wants everything, in a process of its own.

A program that needs nothing but Python::

    greedy.py PLACE SOURCE RATE SECONDS       connects so often in a second; prints how often, how many were let in
                                              and how many got no answer
"""

from __future__ import annotations

import sys
import time

from tests.hold.carriers import Place, dial

#: Seconds in which a refusal must have come. Whoever has heard nothing by then is answered, and so was let in.
PATIENCE = 1.0


def connect(place: Place, source: str) -> bool | None:
    """Connect and ask for an echo; return whether there was one, None if nothing at all was heard."""
    try:
        with dial(place, source=source, patience=PATIENCE) as sock:
            sock.sendall(b"x")
            return bool(sock.recv(1))
    except TimeoutError:
        return None
    except OSError:
        return False


def main(place: Place, source: str, rate: float, seconds: float) -> str:
    """Connect at a rate, and return what came of it."""
    began = time.monotonic()
    answers: list[bool | None] = []
    while (passed := time.monotonic() - began) < seconds:
        if len(answers) < passed * rate:
            answers.append(connect(place, source))
        else:
            time.sleep(0.001)
    return f"{len(answers)} {answers.count(True)} {answers.count(None)}\n"


if __name__ == "__main__":
    sys.stdout.write(main(Place.parse(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4])))
