"""`tudataset:NAME --root DIR`: the raw text files of a TUDataset, read by PyG's own reader, never downloaded."""

from __future__ import annotations

import codecs
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
from pipelines.sources.tu_files import check_files


def tudataset(name: str, root: str | Path | None, use_node_attr: bool, use_edge_attr: bool) -> PygSource:
    """The data set whose raw text lies in root/name/raw. Nothing is written there."""
    called = f"tudataset:{name}"
    if root is None:
        raise SourceError(f"{called} needs root=DIR (--root DIR), the folder that holds {name}/raw")
    root = Path(root)
    asked = {"use_node_attr": use_node_attr, "use_edge_attr": use_edge_attr}
    asked = {option: value for option, value in asked.items() if value}
    words = (called, "--root", str(root), *(f"--{option.replace('_', '-')}" for option in asked))

    def pin() -> PygSource:
        key = _key(name, root, asked)
        load = partial(_load, name, root, asked, key["sha256"])
        return PygSource(called, load, key.copy, repeatable=True, argv=words)

    load, facts = partial(_load, name, root, asked), partial(_key, name, root, asked)
    return PygSource(called, load, facts, repeatable=True, argv=words, pin=pin)


def _load(name: str, root: Path, asked: dict[str, bool], sha256: Mapping[str, str] | None = None) -> Any:
    """asked: PyG's options; sha256: file name -> hash of the raw files that are to be read; None: whatever is there."""
    raw = _raw_folder(name, root)
    try:
        from torch_geometric.datasets import TUDataset
    except ImportError as error:
        raise MissingExtraError("torch_geometric", "pyg", "reading a TUDataset") from error
    with tempfile.TemporaryDirectory(prefix="graph-pack-") as folder:
        # PyG writes its processed copy beside the raw files: let it do so elsewhere, beside copies that no one changes.
        copies = Path(folder) / name / "raw"
        copies.mkdir(parents=True)
        hashes = {path.name: _copied(path, copies / path.name) for path in sorted(raw.glob(f"{name}_*.txt"))}
        wanted = hashes if sha256 is None else sha256
        for file in sorted(hashes.keys() | wanted.keys()):
            if hashes.get(file) != wanted.get(file):
                raise has_changed(raw / file, hashes.get(file, "none: it is gone"), wanted.get(file, "none: it is new"))
        graphs = check_files(copies, raw, name)
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # it tells that it is "Processing..."
                dataset = TUDataset(folder, name, **asked)  # pyright: ignore[reportArgumentType]
        except (ValueError, IndexError, RuntimeError) as error:
            raise SourceError(f"{raw} is not the raw text of a TUDataset: {error}") from error
    return _with_last_graphs(dataset, graphs)


def _with_last_graphs(dataset: Any, graphs: int) -> Any:
    """The data set with pointers for all graphs: PyG's reader makes none for the last ones, if they have no edges."""
    for key, slices in dataset.slices.items():
        if key in ("edge_index", "edge_attr") and len(slices) <= graphs:
            dataset.slices[key] = slices.new_tensor(slices.tolist() + slices[-1:].tolist() * (graphs + 1 - len(slices)))
    return dataset


def _copied(path: Path, to: Path) -> str:
    """Copy a text, its last line ended, without blank lines after it; SHA-256 of the bytes that were read."""
    hasher = hashlib.sha256()
    with open_file(path) as file, to.open("w+b") as copy:
        for part in iter(lambda: file.read(1 << 20), b""):
            hasher.update(part)
            copy.write(part.removeprefix(codecs.BOM_UTF8) if not copy.tell() else part)
        end = copy.tell()
        while end and copy.seek(max(end - 4096, 0)) < end:
            start = copy.tell()
            kept = len(copy.read(end - start).rstrip())
            end = start + kept
            if kept:
                break
        copy.truncate(end)
        copy.seek(end)
        copy.write(b"\n" if end else b"")
    return hasher.hexdigest()


def _key(name: str, root: Path, asked: dict[str, bool]) -> dict[str, Any]:
    files = sorted(path for path in _raw_folder(name, root).glob(f"{name}_*.txt"))
    return {
        "kind": "tudataset",
        "name": name,
        "sha256": {path.name: digest(path) for path in files},
        "torch_geometric": version("torch_geometric"),
        **asked,
    }


def _raw_folder(name: str, root: Path) -> Path:
    raw = root / name / "raw"
    missing = [f"{name}_{part}.txt" for part in ("A", "graph_indicator") if not (raw / f"{name}_{part}.txt").is_file()]
    if not missing:
        return raw
    others = sorted(path.parent.name for path in root.glob("*/raw")) if root.is_dir() else []
    contents = f"{root} holds {', '.join(others) or 'no data set'}" if root.is_dir() else f"there is no folder {root}"
    raise SourceError(
        f"{raw} lacks {' and '.join(missing)}; {contents}. Download {name} (torch_geometric.datasets.TUDataset does) "
        "and pass root, the folder that it lies in (--root)"
    )
