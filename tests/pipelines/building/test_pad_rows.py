"""Padding of whole rows: in packs, whoever reads them, in the manifest, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobs import hashes

torch = pytest.importorskip("torch")
pytest.importorskip("torch_geometric")

from torch_geometric.data import Data  # noqa: E402

from packer import PackDataset, PackLimits, device_loader, numpy_loader, torch_loader, unpack, verify_shards  # noqa: E402
from packer.errors import FieldError, FormatError  # noqa: E402
from packer.files.canonical import seal, unseal  # noqa: E402
from packer.graphs.dtypes import pad_item  # noqa: E402
from packer.graphs.schema import Field, Schema  # noqa: E402
from packer.shards import Manifest  # noqa: E402
from pipelines import build  # noqa: E402
from pipelines.cli.app import app  # noqa: E402
from pipelines.cli.job_file import read_job  # noqa: E402
from pipelines.entry import main  # noqa: E402

LIMITS = PackLimits(num_nodes=14, num_edges=20, num_graphs=4)
PADS: dict[str, Any] = {
    "shifts": (10, 0, 0),
    "cell": torch.eye(3),
    "kind": [False, False, True],
    "half": np.array([[1.0, -2.0], [0.5, float("nan")]]),
    "x": [7, 7, 7],
    "y": [[0, 9]],
}


def graphs(count: int) -> list[Data]:
    generator = torch.Generator().manual_seed(0)
    found: list[Data] = []
    for number in range(count):
        nodes = 2 + number % 3
        ring = torch.arange(nodes)
        found.append(
            Data(
                x=torch.randint(0, 5, (nodes, 3), generator=generator),
                kind=torch.nn.functional.one_hot(ring % 3, 3).bool(),
                half=torch.randn(nodes, 2, 2, generator=generator).bfloat16(),
                edge_index=torch.stack([ring, (ring + 1) % nodes])[:, 1:],
                shifts=torch.randint(-1, 2, (nodes - 1, 3), generator=generator).float(),
                cell=torch.randn(1, 3, 3, generator=generator),
                y=torch.randint(0, 3, (1, 2), generator=generator),
            )
        )
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """17 graphs in packs of three."""
    out = tmp_path_factory.mktemp("rows") / "packs"
    build(graphs(17), out, LIMITS, algorithm="stream", workers=1, pad_values=PADS)
    return out


def check_padding(batch: Any) -> int:
    """Every padding row of a step holds what was asked; the number of padding edges."""
    wanted = {name: torch.tensor(pad.tolist() if hasattr(pad, "tolist") else pad) for name, pad in PADS.items()}
    masks = {"shifts": "edges_mask", "cell": "graphs_mask", "y": "graphs_mask"}
    for name, pad in wanted.items():
        values = torch.as_tensor(np.asarray(batch[name])) if not torch.is_tensor(batch[name]) else batch[name]
        padding = values[~torch.as_tensor(np.asarray(batch[masks.get(name, "nodes_mask")]))]
        expected = pad.reshape(values.shape[1:]).to(values.dtype).expand_as(padding)
        assert torch.equal(padding.nan_to_num(99), expected.nan_to_num(99)), name
    return int((~torch.as_tensor(np.asarray(batch["edges_mask"]))).sum())


@pytest.mark.parametrize("redraw", [False, True])
def test_every_loader_has_rows_of_padding(folder: Path, redraw: bool) -> None:
    """Steps of 4 of 6 packs: the second is filled up with empty packs. take is what the device's ring is made of."""
    packs, options = PackDataset(folder), {"batch_size": 4, "redraw": redraw, "seed": 1}
    seen = [check_padding(batch) for batch in torch_loader(packs, **options)]
    assert len(seen) == 2 and seen[-1] >= 2 * LIMITS.num_edges
    for streaming in ({}, {"memory": 8_000}):
        assert sum(check_padding(batch) for batch in device_loader(packs, "cpu", **streaming, **options)) == sum(seen)
    steps = numpy_loader(folder, index_dtype="int64", float_dtype="float32", **options)
    assert sum(check_padding(step) for step in steps) == sum(seen)


def test_packs_on_jax_have_rows_of_padding(folder: Path) -> None:
    pytest.importorskip("jax")
    from packer import jax_loader

    steps = [{name: np.array(values) for name, values in step.items()} for step in jax_loader(folder, batch_size=4)]
    expected = sum(map(check_padding, torch_loader(PackDataset(folder), batch_size=4)))
    assert sum(map(check_padding, steps)) == expected


def test_graphs_come_back_and_packs_are_sound(folder: Path) -> None:
    assert verify_shards(folder).ok
    for ours, theirs in zip(unpack(folder), graphs(17), strict=True):
        assert ours.to_dict().keys() == theirs.to_dict().keys()
        assert all(torch.equal(ours[name], values) for name, values in theirs.to_dict().items())


def test_the_manifest_tells_rows_flat_and_single_numbers_as_ever(folder: Path) -> None:
    plain = json.loads((folder / "manifest.json").read_text())
    pads = {field["name"]: field["pad"] for field in plain["schema"]["fields"]}
    assert pads["shifts"] == [10.0, 0.0, 0.0] and pads["cell"] == [1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0]
    assert pads["half"] == [1.0, -2.0, 0.5, "nan"] and pads["y"] == [0, 9] and pads["kind"] == [False, False, True]
    assert pads["x"] == 7, "a row of equal numbers is that number"
    schema = Manifest.load(folder).schema
    assert Schema.from_dict(schema.to_dict()).to_dict() == schema.to_dict()
    storage = {field.name: field.storage for field in schema.fields}
    assert storage["shifts"] == "int8" and storage["y"] == "uint8", "narrow, with their padding"


