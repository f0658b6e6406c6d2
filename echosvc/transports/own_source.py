"""Datagrams in the name of this host that another device has brought are forged: the kernel drops them before they are read.

A host asks itself through its loopback device, whatever address of its own it asks from. For IPv4 the kernel refuses all else; for
IPv6 it refuses ::1 alone. One frame of a neighbour whose source is an address and port of this host would have two services of it answer
each other for ever. PKTINFO does not tell them apart: it names the device of the address that was asked. A socket filter
sees the device (SKF_AD_IFINDEX), but not which addresses the host has. So it is given them, and given them anew when they change.

The filter also drops what would be taken for IPv4 of this host: 127.0.0.0/8 from another device, which net.ipv4.conf.*.route_localnet
with accept_local lets in, and IPv6 packets from ::ffff:0:0/96, which no host sends and Linux lets in (draft-itojun-v6ops-v4mapped-harmful).
Addresses of IPv4 are not looked at: who sets accept_local means that.

What is left to others: a filter that the socket has already, the addresses of another network namespace, and those of a device in a
VRF, whose local datagrams come through the VRF's device.

Sources: linux/filter.h, linux/bpf_common.h, socket(7); if_inet6 in net/ipv6/addrconf.c (if6_seq_show).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import re
import socket
import struct
from collections.abc import Sequence
from pathlib import Path

from echosvc.transports.linux import LINUX

__all__ = ["OwnSource", "own_addresses", "program"]

#: /proc/self is in reach of a service that sees no more of /proc (ProcSubset=pid in a unit).
_ADDRESSES = Path("/proc/self/net/if_inet6")
_DEVICES = Path("/sys/class/net")

#: Addresses for which there is room in a filter: 9 instructions each, of 4096 (BPF_MAXINSNS).
MOST = 400

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_SO_NETNS_COOKIE = 71  # Linux 5.14

_INSTRUCTION = struct.Struct("@HBBI")  # struct sock_filter: code, jump if true, jump if false, k
_PROGRAM = struct.Struct("@HP")  # struct sock_fprog

_LOAD_NUMBER, _LOAD_WORD, _LOAD_BYTE, _LOAD_KEPT, _KEEP = 0x00, 0x20, 0x30, 0x60, 0x02
_SHIFT_RIGHT, _IF_EQUAL, _RETURN = 0x74, 0x15, 0x06
_DEVICE = 0xFFFFF008  # SKF_AD_OFF + SKF_AD_IFINDEX
_HEADER = 0xFFF00000  # SKF_NET_OFF: the IP header begins here
_MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96, RFC 4291 2.5.5.2
_LOCALHOST = socket.inet_pton(socket.AF_INET6, "::1")
_LOOPBACK = 1  # in every namespace (LOOPBACK_IFINDEX)

#: The first instruction: loads a number that nothing uses, by which a filter of ours is known in a socket that is passed on.
_MARK = _INSTRUCTION.pack(_LOAD_NUMBER, 0, 0, 0x6563686F)
_LET_IN = _INSTRUCTION.pack(_RETURN, 0, 0, 0xFFFFFFFF)
_DROP = _INSTRUCTION.pack(_RETURN, 0, 0, 0)

_libc = ctypes.CDLL(None, use_errno=True)


def _read_table() -> str:
    """Read the table of IPv6 addresses; it is empty if the system has no IPv6.

    Raises:
        OSError: There is no /proc, as in a chroot.
    """
    try:
        return _ADDRESSES.read_text()
    except FileNotFoundError:
        _ADDRESSES.parent.stat()
        return ""


def own_addresses(table: str) -> list[bytes]:
    """Find the IPv6 addresses of this host, without those that its VRFs have, and ::1, which the kernel sees to.

    Args:
        table: What if_inet6 says.

    Returns:
        16 bytes each.
    """
    found = [(bytes.fromhex(address), device) for address, *_, device in map(str.split, table.splitlines())]
    left_out = {device for device in {device for _, device in found} if _is_in_vrf(device)}
    return sorted({address for address, device in found if device not in left_out} - {_LOCALHOST})


def _is_in_vrf(device: str) -> bool:
    try:
        said = (_DEVICES / device / "master" / "uevent").read_text()
    except OSError:  # it has no master
        return False
    return re.search("^DEVTYPE=vrf$", said, re.MULTILINE) is not None


def program(addresses: Sequence[bytes]) -> bytes:
    """Write the filter.

    Args:
        addresses: Of IPv6, of this host; at most `MOST`.

    Returns:
        Instructions of classic BPF.
    """
    code = [
        _MARK,
        _INSTRUCTION.pack(_LOAD_WORD, 0, 0, _DEVICE),
        _INSTRUCTION.pack(_IF_EQUAL, 0, 1, _LOOPBACK),
        _LET_IN,
        _INSTRUCTION.pack(_LOAD_BYTE, 0, 0, _HEADER),
        _INSTRUCTION.pack(_SHIFT_RIGHT, 0, 0, 4),
        _INSTRUCTION.pack(_IF_EQUAL, 4, 0, 6),  # the version; what follows is for IPv4
        _INSTRUCTION.pack(_LOAD_BYTE, 0, 0, _HEADER + 12),
        _INSTRUCTION.pack(_IF_EQUAL, 0, 1, 127),
        _DROP,
        _LET_IN,
    ]
    # A look at the packet takes 8 times the kernel's memory that one at what is kept takes.
    for word in range(4):
        code.append(_INSTRUCTION.pack(_LOAD_WORD, 0, 0, _HEADER + 8 + 4 * word))
        code.append(_INSTRUCTION.pack(_KEEP, 0, 0, word))
    code += _drop_if(_MAPPED, (2, 1, 0))
    for address in addresses:
        # The last word first: it differs the most.
        code += _drop_if(address, (3, 2, 1, 0))
    return b"".join([*code, _LET_IN])


def _drop_if(address: bytes, words: Sequence[int]) -> list[bytes]:
    """Drop a packet if words of its IPv6 source are those of an address; what differs jumps behind all this."""
    code = []
    for word in words:
        value = int.from_bytes(address[4 * word : 4 * word + 4], "big")
        code.append(_INSTRUCTION.pack(_LOAD_KEPT, 0, 0, word))
        code.append(_INSTRUCTION.pack(_IF_EQUAL, 0, 2 * word + 1, value))
    return [*code, _DROP]


class OwnSource:
    """Keeps datagrams in the name of this host away from one UDP socket, unless its loopback device has brought them.

    Args:
        sock: The socket.
        inherited: Whether a service manager has opened it, perhaps in another network namespace.

    Attributes:
        problem: Why it does not; None if it does.
    """

    def __init__(self, sock: socket.socket, *, inherited: bool) -> None:
        self._sock = sock
        self._table: str | None = None
        self.problem: str | None = None
        if not LINUX:
            self.problem = "this system has no socket filters"
        elif inherited and not _is_of_our_namespace(sock):
            self.problem = (
                "the socket is of another network namespace, or the system does not tell (Linux 5.14 does)"
            )
        elif _is_filtered_by_others(sock):
            self.problem = "the socket has a filter already, which is left as it is"
        else:
            self.refresh()

    def refresh(self) -> None:
        """Go by the addresses that the host has now. Called once a second, for 40 us: without netlink no event tells of them.

        The kernel takes longer than that to find out whether a new address is unique, and lets it be used only then (RFC 4862, 5.4).
        """
        if self._table is None and self.problem is not None:
            return
        try:
            table = _read_table()
            if table == self._table:
                return
            addresses = own_addresses(table)
            _attach(self._sock, program(addresses[:MOST]))
        except OSError as problem:
            self.problem = f"{problem.strerror or problem} ({problem.filename or 'SO_ATTACH_FILTER'})"
            return
        self._table = table
        self.problem = None
        if len(addresses) > MOST:
            self.problem = f"the host has {len(addresses)} IPv6 addresses, and a filter has room for {MOST}"


def _attach(sock: socket.socket, code: bytes) -> None:
    """Attach a filter in the place of another.

    Raises:
        OSError: It cannot be attached: EPERM if the socket's filter is locked, ENOMEM if it is too long for net.core.optmem_max.
    """
    room = ctypes.create_string_buffer(code, len(code))
    given = _PROGRAM.pack(len(code) // _INSTRUCTION.size, ctypes.addressof(room))
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, given)
    except OSError as problem:
        if problem.errno != errno.ENOMEM:
            raise
        # There is no room for two (net.core.optmem_max): for a moment there is none.
        with contextlib.suppress(OSError):  # there was none
            sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, given)


def _is_of_our_namespace(sock: socket.socket) -> bool:
    with socket.socket(sock.family, socket.SOCK_DGRAM) as ours:
        try:
            theirs, own = (each.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8) for each in (sock, ours))
        except OSError:
            return False
    return theirs == own


def _is_filtered_by_others(sock: socket.socket) -> bool:
    """Look at the filter that a socket has. Python's own getsockopt cannot: its length counts instructions here, not bytes."""
    count = _filter(sock, 0, None)
    if count <= 0:
        return count == -errno.EACCES  # one of eBPF cannot be read
    room = ctypes.create_string_buffer(count * _INSTRUCTION.size)
    return _filter(sock, count, room) != count or not room.raw.startswith(_MARK)


def _filter(sock: socket.socket, length: int, room: ctypes.Array[ctypes.c_char] | None) -> int:
    """Read as many instructions; return how many there are, or the errno as a negative number."""
    size = ctypes.c_uint(length)
    failed = _libc.getsockopt(sock.fileno(), socket.SOL_SOCKET, _SO_ATTACH_FILTER, room, ctypes.byref(size))
    return -ctypes.get_errno() if failed else size.value
