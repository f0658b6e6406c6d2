"""What happens to a service besides its features: wrong files, crashes, restarts, stops."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time

from tests.hold.clients import IPV4, answers, connect, receive_exactly
from tests.hold.feature_uses import PORT
from tests.hold.features import Words
from tests.hold.promise import Broken, kept
from tests.systemd.manager import ETC, Service, call

__all__ = ["crash", "executable_memory", "restart", "stop", "wrong_file"]

_PIECE = b"x" * 10_000


def wrong_file(service: Service) -> str:
    """A wrong file fails a reload, which changes nothing, and a start, which is not tried again."""
    service.prepare(Words())
    service.restart()
    pid = service.pid()
    file = ETC / service.unit.replace(".service", ".toml")
    file.write_text("nonsense = 1\n")
    try:
        call("systemctl", "reload", service.unit)
    except Broken:
        answers(7, 7)
        kept(service.pid() == pid, "the reload has started another process")
    else:
        raise Broken("systemctl reload does not fail")
    call("systemctl", "stop", *service.units)
    try:
        call("systemctl", "start", service.unit)
    except Broken:
        service.wait_until("failed")
    else:
        raise Broken("systemctl start does not fail")
    code, again = service.show("ExecMainStatus"), service.show("NRestarts")
    kept((code, again) == ("78", "0"), f"exit code {code}, {again} more starts")
    service.prepare(Words())
    call("systemctl", "reset-failed", *service.units)
    call("systemctl", "start", *service.units)
    return "the reload fails and the service goes on; the start fails with 78 and is not repeated"


#: A protocol that needs what MemoryDenyWriteExecute= refuses, and fails as callbacks of cffi (pyOpenSSL's) do.
_WANTS_CODE = """\
import mmap
from twisted.internet.protocol import Factory, Protocol
from echosvc.protocols import WireProtocol

class WantsCode(Factory):
    protocol = Protocol

    def startFactory(self):
        try:
            mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        except PermissionError:
            raise MemoryError("Cannot allocate write+execute memory") from None

WIRE = WireProtocol(name="code", rfc="none", summary="wants code", stream=WantsCode)
"""


def executable_memory(service: Service) -> str:
    """Start it with a protocol of others that needs memory which is written and executed: one line, and no second try."""
    service.prepare(
        Words(listeners=f'[[listener]]\nprotocol = "wants_code:WIRE"\nendpoint = "tcp:{PORT}"\n'),
        f"Environment=PYTHONPATH={ETC}\n",
    )
    (ETC / "wants_code.py").write_text(_WANTS_CODE)
    try:
        service.restart()
    except Broken as refused:
        time.sleep(3)  # RestartSec=1
        code, again = service.show("ExecMainStatus"), service.show("NRestarts")
        kept((code, again) == ("77", "0"), f"exit code {code}, {again} more starts: {refused}")
        return str(refused)
    raise Broken("it starts: memory can be written and executed")


def crash(service: Service) -> str:
    """Kill it: systemd starts it again, and what it has left behind does not stand in the way."""
    service.prepare(Words(listeners='[[listener]]\nprotocol = "echo"\nendpoint = "unix:{run}/echo.sock"\n'))
    service.restart()
    pid = service.pid()
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    for _ in range(300):
        if service.pid() not in (0, pid) and service.show("ActiveState") == "active":
            break
        time.sleep(0.1)
    else:
        raise Broken("it is not started again")
    took = time.monotonic() - began
    answers(7, 7)
    return f"serves again after {took:.1f} s (RestartSec=1)"


def restart(service: Service) -> str:
    """Restart it while clients connect all the time, and one is in the middle."""
    service.prepare(Words())
    service.restart()
    sockets = len(service.units) > 1
    done = threading.Event()
    served, refused, slowest = 0, 0, 0.0

    def come_and_go() -> None:
        nonlocal served, refused, slowest
        for _ in range(6000):
            began = time.monotonic()
            try:
                with connect(IPV4, 7) as sock:
                    sock.sendall(_PIECE)
                    receive_exactly(sock, len(_PIECE))
                served += 1
                slowest = max(slowest, time.monotonic() - began)
            except (OSError, Broken):
                refused += 1
            if done.wait(0.01):
                return

    thread = threading.Thread(target=come_and_go)
    with connect(IPV4, 7) as busy:
        busy.sendall(_PIECE)
        thread.start()
        time.sleep(0.5)
        began = time.monotonic()
        call("systemctl", "restart", service.unit)
        took = time.monotonic() - began
        kept(receive_exactly(busy, len(_PIECE)) == _PIECE, "who was in the middle got other bytes")
        kept(busy.recv(1) == b"", "who was in the middle was not ended in good order")
    time.sleep(0.5)
    done.set()
    thread.join()
    figures = f"{took:.1f} s, {served} connections served, {refused} refused, the longest {slowest:.1f} s"
    kept(not sockets or not refused, figures)
    kept(service.show("Result") == "success" and served > 0, f"{figures}; result {service.show('Result')}")
    return figures


def stop(service: Service) -> str:
    """Stop it: who is in the middle gets everything, and nothing is left."""
    with connect(IPV4, 7) as busy:
        busy.sendall(_PIECE)
        began = time.monotonic()
        call("systemctl", "stop", *service.units)
        took = time.monotonic() - began
        kept(receive_exactly(busy, len(_PIECE)) == _PIECE, "who was in the middle got other bytes")
        kept(busy.recv(1) == b"", "who was in the middle was not ended in good order")
    result = [service.show(each) for each in ("ActiveState", "Result", "ExecMainStatus")]
    kept(result == ["inactive", "success", "0"], f"it is {result}")
    with socket.socket() as sock:
        kept(sock.connect_ex((IPV4, 7)) != 0, "something still listens on port 7")
    call("systemctl", "disable", *service.units)
    return f"{took:.1f} s, exit code 0, nothing listens any more"
