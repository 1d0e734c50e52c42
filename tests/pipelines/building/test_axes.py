"""Further axes and budgets from source to step: equal to PyG's Batch, unpacked to the bit, verified, redrawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from further_axes import SITUATIONS, Molecule, Situation, paths, situation, tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jobs import hashes, in_small_parts
from strategies import assert_same
from torch_geometric.data import Batch, Data, HeteroData
from typer.testing import CliRunner

from packer import (
    GraphSizes,
    PackDataset,
    PackLimits,
    PackPlan,
    PackReader,
    check_certificate,
    make_plan,
    mask_norms,
    masks_of,
    numpy_loader,
    to_graphs_tuple,
    torch_loader,
    unpack,
    verify_shards,
)
from packer.errors import FieldError, LimitsError, MaskError, PackerError, SizesError
from packer.files.open import place_of
from packer.limits.fit import need_of
from packer.packs.materialise import materialise
from packer.packs.unpack import unpack_table
from packer.scan.attributes import Attributes
from packer.scan.block import narrowed
from packer.scan.from_objects import block_of_graphs
from packer.scan.levels import decide
from packer.scan.statistics import merge
from packer.shards.manifest import Manifest
from packer.shards.reader import open_shard
from packer.verify.block import check_block
from pipelines import build
from pipelines.cli.app import app

OWN = ("nodes_mask", "edges_mask", "graphs_mask", "batch", "ptr")


@pytest.fixture(scope="module", params=SITUATIONS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Situation]:
    made = situation(request.param)
    folder = tmp_path_factory.mktemp("axes") / "packs"
    with in_small_parts():
        build(made.graphs, folder, made.limits(), workers=1, **made.told)
    return folder, made


def assert_equals_batch(pack: Any, graphs: list[Any], made: Situation) -> None:
    """The real rows of a pack are those of PyG's Batch of its graphs, which lie first."""
    batch: Any = Batch.from_data_list(graphs)
    level = {field: axis for axis, fields in made.axes.items() for field in fields}
    masks = {"edge": "edges_mask", "node": "nodes_mask"} | {axis: f"{axis}s_mask" for axis in made.axes}
    for name in graphs[0].to_dict():
        if name == "num_nodes":
            continue
        expected, found = torch.as_tensor(batch[name]), pack[name]
        axis = level.get(name) or ("edge" if "edge" in name else "node" if name == "x" else "graph")
        mask = pack[masks.get(axis, "graphs_mask")]
        last = graphs[0].__cat_dim__(name, graphs[0][name]) == -1
        assert torch.equal(found[..., mask] if last else found[mask], expected), name
    for axis, fields in made.axes.items():
        rows = [torch.as_tensor(graph[fields[0]]) for graph in graphs]
        dim = graphs[0].__cat_dim__(fields[0], rows[0])
        owner = torch.repeat_interleave(torch.arange(len(graphs)), torch.tensor([one.shape[dim] for one in rows]))
        assert torch.equal(pack[f"{axis}s_batch"][pack[f"{axis}s_mask"]], owner)


def test_packs_equal_the_batch_of_pyg(case: tuple[Path, Situation]) -> None:
    folder, made = case
    dataset = PackDataset(folder)
    assert verify_shards(folder).ok
    for number in range(len(dataset)):
        ids = dataset.graph_ids(number)
        assert_equals_batch(dataset[number], [made.graphs[i] for i in ids[ids >= 0].tolist()], made)


def test_graphs_come_back_to_the_bit(case: tuple[Path, Situation]) -> None:
    folder, made = case
    found = list(unpack(folder))
    assert len(found) == len(made.graphs)
    for graph, back in zip(made.graphs, found, strict=True):
        assert_same(back, Data.from_dict(graph.to_dict()))


