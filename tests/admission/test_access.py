"""Tests of who may connect at all."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from echosvc.admission.access import AccessList, read_networks


class AccessTests(SynchronousTestCase):
    """Who is named is admitted or refused as the most exact name says."""

    def check(self, access: AccessList, verdicts: dict[str, bool]) -> None:
        """See that each address is decided about as expected."""
        self.assertEqual(verdicts, {host: access.admits(host) for host in verdicts})

    def test_an_empty_list_admits_everybody(self) -> None:
        """And says that it is empty, so that nobody need ask it."""
        for access in (AccessList(), AccessList.read([], [])):
            self.check(access, {"192.0.2.1": True, "2001:db8::1": True})
            self.assertTrue(access.is_empty)

    def test_whoever_is_not_allowed_is_refused(self) -> None:
        """If some are allowed and nobody is denied; of either family."""
        access = AccessList.read(["192.0.2.0/24", "2001:db8::/32"], [])

        self.assertFalse(access.is_empty)
        self.check(
            access,
            {
                "192.0.2.0": True,
                "192.0.2.255": True,
                "192.0.3.0": False,
                "192.0.1.255": False,
                "2001:db8::1": True,
                "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff": True,
                "2001:db9::": False,
                "::1": False,
            },
        )

    def test_an_allowed_network_of_one_family_allows_nobody_of_the_other(self) -> None:
        """IPv6 peers are not IPv4 ones."""
        self.check(AccessList.read(["0.0.0.0/0"], []), {"203.0.113.9": True, "::": False})
        self.check(AccessList.read(["::/0"], []), {"203.0.113.9": False, "2001:db8::": True})

    def test_whoever_is_not_denied_is_admitted(self) -> None:
        """If only networks are denied."""
        access = AccessList.read([], ["192.0.2.7", "2001:db8::/33"])

        self.check(
            access,
            {"192.0.2.7": False, "192.0.2.6": True, "2001:db8::1": False, "2001:db8:8000::1": True},
        )

    def test_the_longest_network_decides(self) -> None:
        """Exceptions to exceptions, in whatever order they are given."""
        allow = ["10.1.0.0/16", "10.1.2.3"]
        deny = ["10.1.2.0/24", "10.0.0.0/8"]
        verdicts = {
            "10.2.0.1": False,
            "10.1.0.1": True,
            "10.1.2.1": False,
            "10.1.2.3": True,
            "192.0.2.1": False,
        }

        self.check(AccessList.read(allow, deny), verdicts)
        self.check(AccessList.read(allow[::-1], deny[::-1]), verdicts)

    def test_of_two_that_are_the_same_the_one_that_denies_decides(self) -> None:
        """Whoever is on both lists is refused."""
        self.check(
            AccessList.read(["192.0.2.0/24"], ["192.0.2.0/24"]), {"192.0.2.1": False, "192.0.3.1": False}
        )

    def test_the_scope_of_a_link_local_peer_does_not_matter(self) -> None:
        """Its network is the same on every link."""
        self.check(
            AccessList.read(["fe80::/64"], []), {"fe80::1%eth0": True, "fe80::1": True, "fe81::1%eth0": False}
        )

    def test_a_peer_that_is_mapped(self) -> None:
        """Is the IPv4 one: as a port of Twisted's own has it, or a proxy."""
        self.check(
            AccessList.read([], ["192.0.2.0/24"]), {"::ffff:192.0.2.1": False, "::ffff:192.0.3.1": True}
        )

    def test_peers_on_unix_sockets_are_admitted(self) -> None:
        """Who may connect there is said by the socket's file."""
        self.assertTrue(AccessList.read(["192.0.2.1"], ["0.0.0.0/0"]).admits(None))

    def test_a_network_of_mapped_addresses_is_one_of_ipv4(self) -> None:
        """Since IPv4 peers are plain IPv4 here, whatever socket they come through."""
        self.check(AccessList.read(["::ffff:192.0.2.0/120"], []), {"192.0.2.9": True, "192.0.3.1": False})
        self.check(AccessList.read([], ["::ffff:0:0/96"]), {"192.0.2.9": False, "::1": True})

    def test_a_network_around_the_mapped_addresses_is_one_of_ipv6(self) -> None:
        """A shorter prefix has other addresses in it."""
        self.check(AccessList.read([], ["::/95"]), {"192.0.2.9": True, "::1": False})
        self.check(AccessList.read([], ["64:ff9b::/96"]), {"192.0.2.9": True, "64:ff9b::1": False})

    @given(
        st.lists(st.tuples(st.integers(0, 15), st.integers(0, 4), st.booleans()), max_size=8),
        st.integers(0, 15),
        st.sampled_from([4, 6]),
    )
    def test_decides_as_a_search_through_all_would(
        self, entries: Sequence[tuple[int, int, bool]], last: int, version: int
    ) -> None:
        """Networks of lengths 28 to 32 (124 to 128) around 16 neighbours, each asked about."""
        base, whole = (
            (int(IPv6Address("2001:db8::")), 124) if version == 6 else (int(IPv4Address("192.0.2.0")), 28)
        )
        kind = IPv6Network if version == 6 else IPv4Network
        lists: dict[bool, list[IPv4Network | IPv6Network]] = {True: [], False: []}
        for address, extra, allowed in entries:
            lists[allowed].append(kind((base + address, whole + extra), strict=False))
        host = (IPv6Address if version == 6 else IPv4Address)(base + last)
        inside = [(each.prefixlen, not ok, ok) for ok, some in lists.items() for each in some if host in each]
        expected = max(inside)[2] if inside else not lists[True]
        access = AccessList(lists[True] or None, lists[False] or None)

        self.assertEqual(expected, access.admits(str(host)))


