"""torch_loader: every pack once in one order, whatever the ranks and workers; steps of one shape; exact resumption."""

import copy
import functools
import gc
import pickle
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from small_packs import HETERO_LIMITS, HETERO_SCHEMA, write_packs

from packer import reading
from packer.errors import StateError
from packer.graphs.schema import Field, Schema
from packer.reading import PackBatch, PackDataset, masked_mean
from packer.reading.loader import PackDataLoader, PackLoader

PACKS = 23
torch_loader = functools.partial(reading.torch_loader, redraw=False)  # packs are told by what they hold
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than processors


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("data") / "packs"
    return folder, write_packs(folder, PACKS)


@pytest.fixture
def dataset(written) -> PackDataset:
    return PackDataset(written[0])


def ids_of(loader, written) -> list[int]:
    """The pack behind each step of a pass (batch_size 1); -1 for empty ones."""
    return [id_of(batch, written) for batch in loader]


def id_of(batch, written) -> int:
    if not batch["graphs_mask"].any():
        return -1
    found = [i for i, pack in enumerate(written[1]) if np.array_equal(pack["y"], batch["y"])]
    assert len(found) == 1
    return found[0]


def test_the_same_order_for_any_workers_and_ranks(dataset, written) -> None:
    whole = ids_of(torch_loader(dataset, seed=4), written)
    assert sorted(whole) == list(range(PACKS))
    assert ids_of(torch_loader(dataset, seed=4, as_dataloader=True), written) == whole
    assert ids_of(torch_loader(dataset, seed=4, num_workers=2), written) == whole
    assert ids_of(torch_loader(dataset, seed=5), written) != whole
    for world in (2, 3):
        for rank in range(world):
            part = whole[rank::world]
            filled = part + [-1] * (-(-PACKS // world) - len(part))
            assert ids_of(torch_loader(dataset, seed=4, rank=rank, world_size=world), written) == filled
    assert ids_of(torch_loader(dataset, shuffle=False), written) == list(range(PACKS))


def test_a_pack_is_the_consumer_s_own(dataset, written) -> None:
    known = [copy.deepcopy(dataset[i]) for i in range(PACKS)]
    for options in ({"shuffle": False}, {}):
        loader = torch_loader(dataset, layout="dict", **options)
        for _ in range(2):
            loader.set_epoch(0)
            seen = []
            for pack in loader:
                seen.append(id_of(pack, written))
                for name, tensor in pack.items():
                    assert torch.equal(tensor, known[seen[-1]][name]), name
                    tensor.fill_(1)  # must reach neither the block nor a neighbour
            assert sorted(seen) == list(range(PACKS))


def test_every_pass_is_an_epoch_and_set_epoch_names_it(dataset, written) -> None:
    for options in ({}, {"as_dataloader": True}):
        loader = torch_loader(dataset, **options)
        assert len(loader) == PACKS
        first, second = ids_of(loader, written), ids_of(loader, written)
        assert first != second
        for epoch, wanted in ((1, second), (0, first)):
            loader.set_epoch(epoch)
            assert ids_of(loader, written) == wanted
        loader.set_epoch(0)
        iterator = iter(loader)
        next(iterator)  # a pass that is left early counts as well
        assert ids_of(loader, written) == second
        del iterator


@pytest.mark.parametrize("batch_size", [1, 2, 5])
@pytest.mark.parametrize("world", [1, 3])
def test_len_is_exact_and_steps_are_whole(dataset, batch_size: int, world: int) -> None:
    steps = -(-PACKS // (batch_size * world))
    real = 0
    for rank in range(world):
        loader = torch_loader(dataset, batch_size, rank=rank, world_size=world)
        batches = list(loader)
        assert len(batches) == len(loader) == steps
        assert {batch.x.shape for batch in batches} == {(12 * batch_size, 2)}
        real += sum(batch.num_real_graphs for batch in batches)
    assert real == dataset.manifest.counts.graphs


def _resume_everywhere(written, make, steps) -> None:
    """At every step of two epochs, saving and loading gives exactly the rest; again from a second state."""
    whole = make()
    epochs = [ids_of(whole, written), ids_of(whole, written)]
    for step in steps(len(epochs[0])):
        for epoch in (0, 1):
            loader = make()
            loader.set_epoch(epoch)
            iterator = iter(loader)
            for _ in range(step):
                next(iterator)
            state = pickle.loads(pickle.dumps(loader.state_dict()))
            del iterator
            resumed = make()
            resumed.load_state_dict(state)
            assert resumed.state_dict() == state
            if epoch == 0:
                assert ids_of(resumed, written) == epochs[0][step:]
                assert ids_of(resumed, written) == epochs[1]
            elif step < len(epochs[1]):
                again = iter(resumed)
                assert id_of(next(again), written) == epochs[1][step]
                second = make()
                second.load_state_dict(resumed.state_dict())
                assert ids_of(second, written) == epochs[1][step + 1 :]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_resuming_at_every_step(dataset, written, world: int) -> None:
    for options in ({}, {"as_dataloader": True}):
        _resume_everywhere(
            written,
            lambda options=options: torch_loader(dataset, rank=world - 1, world_size=world, **options),
            lambda steps: range(steps + 1),
        )


def test_resuming_with_workers(dataset, written) -> None:
    _resume_everywhere(written, lambda: torch_loader(dataset, num_workers=3), lambda steps: [7])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_resuming_with_workers_at_every_step(dataset, written, workers: int, world: int) -> None:
    _resume_everywhere(
        written,
        lambda: torch_loader(dataset, num_workers=workers, rank=0, world_size=world),
        lambda steps: range(steps + 1),
    )


def test_a_state_moves_between_kinds_of_loader_and_world_sizes(dataset, written) -> None:
    whole = ids_of(torch_loader(dataset, seed=9), written)
    loader = torch_loader(dataset, seed=9)
    iterator = iter(loader)
    for _ in range(6):
        next(iterator)
    state = loader.state_dict()
    assert state["packs_seen"] == 6
    rest = []
    for rank in range(2):
        other = torch_loader(dataset, seed=1, as_dataloader=True, rank=rank, world_size=2)
        other.load_state_dict(state)  # brings its seed
        rest.append(ids_of(other, written))
    assert sorted(rest[0] + rest[1]) == sorted([*whole[6:], -1])


def test_set_epoch_keeps_a_state_loaded_for_that_epoch(dataset, written) -> None:
    loader = torch_loader(dataset)
    loader.set_epoch(2)
    iterator = iter(loader)
    seen = [id_of(next(iterator), written) for _ in range(5)]
    state = loader.state_dict()
    resumed = torch_loader(dataset)
    resumed.load_state_dict(state)
    resumed.set_epoch(2)  # what a training loop does at the top of each epoch
    assert sorted(seen + ids_of(resumed, written)) == list(range(PACKS))
    resumed.set_epoch(2)
    assert len(ids_of(resumed, written)) == PACKS


def test_other_tools_can_save_what_the_sampler_gave_out(dataset) -> None:
    # torchdata's StatefulDataLoader asks the iterator of its batch sampler
    sampler = torch_loader(dataset, 2, as_dataloader=True).batch_sampler
    epochs = [list(sampler), list(sampler)]
    assert epochs[0] != epochs[1]
    sampler.set_epoch(1)
    steps = iter(sampler)
    assert [next(steps) for _ in range(4)] == epochs[1][:4]
    state = steps.state_dict()
    assert (state["epoch"], state["packs_seen"]) == (1, 8)
    other = iter(torch_loader(dataset, 2, as_dataloader=True).batch_sampler)
    next(other)
    other.load_state_dict(state)
    assert list(other) == epochs[1][4:]


def test_a_foreign_state_is_refused(dataset, tmp_path: Path) -> None:
    write_packs(tmp_path, PACKS, compression="none")
    state = torch_loader(PackDataset(tmp_path)).state_dict()
    for loader in (torch_loader(dataset), torch_loader(dataset, as_dataloader=True)):
        with pytest.raises(StateError, match="another data set"):
            loader.load_state_dict(state)
        with pytest.raises(StateError, match="another shuffle setting"):
            loader.load_state_dict(torch_loader(dataset, shuffle=False).state_dict())


def test_options_that_cannot_work_are_refused(dataset) -> None:
    with pytest.raises(StateError, match="layout must be one of pyg, dict; got 'tuple'"):
        torch_loader(dataset, layout="tuple")
    with pytest.raises(StateError, match="give both rank and world_size"):
        torch_loader(dataset, rank=1)
    with pytest.raises(StateError, match="got rank 2 of 2"):
        torch_loader(dataset, rank=2, world_size=2)
    with pytest.raises(StateError, match="batch_size and lanes must be at least 1; got 0 and 8"):
        torch_loader(dataset, batch_size=0)
    with pytest.raises(StateError, match="shuffle must be True or False; got 'no'"):
        torch_loader(dataset, shuffle="no")
    with pytest.raises(StateError, match="pass as_dataloader=True too"):
        torch_loader(dataset, persistent_workers=True)
    with pytest.raises(StateError, match="order and the joining are the loader's own"):
        torch_loader(dataset, num_workers=1, drop_last=True)


def test_a_field_that_would_hide_a_method_needs_the_dict_layout(tmp_path: Path) -> None:
    schema = Schema(
        HETERO_SCHEMA.axes, (*HETERO_SCHEMA.fields, Field("keys", "graph", "value", (), 0, "int64", "int8"))
    )
    write_packs(tmp_path, 2, 1, 1, schema, HETERO_LIMITS)
    with pytest.raises(StateError, match=r"fields \['keys'\] have names that a PackBatch itself uses"):
        torch_loader(PackDataset(tmp_path))
    assert "keys" in next(iter(torch_loader(PackDataset(tmp_path), layout="dict")))


def _joined_by_hand(
    packs: list[dict], index: list[tuple[str, int, list[int]]], nodes: dict[str, int], slots: int
) -> dict:
    """Packs one after the other; index: (name, dimension, node slots that each row counts)."""
    whole = {}
    by_name = {name: (dim, shifts) for name, dim, shifts in index}
    for name in packs[0]:
        if name in by_name:
            dim, shifts = by_name[name]
            parts = [p[name] + i * torch.tensor(shifts)[:, None] for i, p in enumerate(packs)]
        elif name.endswith("batch"):
            dim, parts = 0, [p[name] + i * slots for i, p in enumerate(packs)]
        elif name.endswith("ptr"):
            size = nodes[name.rpartition("/")[0]]
            dim, parts = 0, [(p[name] + i * size)[1 if i else 0 :] for i, p in enumerate(packs)]
        else:
            dim, parts = 0, [p[name] for p in packs]
        whole[name] = torch.cat(parts, dim)
    return whole


@pytest.mark.parametrize("options", [{}, {"as_dataloader": True}, {"layout": "dict"}])
@pytest.mark.parametrize("transform", [None, copy.copy])
def test_joined_packs_are_one_larger_pack(written, options: dict, transform) -> None:
    dataset = PackDataset(written[0], transform=transform)
    index = [("edge_index", -1, [12, 12])]
    for step, batch in enumerate(torch_loader(dataset, 3, shuffle=False, **options)):
        packs = [dataset[i] if i < PACKS else dataset.empty_pack() for i in range(3 * step, 3 * step + 3)]
        wanted = _joined_by_hand(packs, index, {"": 12}, 4)
        assert list(batch.keys()) == list(wanted)
        for name, tensor in wanted.items():
            assert batch[name].dtype == tensor.dtype
            assert torch.equal(batch[name], tensor), name
        assert batch["ptr"].tolist()[::4] == [0, 12, 24, 36]
    assert step == 7


def test_joined_heterogeneous_packs(tmp_path: Path) -> None:
    write_packs(tmp_path, 5, 2, 4, HETERO_SCHEMA, HETERO_LIMITS)
    dataset = PackDataset(tmp_path)
    batch = next(iter(torch_loader(dataset, 2, shuffle=False)))
    index = [("author__writes__paper/edge_index", -1, [8, 10])]
    for name, tensor in _joined_by_hand([dataset[0], dataset[1]], index, {"author": 8, "paper": 10}, 3).items():
        assert torch.equal(batch[name], tensor), name


def test_a_batch_of_homogeneous_packs(dataset) -> None:
    batch = next(iter(torch_loader(dataset, 2)))
    assert isinstance(batch, PackBatch)
    assert (batch.num_graphs, batch.num_nodes, batch.num_edges) == (8, 24, 40)
    assert batch.num_real_graphs == int(batch.graphs_mask.sum())
    assert batch.keys()[:2] == ["x", "edge_index"]
    assert "x" in batch and "z" not in batch
    assert batch.x is batch["x"]
    batch.x = batch.x.float()
    assert batch["x"].dtype == torch.float32
    with pytest.raises(AttributeError, match="no 'pos'; it has"):
        _ = batch.pos
    with pytest.raises(KeyError, match="author"):
        batch["author"]
    for other in (batch.to("cpu"), pickle.loads(pickle.dumps(batch)), copy.deepcopy(batch)):
        assert other.num_graphs == 8
        assert torch.equal(other.x, batch.x)
    assert batch.to("meta").x.device.type == "meta"
    assert repr(batch).startswith("PackBatch(num_graphs=8, x=[24, 2], edge_index=[2, 40]")


def test_a_batch_travels_as_one_tensor_and_arrives_as_many(dataset) -> None:
    batch = next(iter(torch_loader(dataset, 2)))
    stored = pickle.loads(pickle.dumps(batch))
    assert stored.keys() == batch.keys()
    for name, tensor in batch:
        assert stored[name].dtype == tensor.dtype
        assert torch.equal(stored[name], tensor), name
    stored.x.zero_()
    assert [stored.x._version, stored.y._version] == [1, 0]  # autograd must not take them for one
    assert torch.equal(stored.edge_index, batch.edge_index)
    batch.y.requires_grad_()
    assert pickle.loads(pickle.dumps(batch)).y.requires_grad


def test_a_batch_of_heterogeneous_packs(tmp_path: Path) -> None:
    write_packs(tmp_path, 5, 2, 4, HETERO_SCHEMA, HETERO_LIMITS)
    batch = next(iter(torch_loader(PackDataset(tmp_path))))
    writes = ("author", "writes", "paper")
    assert batch["author"].x is batch["author/x"]
    assert batch[writes].edge_index is batch["author__writes__paper/edge_index"]
    assert {key: x.shape for key, x in batch.x_dict.items()} == {"author": (8, 2), "paper": (10, 3)}
    assert list(batch.edge_index_dict) == [writes]
    assert batch["paper"].num_nodes == 10
    assert batch["author"].keys() == ["x", "batch", "ptr", "mask"]
    batch["author"].x = batch["author"].x * 2
    assert batch["author/x"] is batch.x_dict["author"]
    with pytest.raises(AttributeError, match="paper has no 'z'"):
        _ = batch["paper"].z
    with pytest.raises(AttributeError, match="no 'z_dict'"):
        _ = batch.z_dict


def test_to_pyg(dataset, tmp_path: Path) -> None:
    pytest.importorskip("torch_geometric")
    batch = next(iter(torch_loader(dataset, 2)))
    pyg = batch.to_pyg()
    assert (pyg.num_graphs, pyg.num_nodes, pyg.num_edges) == (8, 24, 40)
    assert pyg.validate()
    assert set(pyg.keys()) >= set(batch.keys())

    write_packs(tmp_path, 5, 2, 4, HETERO_SCHEMA, HETERO_LIMITS)
    batch = next(iter(torch_loader(PackDataset(tmp_path))))
    pyg = batch.to_pyg()
    assert pyg.num_graphs == 3
    assert pyg.validate()
    assert pyg["author"].x is batch["author/x"]
    assert pyg["author", "writes", "paper"].edge_index is batch["author__writes__paper/edge_index"]
    assert pyg.y is batch.y


@pytest.mark.slow
def test_a_compiled_model_takes_batches_without_a_graph_break(dataset) -> None:
    def model(batch: PackBatch) -> torch.Tensor:
        pooled = torch.zeros(batch.num_graphs, 2).index_add(0, batch.batch, batch.x.float())
        return masked_mean(pooled.sum(1) - batch["y"], batch.graphs_mask) * batch.num_nodes

    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend="eager")
    counter = torch._dynamo.utils.counters
    counter.clear()
    for batch in torch_loader(dataset, 2):
        assert torch.allclose(compiled(batch), model(batch))
    assert counter["stats"]["unique_graphs"] == 1  # no step was compiled anew


def test_ranks_come_from_torch_distributed(written) -> None:
    code = f"""
        import torch
        from packer import PackDataset, torch_loader
        torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        loader = torch_loader(PackDataset({str(written[0])!r}))
        assert (loader.progress.rank, loader.progress.world) == (0, 1)
        torch.distributed.get_rank, torch.distributed.get_world_size = lambda: 1, lambda: 3
        loader = torch_loader(PackDataset({str(written[0])!r}))
        assert (loader.progress.rank, loader.progress.world) == (1, 3)
        torch.distributed.destroy_process_group()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=120)


def test_blocks_are_decoded_once_an_epoch_and_let_go(dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    decode = type(dataset.blocks).decode
    monkeypatch.setattr(
        type(dataset.blocks), "decode", lambda self, block, redraw: decoded.append(block) or decode(self, block, redraw)
    )
    for shuffle in (True, False):
        for batch_size in (1, 4):
            for _ in torch_loader(dataset, batch_size, shuffle=shuffle):
                pass
            assert sorted(decoded) == [0, 1, 2, 3, 4]
            decoded.clear()
    for _ in torch_loader(dataset, as_dataloader=True):
        pass
    assert sorted(decoded) == [0, 1, 2, 3, 4]


def test_a_pass_left_early_leaves_no_thread(dataset) -> None:
    before = set(threading.enumerate())  # those of earlier tests may end meanwhile
    for step, _ in enumerate(torch_loader(dataset)):
        if step == 3:
            break
    gc.collect()
    assert not set(threading.enumerate()) - before


def test_an_error_while_decoding_reaches_the_loop(tmp_path: Path) -> None:
    write_packs(tmp_path, 4, 2, 4)
    shard = tmp_path / "shard-00000.parquet"
    loader = torch_loader(PackDataset(tmp_path))
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(ValueError, match="the manifest says"):
        list(loader)


def test_pinning_without_a_gpu_changes_nothing(dataset) -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    assert next(iter(torch_loader(dataset, pin_memory=True))).x.shape == (12, 2)


def test_kinds_of_loader(dataset) -> None:
    assert isinstance(torch_loader(dataset), PackLoader)
    for options in ({"as_dataloader": True}, {"num_workers": 1}):
        loader = torch_loader(dataset, **options)
        assert isinstance(loader, PackDataLoader)
        assert isinstance(loader, torch.utils.data.DataLoader)
        assert len(loader) == PACKS
        assert loader.batch_sampler.set_epoch  # Lightning looks for it there


def test_masked_mean() -> None:
    loss = torch.tensor([1.0, 2.0, 6.0, float("nan"), float("inf")], requires_grad=True)
    mask = torch.tensor([True, True, True, False, False])
    mean = masked_mean(loss, mask)
    assert mean.item() == 3.0  # (1 + 2 + 6) / 3
    mean.backward()
    np.testing.assert_allclose(loss.grad, [1 / 3, 1 / 3, 1 / 3, 0, 0])
    # two targets a graph: (1 + 2 + 3 + 4) / 4
    assert masked_mean(torch.tensor([[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]]), torch.tensor([True, True, False])) == 2.5
    assert masked_mean(loss.detach(), torch.zeros(5, dtype=torch.bool)) == 0.0
    half = masked_mean(torch.ones(5000, dtype=torch.float16), torch.ones(5000, dtype=torch.bool))
    assert half.dtype == torch.float16
    assert half == 1.0


def test_masked_mean_of_an_empty_step_has_no_gradient() -> None:
    loss = torch.ones(4, requires_grad=True)
    masked_mean(loss, torch.zeros(4, dtype=torch.bool)).backward()
    assert loss.grad.tolist() == [0, 0, 0, 0]
