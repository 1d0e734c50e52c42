"""Mean and standard deviation of targets: over packed graphs, the same to the bit however they came there, and true."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs import LIMITS, in_small_parts
from reference_packs import reseal

from packer import PackDataset, PackReader, verify_shards
from packer.errors import FormatError
from packer.files import canonical
from packer.graphs.axes import HOMOGENEOUS
from packer.graphs.schema import Field, Schema
from packer.shards import Manifest
from packer.shards.targets import (
    MOST_COLUMNS,
    TargetStats,
    block_moments,
    merged,
    no_moments,
    target_fields,
    target_stats,
)
from pipelines import build

torch = pytest.importorskip("torch")
pytest.importorskip("torch_geometric")

from torch_geometric.data import Data  # noqa: E402


def schema_of(*fields: Field) -> Schema:
    return Schema(HOMOGENEOUS, fields)


def of_graphs(name: str = "y", shape: tuple[int, ...] = (), dtype: str = "float64", storage: str = "") -> Field:
    return Field(name, "graph", "value", shape, 0, dtype, storage or dtype)


def block_of(values: Any, real: Any, **more: Any) -> dict[str, np.ndarray]:
    """values: [packs, slots, ...] of y; real: graphs of each pack."""
    num_real = np.stack([np.zeros(len(real)), np.zeros(len(real)), np.asarray(real)], axis=1).astype(np.int32)
    return {"y": np.asarray(values), "num_real": num_real, **{name: np.asarray(rows) for name, rows in more.items()}}


def stats_of(block: dict[str, np.ndarray], field: Field) -> TargetStats:
    schema = schema_of(field)
    return target_stats([merged(no_moments(schema), block_moments(block, schema))], schema)[field.key]


def test_padding_and_what_is_no_number_are_left_out() -> None:
    # Pack 0 has graphs 1 and 3, its third slot is padding; pack 1 has 8, a NaN and an infinity. Of 1, 3 and 8 the mean
    # is 12 / 3 = 4, the deviations are -3, -1 and 4, the variance (9 + 1 + 16) / 3.
    block = block_of([[1.0, 3.0, 1000.0], [8.0, np.nan, -np.inf]], [2, 3])
    found = stats_of(block, of_graphs())
    assert found.count == (3,) and found.mean == (4.0,)
    assert found.std == pytest.approx([np.sqrt(26 / 3)], rel=1e-15)


def test_each_column_counts_for_itself() -> None:
    block = block_of([[[1.0, np.nan], [5.0, 7.0]]], [2])
    assert stats_of(block, of_graphs(shape=(2,))) == TargetStats((2, 1), (3.0, 7.0), (2.0, 0.0))


def test_graphs_that_lack_the_field_are_left_out() -> None:
    block = block_of([[2.0, 0.0, 4.0]], [3], y_present=[[True, False, True]])
    assert stats_of(block, of_graphs()) == TargetStats((2,), (3.0,), (1.0,))


def test_of_nothing_known_all_is_zero() -> None:
    assert stats_of(block_of([[np.nan, 1.0]], [1]), of_graphs()) == TargetStats((0,), (0.0,), (0.0,))


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [
        ("float32", np.array([[2, 6]], np.uint8)),
        ("float16", np.array([[2, 6]], np.float16)),
        ("bfloat16", (np.array([[2, 6]], np.float32).view(np.uint32) >> 16).astype(np.uint16)),
    ],
)
def test_as_it_is_stored(dtype: str, stored: np.ndarray) -> None:
    found = stats_of(block_of(stored, [2]), of_graphs(dtype=dtype, storage=str(stored.dtype)))
    assert found == TargetStats((2,), (4.0,), (2.0,))


def test_far_from_zero_and_huge() -> None:
    """A sum of squares would lose the first deviation, and overflow on the second."""
    assert stats_of(block_of([[1.6e15, 1.6e15 + 2]], [2]), of_graphs()).std == (1.0,)
    huge = stats_of(block_of([[2.0**470, -(2.0**470), 1e200]], [3]), of_graphs())
    assert huge == TargetStats((2,), (0.0,), (2.0**470,))


@given(
    values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=4),
)
def test_blocks_together_are_all_their_graphs(values: list[float], cuts: list[int]) -> None:
    schema, parts = schema_of(of_graphs()), no_moments(schema_of(of_graphs()))
    for part in np.split(np.array(values), sorted(cuts)):
        if len(part):
            parts = merged(parts, block_moments(block_of(part[None], [len(part)]), schema))
    found = target_stats([json.loads(json.dumps({"y": parts["y"].tolist()}))], schema)["y"]
    assert found == target_stats([parts], schema)["y"], "JSON gives the same bits back"
    assert found.count == (len(values),)
    spread = max(1.0, float(np.abs(values).max()))
    assert np.allclose([found.mean[0], found.std[0]], [np.mean(values), np.std(values)], rtol=0, atol=1e-9 * spread)


def test_which_fields() -> None:
    kept = [of_graphs("y"), of_graphs("wide", (MOST_COLUMNS - 1,), "float32")]
    others = [
        of_graphs("label", (), "int64"),
        of_graphs("nothing", (0,)),
        of_graphs("beyond"),
        Field("x", "node", "value", (2,), 0, "float32", "float32"),
    ]
    assert target_fields(schema_of(others[3], *kept, *others[:3])) == kept


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 rings in shards of 4 packs: y [1, 2] of two numbers, one of them missing now and then; energy of every other
    graph; a class."""
    graphs: list[Any] = []
    for i in range(40):
        nodes = torch.arange(3 + i % 5)
        graph = Data(x=torch.ones(len(nodes), 1), edge_index=torch.stack([nodes, nodes.roll(1)]), kind=i % 3)
        graph.y = torch.tensor([[i / 7, float("nan") if i % 4 == 0 else 1e9 + i]], dtype=torch.float64)
        if i % 2:
            graph.energy = -0.1 * i
        graphs.append(graph)
    out = tmp_path_factory.mktemp("packs") / "packs"
    with in_small_parts():
        build(graphs, out, LIMITS, workers=1)
    return out