@pytest.mark.parametrize("batch_size", [1, 3])
def test_redraws_carry_the_rows_with_their_graphs(case: tuple[Path, Situation], batch_size: int) -> None:
    folder, made = case
    names = [column.name for column in PackDataset(folder).columns]
    dataset = PackDataset(folder, columns=[*names, "graph_ids"])
    moved = 0
    for epoch in range(3):
        loader = torch_loader(dataset, batch_size=batch_size, shuffle=True, seed=1, redraw=True)
        loader.set_epoch(epoch)
        seen: list[int] = []
        for step in loader:
            step = dict(step)
            ids = step.pop("graph_ids")
            ids = ids[ids >= 0].tolist()
            seen += ids
            for graph, back in zip((made.graphs[i] for i in ids), unpack(step, dataset), strict=True):
                assert_same(back, Data.from_dict(graph.to_dict()))
            moved += len(ids)
        assert sorted(seen) == list(range(len(made.graphs)))


def test_redraws_keep_budgets(tmp_path: Path) -> None:
    """Equal in nodes and edges, unlike in what they take of a budget: such graphs never change places."""
    graphs = [Data(x=torch.full((2, 1), i), edge_index=torch.tensor([[0], [1]]), takes=i % 5) for i in range(200)]
    build(graphs, tmp_path / "packs", PackLimits(30, 20, 6, budgets={"takes": 9}), workers=1)
    dataset = PackDataset(tmp_path / "packs")
    moved = 0
    for step, plain in zip(numpy_loader(tmp_path / "packs", shuffle=True, seed=0, redraw=True), dataset, strict=False):
        assert step["takes"][step["graphs_mask"]].sum() <= 9
        moved += int(not np.array_equal(step["x"], plain["x"]))
    assert moved


def test_both_ways_through_a_build_give_the_same_bytes(case: tuple[Path, Situation], tmp_path: Path) -> None:
    folder, made = case
    with in_small_parts():
        build(made.graphs, tmp_path / "other", made.limits(), workers=1, work=tmp_path / "work", **made.told)
    assert hashes(folder) == hashes(tmp_path / "other")


@pytest.mark.parametrize("null_graphs", ["all", "one"])
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_graphs_survive(null_graphs: str, data: Any) -> None:
    """Materialised and unpacked, with axes that some graphs have no rows of, or that some lack altogether."""
    name = data.draw(st.sampled_from(sorted(SITUATIONS)))
    made = situation(name, data.draw(st.integers(1, 12)), data.draw(st.integers(0, 99)))
    graphs = [graph.clone() for graph in made.graphs]
    for graph in graphs[1::2] if data.draw(st.booleans()) else ():
        for field in {field for fields in made.axes.values() for field in fields}:
            delattr(graph, field)
    attributes = Attributes.of((), made.index, axes=made.axes, budgets=list(made.budgets))
    block = block_of_graphs(graphs, attributes=attributes)
    schema, _ = decide(block.statistics)
    table = narrowed(block, schema)
    limits = made.limits(null_graphs)
    plan = make_plan(table.sizes(), limits, "best-fit-decreasing")
    packs = materialise(table, plan.graph_ids, plan.pack_offsets, limits)
    findings, _ = check_block(packs, schema, limits)
    assert not findings
    back, ids = unpack_table(packs, schema, limits)
    expected = table.select(ids)
    for key, ptr in expected.ptr.items():
        assert np.array_equal(ptr, back.ptr[key]), key
    for key, values in expected.columns.items():
        assert values.tobytes() == back.columns[key].tobytes(), key


def test_verify_finds_an_index_that_leaves_its_axis_or_graph(case: tuple[Path, Situation]) -> None:
    folder, _ = case
    manifest = Manifest.load(folder)
    schema, limits = manifest.schema, manifest.limits
    sound = open_shard(place_of(folder), manifest, 0).block(0)
    for field in (field for field in schema.fields if field.role == "index" and field.axis is not None):
        slots = limits.slots(schema.axes)[field.targets[-1]]
        for wrong in (0, slots - 1, 255):
            packs = {name: np.array(values) for name, values in sound.items()}
            rows = np.moveaxis(packs[field.key], -1, 1) if field.cat_dim == -1 and field.shape else packs[field.key]
            owner_of = packs["num_real"][:, [axis.key for axis in schema.axes].index(field.axis.key)]
            pack = int(np.argmax(owner_of > 0))
            real = int(owner_of[pack])
            if not real:
                continue
            rows[pack, real - 1 if wrong == 0 else 0] = wrong  # the last graph's row to the first, or the other way
            findings, _ = check_block(packs, schema, limits)
            changed = not np.array_equal(packs[field.key], sound[field.key])
            alone = packs["num_real"][pack, -1] == 1 and wrong == 0
            assert findings or not changed or alone, (field.key, wrong)


