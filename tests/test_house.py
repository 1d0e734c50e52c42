"""The layout: rooms in the order of the data's path, each of which may import from those before it. No circles."""

from __future__ import annotations

import ast
import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from paths import ROOT

ROOMS = re.compile(r"^\| `([a-z_]+)(?:\.py|/)` \|", re.MULTILINE)
PACKAGES = ("packer", "pipelines")


def rooms(package: str) -> list[str]:
    """In the order of CONTRIBUTING's table."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    return ROOMS.findall(text.split(f"### {package}/")[1].split("\n### ")[0])


def modules() -> dict[str, Path]:
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    named = ((".".join(path.relative_to(ROOT).with_suffix("").parts), path) for path in files)
    return {name.removesuffix(".__init__"): path for name, path in named}


def exports(path: Path) -> bool:
    """Whether it is a package that gives names of its modules, each on first use: a list, not a dependency."""
    return path.name == "__init__.py" and "_HOME" in path.read_text()


def imported(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Modules of the project that a file imports anywhere: at its head, in a function, or for its types only."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else node.module


@cache
def graph() -> dict[str, set[str]]:
    known = modules()
    return {name: set() if exports(path) else set(imported(path, known)) for name, path in known.items()}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_map_names_every_room(package: str) -> None:
    there = {path.stem for path in (ROOT / package).iterdir() if path.suffix == ".py" or path.is_dir()}
    assert sorted(rooms(package)) == sorted(there - {"__init__", "__pycache__"})
    entries = [path for path in (ROOT / package).iterdir() if path.name != "__pycache__"]
    assert len(entries) <= {"packer": 18, "pipelines": 12}[package]
    assert (ROOT / package / "py.typed").exists(), "type checkers of users look for it"


def test_a_room_imports_from_rooms_before_it() -> None:
    upwards: list[str] = []
    for name, targets in graph().items():
        package, *rest = name.split(".")
        for target in targets:
            there, *inside = target.split(".")
            if package == "packer" and there == "pipelines":
                upwards.append(f"{name} imports {target}")
            elif there == package and rest and inside:
                order = rooms(package)
                if order.index(rest[0]) < order.index(inside[0]):
                    upwards.append(f"{name} imports {target}")
    assert not upwards


def test_there_is_no_circle() -> None:
    try:
        tuple(TopologicalSorter(graph()).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_every_folder_is_a_package() -> None:
    folders = {path.parent for path in modules().values()}
    assert not [folder for folder in folders if not (folder / "__init__.py").exists()]


LIGHT = [
    ("import packer", "numpy"),
    ("import pipelines", "packer.plan.pack_plan"),
    ("packer.PackReader, packer.numpy_loader", "torch"),
    ("packer.make_plan, packer.PackLimits", "torch"),
    ("import packer.nn", "torch"),
    ("packer.MaskedBatchNorm, packer.masks_of", "torch_geometric"),
]
"""What is done, one after the other in one process, and what nothing has imported even then."""


def test_imports_are_light() -> None:
    checks = [f"{statement}\nassert {absent!r} not in sys.modules, {statement!r}" for statement, absent in LIGHT]
    subprocess.run([sys.executable, "-c", "\n".join(["import sys", *checks])], check=True, cwd=ROOT)


def test_the_walk_to_a_shard_is_short() -> None:
    """Each file of CONTRIBUTING's walk imports the next one, from the command to the writer."""
    text = (ROOT / "CONTRIBUTING.md").read_text().split("## From the command to a shard")[1].split("\n## ")[0]
    walk = re.findall(r"^\d\. `([\w/]+)\.py`", text, re.MULTILINE)
    assert walk[0] == "pipelines/cli/build" and walk[-1] == "packer/shards/writer" and len(walk) <= 6
    arrows = graph()
    homes = {"packer.shards": "packer.shards.writer"}  # the package gives write_shard on first use
    for this, that in itertools.pairwise(walk):
        targets = {homes.get(name, name) for name in arrows[this.replace("/", ".")]}
        assert that.replace("/", ".") in targets, (this, that)
