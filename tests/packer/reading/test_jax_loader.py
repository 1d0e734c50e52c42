"""jax_loader: what numpy_loader gives, made on the device of stored bytes by one compiled program."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_packs import FOLLOWED, KINDS, write_packs

from packer import PackReader, jax_loader, numpy_loader
from packer.errors import FormatError, StateError
from packer.reading import in_jax, in_jax_resident
from packer.reading.blocks import Blocks

jax = pytest.importorskip("jax")
compilation_cache = pytest.importorskip("jax.experimental.compilation_cache.compilation_cache")
PACKS = 23


@pytest.fixture(scope="module", autouse=True)
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where compiled programs lie: loaders of the same packs run the same ones, and XLA takes the longest."""
    place = tmp_path_factory.mktemp("compiled")
    wanted = {
        "jax_compilation_cache_dir": str(place),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: jax.config.values[name] for name in wanted}
    for settings in (wanted, before):
        for name, value in settings.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        if settings is wanted:
            yield place


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
            assert isinstance(one[name], jax.Array) and one[name].dtype == values.dtype, name
            np.testing.assert_array_equal(np.asarray(one[name]), values, err_msg=name)


@pytest.mark.parametrize("resident", [False, True])
@pytest.mark.parametrize("redraw", [None, False, "swaps"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_steps_are_those_of_numpy_loader(folder: Path, kind: str, batch_size: int, redraw: Any, resident: bool) -> None:
    names = [column.name for column in PackReader(folder).columns]
    reader = PackReader(folder, columns=[*names, "graph_ids"], follow_batch=FOLLOWED[kind])
    options: dict[str, Any] = {"batch_size": batch_size, "seed": 3, "redraw": redraw}
    ours, theirs = jax_loader(reader, **options, resident=resident), numpy_loader(reader, **options)
    assert len(ours) == len(theirs)
    for _ in range(2):  # every pass is the next epoch in both
        assert_equal(list(ours), list(theirs))


@pytest.mark.parametrize("at_once", [1, 2, 5, 99])
def test_any_number_of_steps_may_go_at_once(folder: Path, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = jax_loader(folder, batch_size=2, seed=3)
    loader._steps.most = at_once  # pyright: ignore[reportFunctionMemberAccess]
    for _ in range(2):
        loader.set_epoch(1)
        assert_equal(list(loader), _epoch(numpy_loader(folder, batch_size=2, seed=3), 1))


def _epoch(loader: Any, epoch: int) -> list[Any]:
    loader.set_epoch(epoch)
    return list(loader)


def test_one_trace_for_all_epochs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traces: list[int] = []

    def counted(*given: Any) -> Any:
        traces.append(1)
        return real(*given)

    real = in_jax.take
    monkeypatch.setattr(in_jax, "take", counted)
    loader = jax_loader(folder, batch_size=2, seed=3)
    assert sum(1 for _ in range(3) for _ in loader) == 36
    loader.load_state_dict({**loader.state_dict(), "packs_seen": 7})
    assert sum(1 for _ in loader) == 8
    assert len(traces) == 1


def test_ranks_share_an_epoch(folder: Path) -> None:
    whole = _epoch(numpy_loader(folder, seed=3), 0)
    for rank in range(3):
        part = _epoch(jax_loader(folder, seed=3, rank=rank, world_size=3), 0)
        assert len(part) == 8
        assert_equal(part[: len(whole[rank::3])], whole[rank::3])


def test_ranks_are_jaxs_own_unless_given(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = jax_loader(folder, seed=3)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    assert_equal(list(loader), list(numpy_loader(folder, seed=3, rank=1, world_size=3)))


@pytest.mark.parametrize("redraw", [None, False, "swaps"])
def test_resuming_at_every_step(folder: Path, redraw: Any) -> None:
    whole = _epoch(numpy_loader(folder, seed=3, redraw=redraw), 2)
    second = jax_loader(folder, seed=9)
    for taken in range(len(whole) + 1):
        first = (
            jax_loader(folder, seed=3, redraw=redraw)
            if taken in (0, 11)
            else numpy_loader(folder, seed=3, redraw=redraw)
        )
        first.set_epoch(2)
        running = iter(first)
        for _ in range(taken):
            next(running)
        second.load_state_dict(first.state_dict())
        assert_equal(list(second), whole[taken:])


def test_stored_bytes_cross_the_bus(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = PackReader(folder)
    stored = {column.name: column.storage for column in reader.manifest.columns}
    put: list[Any] = []
    real = jax.device_put

    def watched(values: Any, *given: Any, **options: Any) -> Any:
        if isinstance(values, dict):
            put.append(values)
        return real(values, *given, **options)

    monkeypatch.setattr(jax, "device_put", watched)
    steps = list(jax_loader(reader))
    assert len(steps) == PACKS and len(put) == 1
    for name, values in put[0].items():
        assert values.dtype.itemsize <= min(np.dtype(stored[name]).itemsize, 4), name


def test_four_devices(folder: Path, tmp_path: Path) -> None:
    """In a process of its own, whose JAX believes in four of them."""
    code = f"""
import jax, numpy as np
from packer import jax_loader, numpy_loader
assert jax.local_device_count() == 4
for options in ({{}}, {{"batch_size": 2, "redraw": False}}):
    expected = list(numpy_loader({str(folder)!r}, devices=4, seed=3, **options))
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    own = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    for placed in ({{"devices": 4}}, {{"sharding": own}}):
        found = list(jax_loader({str(folder)!r}, seed=3, **placed, **options))
        assert len(found) == len(expected)
        for one, other in zip(found, expected):
            assert one.keys() == other.keys()
            for name, values in other.items():
                assert one[name].shape == values.shape and one[name].shape[0] == 4
                assert len(one[name].sharding.device_set) == 4, name
                assert one[name].addressable_shards[2].data.shape == (1, *values.shape[1:])
                np.testing.assert_array_equal(np.asarray(one[name]), values, err_msg=name)
two = next(iter(jax_loader({str(folder)!r}, devices=2)))
assert {{len(values.sharding.device_set) for values in two.values()}} == {{2}}
print("whole")
"""
    flags = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=flags)
    assert done.stdout.split() == ["whole"], done.stderr


@pytest.mark.parametrize("kind", ["plain"], indirect=True)
def test_two_processes_give_one_array(tmp_path: Path, kind: str, folder: Path) -> None:
    """Each gives the packs of its own devices to steps that lie across both."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = f"""
import sys, jax, numpy as np
from packer import jax_loader, numpy_loader
rank = int(sys.argv[1])
jax.distributed.initialize("127.0.0.1:{port}", 2, rank)
mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
lies = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
expected = numpy_loader({str(folder)!r}, devices=2, seed=3, rank=rank, world_size=2)
found = jax_loader({str(folder)!r}, seed=3, sharding=lies)
assert len(found) == len(expected) == 6
for one, other in zip(found, expected):
    for name, values in other.items():
        assert one[name].shape == (4, *values.shape[1:])
        parts = sorted(one[name].addressable_shards, key=lambda shard: shard.index[0].start)
        np.testing.assert_array_equal(np.concatenate([part.data for part in parts]), values, err_msg=name)
print("whole")
"""
    flags = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", code]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": flags}
    both = [subprocess.Popen([*command, str(rank)], **pipes) for rank in range(2)]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert out.split() == ["whole"], err


def test_a_loop_that_is_left_leaves_no_thread(folder: Path) -> None:
    before = threading.active_count()
    running = iter(jax_loader(folder))
    next(running)
    running.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert threading.active_count() <= before


def test_damage_is_told_where_it_is_read(tmp_path: Path) -> None:
    write_packs(tmp_path / "packs", PACKS)
    shard = tmp_path / "packs" / "shard-00001.parquet"
    data = bytearray(shard.read_bytes())
    data[len(data) // 3] ^= 1
    shard.write_bytes(bytes(data))
    with pytest.raises(FormatError, match="shard-00001"):
        list(jax_loader(tmp_path / "packs"))


def test_what_is_refused(folder: Path) -> None:
    with pytest.raises(StateError, match="batch_size must be at least 1; got 0"):
        jax_loader(folder, batch_size=0)
    with pytest.raises(StateError, match=r"from 1 to the 1 local devices of this process; got 2. numpy_loader stacks"):
        jax_loader(folder, devices=2)
    with pytest.raises(StateError, match="give both rank and world_size, or neither; got rank=1, world_size=None"):
        jax_loader(folder, rank=1)
    with pytest.raises(StateError, match="JAX makes 32 bits of int64: set jax_enable_x64, or ask for int32"):
        jax_loader(folder, index_dtype="int64")
    with pytest.raises(StateError, match="jax_loader needs a PackReader; got list"):
        jax_loader([1])


def test_without_jax_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(ImportError, match=r"graph-packer\[jax\]"):
        jax_loader(folder)


def test_resident_packs_in_their_order(folder: Path) -> None:
    loader = jax_loader(folder, batch_size=2, shuffle=False, resident=True)
    for _ in range(2):
        assert_equal(list(loader), list(numpy_loader(folder, batch_size=2, shuffle=False)))


@pytest.mark.parametrize("redraw", [True, "swaps"])
def test_resident_packs_resume_with_the_redraws_of_the_state(folder: Path, redraw: Any) -> None:
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


def test_resident_packs_are_read_and_traced_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_resident_packs_on_a_mesh(folder: Path) -> None:
    ours = jax_loader(folder, seed=3, batch_size=2, devices=1, resident=True)
    assert_equal(list(ours), list(numpy_loader(folder, seed=3, batch_size=2, devices=1)))


def test_resident_packs_need_a_mesh(folder: Path) -> None:
    single = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    with pytest.raises(StateError, match="resident=True takes a NamedSharding"):
        jax_loader(folder, sharding=single, resident=True)


def test_a_damaged_resident_block_is_no_step(tmp_path: Path) -> None:
    write_packs(tmp_path, PACKS)
    shard = tmp_path / "shard-00001.parquet"
    data = bytearray(shard.read_bytes())
    data[200] ^= 1
    shard.write_bytes(data)
    loader = jax_loader(tmp_path, resident=True)
    with pytest.raises(FormatError):
        list(loader)


@pytest.mark.parametrize("resident", [False, True])
def test_counts_beyond_the_slots_are_told(tmp_path: Path, resident: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under fitting checksums: a mask of such a pack would be True everywhere."""
    write_packs(tmp_path)
    read = Blocks.columns

    def contradicting(self: Blocks, block: int, names: Any) -> Any:
        columns = read(self, block, names)
        return {**columns, "num_real": columns["num_real"] + 99} if block == 2 else columns

    loader = jax_loader(PackReader(tmp_path), resident=resident)
    monkeypatch.setattr(Blocks, "columns", contradicting)
    with pytest.raises(FormatError, match="num_real"):
        list(loader)
