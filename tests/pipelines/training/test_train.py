"""Training on packs: losses fall, metrics count real rows, several processes share one loss."""

import sys

import pytest
from labelled import authors_and_papers, partly_labelled, rings_and_paths

torch = pytest.importorskip("torch")
pytest.importorskip("torch_geometric")

from torch_geometric.data import Data  # noqa: E402

from packer import PackDataset, PackLimits, torch_loader  # noqa: E402
from packer.errors import MissingExtraError, SourceError  # noqa: E402
from pipelines import build  # noqa: E402
from pipelines.training.train import Task, TrainingStep, build_model, find_task, loss_of, open_splits, train  # noqa: E402


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


def test_on_an_ipu(folder, monkeypatch):
    import poptorch_double

    monkeypatch.setitem(sys.modules, "poptorch", poptorch_double)
    options = {"target": "size", "epochs": 12, "hidden": 16, "lr": 0.01, "seed": 2}
    here, there = train(folder, **options), train(folder, device="ipu", **options)
    assert there.device == "ipu"
    # The same packs in the same order; only the rate falls in steps of eight packs.
    assert there.losses[0] == pytest.approx(here.losses[0], rel=0.2)
    assert there.metrics["train"]["evaluated"] == 120
    assert there.metrics["train"]["mae"] < there.metrics["train"]["mae_of_training_mean"] / 2
    assert train(folder, device="ipu", batch_size=3, **options).losses[-1] < here.losses[0]


def test_an_ipu_needs_poptorch(folder):
    with pytest.raises(MissingExtraError, match="training on an IPU needs poptorch, which Graphcore ships"):
        train(folder, device="ipu")


@pytest.mark.parametrize(("device", "message"), [("tpu", "must be auto, cpu, cuda or ipu; got 'tpu'"), ("cuda", "GPU")])
def test_a_device_that_is_not_there(folder, device, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SourceError, match=message):
        train(folder, device=device)


def test_a_step_compiles_as_one_graph_and_once(folder):
    packs = PackDataset(folder)
    task = find_task(packs, "size")
    step = TrainingStep(build_model(packs, task, 8, 2), task)
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    compiled = torch.compile(step, fullgraph=True, dynamic=False, backend="eager")
    for batch in torch_loader(packs, batch_size=3):
        torch.testing.assert_close(compiled(batch), step(batch))
    assert counters["stats"]["unique_graphs"] == 1


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


@pytest.fixture(scope="module")
def partly(tmp_path_factory):
    out = tmp_path_factory.mktemp("partly") / "packs"
    # Padding that a model must never see as a target: no class, and far away.
    pads = {"y": 1e6, "kind": -100, "half": float("nan"), "edge_half": -1e6}
    build(partly_labelled(), out, PackLimits(24, 24, 5), workers=1, pad_values=pads, levels={"edge_half": "edge"})
    return out


def test_missing_targets_have_no_part(partly):
    """15 of 30 graphs are labelled, i = 1, 3, ...: of 4, 6, 4, 6, ... nodes, 8 graphs of 4 and 7 of 6."""
    report = train(partly, epochs=20, hidden=16, lr=0.01)
    assert report.task.mean[0] == pytest.approx((8 * 4 + 7 * 6) / 15)
    assert report.metrics["train"]["evaluated"] == 15
    assert report.losses[-1] < report.losses[0] < 5
    assert report.metrics["train"]["mae"] < 1
    assert train(partly, target="kind", epochs=1, hidden=8).metrics["train"]["evaluated"] == 15
    for target, level in (("half", "node"), ("edge_half", "edge")):
        found = train(partly, target=target, epochs=20, hidden=16, lr=0.01)
        assert (found.task.level, found.metrics["train"]["evaluated"]) == (level, 8 * 4 + 7 * 6)
        assert found.losses[-1] < found.losses[0] < 5


def test_one_of_two_targets_is_nan(partly):
    report = train(partly, target="two", epochs=20, hidden=16, lr=0.01)
    # i = 0, 2, ... have 3 or 5 nodes, 8 graphs of 3 and 7 of 5; i = 1, 3, ... have 7 + 0, 1 or 2, five of each.
    assert report.task.mean == pytest.approx(((8 * 3 + 7 * 5) / 15, 8))
    assert report.metrics["train"]["evaluated"] == 30
    assert report.losses[-1] < report.losses[0] < 5


def test_the_loss_is_that_of_known_targets_alone(partly):
    packs = PackDataset(partly)
    task = find_task(packs, "y")
    model = build_model(packs, task, 8, 2)
    pack = packs[0]
    known = pack["y_present"]
    assert 0 < known.sum() < pack["graphs_mask"].sum()
    output = torch.linspace(-1, 1, len(known))[:, None].requires_grad_()
    loss = loss_of(output, pack, task)
    truth = (pack["y"][known] - task.mean[0]) / task.std[0]
    torch.testing.assert_close(loss, ((output[known, 0] - truth) ** 2).mean())
    loss.backward()
    assert output.grad[~known].eq(0).all() and output.grad[known].ne(0).all()
    assert model is not None


