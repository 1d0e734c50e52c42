"""Neighbour lists: ASE's own, distances worked by hand, and what is no structure."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ase")
pytest.importorskip("matscipy")

from ase.neighborlist import primitive_neighbor_list

from pipelines.sources import neighbours
from pipelines.sources.neighbours import Edges, Structures, edges_within


def edges_of(positions: Any, cell: Any = ((0.0,) * 3,) * 3, pbc: Any = (False,) * 3, cutoff: float = 3.5) -> Edges:
    rows = np.array(positions, dtype=np.float64).reshape(-1, 3)
    cells = np.array(cell, dtype=np.float64).reshape(1, 3, 3)
    return edges_within(Structures(np.array([len(rows)]), rows, cells, np.array([pbc], dtype=bool)), cutoff)


def test_an_atom_and_its_images_in_a_cube() -> None:
    # Edge 3, cutoff 3.5: the six images across the faces are at 3, those across edges at 3 * sqrt(2) = 4.24.
    found = edges_of([[0, 0, 0]], np.eye(3) * 3, (True,) * 3)
    assert found.ends.tolist() == [[0, 0]] * 6 and found.num_edges.tolist() == [6] and not found.faults
    assert found.images.tolist() == [[-1, 0, 0], [0, -1, 0], [0, 0, -1], [0, 0, 1], [0, 1, 0], [1, 0, 0]]
    assert edges_of([[0, 0, 0]], np.eye(3) * 3, (True, False, False)).images.tolist() == [[-1, 0, 0], [1, 0, 0]]


def test_edges_lead_from_source_to_target_across_the_border() -> None:
    # At 0.5 and 9.5 of a line of length 10: from 0 to 1 it is -1, by the image of 1 one cell to the left.
    found = edges_of([[0.5, 0, 0], [9.5, 0, 0]], np.eye(3) * 10, (True,) * 3)
    assert found.ends.tolist() == [[0, 1], [1, 0]] and found.images.tolist() == [[-1, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize("seed", range(4))
def test_the_edges_of_ase(seed: int) -> None:
    """Any periodicity, skewed cells, atoms outside of them, cells that lack what they need not have."""
    rng = np.random.default_rng(seed)
    parts: list[tuple[Any, ...]] = []
    for _ in range(40):
        pbc, cell = rng.random(3) < 0.5, rng.normal(size=(3, 3)) + np.eye(3) * 5
        positions = rng.normal(size=(rng.integers(2, 9), 3)) * 6
        positions = np.concatenate([positions, positions + rng.normal(size=positions.shape)])  # nobody is alone
        parts.append((positions, np.where(pbc[:, None] | (rng.random(3) < 0.5)[:, None], cell, 0), pbc))
    positions, cells, pbcs = zip(*parts, strict=True)
    sizes = np.array([len(rows) for rows in positions])
    found = edges_within(Structures(sizes, np.concatenate(positions), np.stack(cells), np.stack(pbcs)), 4.0)
    at = np.concatenate([[0], np.cumsum(found.num_edges)])
    compared = 0
    for number, (rows, cell, pbc) in enumerate(parts):
        ends, images = (part[at[number] : at[number + 1]] for part in (found.ends, found.images))
        if number in found.faults:
            assert found.faults[number] == "an atom has no other within the cutoff" and not len(ends)
            continue
        whole = np.where(cell.any(axis=1)[:, None], cell, np.eye(3))  # ASE asks for some vector, and does not use it
        i, j, shift, vectors = primitive_neighbor_list("ijSD", pbc, whole, rows, 4.0)
        order = np.lexsort((*shift.T[::-1], j, i))
        assert np.array_equal(ends, np.stack([i, j], axis=1)[order]) and np.array_equal(images, shift[order])
        ours = rows[ends[:, 1]] - rows[ends[:, 0]] + images @ cell
        assert np.allclose(ours, vectors[order]) and (np.linalg.norm(ours, axis=1) < 4.0).all()
        compared += len(ends)
    assert compared > 500


BOX = np.eye(3) * 4


@pytest.mark.parametrize(
    ("positions", "cell", "pbc", "reason"),
    [
        (np.zeros((0, 3)), BOX, (True,) * 3, "no atoms"),
        ([[0, 0, 0], [1, np.nan, 0]], BOX, (True,) * 3, "a position is NaN or beyond float32"),
        ([[0, 0, 0], [1, 1e39, 0]], BOX, (False,) * 3, "a position is NaN or beyond float32"),
        ([[0, 0, 0]], np.diag([4, 4, np.inf]), (True,) * 3, "the cell holds NaN or what is beyond float32"),
        ([[0, 0, 0]], np.diag([4, 4, 0]), (True,) * 3, "it is periodic along a vector that its cell lacks"),
        ([[0, 0, 0]], [[4, 0, 0], [0, 4, 0], [4, 4, 0]], (True,) * 3, "its cell is singular"),
        ([[0, 0, 0]], [[4, 0, 0], [4, 0, 0], [0, 0, 4]], (True, True, False), "its cell is singular"),
        ([[0, 0, 0], [1, 0, 0], [9, 9, 9]], 0 * BOX, (False,) * 3, "an atom has no other within the cutoff"),
        ([[0, 0, 0], [1, 0, 0], [1, 0, 0]], 0 * BOX, (False,) * 3, "two atoms are at one place"),
        ([[0, 0, 0], [4, 0, 0]], BOX, (True,) * 3, "two atoms are at one place"),
        ([[0, 0, 0], [601, 0, 0]], BOX, (True,) * 3, "images within the cutoff are more than 127 cells away"),
        ([[0, 0, 0]], BOX / 1000, (True,) * 3, "images within the cutoff are more than 127 cells away"),
        ([[0, 0, 0], [1e4] * 3], 0 * BOX, (False,) * 3, "it spreads over more than 1,000,000 boxes"),
        ([[0, 0, 0]], BOX * 1e6, (True,) * 3, "it spreads over more than 1,000,000 boxes"),
    ],
)
def test_what_is_no_structure(positions: Any, cell: Any, pbc: Any, reason: str) -> None:
    found = edges_of(positions, cell, pbc)
    assert list(found.faults) == [0] and found.faults[0].startswith(reason)
    assert found.num_edges.tolist() == [0] and found.ends.shape == (0, 2) and found.images.shape == (0, 3)


def test_a_lone_atom_is_a_graph_without_edges() -> None:
    found = edges_of([[0, 0, 0]])
    assert not found.faults and found.num_edges.tolist() == [0]


def test_faults_leave_the_others_as_they_are() -> None:
    pair, far = np.array([[0, 0, 0], [1.0, 0, 0]]), np.array([[0, 0, 0], [90.0, 0, 0]])
    given = Structures(
        np.array([2, 2, 2]), np.concatenate([pair, far, pair]), np.zeros((3, 3, 3)), np.zeros((3, 3)) > 0
    )
    found = edges_within(given, 2.0)
    assert list(found.faults) == [1] and found.num_edges.tolist() == [2, 0, 2]
    assert found.ends.tolist() == [[0, 1], [1, 0]] * 2


@pytest.mark.parametrize("pbc", [(False,) * 3, (True,) * 3, (True, False, False)])
def test_more_edges_than_memory_holds_are_a_fault_before_the_search(
    monkeypatch: pytest.MonkeyPatch, pbc: tuple[bool, ...]
) -> None:
    """About as many as there are; atoms far from a crowd do not hide it."""
    crowd = np.random.default_rng(0).random((400, 3)) * 4
    cells = np.eye(3) * 30 + [[0, 9, 0], [0, 0, 0], [0, 0, 0]]
    positions = np.concatenate([crowd, [[20, 20, 20], [21, 20, 20]]])
    real = int(edges_of(positions, cells, pbc).num_edges[0])
    monkeypatch.setattr(neighbours, "_MOST_EDGES", real // 4)
    found = edges_of(positions, cells, pbc)
    assert not len(found.ends) and list(found.faults) == [0]
    told = re.fullmatch(r"its 402 atoms would have about ([\d,]+) edges, more than .*smaller cutoff", found.faults[0])
    assert told and real / 4 < int(told[1].replace(",", "")) < 4 * real
    monkeypatch.setattr(neighbours, "_MOST_EDGES", 4 * real)
    assert not edges_of(positions, cells, pbc).faults


def test_a_small_cell_with_a_large_cutoff_is_not_searched() -> None:
    found = edges_of(np.random.default_rng(0).random((300, 3)), np.eye(3), (True,) * 3, 20.0)
    assert found.faults[0].startswith("its 300 atoms would have about 3,015,928,947 edges, more than 50,000,000")
