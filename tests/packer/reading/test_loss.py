"""The loss: a mean over real rows, and the mark that PopTorch trains on. poptorch is a stand-in."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import poptorch_double as double
import pytest
import torch
from poptorch_double import Options
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss
from torch_geometric.data import Data

from packer import PackDataset, PackLimits, ipu_loss, masked_mean, torch_loader
from packer.errors import LossError
from pipelines import build

MASK = torch.tensor([True, True, False])


@pytest.fixture(autouse=True)
def poptorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "poptorch", double)


# masked_mean


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_mean_has_the_dtype_of_the_loss(dtype: torch.dtype) -> None:
    # (1 + 3) / 2, whatever the third row holds
    mean = masked_mean(torch.tensor([1, 3, float("nan")], dtype=dtype), MASK)
    assert mean == 2 and mean.dtype == dtype and mean.shape == ()


def test_whole_numbers_and_bools_have_a_mean_too() -> None:
    """Cut back to their own dtype, an accuracy would be 0 or 1."""
    right = masked_mean(torch.tensor([True, False, True]), MASK)
    assert right == 0.5 and right.dtype == torch.float32
    assert masked_mean(torch.tensor([1, 2, 9]), MASK) == 1.5
    assert masked_mean(torch.tensor([1, 2, 9], dtype=torch.uint8), MASK) == 1.5


def test_several_targets_of_a_graph() -> None:
    loss = torch.tensor([[1.0, 2.0], [3.0, float("inf")], [9.0, 9.0]])
    known = torch.tensor([[True, True], [True, False], [False, False]])
    assert masked_mean(loss, known) == 2  # (1 + 2 + 3) / 3
    assert masked_mean(torch.ones(3, 2, 4), MASK) == 1
    assert masked_mean(torch.ones(3, 2), MASK[:, None]) == 1
    assert masked_mean(loss, torch.zeros_like(known)) == 0


def test_a_sum_over_a_number_of_rows() -> None:
    loss = torch.tensor([1.0, 3.0, float("nan")])
    assert masked_mean(loss, MASK, per=8) == 0.5
    assert masked_mean(loss, torch.zeros(3, dtype=torch.bool), per=8) == 0
    assert masked_mean(torch.ones(3, 5), MASK, per=4) == 0.5  # 10 of 5 entries a row
    known = torch.tensor([[True, True], [True, False], [False, False]])
    assert masked_mean(torch.ones(3, 2), known, per=6) == 0.5
    for per in (0, -1, float("nan"), "8", torch.tensor(8.0)):
        with pytest.raises(LossError, match="per must be a number above 0"):
            masked_mean(loss, MASK, per=per)
    compiled = torch.compile(masked_mean, backend="eager", fullgraph=True)
    assert compiled(loss, MASK, 8.0) == 0.5


@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("accumulated", [1, 2])
def test_each_graph_weighs_the_same_whoever_it_shares_a_pack_with(tmp_path: Path, world: int, accumulated: int) -> None:
    """Gradients of packs that differ much in graphs, averaged over ranks and micro-batches: those of one big batch."""
    nodes = [1] * 30 + [9] * 15
    graphs = [Data(x=torch.full((n, 1), i * 1.0), y=torch.tensor([i % 7.0])) for i, n in enumerate(nodes)]
    result = build(graphs, tmp_path / "packs", PackLimits(18, 9, 9), "stream", workers=1)
    weight = torch.zeros(1, requires_grad=True)

    def gradient(x: torch.Tensor, y: torch.Tensor, mask: torch.Tensor, per: float | None) -> torch.Tensor:
        (found,) = torch.autograd.grad(masked_mean((weight * x + 1 - y).square(), mask, per=per), weight)
        return found

    total = torch.zeros(1)
    loaders = [torch_loader(PackDataset(result), rank=rank, world_size=world, seed=1) for rank in range(world)]
    for loader in loaders:
        for batch in loader:
            first = batch.x[batch.ptr[:-1], 0]
            total += gradient(first, batch.y, batch.graphs_mask, loader.graphs_per_step) / accumulated / world
    steps = len(loaders[0])
    assert loaders[0].graphs_per_step * steps * world == pytest.approx(len(graphs))
    x, y = torch.cat([g.x[:1, 0] for g in graphs]), torch.cat([g.y for g in graphs])
    whole = gradient(x, y, torch.ones(len(graphs), dtype=torch.bool), None)
    assert total / (steps / accumulated) == pytest.approx(whole.item(), rel=1e-5)
    means = [gradient(b.x[b.ptr[:-1], 0], b.y, b.graphs_mask, None) for loader in loaders for b in loader]
    assert torch.stack(means).mean().item() != pytest.approx(whole.item(), rel=1e-2), "as a mean of means is not"


def test_a_mask_that_is_of_other_rows_is_an_error() -> None:
    wrong = [
        (torch.ones(()), MASK, r"the 3 rows of the mask; got one number.*pass reduction=\"none\""),
        (torch.ones(3), MASK[:1], r"the loss is \[3\] and the mask \[1\]"),
        (torch.ones(4), MASK, r"the loss is \[4\] and the mask \[3\]: the mask has a row for each row of the loss"),
        (torch.ones(3), MASK[:, None], r"the loss is \[3\] and the mask \[3, 1\]"),
        (torch.ones(3, 2), MASK[:, None].expand(3, 4), r"the loss is \[3, 2\] and the mask \[3, 4\]"),
        (torch.ones(3), MASK.float(), r"a mask of bools; got torch\.float32: pass `mask\.bool\(\)`"),
        (torch.ones(3), MASK.int(), r"a mask of bools; got torch\.int32"),
    ]
    for loss, mask, message in wrong:
        with pytest.raises(LossError, match=message):
            masked_mean(loss, mask)


@pytest.mark.slow
def test_it_is_one_graph_when_compiled() -> None:
    compiled = torch.compile(masked_mean, fullgraph=True, dynamic=False, backend="eager")
    for loss in (torch.rand(3, 2), torch.rand(3).half(), torch.tensor([1, 2, 9])):
        assert compiled(loss, MASK) == masked_mean(loss, MASK)


# ipu_loss


def test_what_is_marked_is_the_loss_itself() -> None:
    weight = torch.tensor(2.0, requires_grad=True)
    double.marked.clear()
    marked = ipu_loss(masked_mean(weight * torch.ones(3), MASK))
    assert double.marked == [marked] and marked.item() == 2 and marked.shape == ()
    marked.backward()  # on a CPU as on the device
    assert weight.grad == 1
    assert ipu_loss(torch.ones(1, dtype=torch.float16)).shape == (1,)


def test_a_loss_that_is_not_one_number_is_refused() -> None:
    double.marked.clear()
    with pytest.raises(LossError, match=r"marks one floating number; got \[3\] of torch\.float32.*by masked_mean"):
        ipu_loss(torch.ones(3))
    with pytest.raises(LossError, match=r"got \[\] of torch\.int64"):
        ipu_loss(torch.tensor(3))
    assert not double.marked


def test_without_poptorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "poptorch", None)
    with pytest.raises(ImportError, match=r"ipu_loss needs poptorch, which Graphcore ships with the Poplar SDK"):
        ipu_loss(torch.ones(()))


class Model(torch.nn.Module):
    """Three graphs, one of them padding, to two numbers each; its loss is given."""

    def __init__(self, loss: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.loss = torch.nn.Linear(4, 2), loss

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        out = self.linear(x)
        return out, self.loss(out)


def step(loss: Callable[[torch.Tensor], torch.Tensor], options: Options | None = None) -> Model:
    """The model after a step on the stand-in: packs of three rows."""
    model = Model(loss)
    training = double.trainingModel(model, options, optimizer=double.optim.SGD(model.parameters(), lr=0.1))
    packs = 1 if options is None else options.device_iterations * options.gradient_accumulation
    training(torch.arange(12.0 * packs).reshape(3 * packs, 4))
    return model


CLASSES, NUMBERS = torch.tensor([0, 1, 0]), torch.ones(3, 2)


@pytest.mark.parametrize(
    ("each", "found"),
    [
        (lambda out: cross_entropy(out, CLASSES, reduction="none"), "NllLoss"),
        (lambda out: mse_loss(out, NUMBERS, reduction="none"), "MseLoss"),
        (lambda out: binary_cross_entropy_with_logits(out, NUMBERS, reduction="none"), "BinaryCrossEntropyWithLogits"),
    ],
)
def test_an_unmarked_loss_function_of_torch_is_refused(each: Callable[..., torch.Tensor], found: str) -> None:
    """PopTorch would train on its sum over all three rows."""
    with pytest.raises(AssertionError, match=f"not marked: PopTorch would train on the sum at {found}Backward"):
        step(lambda out: masked_mean(each(out), MASK))
    assert len(double.marked) == 0
    step(lambda out: ipu_loss(masked_mean(each(out), MASK)))
    assert len(double.marked) == 1


def test_a_loss_without_a_loss_function_of_torch_needs_the_mark() -> None:
    with pytest.raises(double.Error, match="Couldn't find a loss in graph!"):
        step(lambda out: masked_mean((out - NUMBERS).square(), MASK))
    step(lambda out: ipu_loss(masked_mean((out - NUMBERS).square(), MASK)))


def test_terms_are_marked_together() -> None:
    def terms(out: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return masked_mean(cross_entropy(out, CLASSES, reduction="none"), MASK), masked_mean(out.square(), MASK)

    with pytest.raises(double.Error, match="Multiple independent losses found in graph"):
        step(lambda out: torch.stack([ipu_loss(term) for term in terms(out)]).sum())
    step(lambda out: ipu_loss(torch.stack(terms(out)).sum()))


def test_the_device_learns_what_torch_learns() -> None:
    """Two packs a step of the optimizer: PopTorch averages what is marked over them."""

    def loss(out: torch.Tensor) -> torch.Tensor:
        return masked_mean(cross_entropy(out, CLASSES, reduction="none"), MASK)

    there = step(lambda out: ipu_loss(loss(out)), Options(gradient_accumulation=2))
    here = Model(loss)
    optimizer = torch.optim.SGD(here.parameters(), lr=0.1)
    packs = torch.arange(24.0).reshape(2, 3, 4)
    torch.stack([here(pack)[1] for pack in packs]).mean().backward()
    optimizer.step()
    assert torch.allclose(here.linear.weight, there.linear.weight)
    padding = Model(lambda out: cross_entropy(out, CLASSES))  # what three rows would teach is something else
    torch.stack([padding(pack)[1] for pack in packs]).mean().backward()
    gradients = [model.linear.weight.grad for model in (padding, here)]
    assert gradients[0] is not None and gradients[1] is not None
    assert not torch.allclose(gradients[0], gradients[1])
