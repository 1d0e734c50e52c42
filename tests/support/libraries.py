"""Heterogeneous graphs of authors and papers."""

from __future__ import annotations

import torch
from torch_geometric.data import HeteroData

WRITES, CITES = ("author", "writes", "paper"), ("paper", "cites", "paper")
BACK = ("paper", "written_by", "author")


def library(number: int, generator: torch.Generator) -> HeteroData:
    """Some authors and papers; every third graph has no author, every fourth has no citation."""

    def whole(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    found = HeteroData()
    papers = whole(1, 7)
    found["paper"].x = torch.randn(papers, 3, generator=generator)
    if number % 3:
        authors, edges = whole(1, 6), whole(1, 9)
        found["author"].x = torch.randn(authors, 2, generator=generator)
        ends = [torch.randint(0, size, (edges,), generator=generator) for size in (authors, papers)]
        found[WRITES].edge_index = torch.stack(ends)
        found[BACK].edge_index = torch.stack(ends[::-1])
    if number % 4:
        edges = whole(1, 9)
        found[CITES].edge_index = torch.randint(0, papers, (2, edges), generator=generator)
    found.y = torch.randn(1, generator=generator)
    found.name = f"library {number}"
    return found


def libraries(count: int) -> list[HeteroData]:
    generator = torch.Generator().manual_seed(7)
    return [library(number, generator) for number in range(1, count + 1)]
