"""Tests of the endpoint grammar: what each string means, and what is said of one that means nothing."""

from __future__ import annotations

import os
import re
import sys
from ipaddress import ip_network

from twisted.trial.unittest import SynchronousTestCase

from echosvc.listeners import (
    Endpoint,
    Foreign,
    Inherited,
    Internet,
    TLSSettings,
    UnixSocket,
    parse_endpoint,
)
from echosvc.listeners.grammar import check_interface, parse_networks, parse_number

THIS_MACHINE = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


class MeaningTests(SynchronousTestCase):
    """What an endpoint string says."""

    def means(self, text: str, endpoint: Endpoint) -> None:
        """Expect a string to say something."""
        self.assertEqual(endpoint, parse_endpoint(text))

    def test_tcp(self) -> None:
        """A port, on every address unless one is named."""
        self.means("tcp:8080", Endpoint(place=Internet("tcp", 8080)))
        self.means("tcp:0", Endpoint(place=Internet("tcp", 0)))
        self.means(
            "tcp:65535:interface=127.0.0.1:backlog=65535:proxy=10.0.0.0/8,192.0.2.1",
            Endpoint(
                place=Internet("tcp", 65535, "127.0.0.1"),
                backlog=65535,
                proxy=(ip_network("10.0.0.0/8"), ip_network("192.0.2.1/32")),
            ),
        )

    def test_udp(self) -> None:
        """The same, without what only streams have."""
        self.means("udp:7", Endpoint(place=Internet("udp", 7)))
        self.means("udp:7:interface=0.0.0.0", Endpoint(place=Internet("udp", 7, "0.0.0.0")))

    def test_unix(self) -> None:
        """A path or an abstract name; who may connect, a lock file, and how many may wait."""
        self.means("unix:/run/echo", Endpoint(place=UnixSocket("unix", "/run/echo", 0o660)))
        self.means("unix:@echo", Endpoint(place=UnixSocket("unix", "@echo")))
        self.means(
            "unix:/x:mode=0600:lockfile=1:backlog=1:proxy=10.1.2.3",
            Endpoint(
                place=UnixSocket("unix", "/x", 0o600, lockfile=True),
                backlog=1,
                proxy=(ip_network("10.1.2.3/32"),),
            ),
        )
        self.means("unix:/x:mode=777:lockfile=0", Endpoint(place=UnixSocket("unix", "/x", 0o777)))

    def test_unix_with_a_header_from_whoever_may_connect(self) -> None:
        """An empty list of networks is enough there: the mode says who can be a proxy."""
        self.means("unix:/x:proxy=", Endpoint(place=UnixSocket("unix", "/x"), proxy=()))

    def test_unixgram(self) -> None:
        """Datagrams have a path and a mode."""
        self.means("unixgram:/run/d:mode=007", Endpoint(place=UnixSocket("unixgram", "/run/d", 0o007)))

    def test_longest_path(self) -> None:
        """107 bytes, whatever they are as text, and whether or not they are text."""
        for path in ("x" * 107, "ä" * 53 + "x", os.fsdecode(b"\xff" * 107)):
            self.means(f"unix:{path}", Endpoint(place=UnixSocket("unix", path)))

    def test_tls(self) -> None:
        """A TCP port with a certificate and key, or a folder of them, or both."""
        self.means(
            "tls:443:cert=full.pem:key=key.pem",
            Endpoint(place=Internet("tcp", 443), tls=TLSSettings(cert="full.pem", key="key.pem")),
        )
        self.means(
            "tls:443:certdir=/etc/certs:clientCA=ca.pem:alpn=echo,http/1.1:interface=[::1]:backlog=9:proxy=[fd00::/8]",
            Endpoint(
                place=Internet("tcp", 443, "::1"),
                tls=TLSSettings(cert_dir="/etc/certs", client_ca="ca.pem", alpn=("echo", "http/1.1")),
                backlog=9,
                proxy=(ip_network("fd00::/8"),),
            ),
        )
        self.means(
            "tls:1:cert=a:key=b:certdir=c",
            Endpoint(place=Internet("tcp", 1), tls=TLSSettings(cert="a", key="b", cert_dir="c")),
        )

    def test_versions_and_ciphers_of_tls(self) -> None:
        """Ciphers are separated by commas, or by colons in brackets."""
        for ciphers, meant in (
            ("ECDHE+AESGCM,!SHA1", "ECDHE+AESGCM,!SHA1"),
            ("[a:b:@SECLEVEL=3]", "a:b:@SECLEVEL=3"),
        ):
            self.means(
                f"tls:443:certdir=d:min-version=1.3:ciphers={ciphers}",
                Endpoint(
                    place=Internet("tcp", 443),
                    tls=TLSSettings(cert_dir="d", min_version="1.3", ciphers=meant),
                ),
            )
        self.means(
            "tls:443:certdir=d:min-version=1.2",
            Endpoint(place=Internet("tcp", 443), tls=TLSSettings(cert_dir="d")),
        )

    def test_systemd(self) -> None:
        """A socket that is passed on, by name or by number."""
        self.means("systemd:name=echo", Endpoint(place=Inherited(name="echo")))
        self.means("systemd:index=0", Endpoint(place=Inherited(index=0)))
        self.means(
            "systemd:name=echo:proxy=10.0.0.0/8",
            Endpoint(place=Inherited(name="echo"), proxy=(ip_network("10.0.0.0/8"),)),
        )

    def test_haproxy(self) -> None:
        """Before any stream endpoint: a PROXY header from this machine, or from whom the endpoint names."""
        self.means("haproxy:tcp:80", Endpoint(place=Internet("tcp", 80), proxy=THIS_MACHINE))
        self.means(
            "haproxy:tcp:80:proxy=10.0.0.0/8",
            Endpoint(place=Internet("tcp", 80), proxy=(ip_network("10.0.0.0/8"),)),
        )
        self.means("haproxy:unix:/x", Endpoint(place=UnixSocket("unix", "/x"), proxy=()))
        self.means("haproxy:unix:/x:proxy=", Endpoint(place=UnixSocket("unix", "/x"), proxy=()))
        self.means("haproxy:systemd:index=1", Endpoint(place=Inherited(index=1), proxy=THIS_MACHINE))
        self.means("haproxy:tcp6:80", Endpoint(place=Foreign("tcp6:80"), proxy=THIS_MACHINE))

    def test_a_kind_in_capitals(self) -> None:
        """A kind means the same in every case: capitals never choose a parser of Twisted's own."""
        for text in (
            "tcp:80:interface=127.0.0.1",
            "udp:7",
            "unix:/Run/X:mode=600",
            "unixgram:/D",
            "tls:22500:cert=C.pem:key=K.pem",
            "systemd:name=Echo",
            "haproxy:tcp:80",
            "haproxy:tls:1:certdir=D:proxy=10.0.0.0/8",
            "haproxy:unix:/X",
            "haproxy:systemd:index=1",
            "tcp6:80",
            "haproxy:tcp6:80",
        ):
            kinds = re.match("(?:haproxy:)?[a-z0-9]+:", text)
            assert kinds is not None
            for kind in (kinds[0].upper(), kinds[0].title()):
                self.means(text.replace(kinds[0], kind, 1), parse_endpoint(text))

    def test_what_twisted_knows(self) -> None:
        """Any other stream endpoint of Twisted's, as it is."""
        self.means("tcp6:8080:interface=\\:\\:1", Endpoint(place=Foreign("tcp6:8080:interface=\\:\\:1")))

    def test_a_backslash_makes_ordinary(self) -> None:
        """As in Twisted's grammar: colons, equals signs, brackets, and itself; at the very end it is one, too."""
        for written, path in (
            ("a\\:b", "a:b"),
            ("a\\=b", "a=b"),
            ("a\\[b\\]", "a[b]"),
            ("a\\\\", "a\\"),
            ("a\\", "a\\"),
            ("\\a", "a"),
        ):
            self.means(f"unix:{written}", Endpoint(place=UnixSocket("unix", path)))

    def test_brackets_make_ordinary(self) -> None:
        """An IPv6 address is written as it is everywhere else; brackets may stand within brackets."""
        self.means("tcp:1:interface=[::1]", Endpoint(place=Internet("tcp", 1, "::1")))
        self.means(
            "tcp:1:interface=[fe80::1%eth0]:backlog=3",
            Endpoint(place=Internet("tcp", 1, "fe80::1%eth0"), backlog=3),
        )
        self.means("unix:[a:b=[c]:d]e:mode=600", Endpoint(place=UnixSocket("unix", "a:b=c:de", 0o600)))

    def test_only_the_first_equals_sign_divides(self) -> None:
        """What follows it is the value."""
        self.means("tls:1:certdir=a=b", Endpoint(place=Internet("tcp", 1), tls=TLSSettings(cert_dir="a=b")))


