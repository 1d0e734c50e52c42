"""Sources that would lose graphs, nodes or shifts without a word: each is read rightly or refused with its place."""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset
from torch_geometric.data import Batch, Data, HeteroData, InMemoryDataset, TemporalData
from torch_geometric.loader import DataLoader

from packer import PackDataset, PackLimits, unpack
from packer.errors import FieldError, PackerError, SourceError
from packer.scan.dataset_sizes import sizes_of_dataset
from packer.scan.from_objects import block_of_graphs
from packer.scan.levels import decide
from pipelines import build
from pipelines.sources.pyg import from_object

EDGE = torch.tensor([[0], [1]])


def graph(**more: Any) -> Data:
    return Data(x=torch.ones(2, 1), edge_index=EDGE, **more)


class Numbered(Dataset[Any]):
    """Ten graphs; item 4 raises what is asked, and no number is out of range."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def __len__(self) -> int:
        return 10

    def __getitem__(self, i: int) -> Data:
        if i == 4 and self.error is not None:
            raise self.error
        return graph()


def test_a_data_set_without_end_is_read_by_its_length() -> None:
    assert [task.stop for task in from_object(Numbered()).tasks()] == [10]
    assert len(sizes_of_dataset(Numbered()).columns["node"]) == 10


@pytest.mark.parametrize("error", [IndexError("gone"), StopIteration(), KeyError("a"), RuntimeError("b")])
def test_an_item_that_raises_is_named(error: Exception) -> None:
    for read in (lambda: list(from_object(Numbered(error)).tasks()), lambda: sizes_of_dataset(Numbered(error))):
        with pytest.raises(
            SourceError, match=r"graph 4 of a Numbered \(10 by its length\): " + type(error).__name__
        ) as found:
            read()
        assert found.value.__cause__ is error


def test_what_is_no_data_set_of_graphs_says_so() -> None:
    events = TemporalData(src=torch.tensor([0]), dst=torch.tensor([1]), t=torch.tensor([0]))
    for given, words in (
        (graph(), r"single graph: pass a list of graphs, \[data\]"),
        (DataLoader([graph()]), "loader, which gives batches"),
        ({"a": graph()}, "mapping"),
        (iter(()), "holds no graph: it is empty, or an iterator that was used up"),
        (Batch.from_data_list([graph(), graph()]), "a batch of 2 graphs"),
        (events, "TemporalData, a stream of events"),
    ):
        with pytest.raises(SourceError, match=words):
            list(from_object(given).tasks())
    for item, words in (((graph(), 1), r"tuple \(Data, int\)"), (events, "graph 0 is a TemporalData")):
        with pytest.raises(SourceError, match=words):
            block_of_graphs([item])


class Own(Data):
    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        if key == "reverse":
            return self.num_edges
        return int(value.max()) + 1 if key == "top" else super().__inc__(key, value, *args, **kwargs)


def own(nodes: int, edges: int, **more: Any) -> Own:
    return Own(x=torch.ones(nodes, 1), edge_index=torch.zeros(2, edges, dtype=torch.long), **more)


def test_every_graph_is_asked_how_it_joins() -> None:
    top = torch.tensor([1])
    assert decide(block_of_graphs([own(2, 0, top=top)] * 3).statistics)[0].fields[-1].role == "index"
    with pytest.raises(FieldError, match=r"graph 1: 'top' is shifted by 2 .*and by 2|graph 1: 'top' is shifted by 2"):
        block_of_graphs([own(2, 0, top=top), own(3, 0, top=top)])
    edges = block_of_graphs([own(1, 0, reverse=top[:0]), own(3, 2, reverse=top.repeat(2))])
    assert edges.statistics.fields[-1].targets == ("edge",)
    mixed = [graph(top=top), own(3, 1, top=top)]
    with pytest.raises(FieldError, match=r"graph 0: 'top' is shifted by 0 .* and by 2 in graph 1, where"):
        block_of_graphs(mixed)


def test_a_number_of_nodes_is_not_guessed_unless_asked(tmp_path: Path) -> None:
    lone = Data(edge_index=EDGE, z=torch.tensor([6, 1, 1]))
    with pytest.raises(SourceError, match=r"graph 0: the number of nodes is not given .*tells of 2.*set num_nodes"):
        build([lone], tmp_path / "a", PackLimits(8, 8, 4), workers=1)
    assert not (tmp_path / "a" / "manifest.json").exists()
    built = build([Data(edge_index=EDGE)], tmp_path / "b", PackLimits(8, 8, 4), workers=1, guess_num_nodes=True)
    assert unpack(built)[0].edge_index.tolist() == EDGE.tolist()


def test_limits_are_found_as_build_reads() -> None:
    guessed = [Data(edge_index=EDGE)] * 3
    assert PackLimits.from_dataset(guessed, 3, guess_num_nodes=True).num_nodes == 2 * 2 + 1
    assert PackLimits.from_loader(DataLoader(guessed, 2), guess_num_nodes=True).num_nodes == 2 * 2 + 1
    for read in (lambda: PackLimits.from_dataset(guessed, 3), lambda: PackLimits.from_loader(DataLoader(guessed, 1))):
        with pytest.raises(SourceError, match=r"the number of nodes .*is not given"):
            read()


def note(number: int) -> None:
    """A worker's own start."""


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_a_guess_in_a_worker_process_is_no_less_told(start: str) -> None:
    guessed = [Data(edge_index=EDGE)] * 3
    loader = DataLoader(guessed, 2, num_workers=1, multiprocessing_context=start, worker_init_fn=note)
    with pytest.raises(SourceError, match=r"batch 0 .*the number of nodes of a graph is not given"):
        PackLimits.from_loader(loader)
    assert loader.worker_init_fn is note
    assert PackLimits.from_loader(loader, 2, guess_num_nodes=True).num_nodes == 2 * 2 + 1