def test_verify_finds_a_budget_overdrawn() -> None:
    made = situation("budget")
    attributes = Attributes.of((), made.index, axes=made.axes, budgets=list(made.budgets))
    block = block_of_graphs(made.graphs, attributes=attributes)
    schema, _ = decide(block.statistics)
    table, limits = narrowed(block, schema), made.limits()
    plan = make_plan(table.sizes(), limits)
    packs = materialise(table, plan.graph_ids, plan.pack_offsets, limits)
    assert not check_block(packs, schema, limits)[0]
    packs["n_built"][3, 0] = 71
    findings, _ = check_block(packs, schema, limits)
    assert [(finding.pack, finding.field) for finding in findings] == [(3, "n_built")]
    assert "the budget of a pack is 70" in findings[0].what


def test_the_plan_is_proven_on_every_axis(case: tuple[Path, Situation]) -> None:
    folder, made = case
    plan = PackPlan.load(folder / "plan.parquet")
    assert plan.status == "optimal"
    dimensions = [axis.key for axis in plan.sizes.axes]
    assert dimensions == ["node", "edge", *made.axes, *made.budgets]
    distinct, count, _ = plan.sizes.distinct
    need, capacity = need_of(distinct, plan.sizes.axes, plan.limits)
    assert check_certificate(plan.certificate, need, capacity, count) == plan.num_packs


class Unlike(Data):
    """Says that its index is shifted by something that no axis has a number of."""

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        return 17 if key == "who_index" else super().__inc__(key, value, *args, **kwargs)


def plain(**more: Any) -> Data:
    return Data(x=torch.zeros(3, 1), edge_index=torch.tensor([[0, 1], [1, 2]]), **more)


def hetero() -> HeteroData:
    graph = HeteroData()
    graph["a"].x = torch.zeros(2, 1)
    graph["a", "to", "a"].edge_index = torch.tensor([[0], [1]])
    graph.rows = torch.zeros(4)
    return graph


LIMITS = PackLimits(20, 20, 4, num={"row": 20})