class RefusalTests(SynchronousTestCase):
    """What cannot be understood is said with the part that is wrong and with what would be right."""

    def says(self, text: str, *parts: str) -> None:
        """Expect a refusal of one line with all of some words in it."""
        message = str(self.assertRaises(ValueError, parse_endpoint, text))
        for part in parts:
            self.assertIn(part, message)
        self.assertEqual(1, len(message.splitlines()))

    def test_a_kind_alone(self) -> None:
        """Each kind shows how it is written."""
        for kind, form in (
            ("tcp", "tcp:PORT[:interface=ADDRESS][:backlog=N][:proxy=NETWORKS]"),
            ("udp", "udp:PORT[:interface=ADDRESS]"),
            ("unix", "unix:PATH[:mode=660][:lockfile=1][:backlog=N][:proxy=], or unix:@NAME"),
            ("unixgram", "unixgram:PATH[:mode=660], or unixgram:@NAME"),
            (
                "tls",
                (
                    "tls:PORT:cert=FULLCHAIN.pem:key=KEY.pem[:clientCA=CA.pem][:certdir=DIR][:alpn=NAMES]"
                    "[:min-version=1.3][:ciphers=NAMES][:interface=ADDRESS][:backlog=N][:proxy=NETWORKS]"
                ),
            ),
            ("systemd", "systemd:name=NAME[:proxy=NETWORKS] or systemd:index=N"),
        ):
            for text in (kind, f"{kind}:"):
                error = self.assertRaises(ValueError, parse_endpoint, text)

                self.assertEqual(f"{kind}: it is {form}", str(error))

    def test_no_port_or_path(self) -> None:
        """What must be there is named."""
        for text in ("tcp::interface=[::1]", "tcp:interface=[::1]", "udp::", "tls:cert=a:key=b"):
            self.says(text, "the port is missing; it is ")
        for text in ("unix::mode=600", "unixgram:mode=600"):
            self.says(text, "the path is missing; it is unix")

    def test_no_such_port(self) -> None:
        """Only 0 to 65535, in plain digits."""
        for port in ("65536", "-1", "x", "1_0", " 1", "٣", "+1", "1" * 13):
            self.says(f"tcp:{port}", f"port {port}: must be a number from 0 to 65535")

    def test_no_such_address(self) -> None:
        """Names are not looked up, and a link-local address needs its link."""
        self.says(
            "tcp:1:interface=localhost",
            "interface: must be an IPv4 or IPv6 address (127.0.0.1 and ::1 are localhost); it is tcp:PORT",
        )
        self.says(
            "udp:1:interface=example.org", "interface: must be", "(names are not looked up); it is udp:"
        )
        self.says(
            "tls:1:interface=[fe80::1]:certdir=x",
            "interface: a link-local address needs its link: fe80::1%eth0; it is tls:",
        )

    def test_ipv6_without_brackets(self) -> None:
        """Its colons divide, whatever is left of it; the way out is said, not the rubble."""
        for address in ("::1", "2001:db8::1", "fe80::1%eth0"):
            self.says(
                f"tcp:1:interface={address}",
                "(an IPv6 address goes in brackets: interface=[::1]); it is tcp:",
            )
        for networks in ("fd00::/8", "10.0.0.0/8,fd00::/8"):
            self.says(
                f"tcp:1:proxy={networks}", "(an IPv6 address goes in brackets: interface=[::1]); it is tcp:"
            )

    def test_brackets_that_do_not_match(self) -> None:
        """One that is never closed would swallow the rest, and with it who may connect."""
        for text in ("unix:[/x:mode=600", "unix:/x]:mode=600", "unix:]/x[:mode=600"):
            self.says(
                text,
                "the brackets do not match; one that is part of a name is written \\[ or \\]; it is unix:",
            )

    def test_no_such_backlog(self) -> None:
        """None could ever connect to a listener where none may wait."""
        for endpoint in ("tcp:1", "tls:1:certdir=x", "unix:/x"):
            for number in ("0", "65536", "many"):
                self.says(
                    f"{endpoint}:backlog={number}", f"backlog {number}: must be a number from 1 to 65535"
                )

    def test_no_such_network(self) -> None:
        """Also one with bits beyond its prefix, which nobody can have meant."""
        for value, why in (
            ("example.org", "does not appear to be an IPv4 or IPv6 network"),
            ("10.0.0.1/8", "has host bits set"),
            ("", "does not appear to be an IPv4 or IPv6 network"),
        ):
            self.says(
                f"tcp:1:proxy=192.0.2.1,{value}",
                f"proxy '{value}': {why}; give networks such as 10.0.0.0/8,fd00::/8; it is tcp:",
            )
        for endpoint in ("tcp:1", "tls:1:certdir=x", "systemd:index=0"):
            self.says(f"{endpoint}:proxy=", "proxy= is empty: give it a value")

    def test_no_such_mode(self) -> None:
        """Three octal digits: who may connect, and nothing that means something else."""
        for mode in ("668", "66", "6660", "1660", "rw", "0o660"):
            for kind in ("unix", "unixgram"):
                self.says(
                    f"{kind}:/x:mode={mode}",
                    f"mode {mode}: must be three octal digits, such as 660; it is {kind}",
                )

    def test_no_such_lockfile(self) -> None:
        """As Twisted has it, 0 or 1."""
        self.says("unix:/x:lockfile=yes", "lockfile yes: must be 0 or 1; it is unix:")

    def test_path_too_long(self) -> None:
        """Counted in bytes, as the system counts."""
        for path in ("x" * 108, "ä" * 54, os.fsdecode(b"\xff" * 108)):
            self.says(
                f"unix:{path}", "the path is longer than 107 bytes, which is all that the system takes; it is"
            )

    def test_path_that_ends_early(self) -> None:
        """The system would take what stands before a NUL for the path."""
        self.says("unix:/x\0y", "the path has a NUL in it; it is unix:")

    def test_certificate_without_key(self) -> None:
        """They go together; and there must be some."""
        for rest in (
            "",
            ":cert=a",
            ":key=b",
            ":certdir=d:cert=a",
            ":certdir=d:key=b",
        ):
            self.says(f"tls:1{rest}", "cert= and key= go together, or certdir= names a folder; it is tls:")

    def test_a_part_that_is_empty(self) -> None:
        """A variable that a script has not set is no wish for the default: every address, any client, other files."""
        for endpoint, name in (
            ("tcp:1:interface=", "interface"),
            ("udp:1:interface=", "interface"),
            ("tcp:1:proxy=", "proxy"),
            ("unix:/x:mode=", "mode"),
            ("unix:/x:lockfile=", "lockfile"),
            ("unix:@x:mode=", "mode"),
            ("systemd:name=", "name"),
            ("haproxy:tcp:1:backlog=", "backlog"),
            *(
                (f"tls:1:cert=a:key=b:{name}=", name)
                for name in ("certdir", "clientCA", "alpn", "min-version", "ciphers")
            ),
            ("tls:1:cert=:key=b", "cert"),
            ("tls:1:cert=a:key=", "key"),
        ):
            self.says(endpoint, f"{name}= is empty: give it a value, or leave it out; it is ")
        self.says("tcp:1:x=", "x= is not known here; it is tcp:")

    def test_which_inherited_socket(self) -> None:
        """Its name or its number: not both, not neither."""
        for rest in ("proxy=10.0.0.0/8", "name=a:index=0"):
            self.says(
                f"systemd:{rest}", "either the name or the index says which socket it is; it is systemd:"
            )
        self.says("systemd:index=x", "index x: must be a number from 0 to 9999")
        self.says("systemd:index=10000", "index 10000: must be a number from 0 to 9999")

    def test_unknown_part(self) -> None:
        """The nearest one that there is."""
        self.says(
            "tcp:1:interfaces=[::1]", "interfaces= is not known here, did you mean interface=?; it is tcp:"
        )
        self.says(
            "tls:1:cert=a:key=b:clientca=c", "clientca= is not known here, did you mean clientCA=?; it is"
        )
        self.says(
            "tls:443:certdir=d:minversion=1.3", "minversion= is not known here, did you mean min-version=?"
        )
        self.says("udp:1:xyz=1", "xyz= is not known here; it is udp:")

    def test_no_version_of_tls(self) -> None:
        """Older ones are broken (RFC 8996)."""
        self.says("tls:443:certdir=d:min-version=1.1", "min-version 1.1: must be 1.2 or 1.3; it is tls:")

    def test_part_of_another_kind(self) -> None:
        """Nothing is ignored: what a kind does not know is refused."""
        for text, part in (
            ("udp:1:backlog=5", "backlog"),
            ("udp:1:proxy=10.0.0.0/8", "proxy"),
            ("unix:/x:interface=[::1]", "interface"),
            ("unixgram:/x:lockfile=1", "lockfile"),
            ("unixgram:/x:backlog=1", "backlog"),
            ("tcp:1:cert=a", "cert"),
            ("tls:1:certdir=x:mode=600", "mode"),
            ("systemd:name=a:backlog=1", "backlog"),
        ):
            self.says(text, f"{part}= is not known here")

    def test_part_given_twice(self) -> None:
        """Which of the two counts is not guessed."""
        self.says("tcp:1:backlog=5:backlog=6", "backlog is given twice; it is tcp:")

    def test_part_without_a_name(self) -> None:
        """Only the first part goes without one."""
        for text, rest in (
            ("tcp:1:127.0.0.1", "127.0.0.1"),
            ("udp:1:2:3", "2:3"),
            ("unix:/x:660", "660"),
            ("unixgram:/x:660", "660"),
            ("tls:1:certdir=x:y", "y"),
            ("systemd:name=a:b", "b"),
        ):
            self.says(text, f"'{rest}' has no meaning here; it is ")

    def test_haproxy_before_what_is_no_stream(self) -> None:
        """There is no header in datagrams."""
        for inner in ("udp:1", "unixgram:/x", "UDP:1", "Unixgram:/x"):
            error = self.assertRaises(ValueError, parse_endpoint, f"haproxy:{inner}")

            self.assertEqual("haproxy: goes before a stream endpoint, such as tcp or unix", str(error))

    def test_haproxy_before_nothing_or_itself(self) -> None:
        """However often."""
        for text in (
            "haproxy",
            "haproxy:",
            "haproxy:haproxy:tcp:1",
            "haproxy:HAProxy:tcp:1",
            "haproxy:" * 5000,
        ):
            self.says(text, "haproxy: goes before a stream endpoint, such as tcp or unix")

    def test_haproxy_before_a_mistake(self) -> None:
        """The mistake is what is said."""
        self.says("haproxy:tcp:x", "port x: must be")

    def test_no_endpoint_at_all(self) -> None:
        """What one looks like is shown."""
        for text in ("", "8080", "   ", "echo", " tcp"):
            error = self.assertRaises(ValueError, parse_endpoint, text)

            self.assertEqual(
                f"endpoint {text!r}: an endpoint is KIND:ARGUMENTS, such as tcp:8080", str(error)
            )
        self.says(":", "endpoint ':': there are tcp, udp, ")

    def test_unknown_kind(self) -> None:
        """The nearest one that there is, or all of them with what Twisted says."""
        near = self.assertRaises(ValueError, parse_endpoint, "tpc:80")
        self.assertEqual("endpoint 'tpc:80': did you mean tcp:?", str(near))
        self.says("hapoxy:tcp:80", "did you mean haproxy:?")
        self.says("ttls:443", "did you mean tls:?")
        far = self.assertRaises(ValueError, parse_endpoint, "carrier-pigeon:1")
        self.assertEqual(
            "endpoint 'carrier-pigeon:1': there are tcp, udp, unix, unixgram, tls, systemd, haproxy, and what"
            " Twisted knows (ValueError: Unknown endpoint type: 'carrier-pigeon')",
            str(far),
        )

    def test_a_kind_that_only_twisted_would_read_as_one_of_ours(self) -> None:
        """Twisted unescapes a kind and takes the first part without a name for it; here that is no endpoint."""
        for text in (
            "h\\aproxy:tcp:80",
            "\\TLS:22500:cert=c:key=k",
            "x=y:haproxy:tcp:80",
            "privateKey=k.pem:ssl:443",
            "interface=127.0.0.1:tcp:80",
            "haproxy:x=y:haproxy:tcp:80",
            "haproxy:\\haproxy:tcp:80",
        ):
            self.says(text, "an endpoint is KIND:ARGUMENTS, such as tcp:8080")

    def test_what_twisted_refuses(self) -> None:
        """Whatever it, or a plugin of it, raises is put into the line."""
        self.says("tcp6:x", "endpoint 'tcp6:x': there are ", "(ValueError: invalid literal")
        self.says("tcp6:1:\\", "(RuntimeError: ")

    def test_twisteds_own_tls(self) -> None:
        """It loses bytes when a client half-closes; what it was told is told to ours, as far as it can be read."""
        for text, better in (
            ("ssl:443:certKey=c.pem:privateKey=k.pem", "tls:443:cert=c.pem:key=k.pem"),
            ("ssl:port=443", "tls:PORT:cert=FILE:key=FILE"),
            ("ssl:443:privateKey=both.pem:interface=127.0.0.1", "tls:443:cert=both.pem:key=both.pem"),
            ("ssl:443:certKey=a\\:b:privateKey=k", "tls:443:cert=a\\:b:key=k"),
            ("haproxy:ssl:443", "tls:443:cert=FILE:key=FILE"),
            ("ssl:443:[", "tls:PORT:cert=FILE:key=FILE"),
            ("ssl", "tls:PORT:cert=FILE:key=FILE"),
            ("SSL:443:privateKey=k", "tls:443:cert=k:key=k"),
            ("HAProxy:Ssl:443", "tls:443:cert=FILE:key=FILE"),
        ):
            self.says(text, f"when a client half-closes; use {better}, which loses nothing")

    def test_brackets_in_an_endpoint_of_twisteds(self) -> None:
        """It knows none; what it knows is shown."""
        self.says(
            "tcp6:8080:interface=[::1]",
            r"Twisted's own endpoints know no brackets; write tcp6:8080:interface=\:\:1 (",
        )

    def test_a_name_has_no_file(self) -> None:
        """Nobody could honour a mode or a lock file of a name in the abstract namespace."""
        for text in ("unix:@x:mode=660", "unix:@x:lockfile=1", "unixgram:@x:mode=600"):
            self.says(
                text, "@x is a name and no file, so that it has neither mode= nor lockfile=; it is unix"
            )

    def test_a_plugin_that_says_much(self) -> None:
        """Its words are put into one line."""

        def raise_lines(*_: object) -> None:
            raise KeyError("one\n two\r\n\tthree")

        self.patch(sys.modules["twisted.internet.endpoints"], "serverFromString", raise_lines)
        self.says("anything:1", "what Twisted knows (KeyError: ")


class PartTests(SynchronousTestCase):
    """What options and files share with the grammar."""

    def test_numbers(self) -> None:
        """Both ends belong to them."""
        self.assertEqual([1, 9], [parse_number("n", text, 1, 9) for text in ("1", "09")])

    def test_interfaces(self) -> None:
        """An address, or none, comes back as it is."""
        for address in ("", "0.0.0.0", "::", "::1", "fe80::1%eth0", "fd00::1"):
            self.assertEqual(address, check_interface(address))

    def test_networks(self) -> None:
        """None is none."""
        self.assertEqual((), parse_networks([]))
        self.assertEqual(THIS_MACHINE, parse_networks(["127.0.0.0/8", "::1"]))

    def test_ipv4_networks_in_ipv6_form(self) -> None:
        """Peers are compared as IPv4 addresses; the others of IPv6 are left as they are."""
        for text, network in (
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:192.0.2.1", "192.0.2.1/32"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("fd00::/8", "fd00::/8"),
        ):
            self.assertEqual((ip_network(network),), parse_networks([text]))
