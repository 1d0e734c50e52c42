"""A stand-in for poptorch's host side: what its DataLoader does with a data set, and nothing of the device.

Installed as module `poptorch` by the tests. It keeps the behaviour that packs must live with: a step takes
batch_size x device iterations x replicas x gradient accumulation items, every tensor of it is cut along dimension 0
into equal parts, int64 and float64 are cast on the host, the asynchronous modes run the loader in another process and
give out buffers that the next step overwrites, and rebatching counts rows of dimension 0 as items.
"""

from __future__ import annotations

import enum
import multiprocessing
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch


class DataLoaderMode(enum.Enum):
    Sync = 0
    Async = 1
    AsyncRebatched = 2


class OutputMode(enum.Enum):
    Final = 0
    All = 1


optim = torch.optim


def identity_loss(loss: torch.Tensor, reduction: str) -> torch.Tensor:
    assert reduction == "none" and loss.requires_grad
    return loss


class trainingModel:
    """The device: it cuts a step's tensors, runs the model on each part, and moves the weights after each group."""

    def __init__(self, model: torch.nn.Module, options: Options, optimizer: torch.optim.Optimizer) -> None:
        self.model, self.options, self.optimizer = model, options, optimizer
        self.weights_on_host = True

    def __call__(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        accumulate = self.options.gradient_accumulation
        parts = self.options.device_iterations * accumulate
        self.weights_on_host = False
        outputs: list[tuple[torch.Tensor, ...]] = []
        step = {str(number): tensor for number, tensor in enumerate(tensors)}
        for part, seen in enumerate(device_iterations(step, parts)):
            outputs.append(self.model(*seen.values()))
            (outputs[-1][0] / accumulate).backward()
            if part % accumulate == accumulate - 1:
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)
        return tuple(torch.stack([output.detach() for output in column]) for column in zip(*outputs, strict=True))

    def setOptimizer(self, optimizer: torch.optim.Optimizer) -> None:
        assert optimizer is self.optimizer

    def copyWeightsToHost(self) -> None:
        self.weights_on_host = True

    def destroy(self) -> None:
        assert self.weights_on_host, "the host's weights are those before training"


@dataclass
class Options:
    """deviceIterations(n) and so on of the original, as plain numbers."""

    device_iterations: int = 1
    replication_factor: int = 1
    input_group_size: int = 1
    gradient_accumulation: int = 1
    process_id: int = 0
    num_processes: int = 1
    frozen: bool = field(default=False, compare=False)

    @property
    def Training(self) -> SimpleNamespace:
        return SimpleNamespace(
            gradient_accumulation=self.gradient_accumulation, gradientAccumulation=self._set_accumulation
        )

    def _set_accumulation(self, steps: int) -> None:
        self.gradient_accumulation = steps

    def deviceIterations(self, iterations: int) -> None:
        self.device_iterations = iterations

    def outputMode(self, mode: OutputMode) -> None:
        assert mode is OutputMode.All, "the stand-in gives out every iteration"

    @property
    def Distributed(self) -> SimpleNamespace:
        return SimpleNamespace(processId=self.process_id, numProcesses=self.num_processes)


class DataLoader(torch.utils.data.DataLoader):
    def __init__(
        self,
        options: Options,
        dataset: Any,
        batch_size: int = 1,
        shuffle: Any = None,
        num_workers: int = 0,
        drop_last: bool = True,
        persistent_workers: Any = None,
        auto_distributed_partitioning: bool = True,
        mode: DataLoaderMode = DataLoaderMode.Sync,
        async_options: Any = None,
        rebatched_worker_size: Any = None,
        batch_sampler: Any = None,
        **kwargs: Any,
    ) -> None:
        assert isinstance(options, Options)
        options.frozen = True
        self._combined = (
            batch_size
            * options.device_iterations
            * (options.replication_factor // options.input_group_size)
            * options.gradient_accumulation
        )
        assert batch_sampler is None, "not in this stand-in"
        items = len(dataset)
        assert items >= self._combined, f"The dataset has {items} elements, a step takes {self._combined}"
        if auto_distributed_partitioning and options.num_processes > 1:
            raise AssertionError("this partition loses items")
        size = self._combined
        if mode is DataLoaderMode.AsyncRebatched:
            drop_last, size = False, rebatched_worker_size or size
        super().__init__(
            dataset,
            batch_size=size,
            shuffle=bool(shuffle) if "sampler" not in kwargs else None,
            num_workers=num_workers,
            drop_last=drop_last,
            persistent_workers=num_workers > 0 if persistent_workers is None else persistent_workers,
            **kwargs,
        )
        self._rebatched = mode is DataLoaderMode.AsyncRebatched
        self._accessor: Any = None
        if mode is not DataLoaderMode.Sync:
            self._accessor = _Accessor(self, self._combined if self._rebatched else None)

    @property
    def combinedBatchSize(self) -> int:
        return self._combined

    def __len__(self) -> int:
        return len(self.dataset) // self._combined if getattr(self, "_rebatched", False) else super().__len__()

    def __iter__(self) -> Any:
        return super().__iter__() if self._accessor is None else iter(self._accessor)

    def terminate(self) -> None:
        if self._accessor is not None:
            self._accessor.terminate()


class _Accessor:
    """Runs a loader in a process of its own, epoch after epoch; gives out one set of reused buffers."""

    def __init__(self, loader: DataLoader, rebatched_size: int | None) -> None:
        context = multiprocessing.get_context("forkserver")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, loader, rebatched_size), daemon=True)
        self._process.start()
        theirs.close()
        self._buffers: dict[str, torch.Tensor] | None = None

    def __iter__(self) -> Any:
        while True:
            step = self._pipe.recv()
            if step is None:
                return
            if self._buffers is None:
                self._buffers = {key: torch.from_numpy(array.copy()) for key, array in step.items()}
            for key, array in step.items():
                self._buffers[key].copy_(torch.from_numpy(array))  # broadcasts and casts silently
            yield self._buffers

    def terminate(self) -> None:
        self._pipe.close()
        self._process.terminate()
        self._process.join()


def _serve(pipe: Any, loader: DataLoader, rebatched_size: int | None) -> None:
    try:
        while True:
            steps = torch.utils.data.DataLoader.__iter__(loader)
            for step in steps if rebatched_size is None else _rebatch(steps, rebatched_size):
                pipe.send({key: tensor.numpy() for key, tensor in step.items()})
            pipe.send(None)
    except (BrokenPipeError, OSError):
        return


def _rebatch(steps: Any, size: int) -> Any:
    """Steps of `size` rows of dimension 0 from steps of any number of rows."""
    held: dict[str, torch.Tensor] = {}
    for step in steps:
        held = {key: torch.cat([held[key], tensor]) if held else tensor for key, tensor in step.items()}
        while min(len(tensor) for tensor in held.values()) >= size:
            yield {key: tensor[:size] for key, tensor in held.items()}
            held = {key: tensor[size:] for key, tensor in held.items()}


def device_iterations(step: dict[str, torch.Tensor], parts: int) -> list[dict[str, torch.Tensor]]:
    """What the model sees of a step: every tensor cut along dimension 0, in the dtypes that the device has."""
    on_device = (torch.float32, torch.float16, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
    for key, tensor in step.items():
        assert isinstance(tensor, torch.Tensor), key
        assert tensor.dim() and tensor.shape[0] % parts == 0, f"{key}: dimension 0 of {list(tensor.shape)} / {parts}"
        assert tensor.dtype in on_device, f"{key} is {tensor.dtype}: cast on the host in every step"
    return [{key: tensor.chunk(parts)[i] for key, tensor in step.items()} for i in range(parts)]
