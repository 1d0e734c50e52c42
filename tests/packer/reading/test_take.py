"""take: one function of arrays, in numpy, torch and JAX, whose steps are those of the loaders to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_packs import FOLLOWED, KINDS, write_packs
from strategies import heterogeneous, homogeneous, limits_of, packings

from packer import PackDataset, PackReader, torch_loader
from packer.packs.materialise import materialise
from packer.reading.array_ops import ops_of
from packer.reading.redraw import SizeClasses, needed_columns, redraw_key, redrawn
from packer.reading.stored import layout_of, stored_arrays, stored_names
from packer.reading.take import take
from packer.scan.block import join_blocks
from packer.scan.from_objects import block_of_graphs
from packer.scan.levels import decide

PACKS = 23
SEED = 3


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "packs"
    schema, limits = KINDS[kind]
    write_packs(folder, PACKS, packs_per_block=PACKS, packs_per_shard=PACKS, schema=schema, limits=limits)
    return folder


def held(reader: PackReader, library: str, redraw: int) -> tuple[Any, Any, Any]:
    """The only block of a data set for `take`: layout, arrays, table of slots."""
    layout = layout_of(reader, ops_of(library))
    names = [*stored_names(layout, redraw=True), *needed_columns(reader.manifest.schema)]
    columns = reader.blocks.columns(0, list(dict.fromkeys(names)))
    arrays = stored_arrays(columns, reader, layout, PACKS + 2, redraw=bool(redraw))
    slots = None
    if redraw:
        graphs = layout.num_graphs
        slots = np.arange((PACKS + 3) * graphs).reshape(-1, graphs)
        slots[:PACKS] = SizeClasses.of(columns, reader.manifest.schema).slots(0, redraw)
        slots = layout.ops.hold(slots.astype(np.int32))
    return layout, {name: layout.ops.hold(values) for name, values in arrays.items()}, slots


def assert_steps_equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == values.dtype and found[name].shape == values.shape, name
        if isinstance(values, torch.Tensor):
            assert torch.equal(found[name], values), name
        else:
            np.testing.assert_array_equal(found[name], values, err_msg=name)


def expected_steps(dataset: PackDataset, batch_size: int, redraw: bool) -> tuple[list[list[int]], list[Any]]:
    """The numbers of each step's packs in an epoch of a shuffled loader, and the steps."""
    loader = torch_loader(dataset, batch_size, seed=SEED, layout="dict", redraw=redraw)
    loader.set_epoch(2)
    ids = loader.progress.begin().ids.reshape(-1, batch_size).tolist()
    loader.set_epoch(2)
    return ids, list(loader)


@pytest.mark.parametrize("redraw", [False, True])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_torch_steps_are_those_of_the_loader(folder: Path, kind: str, batch_size: int, redraw: bool) -> None:
    names = [column.name for column in PackDataset(folder).columns]
    dataset = PackDataset(folder, columns=[*names, "graph_ids"], follow_batch=FOLLOWED[kind])
    key = redraw_key(SEED, 2) if redraw else 0
    layout, arrays, slots = held(dataset.reader, "torch", key)
    for ids, expected in zip(*expected_steps(dataset, batch_size, redraw), strict=True):
        assert_steps_equal(take(arrays, torch.tensor(ids), layout, slots), expected)


@pytest.mark.parametrize("redraw", [False, True])
@pytest.mark.parametrize("options", [{}, {"index_dtype": "int32", "float_dtype": "float16"}])
def test_numpy_steps_are_those_of_the_loader(folder: Path, options: dict[str, Any], redraw: bool) -> None:
    from packer import numpy_loader

    reader = PackReader(folder)
    loader = numpy_loader(reader, 3, seed=SEED, redraw=redraw, **{"index_dtype": "int64", **options})
    layout, arrays, slots = held(loader.reader, "numpy", redraw_key(SEED, 0) if redraw else 0)
    ids = loader.progress.begin().ids.reshape(-1, 3)
    for packs, expected in zip(ids, loader, strict=True):
        assert_steps_equal(take(arrays, packs, layout, slots), expected)


@pytest.mark.parametrize("redraw", [False, True])
def test_jax_steps_are_those_of_the_loader(folder: Path, redraw: bool) -> None:
    jax = pytest.importorskip("jax")
    from packer import numpy_loader

    loader = numpy_loader(PackReader(folder), 3, seed=SEED, redraw=redraw)
    layout, arrays, slots = held(loader.reader, "jax", redraw_key(SEED, 0) if redraw else 0)
    traces: list[int] = []

    @jax.jit
    def taken(arrays: Any, packs: Any, slots: Any) -> Any:
        traces.append(1)
        return take(arrays, packs, layout, slots)

    ids = loader.progress.begin().ids.reshape(-1, 3)
    for packs, expected in zip(ids, loader, strict=True):
        found = taken(arrays, packs.astype(np.int32), slots)
        assert_steps_equal({name: np.asarray(values) for name, values in found.items()}, expected)
    assert len(traces) == 1