@pytest.mark.parametrize(
    ("graphs", "told", "limits", "message"),
    [
        (
            [plain(rows=torch.zeros(5)), plain(rows=torch.zeros(4))],
            {},
            PackLimits(20, 20, 4),
            r"'rows'.*--axis NAME=rows",
        ),
        (
            [plain(rows=torch.zeros(5)), plain(rows=torch.zeros(4), others=torch.zeros(3))],
            {"axes": {"row": ["rows", "others"]}},
            LIMITS,
            "graph 1: 'others' has 3 rows, but others of axis 'row' have 4 there",
        ),
        (
            [plain(rows=torch.tensor([0, 1, 2, 0]))],
            {"axes": {"row": ["rows"]}, "index_fields": {"rows": "edges"}},
            LIMITS,
            r"graph 0: 'rows' has the entry 2, but the graph has 2 edges \(0 to 1\): correct the entry",
        ),
        (
            [plain(rows=torch.zeros(4))],
            {"axes": {"row": ["rows"]}},
            PackLimits(20, 20, 4),
            "num has no limit for 'row'",
        ),
        ([plain()], {}, LIMITS, "num limits 'row'.*they have none such"),
        (
            [plain(rows=torch.zeros(4))],
            {"axes": {"row": ["rowz"]}},
            LIMITS,
            "'rowz' is named in axis 'row'; the",
        ),
        ([plain(rows=torch.zeros(4))], {"axes": {"node": ["rows"]}}, LIMITS, "'node' is no name for a further axis"),
        ([plain(rows=torch.zeros(4))], {"axes": {"a b": ["rows"]}}, LIMITS, "named by letters"),
        ([plain(rows=torch.zeros(4))], {"axes": {"row": []}}, LIMITS, "axis 'row' has no attribute"),
        (
            [plain(rows=torch.zeros(4))],
            {"axes": {"row": ["rows"], "other": ["rows"]}},
            LIMITS,
            "'rows' is given axis 'other', but belongs to axis 'row'",
        ),
        ([plain(rows=torch.zeros(4))], {"axes": {"row": ["edge_index"]}}, LIMITS, "belongs to the edges"),
        ([plain(rows=torch.zeros(4))], {"axes": {"row": ["rows"]}, "exclude_keys": ["rows"]}, LIMITS, "is left out"),
        (
            [plain(rows=torch.zeros(4))],
            {"axes": {"row": ["rows"]}, "levels": {"rows": "graph"}},
            LIMITS,
            "a level is given for 'rows', which has the rows of axis 'row'",
        ),
        (
            [plain(rows=torch.zeros(4), rows_mask=torch.zeros(1))],
            {"axes": {"row": ["rows"]}},
            LIMITS,
            "'rows_mask' is an attribute of the source and a column of axis 'row'",
        ),
        ([hetero()], {"axes": {"row": ["rows"]}}, PackLimits(20, 20, 4), "make its rows a node or edge type"),
        (
            [Unlike(x=torch.zeros(3, 1), who_index=torch.zeros(3, dtype=torch.long))],
            {},
            PackLimits(20, 20, 4),
            r"shifted by 17 .*neither the number of nodes nor that of edges.*--index who_index=AXIS",
        ),
        (
            [plain(rows=torch.zeros(4, dtype=torch.long))],
            {"axes": {"row": ["rows"]}, "index_fields": {"rows": "quux"}},
            LIMITS,
            "an index of 'quux'; the axes are node, edge, row",
        ),
        (
            [plain(takes=1.5)],
            {},
            PackLimits(20, 20, 4, budgets={"takes": 3}),
            "'takes' has a budget, but is not one",
        ),
        ([plain(takes=-1)], {}, PackLimits(20, 20, 4, budgets={"takes": 3}), "graph 0: 'takes' is -1"),
        ([plain(takes=1), plain()], {}, PackLimits(20, 20, 4, budgets={"takes": 3}), "graph 1 has no 'takes'"),
        ([plain()], {}, PackLimits(20, 20, 4, budgets={"takes": 3}), "'takes' is named in budgets; the attributes"),
        (
            [plain(takes=5)],
            {},
            PackLimits(20, 20, 4, budgets={"takes": 3}),
            r"5 takes; a pack offers 3: budgets\['takes'\]=5 \(--budget takes=5\)",
        ),
        (
            [plain(rows=torch.zeros(40))],
            {"axes": {"row": ["rows"]}},
            LIMITS,
            r"40 rows; a pack offers 17 \(20, less 3 for padding\): num\['row'\]=43 \(--num row=43\)",
        ),
        (
            [plain(rows=torch.zeros(1, dtype=torch.long))],
            {"axes": {"row": ["rows"]}, "index_fields": {"rows": "edge"}},
            PackLimits(20, 20, 4, "jraph", num={"row": 20}),
            "'rows' numbers edges, and its padding points to one of a null graph.*null_graphs='one'",
        ),
    ],
)
def test_what_cannot_be_is_told(
    tmp_path: Path, graphs: list[Any], told: dict[str, Any], limits: PackLimits, message: str
) -> None:
    with pytest.raises(PackerError, match=message):
        build(graphs, tmp_path / "packs", limits, workers=1, **told)
    assert not (tmp_path / "packs").exists() or not list((tmp_path / "packs").glob("*.parquet"))


def test_a_source_of_text_takes_no_axes(tmp_path: Path) -> None:
    with pytest.raises(FieldError, match="which this source does not take"):
        build("sample:nci", tmp_path / "packs", axes={"row": ["x"]}, workers=1)


