"""What the Containerfile promises: no root, no shell in between, no compiler, and a stop that drains."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from echosvc.listeners import Internet
from echosvc.settings import read_config
from tests.deploy.containerfile import CONTAINER, final, stages

ROOT = CONTAINER.parents[1]


class ContainerfileTests(SynchronousTestCase):
    """The image is what a careful operator expects."""

    def test_is_not_root(self) -> None:
        """The user is a number, which Kubernetes can tell from root."""
        uid, gid = final("USER").split(":")

        self.assertGreater(int(uid), 999)
        self.assertGreater(int(gid), 999)

    def test_no_shell_in_between(self) -> None:
        """All is said in exec form, so that signals reach the service and not a shell."""
        entry, arguments = json.loads(final("ENTRYPOINT")), json.loads(final("CMD"))
        check = json.loads(final("HEALTHCHECK").partition("CMD ")[2])

        self.assertEqual(entry, ["twistd", "-n", "--pidfile=", "echosvc"])
        self.assertEqual(arguments, ["--config", "/etc/echosvc/echosvc.toml"])
        self.assertEqual(check, ["echosvc", "health", *arguments])

    def test_stops_by_a_drain(self) -> None:
        """It is told to stop by the signal that drains."""
        self.assertEqual(final("STOPSIGNAL"), "SIGTERM")

    def test_nothing_is_built_or_installed_in_it(self) -> None:
        """The last stage runs nothing: what the first has needed is not in the image."""
        self.assertEqual([rest for word, rest in stages()[-1] if word == "RUN"], [])
        self.assertEqual([len(stages()), stages()[0][0][1].split()[1:]], [2, ["AS", "build"]])

    def test_both_stages_have_the_same_python(self) -> None:
        """What was installed with one Python runs with the other."""
        first, last = (each[0][1].split()[0] for each in stages())

        self.assertEqual(first, last)

    def test_ports_are_those_of_the_file(self) -> None:
        """What is exposed is what the file in it listens on; whoever is not root may bind it."""
        settings = read_config(str(CONTAINER / "echosvc.toml"))
        assert settings.admin is not None
        listening = {
            f"{each.place.port}/{each.place.transport}"
            for each in [*settings.listeners, settings.admin]
            if isinstance(each.place, Internet)
        }

        self.assertEqual(set(final("EXPOSE").split()), listening)
        self.assertTrue(all(int(each.partition("/")[0]) >= 1024 for each in listening))

    def test_what_is_copied_is_there(self) -> None:
        """Each file is in the checkout, and .containerignore lets it through."""
        rules = [
            line
            for line in (ROOT / ".containerignore").read_text().splitlines()
            if line and not line.startswith("#")
        ]
        allowed = [each[1:] for each in rules if each.startswith("!")]
        copied = [
            name
            for stage in stages()
            for word, rest in stage
            if word == "COPY" and not rest.startswith("--from")
            for name in rest.split()[:-1]
        ]

        self.assertEqual(rules[0], "*")
        self.assertEqual(sorted(copied), sorted(allowed))
        self.assertTrue(all((ROOT / each).exists() for each in copied))
