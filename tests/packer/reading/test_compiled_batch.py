"""What a PackBatch is inside torch.compile(fullgraph=True): each way to read it, given or made there by take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_packs import FOLLOWED, HETERO_LIMITS, HETERO_SCHEMA, write_packs

from packer import PackDataset, device_loader, masked_mean, torch_loader

OPTIONS: dict[str, Any] = {"batch_size": 4, "seed": 3, "lanes": 2}
AUTHOR, PAPER, WRITES = "author", "paper", ("author", "writes", "paper")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "packs"
    write_packs(folder, 23, schema=HETERO_SCHEMA, limits=HETERO_LIMITS)
    return folder


def of_all(tensors: Any) -> torch.Tensor:
    return torch.stack([tensor.double().sum() for tensor in tensors])


def changed(batch: Any) -> torch.Tensor:
    batch["twice"] = batch["author/x"] * 2
    batch.thrice = batch.twice * 1.5
    batch["paper"].x = batch["paper"].x + 1
    batch["paper"].own = batch["paper/x"] * 2
    return of_all([batch.twice, batch["thrice"], batch.x_dict["paper"], batch["paper/own"]])


WAYS: dict[str, Any] = {
    "flat": lambda batch: of_all([batch["author/x"], batch.y, batch["graphs_mask"]]),
    "x of a type": lambda batch: of_all([batch[AUTHOR].x, batch[PAPER]["x"], batch["paper"].mask]),
    "batch of a type": lambda batch: of_all([batch["paper"].batch, batch["paper"].ptr]),
    "edges of a type": lambda batch: of_all([batch[WRITES].edge_index, batch["author__writes__paper"].edge_index]),
    "x_dict": lambda batch: of_all([batch.x_dict[AUTHOR], batch.x_dict[PAPER]]),
    "edge_index_dict": lambda batch: of_all(batch.edge_index_dict[WRITES]),
    "batch_dict": lambda batch: of_all(batch.batch_dict.values()),
    "numbers": lambda batch: batch.y.sum() * torch.tensor([batch.num_graphs, batch.num_nodes, batch.num_edges]),
    "numbers of a type": lambda batch: batch.y.sum() + batch["author"].num_nodes * batch[WRITES].num_edges,
    "in": lambda batch: batch.y.sum() + torch.tensor(["y" in batch, "z" in batch, "x" in batch["paper"]]),
    "hasattr": lambda batch: batch.y.sum() + torch.tensor([hasattr(batch, "z"), hasattr(batch["paper"], "z")]),
    "getattr": lambda batch: batch.y.sum() + (1 if getattr(batch["author"], "z", None) is None else 2),
    "keys": lambda batch: of_all(batch[key] for key in batch.keys()),  # noqa: SIM118
    "keys of a type": lambda batch: of_all(batch["paper"][key] for key in batch["paper"].keys()),  # noqa: SIM118
    "all": lambda batch: of_all(tensor for _, tensor in batch),
    "to_dict": lambda batch: of_all(batch.to_dict().values()),
    "metadata": lambda batch: of_all([batch[kind].x for kind in batch.metadata()[0]]),
    "types": lambda batch: of_all(batch[kind].edge_index for kind in batch.edge_types),
    "followed": lambda batch: of_all([batch["author/x_batch"], batch["author"].x_ptr, batch.y_batch]),
    "changed": changed,
}


@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_read_a_batch(folder: Path, way: str) -> None:
    check_reading(folder, WAYS[way], taken=False)


def test_all_ways_to_read_a_batch_that_was_taken(folder: Path) -> None:
    """In one graph: to trace `take` takes the longest."""
    assert list(WAYS)[-1] == "changed"  # the others are to see the batch as it was
    check_reading(folder, lambda batch: torch.cat([read(batch).double().reshape(-1) for read in WAYS.values()]), True)


def check_reading(folder: Path, read: Any, taken: bool) -> None:
    dataset = PackDataset(folder, follow_batch=FOLLOWED["hetero"])
    loader, theirs = device_loader(dataset, "cpu", **OPTIONS), torch_loader(dataset, **OPTIONS)
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    compiled: Any = torch.compile(
        lambda given: read(loader.take(given) if taken else given), fullgraph=True, dynamic=False, backend="eager"
    )
    found = [compiled(given).clone() for given in (loader.numbers() if taken else loader)]
    for one, batch in zip(found, theirs, strict=True):
        assert torch.equal(one, read(batch))
    assert counters["stats"]["unique_graphs"] == 1


class Model(torch.nn.Module):
    """From authors to their papers to graphs, by the names of PyG."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.author, self.paper, self.last = torch.nn.Linear(2, 8), torch.nn.Linear(3, 8), torch.nn.Linear(8, 1)

    def forward(self, batch: Any) -> torch.Tensor:
        author = self.author(batch["author"].x).relu()
        source, target = batch["author", "writes", "paper"].edge_index
        paper = self.paper(batch.x_dict["paper"]).relu().index_add(0, target, author[source])
        pooled = paper.new_zeros(batch.num_graphs, 8).index_add(0, batch["paper"].batch, paper)
        return masked_mean((self.last(pooled) - batch.y).square(), batch.graphs_mask)


@pytest.mark.parametrize("redraw", [True, False])
@pytest.mark.parametrize("blocks", [0, 4])
def test_a_model_of_types_compiles_with_take_once(folder: Path, blocks: int, redraw: bool) -> None:
    def on_cpu(memory: Any) -> Any:
        return device_loader(PackDataset(folder), "cpu", redraw=redraw, memory=memory, **OPTIONS)

    loader = on_cpu(None)
    loader = on_cpu(loader.ring.form.size(blocks).bytes) if blocks else loader
    model, compiled = Model(), []
    torch._dynamo.reset()

    def backend(graph: Any, inputs: Any) -> Any:
        # The default partitioner: the other one imports all of Inductor.
        from torch._dynamo.backends.debugging import aot_eager_default_partitioner

        compiled.append(1)
        return aot_eager_default_partitioner(graph, inputs)

    whole: Any = torch.compile(lambda numbers: model(loader.take(numbers)), fullgraph=True, backend=backend)
    theirs = torch_loader(PackDataset(folder), redraw=redraw, **OPTIONS)
    for _ in range(3):
        for numbers, batch in zip(loader.numbers(), theirs, strict=True):
            gradients: list[torch.Tensor] = []
            for loss in (whole(numbers), model(batch)):
                model.zero_grad()
                loss.backward()
                gradients.append(torch.cat([weight.grad.reshape(-1) for weight in model.parameters()]))  # pyright: ignore
            assert torch.allclose(*gradients, rtol=1e-4)
    assert compiled == [1]
