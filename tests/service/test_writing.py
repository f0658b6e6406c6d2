"""Tests of where root may write by name."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.trial.unittest import SynchronousTestCase

from echosvc.service.writing import changeable_by_others

USER, GROUP = 12345, 23456


class ChangeableTests(SynchronousTestCase):
    """On the way from the root of the file system to a file."""

    def setUp(self) -> None:
        """Have a folder of root's in ``/tmp``, which is sticky."""
        if os.geteuid() != 0:
            self.skipTest("needs root, who alone can give files away")
        temporary = TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name).resolve()

    def make(self, name: str, *, mode: int = 0o755, user: int = 0, group: int = 0) -> Path:
        """Make a folder."""
        folder = self.folder / name
        folder.mkdir()
        folder.chmod(mode)
        os.chown(folder, user, group)
        return folder

    def test_a_folder_of_root_s(self) -> None:
        """It is root's alone, whether the file is there or not, and also if its path has no meaning at all."""
        (self.folder / "file").write_text("")
        for name in ("file", "other", "no/such/folder", "file/is-none"):
            self.assertIsNone(changeable_by_others(self.folder / name))

    def test_a_folder_of_a_user_s(self) -> None:
        """Wherever on the way it is."""
        users = self.make("users", user=USER)
        (users / "roots").mkdir()
        for path in (
            users / "file",
            users / "roots" / "file",
            users / "roots" / ".." / "file",
            users / "no" / "such",
        ):
            self.assertEqual(users, changeable_by_others(path))

    def test_a_folder_that_others_may_write_to(self) -> None:
        """All of them, or a group of the service's own; any other group is root's own affair, as /var/log is of syslog's."""
        everybody = self.make("everybody", mode=0o777)
        groups = self.make("groups", mode=0o775, group=GROUP)

        self.assertEqual(everybody, changeable_by_others(everybody / "file"))
        self.assertEqual(groups, changeable_by_others(groups / "file", [1, GROUP]))
        self.assertIsNone(changeable_by_others(groups / "file", [1]))

    def test_a_sticky_folder(self) -> None:
        """What is root's there stays; what is another user's is that user's to change."""
        sticky = self.make("sticky", mode=0o1777)
        (sticky / "roots").write_text("")
        (sticky / "users").symlink_to("roots")
        os.chown(sticky / "users", USER, GROUP, follow_symlinks=False)

        self.assertIsNone(changeable_by_others(sticky / "roots"))
        self.assertIsNone(changeable_by_others(sticky / "nothing"))
        self.assertEqual(sticky, changeable_by_others(sticky / "users"))

    def test_links_of_root_s_are_followed(self) -> None:
        """Absolute and relative ones, into folders of root's and of users'; those that lead in circles lead nowhere."""
        users = self.make("users", user=USER)
        (self.folder / "absolute").symlink_to(users)
        (self.folder / "relative").symlink_to("users/file")
        (self.folder / "here").symlink_to(".")
        (self.folder / "circle").symlink_to("circle")

        for path in (
            self.folder / "absolute" / "file",
            self.folder / "relative",
            self.folder / "here" / "users" / "x",
        ):
            self.assertEqual(users, changeable_by_others(path))
        self.assertIsNone(changeable_by_others(self.folder / "here" / "file"))
        self.assertIsNone(changeable_by_others(self.folder / "circle"))

    def test_a_relative_path(self) -> None:
        """It begins where we are."""
        self.addCleanup(os.chdir, Path.cwd())
        users = self.make("users", user=USER)
        os.chdir(users)

        self.assertEqual(users, changeable_by_others(Path("file")))
