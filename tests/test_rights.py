"""Tests of what a process gives up before it serves."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from echosvc.rights import forbid_inspection, forbid_new_privileges
from echosvc.transports.linux import LINUX
from tests.machine import UNMEASURED

#: Becomes another user, as root; what the kernel makes of that is undone first. Then it looks at itself.
_LOOK = """
import ctypes, os
from echosvc.rights import forbid_inspection
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
before = os.stat("/proc/self/environ").st_uid
forbid_inspection()
file = os.open("/proc/self/status", os.O_PATH)
os.stat(f"/proc/self/fd/{file}")
os.listdir("/proc/self/fd")
os.close(os.open("/proc/self/schedstat", os.O_RDONLY))
print(before == os.getuid(), os.stat("/proc/self/environ").st_uid)
"""


class RightsTests(SynchronousTestCase):
    """What the kernel is asked for."""

    def test_what_is_asked(self) -> None:
        """PR_SET_NO_NEW_PRIVS is 38 and PR_SET_DUMPABLE is 4, where there is a Linux to ask."""
        asked: list[Any] = []

        class Library:
            def __init__(self, name: object) -> None:
                self.prctl = lambda *arguments: asked.append((name, arguments))

        self.patch(ctypes, "CDLL", Library)
        for linux in ("darwin", "linux"):
            self.patch(sys, "platform", linux)
            forbid_new_privileges()
            forbid_inspection()

        self.assertEqual([(None, (38, 1, 0, 0, 0)), (None, (4, 0, 0, 0, 0))], asked)

    def test_a_process_that_cannot_be_inspected(self) -> None:
        """Its files in /proc are root's; the process itself still sees its descriptors and what they lead to."""
        if not LINUX:
            self.skipTest("needs Linux")
        looked = subprocess.run(
            [sys.executable, "-c", _LOOK],
            env=UNMEASURED,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

        self.assertEqual(("True 0\n", ""), (looked.stdout, looked.stderr))
