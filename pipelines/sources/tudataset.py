"""`tudataset:NAME --root DIR`: the raw text files of a TUDataset, read by PyG's own reader, never downloaded."""

from __future__ import annotations

import contextlib
import hashlib
import io
import tempfile
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from packer.errors import MissingExtraError, SourceError
from pipelines.sources.pyg import PygSource
from pipelines.sources.text import digest, has_changed, open_file


def tudataset(name: str, root: Path, use_node_attr: bool = False, use_edge_attr: bool = False) -> PygSource:
    """The data set whose raw text lies in root/name/raw. Nothing is written there."""
    called = f"tudataset:{name}"
    asked = {"use_node_attr": use_node_attr, "use_edge_attr": use_edge_attr}
    asked = {option: value for option, value in asked.items() if value}
    words = (called, "--root", str(root), *(f"--{option.replace('_', '-')}" for option in asked))

    def pin() -> PygSource:
        key = _key(name, root, asked)
        load = partial(_load, name, root, asked, key["sha256"])
        return PygSource(called, load, key.copy, repeatable=True, words=words)

    load, facts = partial(_load, name, root, asked), partial(_key, name, root, asked)
    return PygSource(called, load, facts, repeatable=True, words=words, pin=pin)


def _load(name: str, root: Path, asked: dict[str, bool], sha256: Mapping[str, str] | None = None) -> Any:
    """asked: PyG's options; sha256: file name -> hash of the raw files that are to be read; None: whatever is there."""
    raw = _raw_folder(name, root)
    _check_indicator(raw / f"{name}_graph_indicator.txt")
    try:
        from torch_geometric.datasets import TUDataset
    except ImportError as error:
        raise MissingExtraError("torch_geometric", "pyg", "reading a TUDataset") from error
    with tempfile.TemporaryDirectory(prefix="graph-pack-") as folder:
        # PyG writes its processed copy beside the raw files: let it do so elsewhere, beside copies that no one changes.
        place = Path(folder) / name / "raw"
        place.mkdir(parents=True)
        found = {path.name: _copied(path, place / path.name) for path in sorted(raw.glob(f"{name}_*.txt"))}
        wanted = found if sha256 is None else sha256
        for file in sorted(found.keys() | wanted.keys()):
            if found.get(file) != wanted.get(file):
                raise has_changed(raw / file, found.get(file, "none: it is gone"), wanted.get(file, "none: it is new"))
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # it tells that it is "Processing..."
                return TUDataset(folder, name, **asked)  # pyright: ignore[reportArgumentType]
        except (ValueError, IndexError, RuntimeError) as error:
            raise SourceError(f"{raw} is not the raw text of a TUDataset: {error}") from error


def _copied(path: Path, to: Path) -> str:
    """Copy a file; SHA-256 of the bytes that were read."""
    found = hashlib.sha256()
    with open_file(path) as file, to.open("wb") as copy:
        for part in iter(lambda: file.read(1 << 20), b""):
            found.update(part)
            copy.write(part)
    return found.hexdigest()


def _key(name: str, root: Path, asked: dict[str, bool]) -> dict[str, Any]:
    files = sorted(path for path in _raw_folder(name, root).glob(f"{name}_*.txt"))
    return {
        "kind": "tudataset",
        "name": name,
        "sha256": {path.name: digest(path) for path in files},
        "torch_geometric": version("torch_geometric"),
        **asked,
    }


def _check_indicator(path: Path) -> None:
    """Raise SourceError unless the nodes stand graph by graph, graph 1 first, as PyG's reader takes for granted."""
    last = 0
    with path.open() as file:
        for number, line in enumerate(file, 1):
            text = line.strip()
            if not text.isdecimal():
                raise SourceError(f"{path}, line {number}: {text[:40]!r} is no number of a graph, 1 or more")
            graph = int(text)
            if graph < max(last, 1):
                what = f"graph {graph} after graph {last}" if last else "graph 0; graphs are numbered from 1"
                raise SourceError(
                    f"{path}, line {number}: {what}: sort the nodes by their graph, and number all files so"
                )
            last = graph
    with path.open("rb") as file:
        file.seek(0, 2)
        if not file.tell():
            raise SourceError(f"{path} is empty")
        file.seek(-1, 2)
        if file.read(1) != b"\n":
            raise SourceError(f"{path}: the last line does not end (no newline), and would be lost: end it")


def _raw_folder(name: str, root: Path) -> Path:
    raw = root / name / "raw"
    missing = [f"{name}_{part}.txt" for part in ("A", "graph_indicator") if not (raw / f"{name}_{part}.txt").is_file()]
    if not missing:
        return raw
    found = sorted(path.parent.name for path in root.glob("*/raw")) if root.is_dir() else []
    there = f"{root} holds {', '.join(found) or 'no data set'}" if root.is_dir() else f"there is no folder {root}"
    raise SourceError(
        f"{raw} lacks {' and '.join(missing)}; {there}. Download {name} (torch_geometric.datasets.TUDataset does) and "
        "pass --root the folder that it lies in"
    )
