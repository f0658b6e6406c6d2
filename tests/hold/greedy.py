"""A source that wants everything, in a process of its own.

A program that needs nothing but Python::

    greedy.py HOST PORT SOURCE RATE SECONDS   connects so often in a second; prints how often, how many were let in
                                              and how many got no answer
"""

from __future__ import annotations

import socket
import sys
import time

#: Seconds in which a refusal must have come. Whoever has heard nothing by then is answered, and so was let in.
PATIENCE = 1.0


def connect(host: str, port: int, source: str) -> bool | None:
    """Connect and ask for an echo; return whether there was one, None if nothing at all was heard."""
    with socket.socket() as sock:
        sock.settimeout(PATIENCE)
        sock.bind((source, 0))
        try:
            sock.connect((host, port))
            sock.sendall(b"x")
            return bool(sock.recv(1))
        except TimeoutError:
            return None
        except OSError:
            return False


def main(host: str, port: int, source: str, rate: float, seconds: float) -> str:
    """Connect at a rate, and return what came of it."""
    began = time.monotonic()
    answers: list[bool | None] = []
    while (passed := time.monotonic() - began) < seconds:
        if len(answers) < passed * rate:
            answers.append(connect(host, port, source))
        else:
            time.sleep(0.001)
    return f"{len(answers)} {answers.count(True)} {answers.count(None)}\n"


if __name__ == "__main__":
    sys.stdout.write(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4]), float(sys.argv[5])))
