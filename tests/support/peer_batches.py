"""The batches of PopTorch Geometric's FixedSizeDataLoader, made the slow way: null graphs as PyG graphs, PyG's collate.

Written from its rules, for graphs with at least one edge: a batch has G graphs; the slots that real graphs leave are
null graphs that share the padding nodes and edges as evenly as possible, the first ones one more; every padding edge is
a self-loop on the first node of its null graph.
"""

from __future__ import annotations

from typing import Any

import torch
from torch_geometric.data import Batch, Data, HeteroData


def stream_batches(graphs: list[Data], limits: Any) -> list[list[int]]:
    """Ids of each batch: a graph that no longer fits, with a padding node and edge for each free slot, opens the next.

    A graph too large for any batch is passed over, without closing the open batch.
    """

    def fits(ids: list[int]) -> bool:
        spare = limits.num_graphs - len(ids)
        nodes = sum(graphs[i].num_nodes for i in ids)
        edges = sum(graphs[i].num_edges for i in ids)
        return spare >= 1 and nodes + spare <= limits.num_nodes and edges + spare <= limits.num_edges

    batches: list[list[int]] = [[]]
    for number in range(len(graphs)):
        if not fits([number]):
            continue
        if fits([*batches[-1], number]):
            batches[-1].append(number)
        else:
            batches.append([number])
    return [ids for ids in batches if ids]


def even(total: int, pieces: int) -> list[int]:
    shares = [0] * pieces
    for number in range(total):
        shares[number % pieces] += 1
    return shares


def batch_of(graphs: list[Any], limits: Any, pads: dict[str, float], levels: dict[str, str]) -> dict[str, torch.Tensor]:
    """One padded batch of these real graphs, with masks. levels: attribute -> "node", "edge" or "graph"."""
    hetero = isinstance(graphs[0], HeteroData)
    nulls = limits.num_graphs - len(graphs)
    padding = [HeteroData() if hetero else Data() for _ in range(nulls)]
    types = [*graphs[0].node_types, *graphs[0].edge_types] if hetero else ["node", "edge"]
    real: dict[Any, int] = {}
    for type_ in types:
        is_edge = type_ == "edge" or isinstance(type_, tuple)
        slots = limits.num_edges if is_edge else limits.num_nodes
        slots = slots[type_] if isinstance(slots, dict) else slots
        stores = [graph[type_] if hetero else graph for graph in graphs]
        real[type_] = sum(store.num_edges if is_edge else store.num_nodes for store in stores)
        for null, number in zip(padding, even(slots - real[type_], nulls), strict=True):
            store = null[type_] if hetero else null
            if is_edge:
                store.edge_index = torch.zeros(2, number, dtype=torch.long)
            else:
                store.num_nodes = number
            for name, value in stores[0].items():
                level = levels.get(name)
                if level == ("edge" if is_edge else "node"):
                    store[name] = torch.full((number, *value.shape[1:]), pads.get(name, 0)).to(value.dtype)
    for null in padding:
        for name, level in levels.items():
            if level == "graph":
                null[name] = torch.full_like(graphs[0][name], pads.get(name, 0))
    batch = Batch.from_data_list([*graphs, *padding])
    found: dict[str, torch.Tensor] = {}
    for store in batch.stores:
        prefix = (
            "" if store._key is None else f"{store._key if isinstance(store._key, str) else '__'.join(store._key)}/"
        )
        found.update({prefix + name: value for name, value in store.items() if isinstance(value, torch.Tensor)})
    found["graphs_mask"] = torch.arange(limits.num_graphs) < len(graphs)
    for type_, number in real.items():
        is_edge = type_ == "edge" or isinstance(type_, tuple)
        slots = limits.num_edges if is_edge else limits.num_nodes
        slots = slots[type_] if isinstance(slots, dict) else slots
        key = f"{type_}s_mask" if not hetero else f"{type_ if not is_edge else '__'.join(type_)}/mask"
        found[key] = torch.arange(slots) < number
    return found
