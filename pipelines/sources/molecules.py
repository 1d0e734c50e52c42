"""Molecules as graphs: SMILES in, the features of PyG's `from_smiles` out, a block at a time and without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np

from packer.errors import MissingExtraError

# Categories in the order of torch_geometric.utils.smiles, whose positions are the features.
_CHIRALITY = [
    "CHI_UNSPECIFIED",
    "CHI_TETRAHEDRAL_CW",
    "CHI_TETRAHEDRAL_CCW",
    "CHI_OTHER",
    "CHI_TETRAHEDRAL",
    "CHI_ALLENE",
    "CHI_SQUAREPLANAR",
    "CHI_TRIGONALBIPYRAMIDAL",
    "CHI_OCTAHEDRAL",
]
_HYBRIDIZATION = ["UNSPECIFIED", "S", "SP", "SP2", "SP3", "SP3D", "SP3D2", "OTHER"]
_BOND_TYPE = [
    "UNSPECIFIED",
    "SINGLE",
    "DOUBLE",
    "TRIPLE",
    "QUADRUPLE",
    "QUINTUPLE",
    "HEXTUPLE",
    "ONEANDAHALF",
    "TWOANDAHALF",
    "THREEANDAHALF",
    "FOURANDAHALF",
    "FIVEANDAHALF",
    "AROMATIC",
    "IONIC",
    "HYDROGEN",
    "THREECENTER",
    "DATIVEONE",
    "DATIVE",
    "DATIVEL",
    "DATIVER",
    "OTHER",
    "ZERO",
]
_STEREO = ["STEREONONE", "STEREOANY", "STEREOZ", "STEREOE", "STEREOCIS", "STEREOTRANS"]

ATOM_FEATURES = (
    "atomic number",
    "chirality",
    "degree",
    "formal charge",
    "number of hydrogens",
    "number of radical electrons",
    "hybridization",
    "is aromatic",
    "is in ring",
)
BOND_FEATURES = ("bond type", "stereo", "is conjugated")


@dataclass(frozen=True)
class Molecules:
    """The graphs of those SMILES that are molecules, one after another.

    kept: int64 [graphs], positions in what was given; num_nodes, num_edges: int64 [graphs]; x: int64 [nodes, 9];
    edge_index: int64 [edges, 2], numbers local to the graph, sorted; edge_attr: int64 [edges, 3]; faults: position and
    reason of every other SMILES.
    """

    kept: np.ndarray
    num_nodes: np.ndarray
    num_edges: np.ndarray
    x: np.ndarray
    edge_index: np.ndarray
    edge_attr: np.ndarray
    faults: tuple[tuple[int, str], ...]


def featurise(smiles: Sequence[str]) -> Molecules:
    """What `torch_geometric.utils.from_smiles` gives for each string, without hydrogens, not kekulized.

    Where that would give a graph without nodes (RDKit cannot parse the string, or it holds no atom) or raise (an atom
    or bond outside its categories), the string is among `faults`. No randomness.
    """
    molecules, faults = _parse(smiles)
    kept = np.array([i for i, _ in molecules], dtype=np.int64)
    num_nodes = np.array([m.GetNumAtoms() for _, m in molecules], dtype=np.int64)
    num_bonds = np.array([m.GetNumBonds() for _, m in molecules], dtype=np.int64)
    atoms = _rows((_atoms(m) for _, m in molecules), len(ATOM_FEATURES))
    bonds = _rows((_bonds(m) for _, m in molecules), 2 + len(BOND_FEATURES))
    tables = _tables()
    x, strange_atoms = _categories(atoms, tables[: len(ATOM_FEATURES)])
    features, strange_bonds = _categories(bonds[:, 2:], tables[len(ATOM_FEATURES) :])
    if len(strange_atoms) or len(strange_bonds):
        strange = _strange(ATOM_FEATURES, atoms, strange_atoms, num_nodes)
        strange |= _strange(BOND_FEATURES, bonds[:, 2:], strange_bonds, num_bonds)
        return _without({int(kept[i]): reason for i, reason in strange.items()}, smiles)
    edge_index, edge_attr = _directed(bonds[:, :2], features, num_nodes, num_bonds)
    return Molecules(kept, num_nodes, 2 * num_bonds, x, edge_index, edge_attr, tuple(faults))


def _parse(smiles: Sequence[str]) -> tuple[list[tuple[int, Any]], list[tuple[int, str]]]:
    try:
        from rdkit import Chem, rdBase
    except ImportError as error:
        raise MissingExtraError("rdkit", "molecules", "reading SMILES") from error
    molecules: list[tuple[int, Any]] = []
    faults: list[tuple[int, str]] = []
    quiet = rdBase.BlockLogs()
    for i, text in enumerate(smiles):
        molecule: Any = Chem.MolFromSmiles(text)
        if molecule is None:
            faults.append((i, "RDKit cannot parse the SMILES"))
        elif molecule.GetNumAtoms() == 0:
            faults.append((i, "the SMILES holds no atom"))
        else:
            molecules.append((i, molecule))
    del quiet
    return molecules, faults


def _atoms(molecule: Any) -> Any:
    for a in molecule.GetAtoms():
        yield from (
            a.GetAtomicNum(),
            a.GetChiralTag(),
            a.GetTotalDegree(),
            a.GetFormalCharge(),
            a.GetTotalNumHs(),
            a.GetNumRadicalElectrons(),
            a.GetHybridization(),
            a.GetIsAromatic(),
            a.IsInRing(),
        )


def _bonds(molecule: Any) -> Any:
    for b in molecule.GetBonds():
        yield from (b.GetBeginAtomIdx(), b.GetEndAtomIdx(), b.GetBondType(), b.GetStereo(), b.GetIsConjugated())


def _rows(values: Any, width: int) -> np.ndarray:
    """int64 [rows, width]; RDKit's enumerations are integers."""
    return np.fromiter(chain.from_iterable(values), dtype=np.int64).reshape(-1, width)


