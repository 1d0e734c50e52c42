"""A small GNN for packs, with no layer whose statistics would see padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from packer.errors import MissingExtraError

try:
    import torch
    from torch_geometric.nn import GINConv, GINEConv, global_add_pool, global_mean_pool
except ImportError as error:
    raise MissingExtraError("torch and torch_geometric", "pyg", "training") from error


class Nodes(NamedTuple):
    """One node type: names of its features and of its `batch` in packs, and which encoder its features take."""

    key: str
    features: str
    batch: str
    encoder: int | None


class Edges(NamedTuple):
    """One edge type: the node types it leads from and to, names of its ends and features, and their encoder.

    positions: name of the nodes' positions where the features are the lengths of edges; features then names what is to
    be added to the vectors of edges that lead to a periodic image, None for nothing.
    """

    key: str
    source: str
    target: str
    edge_index: str
    features: str | None
    encoder: int | None
    positions: str | None = None

    def rows(self, batch: Any) -> torch.Tensor:
        """What the encoder takes."""
        added = None if self.features is None else batch[self.features]
        if self.positions is None:
            assert added is not None
            return added
        source, target = batch[self.edge_index]
        vectors = batch[self.positions][target] - batch[self.positions][source]
        return (vectors if added is None else vectors + added).norm(dim=1, keepdim=True)


class GNN(torch.nn.Module):
    """Residual GIN layers over each edge type; one output row a graph slot, or a node or edge slot of one type.

    nodes, edges: the types of the packs, one each in homogeneous graphs. encoders: rows of features to [rows, hidden];
    a type without one has no features. readout: the node or edge type that has the outputs, None for graphs.
    """

    def __init__(
        self,
        nodes: Sequence[Nodes],
        edges: Sequence[Edges],
        encoders: Sequence[torch.nn.Module],
        *,
        hidden: int,
        layers: int,
        outputs: int,
        readout: str | None,
    ) -> None:
        super().__init__()
        self.hidden, self.readout = hidden, readout
        self.nodes, self.edges = tuple(nodes), tuple(edges)
        self.encoders = torch.nn.ModuleList(encoders)
        self.convs = torch.nn.ModuleList(
            torch.nn.ModuleList(_conv(edge.encoder is not None, hidden) for edge in edges) for _ in range(layers)
        )
        is_node = any(node.key == readout for node in nodes)
        self.head = _mlp(hidden if is_node else 2 * hidden * (len(nodes) if readout is None else 1), hidden, outputs)

    def forward(self, batch: Any) -> torch.Tensor:
        h: dict[str, torch.Tensor] = {}
        for node in self.nodes:
            owner = batch[node.batch]
            if node.encoder is None:
                h[node.key] = torch.ones((len(owner), self.hidden), device=owner.device)
            else:
                h[node.key] = self.encoders[node.encoder](batch[node.features])
        features = [
            () if edge.encoder is None else (self.encoders[edge.encoder](edge.rows(batch)),) for edge in self.edges
        ]
        for convs in self.convs:
            after = dict(h)
            for conv, edge, own in zip(convs, self.edges, features, strict=True):  # pyright: ignore[reportArgumentType]
                message = conv((h[edge.source], h[edge.target]), batch[edge.edge_index], *own)
                after[edge.target] = after[edge.target] + torch.relu(message)
            h = after
        if self.readout in h:
            return self.head(h[self.readout])
        for edge in self.edges:
            if edge.key == self.readout:
                first, last = batch[edge.edge_index]
                return self.head(torch.cat([h[edge.source][first], h[edge.target][last]], dim=1))
        pooled: list[torch.Tensor] = []
        for node in self.nodes:
            # `size` keeps the output's shape fixed; the sum is scaled to the magnitude of the mean.
            rows, owner, slots = h[node.key], batch[node.batch], batch.num_graphs
            pooled += [global_mean_pool(rows, owner, slots), global_add_pool(rows, owner, slots) / 32]
        return self.head(torch.cat(pooled, dim=1))


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


class LengthEncoder(torch.nn.Module):
    """Lengths [rows, 1] to [rows, hidden], by how near they are to each of 16 lengths up to the largest."""

    centres: torch.Tensor

    def __init__(self, largest: float, hidden: int) -> None:
        super().__init__()
        self.register_buffer("centres", torch.linspace(0, largest, 16))
        self.width = max(largest, 1e-6) / 15
        self.linear = torch.nn.Linear(16, hidden)

    def forward(self, lengths: torch.Tensor) -> torch.Tensor:
        near = torch.exp(-(((lengths - self.centres) / self.width) ** 2))
        return self.linear(near.to(self.linear.weight.dtype))


def _conv(with_features: bool, hidden: int) -> torch.nn.Module:
    conv: Any = GINEConv if with_features else GINConv
    return conv(_mlp(hidden, hidden, hidden))


def _mlp(width: int, hidden: int, outputs: int) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(width, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, outputs))
