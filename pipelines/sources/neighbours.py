"""Structures to graphs: which atoms have each other, or an image of each other, within the cutoff."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from packer.graphs.ragged import pointers

_MOST_IMAGES = 127  # what int8 holds
_MOST_BINS = 1_000_000
_MOST_EDGES = 50_000_000  # of a structure; a search takes some 150 bytes for each
_LARGEST, _BEYOND = float(np.finfo(np.float32).max), "beyond float32"
_FLAT = 1e-8
"""Volume of a cell by that of a box with its edges, below which matrices made of it mean nothing."""


@dataclass(frozen=True, eq=False)
class Structures:
    """Some structures, one after another.

    num_atoms: int64 [structures]; positions: float64 [atoms, 3]; cells: float64 [structures, 3, 3], zero where there is
    none; pbc: bool [structures, 3].
    """

    num_atoms: np.ndarray
    positions: np.ndarray
    cells: np.ndarray
    pbc: np.ndarray


@dataclass(frozen=True, eq=False)
class Edges:
    """The directed edges of all structures without a fault, by structure, source, target and image.

    num_edges: int64 [structures]; ends: int64 [edges, 2], numbers of atoms within their structure; images: int8 [edges,
    3]: how many cells along each vector the target is away, so that
    positions[target] - positions[source] + images @ cell is the vector from source to target; shifts: float64 [edges,
    3], images @ cell; faults: structure -> why it is no graph.
    """

    num_edges: np.ndarray
    ends: np.ndarray
    images: np.ndarray
    shifts: np.ndarray
    faults: dict[int, str]


def edges_within(structures: Structures, cutoff: float, stored: str = "float64") -> Edges:
    """All pairs nearer than the cutoff, both directions of each, with images where the structure is periodic; an atom
    and its own images too. stored: the dtype in which positions and shifts are stored. Time and memory
    O(atoms + edges). No randomness."""
    faults: dict[int, str] = {}

    def mark(wrong: Any, reason: str) -> None:
        for at in np.flatnonzero(wrong).tolist():
            faults.setdefault(at, reason)

    atom_owner = np.repeat(np.arange(len(structures.num_atoms)), structures.num_atoms)
    mark(structures.num_atoms == 0, "no atoms")
    mark(
        _any(~(np.abs(structures.positions) <= _LARGEST).all(axis=1), atom_owner, structures),
        f"a position is NaN or {_BEYOND}",
    )
    mark(~(np.abs(structures.cells) <= _LARGEST).all(axis=(1, 2)), f"the cell holds NaN or what is {_BEYOND}")
    mark(
        (structures.pbc & ~structures.cells.any(axis=2)).any(axis=1),
        "it is periodic along a vector that its cell lacks",
    )
    starts = pointers(structures.num_atoms)
    boxes: dict[int, tuple[np.ndarray, np.ndarray]] = {
        at: _box(structures.positions[starts[at] : starts[at + 1]], structures.cells[at], structures.pbc[at])
        for at in range(len(structures.num_atoms))
        if at not in faults
    }
    _check_boxes(boxes, structures, cutoff, faults)
    edge_owner, source, target, distance, images = _search(boxes, structures, cutoff, faults)
    mark(_any(distance == 0, edge_owner, structures), "two atoms are at one place")
    mark(_any((np.abs(images) > _MOST_IMAGES).any(axis=1), edge_owner, structures), _TOO_FAR)
    first = source + starts[edge_owner]
    alone = np.bincount(first, minlength=len(atom_owner)) == 0
    mark(_any(alone, atom_owner, structures) & (structures.num_atoms > 1), "an atom has no other within the cutoff")
    # Adding zero turns -0.0 into 0.0: shifts that are zero are whole numbers, and stored as such.
    shifts = np.einsum(
        "ek,ekl->el", images, np.repeat(structures.cells, np.bincount(edge_owner, minlength=len(starts) - 1), axis=0)
    )
    shifts += 0.0
    if stored != "float64":
        with np.errstate(all="ignore"):  # of what has a fault anyway
            stored_positions, stored_shifts = structures.positions.astype(stored), shifts.astype(stored)
            changed = _are_changed(stored_positions, first, target + starts[edge_owner], stored_shifts, distance)
        mark(_any(changed, edge_owner, structures), f"{stored} {_CHANGED}")
    if faults:
        kept = ~np.isin(edge_owner, list(faults))
        edge_owner, first, source, target, images, shifts = (
            part[kept] for part in (edge_owner, first, source, target, images, shifts)
        )
    order = _order(first, target, images)
    return Edges(
        np.bincount(edge_owner, minlength=len(structures.num_atoms)),
        np.stack([source, target], axis=1)[order].astype(np.int64),
        images[order].astype(np.int8),
        shifts[order],
        faults,
    )


_MOST_CHANGE = 1e-3
_CHANGED = (
    f"changes the length of an edge by more than {_MOST_CHANGE:.1%}, so far from 0 are its atoms: pass --float-dtype "
    "float64, or move them"
)
_TOO_FAR = f"images within the cutoff are more than {_MOST_IMAGES} cells away (unit_shifts are int8): wrap its atoms"


def _search(
    boxes: Mapping[int, tuple[np.ndarray, np.ndarray]], structures: Structures, cutoff: float, faults: Mapping[int, str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of each edge of the structures without a fault: structure, source, target (both within it), length, images."""
    from matscipy.neighbours import neighbour_list

    parts: list[Any] = []
    starts = pointers(structures.num_atoms)
    sound = [at for at in range(len(structures.num_atoms)) if at not in faults]
    for at in sound:
        cell, origin = boxes[at]
        parts.append(
            neighbour_list(
                "ijdS",
                positions=structures.positions[starts[at] : starts[at + 1]],
                cell=cell,
                pbc=structures.pbc[at],
                cutoff=cutoff,
                cell_origin=origin,
            )
        )
    source, target, distance, images = (
        [np.concatenate(part) for part in zip(*parts, strict=True)]
        if parts
        else [np.zeros(shape, dtype=np.int64) for shape in (0, 0, 0, (0, 3))]
    )
    owner = np.repeat(np.array(sound, dtype=np.int64), [len(part[0]) for part in parts])
    return owner, source, target, distance, images


