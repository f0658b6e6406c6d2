"""Starts a command as a service manager does, with sockets that are open already.

``python pass_sockets.py NAME=tcp NAME=udp … -- COMMAND…``: each a socket on 127.0.0.1, on a free port, blocking as
systemd's are. Without names (``=tcp``) LISTEN_FDNAMES is left out, as systemd-socket-activate does. ``NAME=5`` is one that
we have inherited ourselves.
"""

from __future__ import annotations

import os
import socket
import sys

START = 3


def main(arguments: list[str]) -> None:
    """Open, and become the command."""
    end = arguments.index("--")
    names, descriptors = [], []
    for each in arguments[:end]:
        name, _, kind = each.partition("=")
        if kind.isdigit():
            names.append(name)
            descriptors.append(int(kind))
            continue
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        if kind == "tcp":
            sock.listen()
        names.append(name)
        descriptors.append(os.dup(sock.detach()))
    # Out of the way first: a descriptor may stand where another one has to go.
    high = [os.dup2(each, 100 + index) for index, each in enumerate(descriptors)]
    for index, descriptor in enumerate(high):
        os.dup2(descriptor, START + index, inheritable=True)
        os.close(descriptor)
    environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(names))}
    if any(names):
        environment["LISTEN_FDNAMES"] = ":".join(names)
    os.execvpe(arguments[end + 1], arguments[end + 1 :], {**os.environ, **environment})


if __name__ == "__main__":
    main(sys.argv[1:])