@pytest.mark.parametrize(
    ("error", "words"),
    [(StopIteration(), "gave 2 of its 5 batches: an item .* StopIteration"), (KeyError(4), "batch 2 .*KeyError: 4")],
)
def test_a_loader_that_fails_is_no_short_loader(error: Exception, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        PackLimits.from_loader(DataLoader(Numbered(error), 2))


def test_rows_that_contradict_their_name_are_refused() -> None:
    for given, words in (
        (Data(x=torch.ones(8, 2), num_nodes=24), "graph 0: 'x' has length 8 and 24 nodes: correct it, or num_nodes"),
        (graph(edge_attr=torch.ones(3, 1)), "graph 0: 'edge_attr' has length 3 and 1 edges: correct it, or edge_index"),
    ):
        with pytest.raises(FieldError, match=words):
            decide(block_of_graphs([given]).statistics)
    hetero = HeteroData()
    hetero["a"].x, hetero["a"].num_nodes = torch.ones(2, 1), 5
    with pytest.raises(FieldError, match="graph 0: 'a/x' has length 2"):
        decide(block_of_graphs([hetero]).statistics)


def test_an_open_level_is_told(tmp_path: Path) -> None:
    """y [2] of graphs of two nodes, and weight [1] of one edge; but not of fields whose name settles it."""
    given = graph(
        y=torch.ones(2), weight=torch.ones(1), node_z=torch.ones(2), edge_attr=torch.ones(1), pos=torch.ones(2, 3)
    )
    built = build([given] * 2, tmp_path / "a", PackLimits(8, 8, 4), workers=1)
    assert set(built.ambiguous) == {"y", "weight"}
    assert "The data leave the level of `y`, `weight` open" in (tmp_path / "a" / "README.md").read_text()
    again = build([given] * 2, tmp_path / "a", PackLimits(8, 8, 4), workers=1)
    assert again.already and again.ambiguous == built.ambiguous


def test_rows_of_neither_nodes_nor_edges_are_of_constant_number_or_refused(tmp_path: Path) -> None:
    """Faces [G, 3, k], a second graph's nodes; where their number differs, the error says what to make of them."""
    whole = {
        "face": torch.tensor([[0, 1, 0], [1, 0, 1], [1, 1, 1]]),
        "x_s": torch.ones(4, 2),
        "temperature": torch.ones(5),
    }
    built = build([graph(**whole)] * 2, tmp_path / "a", PackLimits(8, 8, 4), workers=1)
    shapes = {name: tuple(PackDataset(built)[0][name].shape) for name in whole}
    assert shapes == {"face": (4, 3, 3), "x_s": (4, 4, 2), "temperature": (4, 5)} and not built.ambiguous
    for name in ("x_s", "edge_label_index"):
        for k in (3, 4):
            whole[f"{name}{k}"] = torch.zeros(2, k, dtype=torch.long) if "index" in name else torch.ones(k, 2)
        pair = [graph(**{name: whole[f"{name}{k}"]}) for k in (3, 4)]
        with pytest.raises(FieldError, match=f"'{name}' belongs neither .* an axis of their own"):
            build(pair, tmp_path / name, PackLimits(8, 8, 4), workers=1)
    open_ = build([graph(edge_label_index=EDGE)] * 2, tmp_path / "b", PackLimits(8, 8, 4), workers=1)
    assert open_.ambiguous == ("edge_label_index",)


class Kind(IntEnum):
    A = 3


def test_attributes_of_odd_kinds_have_the_value_that_pyg_gives_or_are_named() -> None:
    negative = torch.complex(torch.zeros(2), torch.tensor([1.5, -2.0])).conj().imag
    block = block_of_graphs([graph(f=0.1, kind=Kind.A, neg=negative)])
    assert block.columns["neg"].tolist() == [-1.5, 2.0]
    assert {f.name: f.dtype for f in block.statistics.fields if f.name in ("f", "kind")} == {
        "f": "float32",
        "kind": "int64",
    }
    for value, words in (
        ("a\udc80", "no Unicode text"),
        (1e300, "beyond float32"),
        (torch.ones(2, device="meta"), "cannot be read"),
        ([1, 2], "make it a tensor"),
        (["a"], "a list.*join the texts into one"),
        ((torch.ones(1), torch.ones(2)), "a tuple.*torch.cat"),
        ({"b": 1}, "a dict.*leave it out"),
    ):
        with pytest.raises(PackerError, match=f"graph 0: .*'a'.*{words}"):
            block_of_graphs([graph(a=value)])


def test_tu_nodes_out_of_order_are_refused_and_attributes_are_kept_on_request(tmp_path: Path) -> None:
    raw = tmp_path / "D" / "raw"
    raw.mkdir(parents=True)
    texts = {"A": "1, 2\n2, 1\n3, 4\n4, 3\n", "graph_labels": "1\n-1\n", "graph_indicator": "1\n1\n2\n2\n"}
    for name, text in {**texts, "node_attributes": "0.5, 1\n1, 2\n2, 3\n3, 4\n"}.items():
        (raw / f"D_{name}.txt").write_text(text)
    built = build("tudataset:D", tmp_path / "a", PackLimits(8, 8, 4), workers=1, root=tmp_path, use_node_attr=True)
    assert unpack(built)[0].x.tolist() == [[0.5, 1.0], [1.0, 2.0]]
    (raw / "D_graph_indicator.txt").write_text("2\n1\n2\n1\n")
    with pytest.raises(SourceError, match="line 2: graph 1 after graph 2: sort the nodes by their graph"):
        build("tudataset:D", tmp_path / "b", PackLimits(8, 8, 4), workers=1, root=tmp_path)


TU = {
    "A": "1, 2\n2, 1\n3, 4\n4, 3\n",
    "graph_indicator": "1\n1\n2\n2\n3\n",
    "graph_labels": "1\n-1\n1\n",
    "node_labels": "5\n6\n5\n7\n5\n",
    "edge_attributes": "1\n2\n3\n4\n",
}


def read_tu(folder: Path, **changed: str | bytes) -> list[Any]:
    raw = folder / "D" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for name, text in {**TU, **changed}.items():
        (raw / f"D_{name}.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    limits = PackLimits(8, 8, 5)
    return unpack(
        build("tudataset:D", folder / "o", limits, workers=1, root=folder, use_edge_attr=True, overwrite=True)
    )


def test_tu_files_are_read_however_their_lines_end(tmp_path: Path) -> None:
    """A last line without an end, blank lines after it, carriage returns, a byte-order mark; a last graph edgeless."""
    wanted = read_tu(tmp_path)
    assert [graph.num_edges for graph in wanted] == [2, 2, 0] and wanted[2].x.tolist() == [[1, 0, 0]]
    for name, text in TU.items():
        for other in (text[:-1], text + "\n\n", text.replace("\n", "\r\n"), "\ufeff" + text):
            assert [g.to_dict().keys() for g in read_tu(tmp_path, **{name: other})] == [
                g.to_dict().keys() for g in wanted
            ]
            assert [g.y.item() for g in unpack(tmp_path / "o")] == [1, 0, 1]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("A", TU["A"] + "4, 6\n", "A.txt, line 5: an edge of the nodes 4 and 6, but there are the nodes 1 to 5"),
        ("A", "1, 3\n" + TU["A"], "A.txt, line 1: an edge of node 1, of graph 1, and node 3, of graph 2"),
        ("A", "1, 2\n\n2, 1\n", "A.txt, line 2: '' is no whole number"),
        ("graph_labels", "1\n2\n", "graph_labels.txt has 2 lines, but D_graph_indicator.txt tells of 3 graphs"),
        ("node_labels", "1\n" * 6, "node_labels.txt has 6 lines, but D_graph_indicator.txt tells of 5 nodes"),
        ("edge_attributes", "1\n2\n3\n", "edge_attributes.txt has 3 lines, but D_A.txt tells of 4 edges"),
        ("edge_attributes", "1\n2\n3, 4\n4\n", "edge_attributes.txt, line 3: 2 numbers, but 1 in line 1"),
        ("edge_attributes", "1\n2\n1e39\n4\n", "edge_attributes.txt, line 3: .*beyond float32"),
        ("graph_labels", "1\n\u0662\n3\n", "graph_labels.txt, line 2: .* is no whole number"),
        ("graph_labels", "1\n1_0\n3\n", "graph_labels.txt, line 2: '1_0' is no whole number"),
        ("graph_indicator", b"1\n1\n\xff\n2\n3\n", "graph_indicator.txt, line 3: .* is no whole number"),
        ("graph_indicator", "0\n1\n2\n2\n3\n", "line 1: graph 0; graphs are numbered from 1"),
    ],
)
def test_tu_files_that_contradict_themselves_name_file_and_line(
    name: str, text: str | bytes, words: str, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match=words):
        read_tu(tmp_path, **{name: text})


