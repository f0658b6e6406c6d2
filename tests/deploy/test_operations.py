"""The page that one opens at night has what one looks for."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_LINK = re.compile(r"\]\(([^)#:]+)?(?:#([^)]+))?\)")


def anchors(page: Path) -> set[str]:
    """The places in a page that links can name, as forges make them of its headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


class AlertTests(SynchronousTestCase):
    """Every alert leads somewhere."""

    def test_every_alert_has_a_section(self) -> None:
        """Under its own name, in the order of the rules; and no section is of an alert that is no more."""
        rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "echosvc.rules.yml").read_text())
        alerts = [rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule]
        sections = re.findall(r"^### (Echosvc\w+)$", (DOCS / "operations.md").read_text(), re.MULTILINE)

        self.assertEqual(sections, alerts)


class LinkTests(SynchronousTestCase):
    """What the pages name is there."""

    def test_links_lead_somewhere(self) -> None:
        """Every file, folder and heading that the pages on running echosvc link to exists."""
        for page in (DOCS / "operations.md", DOCS / "scaling.md"):
            for path, anchor in _LINK.findall(page.read_text()):
                target = (page.parent / path).resolve() if path else page
                self.assertTrue(target.exists(), f"{page.name}: {path}")
                if anchor:
                    self.assertIn(anchor, anchors(target), page.name)

    def test_files_of_a_kustomization_of_ones_own(self) -> None:
        """The example for Kubernetes leads to folders that are there."""
        (example,) = re.findall(
            r"^```yaml\n(.*?)^```", (DOCS / "scaling.md").read_text(), re.MULTILINE | re.DOTALL
        )
        said = yaml.safe_load(example)
        named = [*said["resources"], *said["components"]]

        self.assertEqual(len(named), 2)
        for each in named:
            self.assertTrue((ROOT / each.removeprefix("../echosvc/")).is_dir(), each)
