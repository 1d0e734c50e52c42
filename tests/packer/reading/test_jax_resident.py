"""jax_loader(resident=True): the steps of numpy_loader, out of packs that stay on the device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_packs import FOLLOWED, KINDS, write_packs

from packer import PackReader, jax_loader, numpy_loader
from packer.errors import FormatError, StateError
from packer.reading import in_jax_resident

jax = pytest.importorskip("jax")
PACKS = 23


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "packs"
    schema, limits = KINDS[kind]
    write_packs(folder, PACKS, schema=schema, limits=limits)
    return folder


def assert_equal(found: list[Any], expected: list[Any]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name, values in other.items():
            assert one[name].dtype == values.dtype, name
            np.testing.assert_array_equal(np.asarray(one[name]), values, err_msg=name)


@pytest.mark.parametrize("redraw", [True, False, "swaps"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_steps_are_those_of_numpy_loader(folder: Path, kind: str, batch_size: int, redraw: Any) -> None:
    names = [column.name for column in PackReader(folder).columns]
    reader = PackReader(folder, columns=[*names, "graph_ids"], follow_batch=FOLLOWED[kind])
    options: dict[str, Any] = {"batch_size": batch_size, "seed": 3, "redraw": redraw}
    ours, theirs = jax_loader(reader, **options, resident=True), numpy_loader(reader, **options)
    for _ in range(3):
        assert_equal(list(ours), list(theirs))


def test_packs_in_their_order(folder: Path) -> None:
    loader = jax_loader(folder, batch_size=2, shuffle=False, resident=True)
    for _ in range(2):
        assert_equal(list(loader), list(numpy_loader(folder, batch_size=2, shuffle=False)))


@pytest.mark.parametrize("redraw", [True, "swaps"])
def test_resuming_at_every_step_with_the_redraws_of_the_state(folder: Path, redraw: Any) -> None:
    first = numpy_loader(folder, seed=3, redraw=redraw)
    first.set_epoch(2)
    whole = list(first)
    second = jax_loader(folder, seed=9, redraw=False, resident=True)
    for taken in range(0, len(whole) + 1, 4):
        first.set_epoch(2)
        running = iter(first)
        for _ in range(taken):
            next(running)
        second.load_state_dict(first.state_dict())
        assert_equal(list(second), whole[taken:])


def test_nothing_is_read_or_traced_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    traces: list[int] = []
    reader = PackReader(folder)
    real_read, real_take = type(reader.blocks).columns, in_jax_resident.take

    def columns(blocks: Any, block: int, names: Any) -> Any:
        reads.append(block)
        return real_read(blocks, block, names)

    def counted(*given: Any) -> Any:
        traces.append(1)
        return real_take(*given)

    monkeypatch.setattr(type(reader.blocks), "columns", columns)
    monkeypatch.setattr(in_jax_resident, "take", counted)
    loader = jax_loader(reader, batch_size=2, resident=True)
    assert sum(1 for _ in range(3) for _ in loader) == 36
    assert len(reads) == len(set(reads)) and len(traces) == 1


def test_devices_stand_side_by_side(folder: Path) -> None:
    ours = jax_loader(folder, seed=3, batch_size=2, devices=1, resident=True)
    assert_equal(list(ours), list(numpy_loader(folder, seed=3, batch_size=2, devices=1)))


def test_a_mesh_is_needed(folder: Path) -> None:
    single = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    with pytest.raises(StateError, match="resident=True takes a NamedSharding"):
        jax_loader(folder, sharding=single, resident=True)


def test_a_damaged_block_is_no_step(tmp_path: Path) -> None:
    write_packs(tmp_path, PACKS)
    shard = tmp_path / "shard-00001.parquet"
    data = bytearray(shard.read_bytes())
    data[200] ^= 1
    shard.write_bytes(data)
    loader = jax_loader(tmp_path, resident=True)
    with pytest.raises(FormatError):
        list(loader)