def test_heterogeneous_graphs(tmp_path):
    """Types without features, graphs without a type, and a node type that no edge leads to."""
    out = tmp_path / "packs"
    build(authors_and_papers(), out, PackLimits({"paper": 24, "author": 16}, 16, 8), workers=1)
    report = train(out, epochs=40, hidden=16, lr=0.01)
    assert report.task.mean[0] == pytest.approx(3)  # 1 to 5, evenly
    assert report.metrics["train"]["mae"] < report.metrics["train"]["mae_of_training_mean"] / 2
    nodes = train(out, target="paper/written", epochs=40, hidden=16, lr=0.01)
    assert (nodes.task.level, nodes.task.type, nodes.metrics["train"]["evaluated"]) == ("node", "paper", 180)
    assert nodes.metrics["train"]["accuracy"] > 0.95 > nodes.metrics["train"]["accuracy_of_commonest_class"]
    assert train(out, target="written", epochs=1, hidden=16).task == nodes.task  # the only one of that name
    with pytest.raises(SourceError, match=r"no field 'x_' to learn; there are: .*paper/written"):
        train(out, target="x_")


def test_a_name_of_two_types_is_no_target(tmp_path):
    graphs = authors_and_papers()
    for graph in graphs:
        if "author" in graph.node_types:
            graph["author"].written = graph["author"].z
    build(graphs, tmp_path / "packs", PackLimits(24, 24, 8), workers=1)
    with pytest.raises(SourceError, match="'written' may be paper/written or author/written: name one of them"):
        train(tmp_path / "packs", target="written")


def test_graphs_without_edges_can_be_trained_on(tmp_path):
    graphs = [Data(x=torch.ones(n, 1), y=float(n)) for n in (1, 2, 3)]
    build(graphs, tmp_path / "packs", PackLimits(12, 9, 4), workers=1)
    assert train(tmp_path / "packs", epochs=2, hidden=8).metrics["train"]["evaluated"] == 3


def test_what_cannot_be_trained_on(folder, tmp_path):
    build(
        [Data(x=torch.ones(2, 1), edge_index=torch.zeros(2, 1).long(), y=torch.tensor([float("nan")]))] * 2,
        tmp_path / "nan",
        PackLimits(9, 9, 3),
        workers=1,
    )
    graphs = [Data(x=torch.ones(2, 1), one=torch.tensor([-1]), two=torch.tensor([[0, 1]]))] * 2
    build(graphs, tmp_path / "classes", PackLimits(9, 9, 3), workers=1)
    with pytest.raises(SourceError, match="'one' is whole numbers, as low as -1: classes are one number each, from 0"):
        train(tmp_path / "classes", target="one")
    with pytest.raises(SourceError, match=r"'two' is whole numbers, 2 numbers a graph: .*floating for a regression"):
        train(tmp_path / "classes", target="two")
    with pytest.raises(SourceError, match="'y' is known of no graph: there is nothing to learn"):
        train(tmp_path / "nan")
    tmp_path = tmp_path / "empty"
    tmp_path.mkdir()
    with pytest.raises(SourceError, match=r"no field 'z' to learn; there are: .*y.*\. Name one by target"):
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


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_ranks_with_unequal_graphs_share_one_mean(tmp_path):
    """Averaged over ranks, the gradient is that of the mean over all real graphs."""
    results = torch.zeros(2).share_memory_()
    given = (2, str(tmp_path / "store"), results)
    torch.multiprocessing.start_processes(_rank_gradient, given, nprocs=2, start_method="fork")
    # d/dw mean((w - y)^2) at w = 1 over y = 1, 2, 3, 6: 2 * (0 - 1 - 2 - 5) / 4.
    assert results.tolist() == [-4.0, -4.0]


def test_energies_of_molecules_are_learned(tmp_path):
    """From atomic numbers and edge lengths, which follow the images of periodic graphs and not padding."""
    pytest.importorskip("matscipy")
    build("sample:g2", tmp_path / "packs", workers=1, algorithm="histogram")
    report = train(tmp_path / "packs", target="energy", epochs=20, hidden=32, lr=5e-3)
    assert report.metrics["train"]["evaluated"] == 86
    assert report.metrics["train"]["mae"] < report.metrics["train"]["mae_of_training_mean"] / 2
    packs = PackDataset(tmp_path / "packs")
    model = build_model(packs, find_task(packs, "energy"), 8, 2)
    (edges,) = model.edges
    batch = next(iter(torch_loader(packs, shuffle=False)))
    before = edges.rows(batch)
    assert before.shape == (batch.num_edges, 1) and 0 < before[batch.edges_mask].max() < 5
    source, target = batch.edge_index
    batch.pos[target[0]] += 9 * (torch.arange(3) == 0)
    batch.shifts[:] = torch.where((target == target[0])[:, None], torch.tensor([-9.0, 0, 0]), 0.0)
    batch.shifts[source == target[0]] = torch.tensor([9.0, 0, 0])
    assert torch.allclose(edges.rows(batch), before, atol=1e-5), "an atom moved by a cell, and its images"
