"""device_loader on the CPU: the steps of torch_loader to the bit, out of a ring of blocks."""

from __future__ import annotations

import contextlib
import gc
import logging
import weakref
from pathlib import Path
from typing import Any, ClassVar

import cuda_double
import numpy as np
import pytest
import torch
from small_packs import FOLLOWED, KINDS, write_packs

from packer import PackDataset, device_loader, torch_loader
from packer.errors import FieldError, FormatError, StateError
from packer.reading import ring
from packer.reading.blocks import Blocks

PACKS = 43  # 9 blocks of 5, the last one of 3


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "packs"
    schema, limits = KINDS[kind]
    write_packs(folder, PACKS, schema=schema, limits=limits)
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "packs"
    write_packs(folder, PACKS)
    return folder


def loaders(dataset: Any, blocks: int | None = None, **options: Any) -> tuple[Any, Any]:
    """A device_loader, with a ring of so many blocks, and the torch_loader to compare with."""
    dataset = dataset if isinstance(dataset, PackDataset) else PackDataset(dataset)
    options = {"batch_size": 3, "seed": 3, "lanes": 2, **options}
    memory = options.pop("memory", None)
    ours = device_loader(dataset, "cpu", memory=memory, **options)
    if blocks is not None:
        memory = ours.ring.form.size(blocks).bytes
        ours = device_loader(dataset, "cpu", memory=memory, **options)
        assert ours.size.blocks == blocks and ours.size.bytes == memory
    return ours, torch_loader(dataset, **options)


