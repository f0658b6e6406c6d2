"""What is promised by the examples in README.md: that they run as they stand."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.hold.clients import connect, receive_all, send_all_and_shut
from tests.hold.promise import Broken, kept, promise
from tests.hold.run import Run
from tests.hold.service import Server, environment, listening, twistd

__all__ = ["examples"]

README = Path(__file__).parents[2] / "README.md"


@promise("README", "the examples in README.md run as they stand, but for the port numbers", deadline=30)
def examples(run: Run) -> str:
    """The client as a library against the service, and a protocol of one's own."""
    text = README.read_text()
    library, shout = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    command = re.search(r"^    (twistd -n echosvc --listen shout=.*)$", text, re.MULTILINE)
    (config,) = re.findall(r"^```toml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    server = run.serve("--udp-port", "0")
    kept(server.tcp == server.udp, "--udp-port 0 beside --port 0 did not share one number")
    answered = subprocess.run(
        [sys.executable, "-c", library.replace("8080", str(server.tcp))],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=20,
        check=False,
    )
    kept(answered.stdout == "b'hello'\n" * 2, f"the library answered {answered.stdout}{answered.stderr}")

    directory = run.directory / "shout"
    directory.mkdir()
    (directory / "shout.py").write_text(shout)
    kept(command is not None, "there is no command for shout.py")
    assert command is not None
    options = command.group(1).replace("9000", "0").split()[2:]
    shouting = Server([*twistd(), "-n", "--pidfile=", *options], directory)
    run.using(contextlib.closing(shouting))
    with connect("127.0.0.1", _port(shouting)) as sock:
        send_all_and_shut(sock, b"hello")
        heard = bytes(receive_all(sock, 5))
    kept(heard == b"HELLO", f"shout.py answered {heard!r}")
    (directory / "echosvc.toml").write_text(config)
    checked = subprocess.run(
        [sys.executable, "-m", "echosvc", "config", "check", "echosvc.toml"],
        cwd=directory,
        capture_output=True,
        text=True,
        env=environment(),
        timeout=20,
        check=False,
    )
    kept(checked.returncode == 0, f"the file in it is refused: {checked.stderr}")
    return f"the library got {answered.stdout.split()}, shout.py answered {heard!r}, {_over_tls(run, text)}"


def _over_tls(run: Run, text: str) -> str:
    """Make the certificate, serve with it, and have `openssl` trust it and echo a line."""
    if shutil.which("openssl") is None:
        return "no openssl here"
    make, serve, ask = re.findall(
        r"^    ((?:openssl req|twistd -n echosvc -l echo=tls|openssl s_client).*)$", text, re.MULTILINE
    )
    directory = run.directory / "tls"
    directory.mkdir()
    made = subprocess.run(
        shlex.split(make), cwd=directory, capture_output=True, text=True, timeout=20, check=False
    )
    kept(made.returncode == 0, f"no certificate was made: {made.stderr}")
    server = Server([*twistd(), "-n", "--pidfile=", *shlex.split(serve.replace("8443", "0"))[2:]], directory)
    run.using(contextlib.closing(server))
    client = subprocess.Popen(
        shlex.split(ask.replace("8443", str(_port(server)))),
        cwd=directory,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    run.using(client)
    run.using(contextlib.ExitStack()).callback(client.kill)
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write(b"hello\n")
    client.stdin.flush()
    heard = client.stdout.readline()  # the promise has a deadline
    kept(heard == b"hello\n", f"openssl s_client was answered {heard!r}")
    return f"openssl s_client {heard!r}"


def _port(server: Server) -> int:
    """Wait for a server that listens on TCP alone."""
    until = time.monotonic() + 10
    while time.monotonic() < until and server.alive():
        for each in listening(server.log()):
            return each.port
        time.sleep(0.02)
    raise Broken(f"shout.py does not listen: {server.log()}")
