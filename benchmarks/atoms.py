"""What `ase:` takes beside reading frames and their neighbour lists alone.

    python benchmarks/atoms.py [--frames 10000] [--runs 3] [--out benchmarks/results/atoms.md]

Small periodic structures of copper, nickel and aluminium (4 or 8 atoms, noise on the positions; energies, forces and
stresses), written by ASE into a file of each kind. Alone: `ase.io.iread`, and for each frame matscipy's neighbour list
("ijS", 5 Angstrom). `ase:`: its tasks, one after another, from the file to blocks of a scan. CPU seconds of one
process, runs in turn, medians. The edges of both are compared, all of them, in each run.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.io import iread, write
from matscipy.neighbours import neighbour_list
from provenance import provenance
from tables import table

from pipelines.sources.atoms import ase_files

KINDS = (".extxyz", ".traj", ".db", ".aselmdb")
CUTOFF = 5.0


def structures(count: int) -> list[Any]:
    rng = np.random.default_rng(0)
    found: list[Any] = []
    for number in range(count):
        atoms = bulk(("Cu", "Ni", "Al")[number % 3], cubic=True) * (1, 1, 1 + number % 2)
        atoms.positions += rng.normal(scale=0.1, size=(len(atoms), 3))
        forces = rng.normal(size=(len(atoms), 3))
        atoms.calc = SinglePointCalculator(atoms, energy=rng.normal(), forces=forces, stress=rng.normal(size=6))
        found.append(atoms)
    return found


def write_all(path: Path, frames: list[Any]) -> None:
    if path.suffix in (".db", ".aselmdb"):
        with connect(path) as database:
            for atoms in frames:
                database.write(atoms)
    else:
        write(path, frames)


def alone(path: Path) -> tuple[Any, ...]:
    """Neighbour lists of all frames: edges a frame, sources, targets, images."""
    lists = [neighbour_list("ijS", atoms, CUTOFF) for atoms in iread(path, ":")]
    return ([len(one[0]) for one in lists], *(np.concatenate(part) for part in zip(*lists, strict=True)))


def packed(path: Path) -> list[Any]:
    """The scanned blocks of all tasks."""
    targets = ("energy", "forces", "stress")
    return [task.scan() for task in ase_files(str(path), CUTOFF, targets, (), "float32").tasks()]


def timed(run: Callable[[Path], Any], path: Path) -> tuple[float, Any]:
    start = time.process_time()
    found = run(path)
    return time.process_time() - start, found


def compare(peers: tuple[Any, ...], scans: list[Any]) -> int:
    """The number of edges, after a comparison of them all."""
    counts, source, target, images = peers
    frame = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((*images.T[::-1], target, source, frame))
    blocks = [scan.graphs for scan in scans]
    assert np.array_equal(np.concatenate([block.counts["edge"] for block in blocks]), counts)
    ends = np.concatenate([block.columns["edge_index"] for block in blocks])
    assert np.array_equal(ends, np.stack([source, target], axis=1)[order])
    assert np.array_equal(np.concatenate([block.columns["unit_shifts"] for block in blocks]), images[order])
    return len(ends)


def row(path: Path, frames: int, runs: int) -> list[Any]:
    both: list[tuple[float, float]] = []
    edges = 0
    for _ in range(runs):
        (theirs, peers), (ours, scans) = timed(alone, path), timed(packed, path)
        edges = compare(peers, scans)
        both.append((theirs, ours))
    theirs, ours = (1e6 * statistics.median(times) / frames for times in zip(*both, strict=True))
    ratio = statistics.median(b / a for a, b in both)
    return [path.suffix, f"{frames:,}", f"{edges:,}", f"{theirs:.0f}", f"{ours:.0f}", f"{ratio:.2f}"]


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--frames", type=int, default=10_000)
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "atoms.md")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = structures(options.frames)
        rows: list[list[Any]] = []
        for ending in KINDS:
            path = Path(folder) / f"frames{ending}"
            write_all(path, made)
            rows.append(row(path, options.frames, options.runs))
            print(*rows[-1], sep="  ", flush=True)
    lines = [
        "# Frames of atoms",
        "",
        "\n".join((__doc__ or "").splitlines()[4:]),
        "",
        provenance("numpy", "ase", "matscipy", "lmdb", seed=0),
        "",
        *table("file|frames|edges|alone, µs a frame|ase:, µs a frame|ratio", rows, 1),
    ]
    options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
