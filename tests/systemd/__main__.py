"""The command: ``python -m tests.systemd [--root DIRECTORY] [units | pytest [ARGUMENT …]]``, as root on Debian.

``units`` boots the root with systemd-nspawn, installs the service as docs/operations.md says, and uses it through systemctl.
``pytest`` runs the tests there on Debian's own Python. Needs debootstrap and systemd-container.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from tests.systemd.root import CHECKOUT, PYTHON_INSIDE, Root

__all__ = ["main"]

#: Seconds for everything in the root.
DEADLINE = 1800.0

USAGE = 64  # EX_USAGE
UNAVAILABLE = 69  # EX_UNAVAILABLE

#: Installs the checkout for its developers, and runs the tests.
_PYTEST = f"{PYTHON_INSIDE} -m pip install -q -e '.[dev]'; exec {PYTHON_INSIDE} -m pytest \"$@\""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what was asked for.

    Args:
        arguments: The command line; None for the real one.

    Returns:
        0 if all came out as it should, 1 if something did not, 69 if this machine cannot show it.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tests.systemd", description="Run the units under a real systemd."
    )
    parser.add_argument(
        "--root", type=Path, metavar="DIRECTORY", help="keep the root there for the next time"
    )
    parser.add_argument("what", nargs="?", choices=("units", "pytest"), default="units")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="ARGUMENT", help="of pytest")
    asked = parser.parse_args(arguments)
    missing = [each for each in ("debootstrap", "systemd-nspawn", "apt-get") if shutil.which(each) is None]
    if missing or os.getuid():
        sys.stderr.write(f"tests.systemd: needs root and {', '.join(missing) or 'nothing else'}\n")
        return UNAVAILABLE
    with contextlib.ExitStack() as things:
        place = asked.root or Path(
            things.enter_context(tempfile.TemporaryDirectory(prefix="echosvc-systemd-"))
        )
        root = Root(place.resolve())
        root.make()
        root.copy_checkout()
        if asked.what == "pytest":
            return root.run(["sh", "-ec", _PYTEST, "sh", *asked.rest], DEADLINE)
        return root.boot(
            [PYTHON_INSIDE, "-u", "-m", "tests.systemd.inside", f"{CHECKOUT}/build/files"], DEADLINE
        )


def _interrupted(number: int, frame: FrameType | None) -> None:
    """Leave through every `finally`, so that nothing stays behind."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupted)
    signal.signal(signal.SIGINT, _interrupted)
    sys.exit(main())