def test_a_row_of_equal_numbers_writes_the_bytes_of_the_number(tmp_path: Path) -> None:
    for name, pad in (("a", 7), ("b", [7, 7, 7])):
        build(graphs(9), tmp_path / name, LIMITS, algorithm="stream", workers=1, pad_values={"x": pad})
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")


@pytest.mark.parametrize(
    ("pad", "message"),
    [
        ([10.0, 0.0], r"pad has 2 numbers for rows of shape \(3,\)"),
        ([10.0, 0.0, [0.0]], "is not a number"),
        ([10.0, None, 0.0], "is not a number"),
        ([10.0, 0.5, 0.0], "pad 0.5 does not fit its storage dtype int8"),
        ([], "pad has 0 numbers"),
        ({"a": 1}, "is not a number"),
    ],
)
def test_padding_of_a_manifest_is_read_strictly(folder: Path, pad: Any, message: str) -> None:
    plain = unseal((folder / "manifest.json").read_bytes(), "manifest.json")
    next(field for field in plain["schema"]["fields"] if field["name"] == "shifts")["pad"] = pad
    with pytest.raises(FormatError, match=message):
        Manifest.load(seal(plain))


def test_padding_of_another_row_is_found(folder: Path) -> None:
    from packer.shards import open_shard
    from packer.verify.block import check_block

    packs = PackDataset(folder)
    block = {name: values.copy() for name, values in open_shard(packs.place, packs.manifest, 0).block(0).items()}
    assert not check_block(block, packs.manifest.schema, packs.manifest.limits)[0]
    for name, at in (("shifts", (0, -1, 1)), ("cell", (0, -1, 2, 0)), ("half", (0, -1, 0, 1))):
        damaged = {**block, name: block[name].copy()}
        damaged[name][at] += 1
        (fault,) = check_block(damaged, packs.manifest.schema, packs.manifest.limits)[0]
        assert fault.field == name and "is padding, but holds" in fault.what


def test_bfloat16_rounds_rows_as_torch_does() -> None:
    pads = (1.0, -0.1, 3.14159, 1e-40, float("inf"), float("-inf"), 65504.123, -0.0)
    row = pad_item(Field("v", "node", "value", (8,), 0, "bfloat16", "uint16", pads))
    assert row.tolist() == torch.tensor(pads).bfloat16().view(torch.int16).numpy().view(np.uint16).tolist()


def test_what_stands_in_a_field_that_some_graphs_lack(tmp_path: Path) -> None:
    some = graphs(4)
    del some[1].cell
    build(some, tmp_path / "packs", LIMITS, algorithm="stream", workers=1, pad_values={"cell": np.eye(3)})
    assert torch.equal(PackDataset(tmp_path / "packs")[0]["cell"][1], torch.eye(3))


def test_the_command_line_and_job_files_take_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matscipy")
    assert app is not None
    monkeypatch.chdir(tmp_path)
    Path("a.extxyz").write_text('1\nLattice="3 0 0 0 3 0 0 0 3"\nH 0 0 0\n' * 3)
    words = ["build", "ase:a.extxyz", "--cutoff", "4", "--limits", "auto", "--algorithm", "histogram", "--workers", "1"]
    pads = ["--pad", "shifts=8,0,0", "--pad", "cell=8,0,0,0,8,0,0,0,8", "--pad", "unit_shifts=1,0,0"]
    assert main([*words, "--out", "a", *pads]) == 0
    assert main([*words, "--out", "b", "--pad-geometry", "4"]) == 0
    assert Manifest.load(Path("a")).sha256 == Manifest.load(Path("b")).sha256
    assert main([*words, "--out", "c", "--pad", "shifts=8,a,0"]) != 0
    Path("job.toml").write_text("pad-geometry = 4\n[pad]\nshifts = [8, 0, 0.5]\ny = 1\n")
    assert read_job(Path("job.toml")) == {"pad_geometry": 4, "pad": ["shifts=8,0,0.5", "y=1"]}


def test_geometry_needs_shifts(tmp_path: Path) -> None:
    plain = [Data(pos=torch.rand(3, 3), edge_index=torch.tensor([[0, 1], [1, 0]]))]
    with pytest.raises(FieldError, match=r"needs shifts, a floating field .*: there are edge_index, pos\. Give"):
        build(plain, tmp_path / "packs", LIMITS, workers=1, pad_geometry=5.0)
    for cutoff in (0, -1, float("nan"), float("inf"), "5", True):
        with pytest.raises(FieldError, match="must be a finite cutoff above 0"):
            build(plain, tmp_path / "packs", LIMITS, workers=1, pad_geometry=cutoff)  # pyright: ignore[reportArgumentType]


def test_geometry_pads_what_is_there_and_yields_to_what_is_asked(tmp_path: Path) -> None:
    some = graphs(3)
    for graph in some:
        graph.masses = torch.rand(graph.num_nodes)
        graph.unit_shifts = graph.shifts.to(torch.int8)
    job: dict[str, Any] = {"algorithm": "stream", "workers": 1, "pad_geometry": 2.5}
    build(some, tmp_path / "packs", LIMITS, **job, pad_values={"cell": np.eye(3)})
    pads = {field.name: field.pad for field in Manifest.load(tmp_path / "packs").schema.fields}
    assert pads["shifts"] == (5, 0, 0) and pads["unit_shifts"] == (1, 0, 0) and pads["masses"] == 1
    assert pads["cell"] == (1, 0, 0, 0, 1, 0, 0, 0, 1) and pads["x"] == 0
