"""Small jobs for the tests of building: molecules and rings, limits, what a build left, and builds that are killed."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from packer import PackLimits, verify_shards
from packer.shards.layout import Layout
from pipelines.building.mapped import shards as mapped_shards
from pipelines.building.spilled import groups, phases
from pipelines.sources import pyg, smiles

LIMITS = PackLimits(num_nodes=40, num_edges=90, num_graphs=6)
SMILES = ["CCO", "c1ccccc1", "C", "CC(=O)O", "C1CC1", "N#N", "O=C=O", "CCCCCCCC", "c1ccc2ccccc2c1", "CN"]


@contextmanager
def in_small_parts() -> Iterator[None]:
    """Builds make several blocks, groups of blocks and shards of little data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapped_shards, "choose_layout", lambda sample, compression: Layout(2, 4))
        patch.setattr(smiles, "_ROWS_PER_BLOCK", 20)
        patch.setattr(pyg, "_GRAPHS_PER_BLOCK", 15)
        patch.setattr(phases.groups, "groups_of", partial(groups.groups_of, most_bytes=4_000))
        yield


def graphs(count: int, seed: int = 0) -> list[Data]:
    """Rings of 2 to 9 nodes with node, edge and graph fields."""
    rng = np.random.default_rng(seed)
    found: list[Data] = []
    for number in range(count):
        n = int(rng.integers(2, 10))
        ring = torch.arange(n)
        edge_index = torch.stack([torch.cat([ring, (ring + 1) % n]), torch.cat([(ring + 1) % n, ring])])
        found.append(
            Data(
                x=torch.from_numpy(rng.standard_normal((n, 3)).astype(np.float32)),
                edge_index=edge_index,
                edge_attr=torch.from_numpy(rng.integers(0, 5, (2 * n, 2))),
                y=torch.tensor([float(number)]),
                name=f"ring {number}",
            )
        )
    return found


def hashes(folder: Path) -> dict[str, str]:
    """Every file of a build but build.json, which names times and machines."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "build.json")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def belongings(folder: Path) -> dict[str, bytes]:
    """Files of a stranger, some by names that a build uses too; name -> content."""
    names = ("thesis.tex", "blocks/00000000", "routed/train/000000", "table/000.bin", "journal.jsonl", "job.json")
    for name in (*names, "graph-pack.json", "scratch/notes", "deep/er/x.bin", ".hidden"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(f"mine: {name}".encode())
    return files(folder)


def complete_or_none(folder: Path) -> bool:
    """Whether every data set that has a manifest is whole; True also where there is none."""
    return all(verify_shards(path.parent).ok for path in folder.rglob("manifest.json"))


def killed_at(event: int, job: Callable[[], Any]) -> bool:
    """Run `job` in a forked process that is killed at its event-th flush to disk; False where it ends before."""
    child = os.fork()
    if child == 0:
        seen = 0
        flush = os.fsync

        def count(handle: int) -> None:
            nonlocal seen
            seen += 1
            if seen == event:
                os.kill(os.getpid(), signal.SIGKILL)
            flush(handle)

        os.fsync = count
        try:
            job()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])
