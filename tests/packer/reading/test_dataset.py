"""PackDataset gives back exactly what was written, in fixed shapes and logical dtypes, in any process."""

import multiprocessing
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from forks import read_packs
from reference_packs import write_data_set
from small_packs import HETERO_LIMITS, HETERO_SCHEMA, SCHEMA, write_packs
from torch_geometric.data import Data

from packer.errors import FieldError, FormatError
from packer.limits import PackLimits
from packer.reading import PackReader, numpy_loader
from packer.reading.dataset import PackDataset
from pipelines import build

NAMES = ["x", "edge_index", "edge_attr", "half", "y", "batch", "ptr", "nodes_mask", "edges_mask", "graphs_mask"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("data") / "packs"
    return folder, write_packs(folder, skipped=2)


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def same(pack: dict, written: dict) -> None:
    """Equal to a pack as it was written, cast to logical dtypes."""
    for name, tensor in pack.items():
        wanted = torch.from_numpy(
            written[name].astype(np.int64 if written[name].dtype.kind in "ui" else written[name].dtype)
        )
        if tensor.dtype == torch.bfloat16:
            tensor = tensor.view(torch.int16).long()
        assert torch.equal(tensor, wanted.to(tensor.dtype)), name


def test_every_pack_comes_back_with_logical_dtypes(written) -> None:
    folder, packs = written
    dataset = PackDataset(folder)
    assert isinstance(dataset, torch.utils.data.Dataset)
    assert len(dataset) == 23
    for i in range(23):
        pack = dataset[i]
        assert list(pack) == NAMES
        assert {name: t.dtype for name, t in pack.items() if t.dtype != torch.int64} == {
            "edge_attr": torch.float64,
            "half": torch.bfloat16,
            "y": torch.float32,
            **dict.fromkeys(NAMES[-3:], torch.bool),
        }
        assert all(tuple(pack[column.name].shape) == column.shape for column in dataset.columns)
        same(pack, packs[i])


@pytest.mark.parametrize("compression", ["none", "lz4", "zstd"])
@pytest.mark.parametrize("verify", ["off", "first-touch", "always"])
@pytest.mark.parametrize("shape", [(1, 5, 10), (7, 10, 10), (9, 1, 4), (13, 4, 8)])
def test_any_codec_and_grid(tmp_path: Path, compression: str, verify: str, shape: tuple) -> None:
    num_packs, per_block, per_shard = shape
    packs = write_packs(tmp_path, num_packs, per_block, per_shard, compression=compression)
    dataset = PackDataset(tmp_path, verify=verify)
    for i in (*range(num_packs), *reversed(range(num_packs))):
        same(dataset[i], packs[i])


def test_heterogeneous_packs_have_keys_by_type(tmp_path: Path) -> None:
    packs = write_packs(tmp_path, 6, 2, 4, HETERO_SCHEMA, HETERO_LIMITS)
    dataset = PackDataset(tmp_path)
    assert dataset[0]["author/x"].shape == (8, 2)
    assert dataset[0]["author__writes__paper/edge_index"].shape == (2, 14)
    assert dataset[0]["paper/mask"].shape == (10,)
    for i in range(6):
        same(dataset[i], packs[i])


def test_a_pack_is_the_callers_own(written) -> None:
    folder, packs = written
    dataset = PackDataset(folder)
    for order in (range(23), [3, 3, 4, 5, 3, 22, -1], range(23)):
        for i in order:
            pack = dataset[i]
            same(pack, packs[i])
            for tensor in pack.values():
                tensor.zero_()  # must reach neither the cache nor a neighbour
                assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


def test_indices(written) -> None:
    folder, packs = written
    dataset = PackDataset(folder)
    same(dataset[-1], packs[22])
    same(dataset[torch.tensor(4)], packs[4])
    same(dataset[np.int64(7)], packs[7])
    assert len(list(iter(dataset))) == 23
    for got, i in zip(dataset.__getitems__([20, 0, 21, 21]), [20, 0, 21, 21], strict=True):
        same(got, packs[i])
    for wrong in (23, -24):
        with pytest.raises(IndexError, match="of 23"):
            dataset[wrong]


def test_options(written) -> None:
    folder, packs = written
    some = PackDataset(folder, columns=["y", "x", "graphs_mask"])
    assert list(some[0]) == ["x", "y", "graphs_mask"]
    same(some[11], packs[11])
    assert list(PackDataset(folder, columns=["x"])[0]) == ["x"]
    assert list(PackDataset(folder, columns=["edges_mask"])[3]) == ["edges_mask"]

    for dtype in ("int32", torch.int32, np.int32):
        pack = PackDataset(folder, index_dtype=dtype)[5]
        assert {pack[name].dtype for name in ("edge_index", "batch", "ptr")} == {torch.int32}
        assert pack["x"].dtype == torch.int64
        same(pack, packs[5])
    for dtype in ("float32", "bfloat16", torch.float16):
        pack = PackDataset(folder, float_dtype=dtype)[5]
        wanted = getattr(torch, dtype) if isinstance(dtype, str) else dtype
        assert {pack[name].dtype for name in ("edge_attr", "half", "y")} == {wanted}
        np.testing.assert_array_equal(pack["y"].float(), packs[5]["y"])
    half = PackDataset(folder)[5]["half"]
    assert torch.equal(PackDataset(folder, float_dtype="float32")[5]["half"], half.float())

    counted = PackDataset(folder, transform=lambda pack: {"n": pack["nodes_mask"].sum()})
    assert [int(counted[i]["n"]) for i in range(23)] == [int(p["num_real"][0]) for p in packs]


def test_wrong_options_say_what_is_possible(written) -> None:
    folder, _ = written
    with pytest.raises(FieldError, match=r"unknown \['z'\]; a pack has \['x', 'edge_index'"):
        PackDataset(folder, columns=["x", "z"])
    with pytest.raises(FieldError, match="index_dtype must be one of int32, int64; got 'int16'"):
        PackDataset(folder, index_dtype="int16")
    with pytest.raises(FieldError, match=r"float_dtype must be one of .*; got torch.int64"):
        PackDataset(folder, float_dtype=torch.int64)
    with pytest.raises(FormatError, match="verify must be one of"):
        PackDataset(folder, verify="yes")
    with pytest.raises(FormatError, match="cache_blocks must be at least 1"):
        PackDataset(folder, cache_blocks=0)
    with pytest.raises(FormatError, match=r"holds no manifest\.json"):
        PackDataset(folder.parent)


def test_a_build_result_is_a_path(written) -> None:
    class Built:
        def __fspath__(self) -> str:
            return str(written[0])

    same(PackDataset(Built())[2], written[1][2])


def test_with_32_bits(written, tmp_path: Path) -> None:
    folder, packs = written
    pack = PackDataset(folder).with_32_bits()[9]
    assert {tensor.dtype for tensor in pack.values()} == {torch.int32, torch.float32, torch.bool}
    np.testing.assert_array_equal(pack["x"], packs[9]["x"])

    wide = type(SCHEMA)(
        SCHEMA.axes, (*SCHEMA.fields[1:], type(SCHEMA.fields[0])("id", "graph", "value", (), 0, "int64", "int64"))
    )
    write_packs(tmp_path, 2, 1, 1, wide)
    with pytest.raises(FieldError, match="id is stored as int64: some of its values do not fit int32"):
        PackDataset(tmp_path).with_32_bits()


def test_graph_ids_and_scatter(written) -> None:
    folder, packs = written
    dataset = PackDataset(folder)
    for i in (0, 22, 9):
        np.testing.assert_array_equal(dataset.graph_ids(i), packs[i]["graph_ids"])

    graphs = dataset.manifest.counts.graphs
    flat = torch.from_numpy(np.concatenate([p["graph_ids"] for p in packs])).float()  # predict the graph's own id
    wanted = torch.arange(graphs).float()
    wanted[-2:] = float("nan")  # the two that are in no pack
    pieces = [*flat[:80].split(20), flat[80:], torch.zeros(8)]  # the last piece: two empty packs of a filled step
    for predictions in (flat, flat.reshape(23, 4), pieces, iter(pieces)):
        assert torch.equal(dataset.scatter(predictions).nan_to_num(-5), wanted.nan_to_num(-5))
    assert dataset.scatter(flat[:, None].expand(-1, 3)).shape == (graphs, 3)
    whole = dataset.scatter(flat.long(), fill=-7)
    assert whole.tolist() == [*range(graphs - 2), -7, -7]
    with pytest.raises(FormatError, match=f"2 of {graphs} graphs are in no pack: pass fill="):
        dataset.scatter(flat.long())
    with pytest.raises(FormatError, match="90 predictions for 23 packs of 4 graph slots: expected 92"):
        dataset.scatter(flat[:90])


def test_the_empty_pack_has_no_real_graph_and_the_same_shapes(written) -> None:
    dataset = PackDataset(written[0])
    empty, pack = dataset.empty_pack(), dataset[0]
    assert {k: (t.shape, t.dtype) for k, t in empty.items()} == {k: (t.shape, t.dtype) for k, t in pack.items()}
    assert not any(empty[name].any() for name in NAMES[-3:])
    assert empty["ptr"].tolist() == [0, 12, 12, 12, 12]  # one null graph owns everything
    empty["x"][:] = 5
    assert not dataset.empty_pack()["x"].any()


def test_damage_is_noticed_as_verify_says(tmp_path: Path) -> None:
    write_packs(tmp_path, 4, 2, 4, compression="none")
    shard = tmp_path / "shard-00000.parquet"
    data = bytearray(shard.read_bytes())
    data[300] ^= 1
    shard.write_bytes(data)
    for verify in ("first-touch", "always"):
        with pytest.raises(FormatError, match=r"shard-00000.parquet: block 0 is damaged"):
            PackDataset(tmp_path, verify=verify)[0]
        PackDataset(tmp_path, verify=verify)[2]  # the other block is whole

    late = PackDataset(tmp_path, verify="always", cache_blocks=1)
    data[300] ^= 1
    shard.write_bytes(data)
    late[0], late[2]
    data[300] ^= 1
    shard.write_bytes(data)
    with pytest.raises(FormatError, match="block 0 is damaged"):
        late[0]


def test_impossible_counts_are_damage_even_unverified(tmp_path: Path) -> None:
    packs = write_packs(tmp_path, 2, 2, 2)
    packs[1]["num_real"][0] = 13  # of 12 node slots
    write_packs(tmp_path, 2, 2, 2, packs=packs)
    with pytest.raises(FormatError, match=r"num_real counts up to \[13, .* of \[12, 20, 4\] slots for \['nodes_mask'"):
        PackDataset(tmp_path, verify="off")[0]


def test_blocks_are_decoded_once_and_a_bounded_number_is_kept(written, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = PackDataset(written[0], cache_blocks=2)
    decoded = []
    decode = type(dataset.blocks).decode
    monkeypatch.setattr(
        type(dataset.blocks), "decode", lambda self, block, redraw: decoded.append(block) or decode(self, block, redraw)
    )
    for i in range(23):
        dataset[i]
    assert decoded == [0, 1, 2, 3, 4]
    decoded.clear()
    for i in (0, 5, 1, 6, 2, 10, 7, 11, 0):  # blocks 0 1 0 1 0 2 1 2 0: the third opens 2 and lets 1 go, and so on
        dataset[i]
    assert decoded == [0, 1, 2, 1, 0]
    assert len(dataset.blocks._cache) <= 2


def test_threads_share_a_data_set(written) -> None:
    folder, packs = written
    dataset = PackDataset(folder, cache_blocks=1)
    faults: list[BaseException] = []

    def read(start: int) -> None:
        try:
            for i in [*range(start, 23), *range(start)]:
                pack = dataset[i]
                same(pack, packs[i])
                for tensor in pack.values():
                    tensor.zero_()
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=read, args=(start,)) for start in (0, 0, 7, 16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_used_data_set_goes_to_other_processes(written, method: str) -> None:
    folder, packs = written
    dataset = PackDataset(folder)
    dataset[0], dataset[1], dataset[13]  # files are open, packs are cut ahead
    context = multiprocessing.get_context(method)
    results = context.SimpleQueue()
    child = context.Process(target=read_packs, args=(dataset, (0, 22, 1), results))
    child.start()
    assert results.get() == [packs[i]["y"].tolist() for i in (0, 22, 1)]
    child.join()
    assert child.exitcode == 0
    same(dataset[2], packs[2])


def test_pickling_carries_no_open_file_and_no_data(written) -> None:
    folder, packs = written
    dataset = PackDataset(folder, columns=["x", "nodes_mask"])
    for i in range(10):
        dataset[i]
    stored = pickle.dumps(dataset)
    assert len(stored) < 20_000
    same(pickle.loads(stored)[10], packs[10])


def test_open_files_are_few_and_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packs = write_packs(tmp_path, 12, 1, 1)
    monkeypatch.setattr("packer.reading.blocks.OPEN_SHARDS", 3)
    before = open_files()
    dataset = PackDataset(tmp_path)
    for i in (*range(12), 0, 11, 5):
        same(dataset[i], packs[i])
    assert open_files() <= before + 3
    dataset.blocks.close()
    assert open_files() == before
    same(dataset[4], packs[4])
    del dataset
    assert open_files() == before


def test_kept_blocks_are_bounded_in_bytes(tmp_path, monkeypatch):
    """All blocks have one size: a bound of 4 times half of it leaves room for two."""
    from packer.reading import blocks

    manifest = write_data_set(tmp_path)
    size = 3 * sum(column.width for column in manifest.columns if column.kind not in ("mask", "graph_ids"))
    for most, kept in ((size, 4), (size // 2 + 1, 2), (size // 4 + 1, 1), (1, 1)):
        monkeypatch.setattr(blocks, "CACHED_BYTES", most)
        dataset = PackDataset(tmp_path, cache_blocks=4)
        packs = [dataset[i] for i in reversed(range(len(dataset)))]
        held = list(dataset.blocks._cache.values())
        assert len(held) == kept
        stored = sum(array.nbytes for block in held for _, array, _ in block if hasattr(array, "nbytes"))
        assert stored <= max(4 * most, size)
        assert torch.equal(packs[-1]["edge_index"], PackDataset(tmp_path)[0]["edge_index"])


@pytest.mark.parametrize("value", [1e300, -1e39, 3.5e38])
def test_numbers_beyond_float32_are_refused_where_they_would_become_infinite(tmp_path: Path, value: float) -> None:
    graphs = [Data(x=torch.ones(2, 1), y=torch.tensor([n], dtype=torch.float64)) for n in (1.0, value, float("inf"))]
    folder = tmp_path / "packs"
    build(graphs, folder, PackLimits(8, 4, 4), workers=1)
    assert PackDataset(folder)[0]["y"].max() == float("inf")
    readers = {
        "float32": lambda: PackDataset(folder, float_dtype="float32")[0],
        "float16": lambda: PackReader(folder, float_dtype="float16")[0],
        "numpy": lambda: next(iter(numpy_loader(folder))),
        "redrawn": lambda: next(iter(numpy_loader(folder, shuffle=True, redraw=True))),
        "32 bits": lambda: PackDataset(folder).with_32_bits()[0],
    }
    for read in readers.values():
        with pytest.raises(FieldError, match=r"y holds .*beyond what float\d\d reaches .*float_dtype=\"float64\""):
            read()
    assert next(iter(numpy_loader(folder, index_dtype="int64", float_dtype="float64")))["y"].dtype == np.float64
