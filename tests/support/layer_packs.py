"""Packs beside the PyG batches of the same graphs, with what layers ask for: weights, features and types of edges."""

from __future__ import annotations

import torch
from torch_geometric.data import Batch, Data

from packer import PackDataset, PackLimits, torch_loader
from pipelines import build


def random_graphs(count: int = 60, seed: int = 0) -> list[Data]:
    """1 to 11 nodes, edges drawn with replacement: self-loops, repeated edges, nodes without edges."""
    generator = torch.Generator().manual_seed(seed)

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    graphs: list[Data] = []
    for _ in range(count):
        nodes = number(1, 12)
        edges = number(0, nodes + 2)
        graphs.append(
            Data(
                x=drawn(nodes, 5),
                pos=drawn(nodes, 3),
                edge_index=torch.randint(0, nodes, (2, edges), generator=generator),
                edge_weight=torch.rand(edges, generator=generator) + 0.5,
                edge_attr=torch.rand(edges, 4, generator=generator),
                edge_type=torch.randint(0, 3, (edges,), generator=generator),
                y=drawn(1),
            )
        )
    return graphs


def packed(folder, null_graphs: str, limits: tuple[int, int, int] = (48, 80, 8)) -> tuple[list[Data], PackDataset]:
    """The graphs and their packs, in `folder`."""
    graphs = random_graphs()
    build(graphs, folder, PackLimits(*limits, null_graphs), workers=1)
    return graphs, PackDataset(folder)


def steps(graphs: list[Data], dataset: PackDataset):
    """Each pack beside the PyG batch of the same graphs in the same order."""
    for batch, pack in zip(torch_loader(dataset, shuffle=False), range(len(dataset)), strict=True):
        ids = dataset.graph_ids(pack)
        yield batch, Batch.from_data_list([graphs[i] for i in ids[ids >= 0].tolist()])