def test_every_command_that_reads_a_source_takes_its_options(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from pipelines.cli.app import app

    read_tu(tmp_path)
    more = ["--use-node-attr", "--use-edge-attr", "--guess-num-nodes", "--json"]
    sizes = ["--num-nodes", "8", "--num-edges", "8", "--num-graphs", "5"]
    for command in (["scan"], ["suggest"], ["compare", "--algorithm", "stream"], ["plan", "--out", f"{tmp_path}/p"]):
        limits = sizes if command[0] in ("compare", "plan") else []
        done = CliRunner().invoke(app, [*command, "tudataset:D", "--root", str(tmp_path), *limits, *more])
        assert done.exit_code == 0, done.output


class InMemory(InMemoryDataset):
    def __init__(self, graphs: list[Any]) -> None:
        super().__init__()
        self.data, self.slices = self.collate(graphs)


def test_a_node_type_that_is_counted_in_some_graphs_only_is_named_in_collated_storage() -> None:
    """PyG keeps num_nodes apart from the attributes: [5, 2] for three graphs says not which of them."""
    graphs = [HeteroData() for _ in range(3)]
    for number, one in enumerate(graphs):
        one["b"].num_nodes = number + 1
        if number < 2:
            one["a"].num_nodes = 5 - number
        one["b", "to", "b"].edge_index = EDGE[:, :0]
    with pytest.raises(SourceError, match=r"holds 3 graphs, but 'a/num_nodes' of 2 only"):
        list(from_object(InMemory(graphs)).tasks())


def test_collated_graphs_without_a_node_are_no_index_error() -> None:
    [task] = from_object(InMemory([Data(x=torch.ones(0, 1), edge_index=EDGE[:, :0])] * 3)).tasks()
    assert [skip.graph_id for skip in task.scan().skips] == [0, 1, 2]


def test_an_attribute_from_which_no_number_of_nodes_follows_is_named() -> None:
    with pytest.raises(SourceError, match=r"graph 0: PyG cannot tell the number of nodes \(IndexError.*set num_nodes"):
        block_of_graphs([Data(edge_index=EDGE, adj_t=torch.tensor(1))])


def test_a_split_is_named_by_values_that_the_graphs_have(tmp_path: Path) -> None:
    """Not by the padding where a graph lacks the number, nor by one of two types' fields, nor by raw bits."""
    limits = PackLimits(32, 32, 8)
    folds = [graph(fold=number % 2) for number in range(4)]
    assert list(build(folds, tmp_path / "a", limits, workers=1, split_column="fold").manifests) == ["0", "1"]
    lacking = [*folds[:2], graph(), *folds[2:]]
    with pytest.raises(SourceError, match="graph 2 has no 'fold'"):
        build(lacking, tmp_path / "b", limits, workers=1, split_column="fold")
    with pytest.raises(SourceError, match="graph 0 has no 'fold'"):
        build([graph(fold=float("nan"))] * 2, tmp_path / "c", limits, workers=1, split_column="fold")
    with pytest.raises(SourceError, match="nothing called 'fold' to split by"):
        build([graph(fold=torch.ones(1).bfloat16())] * 2, tmp_path / "d", limits, workers=1, split_column="fold")
    hetero = [HeteroData() for _ in range(2)]
    for number, one in enumerate(hetero):
        for name, fold in (("a", number), ("b", 0)):
            one[name].num_nodes, one[name].fold = 2, fold
    small = PackLimits(8, 8, 4)
    assert list(build(hetero, tmp_path / "e", small, workers=1, split_column="a/fold").manifests) == ["0", "1"]
    with pytest.raises(SourceError, match="nothing called 'fold' to split by; there are: a/fold, b/fold"):
        build(hetero, tmp_path / "f", small, workers=1, split_column="fold")
    with pytest.raises(SourceError, match="nothing called 'num_nodes' to split by"):
        build([graph(num_nodes=2)] * 2, tmp_path / "g", limits, workers=1, split_column="num_nodes")


@pytest.mark.parametrize(
    "name", ["y", "x", "edge_index", "edge_attr", "smiles", "num_nodes", "batch", "graph_ids", "id"]
)
def test_a_split_column_of_a_table_may_be_called_like_a_field_or_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(f"smiles,{name}\nC,train\nCC,test\n")
    try:
        built = build(f"smiles:{tmp_path / 'm.csv'}", tmp_path / "o", PackLimits(9, 9, 4), workers=1, split_column=name)
    except PackerError as error:
        assert repr(name) in str(error)
    else:
        assert list(built.manifests) == ["train", "test"]


class Turned(Data):
    """Nodes are the columns of x; edges stay where they are."""

    def __cat_dim__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        return -1 if key == "x" else super().__cat_dim__(key, value, *args, **kwargs)


class Still(Data):
    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        return 0


def test_nodes_are_counted_along_the_dimension_that_a_class_joins() -> None:
    turned = [Turned(x=torch.ones(3, 2), edge_index=EDGE)] * 2
    assert block_of_graphs(turned).counts["node"].tolist() == [2, 2]
    assert sizes_of_dataset(turned).columns["node"].tolist() == [2, 2]


def test_edges_that_are_not_shifted_would_join_other_graphs() -> None:
    with pytest.raises(FieldError, match=r"graph 0: 'edge_index' is not shifted .*\(__inc__\).*by the number of nodes"):
        block_of_graphs([Still(x=torch.ones(2, 1), edge_index=EDGE)] * 2)


class ShiftedBy(Data):
    """`extra` is shifted by what a class variable says."""

    said: Any = None

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        return self.said if key == "extra" else super().__inc__(key, value, *args, **kwargs)


@pytest.mark.parametrize("said", [None, "a", 1j, [None], {}])
def test_a_shift_that_is_no_number_is_refused(said: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as that of an `__inc__` that forgets to return: PyG fails there, too."""
    monkeypatch.setattr(ShiftedBy, "said", said)
    graphs = [ShiftedBy(x=torch.ones(2, 1), edge_index=EDGE, extra=torch.tensor([0, 1]))] * 2
    with pytest.raises(FieldError, match=r"graph 0: __inc__ of 'extra' gives .*, not a number"):
        block_of_graphs(graphs)


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("number", [3.7, -1, 2**31, 2**64])
def test_what_is_no_number_of_nodes_is_refused_however_it_is_kept(number: Any, stored: bool) -> None:
    graphs = [Data(num_nodes=count, y=torch.ones(1)) for count in (3, number)]
    [task] = from_object(InMemory(graphs) if stored else graphs).tasks()
    with pytest.raises(SourceError, match=r"graph 1: num_nodes is .*; it must be a whole number"):
        task.scan()


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize(("key", "words"), [(("a", "to", "a"), "an edge type"), (None, "a graph of several types")])
def test_a_number_of_nodes_of_what_has_none_is_refused_or_left_out(
    key: Any, words: str, stored: bool, tmp_path: Path
) -> None:
    graphs = [HeteroData() for _ in range(2)]
    for one in graphs:
        one["a"].x, one["a", "to", "a"].edge_index = torch.ones(2, 1), EDGE
        (one if key is None else one[key]).num_nodes = 7
    limits, source = PackLimits(8, 8, 4), InMemory(graphs) if stored else graphs
    with pytest.raises(FieldError, match=f"graph 0: .*num_nodes' is the num_nodes of {words}, .*leave it out"):
        build(source, tmp_path / "a", limits, workers=1)
    name = "num_nodes" if key is None else "a__to__a/num_nodes"
    found = unpack(build(source, tmp_path / "b", limits, workers=1, exclude_keys=[name]))
    assert [one["a"].num_nodes for one in found] == [2, 2]


def test_storage_that_was_changed_without_its_slices_is_refused() -> None:
    """Attributes cut short, slices that run backwards, graphs chosen that are there no more: never an IndexError."""

    def cut(found: Any) -> None:
        found._data.y = found._data.y[:3]

    def edges_cut(found: Any) -> None:
        found._data.edge_index = found._data.edge_index[:, :2]

    def backwards(found: Any) -> None:
        found.slices["x"] = torch.tensor([0, 3, 2, 6, 8])

    def replaced(found: Any) -> None:
        found._indices = [0, 5]

    for change, words in (
        (cut, r"graph 3: the slices of the InMemoryDataset give it the rows 3 to 4 of 'y', which has 3"),
        (edges_cut, r"graph 2: .* rows 2 to 3 of 'edge_index', which has 2"),
        (backwards, r"graph 1: .* rows 3 to 2 of 'x'"),
        (replaced, r"graph 1 is graph 5 of the InMemoryDataset, which holds 4"),
    ):
        for read in (lambda given: [task.scan() for task in from_object(given).tasks()], sizes_of_dataset):
            found = InMemory([graph(y=torch.ones(1))] * 4)
            change(found)
            with pytest.raises(SourceError, match=words):
                read(found)


def test_a_python_float_is_what_torch_makes_of_it() -> None:
    """float32, or float64 where that is torch's default, as PyG's Batch has it."""
    graphs = [graph(f=0.1), graph(f=1e300)]
    torch.set_default_dtype(torch.float64)
    try:
        block, theirs = block_of_graphs(graphs), Batch.from_data_list(graphs)
    finally:
        torch.set_default_dtype(torch.float32)
    assert block.columns["f"].tolist() == theirs.f.tolist() == [0.1, 1e300]


def test_a_length_that_fails_says_why() -> None:
    class Odd(Numbered):
        def __len__(self) -> Any:
            return 3.5

    with pytest.raises(SourceError, match=r"has no length \(__len__: TypeError: .*float"):
        list(from_object(Odd(KeyError(4))).tasks())
