"""A client of a UNIX datagram socket that wants its answers sent elsewhere, in a process of its own.

A program that needs nothing but Python::

    borrower.py HOW PATH FOLDER TARGET UID    asks as a user, in a name that leads elsewhere by the time of the answer

    honest     in the name of a socket of its own, and prints the answer
    relative   in a relative name; TARGET is a socket of that name in the service's own folder
    link       in the name of a socket in FOLDER, which it then replaces by a link to TARGET
    folder     in the name of a socket in a folder, which it then replaces by a link to TARGET's folder
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

#: So many datagrams, most of which are read when the name leads elsewhere.
OFTEN = 200


def main(how: str, path: str, folder: str, target: str, user: int) -> str:
    """Ask, and return what came back, if that was waited for."""
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    os.chdir(folder)
    mine = Path("run") / Path(target).name
    mine.parent.mkdir(exist_ok=True)
    mine.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.settimeout(5.0)
    sock.bind(str(mine) if how == "relative" else f"{folder}/{mine}")
    sock.connect(path)
    if how == "honest":
        sock.send(b"honest")
        return sock.recv(100).decode()
    sock.setblocking(False)
    try:
        for _ in range(OFTEN):
            sock.send(b"stolen")
    except BlockingIOError:
        pass
    if how == "link":
        mine.unlink()
        mine.symlink_to(target)
    elif how == "folder":
        mine.unlink()
        mine.parent.rmdir()
        Path("run").symlink_to(Path(target).parent)
    return ""


if __name__ == "__main__":
    how, path, folder, target, user = sys.argv[1:]
    sys.stdout.write(main(how, path, folder, target, int(user)))