@pytest.mark.parametrize("policy", ["trim-nodes", "trim-edges", "trim-both"])
def test_trimming_takes_rows_with_what_they_number(tmp_path: Path, policy: str) -> None:
    generator = torch.Generator().manual_seed(3)
    graphs: list[Any] = []
    for _ in range(12):
        graph = Molecule(x=torch.randn(9, 2, generator=generator), edge_index=tree(generator, 9))
        graph.idx_kj, graph.idx_ji = paths(graph.edge_index)
        graph.rev_edge_index = torch.arange(graph.num_edges).reshape(-1, 2).flip(1).reshape(-1)
        graphs.append(graph)
    limits = PackLimits(
        14 if policy == "trim-edges" else 9, 14, 3, num={"triplet": 60 if policy == "trim-nodes" else 10}
    )
    told: dict[str, Any] = {"axes": {"triplet": ["idx_kj", "idx_ji"]}, "index_fields": {"rev_edge_index": "edges"}}
    build(graphs, tmp_path / "packs", limits, workers=1, oversize=policy, **told)
    assert verify_shards(tmp_path / "packs").ok
    for graph in unpack(tmp_path / "packs"):
        source, target = graph.edge_index
        assert torch.equal(source[graph.rev_edge_index], target)
        assert torch.equal(target[graph.idx_kj], source[graph.idx_ji])


def test_a_trim_of_nodes_says_where_rows_stay_too_many(tmp_path: Path) -> None:
    graphs = [plain(rows=torch.zeros(40)) for _ in range(2)]
    with pytest.raises(SizesError, match=r"has 40 rows; alone in a pack it may have 17.*remove nodes only.*trim-both"):
        build(graphs, tmp_path / "packs", LIMITS, workers=1, oversize="trim-nodes", axes={"row": ["rows"]})


def test_limits_and_plans_keep_axes_and_budgets(tmp_path: Path) -> None:
    limits = PackLimits(20, 30, 4, num={"row": 9}, budgets={"takes": 7})
    assert PackLimits.from_dict(limits.to_dict()) == limits and hash(limits) != hash(PackLimits(20, 30, 4))
    assert "num={'row': 9}, budgets={'takes': 7}" in repr(limits)
    rng = np.random.default_rng(0)
    sizes = GraphSizes(
        rng.integers(1, 5, 60),
        rng.integers(0, 8, 60),
        num={"row": rng.integers(0, 4, 60)},
        budgets={"takes": rng.integers(0, 4, 60)},
    )
    for by_graph in (True, False):
        plan = make_plan(sizes, limits)
        plan.save(tmp_path / "plan.parquet", by_graph=by_graph)
        assert plan.fill.keys() == {"node", "edge", "row", "takes", "graph"}
        again = PackPlan.load(tmp_path / "plan.parquet")
        assert again.limits == limits and again.sizes.axes == sizes.axes
        assert np.array_equal(again.of(sizes).graph_ids, plan.graph_ids)
    with pytest.raises(LimitsError, match="which the sizes of graphs lack"):
        make_plan(GraphSizes(sizes.num_nodes, sizes.num_edges, num=sizes.num), limits)
    with pytest.raises(LimitsError, match="budgets has no limit for 'takes'"):
        make_plan(sizes, PackLimits(20, 30, 4, num={"row": 9}))
    with pytest.raises(LimitsError, match="num has no limit for 'row'"):
        make_plan(sizes, PackLimits(20, 30, 4, budgets={"takes": 7}))


def ring(nodes: int) -> torch.Tensor:
    around = torch.arange(nodes)
    return torch.stack([torch.cat([around, around.roll(1)]), torch.cat([around.roll(1), around])])


@pytest.mark.parametrize("name", ["node", "edge", "graph", "budget"])
def test_a_budget_is_called_like_no_other_axis(tmp_path: Path, name: str) -> None:
    """Keys tell axes apart in every array: a budget `edge` would have taken the place of the edges."""
    with pytest.raises(LimitsError, match=f"'{name}' is no name for a budget"):
        PackLimits(70, 20, 8, budgets={name: 100})
    with pytest.raises(SizesError, match=f"'{name}' is no name for a budget"):
        GraphSizes([5] * 10, [8] * 10, budgets={name: [1] * 10})
    with pytest.raises(PackerError, match="no name for a budget"):
        build([plain(**{name: 1})], tmp_path / "packs", "auto", budgets={name: 9}, workers=1)


