"""Take and step as one: captured (with a stand-in for CUDA graphs) and compiled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cuda_double
import pytest
import torch
from small_packs import HETERO_LIMITS, HETERO_SCHEMA, write_packs

from packer import PackDataset, device_loader, masked_mean, torch_loader
from packer.reading.on_device import WARM_UP, Captured

PACKS = 43
OPTIONS: dict[str, Any] = {"batch_size": 4, "seed": 3, "lanes": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "packs"
    write_packs(folder, PACKS)
    return folder


def on_cpu(folder: Path, blocks: int = 0, **options: Any) -> Any:
    """A device_loader, with a ring of so many blocks; 0 for all."""
    found = device_loader(PackDataset(folder), "cpu", **{**OPTIONS, **options})
    if not blocks:
        return found
    memory = found.ring.form.size(blocks).bytes
    return device_loader(PackDataset(folder), "cpu", memory=memory, **{**OPTIONS, **options})


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = torch.nn.Linear(2, 8), torch.nn.Linear(8, 1)

    def forward(self, batch: Any) -> torch.Tensor:
        h = self.first(batch.x.float() / 100).relu()
        h = h + torch.zeros_like(h).index_add(0, batch.edge_index[1], h[batch.edge_index[0]])
        pooled = h.new_zeros(batch.num_graphs, h.shape[1]).index_add(0, batch.batch, h)
        return masked_mean((self.last(pooled).reshape(-1) - batch.y / 100).square(), batch.graphs_mask)


class Training:
    """A model from the same seed, and a step of it."""

    def __init__(self) -> None:
        self.model = Model()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)

    def __call__(self, batch: Any) -> torch.Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.model(batch)
        loss.backward()
        self.optimizer.step()
        return loss.detach()


def losses(loader: Any, epochs: int = 3) -> list[float]:
    training = Training()
    return [float(training(batch)) for _ in range(epochs) for batch in loader]


@pytest.mark.parametrize("redraw", [True, False])
def test_on_a_cpu_steps_are_called_one_by_one(folder: Path, redraw: bool) -> None:
    captured = on_cpu(folder, redraw=redraw).captured(Training())
    found = [float(loss) for _ in range(3) for loss in captured]
    assert len(captured) == 11 and captured.num_steps == 33
    assert found == losses(torch_loader(PackDataset(folder), redraw=redraw, **OPTIONS))


@pytest.mark.parametrize("redraw", [True, False])
@pytest.mark.parametrize("blocks", [0, 5])
def test_one_graph_of_take_and_step(folder: Path, blocks: int, redraw: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay sees new numbers of packs, and what has come into the ring: nothing else of Python runs."""
    expected = losses(torch_loader(PackDataset(folder), redraw=redraw, **OPTIONS))
    cuda_double.pretend(monkeypatch)
    calls: list[int] = []
    training = Training()

    def step(batch: Any) -> torch.Tensor:
        calls.append(1)
        return training(batch)

    loader = on_cpu(folder, blocks, redraw=redraw)
    captured = Captured(loader, step)
    monkeypatch.setattr(captured, "_on_cuda", True)
    capture = captured._capture  # pyright: ignore[reportPrivateUsage]

    def captured_only() -> Any:
        """The stand-in also does what it captures, which a GPU does not."""
        before = [parameter.detach().clone() for parameter in training.model.parameters()]
        graph = capture()
        with torch.no_grad():
            for parameter, old in zip(training.model.parameters(), before, strict=True):
                parameter.copy_(old)
        return graph

    monkeypatch.setattr(captured, "_capture", captured_only)
    found = [float(loss) for _ in range(3) for loss in captured]
    assert len(calls) == WARM_UP + 1
    assert found == pytest.approx(expected, rel=1e-5) and len(set(found)) == 33


def test_a_captured_loop_resumes(folder: Path) -> None:
    def named(batch: Any) -> torch.Tensor:
        return batch.y

    loader, there = on_cpu(folder), on_cpu(folder)
    running = iter(loader.captured(named))
    for _ in range(5):
        next(running)
    assert loader.state_dict()["packs_seen"] == 20
    there.load_state_dict(loader.state_dict())
    pairs = list(zip(there.captured(named), running, strict=True))
    assert len(pairs) == 6 and all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("hetero", [False, True])
@pytest.mark.parametrize("redraw", [True, False])
def test_take_and_model_compile_as_one_graph_once(tmp_path: Path, redraw: bool, hetero: bool) -> None:
    kinds = {"schema": HETERO_SCHEMA, "limits": HETERO_LIMITS} if hetero else {}
    write_packs(tmp_path / "packs", PACKS, **kinds)
    loader = on_cpu(tmp_path / "packs", 5, redraw=redraw)
    compiled: list[int] = []
    torch._dynamo.reset()

    def backend(graph: Any, inputs: Any) -> Any:
        # The default partitioner: the other one imports all of Inductor.
        from torch._dynamo.backends.debugging import aot_eager_default_partitioner

        compiled.append(1)
        return aot_eager_default_partitioner(graph, inputs)

    def loss(batch: Any) -> torch.Tensor:
        if not hetero:
            return model(batch)
        authors = batch["author/x"].sum(1) + batch.batch_dict["author"]
        return torch.zeros(batch.num_graphs).index_add(0, batch["author/batch"], authors).sum()

    model = Model()
    whole = torch.compile(lambda numbers: loss(loader.take(numbers)), fullgraph=True, dynamic=False, backend=backend)
    theirs = torch_loader(PackDataset(tmp_path / "packs"), redraw=redraw, **OPTIONS)
    for _ in range(3):
        found = [float(whole(numbers).detach()) for numbers in loader.numbers()]
        assert found == pytest.approx([float(loss(batch).detach()) for batch in theirs], rel=1e-5)
    assert compiled == [1]
