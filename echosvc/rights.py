"""What a process gives up for good before it serves, so that it is not there for a process that is taken over.

The kernel does the second by itself where rights are dropped (`twistd --uid`), and undoes it whenever a program is executed. So a
worker does it anew, before it imports anything else of this package: that takes longer than everything before.
"""

from __future__ import annotations

import ctypes
import sys

__all__ = ["forbid_inspection", "forbid_new_privileges"]

#: prctl(2)
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38


def forbid_new_privileges() -> None:
    """Refuse whatever a program that is executed could give to this process (PR_SET_NO_NEW_PRIVS).

    A service has no use for set-user-ID programs. Does nothing where there is no Linux.
    """
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def forbid_inspection() -> None:
    """Keep other processes of the same user from this one's memory, environment and descriptors (PR_SET_DUMPABLE).

    They can neither trace it nor read most of its files in ``/proc``, and it leaves no core dump. Only root can (CAP_SYS_PTRACE).
    Does nothing where there is no Linux.
    """
    _prctl(_PR_SET_DUMPABLE, 0)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