def _are_changed(
    positions: np.ndarray, source: np.ndarray, target: np.ndarray, shifts: np.ndarray, distance: np.ndarray
) -> np.ndarray:
    """Which edges have another length by positions and shifts as they are stored. source, target: among all atoms."""
    vectors = positions.take(target, axis=0)
    vectors -= positions.take(source, axis=0)
    vectors += shifts
    squares = np.einsum("el,el->e", vectors, vectors)
    return ~(np.abs(squares - distance**2) <= 2 * _MOST_CHANGE * distance**2)


def _any(wrong: Any, owner: np.ndarray, structures: Structures) -> np.ndarray:
    """Which structures have a row that is wrong. owner: the structure of each row."""
    return np.bincount(owner[wrong], minlength=len(structures.num_atoms)) > 0


def _box(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(cell, origin) to search in: along what is not periodic, whatever its cell says, a box around the atoms."""
    if pbc.all():
        return cell, np.zeros(3)
    across = np.linalg.svd(cell[pbc])[2][pbc.sum() :]  # unit vectors, orthogonal to the periodic ones
    along = positions @ across.T
    low = along.min(axis=0)
    box = cell.copy()
    box[~pbc] = across * (along.max(axis=0) - low + 1)[:, None]
    return box, low @ across


def _check_boxes(
    boxes: dict[int, tuple[np.ndarray, np.ndarray]], structures: Structures, cutoff: float, faults: dict[int, str]
) -> None:
    """Find the faults of cells that must be found before a search, which could take any time and memory."""
    if not boxes:
        return
    ids = np.array(list(boxes))
    cells = np.stack([cell for cell, _ in boxes.values()])
    lengths = np.linalg.norm(cells, axis=2)
    with np.errstate(over="ignore", invalid="ignore"):
        flat = ~(np.abs(np.linalg.det(cells / lengths[:, :, None])) >= _FLAT)
    inverse = np.linalg.inv(np.where(flat[:, None, None], np.eye(3), cells))
    heights = 1 / np.linalg.norm(inverse, axis=1)  # between the faces of each direction
    for wrong, reason in (
        (flat, "its cell is singular"),
        (((cutoff / heights > _MOST_IMAGES) & structures.pbc[ids]).any(axis=1), _TOO_FAR),
        (
            ~(np.maximum(heights / cutoff, 1).prod(axis=1) <= _MOST_BINS),
            f"it spreads over more than {_MOST_BINS:,} boxes of the cutoff's size",
        ),
    ):
        for at in ids[wrong].tolist():
            faults.setdefault(at, reason)
    _check_numbers(ids, boxes, heights, structures, cutoff, faults)


def _check_numbers(
    ids: np.ndarray,
    boxes: dict[int, tuple[np.ndarray, np.ndarray]],
    heights: np.ndarray,
    structures: Structures,
    cutoff: float,
    faults: dict[int, str],
) -> None:
    """Find structures with more edges than memory holds, before they are searched for: from how many atoms share a bin
    of about the cutoff's size, as if each bin were spread evenly and had neighbours like itself."""
    pbc, num_atoms, starts = (
        structures.pbc[ids],
        structures.num_atoms[ids].astype(np.float64),
        pointers(structures.num_atoms),
    )
    with np.errstate(all="ignore"):  # of cells with faults
        bins = np.maximum(heights // cutoff, 1)
        # What a sphere of the cutoff reaches: no more than the box, where no images follow.
        reach = np.where(pbc, np.inf, heights).clip(max=2 * cutoff).prod(axis=1).clip(max=4 / 3 * np.pi * cutoff**3)
        volumes = np.abs(np.linalg.det(np.stack([cell for cell, _ in boxes.values()])))
        around = reach * bins.prod(axis=1) / volumes
        many = ~(num_atoms**2 * np.where(pbc.any(axis=1), around, around.clip(max=1)) <= _MOST_EDGES)
    for row in np.flatnonzero(many).tolist():
        at = int(ids[row])
        if at in faults:
            continue
        cell, origin = boxes[at]
        shape = bins[row].astype(np.int64)
        rows = (structures.positions[starts[at] : starts[at + 1]] - origin) @ np.linalg.inv(cell)
        number = np.ravel_multi_index(tuple((np.floor(rows * shape).astype(np.int64) % shape).T), tuple(shape.tolist()))
        estimate = float(np.square(np.bincount(number), dtype=np.float64).sum() * around[row])
        if estimate > _MOST_EDGES:
            faults[at] = (
                f"its {structures.num_atoms[at]:,} atoms would have about {estimate:,.0f} edges, more than "
                f"{_MOST_EDGES:,}: choose a smaller cutoff"
            )


def _order(first: np.ndarray, target: np.ndarray, images: np.ndarray) -> np.ndarray:
    """How to sort edges by source, target and image: one number for each, sorted."""
    if not len(first):
        return first
    low = images.min(axis=0)
    sizes = (first.max() + 1, target.max() + 1, *(images.max(axis=0) - low + 1))
    return np.argsort(np.ravel_multi_index((first, target, *(images - low).T), sizes))
