"""Steps over packs on a CPU or a CUDA GPU: the loss, the loop, and where its packs come from.

On CUDA blocks of packs lie on the device and the whole step, from the numbers of its packs to the optimizer, is one
CUDA graph; elsewhere, and where no such ring of blocks fits, packs come from the host one step at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from packer.errors import MissingExtraError, StateError
from packer.reading import PackDataset, device_loader, masked_mean, torch_loader
from pipelines.training.task import Task

try:
    import torch
    from torch.nn import functional
except ImportError as error:
    raise MissingExtraError("torch", "torch", "training") from error


class TrainingStep(torch.nn.Module):
    """Model and loss, to be compiled as one: a batch -> (its loss, the number of known targets)."""

    def __init__(self, model: torch.nn.Module, task: Task) -> None:
        super().__init__()
        self.model, self.task = model, task

    def forward(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return loss_of(self.model(batch), batch, self.task), self.task.known(batch).sum()


class TakenStep(torch.nn.Module):
    """The same with the making of its batch: what `numbers` of a device_loader gives -> what `step` returns."""

    def __init__(self, loader: Any, step: torch.nn.Module) -> None:
        super().__init__()
        self.loader, self.step = loader, step

    def forward(self, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.step(self.loader.take(numbers))


class WholeStep:
    """All that a step does, to the optimizer and the sum of losses, which stays on the device: reading a number back at
    each step would make it wait, and in a CUDA graph there is none to read."""

    def __init__(self, step: Any, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        self.step, self.optimizer = step, optimizer
        self.total, self.count = torch.zeros((), device=device), torch.zeros((), device=device)

    def __call__(self, given: Any) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss, known = self.step(given)
        loss.backward()
        self.optimizer.step()
        self.total += loss.detach() * known
        self.count += known

    def mean_loss(self) -> float:
        """Over the known targets since the last call."""
        mean = (self.total / self.count.clamp(min=1)).item()
        self.total.zero_()
        self.count.zero_()
        return mean


def train_on(
    device: torch.device,
    model: torch.nn.Module,
    packs: PackDataset,
    task: Task,
    *,
    epochs: int,
    lr: float,
    batch_size: int,
    seed: int,
    compile: bool | None,
    on_epoch: Callable[[int, float], None],
    blocks_there: bool | None = None,
) -> str:
    """Train `model` in place; on_epoch: called with (epoch, mean loss over known targets).

    blocks_there: whether blocks lie on the device and batches are made there; None for CUDA. Returns "", or why they do
    not although they were to. Order, batches and rates are the same either way.
    """
    on_cuda = device.type == "cuda"
    ring, note = (None, "")
    if on_cuda if blocks_there is None else blocks_there:
        ring, note = _ring(device, packs, batch_size, seed)
    captured = on_cuda and ring is not None
    step: Any = TrainingStep(model, task).to(device)
    if ring is None:
        loader: Any = torch_loader(packs, batch_size, shuffle=True, seed=seed, pin_memory=on_cuda)
    else:
        loader, step = ring, TakenStep(ring, step)
    if compile or (compile is None and on_cuda):
        # Of a step that becomes one graph as a whole the compiler is to make no graphs of its own.
        step = torch.compile(step, dynamic=False, mode="reduce-overhead" if on_cuda and not captured else None)
    # A number in a CUDA graph stays what it was: there the rate is a tensor.
    rate: Any = torch.tensor(lr, device=device) if captured else lr
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, fused=on_cuda, capturable=captured)
    whole = WholeStep(step, optimizer, device)
    steps = _Steps(loader, whole, device) if ring is None else ring.captured(whole, numbers=True)
    taken, last = 0, epochs * len(loader)
    for epoch in range(epochs):
        loader.set_epoch(epoch)
        for _ in steps:
            taken += 1
            _set_rate(optimizer, lr * (1 - taken / last))
        on_epoch(epoch, whole.mean_loss())
    return note


def _ring(device: torch.device, packs: PackDataset, batch_size: int, seed: int) -> tuple[Any, str]:
    """The device_loader, or None and why there is none: training goes on without, only slower."""
    try:
        return device_loader(packs, device, batch_size, shuffle=True, seed=seed), ""
    except StateError as error:
        return None, f"blocks of packs are not kept on {device}, and steps wait for the host: {error}"


class _Steps:
    """Passes over a loader of the host, each step of it done."""

    def __init__(self, loader: Any, step: Callable[[Any], None], device: torch.device) -> None:
        self.loader, self.step, self.device = loader, step, device

    def __iter__(self) -> Iterator[None]:
        for batch in self.loader:
            yield self.step(batch.to(self.device, non_blocking=True))


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)  # the tensor that a CUDA graph knows
        else:
            group["lr"] = rate


def loss_of(output: torch.Tensor, batch: Any, task: Task) -> torch.Tensor:
    """The step's loss: the sum over known targets divided by their number, over all ranks."""
    truth, mask = batch[task.target], task.known(batch)
    # What is not known is not looked at: no gradient comes of a NaN, and no class need be in range.
    if task.kind == "classification":
        classes = torch.where(mask, truth.reshape(-1).long(), 0)
        each = functional.cross_entropy(output, classes, reduction="none")
    else:
        each = functional.mse_loss(output, torch.where(mask, scaled(truth, task, output.dtype), 0), reduction="none")
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return masked_mean(each, mask)
    # Data parallel training averages gradients over ranks: undo that, and divide by the known targets of all ranks.
    count = mask.sum()
    distributed.all_reduce(count)
    return torch.where(mask, each, 0).sum() * distributed.get_world_size() / count.clamp(min=1)


def scaled(truth: torch.Tensor, task: Task, dtype: torch.dtype) -> torch.Tensor:
    """Numbers to learn, by mean and deviation: [rows, outputs]. By plain numbers: a tensor of them would be copied to
    the device each step, and waited for."""
    columns = truth.reshape(len(truth), -1).to(dtype).unbind(dim=1)
    columns = [(column - mean) / std for column, mean, std in zip(columns, task.mean, task.std, strict=True)]
    return torch.stack(columns, dim=1)
