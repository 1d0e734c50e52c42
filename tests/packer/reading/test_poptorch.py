"""poptorch_loader against a stand-in for PopTorch's host side."""

import functools
import sys

import numpy as np
import poptorch_double as double
import pytest
import torch
from poptorch_double import DataLoaderMode, Options, device_iterations
from small_packs import HETERO_LIMITS, HETERO_SCHEMA, write_packs

from packer import reading
from packer.errors import StateError
from packer.reading import PackDataset

PACKS = 23
torch_loader = functools.partial(reading.torch_loader, redraw=False)  # packs are told by what they hold
poptorch_loader = functools.partial(reading.poptorch_loader, redraw=False)


@pytest.fixture(autouse=True)
def poptorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "poptorch", double)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("data") / "packs"
    return folder, write_packs(folder, PACKS)


@pytest.fixture
def dataset(written) -> PackDataset:
    return PackDataset(written[0])


def pack_of(seen: dict, written) -> int:
    """Which pack the model sees in one iteration; -1 for an empty one. Every tensor must be that pack's."""
    if not seen["graphs_mask"].any():
        return -1
    pack = next(i for i, pack in enumerate(written[1]) if np.array_equal(pack["y"], seen["y"]))
    for name, tensor in seen.items():
        if name != "half":  # bits of bfloat16
            np.testing.assert_array_equal(tensor.numpy(), written[1][pack][name], err_msg=name)
    return pack


def packs_of(loader, written, parts: int) -> list[int]:
    return [pack_of(seen, written) for step in loader for seen in device_iterations(step, parts)]


def test_the_model_sees_one_pack_an_iteration(dataset, written) -> None:
    options = Options(device_iterations=2, replication_factor=4, input_group_size=2, gradient_accumulation=3)
    loader = poptorch_loader(dataset, options, shuffle=False)
    assert isinstance(loader, double.DataLoader)
    step = next(iter(loader))
    # 2 x (4 // 2) x 3 = 12 packs a step; 23 packs fill the second step with one empty pack
    assert loader.combinedBatchSize == 12
    assert {name: tuple(t.shape) for name, t in step.items()} == {
        "x": (12 * 12, 2),
        "edge_index": (12 * 2, 20),
        "edge_attr": (12 * 20, 1),
        "half": (12 * 12,),
        "y": (12 * 4,),
        "batch": (12 * 12,),
        "ptr": (12 * 5,),
        "nodes_mask": (12 * 12,),
        "edges_mask": (12 * 20,),
        "graphs_mask": (12 * 4,),
    }
    assert packs_of(loader, written, 12) == [*range(PACKS), -1]
    assert len(loader) == 2


def test_no_pack_is_lost_in_any_epoch_or_process(dataset, written) -> None:
    alone = poptorch_loader(dataset, Options(device_iterations=4), seed=3)
    order = packs_of(alone, written, 4)
    assert order == [*order[:PACKS], -1]
    wanted = torch_loader(dataset, seed=3)  # the same order as everywhere
    assert order[:PACKS] == [pack_of(batch.to_dict(), written) for batch in wanted]
    assert packs_of(alone, written, 4) != order

    shares = []
    for process in range(3):
        options = Options(device_iterations=4, process_id=process, num_processes=3)
        loader = poptorch_loader(dataset, options, seed=3)
        epochs = [packs_of(loader, written, 4) for _ in range(2)]
        assert [len(packs) for packs in epochs] == [8, 8]  # ceil(23 / (3 * 4)) = 2 steps of 4
        shares.append(epochs)
    for epoch in (0, 1):
        seen = sorted(pack for share in shares for pack in share[epoch])
        assert seen == [-1, *range(PACKS)]
    assert shares[1][0][:3] == order[1:9:3]


def test_a_data_set_smaller_than_a_step_is_filled(dataset, written) -> None:
    loader = poptorch_loader(dataset, Options(device_iterations=64))
    assert len(loader) == 1
    packs = packs_of(loader, written, 64)
    assert sorted(packs) == [-1] * (64 - PACKS) + list(range(PACKS))
    options = Options(device_iterations=16, process_id=2, num_processes=3)
    assert packs_of(poptorch_loader(dataset, options), written, 16).count(-1) == 16 - 7


def test_workers_see_the_same_order(dataset, written) -> None:
    options = Options(device_iterations=5)
    wanted = packs_of(poptorch_loader(dataset, options), written, 5)
    assert packs_of(poptorch_loader(dataset, options, num_workers=2, persistent_workers=False), written, 5) == wanted


def test_asynchronous_loading_gives_the_same_epochs(dataset, written) -> None:
    options = Options(device_iterations=4)
    sync = poptorch_loader(dataset, options)
    wanted = [packs_of(sync, written, 4) for _ in range(2)]
    loader = poptorch_loader(dataset, options, mode=DataLoaderMode.Async)
    try:
        assert [packs_of(loader, written, 4) for _ in range(2)] == wanted
    finally:
        loader.terminate()


