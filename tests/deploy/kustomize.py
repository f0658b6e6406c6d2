"""What ``kubectl kustomize`` makes of our files, as far as they use it: what they use otherwise is an error here."""

from __future__ import annotations

import copy
import re
import sys
from operator import itemgetter
from pathlib import Path
from typing import Any

import yaml

__all__ = ["KUBERNETES", "named", "read", "render"]

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"

#: One object of Kubernetes, as its file has it.
Object = dict[str, Any]


def read(path: Path) -> Any:
    """Read a YAML file with one document."""
    return yaml.safe_load(path.read_text())


def render(directory: Path) -> list[Object]:
    """Make the objects that a kustomization stands for.

    Args:
        directory: Where its ``kustomization.yaml`` is.

    Raises:
        KeyError: A patch has no target.
        ValueError: It says something that is not understood here.
    """
    said = read(directory / "kustomization.yaml")
    objects: list[Object] = []
    for name in said.pop("resources", []):
        path = directory / name
        objects += render(path) if path.is_dir() else [read(path)]
    for generator in said.pop("configMapGenerator", []):
        data = {name: (directory / name).read_text() for name in generator["files"]}
        objects.append(_config_map(generator["name"], data))
    for patch in said.pop("patches", []):
        _patch(objects, patch, read(directory / patch["path"]))
    images = {each["name"]: f"{each['newName']}:{each['newTag']}" for each in said.pop("images", [])}
    for each in objects:
        for container in _containers(each):
            container["image"] = images.get(container["image"], container["image"])
    if said.keys() != {"apiVersion", "kind"}:
        raise ValueError(f"{directory}: not understood: {sorted(said)}")
    return objects


def named(objects: list[Object], kind: str, name: str = "echosvc") -> Object:
    """Find one object.

    Raises:
        KeyError: There is none, or more than one.
    """
    found = [each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    if len(found) != 1:
        raise KeyError(f"{len(found)} of {kind} {name}")
    return found[0]


def _config_map(name: str, data: dict[str, str]) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def _containers(each: Object) -> list[Object]:
    template = each.get("spec", {}).get("template", {})
    containers: list[Object] = template.get("spec", {}).get("containers", [])
    return containers


def _patch(objects: list[Object], patch: Object, content: Any) -> None:
    if isinstance(content, list):
        target = named(objects, patch["target"]["kind"], patch["target"]["name"])
        for operation in content:
            _operate(target, operation)
    elif content.get("$patch") == "delete":
        objects.remove(named(objects, content["kind"], content["metadata"]["name"]))
    else:
        raise ValueError(f"{patch['path']}: neither a JSON patch nor a deletion")


def _operate(target: Any, operation: Object) -> None:
    """Do one operation of a JSON patch (RFC 6902, section 4)."""
    *way, last = (int(each) if each.isdigit() else each for each in operation["path"].split("/")[1:])
    for each in way:
        target = target[each]
    match operation["op"]:
        case "add":
            target[last] = copy.deepcopy(operation["value"])
        case "replace" if last in target:
            target[last] = copy.deepcopy(operation["value"])
        case "remove":
            del target[last]
        case _:
            raise KeyError(f"{operation['op']} {operation['path']}")


def _compare(real: Path) -> None:
    """Compare with what the real one has made.

    Args:
        real: A folder with a file for each kustomization.

    Raises:
        SystemExit: It is not the same.
    """
    for path in sorted(real.glob("*.yaml")):
        # To a ConfigMap's name it adds a hash of what it says.
        text = re.sub(r"\bechosvc-[0-9a-z]{10}\b", "echosvc", path.read_text())
        objects = sorted(yaml.safe_load_all(text), key=itemgetter("kind"))
        if objects != sorted(render(KUBERNETES / path.stem), key=itemgetter("kind")):
            raise SystemExit(f"kubernetes: {path.stem} is not what kustomize makes of it")
        sys.stdout.write(f"kubernetes: {path.stem} is what kustomize makes of it\n")


if __name__ == "__main__":
    _compare(Path(sys.argv[1]))
