"""A small GNN for packs, with no layer whose statistics would see padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from packer.errors import MissingExtraError

try:
    import torch
    from torch_geometric.nn import GINConv, GINEConv, global_add_pool, global_mean_pool
except ImportError as error:
    raise MissingExtraError("torch and torch_geometric", "pyg", "training") from error


class GNN(torch.nn.Module):
    """Residual GIN layers, with edge features where there are any; one output row a graph slot, or a node slot.

    node_encoder, edge_encoder: rows of features to [rows, hidden], or None where the graphs have no such feature.
    """

    def __init__(
        self,
        node_encoder: torch.nn.Module | None,
        edge_encoder: torch.nn.Module | None,
        *,
        hidden: int,
        layers: int,
        outputs: int,
        level: str,
    ) -> None:
        super().__init__()
        self.hidden, self.level = hidden, level
        self.node_encoder, self.edge_encoder = node_encoder, edge_encoder
        conv: Any = GINConv if edge_encoder is None else GINEConv
        self.convs = torch.nn.ModuleList([conv(_mlp(hidden, hidden, hidden)) for _ in range(layers)])
        self.head = _mlp(2 * hidden if level == "graph" else hidden, hidden, outputs)

    def forward(self, batch: Any) -> torch.Tensor:
        if self.node_encoder is None:
            h = torch.ones((batch.num_nodes, self.hidden), device=batch.batch.device)
        else:
            h = self.node_encoder(batch.x)
        edges = () if self.edge_encoder is None else (self.edge_encoder(batch.edge_attr),)
        for conv in self.convs:
            h = h + torch.relu(conv(h, batch.edge_index, *edges))
        if self.level == "graph":
            # `size` keeps the output's shape fixed; the sum is scaled to the magnitude of the mean.
            slots = batch.num_graphs
            pooled = global_mean_pool(h, batch.batch, slots), global_add_pool(h, batch.batch, slots) / 32
            h = torch.cat(pooled, dim=1)
        return self.head(h)


class DenseEncoder(torch.nn.Module):
    """Float features, flattened, to [rows, hidden]."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(width, hidden)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.linear(rows.reshape(len(rows), -1).to(self.linear.weight.dtype))


class ColumnEmbedding(torch.nn.Module):
    """Integer features to the sum of one embedding a column; values beyond the largest count as it.

    largest: the largest value of each column in the training data.
    """

    largest: torch.Tensor
    start: torch.Tensor

    def __init__(self, largest: Sequence[int], hidden: int) -> None:
        super().__init__()
        sizes = torch.tensor(largest, dtype=torch.int64) + 1
        self.register_buffer("largest", sizes - 1)
        self.register_buffer("start", torch.cumsum(sizes, 0) - sizes)
        self.table = torch.nn.Embedding(int(sizes.sum()), hidden)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        columns = rows.reshape(len(rows), -1).long().clamp(min=0)
        return self.table(torch.minimum(columns, self.largest) + self.start).sum(dim=1)


def _mlp(width: int, hidden: int, outputs: int) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(width, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, outputs))
