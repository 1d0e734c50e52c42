"""One job file serves every command: all that moving over needs is on the command line and in the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch_geometric.data import Data, HeteroData
from typer.main import get_command

from packer import PackDataset, PackLimits, PackPlan
from pipelines.cli.app import app, run
from pipelines.cli.job_file import JobFile

MODULE = "graphs = []\ndef load():\n    return graphs\n"


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Called with graphs: they are what the source `pyg:job_graphs:load` gives, and the folder is the working one."""
    (tmp_path / "job_graphs.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    import job_graphs

    def use(graphs: list[Any]) -> None:
        monkeypatch.setattr(job_graphs, "graphs", graphs)

    return use


def ring(nodes: int, **more: Any) -> Data:
    ends = torch.arange(nodes)
    return Data(x=ends.float()[:, None], edge_index=torch.stack([ends, ends.roll(1)]), y=float(nodes), **more)


def test_every_option_of_a_command_that_takes_a_job_file_is_a_key_of_it() -> None:
    keys = set(JobFile.model_fields) | {"config"}
    other = {("plan", "plan_file"), ("train", "folder")}  # `out` is the folder of a build
    for name, command in get_command(app).commands.items():  # pyright: ignore[reportAttributeAccessIssue]
        options = [str(option.name) for option in command.params]
        if "config" in options:
            assert [o for o in options if o not in keys and (name, o) not in other] == [], name


def test_one_file_for_all_commands(given: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Limits by a rule, and a policy that trims: 40 rings of 3 or 4 nodes and two of 30; 4 * 5 = 20 nodes hold 16."""
    given([ring(3 + i % 2) for i in range(40)] + [ring(30), ring(30)])
    Path("job.toml").write_text(
        'source = "pyg:job_graphs:load"\nout = "packs"\nlimits = 0.9\nnum-graphs = 5\noversize = "trim-both"\n'
        'seed = 3\nalgorithm = "stream"\nworkers = 1\nepochs = 1\nlayers = 1\nhidden = 4\nlr = 0.01\nbatch-size = 2\n'
    )
    job = ["--config", "job.toml"]
    assert run(["scan", *job]) == 0
    out = capsys.readouterr().out
    assert "2 of 42 graphs do not fit 17 nodes, 17 edges, 5 graphs" in out  # 4 * 4 + 1
    assert run(["compare", *job, "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)
    assert compared["graphs"] == 42 and [plan["algorithm"] for plan in compared["plans"]] == ["stream"]
    assert run(["plan", *job, "--out", "plan.parquet"]) == 0
    assert run(["plan", *job]) == 0 and not Path("packs").exists()  # `out` is the folder of a build
    capsys.readouterr()
    assert run(["build", *job]) == 0
    out = capsys.readouterr().out
    assert "packs: 40 graphs packed whole, 2 trimmed, 0 skipped; graphs.parquet names each" in out
    assert run(["build", *job, "--plan", "plan.parquet", "--out", "planned"]) == 0
    plans = [PackPlan.load(path) for path in ("plan.parquet", "packs/plan.parquet", "planned/plan.parquet")]
    assert len({plan.graph_ids.tobytes() for plan in plans}) == 1
    assert Path("packs/shard-00000.parquet").read_bytes() == Path("planned/shard-00000.parquet").read_bytes()
    assert run(["train", "packs", *job]) == 0
    assert "epoch 1/1" in capsys.readouterr().out
    # A plan is of the graphs as trimmed under one seed, and of its limits.
    star = ring(30)
    star.edge_index = torch.stack([torch.zeros(29, dtype=torch.long), torch.arange(1, 30)])
    given([ring(3)] * 18 + [star, star])
    trim = ["--oversize", "trim-nodes", "--limits", "0.9", "--num-graphs", "5"]
    assert run(["plan", *job, *trim, "--out", "plan.parquet"]) == 0
    build = ["build", *job, *trim, "--plan", "plan.parquet", "--out"]
    assert run([*build, "same"]) == 0
    capsys.readouterr()
    found = [run([*build, f"seed {seed}", "--seed", str(seed)]) for seed in range(8)]
    assert found[3] == 0 and 1 in found  # 3 is the job's; where the hub goes, all edges go
    assert "was made for 20 graphs of other sizes" in capsys.readouterr().err
    assert run([*build, "max", "--limits", "max"]) == 1
    assert "was made for PackLimits(num_nodes=13, " in capsys.readouterr().err


def test_what_to_learn_beside_the_columns_of_a_source(given: Any, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mols.csv").write_text("smiles,t\n" + "\n".join(f"{'C' * n},{n}" for n in range(1, 20)) + "\n")
    limits = "limits = 'auto'\nworkers = 1\nepochs = 1\nhidden = 4\n"
    Path("job.toml").write_text(f"source = 'smiles:mols.csv'\ntarget = 't'\nout = 'mols'\n{limits}")
    assert run(["build", "--config", "job.toml"]) == 0
    assert run(["train", "mols", "--config", "job.toml"]) == 0  # the column t is the packs' y
    assert "y, graph-level regression" in capsys.readouterr().out
    given([ring(n, size=torch.tensor([n / 2])) for n in (3, 4, 5)])
    Path("job.toml").write_text(f"target = 'size'\n{limits}")
    assert run(["build", "pyg:job_graphs:load", "--out", "rings", "--limits", "auto", "--workers", "1"]) == 0
    assert run(["train", "rings", "--config", "job.toml"]) == 0
    assert "size, graph-level regression" in capsys.readouterr().out


def test_limits_of_the_largest_batch(given: Any) -> None:
    given([ring(3), ring(4), ring(5)])
    Path("job.toml").write_text('limits = "batches"\nnum-graphs = 3\nworkers = 1\n')
    assert run(["build", "pyg:job_graphs:load", "--out", "a", "--config", "job.toml"]) == 0
    command = ["build", "pyg:job_graphs:load", "--out", "b", "--limits", "batches", "--num-graphs", "3"]
    assert run([*command, "--workers", "1"]) == 0
    assert PackDataset("a").limits == PackDataset("b").limits == PackLimits(8, 8, 3)  # 3 + 4 and 5, plus 1


def test_what_was_skipped_is_told(given: Any, capsys: pytest.CaptureFixture[str]) -> None:
    given([ring(3), ring(40), ring(4)])
    command = [
        "build",
        "pyg:job_graphs:load",
        "--out",
        "a",
        "--workers",
        "1",
        "--num-graphs",
        "3",
        "--oversize",
        "skip",
    ]
    assert run([*command, "--num-nodes", "12", "--num-edges", "12"]) == 0
    assert "a: 2 graphs packed whole, 0 trimmed, 1 skipped; graphs.parquet names each" in capsys.readouterr().out


def test_limits_by_type_are_told_by_name(given: Any, capsys: pytest.CaptureFixture[str]) -> None:
    graph = HeteroData()
    graph["paper"].x, graph["author"].x = torch.ones(3, 1), torch.ones(2, 1)
    graph["author", "writes", "paper"].edge_index = torch.tensor([[0, 1], [0, 2]])
    given([graph] * 4)
    command = ["build", "pyg:job_graphs:load", "--workers", "1", "--limits", "max", "--num-graphs", "3", "--out", "a"]
    text = "author 5, paper 7 nodes, author__writes__paper 5 edges, 3 graphs"
    assert run(command) == 0 and text in capsys.readouterr().out
    assert run(["inspect", "a"]) == 0 and text in capsys.readouterr().out
