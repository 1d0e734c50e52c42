"""Sizes without graphs: read from npz, CSV and Parquet alike, planned as graphs of these sizes are, never built."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from packer import PackPlan
from packer.errors import SourceError
from packer.scan.attributes import Attributes
from pipelines import build
from pipelines.cli.app import app
from pipelines.sources import parse_source

RNG = np.random.default_rng(0)
NODES = RNG.integers(1, 30, 400)
COLUMNS = {"num_nodes": NODES, "num_edges": 2 * NODES, "n_triplets": RNG.integers(0, 90, 400), "built": NODES**2}


def write(folder: Path, kind: str, columns: dict[str, Any]) -> Path:
    path = folder / f"sizes.{kind}"
    if kind == "npz":
        np.savez(path, **columns)
    elif kind == "parquet":
        pq.write_table(pa.table(columns), path)
    else:
        rows = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
        text = ("\n".join(rows) + "\n").encode()
        path.write_bytes(gzip.compress(text) if kind.endswith("gz") else text)
    return path


def run(*words: str) -> Any:
    result = CliRunner().invoke(app, [*words])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("kind", ["npz", "csv", "csv.gz", "parquet"])
def test_every_form_gives_the_same_plan(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind, COLUMNS)
    words = [f"sizes:{path}", "--axis", "triplet=n_triplets", "--budget", "built=3000"]
    limits = ["--num-nodes", "90", "--num-edges", "180", "--num-graphs", "9", "--num", "triplet=300"]
    found = run("plan", *words, *limits, "--out", str(tmp_path / "plan.parquet"), "--json")
    assert found["status"] == "optimal" and found["graphs"] == 400
    plan = PackPlan.load(tmp_path / "plan.parquet")
    assert [axis.key for axis in plan.sizes.axes] == ["node", "edge", "triplet", "built"]
    held = np.add.reduceat(COLUMNS["built"][plan.graph_ids], plan.pack_offsets[:-1])
    assert held.max() <= 3000
    seen = run("scan", *words, "--json")["sizes"]
    assert seen["triplet"]["total"] == COLUMNS["n_triplets"].sum() and seen["built"]["max"] == COLUMNS["built"].max()


@pytest.mark.parametrize("columns", [{"natoms": NODES, "neighbors": 2 * NODES}, {"num_atoms_per_entry": NODES}])
def test_the_names_of_others_are_known(tmp_path: Path, columns: dict[str, Any]) -> None:
    sizes, ids, empty = parse_source(f"sizes:{write(tmp_path, 'npz', columns)}").read(Attributes())  # pyright: ignore
    assert np.array_equal(sizes.columns["node"], NODES) and len(ids) == 400 and not empty
    assert sizes.columns["edge"].sum() == (2 * NODES.sum() if len(columns) == 2 else 0)


def test_graphs_without_nodes_are_told_or_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, "csv", {"num_nodes": [3, 0, 4]})
    result = CliRunner().invoke(app, ["compare", f"sizes:{path}", "--limits", "max", "--num-graphs", "4"])
    assert result.exit_code == 1 and "(row 2) cannot be packed" in str(result.exception)
    found = run("scan", f"sizes:{path}", "--on-empty", "skip", "--json")
    assert found["graphs"] == 3 and found["sizes"]["node"]["total"] == 7 and len(found["skipped"]) == 1


@pytest.mark.parametrize(
    ("kind", "columns", "message"),
    [
        ("npz", {"atoms": NODES}, r"no column 'num_nodes'; its columns are \['atoms'\]"),
        ("npz", {"num_nodes": NODES, "natoms": NODES}, "say which counts nodes"),
        ("npz", {"num_nodes": NODES.astype(float)}, "'num_nodes' is float64 of shape"),
        ("npz", {"num_nodes": NODES.reshape(2, -1)}, r"shape \[2, 200\], not whole numbers, one a graph"),
        ("npz", {"num_nodes": np.array([1, None], dtype=object)}, "is no column of whole numbers"),
        ("npz", {"num_nodes": np.array([4, -1])}, "'num_nodes' is -1 in row 2"),
        ("npz", {"num_nodes": np.array([0, 0])}, "has no graph with nodes, in 2 rows"),
        ("npz", {"num_nodes": NODES, "num_edges": NODES[1:]}, "column 'num_edges' has 399 rows, 'num_nodes' has 400"),
        ("npz", {"num_nodes": NODES, " num_edges": NODES}, "say which counts edges"),
        ("csv", {"num_nodes": [3, "4.5"]}, "'num_nodes' is no column of whole numbers: .*Row #3"),
        ("csv", {"num_nodes": [3, ""]}, "'num_nodes' has no number in row 2"),
        ("parquet", {"num_nodes": [3, None]}, "'num_nodes' has no number in row 2"),
        ("parquet", {"num_nodes": ["a"]}, "is object of shape|whole numbers"),
    ],
)
def test_what_is_no_size_is_told(tmp_path: Path, kind: str, columns: dict[str, Any], message: str) -> None:
    if kind == "csv":
        columns = {"name": ["a", "b"], **columns}
    source: Any = parse_source(f"sizes:{write(tmp_path, kind, columns)}")
    with pytest.raises(SourceError, match=message):
        source.read(Attributes())


@pytest.mark.parametrize("data", [b"", b"\0\1\2", b"PK\3\4 no archive"])
@pytest.mark.parametrize("kind", ["npz", "csv", "parquet"])
def test_a_file_of_another_kind_is_told(tmp_path: Path, kind: str, data: bytes) -> None:
    (tmp_path / f"sizes.{kind}").write_bytes(data)
    source: Any = parse_source(f"sizes:{tmp_path / f'sizes.{kind}'}")
    with pytest.raises(SourceError, match="sizes:"):
        source.read(Attributes())


def test_nothing_is_built_or_trimmed_of_sizes(tmp_path: Path) -> None:
    path = write(tmp_path, "npz", COLUMNS)
    with pytest.raises(SourceError, match="holds sizes, not graphs"):
        build(f"sizes:{path}", tmp_path / "packs", workers=1)
    assert not (tmp_path / "packs").exists()
    words = ["--limits", "0.5", "--num-graphs", "4", "--oversize", "trim-both"]
    result = CliRunner().invoke(app, ["compare", f"sizes:{path}", *words])
    assert result.exit_code == 1 and "holds sizes, not graphs" in str(result.exception)
