"""Runs a command under a system call filter, as a unit of systemd would.

A program of its own::

    confine.py FAMILY,FAMILY CALL,CALL,… COMMAND …

FAMILY: a family of addresses that sockets may have (``AF_INET``). CALL: a system call that may be made. Memory that is
written cannot be executed (MemoryDenyWriteExecute=). Whoever does anything else is killed at once (SIGSYS), where systemd
may return an error: a call that is tried and then done without is noticed, too.
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys
from typing import Any, ClassVar

# seccomp.h of libseccomp 2.5
_KILL = 0x80000000
_ALLOW = 0x7FFF0000
_EQUAL = 4
_MASKED_EQUAL = 7

_PROT_WRITE = 2
_PROT_EXEC = 4

_PR_SET_NO_NEW_PRIVS = 38


class _Comparison(ctypes.Structure):
    _fields_: ClassVar[Any] = [
        ("argument", ctypes.c_uint),
        ("operation", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    ]


def confine(families: list[str], calls: list[str]) -> None:
    """Allow this process and all that it becomes nothing else.

    Args:
        families: Of addresses, as `socket` names them.
        calls: Names of system calls; what this machine's processor does not have is passed over.

    Raises:
        OSError: The kernel or libseccomp refused.
    """
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(_KILL))

    def allow(call: str, *conditions: tuple[int, int, int, int]) -> None:
        number = library.seccomp_syscall_resolve_name(call.encode())
        array = (_Comparison * len(conditions))(*(_Comparison(*each) for each in conditions))
        if number >= 0 and library.seccomp_rule_add_array(context, _ALLOW, number, len(conditions), array):
            raise OSError(f"seccomp_rule_add: {call}")

    for call in calls:
        if call == "socket":
            for family in families:
                allow(call, (0, _EQUAL, getattr(socket, family), 0))
        elif call == "mmap":
            for protection in (0, _PROT_WRITE, _PROT_EXEC):
                allow(call, (2, _MASKED_EQUAL, _PROT_WRITE | _PROT_EXEC, protection))
        elif call in ("mprotect", "pkey_mprotect"):
            allow(call, (2, _MASKED_EQUAL, _PROT_EXEC, 0))
        else:
            allow(call)
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if library.seccomp_load(context):
        raise OSError("seccomp_load")


if __name__ == "__main__":
    confine(sys.argv[1].split(","), sys.argv[2].split(","))
    os.execvp(sys.argv[3], sys.argv[3:])