def test_of_a_data_set(folder: Path) -> None:
    stats = PackDataset(folder).target_stats
    assert stats == PackReader(folder).target_stats == Manifest.load(folder).target_stats
    assert len(Manifest.load(folder).shards) > 1 and set(stats) == {"y", "energy"}
    numbers = np.arange(40)
    for found, column, values in (
        (stats["y"], 0, numbers / 7),
        (stats["y"], 1, 1e9 + numbers[numbers % 4 > 0]),
        (stats["energy"], 0, (-0.1 * numbers[1::2]).astype(np.float32)),
    ):
        assert found.count[column] == len(values)
        expected = np.mean(values, dtype=np.float64), np.std(values, dtype=np.float64)
        assert found.mean[column] == pytest.approx(expected[0], rel=1e-14)
        assert found.std[column] == pytest.approx(expected[1], rel=1e-8)  # 1e9 is known to 1e-7, deviations are 10
    assert verify_shards(folder).ok


@pytest.mark.parametrize("name", ["count", "mean", "std"])
def test_a_false_value_is_found(folder: Path, name: str, tmp_path: Path) -> None:
    stats = Manifest.load(folder).target_stats
    stated = getattr(stats["y"], name)[1]
    false = stated - 1 if name == "count" else float(np.nextafter(stated, np.inf))  # the last bit is enough
    copy = _copied(folder, tmp_path)
    reseal(copy, target_stats={**stats, "y": replace(stats["y"], **{name: (getattr(stats["y"], name)[0], false)})})
    (fault,) = verify_shards(copy).faults
    assert (fault.file, fault.field) == ("manifest.json", "y")
    assert fault.what == (
        f"the {name} of column 1 over the graphs in its packs is {stated!r}, the manifest says {false!r}"
    )


