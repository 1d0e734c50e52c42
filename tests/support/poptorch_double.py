"""A stand-in for poptorch's host side: what its DataLoader does with a data set, and which loss its compiler finds.

Installed as module `poptorch` by the tests. It trains on what `identity_loss` marks and refuses a loss that is not
marked, which PopTorch would take for another one. It keeps the behaviour that packs must live with: a step takes
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
    All = 2
    Default = 4


class Error(RuntimeError):
    pass


optim = torch.optim

marked: list[torch.Tensor] = []
"""What identity_loss was given in the latest run of a model, in order."""

LOSSES = (
    *("NllLoss", "NllLoss2D", "MseLoss", "SmoothL1Loss", "HuberLoss", "SoftMarginLoss", "KlDiv"),
    *("BinaryCrossEntropy", "BinaryCrossEntropyWithLogits", "CtcLoss"),
)
"""Loss functions of torch that mark themselves, by the names of their gradients."""


class _Identity(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: torch.Tensor) -> torch.Tensor:
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0]


def identity_loss(loss: torch.Tensor, reduction: str) -> torch.Tensor:
    """The mark; on a CPU the loss itself, reduced."""
    assert reduction in ("none", "sum", "mean"), "Unsupported reduction type!"
    found: torch.Tensor = _Identity.apply(loss if reduction == "none" else getattr(loss, reduction)())
    marked.append(found)
    return found


_on_ipu = False


def isRunningOnIpu() -> bool:
    return _on_ipu


def trained_on(outputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """The tensor that the compiler starts its gradients from, as `identity_loss` has marked it.

    Every identity_loss and every loss function of torch is a mark; one that another mark is computed from is taken
    away, and exactly one may be left. PopTorch would also train on a loss function of torch that is left: that is
    refused here, for no loss of a pack is one.
    """
    own = {tensor.grad_fn: tensor for tensor in marked}
    below: dict[Any, set[Any]] = {}  # each node's marks that it is computed from

    def marks_below(top: Any) -> set[Any]:
        stack = [top]
        while stack:
            node = stack[-1]
            parents = [parent for parent, _ in node.next_functions if parent is not None]
            waiting = [parent for parent in parents if parent not in below]
            if waiting:
                stack.extend(waiting)
                continue
            stack.pop()
            below[node] = set(filter(is_mark, parents)).union(*(below[parent] for parent in parents))
        return below[top]

    def is_mark(node: Any) -> bool:
        return node in own or type(node).__name__.partition("Backward")[0] in LOSSES

    tops = [tensor.grad_fn for tensor in (*outputs, *marked) if tensor.grad_fn is not None]
    for top in tops:
        marks_below(top)
    marks = {node for node in below if is_mark(node)}
    left = marks.difference(*(below[mark] for mark in marks)) if marks else marks
    if not left:
        raise Error("Couldn't find a loss in graph!")
    if len(left) > 1:
        raise Error(
            "Multiple independent losses found in graph. Graph must have one final loss. Wrap final graph loss in "
            "poptorch.identity_loss."
        )
    (last,) = left
    if last not in own:
        raise AssertionError(f"the loss is not marked: PopTorch would train on the sum at {last.name()}")
    return own[last]


class _Executor:
    """The device: it cuts a step's tensors, and runs the model on each part."""

    def __init__(self, model: torch.nn.Module, options: Options | None) -> None:
        assert isinstance(model, torch.nn.Module)
        self.model, self.options = model, Options() if options is None else options
        self.options.frozen = True
        self.destroyed = False

    def _run(self, tensors: tuple[torch.Tensor, ...], after: Any) -> Any:
        """after: called with the outputs of each part and its number."""
        global _on_ipu
        assert not self.destroyed and all(isinstance(tensor, torch.Tensor) for tensor in tensors)
        parts = self.options.device_iterations * self.options.gradient_accumulation
        step = {str(number): tensor for number, tensor in enumerate(tensors)}
        outputs: list[tuple[torch.Tensor, ...]] = []
        alone = False
        for part, seen in enumerate(device_iterations(step, parts)):
            marked.clear()
            _on_ipu = True
            try:
                found = self.model(*seen.values())
            finally:
                _on_ipu = False
            alone = isinstance(found, torch.Tensor)
            outputs.append((found,) if alone else found)
            after(outputs[-1], part)
        kept = outputs[-1:] if self._mode() is OutputMode.Final else outputs
        whole = tuple(_returned([output.detach() for output in column]) for column in zip(*kept, strict=True))
        return whole[0] if alone else whole

    def _mode(self) -> OutputMode:
        raise NotImplementedError

    def destroy(self) -> None:
        self.destroyed = True


