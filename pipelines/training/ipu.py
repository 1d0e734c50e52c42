"""Training on an IPU: what PopTorch asks beyond the loop for other devices.

The loss belongs inside `forward`, tensors come as arguments, a call takes a whole step of packs and runs the model once
for each of them, and weights live on the device until they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from packer.reading import PackBatch, PackDataset, ipu_loss, poptorch_loader
from packer.reading.collate import PackShape, pack_shape
from packer.reading.poptorch import import_poptorch
from pipelines.training.task import Task

DEVICE_ITERATIONS = 8
"""Packs that one call trains on, one after the other."""

Loss = Callable[[torch.Tensor, Any, Task], torch.Tensor]


class WithLoss(torch.nn.Module):
    """A model of batches as PopTorch compiles it: one pack's tensors in; loss and number of known targets out."""

    def __init__(self, model: torch.nn.Module, task: Task, loss: Loss, names: Sequence[str], shape: PackShape) -> None:
        super().__init__()
        self.model, self.task, self.loss = model, task, loss
        self.names, self.shape = tuple(names), shape

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # PyTorch indexes with int64; on the device both are 32 bits.
        wide = [tensor.long() if tensor.dtype == torch.int32 else tensor for tensor in tensors]
        batch = PackBatch(dict(zip(self.names, wide, strict=True)), self.shape)
        loss = self.loss(self.model(batch), batch, self.task)
        return ipu_loss(loss), self.task.known(batch).sum()


def train_on_ipu(
    model: torch.nn.Module,
    packs: PackDataset,
    task: Task,
    loss: Loss,
    *,
    epochs: int,
    lr: float,
    accumulate: int,
    seed: int,
    on_epoch: Callable[[int, float], None],
) -> None:
    """Train `model` in place; on_epoch: called with (epoch, mean loss over known targets).

    accumulate: packs whose gradients are averaged before the weights move. lr falls to 0 over the steps. Empty packs
    fill the last step; they have no target, so neither loss nor gradient. Raises MissingExtraError without poptorch.
    """
    poptorch = import_poptorch("training on an IPU")
    options = poptorch.Options()
    options.deviceIterations(DEVICE_ITERATIONS)
    options.Training.gradientAccumulation(accumulate)
    options.outputMode(poptorch.OutputMode.All)
    loader = poptorch_loader(packs, options, shuffle=True, seed=seed)
    steps = epochs * len(loader)
    optimizer = poptorch.optim.Adam(model.parameters(), lr=lr)
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    names = [column.name for column in packs.columns]
    training = poptorch.trainingModel(
        WithLoss(model, task, loss, names, pack_shape(packs.manifest)), options=options, optimizer=optimizer
    )
    for epoch in range(epochs):
        total, count = 0.0, 0
        for step in loader:
            losses, known = training(*(step[name] for name in names))
            decay.step()
            training.setOptimizer(optimizer)
            total += float((losses.reshape(-1) * known.reshape(-1)).sum())
            count += int(known.sum())
        on_epoch(epoch, total / max(count, 1))
    training.copyWeightsToHost()
    training.destroy()