@lru_cache(maxsize=1)
def _tables() -> tuple[tuple[int, np.ndarray], ...]:
    """For each feature (lowest value, category of each value from there on; -1: none)."""
    from rdkit import Chem

    def named(values: dict[int, Any], names: list[str]) -> tuple[int, np.ndarray]:
        table = np.full(max(values) + 1, -1, dtype=np.int64)
        for number, value in values.items():
            if str(value) in names:
                table[number] = names.index(str(value))
        return 0, table

    def span(low: int, high: int) -> tuple[int, np.ndarray]:
        return low, np.arange(high - low + 1, dtype=np.int64)

    return (
        span(0, 118),
        named(Chem.ChiralType.values, _CHIRALITY),
        span(0, 10),
        span(-5, 6),
        span(0, 8),
        span(0, 4),
        named(Chem.HybridizationType.values, _HYBRIDIZATION),
        span(0, 1),
        span(0, 1),
        named(Chem.BondType.values, _BOND_TYPE),
        named(Chem.BondStereo.values, _STEREO),
        span(0, 1),
    )


def _categories(raw: np.ndarray, tables: Sequence[tuple[int, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """(category int64 of each value, int64 [k, 2] of row and column of those that have none)."""
    found = np.empty_like(raw)
    for column, (low, table) in enumerate(tables):
        at = raw[:, column] - low
        inside = (at >= 0) & (at < len(table))
        found[:, column] = np.where(inside, table[np.where(inside, at, 0)], -1)
    return found, np.argwhere(found < 0)


def _strange(names: Sequence[str], raw: np.ndarray, where: np.ndarray, rows: np.ndarray) -> dict[int, str]:
    """Reason for each molecule with a value outside the categories, by its place among the molecules."""
    ends = np.cumsum(rows)
    return {
        int(np.searchsorted(ends, row, side="right")): f"{names[column]} {raw[row, column]} has no category in PyG"
        for row, column in where[::-1].tolist()
    }


def _without(strange: dict[int, str], smiles: Sequence[str]) -> Molecules:
    """Featurise again, less the strings in `strange` (rare)."""
    rest = [i for i in range(len(smiles)) if i not in strange]
    again = featurise([smiles[i] for i in rest])
    of_rest = np.array(rest, dtype=np.int64)
    faults = [(rest[i], reason) for i, reason in again.faults]
    faults += strange.items()
    return Molecules(
        of_rest[again.kept],
        again.num_nodes,
        again.num_edges,
        again.x,
        again.edge_index,
        again.edge_attr,
        tuple(sorted(faults)),
    )


def _directed(
    ends: np.ndarray, features: np.ndarray, num_nodes: np.ndarray, num_bonds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Both directions of every bond, sorted by graph, source, target: ([edges, 2], [edges, 3])."""
    edges = np.concatenate([ends, ends[:, ::-1]])
    graph = np.tile(np.repeat(np.arange(len(num_bonds)), num_bonds), 2)
    offset = (np.cumsum(num_nodes) - num_nodes)[graph]
    order = np.lexsort((edges[:, 1], edges[:, 0] + offset))
    return np.ascontiguousarray(edges[order]), np.tile(features, (2, 1))[order]
