"""Runs a command under a system call filter, as a unit of systemd would.

A program of its own::

    confine.py FAMILY,FAMILY CALL,CALL,… COMMAND …

FAMILY: a family of addresses that sockets may have (``AF_INET``). CALL: a system call that may be made. Memory that is
written cannot be executed (MemoryDenyWriteExecute=), no namespace can be made or entered (RestrictNamespaces=), and no file
gets a set-user-ID or set-group-ID bit (RestrictSUIDSGID=). A process that tries anything else is killed at once (SIGSYS), where
systemd returns an error: so a call that is tried and then done without is noticed, too. clone3 alone returns ENOSYS, as
systemd's filter does, because the C library then uses clone.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import sys
from typing import Any, ClassVar

# seccomp.h of libseccomp 2.5
_KILL = 0x80000000
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_EQUAL = 4
_MASKED_EQUAL = 7

_PROT_WRITE = 2
_PROT_EXEC = 4

_SHM_EXEC = 0o100000

_SET_ID = 0o6000

#: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET, of sched.h.
_NEW_NAMESPACE = 0x7E020000

#: By call: the argument of which some bits must not be set, and those bits.
_WITHOUT_BITS = {
    "chmod": (1, _SET_ID),
    "clone": (0, _NEW_NAMESPACE),
    "fchmod": (1, _SET_ID),
    "fchmodat": (2, _SET_ID),
    "mprotect": (2, _PROT_EXEC),
    "pkey_mprotect": (2, _PROT_EXEC),
    "shmat": (2, _SHM_EXEC),
}

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
        for conditions in _rules(call, families):
            allow(call, *conditions)
    if library.seccomp_rule_add_array(
        context, _ERRNO | errno.ENOSYS, library.seccomp_syscall_resolve_name(b"clone3"), 0, None
    ):
        raise OSError("seccomp_rule_add: clone3")
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if library.seccomp_load(context):
        raise OSError("seccomp_load")


def _rules(call: str, families: list[str]) -> list[list[tuple[int, int, int, int]]]:
    """With which arguments a system call may be made: one of these lists of conditions has to hold, and all that are in it."""
    match call:
        case "socket":
            return [[(0, _EQUAL, getattr(socket, family), 0)] for family in families]
        case "mmap":
            both = _PROT_WRITE | _PROT_EXEC
            return [[(2, _MASKED_EQUAL, both, allowed)] for allowed in (0, _PROT_WRITE, _PROT_EXEC)]
        case "clone3" | "setns" | "unshare":
            return []
    if call in _WITHOUT_BITS:
        argument, bits = _WITHOUT_BITS[call]
        return [[(argument, _MASKED_EQUAL, bits, 0)]]
    return [[]]


if __name__ == "__main__":
    confine(sys.argv[1].split(","), sys.argv[2].split(","))
    os.execvp(sys.argv[3], sys.argv[3:])
