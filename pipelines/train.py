"""Train a small GNN on packs: the reference to copy from.

What packs ask of a training loop is all here: the loss is a sum over real graphs divided by their number, pooling knows
the number of graph slots, metrics count real graphs only.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packer.errors import MissingExtraError, SourceError
from packer.reading import PackDataset, masked_mean, torch_loader
from pipelines.model import GNN, ColumnEmbedding, DenseEncoder

try:
    import torch
    from torch.nn import functional
except ImportError as error:
    raise MissingExtraError("torch", "torch", "training") from error


@dataclass(frozen=True)
class Task:
    """What is learned.

    level: "node" or "graph"; kind: "classification" (outputs = classes) or "regression" (outputs = targets, each with
    the mean and standard deviation of its real training rows).
    """

    target: str
    level: str
    kind: str
    outputs: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def mask(self) -> str:
        return f"{self.level}s_mask"


@dataclass
class TrainReport:
    """losses: one an epoch, per real graph (or node); metrics: split -> name -> value; seconds: of the epochs alone."""

    task: Task
    device: str
    losses: list[float] = field(default_factory=list)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    seconds: float = 0.0


def train(
    folder: str | Path,
    *,
    target: str = "y",
    epochs: int = 5,
    hidden: int = 64,
    layers: int = 3,
    lr: float = 2e-3,
    batch_size: int = 1,
    seed: int = 0,
    device: str = "auto",
    num_threads: int | None = 1,
    compile: bool | None = None,
    plot: str | Path | None = None,
    on_epoch: Callable[[int, float], None] | None = None,
) -> TrainReport:
    """Train on `folder/train` (or on `folder` itself) and evaluate on every split.

    target: a float field makes a regression, an integer one a classification; a node-level one a node-level model.
    lr: falls to 0 over the steps. device: "auto" takes CUDA when it is there. num_threads: of torch on the CPU, set for
    the process; one is fastest for packs of some hundred nodes, None leaves it as it is. compile: torch.compile for
    static shapes, with CUDA graphs on CUDA (the default there). plot: where to draw the loss curve. Randomness: `seed`
    alone (weights and the order of packs).
    """
    splits = open_splits(folder)
    packs = splits["train"]
    place = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    torch.manual_seed(seed)
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    task = find_task(packs, target)
    model = build_model(packs, task, hidden, layers).to(place)
    step: Any = model
    if compile or (compile is None and place.type == "cuda"):
        step = torch.compile(model, dynamic=False, mode="reduce-overhead" if place.type == "cuda" else None)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    loader = torch_loader(packs, batch_size=batch_size, shuffle=True, seed=seed, pin_memory=place.type == "cuda")
    steps = epochs * len(loader)
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    report = TrainReport(task, str(place))
    start = time.perf_counter()
    for epoch in range(epochs):
        loader.set_epoch(epoch)
        report.losses.append(train_epoch(step, loader, optimizer, task, place, decay))
        if on_epoch is not None:
            on_epoch(epoch, report.losses[-1])
    report.seconds = time.perf_counter() - start
    for split, dataset in splits.items():
        report.metrics[split] = evaluate(model, dataset, task, place)
    if plot is not None:
        draw_losses(report, plot)
    return report


def open_splits(folder: str | Path) -> dict[str, PackDataset]:
    """The data sets below `folder`, train, valid and test first; a lone data set is the split "train"."""
    root = Path(folder)
    if (root / "manifest.json").is_file():
        return {"train": PackDataset(root)}
    order = ["train", "valid", "test"]
    names = [path.parent.name for path in root.glob("*/manifest.json")]
    if "train" not in names:
        raise SourceError(f"{root} holds no packs: neither manifest.json nor train/manifest.json; run graph-pack build")
    names.sort(key=lambda name: (order.index(name) if name in order else len(order), name))
    return {name: PackDataset(root / name) for name in names}


def find_task(packs: PackDataset, target: str) -> Task:
    """Level, kind and width of the target, from the schema and the real rows."""
    found = {field.name: field for field in packs.manifest.schema.fields}
    if target not in found or found[target].level == "edge":
        usable = ", ".join(field.name for field in found.values() if field.level != "edge") or "none"
        raise SourceError(f"no node-level or graph-level field {target!r} to learn; there are: {usable}")
    level = found[target].level
    rows = torch.cat([pack[target][pack[f"{level}s_mask"]] for pack in _packs(packs)])
    if not rows.dtype.is_floating_point:
        return Task(target, level, "classification", max(2, int(rows.max()) + 1))
    rows = rows.reshape(len(rows), -1).double()
    std = rows.std(dim=0, unbiased=False)
    std[std == 0] = 1.0
    return Task(target, level, "regression", rows.shape[1], tuple(rows.mean(dim=0).tolist()), tuple(std.tolist()))


def build_model(packs: PackDataset, task: Task, hidden: int, layers: int) -> GNN:
    """A model for the fields that the packs have."""
    nodes, edges = (_encoder(packs, *names, hidden) for names in (("x", "nodes_mask"), ("edge_attr", "edges_mask")))
    return GNN(nodes, edges, hidden=hidden, layers=layers, outputs=task.outputs, level=task.level)


def _encoder(packs: PackDataset, name: str, mask: str, hidden: int) -> torch.nn.Module | None:
    found = {field.name: field for field in packs.manifest.schema.fields}
    if name not in found or 0 in found[name].shape:
        return None
    width = math.prod(found[name].shape)
    if found[name].dtype.startswith(("float", "bfloat")):
        return DenseEncoder(width, hidden)
    largest = torch.zeros(width, dtype=torch.int64)
    for pack in _packs(packs):
        rows = pack[name][pack[mask]].reshape(-1, width).to(torch.int64)
        if len(rows):
            largest = torch.maximum(largest, rows.amax(dim=0))
    return ColumnEmbedding(largest.tolist(), hidden)


def train_epoch(
    step: Any,
    loader: Iterable[Any],
    optimizer: torch.optim.Optimizer,
    task: Task,
    device: torch.device,
    decay: torch.optim.lr_scheduler.LRScheduler,
) -> float:
    """One pass over the loader; the mean loss over real graphs (or nodes)."""
    total, count = 0.0, 0
    for batch in loader:
        batch = batch.to(device)
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(step(batch), batch, task)
        loss.backward()
        optimizer.step()
        decay.step()
        real = int(batch[task.mask].sum())
        total, count = total + loss.item() * real, count + real
    return total / max(count, 1)


def loss_of(output: torch.Tensor, batch: Any, task: Task) -> torch.Tensor:
    """The step's loss: the sum over real graphs (or nodes) divided by their number, over all ranks."""
    truth, mask = batch[task.target], batch[task.mask]
    if task.kind == "classification":
        each = functional.cross_entropy(output, truth.reshape(-1).long(), reduction="none")
    else:
        each = functional.mse_loss(output, _scaled(truth, task, output.dtype), reduction="none").mean(dim=1)
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return masked_mean(each, mask)
    # Data parallel training averages gradients over ranks: undo that, and divide by the real graphs of all ranks.
    count = mask.sum()
    distributed.all_reduce(count)
    return torch.where(mask, each, 0).sum() * distributed.get_world_size() / count.clamp(min=1)


