"""Training on packs: losses fall, metrics count real rows, several processes share one loss."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_geometric")

from torch_geometric.data import Data  # noqa: E402

from packer import PackLimits  # noqa: E402
from packer.errors import SourceError  # noqa: E402
from pipelines import build  # noqa: E402
from pipelines.train import Task, loss_of, open_splits, train  # noqa: E402


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


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    graphs = rings_and_paths(
        degree=lambda g: torch.bincount(g.edge_index[0], minlength=g.num_nodes),
        size=lambda g: torch.tensor([[float(g.num_nodes), float(g.num_edges)]]),
    )
    out = tmp_path_factory.mktemp("packs") / "packs"
    build(graphs, out, PackLimits(40, 80, 8), workers=1)
    return out


def test_classification_of_graphs(folder, tmp_path):
    report = train(folder, epochs=60, hidden=32, lr=0.01, batch_size=4, plot=tmp_path / "loss.png")
    assert report.losses[-1] < report.losses[0] / 2
    assert report.metrics["train"]["accuracy"] > 0.95
    assert report.metrics["train"]["accuracy_of_commonest_class"] == 0.5
    assert report.metrics["train"]["evaluated"] == 120
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_regression_of_several_targets(folder):
    report = train(folder, target="size", epochs=20, hidden=16, lr=0.01, seed=2)
    assert report.task.outputs == 2
    # 4 to 8 nodes, evenly: the mean of 6 is 1.2 off on average; edges count twice the nodes, less 2 for a path.
    assert report.task.mean[0] == pytest.approx(6)
    assert report.metrics["train"]["mae"] < report.metrics["train"]["mae_of_training_mean"] / 2


def test_classification_of_nodes(folder):
    report = train(folder, target="degree", epochs=30, hidden=16, lr=0.01)
    assert report.task.level == "node"
    assert report.metrics["train"]["evaluated"] == sum(4 + i % 5 for i in range(120))
    assert report.metrics["train"]["accuracy"] > 0.95


def test_the_same_seed_trains_the_same_model(folder):
    first, second = (train(folder, epochs=2, hidden=8, seed=4).losses for _ in range(2))
    assert first == second


def test_what_cannot_be_trained_on(folder, tmp_path):
    with pytest.raises(SourceError, match=r"no node-level or graph-level field 'z' to learn; there are: .*y"):
        train(folder, target="z")
    with pytest.raises(SourceError, match="holds no packs"):
        open_splits(tmp_path)


def _rank_gradient(rank, world, file, results):
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=world)
    weight = torch.ones((), requires_grad=True)
    # Rank 0 has three real graphs, rank 1 one: together the mean of four.
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])[rank]
    batch = {"y": torch.tensor([[1.0, 2.0, 3.0, 9.0], [6.0, 9.0, 9.0, 9.0]])[rank], "graphs_mask": mask}
    loss_of(weight * torch.zeros(4, 1) + weight, batch, Task("y", "graph", "regression", 1, (0.0,), (1.0,))).backward()
    gradient = weight.grad.clone()
    torch.distributed.all_reduce(gradient)
    results[rank] = (gradient / world).item()
    torch.distributed.destroy_process_group()


def test_ranks_with_unequal_graphs_share_one_mean(tmp_path):
    """Averaged over ranks, the gradient is that of the mean over all real graphs."""
    results = torch.zeros(2).share_memory_()
    torch.multiprocessing.spawn(_rank_gradient, (2, str(tmp_path / "store"), results), nprocs=2)
    # d/dw mean((w - y)^2) at w = 1 over y = 1, 2, 3, 6: 2 * (0 - 1 - 2 - 5) / 4.
    assert results.tolist() == [-4.0, -4.0]
