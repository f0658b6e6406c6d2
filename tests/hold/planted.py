"""What is promised of root's files: a service that root starts writes no pidfile and no log where a user's link leads."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from pathlib import Path

from tests.hold.forge import needs_root
from tests.hold.lifecycle import NO_PERMISSION, NOBODY
from tests.hold.promise import kept, promise
from tests.hold.run import Run
from tests.hold.service import START, Server, listening, twistd

__all__ = ["planted"]


@promise(
    "LIFE-planted",
    "started as root it writes no pidfile and no log through a user's link, nor where a user could put one, and says why in one line",
    deadline=120,
    unguarded=r"--pidfile \S+/to-a-folder/created: it serves, written: created",
)
def planted(run: Run) -> str:
    """A user has put links to a file of root's, to one that is not there, and to a folder of root's; or has not yet."""
    needs_root()
    roots, users = run.directory / "roots", run.directory / "users"
    roots.mkdir()
    users.mkdir()
    (users / "to-a-file").symlink_to(roots / "file")
    (users / "to-nothing").symlink_to(roots / "created")
    (users / "to-a-folder").symlink_to(roots)
    (roots / "to-a-user").symlink_to(users)
    os.chown(users, NOBODY, NOBODY)
    names = ["to-a-file", "to-nothing", "to-a-folder/created", "not-yet", "../roots/to-a-user/not-yet"]
    wrong = []
    for option in ("--pidfile", "--logfile"):
        for name in names:
            run.step = f"{option} {name}"
            (roots / "file").write_bytes(b"")
            fault = _fault(run, f"{option}={users / name}")
            written = [each.name for each in roots.iterdir() if each.name not in ("file", "to-a-user")]
            written += ["file"] * bool((roots / "file").stat().st_size)
            if fault or written:
                wrong.append(
                    f"{option} {users / name}: {fault or 'refused'}, written: {', '.join(written) or '-'}"
                )
            (roots / "created").unlink(missing_ok=True)
    kept(not wrong, "; ".join(wrong))
    return f"2 files under {len(names)} names each: all refused with {NO_PERMISSION}, nothing was written"


def _fault(run: Run, option: str) -> str:
    """Start the service in the foreground; tell what is wrong with how it is refused, or nothing."""
    name = option.partition("=")[2]
    options = ["--pidfile=", option, f"--uid={NOBODY}", f"--gid={NOBODY}"]
    directory = Path(tempfile.mkdtemp(dir=run.directory))
    server = Server([*twistd(), "-n", *options, "echosvc", "--port", "0"], directory)
    until = time.monotonic() + START
    with contextlib.closing(server):
        while server.alive() and time.monotonic() < until:
            if listening(server.log() + _text(Path(name))):
                return "it serves"
            time.sleep(0.02)
        if server.alive():
            return "it neither serves nor ends"
        code, lines = server.stop(), server.log().splitlines()
    if code != NO_PERMISSION:
        return f"it ended with {code}"
    return "" if len(lines) == 1 and name in lines[0] else f"it says {lines[:3]}"


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
