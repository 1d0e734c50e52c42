"""The job: every graph in exactly one pack, the same bytes however it ran, and nothing written where it must not be."""

import fcntl
import gzip
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deadly import imported
from jobs import LIMITS, SMILES, graphs, hashes
from torch_geometric.data import Data

from packer import PackDataset, PackLimits, make_plan, unpack, verify_shards
from packer.errors import (
    AlgorithmError,
    BuildError,
    FieldError,
    LimitsError,
    PackerError,
    PlanError,
    SizesError,
    SourceError,
)
from packer.graphs.sizes import GraphSizes
from packer.shards import iter_graphs
from pipelines import build
from pipelines.executors import ProcessExecutor, SerialExecutor
from pipelines.stores.journal import WORK


def same(a: Data, b: Data) -> bool:
    if set(a.keys()) != set(b.keys()):
        return False
    pairs = [(a[key], b[key]) for key in a.keys()]  # noqa: SIM118
    return all(torch.equal(x, y) and x.dtype == y.dtype if torch.is_tensor(x) else x == y for x, y in pairs)


@pytest.fixture(scope="module")
def csv_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3,000 rows: three blocks of a smiles: source."""
    rows = [f"{SMILES[i % 10]},{i}.5,{('train', 'valid')[i % 10 == 3]}" for i in range(3000)]
    path = tmp_path_factory.mktemp("csv") / "molecules.csv"
    path.write_text("smiles,t,part\n" + "\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize("null_graphs", ["all", "one", "jraph"])
def test_graphs_come_back_from_a_build(tmp_path: Path, null_graphs: str) -> None:
    given = graphs(50)
    limits = PackLimits(40, 90, 6, null_graphs=null_graphs)
    result = build(given, tmp_path / "out", limits, "best-fit-decreasing", workers=1)
    assert os.fspath(result) == str(tmp_path / "out")
    assert verify_shards(result).ok
    back = unpack(result)
    assert len(back) == 50 and all(same(ours, theirs) for ours, theirs in zip(back, given, strict=True))
    assert not (tmp_path / "out" / WORK).exists()


def test_the_bytes_depend_neither_on_workers_nor_on_the_executor(tmp_path: Path, csv_file: Path) -> None:
    def run(name: str, **options: Any) -> dict[str, str]:
        build(f"smiles:{csv_file}", tmp_path / name, LIMITS, "first-fit", targets=["t"], **options)
        return hashes(tmp_path / name)

    one = run("one", workers=1)
    assert set(one) == {"manifest.json", "graphs.parquet", "plan.parquet", "shard-00000.parquet", "README.md"}
    assert run("two", workers=2) == one
    assert run("serial", executor=SerialExecutor()) == one


def test_several_shards_are_the_same_for_any_number_of_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from packer.shards.layout import Layout
    from pipelines.building.mapped import shards as mapped_shards

    monkeypatch.setattr(mapped_shards, "choose_layout", lambda sample, compression: Layout(2, 8))
    given = graphs(200)
    executor = ProcessExecutor(3)
    build(given, tmp_path / "a", LIMITS, "first-fit", workers=1)
    build(given, tmp_path / "b", LIMITS, "first-fit", executor=executor)
    executor.close()
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    assert len(list((tmp_path / "a").glob("shard-*"))) > 3
    assert verify_shards(tmp_path / "a").ok


def test_build_workers_import_neither_torch_nor_pyg(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    class Watched(ProcessExecutor):
        def map(self, fn: Any, items: Iterable[Any]) -> Iterator[Any]:
            yield from super().map(fn, items)
            seen.extend(super().map(imported, [0]))

    executor = Watched(1)
    build(graphs(20), tmp_path / "out", LIMITS, "first-fit", executor=executor)
    verify_shards(tmp_path / "out", map=executor.map)
    executor.close()
    assert len(seen) >= 2 and all(found == ["numpy"] for found in seen)


def test_one_executor_may_serve_many_builds_of_a_folder(tmp_path: Path, csv_file: Path) -> None:
    executor = ProcessExecutor(1)
    path = tmp_path / "molecules.csv"
    for smiles in ("CCO\nC\n", "CCCC\nCCC\n"):  # as many graphs, as long a file name, other molecules
        path.write_text("smiles\n" + smiles)
        options: dict[str, Any] = {"executor": executor, "overwrite": True}
        result = build(f"smiles:{path}", tmp_path / "out", LIMITS, "first-fit", **options)
        assert [data.smiles for data in unpack(result)] == smiles.split()
        assert sorted(data.num_nodes for data in unpack(result)) == sorted(len(text) for text in smiles.split())
    executor.close()


def test_the_same_build_again_does_nothing(tmp_path: Path, csv_file: Path) -> None:
    first = build(f"smiles:{csv_file}", tmp_path, LIMITS, "first-fit", workers=1)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = build(f"smiles:{csv_file}", tmp_path, LIMITS, "first-fit", workers=1)
    assert again.already and not first.already and again.manifest == first.manifest
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


def test_another_build_in_the_same_folder_is_refused_naming_the_difference(tmp_path: Path) -> None:
    given = graphs(20)
    build(given, tmp_path, LIMITS, "first-fit", workers=1)
    before = hashes(tmp_path)
    with pytest.raises(
        BuildError, match=r"limits\.num_nodes is 40 there, 41 here\. Pass overwrite=True \(--overwrite\)"
    ):
        build(given, tmp_path, PackLimits(41, 90, 6), "first-fit", workers=1)
    with pytest.raises(BuildError, match="already holds a data set of other graphs"):
        build(graphs(20, seed=1), tmp_path, LIMITS, "first-fit", workers=1)
    assert hashes(tmp_path) == before
    assert build(given, tmp_path, LIMITS, "first-fit", workers=1).already


def test_overwrite_removes_only_what_a_build_wrote(tmp_path: Path) -> None:
    build(graphs(20), tmp_path, LIMITS, "first-fit", workers=1, splits="train=0.5,test=0.5")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "train" / "loss.png").write_text("mine too")
    build(graphs(10), tmp_path, LIMITS, "first-fit", workers=1, overwrite=True)
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {
        *("notes.txt", "train/loss.png", "build.json"),
        *("manifest.json", "plan.parquet", "graphs.parquet", "shard-00000.parquet", "README.md"),
    }


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(BuildError, match=r"holds something else: thesis\.tex\. Give a folder"):
            build(graphs(5), tmp_path, LIMITS, "first-fit", workers=1, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(BuildError, match="is a file"):
        build(graphs(5), tmp_path / "thesis.tex", LIMITS, "first-fit", workers=1)


def test_one_build_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / WORK).mkdir()
    monkeypatch.setattr("pipelines.stores.journal.time.monotonic", iter(range(0, 1000, 10)).__next__)
    with (tmp_path / WORK / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BuildError, match="another build is writing"):
            build(graphs(5), tmp_path, LIMITS, "first-fit", workers=1)


def test_skipped_and_too_large_graphs_are_counted_and_named(tmp_path: Path) -> None:
    given = graphs(12)
    given[3] = Data(x=torch.zeros(0, 3), edge_index=torch.zeros(2, 0).long(), edge_attr=torch.zeros(0, 2).long())
    given[3].y, given[3].name = torch.tensor([0.0]), "nothing"
    ring = torch.arange(50)
    given[7] = Data(x=torch.zeros(50, 3), edge_index=torch.stack([ring, ring]), edge_attr=torch.zeros(50, 2).long())
    given[7].y, given[7].name = torch.tensor([7.0]), "large"
    with pytest.raises(SourceError, match=r"graph 3 of a list cannot be packed: no nodes.*--on-empty skip"):
        build(given, tmp_path / "out", LIMITS, "first-fit", workers=1)
    # 6 graph slots: 5 nodes are kept for padding, so 35 are left; 50 would need 50 + 5 slots.
    with pytest.raises(
        SizesError,
        match=r"graph 7 needs 50 nodes; a pack offers 35 \(40, less 5 for padding\): num_nodes=55 .* would do; 1 of",
    ):
        build(given, tmp_path / "out", LIMITS, "first-fit", workers=1, on_empty="skip")
    assert not (tmp_path / "out").exists()
    result = build(given, tmp_path / "out", LIMITS, "first-fit", workers=1, on_empty="skip", oversize="skip")
    counts = result.manifest.counts
    assert (counts.graphs, counts.packed, counts.skipped) == (12, 10, 2)
    assert dict(counts.reasons) == {"no nodes": 1, "larger than the limits": 1}
    rows = [row for batch in iter_graphs(tmp_path / "out", result.manifest) for row in batch.to_pylist()]
    assert [row["id"] for row in rows] == list(range(12))
    assert {row["id"]: row["reason"] for row in rows if row["status"] == "skipped"} == {
        3: "no nodes",
        7: "larger than the limits",
    }
    assert verify_shards(tmp_path / "out").ok
    packed = [int(i) for pack in range(len(PackDataset(result))) for i in PackDataset(result).graph_ids(pack) if i >= 0]
    assert sorted(packed) == [0, 1, 2, 4, 5, 6, 8, 9, 10, 11]


def bad_graph(**fields: Any) -> list[Data]:
    given = graphs(4)
    for name, value in fields.items():
        given[2][name] = value
    return given


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (bad_graph(edge_index=torch.tensor([[0], [99]]), edge_attr=torch.zeros(1, 2).long()), r"graph 2: .*99"),
        (bad_graph(x=torch.zeros(5, 4)), "graph 2: the shape of 'x'"),
        (bad_graph(y=torch.tensor([1])), "graph 2: the dtype of 'y' is int64"),
        ([], "holds no graph"),
    ],
)
def test_bad_graphs_are_told_before_anything_is_written(tmp_path: Path, given: list[Data], fault: str) -> None:
    with pytest.raises((FieldError, SourceError), match=fault):
        build(given, tmp_path / "out", LIMITS, "first-fit", workers=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "error", "fault"),
    [
        ({"algorithm": "optimum"}, AlgorithmError, r"unknown algorithm 'optimum'; .*Did you mean 'optimal'\?"),
        ({"limits": PackLimits(40, 90, 6, "none")}, LimitsError, "leaves no place for padding"),
        ({"oversize": "trim"}, BuildError, "oversize must be one of error, skip, trim-nodes"),
        ({"compression": "zip"}, BuildError, "compression must be one of"),
        ({"splits": "train=0.5,test=0.4"}, BuildError, "must add up to 1; train=0.5,test=0.4 add up to 0.9"),
        ({"splits": "train"}, BuildError, "written as NAME=SHARE"),
        ({"splits": {"../up": 1.0}}, BuildError, "a split is named by letters"),
        ({"workers": 0}, BuildError, "workers must be at least 1"),
        ({"time_limit": 0}, AlgorithmError, "time_limit must be above 0"),
    ],
)
def test_wrong_requests_are_refused_before_the_source_is_read(
    tmp_path: Path, options: dict[str, Any], error: type[PackerError], fault: str
) -> None:
    def untouched() -> Iterator[Data]:
        raise AssertionError("the source was read")
        yield

    with pytest.raises(error, match=fault):
        build(untouched(), tmp_path / "out", **{"limits": LIMITS, "algorithm": "first-fit", **options})
    assert not (tmp_path / "out").exists()


def test_splits_are_data_sets_of_their_own_with_one_schema(tmp_path: Path, csv_file: Path) -> None:
    result = build(f"smiles:{csv_file}", tmp_path, LIMITS, "first-fit", workers=1, targets=["t"], split_column="part")
    assert list(result.manifests) == ["train", "valid"]
    assert result.manifests["train"].schema == result.manifests["valid"].schema
    # Every tenth row from row 3 on is "valid".
    ids = {name: [i for p in range(len(d)) for i in d.graph_ids(p).tolist() if i >= 0] for name, d in opened(tmp_path)}
    assert sorted(ids["valid"]) == list(range(3, 3000, 10))
    assert sorted(ids["train"] + ids["valid"]) == list(range(3000))
    assert list(json.loads((tmp_path / "splits.json").read_text())["splits"]) == ["train", "valid"]
    with pytest.raises(BuildError, match=r"holds splits: use \.manifests, by train, valid"):
        _ = result.manifest


def opened(folder: Path) -> list[tuple[str, PackDataset]]:
    return [(name, PackDataset(folder / name)) for name in ("train", "valid")]


def test_split_shares_and_split_files(tmp_path: Path) -> None:
    given = graphs(40)
    shared = build(given, tmp_path / "a", LIMITS, "first-fit", workers=1, splits="train=0.75,test=0.25", split_seed=3)
    assert [m.counts.graphs for m in shared.manifests.values()] == [30, 10]
    (tmp_path / "ids.json").write_text(json.dumps({"first": list(range(7)), "rest": list(range(7, 40))}))
    filed = build(given, tmp_path / "b", LIMITS, "first-fit", workers=1, split_file=tmp_path / "ids.json")
    assert [m.counts.graphs for m in filed.manifests.values()] == [7, 33]
    (tmp_path / "ids.csv").write_text("graph_id,split\n" + "".join(f"{i},s\n" for i in range(39)))
    with pytest.raises(SourceError, match="graph 39 is in 0 splits, and 1 graphs are not in exactly one"):
        build(given, tmp_path / "c", LIMITS, "first-fit", workers=1, split_file=tmp_path / "ids.csv")
    with pytest.raises(SourceError, match="nothing called 'part' to split by; there are: name, y"):
        build(given, tmp_path / "c", LIMITS, "first-fit", workers=1, split_column="part")
    assert not (tmp_path / "c").exists()


def test_a_plan_made_before_is_used_as_it_is(tmp_path: Path) -> None:
    given = graphs(30)
    sizes = GraphSizes(
        num_nodes=np.array([data.num_nodes for data in given]), num_edges=np.array([data.num_edges for data in given])
    )
    plan = make_plan(sizes, LIMITS, "histogram", seed=5)
    plan.save(tmp_path / "plan.parquet")
    result = build(given, tmp_path / "out", plan=tmp_path / "plan.parquet", workers=1)
    assert result.manifest.plan["algorithm"] == "histogram" and result.manifest.limits == LIMITS
    dataset = PackDataset(result)
    first = [i for i in dataset.graph_ids(0).tolist() if i >= 0]
    assert first == plan.graph_ids[: plan.pack_offsets[1]].tolist()
    with pytest.raises(PlanError, match="was made for 30 graphs of other sizes; here are 29"):
        build(given[:29], tmp_path / "other", plan=tmp_path / "plan.parquet", workers=1)
    assert not (tmp_path / "other").exists()
    with pytest.raises(BuildError, match="leave the limits out"):
        build(given, tmp_path / "other", PackLimits(50, 90, 6), plan=tmp_path / "plan.parquet", workers=1)


def test_padding_levels_and_values(tmp_path: Path) -> None:
    given = graphs(5)
    result = build(
        given,
        tmp_path,
        LIMITS,
        "first-fit",
        workers=1,
        pad_values={"node": -1.5, "edge_attr": 7},
        levels={"y": "graph"},
    )
    pack = PackDataset(result)[0]
    assert (pack["x"][~pack["nodes_mask"]] == -1.5).all() and (pack["edge_attr"][~pack["edges_mask"]] == 7).all()
    with pytest.raises(FieldError, match="a padding value is given for 'z'; the fields are"):
        build(given, tmp_path / "b", LIMITS, "first-fit", workers=1, pad_values={"z": 1})
    with pytest.raises(FieldError, match="'x' cannot be a edge field"):
        build(given, tmp_path / "b", LIMITS, "first-fit", workers=1, levels={"x": "edge"})


def test_limits_chosen_from_the_data_hold_every_graph(tmp_path: Path) -> None:
    result = build(graphs(300), tmp_path, algorithm="best-fit-decreasing", workers=1)
    manifest = result.manifest
    assert manifest.counts.packed == 300 and manifest.limits.null_graphs == "all"
    # Rings: as many nodes as half the edges; most of the chosen slots must be filled.
    real = sum(int(PackDataset(result)[i]["nodes_mask"].sum()) for i in range(manifest.num_packs))
    assert isinstance(manifest.limits.num_nodes, int)
    assert real / (manifest.num_packs * manifest.limits.num_nodes) > 0.8


def test_a_gzipped_file_is_another_source_with_the_same_graphs(tmp_path: Path, csv_file: Path) -> None:
    packed = tmp_path / "molecules.csv.gz"
    packed.write_bytes(gzip.compress(csv_file.read_bytes()))
    plain = build(f"smiles:{csv_file}", tmp_path / "a", LIMITS, "first-fit", workers=1).manifest
    zipped = build(f"smiles:{packed}", tmp_path / "b", LIMITS, "first-fit", workers=1).manifest
    assert plain.content_hash == zipped.content_hash and plain.source != zipped.source
    assert [shard.sha256 for shard in plain.shards] == [shard.sha256 for shard in zipped.shards]
