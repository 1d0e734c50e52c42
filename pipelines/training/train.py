"""Train a small GNN on packs: the reference to copy from.

What packs ask of a training loop is all here: the loss is a sum over real graphs (those with a target) divided by their
number, pooling knows the number of graph slots, metrics count real graphs only.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packer.errors import FormatError, MissingExtraError, SourceError
from packer.graphs.axes import Axis
from packer.reading import PackDataset, torch_loader
from packer.shards import open_shard
from packer.verify.block import check_block
from pipelines.report.style import Picture, drawn, finish, new_figure, save_picture, whole_ticks
from pipelines.stores.locations import below, data_sets_below, is_data_set, label, where
from pipelines.training.ipu import train_on_ipu
from pipelines.training.loop import TrainingStep as TrainingStep
from pipelines.training.loop import loss_of as loss_of
from pipelines.training.loop import scaled, train_on
from pipelines.training.model import GNN, ColumnEmbedding, DenseEncoder, Edges, LengthEncoder, Nodes
from pipelines.training.task import MOST_VALUES, packs_of
from pipelines.training.task import Task as Task
from pipelines.training.task import find_task as find_task

try:
    import torch
except ImportError as error:
    raise MissingExtraError("torch", "torch", "training") from error


@dataclass
class TrainReport:
    """losses: one an epoch, per known target; metrics: split -> name -> value; seconds: of the epochs alone; note: what
    was done otherwise than asked and why, "" for nothing."""

    task: Task
    device: str
    losses: list[float] = field(default_factory=list)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    seconds: float = 0.0
    note: str = ""


def train(
    folder: str | os.PathLike[str],
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
    storage_options: Mapping[str, Any] | None = None,
) -> TrainReport:
    """Train on `folder/train` (or on `folder` itself) and evaluate on every split. folder: a path or a URL, for which
    storage_options go to fsspec.

    target: a float field makes a regression, an integer one a classification; a node-level or edge-level one a model of
    nodes or edges; of heterogeneous graphs by name or key ("paper/y"). Graphs that lack the target, and NaN, take no
    part in loss and metrics.
    lr: falls to 0 over the steps. device: "cpu", "cuda", "ipu" (packs of a step accumulate their gradients; evaluation
    is on the CPU), "auto" takes CUDA when it is there. num_threads: of torch on the CPU, set for the process; one is
    fastest for packs of some hundred nodes, None leaves it as it is. compile: torch.compile for static shapes (the
    default on CUDA). On CUDA blocks of packs lie in device memory, half of what is free at most, and a step is one CUDA
    graph, from the numbers of its packs to the optimizer; where too few blocks fit, packs come from the host, and the
    report's note says so. plot: where to draw the loss curve. Randomness: `seed` alone (weights and the order of
    packs), and on CUDA the order in which sums are added up.
    """
    device = _device(device)
    splits = open_splits(folder, storage_options)
    for packs in splits.values():
        check_packs(packs)
    packs = splits["train"]
    torch.manual_seed(seed)
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    task = find_task(packs, target)
    model = build_model(packs, task, hidden, layers)
    report = TrainReport(task, device)

    def tell(epoch: int, loss: float) -> None:
        report.losses.append(loss)
        if on_epoch is not None:
            on_epoch(epoch, loss)

    start = time.perf_counter()
    if device == "ipu":
        train_on_ipu(model, packs, task, loss_of, epochs=epochs, lr=lr, accumulate=batch_size, seed=seed, on_epoch=tell)
    else:
        report.note = train_on(
            torch.device(device),
            model,
            packs,
            task,
            epochs=epochs,
            lr=lr,
            batch_size=batch_size,
            seed=seed,
            compile=compile,
            on_epoch=tell,
        )
    report.seconds = time.perf_counter() - start
    measured_on = torch.device("cpu" if device == "ipu" else device)
    for split, dataset in splits.items():
        report.metrics[split] = evaluate(model, dataset, task, measured_on)
    if plot is not None:
        draw_losses(report, plot)
    return report


def _device(name: str) -> str:
    """The device to train on, "auto" resolved."""
    there = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if there else "cpu"
    kind = name.partition(":")[0]
    if kind not in ("cpu", "cuda", "ipu"):
        raise SourceError(f"device must be auto, cpu, cuda or ipu; got {name!r}")
    if kind == "cuda" and not there:
        raise SourceError(f"device {name!r}: this torch ({torch.__version__}) finds no CUDA GPU; use cpu, or auto")
    return name


def open_splits(
    folder: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None
) -> dict[str, PackDataset]:
    """The data sets below `folder`, train, valid and test first; a lone data set is the split "train"."""
    root = where(folder)
    if is_data_set(root, storage_options):
        return {"train": PackDataset(root, storage_options=storage_options)}
    order = ["train", "valid", "test"]
    names = data_sets_below(root, storage_options)
    if "train" not in names:
        raise SourceError(
            f"{label(root)} holds no packs: neither manifest.json nor train/manifest.json; run graph-pack build"
        )
    names.sort(key=lambda name: (order.index(name) if name in order else len(order), name))
    return {name: PackDataset(below(root, name), storage_options=storage_options) for name in names}


def check_packs(packs: PackDataset) -> None:
    """Look through all packs before any are learned from: layers trust each edge and each `batch`. FormatError for
    packs that contradict themselves under fitting checksums."""
    manifest, name = packs.manifest, label(packs.path)
    for number, shard in enumerate(manifest.shards):
        reader = open_shard(packs.place, manifest, number)
        try:
            for block in range(shard.blocks):
                faults, _ = check_block(reader.block(block), manifest.schema, manifest.limits)
                if faults:
                    pack = block * manifest.packs_per_block + faults[0].pack
                    raise FormatError(
                        f"{name} contradicts itself: {shard.name}, pack {pack}, {faults[0].field}: {faults[0].what}. "
                        f"`graph-pack verify {name}` names every such place"
                    )
        finally:
            reader.close()


def build_model(packs: PackDataset, task: Task, hidden: int, layers: int) -> GNN:
    """A model for the types and fields that the packs have."""
    axes, keys = packs.manifest.schema.axes, {field.key for field in packs.fields}
    encoders: list[torch.nn.Module] = []

    def encoder(axis: Axis, name: str) -> int | None:
        made = _encoder(packs, axis, axis.column(name), hidden)
        if made is None:
            return None
        encoders.append(made)
        return len(encoders) - 1

    def nodes_of(axis: Axis) -> Nodes:
        name = "x" if axis.column("x") in keys or axis.column("z") not in keys else "z"
        return Nodes(axis.key, axis.column(name), axis.column("batch"), encoder(axis, name))

    def edges_of(axis: Axis) -> Edges:
        name, ends = axis.column("edge_attr"), (axis.key, *axis.ends, axis.column("edge_index"))
        if name in keys or axis.type is not None or not _has_positions(packs):
            return Edges(*ends, name, encoder(axis, "edge_attr"))
        edges = Edges(*ends, "shifts" if "shifts" in keys else None, len(encoders), "pos")
        encoders.append(LengthEncoder(_longest(packs, edges), hidden))
        return edges

    nodes = [nodes_of(axis) for axis in axes if axis.level == "node"]
    edges = [edges_of(axis) for axis in axes if axis.level == "edge" and axis.column("edge_index") in keys]
    readout = None if task.level == "graph" else Axis(task.level, task.type).key
    return GNN(nodes, edges, encoders, hidden=hidden, layers=layers, outputs=task.outputs, readout=readout)


def _has_positions(packs: PackDataset) -> bool:
    """Whether nodes have positions, whose distances are then features of edges without others."""
    return any(
        field.key == "pos" and field.level == "node" and field.dtype.startswith("float") for field in packs.fields
    )


def _longest(packs: PackDataset, edges: Edges) -> float:
    lengths = (edges.rows(pack)[pack["edges_mask"]] for pack in packs_of(packs))
    return max((float(rows.max()) for rows in lengths if len(rows)), default=1.0)


def _encoder(packs: PackDataset, axis: Axis, key: str, hidden: int) -> torch.nn.Module | None:
    field = next((one for one in packs.fields if one.key == key and one.axis == axis), None)
    if field is None or 0 in field.shape:
        return None
    width = math.prod(field.shape)
    if field.dtype.startswith(("float", "bfloat")):
        return DenseEncoder(width, hidden)
    largest = torch.zeros(width, dtype=torch.int64)
    for pack in packs_of(packs):
        rows = pack[key][pack[axis.mask_name]].reshape(-1, width).to(torch.int64)
        if len(rows):
            largest = torch.maximum(largest, rows.amax(dim=0))
    if largest.double().sum() >= MOST_VALUES:
        raise SourceError(
            f"{key!r} is whole numbers up to {largest.max()}: each value of a column gets weights of its own, for "
            f"{MOST_VALUES:,} values at most. Make it floating"
        )
    return ColumnEmbedding(largest.tolist(), hidden)


def evaluate(model: torch.nn.Module, dataset: PackDataset, task: Task, device: torch.device) -> dict[str, float]:
    """Metrics over known targets only; beside them what the training mean, or the commonest class, scores."""
    parts: list[list[torch.Tensor]] = [[], [], []]
    model.eval()
    with torch.no_grad():
        for batch in torch_loader(dataset, shuffle=False):
            batch = batch.to(device)
            for part, rows in zip(parts, (model(batch), batch[task.target], task.known(batch)), strict=True):
                part.append(rows.cpu())
    model.train()
    output, truth, known = (torch.cat(part) for part in parts)
    count = known.sum().item()
    if task.kind == "classification":
        labels = truth.reshape(-1)[known].long()
        commonest = torch.bincount(labels).max().item() / count if count else math.nan
        right = (output[known].argmax(dim=1) == labels).double().mean().item()
        return {"accuracy": right, "accuracy_of_commonest_class": commonest, "evaluated": count}
    right, std = scaled(truth, task, torch.float64), torch.tensor(task.std, dtype=torch.float64)
    mae, mae_of_mean = ((error * std).abs()[known].mean().item() for error in (output.double() - right, right))
    return {"mae": mae, "mae_of_training_mean": mae_of_mean, "evaluated": int(known.any(dim=1).sum())}


def draw_losses(report: TrainReport, path: str | Path) -> None:
    """The loss of each epoch as a picture; the suffix of `path` chooses the format."""
    save_picture(_loss_curve(report), Path(path))


@drawn
def _loss_curve(report: TrainReport) -> Picture:
    figure, (axis,) = new_figure(6, 3.5)
    axis.plot(range(1, len(report.losses) + 1), report.losses, marker="o")
    axis.set_ylim(bottom=0)
    whole_ticks(axis.xaxis)
    finish(axis, f"Training loss on {report.task.target}", "epoch", f"loss per {report.task.level}-level target")
    said = ", ".join(f"{loss:.4g}" for loss in report.losses)
    return Picture("Training loss", f"Training loss on {report.task.target} by epoch: {said}.", figure)
