"""The page for users of PopTorch Geometric: what runs runs, and every row of its tables names a test that exists."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import poptorch_double
import pytest
import torch
from paths import ROOT
from torch_geometric.data import Batch, Data
from torch_geometric.nn import global_add_pool

from packer import PackDataset, PackLimits
from pipelines import build

TESTS = {path.name: path for path in (ROOT / "tests").rglob("test_*.py")}
PAGE = (ROOT / "docs" / "from-poptorch-geometric.md").read_text()
ROWS = [line.strip("|").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")]
ROWS = [[cell.strip() for cell in row] for row in ROWS if row[0].strip() != "there"]


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:60] for row in ROWS])
def test_every_row_has_a_test(row: list[str]) -> None:
    assert len(row) in (3, 4) and all(row)
    file, _, name = row[-1].strip("`").partition("::")
    assert re.search(rf"^def {name}\(", TESTS[file].read_text(), re.MULTILINE), row[-1]


def test_the_options_of_the_peer_are_all_there() -> None:
    named = " ".join(row[0] for row in ROWS)
    for option in (
        *("num_nodes", "num_edges", "num_graphs", "node_pad_value", "edge_pad_value", "graph_pad_value"),
        *("pad_graph_defaults", "from_dataset", "from_loader", "to_hetero", "PadToMax", "StreamPack", "Error", "Skip"),
        *("TrimNodes", "TrimEdges", "TrimNodesAndEdges", "add_pad_masks", "shuffle", "follow_batch", "exclude_keys"),
        *("batch_sampler", "options=", "batch_size", "num_workers", "drop_last", "is_hetero", "total_num_nodes"),
    ):
        assert option in named, option


def test_what_has_no_counterpart_is_named() -> None:
    for name in (
        *("FixedSizeClusterLoader", "FixedSizeNeighborLoader", "Pad", "PyGArgsParser", "make_exclude_keys"),
        *("FixedSizeCollater", "CombinedBatchingCollater", "StreamPackingSampler", "set_aggregation_dim_size"),
        *("TrainingStepper", "Masker", "NoMasker", "LayerMasker", "PreLayerMasker", "registerCustomArgParsers"),
    ):
        assert re.search(rf"\b{name}\b", PAGE.split("## What has no counterpart")[1]), name


def test_shapes_that_differ_are_those_that_the_page_tells(tmp_path: Path) -> None:
    graphs = [
        Data(
            x=torch.ones(n, 1),
            edge_index=torch.zeros(2, n, dtype=torch.long),
            y=torch.tensor([float(n), 1.0, 2.0]),
            face=torch.tensor([[0, 1], [1, 2], [2, 0]]),
        )
        for n in (4, 5)
    ]
    build(graphs, tmp_path / "packs", PackLimits(12, 12, 3), algorithm="stream", workers=1)
    pack, there = PackDataset(tmp_path / "packs")[0], Batch.from_data_list(graphs)
    assert pack["y"].shape == (3, 3) and torch.equal(pack["y"][:2].reshape(-1), there["y"])
    assert pack["face"].shape == (3, 3, 2)
    assert torch.equal(pack["face"][:2].permute(1, 0, 2).reshape(3, -1), there["face"])


def test_the_job_file_is_one(tmp_path: Path) -> None:
    from pipelines.cli.job_file import read_job

    (tmp_path / "job.toml").write_text(re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)[0])
    job = read_job(tmp_path / "job.toml")
    assert job["limits"] == "max" and job["pad"] == ["node=-1", "paper/x=0.5"] and job["index"] == ["partner=author"]


class OfBatch(torch.nn.Module):
    """A number for each graph slot of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(2, 1)

    def forward(self, batch: Any) -> torch.Tensor:
        return global_add_pool(self.linear(batch.x), batch.batch, batch.num_graphs).reshape(-1)


def test_the_example_after_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "poptorch", poptorch_double)
    graphs = [
        Data(
            x=torch.rand(n, 2),
            edge_index=torch.zeros(2, n, dtype=torch.long),
            y=torch.ones(1),
            name=f"graph {n}",
        )
        for n in range(2, 30)
    ]
    seen: list[Any] = []
    space: dict[str, Any] = {
        "graphs": graphs,
        "model": lambda *tensors: seen.append([t.shape for t in tensors]),
        "model_of_batch": OfBatch(),
        "loss_of_each_graph": lambda out, batch: torch.nn.functional.mse_loss(out, batch.y, reduction="none"),
    }
    before = space["model_of_batch"].linear.weight.clone()
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, "from-poptorch-geometric.md", "exec"), space)
    assert len(seen) == len(space["loader"]) > 1
    assert all(shapes == seen[0] for shapes in seen)
    assert seen[0][0] == (29 * 7 + 1, 2)
    assert len(poptorch_double.marked) == 1 and space["loss"].shape == ()
    assert not torch.equal(space["model_of_batch"].linear.weight, before)
    assert [len(batch) for batch in space["batches"]] == [7, 7, 7, 7]
    own = PackDataset(tmp_path / "own")
    assert [own.graph_ids(i)[:7].tolist() for i in range(len(own))] == space["batches"]