def _returned(column: list[torch.Tensor]) -> torch.Tensor:
    """One output of several iterations: joined along dimension 0, single numbers as rows."""
    return column[0] if len(column) == 1 else torch.cat([tensor.reshape(tensor.shape or (1,)) for tensor in column])


class trainingModel(_Executor):
    """It trains on what is marked, and moves the weights after each group."""

    def __init__(
        self,
        model: torch.nn.Module,
        options: Options | None = None,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        super().__init__(model, options)
        assert model.training and optimizer is not None
        self.optimizer = optimizer
        self.weights_on_host = True

    def __call__(self, *tensors: torch.Tensor) -> Any:
        self.weights_on_host = False
        return self._run(tensors, self._learn)

    def _learn(self, outputs: tuple[torch.Tensor, ...], part: int) -> None:
        accumulate = self.options.gradient_accumulation
        (trained_on(outputs).sum() / accumulate).backward()
        if part % accumulate == accumulate - 1:
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)

    def _mode(self) -> OutputMode:
        return OutputMode.Final if self.options.output_mode is OutputMode.Default else self.options.output_mode

    def setOptimizer(self, optimizer: torch.optim.Optimizer) -> None:
        assert optimizer is self.optimizer

    def copyWeightsToHost(self) -> None:
        self.weights_on_host = True

    def destroy(self) -> None:
        assert self.weights_on_host, "the host's weights are those before training"
        super().destroy()


class inferenceModel(_Executor):
    """It gives out the outputs of every iteration."""

    def __init__(self, model: torch.nn.Module, options: Options | None = None) -> None:
        super().__init__(model, options)
        assert not model.training, "call model.eval() before: the mode is not seen later"
        assert self.options.gradient_accumulation == 1, "gradientAccumulation must be 1 for an inferenceModel"

    def __call__(self, *tensors: torch.Tensor) -> Any:
        with torch.no_grad():
            return self._run(tensors, lambda outputs, part: None)

    def _mode(self) -> OutputMode:
        return OutputMode.All if self.options.output_mode is OutputMode.Default else self.options.output_mode


@dataclass
class Options:
    """deviceIterations(n) and so on of the original, as plain numbers."""

    device_iterations: int = 1
    replication_factor: int = 1
    input_group_size: int = 1
    gradient_accumulation: int = 1
    process_id: int = 0
    num_processes: int = 1
    output_mode: OutputMode = OutputMode.Default
    frozen: bool = field(default=False, compare=False)

    @property
    def Training(self) -> SimpleNamespace:
        return SimpleNamespace(
            gradient_accumulation=self.gradient_accumulation,
            gradientAccumulation=lambda steps: self._set("gradient_accumulation", steps),
        )

    def deviceIterations(self, iterations: int) -> Options:
        return self._set("device_iterations", iterations)

    def outputMode(self, mode: OutputMode) -> Options:
        assert isinstance(mode, OutputMode)
        return self._set("output_mode", mode)

    def _set(self, name: str, value: Any) -> Options:
        assert not self.frozen, f"Can't modify {name}: Options are frozen by use"
        setattr(self, name, value)
        return self

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
