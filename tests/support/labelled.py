"""Graphs with targets that a model can learn: of every graph, of some, of nodes."""

import torch
from torch_geometric.data import Data, HeteroData


def rings_and_paths(count=120, **extra):
    """Half of the graphs are rings, half are paths: a class that message passing can see."""
    graphs = []
    for i in range(count):
        nodes = 4 + i % 5
        path = torch.stack([torch.arange(nodes - 1), torch.arange(1, nodes)])
        ring = torch.tensor([[nodes - 1], [0]])
        edges = torch.cat([path, ring], dim=1) if i % 2 else path
        graph = Data(
            x=torch.ones(nodes, 3), edge_index=torch.cat([edges, edges.flip(0)], dim=1), y=torch.tensor([i % 2])
        )
        for name, make in extra.items():
            graph[name] = make(graph)
        graphs.append(graph)
    return graphs


def partly_labelled():
    """30 rings of 3 to 6 nodes: y of every other graph is its number of nodes; the rest lack it, or have NaN."""
    graphs = []
    for i in range(30):
        nodes = torch.arange(3 + i % 4)
        graph = Data(x=torch.ones(len(nodes), 1), edge_index=torch.stack([nodes, nodes.roll(1)]))
        graph.two = torch.tensor([[float(len(nodes)), float("nan")], [float("nan"), 7.0 + i % 3]][i % 2])[None]
        if i % 2:
            graph.y, graph.kind = torch.tensor([float(len(nodes))]), torch.tensor([i % 3])
            graph.half, graph.edge_half = nodes * 0.5, nodes * 0.25
        graphs.append(graph)
    return graphs


def authors_and_papers():
    """`y` is the number of papers; some graphs have no author; a paper's class is whether it has an author."""
    graphs = []
    for i in range(60):
        graph, papers = HeteroData(), 1 + i % 5
        graph["paper"].x = torch.ones(papers, 2)
        written = torch.zeros(papers, dtype=torch.long)
        if i % 3:
            authors = 1 + i % 2
            graph["author"].num_nodes, graph["author"].z = authors, torch.arange(authors)
            ends = torch.arange(min(authors, papers))
            graph["author", "writes", "paper"].edge_index = torch.stack([ends, ends])
            graph["author", "writes", "paper"].edge_attr = torch.ones(len(ends), 1)
            written[ends] = 1
        graph["paper"].written = written
        graph.y = torch.tensor([float(papers)])
        graphs.append(graph)
    return graphs
