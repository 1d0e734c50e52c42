"""`train` and `doctor`: a small model on packs, and what is installed here."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer

from packer import __version__
from pipelines.cli import options as options
from pipelines.cli.checks import reading
from pipelines.cli.output import say, show, show_json, table
from pipelines.stores.locations import where

_PACKAGES = (
    ("numpy", "", "everything"),
    ("pyarrow", "", "everything"),
    ("ortools", "optimal", "algorithm optimal, proven bounds"),
    ("numba", "optimal", "fast packing (without it: the same plans, slowly)"),
    ("torch", "torch", "reading packs, training"),
    ("torch_geometric", "pyg", "tudataset: and pyg: sources, unpack"),
    ("rdkit", "molecules", "sample:nci, smiles: sources"),
    ("ase", "atoms", "sample:g2, ase: sources"),
    ("matscipy", "atoms", "neighbour lists of ase: sources"),
    ("lmdb", "atoms", "ase: sources of .aselmdb files"),
    ("typer", "cli", "this command"),
    ("matplotlib", "report", "plots"),
    ("fsspec", "s3", "data sets at URLs"),
    ("s3fs", "s3", "data sets at s3://"),
    ("gcsfs", "gcs", "data sets at gs://"),
    ("poptorch", "", "loading on IPUs; from Graphcore's SDK, on no package index"),
)


def register(app: typer.Typer) -> None:
    app.command("train", epilog="Example: graph-pack train packs --epochs 8")(train)
    app.command("doctor", epilog="Example: graph-pack doctor")(doctor)


def train(
    folder: options.FolderOrUrl,
    epochs: Annotated[int, options.number_option("epochs", "N", "Times over all packs.")] = 5,
    hidden: Annotated[int, options.number_option("hidden", "N", "Width of the model.")] = 64,
    layers: Annotated[int, options.number_option("layers", "N", "Message passing layers.")] = 3,
    lr: Annotated[float, options.number_option("lr", "R", "Learning rate.")] = 2e-3,
    batch_size: Annotated[int, options.number_option("batch_size", "B", "Packs a step.")] = 1,
    target: Annotated[str, options.option("FIELD", "What to learn: y, paper/y.")] = "y",
    seed: options.Seed = 0,
    device: Annotated[str, options.option("auto|cpu|cuda|ipu", "Where to train.")] = "auto",
    plot: options.Plot = None,
    json_output: options.Json = False,
    config: options.Config = None,
) -> None:
    """Train a small masked GNN on the packs, and evaluate it on every split."""
    from pipelines.training.train import train as run_training

    def tell(epoch: int, loss: float) -> None:
        if not json_output:
            show(f"epoch {epoch + 1}/{epochs}: loss {loss:.4f}")

    with reading(where(folder)):
        report = run_training(
            folder,
            target=target,
            epochs=epochs,
            hidden=hidden,
            layers=layers,
            lr=lr,
            batch_size=batch_size,
            seed=seed,
            device=device,
            plot=plot,
            on_epoch=tell,
        )
    if report.note:
        say(report.note)
    if json_output:
        show_json(asdict(report))
        return
    names = list(next(iter(report.metrics.values())))
    rows = [[split, *(f"{metrics[name]:,.4g}" for name in names)] for split, metrics in report.metrics.items()]
    task = report.task
    title = f"{task.target}, {task.level}-level {task.kind}: {report.seconds:.1f} s on {report.device}"
    show(table(title, ["split", *(name.replace("_", " ") for name in names)], rows))
    if plot is not None:
        say(f"loss curve: {plot}")


def doctor(json_output: options.Json = False) -> None:
    """What is installed here, and what that enables."""
    packages = [(name, _version(name), extra, use) for name, extra, use in _PACKAGES]
    facts: dict[str, Any] = {
        "graph-packer": __version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "free_bytes": shutil.disk_usage(Path.cwd()).free,
        "packages": {name: installed for name, installed, _, _ in packages},
    }
    if json_output:
        show_json(facts)
        return
    rows: list[list[Any]] = [
        [name, installed or "missing", use, "" if installed or not extra else f"pip install 'graph-packer[{extra}]'"]
        for name, installed, extra, use in packages
    ]
    show(
        f"graph-packer {facts['graph-packer']} on Python {facts['python']}, {facts['system']}, {facts['cpus']} CPUs, "
        f"{facts['free_bytes'] / 1e9:,.1f} GB free here",
        table("", ["package", "version", "for", "to install"], rows, left=4),
    )
    missing = [name for name in ("numpy", "pyarrow") if _version(name) is None]
    if missing:
        raise typer.Exit(1)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