def test_nor_is_it_called_like_a_type(tmp_path: Path) -> None:
    graph = hetero()
    del graph.rows
    graph.a__to__a = 1
    with pytest.raises(PackerError, match="'a__to__a' names"):
        build([graph], tmp_path / "packs", PackLimits(20, 20, 4, budgets={"a__to__a": 9}), workers=1)
    sizes = {"a": np.array([2])}, {("a", "to", "a"): np.array([1])}
    with pytest.raises(SizesError, match="'a' names"):
        GraphSizes(*sizes, budgets={"a": np.array([1])})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"num_nodes": 3}, "'num_nodes' has a budget, but is the number of nodes"),
        ({"take_index": torch.tensor([1])}, "'take_index' has a budget, but is an index"),
        ({"takes": torch.ones(1, 1, dtype=torch.long)}, "'takes' has a budget, but is not one whole number"),
    ],
)
def test_what_is_no_budget_is_told(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    budgets = dict.fromkeys(given, 20)
    with pytest.raises(FieldError, match=said):
        build([plain(**given)] * 3, tmp_path / "packs", PackLimits(20, 20, 4, budgets=budgets), workers=1)


def test_a_plan_has_its_own_budgets(tmp_path: Path) -> None:
    graphs = [Data(x=torch.rand(n, 2), edge_index=ring(n), takes=n * n) for n in [2, 3, 5, 7] * 9]
    nodes = np.array([graph.num_nodes for graph in graphs])
    plain_plan = make_plan(GraphSizes(nodes, 2 * nodes), PackLimits(40, 90, 8))
    with pytest.raises(PackerError, match=r"was made with budgets \{\}, not \{'takes': 50\}"):
        build(graphs, tmp_path / "packs", "auto", plan=plain_plan, budgets={"takes": 50}, workers=1)
    limits = PackLimits(40, 90, 8, budgets={"takes": 50})
    plan = make_plan(GraphSizes(nodes, 2 * nodes, budgets={"takes": nodes**2}), limits)
    build(graphs, tmp_path / "packs", "auto", plan=plan, budgets={"takes": 50}, workers=1)
    assert all(int(pack["takes"].sum()) <= 50 for pack in PackDataset(tmp_path / "packs"))
    with pytest.raises(LimitsError, match="budgets says 20 of 'takes', the limits 50"):
        build(graphs, tmp_path / "other", limits, budgets={"takes": 20}, workers=1)


class Bipartite(Data):
    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        if key == "links":
            return torch.tensor([[self.xs.shape[0]], [self.xt.shape[0]]])
        return self.num_edges if key == "numbers" else super().__inc__(key, value, *args, **kwargs)


def test_what_a_class_shifts_by_is_what_is_declared(tmp_path: Path) -> None:
    links = [
        Bipartite(num_nodes=1, xs=torch.rand(n, 1), xt=torch.rand(n + 1, 1), links=torch.randint(0, n, (2, 5)))
        for n in [2, 3, 5]
    ]
    axes = {"s": ["xs"], "t": ["xt"], "e": ["links"]}
    limits = PackLimits(20, 20, 4, num={"s": 20, "t": 20, "e": 30})
    with pytest.raises(FieldError, match=r"'links' is declared an index of ts.*__inc__.*an attribute each"):
        build(links, tmp_path / "a", limits, axes=axes, index_fields={"links": "t"}, workers=1)
    edges = [Bipartite(x=torch.rand(3, 1), edge_index=ring(3), numbers=torch.tensor([5, 0])) for _ in range(3)]
    told: dict[str, Any] = {"axes": {"n": ["numbers"]}, "workers": 1}
    limits = PackLimits(20, 40, 4, num={"n": 20})
    with pytest.raises(
        FieldError, match="'numbers' is declared an index of nodes, of which there are 3, but is shifted"
    ):
        build(edges, tmp_path / "b", limits, index_fields={"numbers": "nodes"}, **told)
    build(edges, tmp_path / "b", limits, index_fields={"numbers": "edges"}, **told)


def test_numbers_of_nodes_and_edges_that_are_one_leave_an_index_open() -> None:
    def cycle(nodes: int, extra: int = 0) -> Any:
        around = torch.arange(nodes)
        edges = torch.cat([torch.stack([around, around.roll(1)]), torch.zeros(2, extra, dtype=torch.long)], dim=1)
        return Bipartite(x=torch.rand(nodes, 1), edge_index=edges, numbers=torch.zeros(nodes % 4, dtype=torch.long))

    attributes = Attributes.of(axes={"n": ["numbers"]})
    alike = block_of_graphs([cycle(n) for n in (2, 3, 5)], attributes=attributes)
    with pytest.raises(FieldError, match="shifted by the number of nodes, which is that of edges in all graphs"):
        decide(alike.statistics)
    other = block_of_graphs([cycle(n, 2) for n in (2, 3, 5)], 3, attributes=attributes)
    for first, second in ((alike, other), (other, alike)):
        schema, _ = decide(merge(first.statistics, second.statistics))
        assert schema.fields[-1].targets == ("edge",)


def test_nothing_overwrites_the_columns_of_an_axis(tmp_path: Path) -> None:
    graphs = [Data(x=torch.rand(n, 2), edge_index=ring(n), us=torch.rand(n), q=torch.rand(n % 3)) for n in [2, 3, 5]]
    limits = PackLimits(40, 90, 6, num={"u": 9})
    build(graphs, tmp_path / "packs", limits, axes={"u": ["q"]}, levels={"us": "node"}, workers=1)
    with pytest.raises(FieldError, match="'us_batch'"):
        PackDataset(tmp_path / "packs", follow_batch=["us"])


def test_norms_know_the_rows_of_an_axis(tmp_path: Path) -> None:
    graphs = [Data(x=torch.rand(n, 2), edge_index=ring(n), t=torch.rand(n % 3 + 1, 2)) for n in [2, 3, 5, 7] * 4]
    build(graphs, tmp_path / "packs", PackLimits(40, 90, 7, num={"t": 25}), axes={"t": ["t"]}, workers=1)
    batch = next(iter(torch_loader(PackDataset(tmp_path / "packs"), shuffle=False)))
    model = mask_norms(torch.nn.Sequential(torch.nn.BatchNorm1d(2, affine=False)))
    with masks_of(batch):
        found = model(batch["t"])[batch["ts_mask"]]
    assert torch.allclose(
        found, torch.nn.functional.batch_norm(batch["t"][batch["ts_mask"]], None, None, training=True)
    )
    build(graphs, tmp_path / "alike", PackLimits(40, 90, 7, num={"t": 40}), axes={"t": ["t"]}, workers=1)
    batch = next(iter(torch_loader(PackDataset(tmp_path / "alike"), shuffle=False)))
    with pytest.raises(MaskError, match="as have nodes and ts"), masks_of(batch):
        model(batch["t"])


def test_a_graphs_tuple_has_no_further_axes(tmp_path: Path) -> None:
    graphs = [Data(x=torch.rand(n, 2), edge_index=ring(n), t=torch.rand(n % 3 + 1, 2)) for n in [2, 3, 5, 7]]
    limits = PackLimits(40, 90, 6, "jraph", num={"t": 20})
    build(graphs, tmp_path / "packs", limits, axes={"t": ["t"]}, workers=1)
    step = next(iter(numpy_loader(tmp_path / "packs")))
    with pytest.raises(FieldError, match="'t' has the rows of axis 't', for which a GraphsTuple has no place"):
        to_graphs_tuple(step, PackReader(tmp_path / "packs"))


@pytest.mark.parametrize("words", [["--axis", "p=a", "--axis", "p=b"], ["--index", "i=edges", "--index", "i=nodes"]])
def test_nothing_is_given_twice_on_the_command_line(words: list[str]) -> None:
    result = CliRunner().invoke(app, ["scan", "sample:nci", *words])
    assert result.exit_code != 0 and "is given twice" in str(result.exception) + result.output
