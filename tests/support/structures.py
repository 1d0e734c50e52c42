"""Small periodic structures and molecules with energies and forces, for what reads frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.io import write

ENDINGS = (".extxyz", ".traj", ".db", ".aselmdb")


def structures(count: int, seed: int = 0) -> list[Atoms]:
    """Crystals, slabs and molecules of 1 to 9 atoms. Energies, forces and stresses are noise; some have no stress."""
    rng = np.random.default_rng(seed)
    found: list[Atoms] = []
    for number in range(count):
        atoms = (bulk("Cu", cubic=number % 2 == 0), bulk("NaCl", "rocksalt", a=5.6), molecule("CH3CH2OH"))[number % 3]
        if number % 3 == 1:
            atoms.pbc = (True, True, number % 2)
        # Eight decimals, as text has them.
        atoms.positions = np.round(atoms.positions + rng.normal(scale=0.05, size=(len(atoms), 3)), 8)
        results: dict[str, Any] = {"energy": float(rng.normal()), "forces": rng.normal(size=(len(atoms), 3)).round(8)}
        if number % 3 == 0:
            results["stress"] = rng.normal(size=6)
        atoms.calc = SinglePointCalculator(atoms, **results)
        found.append(atoms)
    return found


def write_frames(path: Path, frames: list[Atoms]) -> Path:
    """Into a file of the kind that its name says."""
    if path.suffix in (".db", ".aselmdb"):
        with connect(path) as database:
            for atoms in frames:
                database.write(atoms)
        path.with_name(path.name + "-lock").unlink(missing_ok=True)
    else:
        write(path, frames)
    return path
