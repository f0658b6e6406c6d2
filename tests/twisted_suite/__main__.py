"""Judge our transports by Twisted's own reactor tests: ``python -m tests.twisted_suite``.

Each module of tests is run twice, in processes of their own that are killed if they hang: on the stock epoll
reactor, and on the same reactor with our transports. What passes there must pass here, but for `DIFFERENT`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

from twisted.internet.test import reactormixins
from twisted.scripts import trial

MODULES = ["tcp", "tls", "unix", "udp", "socket", "fdset"]

#: Seconds after which a run that hangs is killed. All of them together take some 2 seconds.
PATIENCE = 60

STOCK = "twisted.internet.epollreactor.EPollReactor"
OURS = "tests.twisted_suite.reactor.SuiteReactor"

#: What differs, by its full name, and why.
DIFFERENT = {
    "TCPTransportTestsBuilder.test_serverAddressTCP6": (
        "a link-local peer's address names its link (fe80::1%eth0): without it nobody could answer to it"
    ),
    "UNIXTestsBuilder.test_avoidLeakingFileDescriptors": (
        "descriptors that nobody wants are closed and counted, not logged: a peer could fill the log with them"
    ),
    "UNIXTestsBuilder.test_sendFileDescriptorTriggersPauseProducing": (
        "its peer receives no descriptors: the kernel refuses them, and what is refused fills no queue"
    ),
    "UNIXAdoptStreamConnectionTestsBuilder.test_streamingProducer": (
        "what would have filled the queue is in the kernel's buffer: there is no reason to pause the producer"
    ),
}

#: More than so many differences would be another kind of transport.
MOST = 5


def run_one(reactor: str, module: str) -> None:
    """Run one module in this process; never returns."""
    builder: Any = reactormixins.ReactorBuilder
    builder._reactors = [reactor]
    builder.timeout = 5.0  # seconds for one test; its own default of two minutes is for slower days
    sys.argv = ["trial", "--reporter=verbose", f"twisted.internet.test.test_{module}"]
    trial.run()


def outcomes(reactor: str, module: str) -> dict[str, str]:
    """Run one module in a process of its own.

    Returns:
        For each test, as ``Class.test_name``, the word that trial prints. A run that hangs or dies has none for
        the tests it did not reach.
    """
    command = [sys.executable, "-m", "tests.twisted_suite", reactor, module]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False).stdout
    except subprocess.TimeoutExpired as hung:
        done = hung.stdout.decode() if isinstance(hung.stdout, bytes) else (hung.stdout or "")
    found, case = {}, ""
    for line in done.splitlines():
        if group := re.fullmatch(r"  (\w+)", line):
            case = group[1].replace("_SuiteReactorTests", "").replace("_EPollReactorTests", "")
        elif test := re.match(r"    (test_\w+) \.\.\. .*\[(\w+)\]$", line):
            found[f"{case}.{test[1]}"] = test[2]
    return found


def main() -> int:
    """Compare all modules; return 1 if something unexplained, or too much, passes on the stock reactor alone."""
    lost, counted = [], 0
    for module in MODULES:
        stock, ours = outcomes(STOCK, module), outcomes(OURS, module)
        counted += sum(word == "OK" for word in ours.values())
        lost += [name for name, word in stock.items() if word == "OK" and ours.get(name) != "OK"]
    failed = [name for name in lost if name not in DIFFERENT]
    for name in lost:
        print(f"differs: {name}: {DIFFERENT[name]}" if name in DIFFERENT else f"FAILS: {name}")  # noqa: T201
    print(f"{counted} passed, {len(lost) - len(failed)} of at most {MOST} differ, {len(failed)} failed")  # noqa: T201
    return int(not counted or bool(failed) or len(lost) > MOST)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run_one(sys.argv[1], sys.argv[2])
    sys.exit(main())
