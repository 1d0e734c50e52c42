"""The loop of a GPU, on the CPU: blocks on the device, batches made inside the step, losses of the loop of the host."""

import cuda_double
import pytest
from labelled import authors_and_papers, partly_labelled, rings_and_paths

torch = pytest.importorskip("torch")
pytest.importorskip("torch_geometric")

from packer import PackDataset, PackLimits  # noqa: E402
from packer.reading import on_device, ring  # noqa: E402
from pipelines import build  # noqa: E402
from pipelines.entry import main  # noqa: E402
from pipelines.training import loop  # noqa: E402
from pipelines.training.loop import train_on  # noqa: E402
from pipelines.training.train import build_model, find_task  # noqa: E402

HERE = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packs")
    graphs = rings_and_paths(
        degree=lambda g: torch.bincount(g.edge_index[0], minlength=g.num_nodes),
        size=lambda g: torch.tensor([[float(g.num_nodes), float(g.num_edges)]]),
    )
    build(graphs, folder / "plain", PackLimits(40, 80, 8), workers=1)
    limits = PackLimits({"paper": 24, "author": 16}, 16, 8)
    build(authors_and_papers(), folder / "hetero", limits, workers=1)
    pads = {"y": 1e6, "kind": -100, "half": float("nan"), "edge_half": -1e6}
    levels = {"edge_half": "edge"}
    build(partly_labelled(), folder / "partly", PackLimits(24, 24, 5), workers=1, pad_values=pads, levels=levels)
    return folder


def trained(folder, target, *, epochs=3, compile=None, batch_size=1, blocks_there=None, model=None):
    """Losses and weights, and what was noted. model: to train, another from the same seed each time otherwise."""
    packs, losses = PackDataset(folder), []
    task = find_task(packs, target)
    torch.manual_seed(0)
    model = build_model(packs, task, 16, 2) if model is None else model
    note = train_on(
        HERE,
        model,
        packs,
        task,
        epochs=epochs,
        lr=0.01,
        batch_size=batch_size,
        seed=3,
        compile=compile,
        on_epoch=lambda _, loss: losses.append(loss),
        blocks_there=blocks_there,
    )
    return losses, torch.cat([weight.detach().reshape(-1) for weight in model.parameters()]), note


CASES = [
    ("plain", "y", 1),
    ("plain", "size", 4),
    ("plain", "degree", 3),
    ("hetero", "y", 2),
    ("hetero", "paper/written", 3),
    ("partly", "two", 2),  # of which one may be NaN
    ("partly", "y", 1),
    ("partly", "kind", 4),
    ("partly", "half", 2),
    ("partly", "edge_half", 2),
]


@pytest.mark.parametrize(("name", "target", "batch_size"), CASES)
def test_blocks_on_the_device_change_no_bit(folder, name, target, batch_size):
    here = trained(folder / name, target, batch_size=batch_size)
    there = trained(folder / name, target, batch_size=batch_size, blocks_there=True)
    assert here[0] == there[0] and len(set(here[0])) == 3
    assert torch.equal(here[1], there[1])
    assert here[2] == there[2] == ""


@pytest.mark.parametrize(("name", "target"), [("plain", "size"), ("hetero", "paper/written"), ("partly", "two")])
def test_a_compiled_step_makes_its_batch(folder, name, target, monkeypatch):
    """Compiled once, as one graph, for all epochs."""
    eager, _, _ = trained(folder / name, target, batch_size=2)
    compiler, options = torch.compile, []

    def traced(step, **given):
        options.append(given)
        return compiler(step, dynamic=given["dynamic"], fullgraph=True, backend="eager")

    monkeypatch.setattr(torch, "compile", traced)
    for blocks_there in (False, True):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        found, _, _ = trained(folder / name, target, batch_size=2, compile=True, blocks_there=blocks_there)
        assert found == eager
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert options == [{"dynamic": False, "mode": None}] * 2


@pytest.mark.slow
def test_what_the_compiler_makes_of_it(folder):
    torch._dynamo.reset()
    here = trained(folder / "hetero", "y", epochs=2, batch_size=2, compile=True)
    there = trained(folder / "hetero", "y", epochs=2, batch_size=2, compile=True, blocks_there=True)
    assert there[0] == pytest.approx(here[0], rel=1e-5)


def test_without_room_for_blocks_packs_come_from_the_host(folder, monkeypatch):
    expected = trained(folder / "plain", "y")
    monkeypatch.setattr(ring, "free_memory", lambda device: 1000)
    losses, weights, note = trained(folder / "plain", "y", blocks_there=True)
    assert losses == expected[0] and torch.equal(weights, expected[1])
    assert note.startswith("blocks of packs are not kept on cpu, and steps wait for the host: the ring does not fit")


def test_the_command_says_so(folder, monkeypatch, capsys):
    monkeypatch.setattr(ring, "free_memory", lambda device: 1000)
    real = loop.train_on
    monkeypatch.setattr(
        "pipelines.training.train.train_on", lambda *given, **named: real(*given, **named, blocks_there=True)
    )
    assert main(["train", str(folder / "plain"), "--device", "cpu", "--epochs", "1", "--hidden", "8"]) == 0
    shown = capsys.readouterr()
    assert "steps wait for the host: the ring does not fit" in shown.err and "on cpu" in shown.out


class Descent(torch.optim.Optimizer):
    """No more than a captured graph can do on a CPU, where Adam reads numbers back; its rate is a tensor."""

    def __init__(self, parameters, lr, **options):
        super().__init__(parameters, {"lr": torch.tensor(lr)})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for weight in group["params"]:
                weight -= weight.grad * group["lr"]


class Replayed(on_device.Captured):
    """Captured by the stand-in, which also does what it captures, as no GPU does: that is undone."""

    def __init__(self, *given, **named):
        super().__init__(*given, **named)
        self._on_cuda = True

    def _capture(self):
        whole = self._step
        tensors = [*whole.step.parameters(), whole.total, whole.count]
        before = [tensor.detach().clone() for tensor in tensors]
        graph = super()._capture()
        with torch.no_grad():
            for tensor, old in zip(tensors, before, strict=True):
                tensor.copy_(old)
        return graph


def test_a_captured_step_is_the_same_step(folder, monkeypatch):
    """Numbers of packs and the rate, which falls to 0, reach every replay; sums of losses come back from it."""
    monkeypatch.setattr(torch.optim, "Adam", Descent)
    expected, weights, _ = trained(folder / "plain", "size", blocks_there=True)
    cuda_double.pretend(monkeypatch)
    monkeypatch.setattr(torch.optim, "Adam", Descent)
    monkeypatch.setattr(on_device, "Captured", Replayed)
    losses, found, _ = trained(folder / "plain", "size", blocks_there=True)
    assert losses == pytest.approx(expected, rel=1e-5) and losses[-1] < losses[0]
    assert torch.allclose(found, weights, rtol=1e-3, atol=1e-6)