def _copied(folder: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        if file.is_file():
            (copy / file.name).write_bytes(file.read_bytes())
    return copy


def _without(stats: dict[str, Any]) -> None:
    del stats["y"]


def _stranger(stats: dict[str, Any]) -> None:
    stats["kind"] = stats["energy"]


def _changed(name: str, value: Any) -> Any:
    def change(stats: dict[str, Any]) -> None:
        stats["y"][name] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without, r"target_stats must be of \['y', 'energy'\]; got \['energy'\]"),
        (_stranger, r"target_stats must be of"),
        (dict.clear, r"target_stats must be of"),
        (_changed("mean", [1.0]), "must be count, mean and std of 2 columns"),
        (_changed("more", [1.0, 1.0]), "must be count, mean and std of 2 columns"),
        (_changed("mean", [1, 2.0]), r"has the mean 1 and std .* of 40"),
        (_changed("mean", [[], 2.0]), r"has the mean \[\] and std"),
        (_changed("std", [-1.0, 2.0]), r"std -1.0 of 40"),
        (_changed("count", [0, 30]), r"of 0"),
        (_changed("count", [40.0, 30]), "count in target_stats of 'y' must be a whole number"),
        (_changed("count", [41, 30]), "target_stats of 'y' count 41 of 40 graphs"),
        (_changed("count", 40), "must be a list"),
    ],
)
def test_what_cannot_be_is_refused(folder: Path, change: Any, message: str) -> None:
    found = canonical.unseal((folder / "manifest.json").read_bytes(), "manifest.json")
    found.pop("sha256", None)
    change(found["target_stats"])
    with pytest.raises(FormatError, match=message):
        Manifest.load(canonical.seal(found))


def test_data_sets_of_before(folder: Path, tmp_path: Path) -> None:
    """A manifest without the member is read, verified and trained on as ever."""
    from pipelines.training.task import find_task

    copy = _copied(folder, tmp_path)
    reseal(copy, target_stats={})
    assert b"target_stats" not in (copy / "manifest.json").read_bytes()
    assert PackDataset(copy).target_stats == {} and verify_shards(copy).ok
    for target in ("y", "energy", "kind"):
        old, new = find_task(PackDataset(copy), target), find_task(PackDataset(folder), target)
        assert (old.outputs, old.kind) == (new.outputs, new.kind)
        assert new.mean == pytest.approx(old.mean, rel=1e-12) and new.std == pytest.approx(old.std, rel=1e-9)


def test_training_divides_by_what_the_manifest_says(folder: Path, tmp_path: Path) -> None:
    from pipelines.training.task import find_task

    copy, stats = _copied(folder, tmp_path), Manifest.load(folder).target_stats
    reseal(copy, target_stats={**stats, "y": TargetStats((40, 30), (5.0, 6.0), (7.0, 0.0))})
    task = find_task(PackDataset(copy), "y")
    assert (task.mean, task.std) == ((5.0, 6.0), (7.0, 1.0)), "a column that never changes is not divided"


def test_each_split_has_its_own(tmp_path: Path) -> None:
    nodes = torch.arange(3)
    graphs = [
        Data(x=torch.ones(3, 1), edge_index=torch.stack([nodes, nodes.roll(1)]), y=float(i), part="ab"[i % 2])
        for i in range(20)
    ]
    build(graphs, tmp_path / "packs", LIMITS, split_column="part", workers=1)
    # 0, 2, ... 18 and 1, 3, ... 19: the variance of ten numbers two apart is 4 * (10^2 - 1) / 12 = 33.
    for name, mean in (("a", 9.0), ("b", 10.0)):
        (found,) = PackDataset(tmp_path / "packs" / name).target_stats.values()
        assert (found.count, found.mean) == ((10,), (mean,)) and found.std == pytest.approx([np.sqrt(33)], rel=1e-15)
