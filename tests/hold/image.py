"""What is promised of the container image, without a container: its commands and files work as the user that it has."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from tests.deploy.containerfile import CONTAINER, final
from tests.deploy.kustomize import KUBERNETES
from tests.hold.clients import answers
from tests.hold.namespace import Namespace, namespace
from tests.hold.promise import Skipped, kept, promise
from tests.hold.run import Run
from tests.hold.service import Server, environment, twistd
from tests.hold.units import file_system

__all__ = ["image"]

_WHERE = "/etc/echosvc/echosvc.toml"


@promise(
    "IMAGE",
    "the image's command serves with the file of the image and with that of Kubernetes' pods, as its user and with nothing to"
    " write to; its health check and the pods' probes say so, and no longer once it is stopped",
    deadline=60,
)
def image(run: Run) -> str:
    """In a network namespace, where the ports are free."""
    for program in ("setpriv", "unshare"):
        if shutil.which(program) is None:
            raise Skipped(f"needs {program}")
    with namespace() as space:
        for file in (CONTAINER / "echosvc.toml", KUBERNETES / "base" / "echosvc.toml"):
            run.step = file.parent.name
            _hold(run, space, file)
    return "health 0 and 69, /readyz and /healthz 200, exit code 0 after SIGTERM; uid 65532, no capability, nothing written"


def _hold(run: Run, space: Namespace, file: Path) -> None:
    program, *entry = json.loads(final("ENTRYPOINT"))
    kept(program == "twistd", f"ENTRYPOINT is {program}")
    words = [word.replace(_WHERE, str(file)) for word in [*entry, *json.loads(final("CMD"))]]
    uid, gid = final("USER").split(":")
    confined = [
        *[*space.command, "unshare", "--mount", "sh", "-ec", file_system(run.directory), "sh"],
        *["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs"],
        *["--inh-caps=-all", "--bounding-set=-all", "env", "PYTHONDONTWRITEBYTECODE=1"],
    ]
    server = Server([*confined, *twistd(), *words], run.server_directory())
    run.watch(server)
    with space.inside():
        server.wait_until_listening()
        answers(server.tcp, server.udp)
        probed = [_probe(path) for path in ("/readyz", "/healthz")]
        kept(probed == [200, 200], f"/readyz and /healthz say {probed}")
    check = [
        word.replace(_WHERE, str(file)) for word in json.loads(final("HEALTHCHECK").partition("CMD ")[2])
    ]
    health = [*confined, sys.executable, "-P", "-m", *check]
    codes = [_code(health), server.stop(), _code(health)]
    kept(codes == [0, 0, 69], f"health, the service, and health after it end with {codes}, not 0, 0 and 69")


def _probe(path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:9007{path}", timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as problem:
        return problem.code


def _code(command: list[str]) -> int:
    done = subprocess.run(
        command, cwd=os.sep, env=environment(), capture_output=True, timeout=20, check=False
    )
    return done.returncode
