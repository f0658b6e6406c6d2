"""The systemd units say what the service needs, and fit what it is told."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from echosvc.errors import ExitCode
from echosvc.listeners import Inherited, Internet
from echosvc.settings import Settings, read_config
from tests.hold.unit_file import DEPLOY, read_unit

SERVICES = ("echosvc", "echosvc-socket")


def service(name: str) -> dict[str, list[str]]:
    """What a unit says of its process."""
    return read_unit(DEPLOY / f"{name}.service")["Service"]


def settings(name: str) -> Settings:
    """What the unit's file says."""
    return read_config(str(DEPLOY / f"{name}.toml"))


class ServiceTests(SynchronousTestCase):
    """Both services are run alike."""

    def test_differ_in_sockets_and_rights_alone(self) -> None:
        """One binds and has the one right for that; the other is given sockets, and has none."""
        one, other = (
            {(key, value) for key, values in service(name).items() for value in values} for name in SERVICES
        )
        file = "/etc/echosvc/echosvc"
        commands = ("ExecStart", "ExecReload")

        self.assertEqual(
            {each for each in one - other if each[0] not in commands},
            {
                ("AmbientCapabilities", "CAP_NET_BIND_SERVICE"),
                ("CapabilityBoundingSet", "CAP_NET_BIND_SERVICE"),
            },
        )
        self.assertEqual(
            {each for each in other - one if each[0] not in commands},
            {("CapabilityBoundingSet", ""), ("PrivateUsers", "yes"), ("Sockets", "echosvc.socket")},
        )
        self.assertEqual(
            {each for each in one if each[0] in commands},
            {
                (key, value.replace(f"{file}-socket.toml", f"{file}.toml"))
                for key, value in other
                if key in commands
            },
        )

    def test_reload_is_refused_if_the_file_is_wrong(self) -> None:
        """The file is checked before the service hears of it."""
        for name in SERVICES:
            check, tell = service(name)["ExecReload"]

            self.assertTrue(check.endswith(f"/echosvc config check /etc/echosvc/{name}.toml"))
            self.assertEqual(tell, "/bin/kill -HUP $MAINPID")

    def test_drain_ends_before_the_kill(self) -> None:
        """Systemd waits for longer than the service gives its connections."""
        for name in SERVICES:
            (patience,) = service(name)["TimeoutStopSec"]

            self.assertGreaterEqual(int(patience), settings(name).grace + 5)

    def test_workers_are_told_by_their_parent(self) -> None:
        """SIGTERM goes to the main process alone: a second one would end the workers at once."""
        self.assertEqual([service(name)["KillMode"] for name in SERVICES], [["mixed"]] * 2)

    def test_hopeless_starts_are_not_repeated(self) -> None:
        """Whatever another try cannot mend ends it: wrong options, no permission, a wrong file."""
        codes = {ExitCode.USAGE, ExitCode.PERMISSION, ExitCode.CONFIG}

        for name in SERVICES:
            (prevented,) = service(name)["RestartPreventExitStatus"]
            self.assertEqual({int(each) for each in prevented.split()}, codes)

    def test_descriptors_for_all_connections(self) -> None:
        """More than the 65536 connections that are let in by default need."""
        self.assertEqual([service(name)["LimitNOFILE"] for name in SERVICES], [["131072"]] * 2)


class SocketTests(SynchronousTestCase):
    """The socket unit and its service's file mean the same."""

    def test_port_seven_over_tcp_and_udp(self) -> None:
        """RFC 862's port, in one unit."""
        said = read_unit(DEPLOY / "echosvc.socket")["Socket"]

        self.assertEqual((said["ListenStream"], said["ListenDatagram"]), (["7"], ["7"]))
        self.assertEqual(said["Service"], ["echosvc-socket.service"])

    def test_name_is_what_the_file_asks_for(self) -> None:
        """The sockets are found by the name that systemd gives them."""
        (name,) = read_unit(DEPLOY / "echosvc.socket")["Socket"]["FileDescriptorName"]
        (listener,) = settings("echosvc-socket").listeners
        assert isinstance(listener.place, Inherited)

        self.assertEqual(listener.place.name, name)

    def test_restart_keeps_the_sockets(self) -> None:
        """The service's end is not the sockets' end: nothing ties them to it."""
        said = read_unit(DEPLOY / "echosvc.socket")

        self.assertFalse({"PartOf", "BindsTo", "Requires"} & said["Unit"].keys())


class FileTests(SynchronousTestCase):
    """The examples for /etc/echosvc."""

    def test_own_ports(self) -> None:
        """Port 7 of every address, TCP and UDP, and figures for this machine alone."""
        said = settings("echosvc")
        assert said.admin is not None

        self.assertEqual(
            [each.place for each in said.listeners], [Internet("tcp", 7, ""), Internet("udp", 7, "")]
        )
        self.assertEqual(said.admin.place, Internet("tcp", 9007, "127.0.0.1"))

    def test_both_say_the_same_besides(self) -> None:
        """Where sockets come from is the only difference."""
        one, other = settings("echosvc"), settings("echosvc-socket")

        self.assertEqual((one.gate, one.grace, one.workers), (other.gate, other.grace, other.workers))
