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


def tudataset(name: str, root: Path) -> PygSource:
    """The data set whose raw text lies in root/name/raw. Nothing is written there."""
    called = f"tudataset:{name}"
    words = (called, "--root", str(root))

    def pin() -> PygSource:
        key = _key(name, root)
        return PygSource(called, partial(_load, name, root, key["sha256"]), key.copy, repeatable=True, words=words)

    load, facts = partial(_load, name, root), partial(_key, name, root)
    return PygSource(called, load, facts, repeatable=True, words=words, pin=pin)


def _load(name: str, root: Path, sha256: Mapping[str, str] | None = None) -> Any:
    """sha256: file name -> hash of the raw files that are to be read; None: whatever lies there."""
    raw = _raw_folder(name, root)
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
                return TUDataset(folder, name)
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


def _key(name: str, root: Path) -> dict[str, Any]:
    files = sorted(path for path in _raw_folder(name, root).glob(f"{name}_*.txt"))
    return {
        "kind": "tudataset",
        "name": name,
        "sha256": {path.name: digest(path) for path in files},
        "torch_geometric": version("torch_geometric"),
    }


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
