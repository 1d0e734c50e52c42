"""The limits rule, and errors that name what is wrong with limits and sizes."""

import itertools

import numpy as np
import pytest

from packer import GraphSizes, PackLimits
from packer.errors import LimitsError, SizesError
from packer.limits.fit import check_fit, need_of


def fits_by_definition(graphs, limits):
    """The rule as written for users: what a pack must hold besides its real graphs."""
    n, e, r = sum(n for n, _ in graphs), sum(e for _, e in graphs), len(graphs)
    nodes, edges, slots = limits.num_nodes, limits.num_edges, limits.num_graphs
    if limits.null_graphs == "none":
        return r <= slots and n <= nodes and e <= edges
    if limits.null_graphs == "one":
        return r <= slots - 1 and n <= nodes - 1 and e <= edges - 1
    if limits.null_graphs == "jraph":
        return r <= slots - 1 and n <= nodes - 1 and e <= edges
    nulls = slots - r
    return nulls >= 1 and n <= nodes - nulls and sum(max(e, 1) for _, e in graphs) <= edges - nulls


@pytest.mark.parametrize("null_graphs", ["all", "one", "jraph", "none"])
@pytest.mark.parametrize("slots", [(6, 5, 3), (7, 7, 4), (9, 6, 2)])
def test_vector_form_equals_the_rule(null_graphs, slots):
    limits = PackLimits(*slots, null_graphs)
    kinds = [(1, 0), (1, 1), (2, 0), (2, 2), (3, 4), (4, 1)]
    for held in range(1, 5):
        for graphs in itertools.combinations_with_replacement(kinds, held):
            sizes = GraphSizes(*np.array(graphs).T)
            need, capacity = need_of(np.array(graphs), sizes.axes, limits)
            assert bool((need.sum(axis=0) <= capacity).all()) == fits_by_definition(graphs, limits), graphs


def test_missing_limits_are_no_dimensions():
    sizes = GraphSizes(np.array([3, 5]), np.array([4, 8]))
    need, capacity = need_of(sizes.distinct[0], sizes.axes, PackLimits(9, None, None, "none"))
    assert need.tolist() == [[3], [5]]
    assert capacity.tolist() == [9]


def test_heterogeneous_limits_have_a_dimension_for_each_type():
    wrote = ("author", "writes", "paper")
    sizes = GraphSizes({"author": np.array([2, 0]), "paper": np.array([3, 1])}, {wrote: np.array([4, 0])})
    limits = PackLimits({"author": 8, "paper": 9}, {wrote: 10}, 3)
    need, capacity = need_of(np.array([[2, 3, 4], [0, 1, 0]]), sizes.axes, limits)
    # "all": every slot has at least one row on each axis, so a graph needs max(rows, 1) - 1 more of it, and 1 slot.
    assert need.tolist() == [[1, 2, 3, 1], [0, 0, 0, 1]]
    assert capacity.tolist() == [8 - 3, 9 - 3, 10 - 3, 3 - 1]
    assert PackLimits.from_dict(limits.to_dict()) == limits
    for nodes, remedy in (
        ({"author": 8}, r"give a limit for \['paper'\], or give one number for all types"),
        ({"author": 8, "paper": 9, "term": 4}, r"leave out \['term'\]"),
        ({"author": 8, "term": 4}, r"give a limit for \['paper'\], leave out \['term'\]"),
    ):
        with pytest.raises(LimitsError, match=remedy):
            PackLimits(nodes, {wrote: 10}, 3).slots(sizes.axes)
    plain = GraphSizes(np.array([2]), np.array([4]))
    with pytest.raises(LimitsError, match=r"num_nodes is given for \['author'\], but the graphs have no types"):
        PackLimits({"author": 8}, 9, 3).slots(plain.axes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((64, 64, 1), "num_graphs must be at least 2.*got 1"),
        ((64, 64, 1, "one"), "num_graphs must be at least 2.*got 1"),
        ((7, 64, 8), "num_nodes is 7.*each of the 8 graph slots.*at least 8"),
        ((64, 7, 8), "num_edges is 7.*at least 8"),
        ((1, 64, 8, "one"), "num_nodes is 1.*padding.*at least 2"),
        ((64, 64, 1, "jraph"), "num_graphs must be at least 2.*got 1"),
        ((1, 64, 8, "jraph"), "num_nodes is 1.*padding.*at least 2"),
        ((64, 64, 8, "some"), "all, one, jraph, none; got 'some'"),
        ((None, 64, 8), "num_nodes=None.*only for planning"),
        ((64.5, 64, 8), "num_nodes must be a whole number; got 64.5"),
        ((-3, 64, 8), "num_nodes must be between 1"),
        ((True, 64, 8), "whole number; got True"),
        (({}, 64, 8), "empty dict"),
    ],
)
def test_impossible_limits(arguments, message):
    with pytest.raises(LimitsError, match=message):
        PackLimits(*arguments)