def evaluate(model: torch.nn.Module, dataset: PackDataset, task: Task, device: torch.device) -> dict[str, float]:
    """Metrics over real graphs (or nodes) only; beside them what the training mean, or the commonest class, scores."""
    outputs: list[torch.Tensor] = []
    truths: list[torch.Tensor] = []
    model.eval()
    with torch.no_grad():
        for batch in torch_loader(dataset, shuffle=False):
            batch = batch.to(device)
            outputs.append(model(batch)[batch[task.mask]].cpu())
            truths.append(batch[task.target][batch[task.mask]].cpu())
    model.train()
    output, truth = torch.cat(outputs), torch.cat(truths)
    if task.kind == "classification":
        labels = truth.reshape(-1).long()
        commonest = torch.bincount(labels).max().item() / len(labels)
        right = (output.argmax(dim=1) == labels).double().mean().item()
        return {"accuracy": right, "accuracy_of_commonest_class": commonest, "evaluated": len(labels)}
    scaled, std = _scaled(truth, task, torch.float64), torch.tensor(task.std, dtype=torch.float64)
    error = ((output.double() - scaled).abs() * std).mean().item()
    return {"mae": error, "mae_of_training_mean": (scaled.abs() * std).mean().item(), "evaluated": len(truth)}


def draw_losses(report: TrainReport, path: str | Path) -> None:
    """The loss of each epoch as a picture; the suffix of `path` chooses the format."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        raise MissingExtraError("matplotlib", "report", "drawing the loss curve") from error

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(range(1, len(report.losses) + 1), report.losses, marker="o")
    axes.set(
        title=f"Training loss on {report.task.target}", xlabel="epoch", ylabel=f"loss per real {report.task.level}"
    )
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    figure.savefig(str(path), dpi=120)


def _scaled(truth: torch.Tensor, task: Task, dtype: torch.dtype) -> torch.Tensor:
    mean, std = (torch.tensor(values, dtype=dtype, device=truth.device) for values in (task.mean, task.std))
    return (truth.reshape(len(truth), -1).to(dtype) - mean) / std


def _packs(dataset: PackDataset) -> Iterable[dict[str, torch.Tensor]]:
    return (dataset[i] for i in range(len(dataset)))