def assert_equal(found: list[Any], expected: list[Any]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys() and one.num_graphs == other.num_graphs
        for name, tensor in other:
            assert one[name].dtype == tensor.dtype and torch.equal(one[name], tensor), name


@pytest.mark.parametrize("redraw", [None, False, "swaps"])
@pytest.mark.parametrize("blocks", [None, 4])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_steps_are_those_of_torch_loader(
    folder: Path, kind: str, batch_size: int, blocks: int | None, redraw: Any
) -> None:
    names = [column.name for column in PackDataset(folder).columns]
    dataset = PackDataset(folder, columns=[*names, "graph_ids"], follow_batch=FOLLOWED[kind])
    ours, theirs = loaders(dataset, blocks, batch_size=batch_size, redraw=redraw)
    assert ours.size.resident == (blocks is None)
    assert len(ours) == len(theirs) and ours.graphs_per_step == theirs.graphs_per_step
    for _ in range(3):  # every pass is the next epoch in both
        assert_equal(list(ours), list(theirs))


@pytest.mark.parametrize("blocks", [None, 2])
def test_in_order(folder: Path, blocks: int | None) -> None:
    ours, theirs = loaders(folder, blocks, shuffle=False)
    for _ in range(2):
        assert_equal(list(ours), list(theirs))


@pytest.mark.parametrize("options", [{"index_dtype": "int32", "float_dtype": "float16"}, {"columns": ["x", "batch"]}])
def test_dtypes_and_columns_are_those_of_the_data_set(plain: Path, options: dict[str, Any]) -> None:
    ours, theirs = loaders(PackDataset(plain, **options), 5)
    assert_equal(list(ours), list(theirs))


@pytest.mark.parametrize("blocks", [None, 4])
def test_ranks_share_an_epoch(folder: Path, blocks: int | None) -> None:
    for rank in range(3):
        ours, theirs = loaders(folder, blocks, rank=rank, world_size=3)
        for _ in range(2):
            assert_equal(list(ours), list(theirs))


@pytest.mark.parametrize("redraw", [None, False, "swaps"])
@pytest.mark.parametrize("blocks", [None, 4])
def test_resuming_at_every_step(folder: Path, blocks: int | None, redraw: Any) -> None:
    """In the same loader, whose ring holds blocks of the pass before, and with states of either loader."""
    ours, theirs = loaders(folder, blocks, redraw=redraw)
    theirs.set_epoch(2)
    whole = list(theirs)
    for taken in range(len(whole) + 1):
        first = ours if taken % 2 else theirs
        first.set_epoch(2)
        running = iter(first)
        for _ in range(taken):
            next(running)
        state = first.state_dict()
        del running
        ours.load_state_dict(state)
        assert ours.steps_left == len(whole) - taken
        assert_equal(list(ours), whole[taken:])


def test_a_state_may_turn_redraws_off_and_not_on(plain: Path) -> None:
    ours, theirs = loaders(plain, 4, redraw=False)
    state = theirs.state_dict()
    drawing, _ = loaders(plain, 4)
    with pytest.raises(StateError, match="has redraw=True, which the device_loader was made without"):
        ours.load_state_dict(drawing.state_dict())
    drawing.load_state_dict(state)
    assert_equal(list(drawing), list(theirs))


def test_a_state_with_swaps_goes_on_in_any_ring_and_back(plain: Path) -> None:
    """Also where the ring holds the same blocks with other graphs in them."""
    for redraw in (True, False, "swaps"):
        ours, theirs = loaders(plain, redraw=redraw)
        _, swapping = loaders(plain, redraw="swaps")
        assert_equal(list(ours), list(theirs))
        swapping.set_epoch(4)
        ours.load_state_dict(swapping.state_dict())
        for _ in range(2):
            assert_equal(list(ours), list(swapping))
        ours.load_state_dict(theirs.state_dict())
        for _ in range(2):
            assert_equal(list(ours), list(theirs))
    with pytest.raises(StateError, match="has redraw=True, which the device_loader was made without"):
        ours.load_state_dict(loaders(plain)[0].state_dict())


def test_swapped_blocks_are_read_in_every_epoch(plain: Path) -> None:
    ours, _ = loaders(plain, redraw="swaps")
    for epoch in range(3):
        list(ours)
        assert ours.ring.num_read == 9 * (epoch + 1)


def test_a_resident_ring_reads_once(plain: Path) -> None:
    for redraw in (True, False):
        ours, _ = loaders(plain, redraw=redraw)
        assert len(list(ours)) == 15
        read, copied = ours.ring.num_read, ours.ring.num_copied
        assert read == 9
        for _ in range(3):
            list(ours)
        assert ours.ring.num_read == 9
        # With redraws each epoch brings a table: 9 blocks of 5 packs of 4 slots of 4 bytes.
        assert ours.ring.num_copied - copied == (3 * 9 * 5 * 4 * 4 if redraw else 0)


def test_a_block_takes_no_more_than_its_packs(tmp_path: Path) -> None:
    write_packs(tmp_path / "packs", 7, packs_per_block=20, packs_per_shard=20)
    ours, theirs = loaders(tmp_path / "packs")
    (one,) = {len(tensor) for tensor in ours.ring.arrays.values()}
    assert one == 7 + 1  # and the empty pack
    assert_equal(list(ours), list(theirs))


def test_a_stream_keeps_what_it_can(plain: Path) -> None:
    """Of 9 blocks 8 fit: an epoch of a ring that forgot would read 9 again."""
    ours, _ = loaders(plain, 8)
    list(ours)
    assert ours.ring.num_read == 9
    for _ in range(5):
        list(ours)
    assert ours.ring.num_read < 9 + 5 * 5


def tensors_alive() -> int:
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


def test_nothing_is_left_behind_after_30_epochs(plain: Path) -> None:
    ours, _ = loaders(plain, 4, batch_size=8)
    list(ours)
    tensors = {name: tensor.data_ptr() for name, tensor in ours.ring._tensors.items()}
    gc.collect()
    before = tensors_alive()
    for _ in range(30):
        assert sum(1 for _ in ours) == 6
    gc.collect()
    assert tensors_alive() <= before  # fewer where what other tests have left goes meanwhile
    assert {name: tensor.data_ptr() for name, tensor in ours.ring._tensors.items()} == tensors
    gone = weakref.ref(ours.ring)
    del ours
    gc.collect()
    assert gone() is None


class _Event:
    """Of a stream on which everything is done at once; counts who waits for it."""

    waited: ClassVar[list[str]] = []

    def __init__(self, blocking: bool = False) -> None:
        self.blocking = blocking

    def record(self, stream: Any) -> None: ...

    def synchronize(self) -> None:
        assert self.blocking, "a thread that waits must sleep"
        self.waited.append("the buffer")


class _Stream(cuda_double.Stream):
    def __init__(self, name: Any = "steps") -> None:
        self.name = name

    def wait_event(self, event: _Event) -> None:
        event.waited.append(self.name)


@pytest.mark.parametrize("redraw", [True, False])
@pytest.mark.parametrize("blocks", [None, 4])
def test_blocks_come_by_one_copy_on_their_own_stream(
    plain: Path, blocks: int | None, redraw: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way of a GPU, with memory of its own for what has crossed the bus, and a stand-in for streams."""
    ours, theirs = loaders(plain, blocks, redraw=redraw)
    here = ours.ring
    there = torch.full_like(here._host_buffer, 255)
    tables = None if here.slots is None else torch.empty((here.size.blocks, 5, 4), dtype=here.slots.dtype)
    for name, value in {
        "_on_cuda": True,
        "_tables": tables,
        "_device_buffer": there,
        "_device_views": here._views(there),
        "_copy_stream": _Stream("blocks"),
    }.items():
        monkeypatch.setattr(here, name, value)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: _Stream())
    monkeypatch.setattr(torch.cuda, "stream", contextlib.nullcontext)
    monkeypatch.setattr(torch.cuda, "device", contextlib.nullcontext)
    monkeypatch.setattr(torch.cuda, "Event", _Event)
    monkeypatch.setattr(_Event, "waited", [])
    for _ in range(3):
        assert_equal(list(ours), list(theirs))
    sent = _Event.waited.count("blocks")
    assert sent == _Event.waited.count("steps")
    if blocks is None:  # 9 blocks, and with redraws a table of each in the other epochs
        assert sent == (27 if redraw else 9)
        # Blocks wait for the block before, tables for that of the epoch before in their own place.
        assert _Event.waited.count("the buffer") == 8 + (9 if redraw else 0)


def test_two_loaders_side_by_side(plain: Path) -> None:
    train, expected = loaders(plain, 4)
    valid, also = loaders(plain, None, shuffle=False)
    found = list(zip(train, valid, strict=True))
    assert_equal([one for one, _ in found], list(expected))
    assert_equal([other for _, other in found], list(also))


def test_another_pass_ends_the_one_before(plain: Path) -> None:
    ours, theirs = loaders(plain, 4)
    first = iter(ours)
    next(first)
    second = iter(ours)
    next(second)
    with pytest.raises(StateError, match="another one of the same device_loader has begun"):
        next(first)
    theirs.set_epoch(1)
    assert_equal(list(second), list(theirs)[1:])


def test_leaving_early(plain: Path) -> None:
    ours, theirs = loaders(plain, 4)
    for _ in ours:
        break
    theirs.set_epoch(1)
    assert_equal(list(ours), list(theirs))


def test_damage_is_told(plain: Path, tmp_path: Path) -> None:
    write_packs(tmp_path / "packs", PACKS)
    ours, _ = loaders(tmp_path / "packs")
    shard = sorted((tmp_path / "packs").glob("shard*.parquet"))[1]
    content = bytearray(shard.read_bytes())
    content[100] ^= 255
    shard.write_bytes(content)
    with pytest.raises(FormatError):
        list(ours)


@pytest.mark.parametrize("redraw", [None, False, "swaps"])
def test_counts_beyond_the_slots_are_told(plain: Path, redraw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under fitting checksums: a mask of such a pack would be True everywhere."""
    read = Blocks.columns

    def contradicting(self: Blocks, block: int, names: Any) -> Any:
        columns = read(self, block, names)
        if block == 2:
            columns["num_real"] = columns["num_real"] + 99
        return columns

    ours, theirs = loaders(plain, 4, redraw=redraw)
    monkeypatch.setattr(Blocks, "columns", contradicting)
    for loader in (ours, theirs):
        with pytest.raises(FormatError, match="num_real"):
            list(loader)


@pytest.mark.parametrize("value", [0.1, 1e300])
def test_float64_comes_as_bfloat16_by_way_of_float32(
    tmp_path: Path, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_packs(tmp_path / "packs", PACKS)
    read = Blocks.columns

    def with_value(self: Blocks, block: int, names: Any) -> Any:
        columns = read(self, block, names)
        columns["edge_attr"] = np.full_like(columns["edge_attr"], value)
        return columns

    monkeypatch.setattr(Blocks, "columns", with_value)
    ours, theirs = loaders(PackDataset(tmp_path / "packs", columns=["edge_attr"], float_dtype="bfloat16"), redraw=False)
    if value < 1:
        assert_equal(list(ours), list(theirs))
        return
    for loader in (ours, theirs):
        with pytest.raises(FieldError, match=r"edge_attr holds 1e\+300, beyond what float32 reaches"):
            list(loader)


def test_sizes_are_said_before_anything_is_allocated(
    plain: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    real = ring.Ring.__init__
    monkeypatch.setattr(ring.Ring, "__init__", lambda *given: (said.append(caplog.text), real(*given))[1])
    with caplog.at_level(logging.INFO, logger="packer"):
        ours, _ = loaders(plain, 4)
    here = ours.ring
    assert f"streaming, 4 of 9 blocks of {ours.size.block_bytes:,} bytes: {ours.size.bytes:,} bytes" in said[-1]
    held = [*here._tensors.values(), here._device_buffer]
    assert sum(tensor.untyped_storage().nbytes() for tensor in held) == ours.size.bytes


def test_memory_as_a_share(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, _ = loaders(plain)
    monkeypatch.setattr(ring, "free_memory", lambda device: 10 * ours.ring.form.size(6).bytes)
    found, _ = loaders(plain, memory=0.1)
    assert found.size.blocks == 6
    assert loaders(plain)[0].size.resident


def test_a_ring_that_does_not_fit_tells_what_would(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, _ = loaders(plain)
    least = ours.ring.form.size(4).bytes
    with pytest.raises(StateError, match=rf"4 blocks at least take {least:,} bytes, .* Pass memory={least} or more"):
        loaders(plain, memory=least - 1)
    monkeypatch.setattr(ring, "free_memory", lambda device: 1000)
    with pytest.raises(StateError, match=r"0\.5 of what is free by default allows 500, and 1,000 bytes are"):
        loaders(plain)
    with pytest.raises(StateError, match="1,000 bytes are free"):
        loaders(plain, memory=1 << 30)
    for memory in (0, -1, 1.5, 0.0, True, "1G"):
        with pytest.raises(StateError, match=r"memory must be bytes .* or a share"):
            loaders(plain, memory=memory)


def test_more_lanes_than_the_ring_was_made_for(plain: Path) -> None:
    ours, theirs = loaders(plain, 4)
    with pytest.raises(StateError, match=r"needs \d blocks at once, and the ring holds 4 .* pass memory=\d+ or more"):
        ours.load_state_dict({**theirs.state_dict(), "lanes": 8})
        next(iter(ours))


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_no_gpu_is_told(plain: Path) -> None:
    with pytest.raises(StateError, match=r"device='cuda': torch \S+ sees 0 CUDA devices"):
        device_loader(PackDataset(plain))


def test_what_is_refused(plain: Path) -> None:
    with pytest.raises(StateError, match="device_loader needs a PackDataset; got str"):
        device_loader(str(plain))  # pyright: ignore[reportArgumentType]
    with pytest.raises(StateError, match="transform"):
        device_loader(PackDataset(plain, transform=dict), "cpu")
    with pytest.raises(StateError, match="give both rank and world_size"):
        device_loader(PackDataset(plain), "cpu", rank=0)
    with pytest.raises(StateError, match="batch_size and lanes must be at least 1"):
        device_loader(PackDataset(plain), "cpu", batch_size=0)
    for device in ("meta", "no such", 1.5):
        with pytest.raises(StateError, match="device must"):
            device_loader(PackDataset(plain), device)
