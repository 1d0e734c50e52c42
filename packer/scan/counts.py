"""How many nodes and edges a PyG graph has, of each type, as PyG counts them."""

from __future__ import annotations

import warnings
from functools import lru_cache
from operator import index
from typing import Any, Mapping

from packer.errors import SourceError
from packer.graphs.axes import Axis, Type
from packer.scan.items import check_graph, describe_error, is_hetero, is_tensor
from packer.scan.joining import joins_by_name

NODE_KEYS = ("x", "feat", "pos", "node_type", "n_id")
"""Attributes whose length PyG takes for the number of nodes, when no `num_nodes` is stored."""

_joins_by_name = lru_cache(maxsize=64)(joins_by_name)


def guessed_nodes(where: str, nodes: int) -> SourceError:
    """The error for a graph that says nothing of its nodes but the numbers that its edges have."""
    return SourceError(
        f"{where}: the number of nodes is not given (no num_nodes, {', '.join(NODE_KEYS[:3])}); its largest number in "
        f"edge_index or face tells of {nodes}, and nodes without edges would be lost: set num_nodes, or say that the "
        "guess is right (guess_num_nodes=True, --guess-num-nodes)"
    )


def stated_nodes(where: str, num_nodes: Any) -> int:
    """The num_nodes that a graph states; SourceError for what is no number of nodes."""
    try:
        nodes = index(num_nodes)
    except TypeError:
        nodes = -1
    if not 0 <= nodes < 2**31:
        most = ", below 2**31" if nodes > 0 else ""
        raise SourceError(f"{where}: num_nodes is {num_nodes!r}; it must be a whole number, 0 or more{most}")
    return nodes


def count_rows(graph: Any, graph_id: int, guess: bool = False) -> dict[Axis, int]:
    """Numbers of nodes and edges of a graph, `Data` or `HeteroData`, or of a batch of them; nothing else is looked at.

    Raises SourceError naming the graph by `graph_id`.
    """
    if not hasattr(type(graph), "stores"):
        check_graph(graph, graph_id)
    stores = [(store, dict(store.items())) for store in graph.stores]
    return counts_of_stores(graph_id, is_hetero(graph), stores, guess, _joins_by_name(type(graph)))


def counts_of_stores(
    graph_id: int, hetero: bool, stores: list[tuple[Any, dict[str, Any]]], guess: bool, by_name: bool
) -> dict[Axis, int]:
    """Numbers of nodes and edges of one graph. A store that holds nothing is taken for absent.

    by_name: its class joins as PyG's own do, so that nodes are the first dimension of x.
    """
    counts: dict[Axis, int] = {}
    for store, items in stores:
        key: Type = store._key
        if isinstance(key, tuple):
            if items:
                counts[Axis("edge", key)] = _num_edges(items)
        elif (key is None) != hetero and (items or not hetero):
            nodes = _num_nodes(graph_id, store, items, guess, by_name) if items else 0
            counts[Axis("node", key)] = nodes
            if key is None:
                counts[Axis("edge")] = _num_edges(items)
    return counts


def _num_edges(items: Mapping[str, Any]) -> int:
    value: Any = items.get("edge_index", 0)
    return int(value.shape[-1]) if is_tensor(value) and value.ndim == 2 else 0


def _num_nodes(graph_id: int, store: Any, items: Mapping[str, Any], guess: bool, by_name: bool) -> int:
    """An explicit num_nodes, otherwise what PyG concludes from the attributes. Raises SourceError."""
    where = f"graph {graph_id}" + ("" if store._key is None else f", node type {store._key!r}")
    if "num_nodes" in items:
        return stated_nodes(where, items["num_nodes"])
    first = next((name for name in items if name in NODE_KEYS), None) if by_name else None
    if first == "x" and is_tensor(items["x"]) and items["x"].ndim:
        return int(items["x"].shape[0])
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", UserWarning)  # PyG guesses from edge_index, aloud
        try:
            nodes = store.num_nodes
        except Exception as error:
            raise SourceError(
                f"{where}: PyG cannot tell the number of nodes ({describe_error(error)}); set num_nodes"
            ) from error
    if nodes is None:
        raise SourceError(f"{where}: the number of nodes is unknown; set num_nodes")
    if warned and not guess:
        raise guessed_nodes(where, int(nodes))
    return int(nodes)
