"""PackReader and numpy_loader: what torch's data set and loader give, without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_packs import HETERO_LIMITS, HETERO_SCHEMA, LIMITS, SCHEMA, write_packs

from packer import PackDataset, PackReader, numpy_loader, torch_loader
from packer.errors import FieldError, StateError

PACKS = 23
KINDS = {"plain": (SCHEMA, LIMITS), "hetero": (HETERO_SCHEMA, HETERO_LIMITS)}


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "packs"
    schema, limits = KINDS[request.param]
    write_packs(folder, PACKS, schema=schema, limits=limits)
    return folder


def as_numpy(pack: Any) -> dict[str, np.ndarray]:
    """A pack of tensors as numpy gives it: bfloat16 widened."""
    return {n: (t.float() if t.dtype == torch.bfloat16 else t).numpy() for n, t in dict(pack).items()}


def assert_equal(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == values.dtype, name
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_a_reader_gives_the_packs_of_the_data_set(folder: Path) -> None:
    reader, dataset = PackReader(folder), PackDataset(folder)
    assert len(reader) == len(dataset) == PACKS
    for index in (0, 1, 2, 7, 22, -1):
        assert_equal(reader[index], as_numpy(dataset[index]))
        assert reader.graph_ids(index).tolist() == dataset.graph_ids(index).tolist()
    assert_equal(reader.empty_pack(), as_numpy(dataset.empty_pack()))
    assert reader.limits == dataset.limits and reader.fields == dataset.fields
    with pytest.raises(IndexError, match="pack 23 of 23"):
        reader[PACKS]


def test_arrays_are_the_callers_own(folder: Path) -> None:
    reader = PackReader(folder)
    before = [{name: values.copy() for name, values in reader[i].items()} for i in range(PACKS)]
    for index in range(PACKS):
        for values in reader[index].values():
            values[...] = 1
    for index in range(PACKS):
        assert_equal(reader[index], before[index])


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("redraw", [None, False, "swaps"])
def test_steps_are_those_of_torch_loader(folder: Path, batch_size: int, redraw: Any) -> None:
    options: dict[str, Any] = {"batch_size": batch_size, "seed": 3, "redraw": redraw}
    arrays = numpy_loader(folder, index_dtype="int64", float_dtype=None, **options)
    tensors = torch_loader(PackDataset(folder), layout="dict", **options)
    assert len(arrays) == len(tensors)
    for _ in range(2):  # every pass is the next epoch in both
        for found, expected in zip(arrays, tensors, strict=True):
            assert_equal(found, as_numpy(expected))


def test_steps_are_32_bits_wide_unless_asked(folder: Path) -> None:
    for step in numpy_loader(folder):
        assert {array.dtype.name for array in step.values()} <= {"int32", "float32", "bool", "uint8", "int8"}
    wide = next(iter(numpy_loader(folder, index_dtype="int64", float_dtype="float64", shuffle=False)))
    assert_equal(wide, as_numpy(PackDataset(folder, float_dtype="float64")[0]))


def test_devices_stack_packs_and_never_join_them(folder: Path) -> None:
    options: dict[str, Any] = {"seed": 3, "batch_size": 2}
    single = list(numpy_loader(folder, **options))  # 12 joined pairs, the last filled
    stacked = list(numpy_loader(folder, devices=5, **options))  # 10 packs a step: 3 steps, the last filled
    assert len(stacked) == 3 and len(numpy_loader(folder, devices=5, **options)) == 3
    flat = [{name: values[device] for name, values in step.items()} for step in stacked for device in range(5)]
    for found, expected in zip(flat[:12], single, strict=True):
        assert_equal(found, expected)
    assert not any(step["graphs_mask"].any() for step in flat[12:])


def test_ranks_share_an_epoch(folder: Path) -> None:
    whole = list(numpy_loader(folder, seed=3))
    for rank in range(3):
        part = list(numpy_loader(folder, seed=3, rank=rank, world_size=3))
        assert len(part) == 8
        for found, expected in zip(part, whole[rank::3], strict=False):
            assert_equal(found, expected)


@pytest.mark.parametrize("devices", [None, 4])
def test_resuming_at_every_step(folder: Path, devices: int | None) -> None:
    def new() -> Any:
        return numpy_loader(folder, seed=3, devices=devices)

    loader = new()
    loader.set_epoch(2)
    whole = list(loader)
    for taken in range(len(whole) + 1):
        first, second = new(), new()
        first.set_epoch(2)
        running = iter(first)
        for _ in range(taken):
            next(running)
        second.load_state_dict(first.state_dict())
        rest = list(second)
        assert len(rest) == len(whole) - taken
        for found, expected in zip(rest, whole[taken:], strict=True):
            assert_equal(found, expected)


def test_a_state_moves_between_torch_and_numpy(folder: Path) -> None:
    tensors = torch_loader(PackDataset(folder), seed=3, layout="dict")
    running = iter(tensors)
    for _ in range(4):
        next(running)
    arrays = numpy_loader(folder, seed=9, index_dtype="int64", float_dtype=None)
    arrays.load_state_dict(tensors.state_dict())
    for found, expected in zip(arrays, running, strict=True):
        assert_equal(found, as_numpy(expected))


def test_followed_fields(tmp_path: Path) -> None:
    write_packs(tmp_path / "packs", 7)
    names = ("x", "edge_attr", "y")
    reader, dataset = (kind(tmp_path / "packs", follow_batch=names) for kind in (PackReader, PackDataset))
    for index in range(7):
        assert_equal(reader[index], as_numpy(dataset[index]))
    joined = numpy_loader(reader, batch_size=2, index_dtype="int64", float_dtype=None, seed=1)
    for found, expected in zip(joined, torch_loader(dataset, 2, seed=1, layout="dict"), strict=True):
        assert_equal(found, as_numpy(expected))


def test_followed_fields_are_32_bits_wide_too(tmp_path: Path) -> None:
    write_packs(tmp_path / "packs", 7)
    for step in numpy_loader(PackReader(tmp_path / "packs", follow_batch=("x", "edge_attr", "y")), batch_size=2):
        assert {step[name].dtype.name for name in step if name.endswith(("_batch", "_ptr"))} == {"int32"}


def test_what_is_refused(folder: Path) -> None:
    with pytest.raises(StateError, match="devices must be None, or at least 1; got 0"):
        numpy_loader(folder, devices=0)
    with pytest.raises(StateError, match="batch_size must be at least 1; got 0"):
        numpy_loader(folder, batch_size=0, devices=2)
    with pytest.raises(FieldError, match="float_dtype must be one of float16, bfloat16, float32, float64; got 'int8'"):
        numpy_loader(folder, float_dtype="int8")
    with pytest.raises(StateError, match="rank must be from 0 to world_size - 1; got rank 2 of 2"):
        numpy_loader(folder, rank=2, world_size=2)


def test_reading_needs_neither_torch_nor_anything_but_numpy_and_pyarrow(folder: Path) -> None:
    code = f"""
import sys
for name in ("torch", "torch_geometric", "jax", "ortools", "numba", "rdkit", "dask", "fsspec", "typer", "pipelines"):
    sys.modules[name] = None
import packer
packer.numpy_loader, packer.PackReader
steps = [step for epoch in range(2) for step in packer.numpy_loader({str(folder)!r}, batch_size=2)]
"""
    code += "print(len(steps), sum(int(step['graphs_mask'].sum()) for step in steps))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    graphs = sum(int(pack["graphs_mask"].sum()) for pack in numpy_loader(folder))
    assert done.stdout.split() == ["24", str(2 * graphs)], done.stderr
