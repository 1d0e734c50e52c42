"""`tudataset:NAME --root DIR`: the raw text files of a TUDataset, read by PyG's own reader, never downloaded."""

from __future__ import annotations

import contextlib
import io
import tempfile
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from packer.errors import MissingExtraError, SourceError
from pipelines.sources.pyg import PygSource
from pipelines.sources.text import digest


def tudataset(name: str, root: Path) -> PygSource:
    """The data set whose raw text lies in root/name/raw. Nothing is written there."""
    called = f"tudataset:{name}"
    load, facts = partial(_load, name, root), partial(_key, name, root)
    return PygSource(called, load, facts, repeatable=True, words=(called, "--root", str(root)))


def _load(name: str, root: Path) -> Any:
    raw = _raw_folder(name, root)
    try:
        from torch_geometric.datasets import TUDataset
    except ImportError as error:
        raise MissingExtraError("torch_geometric", "pyg", "reading a TUDataset") from error
    with tempfile.TemporaryDirectory(prefix="graph-pack-") as folder:
        # PyG writes its processed copy beside the raw files: let it do so elsewhere.
        place = Path(folder) / name
        place.mkdir()
        (place / "raw").symlink_to(raw.resolve())
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # it tells that it is "Processing..."
                return TUDataset(folder, name)
        except (ValueError, IndexError, RuntimeError) as error:
            raise SourceError(f"{raw} is not the raw text of a TUDataset: {error}") from error


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