def test_a_graph_beyond_the_limits_is_named_with_the_remedy():
    sizes = GraphSizes(np.array([10, 83, 90]), np.array([1, 1, 1]))
    # 64 slots, one of them kept for the null graph: 63 for real nodes; graph 1 needs 83 + 1.
    with pytest.raises(
        SizesError,
        match=r"graph 1 needs 83 nodes; a pack offers 63 \(64, less 1 for padding\): num_nodes=84 \(--num-nodes 84\) "
        r"would do; 2 of 3 graphs do not fit; num_nodes=91 \(--num-nodes 91\) would hold them all",
    ):
        check_fit(sizes, PackLimits(64, 64, 2))
    with pytest.raises(SizesError, match=r"Raise the limit, or pass oversize='skip' \(--oversize skip\)"):
        check_fit(sizes, PackLimits(64, 64, 2))
    # Of 4 slots under "all" three stay null beside one real graph: 64 - 3.
    with pytest.raises(SizesError, match=r"a pack offers 61 \(64, less 3 for padding\)"):
        check_fit(sizes, PackLimits(64, 64, 4))
    check_fit(sizes, PackLimits(91, 2, 2))
    histogram = GraphSizes.from_histogram(np.array([10, 83]), np.array([1, 1]), np.array([500, 7]))
    with pytest.raises(SizesError, match=r"graph 500 needs 83 nodes.*7 of 507 graphs do not fit"):
        check_fit(histogram, PackLimits(64, 64, 2))


@pytest.mark.parametrize(
    ("nodes", "edges", "message"),
    [
        ([3, 0, 2], [1, 1, 1], "graph 1 has no nodes"),
        ([3, -1], [1, 1], "num_nodes must not be negative; entry 1 is -1"),
        ([3, 2], [1], "lengths"),
        ([], [], "no graphs"),
        ([[3]], [[1]], "one dimension"),
        ([1.5], [1], "whole numbers; got dtype float64"),
        ([2**31], [1], "below 2147483648"),
    ],
)
def test_sizes_that_are_none(nodes, edges, message):
    with pytest.raises(SizesError, match=message):
        GraphSizes(np.array(nodes), np.array(edges))


@pytest.mark.parametrize("scale", [1, 5000])
def test_distinct_sizes_by_counting_and_by_sorting_agree(scale):
    """A table of cells serves a small span, a sort of keys a wide one."""
    rng = np.random.default_rng(0)
    nodes, edges = rng.integers(1, 5, 500) * scale, rng.integers(0, 4, 500) * scale
    table, count, of_row = GraphSizes(nodes, edges).distinct
    expected, counts = np.unique(np.stack([nodes, edges], 1), axis=0, return_counts=True)
    assert table.tolist() == expected.tolist()
    assert count.tolist() == counts.tolist()
    assert table[of_row].tolist() == np.stack([nodes, edges], 1).tolist()
