"""Training on a CUDA GPU: the losses of the CPU, one compilation, nothing that waits for the device."""

import re

import pytest
from labelled import authors_and_papers, partly_labelled, rings_and_paths
from paths import ROOT

torch = pytest.importorskip("torch")
pytest.importorskip("torch_geometric")
if not torch.cuda.is_available():
    pytest.skip("no CUDA GPU", allow_module_level=True)


from packer import PackDataset, PackLimits, torch_loader  # noqa: E402
from pipelines import build  # noqa: E402
from pipelines.entry import main  # noqa: E402
from pipelines.training.train import TrainingStep, build_model, find_task, train  # noqa: E402

# Compilers remark on what they might do faster, and on their own warm-up.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    graphs = rings_and_paths(
        degree=lambda g: torch.bincount(g.edge_index[0], minlength=g.num_nodes),
        size=lambda g: torch.tensor([[float(g.num_nodes), float(g.num_edges)]]),
    )
    out = tmp_path_factory.mktemp("packs") / "packs"
    shares = {"train": 0.8, "valid": 0.2}
    build(graphs, out, PackLimits(40, 80, 8), algorithm="stream", workers=1, splits=shares)
    return out


@pytest.mark.parametrize(("target", "batch_size"), [("y", 1), ("size", 4), ("degree", 1)])
def test_the_losses_are_those_of_the_cpu(folder, target, batch_size):
    options = {"target": target, "batch_size": batch_size, "epochs": 4, "hidden": 16, "lr": 0.01}
    here, there = train(folder, device="cpu", **options), train(folder, device="cuda", **options)
    assert there.device == "cuda" and there.note == ""
    assert there.losses == pytest.approx(here.losses, rel=1e-3)
    assert list(there.metrics) == ["train", "valid"]
    for split, found in here.metrics.items():
        assert there.metrics[split]["evaluated"] == found["evaluated"]
        assert there.metrics[split] == pytest.approx(found, rel=0.05, abs=0.02)


def test_missing_targets_and_types(tmp_path):
    build(partly_labelled(), tmp_path / "partly", PackLimits(24, 24, 5), algorithm="stream", workers=1)
    build(
        authors_and_papers(),
        tmp_path / "hetero",
        PackLimits({"paper": 24, "author": 16}, 16, 8),
        algorithm="stream",
        workers=1,
    )
    for name, target in (("partly", "two"), ("partly", "y"), ("hetero", "y"), ("hetero", "paper/written")):
        options = {"target": target, "epochs": 3, "hidden": 16, "lr": 0.01}
        here, there = (train(tmp_path / name, device=device, **options) for device in ("cpu", "cuda"))
        assert there.losses == pytest.approx(here.losses, rel=1e-3)


def test_one_graph_that_never_waits(folder):
    """CUDA graphs of a step without a graph break, compiled once for all epochs; no step waits for the device."""
    packs = PackDataset(folder / "train")
    task = find_task(packs, "size")
    step = TrainingStep(build_model(packs, task, 16, 2), task).cuda()
    compiled = torch.compile(step, dynamic=False, fullgraph=True, mode="reduce-overhead")
    optimizer = torch.optim.Adam(step.parameters(), fused=True)
    loader = torch_loader(packs, batch_size=2, pin_memory=True)
    try:
        for epoch in range(4):
            if epoch == 2:
                torch.cuda.set_sync_debug_mode("error")
            for batch in loader:
                assert batch.x.is_pinned()
                optimizer.zero_grad(set_to_none=True)
                loss, _ = compiled(batch.to("cuda", non_blocking=True))
                loss.backward()
                optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    counters = torch._dynamo.utils.counters
    assert counters["stats"]["unique_graphs"] == 1
    assert counters["inductor"]["cudagraph_skips"] == 0


def test_the_command(folder, capsys):
    assert main(["train", str(folder), "--device", "cuda", "--epochs", "2", "--hidden", "16"]) == 0
    assert "classification" in (shown := capsys.readouterr().out) and "on cuda" in shown


def test_the_page_about_training_captures_a_step(tmp_path, monkeypatch):
    """The block that is not run elsewhere, with the packs and the model of the block before it."""
    from torch_geometric.data import Data

    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "training.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    model = next(block for block in blocks if "class SumModel" in block)
    on_device = next(block for block in blocks if "import device_loader" in block)
    capture = next(block for block in blocks if "CUDAGraph" in block)
    ring = torch.tensor([[0, 1, 2], [1, 2, 0]])
    graphs = [Data(x=torch.rand(3, 9), edge_index=ring, y=torch.rand(1)) for _ in range(40)]
    build(graphs, "packs", PackLimits(12, 12, 4), algorithm="stream", workers=1)
    names = {}
    exec(re.sub(r"\nbuild\(.*?\n", "\n", model), names)
    for block in (on_device, capture):
        exec(block, names)
        assert torch.isfinite(names["loss"])
