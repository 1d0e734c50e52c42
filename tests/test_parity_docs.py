"""The page for users of PopTorch Geometric: what runs runs, and every row of its tables names a test that exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch_geometric.data import Data

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "from-poptorch-geometric.md").read_text()
ROWS = [line.strip("|").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")]
ROWS = [[cell.strip() for cell in row] for row in ROWS if row[0].strip() != "there"]


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:60] for row in ROWS])
def test_every_row_has_a_test(row: list[str]) -> None:
    assert len(row) in (3, 4) and all(row)
    file, _, name = row[-1].strip("`").partition("::")
    assert re.search(rf"^def {name}\(", (TESTS / file).read_text(), re.MULTILINE), row[-1]


def test_the_options_of_the_peer_are_all_there() -> None:
    named = " ".join(row[0] for row in ROWS)
    for option in (
        *("num_nodes", "num_edges", "num_graphs", "node_pad_value", "edge_pad_value", "graph_pad_value"),
        *("pad_graph_defaults", "from_dataset", "from_loader", "to_hetero", "PadToMax", "StreamPack", "Error", "Skip"),
        *("TrimNodes", "TrimEdges", "TrimNodesAndEdges", "add_pad_masks", "shuffle", "follow_batch", "exclude_keys"),
        *("batch_sampler", "options=", "batch_size", "num_workers", "drop_last", "is_hetero", "total_num_nodes"),
    ):
        assert option in named, option


def test_the_job_file_is_one(tmp_path: Path) -> None:
    from pipelines.config import read_job

    (tmp_path / "job.toml").write_text(re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)[0])
    job = read_job(tmp_path / "job.toml")
    assert job["limits"] == "max" and job["pad"] == ["node=-1", "paper/x=0.5"] and job["index"] == ["partner=author"]


def test_the_example_after_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    graphs = [
        Data(x=torch.rand(n, 2), edge_index=torch.zeros(2, n, dtype=torch.long), name=f"graph {n}")
        for n in range(2, 30)
    ]
    seen: list[Any] = []
    space: dict[str, Any] = {"graphs": graphs, "model": lambda *tensors: seen.append([t.shape for t in tensors])}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, "from-poptorch-geometric.md", "exec"), space)
    assert len(seen) == len(space["loader"]) > 1
    assert all(shapes == seen[0] for shapes in seen)
    assert seen[0][0] == (29 * 7 + 1, 2)