class ReadingTests(SynchronousTestCase):
    """Networks as a user writes them."""

    def folder(self) -> Path:
        """Make an empty folder for this test."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return Path(folder.name)

    def write(self, text: str | bytes) -> str:
        """Write a file; return its name."""
        path = self.folder() / "list"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    def fails(self, *entries: str) -> str:
        """Try to read entries of which one is wrong; return what is said."""
        return str(self.assertRaises(ValueError, read_networks, entries))

    def test_addresses_and_networks(self) -> None:
        """An address is a network of one."""
        self.assertEqual(
            (ip_network("192.0.2.1/32"), ip_network("10.0.0.0/8"), ip_network("fd00::/8")),
            read_networks(["192.0.2.1", "10.0.0.0/8", "fd00::/8"]),
        )

    def test_a_file(self) -> None:
        """One network a line, with comments and empty lines, between others."""
        name = self.write("# ours\n192.0.2.0/24   # the office\n\n   2001:db8::/32\n#10.0.0.0/8\n")

        self.assertEqual(
            tuple(map(ip_network, ("127.0.0.1/32", "192.0.2.0/24", "2001:db8::/32", "::1/128"))),
            read_networks(["127.0.0.1", f"@{name}", "::1"]),
        )

    def test_an_empty_file(self) -> None:
        """Names nobody: then nobody is allowed, or nobody denied."""
        name = f"@{self.write('')}"

        self.assertEqual((), read_networks([name]))
        self.assertFalse(AccessList.read([name], []).admits("192.0.2.1"))
        self.assertTrue(AccessList.read([], [name]).admits("192.0.2.1"))

    def test_what_is_no_network(self) -> None:
        """The message says what would be one."""
        for wrong in ("localhost", "10.0.0.0/33", "", "10.0.0", "10.0.0.0/8,::1", "/etc/hosts", "10.0.0.0/"):
            self.assertEqual(
                f"{wrong!r} is no network; give one such as 192.0.2.0/24, 2001:db8::/32 or 192.0.2.1, or @FILE",
                self.fails("10.0.0.0/8", wrong),
            )

    def test_an_address_inside_a_network(self) -> None:
        """It could mean either; the message names the network."""
        self.assertEqual(
            "'192.0.2.9/24' is an address inside a network; the network is 192.0.2.0/24",
            self.fails("192.0.2.9/24"),
        )

    def test_a_mistake_in_a_file(self) -> None:
        """File and line are named."""
        name = self.write("10.0.0.0/8\n\n10.0.0.300 # no\n")

        self.assertTrue(self.fails(f"@{name}").startswith(f"{name}:3: '10.0.0.300' is no network; "))

    def test_a_file_in_a_file(self) -> None:
        """Is none: whoever may write one list may not have us read every file."""
        name = self.write("@/etc/passwd\n")

        self.assertTrue(self.fails(f"@{name}").startswith(f"{name}:1: '@/etc/passwd' is no network; "))

    def test_a_file_that_cannot_be_read(self) -> None:
        """It is not there, is a folder, has a name that no file can have, or is not text."""
        name = str(self.folder() / "nobody")
        self.assertEqual(f"{name}: cannot be read: No such file or directory", self.fails(f"@{name}"))
        self.assertEqual("/: cannot be read: Is a directory", self.fails("@/"))
        self.assertIn("cannot be read: ", self.fails("@\0"))
        self.assertIn("cannot be read: 'utf-8' codec", self.fails(f"@{self.write(bytes([0xFF]))}"))
