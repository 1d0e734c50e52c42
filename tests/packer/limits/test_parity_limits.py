"""Limits that follow from a data set or from a loader, as PopTorch Geometric's FixedSizeOptions finds them."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import heterogeneous, homogeneous
from torch_geometric.data import Data, HeteroData, InMemoryDataset
from torch_geometric.data.summary import Summary
from torch_geometric.loader import DataLoader

from packer import GraphSizes, PackLimits, make_plan
from packer.errors import LimitsError, SizesError, SourceError
from packer.limits.limits_rule import LimitsRule
from packer.scan.dataset_sizes import sizes_of_dataset


def graph(nodes: int, edges: int) -> Data:
    return Data(x=torch.zeros(nodes, 2), edge_index=torch.zeros(2, edges, dtype=torch.long))


def papers(authors: int, written: int, edges: int) -> HeteroData:
    found = HeteroData()
    found["author"].x = torch.zeros(authors, 1)
    found["paper"].num_nodes = written
    found["author", "writes", "paper"].edge_index = torch.zeros(2, edges, dtype=torch.long)
    return found


GRAPHS = [graph(3, 4), graph(5, 2), graph(2, 6), graph(2, 0)]


def test_the_largest_graph_times_the_graphs_less_one_plus_one() -> None:
    # 5 * 3 + 1 = 16 nodes, 6 * 3 + 1 = 19 edges.
    assert PackLimits.from_dataset(GRAPHS, 4) == PackLimits(16, 19, 4)
    assert PackLimits.from_dataset(GRAPHS, 4, null_graphs="one") == PackLimits(16, 19, 4, "one")


def test_by_mean_as_the_tutorial_does_by_hand() -> None:
    # 12 nodes and 12 edges in 4 graphs: int(3 * 6) = 18.
    assert PackLimits.from_dataset(GRAPHS, 6, by="mean") == PackLimits(18, 18, 6)
    assert PackLimits.from_dataset([graph(2, 2), graph(3, 2)], 3, by="mean") == PackLimits(7, 6, 3)  # 2.5 * 3 = 7.5


def test_by_a_share_of_the_graphs() -> None:
    # Nodes 2 2 3 5 and edges 0 2 4 6: three quarters have at most 3 and 4; 3 * 3 + 1 = 10 and 4 * 3 + 1 = 13.
    assert PackLimits.from_dataset(GRAPHS, 4, by=0.75) == PackLimits(10, 13, 4)
    assert PackLimits.from_dataset(GRAPHS, 4, by=1.0) == PackLimits.from_dataset(GRAPHS, 4)


def test_limits_by_type() -> None:
    # authors 3, papers 4, edges 5; two batch slots: 3 * 1 + 1, 4 * 1 + 1, 5 * 1 + 1.
    both = [papers(3, 1, 5), papers(2, 4, 0)]
    expected = PackLimits({"author": 4, "paper": 5}, {("author", "writes", "paper"): 6}, 2)
    assert PackLimits.from_dataset(both, 2) == expected


def test_edgeless_graphs_leave_an_edge_slot_for_each_graph_slot() -> None:
    # FixedSizeOptions says 0 * 3 + 1 = 1 edge for 4 graphs; each graph slot takes one here.
    assert PackLimits.from_dataset([graph(2, 0)], 4) == PackLimits(7, 4, 4)
    assert PackLimits.from_dataset([graph(2, 0)], 4, null_graphs="one") == PackLimits(7, 1, 4, "one")


def test_the_largest_batch_plus_one() -> None:
    # Batches of two: 8 nodes and 6 edges, 4 nodes and 6 edges.
    assert PackLimits.from_loader(DataLoader(GRAPHS, batch_size=2)) == PackLimits(9, 7, 3)
    assert PackLimits.from_loader(DataLoader(GRAPHS, batch_size=2), sample_limit=1) == PackLimits(9, 7, 3)
    assert PackLimits.from_loader(iter(DataLoader(GRAPHS[2:], batch_size=2))) == PackLimits(5, 7, 3)  # cannot restart
    # A batch lacks a type: counts 0 there.
    mixed = [papers(3, 1, 5), papers(2, 4, 0)]
    assert PackLimits.from_loader(DataLoader(mixed, batch_size=1)) == PackLimits(
        {"author": 4, "paper": 5}, {("author", "writes", "paper"): 6}, 2
    )


def test_a_short_loader_is_run_again_up_to_the_limit() -> None:
    class Passes:
        def __init__(self) -> None:
            self.begun = 0

        def __iter__(self):
            self.begun += 1
            yield graph(self.begun, 1)

    loader = Passes()
    # A single graph is a batch of one: 2 graph slots. Pass 3 gives a graph of 3 nodes.
    assert PackLimits.from_loader(loader, sample_limit=3) == PackLimits(4, 2, 2)
    assert loader.begun == 3


def test_batches_are_those_of_an_unshuffled_loader() -> None:
    # Batches of two: 8 nodes and 6 edges, 4 nodes and 6 edges; of three: 10 and 12, then 2 and 0.
    assert PackLimits.from_dataset(GRAPHS, 3, by="batches") == PackLimits(9, 7, 3)
    assert PackLimits.from_dataset(GRAPHS, 4, by="batches") == PackLimits(11, 13, 4)
    for num_graphs in (2, 3, 4, 5):
        loader = DataLoader(GRAPHS, batch_size=num_graphs - 1)
        assert PackLimits.from_dataset(GRAPHS, num_graphs, by="batches") == PackLimits.from_loader(loader)
    mixed = [papers(3, 1, 5), papers(2, 4, 0), papers(1, 1, 9)]
    assert PackLimits.from_dataset(mixed, 3, by="batches") == PackLimits.from_loader(DataLoader(mixed, batch_size=2))
    # Of a histogram the first 1,000 batches of 2 are of its first row.
    sizes = GraphSizes.from_histogram(np.array([2, 9]), np.array([1, 20]), np.array([10**12, 10**12]))
    assert PackLimits.from_dataset(sizes, 3, by="batches") == PackLimits(5, 3, 3)
    assert PackLimits.from_dataset(GraphSizes(np.array([1] * 2000 + [9]), np.ones(2001, int)), 3, by="batches") == (
        PackLimits(3, 3, 3)
    )


@settings(max_examples=40, deadline=None)
@given(st.one_of(homogeneous(), heterogeneous()), st.integers(2, 5))
def test_any_graphs_fit_the_largest_and_the_summary_agrees(graphs, num_graphs: int) -> None:
    limits = PackLimits.from_dataset(graphs, num_graphs)
    sizes = sizes_of_dataset(graphs)
    for column, number in zip(sizes.columns.values(), limits.slots(sizes.axes).values(), strict=True):
        assert number == max(max(column) * (num_graphs - 1) + 1, num_graphs)
    # Every algorithm then holds num_graphs - 1 graphs in a pack whichever they are.
    assert make_plan(sizes, limits, "pad-to-max").num_packs == -(-len(graphs) // (num_graphs - 1))


def test_sizes_are_the_summarys_of_pyg() -> None:
    class Stored(InMemoryDataset):
        def __init__(self) -> None:
            super().__init__(None)
            self.data, self.slices = self.collate(GRAPHS)

    for source in (GRAPHS, Stored()):
        sizes = sizes_of_dataset(source)
        summary = Summary.from_dataset(Stored(), progress_bar=False)
        assert sizes.num_graphs == summary.num_graphs
        assert (max(sizes.num_nodes), max(sizes.num_edges)) == (summary.num_nodes.max, summary.num_edges.max)


def test_the_summary_of_the_command_is_that_of_pyg() -> None:
    from pipelines.cli.tables import summary as summary_of

    summary = Summary.from_dataset(GRAPHS, progress_bar=False)
    values = np.array([g.num_edges for g in GRAPHS])
    found = summary_of(values)
    stats = summary.num_edges
    names = {"mean": "mean", "std": "std", "min": "min", "25%": "quantile25", "50%": "median", "75%": "quantile75"}
    for ours, theirs in {**names, "max": "max"}.items():
        assert found[ours] == pytest.approx(getattr(stats, theirs), rel=1e-6), ours


@pytest.mark.parametrize("graphs", [GRAPHS, [papers(3, 1, 5), papers(2, 4, 0), papers(2, 2, 1)]])
def test_the_command_prints_the_tables_of_pyg(graphs, tmp_path, monkeypatch, capsys) -> None:
    """Cell by cell: the statistics below each other, nodes and edges beside each other, then each type."""
    from pipelines.cli.app import run

    (tmp_path / "summed_graphs.py").write_text("graphs = []\ndef load():\n    return graphs\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import summed_graphs

    monkeypatch.setattr(summed_graphs, "graphs", graphs)
    assert run(["scan", "pyg:summed_graphs:load", "--workers", "1"]) == 0
    lines = [re.split(r"  +", line.strip()) for line in capsys.readouterr().out.splitlines()]
    summary = Summary.from_dataset(graphs, progress_bar=False)
    tables = [{"#nodes": summary.num_nodes, "#edges": summary.num_edges}]
    if summary.num_nodes_per_type:
        tables += [summary.num_nodes_per_type, {"__".join(k): v for k, v in summary.num_edges_per_type.items()}]
    for columns in tables:
        start = lines.index(list(columns))
        assert lines[start + 2 : start + 9] == [
            [field, *(f"{getattr(stats, field):.1f}" for stats in columns.values())]
            for field in ("mean", "std", "min", "quantile25", "median", "quantile75", "max")
        ]


def test_a_histogram_needs_no_graphs() -> None:
    sizes = GraphSizes.from_histogram(np.array([2, 9]), np.array([1, 20]), np.array([10**12, 10**12]))
    assert PackLimits.from_dataset(sizes, 3, by=0.5) == PackLimits(5, 3, 3)
    assert PackLimits.from_dataset(sizes, 3, by="mean") == PackLimits(16, 31, 3)  # 5.5 * 3, 10.5 * 3


@pytest.mark.parametrize(
    ("make", "error", "fault"),
    [
        (lambda: PackLimits.from_dataset(GRAPHS, 1), LimitsError, "at least 2"),
        (
            lambda: PackLimits.from_dataset(GRAPHS, 4, by="median"),
            LimitsError,
            "by must be 'max', 'mean', 'batches' or a share above 0 and up to 1; got 'median'",
        ),
        (lambda: PackLimits.from_dataset(GRAPHS, 4, by=0.0), LimitsError, "share above 0"),
        (lambda: PackLimits.from_dataset(GRAPHS, 4, null_graphs="two"), LimitsError, "'two'"),
        (lambda: PackLimits.from_dataset([], 4), SizesError, "the data set holds no graph"),
        (lambda: PackLimits.from_dataset([Data(num_nodes=0)], 4), SizesError, "none of the 1 graphs"),
        (lambda: PackLimits.from_dataset(["CCO"], 4), SourceError, "graph 0 is a str"),
        (lambda: PackLimits.from_loader([]), SourceError, "no batch"),
        (lambda: PackLimits.from_loader(GRAPHS, sample_limit=0), LimitsError, "at least 1"),
    ],
)
def test_what_gives_no_limits(make, error, fault: str) -> None:
    with pytest.raises(error, match=fault):
        make()


def test_a_rule_is_plain_values() -> None:
    assert LimitsRule(4, 0.9, "one").to_dict() == {"num_graphs": 4, "by": 0.9, "null_graphs": "one"}