@pytest.mark.parametrize("worker_size", [None, 3, 4])
def test_rebatching_works_on_stacked_packs(dataset, written, worker_size) -> None:
    loader = poptorch_loader(
        dataset,
        Options(device_iterations=4),
        shuffle=False,
        layout="stacked",
        mode=DataLoaderMode.AsyncRebatched,
        rebatched_worker_size=worker_size,
    )
    try:
        seen = []
        for step in loader:
            assert step["x"].shape == (4, 12, 2)
            for one in device_iterations(step, 4):
                seen.append(pack_of({name: tensor[0] for name, tensor in one.items()}, written))
        assert seen == [*range(PACKS), -1]
        assert len(loader) == 6
    finally:
        loader.terminate()


def test_rebatching_joined_packs_is_refused(dataset) -> None:
    with pytest.raises(StateError, match=r'would mix rows of different packs: pass layout="stacked"'):
        poptorch_loader(dataset, Options(), mode=DataLoaderMode.AsyncRebatched)


def test_the_start_is_given_as_a_state(dataset, written) -> None:
    options = Options(device_iterations=4)
    whole = poptorch_loader(dataset, options, seed=8)
    epochs = [packs_of(whole, written, 4) for _ in range(3)]
    for epoch, steps in ((0, 0), (1, 2), (1, 6), (2, 5)):
        state = whole.pack_sampler.state_dict(epoch, steps)
        resumed = poptorch_loader(dataset, options, state=state)
        assert packs_of(resumed, written, 4) == epochs[epoch][4 * steps :]
        if epoch < 2:
            assert packs_of(resumed, written, 4) == epochs[epoch + 1]
    other = torch_loader(dataset, shuffle=False).state_dict()
    with pytest.raises(StateError, match="another data set or another shuffle setting"):
        poptorch_loader(dataset, options, state=other)


def test_set_epoch_in_sync_mode(dataset, written) -> None:
    loader = poptorch_loader(dataset, Options())
    first, second = packs_of(loader, written, 1), packs_of(loader, written, 1)
    for epoch, wanted in ((1, second), (0, first)):
        loader.pack_sampler.set_epoch(epoch)
        assert packs_of(loader, written, 1) == wanted


def test_what_a_transform_widens_is_narrowed(written) -> None:
    def widen(pack: dict) -> dict:
        return {"x": pack["x"].double(), "n": pack["nodes_mask"].sum()[None]}

    step = next(iter(poptorch_loader(PackDataset(written[0], transform=widen), Options(device_iterations=2))))
    assert {name: (t.dtype, t.shape) for name, t in step.items()} == {
        "x": (torch.float32, (24, 2)),
        "n": (torch.int32, (2,)),
    }


def test_heterogeneous_packs(tmp_path) -> None:
    write_packs(tmp_path, 5, 2, 4, HETERO_SCHEMA, HETERO_LIMITS)
    step = next(iter(poptorch_loader(PackDataset(tmp_path), Options(device_iterations=3))))
    seen = device_iterations(step, 3)[2]
    assert seen["author/x"].shape == (8, 2)
    assert seen["author__writes__paper/edge_index"].shape == (2, 14)


def test_clear_errors_before_poptorchs_own(dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StateError, match=r"options must be a poptorch\.Options; got dict"):
        poptorch_loader(dataset, {})
    with pytest.raises(StateError, match=r"mode must be a poptorch\.DataLoaderMode; got 'Async'"):
        poptorch_loader(dataset, Options(), mode="Async")
    with pytest.raises(StateError, match="layout must be one of joined, stacked; got 'pyg'"):
        poptorch_loader(dataset, Options(), layout="pyg")
    with pytest.raises(StateError, match="batch_size must be at least 1; got 0"):
        poptorch_loader(dataset, Options(), batch_size=0)
    with pytest.raises(StateError, match=r"\['drop_last'\] would lose or reorder packs"):
        poptorch_loader(dataset, Options(), drop_last=False)
    monkeypatch.setattr(double.DataLoader, "combinedBatchSize", 7)
    with pytest.raises(StateError, match="this PopTorch takes 7 items a step, 1 were expected"):
        poptorch_loader(dataset, Options())
    monkeypatch.setitem(sys.modules, "poptorch", None)
    with pytest.raises(ImportError, match="Graphcore ships with the Poplar SDK"):
        poptorch_loader(dataset, Options())


def test_the_stand_in_shows_what_rebatching_would_do_to_joined_packs(dataset) -> None:
    # 2 joined packs are 24 rows of x and 8 of y: steps of 2 rows would belong to no pack.
    joined = next(iter(poptorch_loader(dataset, Options(device_iterations=2))))
    assert {len(t) for t in next(double._rebatch([joined], 2)).values()} == {2}