@pytest.mark.parametrize("redraw", [False, True])
def test_it_compiles_as_one_graph(folder: Path, redraw: bool) -> None:
    dataset = PackDataset(folder)
    layout, arrays, slots = held(dataset.reader, "torch", redraw_key(SEED, 2) if redraw else 0)

    @torch.compile(fullgraph=True, backend="eager", dynamic=False)
    def taken(packs: torch.Tensor) -> dict[str, torch.Tensor]:
        return take(arrays, packs, layout, slots)

    for ids, expected in zip(*expected_steps(dataset, 4, redraw), strict=True):
        assert_steps_equal(taken(torch.tensor(ids)), expected)


def test_any_columns_will_do(folder: Path) -> None:
    whole = PackDataset(folder)
    ids, steps = expected_steps(whole, 2, redraw=True)
    for column in whole.columns:
        reader = PackReader(folder, columns=[column.name])
        layout, arrays, slots = held(reader, "torch", redraw_key(SEED, 2))
        for packs, step in zip(ids, steps, strict=True):
            found = take(arrays, torch.tensor(packs), layout, slots)
            assert_steps_equal(found, {column.name: step[column.name]})


def test_blocks_of_any_length_have_one_shape(folder: Path) -> None:
    reader = PackReader(folder)
    layout = layout_of(reader, ops_of("numpy"))
    columns = reader.blocks.columns(0, stored_names(layout, redraw=False))
    for packs in (0, 1, PACKS):
        part = {name: values[:packs] for name, values in columns.items()}
        arrays = stored_arrays(part, reader, layout, PACKS)
        assert {len(values) for values in arrays.values()} == {PACKS + 1}
        found = take(arrays, np.array([-1]), layout)
        assert_steps_equal(found, reader.empty_pack())


def bits_of(values: Any) -> bytes:
    if isinstance(values, torch.Tensor):
        values = (values.view(torch.int16) if values.dtype == torch.bfloat16 else values).numpy()
    return values.tobytes()


def table_of(graphs: list[Any]) -> Any:
    block = block_of_graphs(graphs)
    return join_blocks([block], decide(block.statistics)[0])


class _Reader:
    """What of a PackReader `layout_of` asks for, for packs that lie on no disk."""

    def __init__(self, schema: Any, limits: Any) -> None:
        from types import SimpleNamespace

        from packer.packs.columns import pack_columns
        from packer.packs.materialise import empty_pack

        columns = pack_columns(schema, limits)
        self.limits, self.followed, self.index_dtype = limits, (), "int64"
        self.manifest: Any = SimpleNamespace(schema=schema, columns=columns)
        self.columns = [column for column in columns if column.kind != "num_real"]
        self.dtypes = {column.name: column.dtype for column in self.columns}
        self.empty_columns = lambda: empty_pack(schema, limits)


@settings(max_examples=60)
@given(st.one_of(homogeneous(), heterogeneous()), st.data())
def test_any_packs_with_any_redraw(graphs: list[Any], data: st.DataObject) -> None:
    """Against `redrawn`, which moves whole blocks in place of single packs."""
    table = table_of(graphs * data.draw(st.integers(1, 4)))  # repeated, so that there are classes of several
    schema = table.schema
    counts = {axis.key: table.counts(axis.key) for axis in schema.axes}
    null_graphs = data.draw(st.sampled_from(("all", "one", "jraph")))
    ids, offsets, slots, num_slots = data.draw(packings(counts, schema.axes, null_graphs))
    limits = limits_of(schema.axes, slots, num_slots, null_graphs)
    packs = materialise(table, ids, offsets, limits)
    reader: Any = _Reader(schema, limits)
    expected = redrawn(packs, schema, limits, 4, 99)
    for library in ("numpy", "torch"):
        layout = layout_of(reader, ops_of(library))
        number = len(offsets) - 1
        arrays, plain = (stored_arrays(p, reader, layout, number, redraw=True) for p in (packs, expected))
        arrays, plain = ({n: layout.ops.hold(v) for n, v in part.items()} for part in (arrays, plain))
        table_of_slots = np.arange((number + 1) * num_slots).reshape(-1, num_slots)
        table_of_slots[:-1] = SizeClasses.of(packs, schema).slots(4, 99)
        order = layout.ops.hold(np.array([*data.draw(st.permutations(range(number))), -1]))
        found = take(arrays, order, layout, layout.ops.hold(table_of_slots))
        wanted = take(plain, order, layout)
        for name, values in wanted.items():
            assert found[name].shape == values.shape
            assert bits_of(found[name]) == bits_of(values), name
