"""Molecules as graphs: SMILES in, the features of PyG's `from_smiles` out, a block at a time and without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np

from packer.errors import MissingExtraError
from pipelines.sources.pickled import OPTIONS, decode

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

_CHECK_EVERY = 128
"""Molecules of which one is looked at twice."""


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
    or bond outside its categories), the string is among `faults`. A string that comes again is parsed once. No
    randomness.
    """
    number: dict[str, int] = {}
    which = [number.setdefault(text, len(number)) for text in smiles]
    molecules = _featurise(list(number))
    return molecules if len(number) == len(smiles) else _repeated(molecules, np.array(which, dtype=np.int64))


def _featurise(smiles: Sequence[str]) -> Molecules:
    """The same, of strings that differ."""
    kept, pickled, num_nodes, num_bonds, faults = _parse(smiles)
    atoms, bonds = _raw([smiles[i] for i in kept], pickled, num_nodes, num_bonds)
    tables = _tables()
    x, strange_atoms = _categories(atoms, tables[: len(ATOM_FEATURES)])
    features, strange_bonds = _categories(bonds[:, 2:], tables[len(ATOM_FEATURES) :])
    if len(strange_atoms) or len(strange_bonds):
        strange = _strange(ATOM_FEATURES, atoms, strange_atoms, num_nodes)
        strange |= _strange(BOND_FEATURES, bonds[:, 2:], strange_bonds, num_bonds)
        return _without({kept[i]: reason for i, reason in strange.items()}, smiles)
    edge_index, edge_attr = _directed(bonds[:, :2], features, num_nodes, num_bonds)
    return Molecules(np.array(kept, dtype=np.int64), num_nodes, 2 * num_bonds, x, edge_index, edge_attr, tuple(faults))


def _repeated(molecules: Molecules, which: np.ndarray) -> Molecules:
    """The molecules of many strings; which: int64 [strings], the position of each among those that were featurised."""
    position = np.full(which.max() + 1, -1)
    position[molecules.kept] = np.arange(len(molecules.kept))
    kept = np.flatnonzero(position[which] >= 0)
    graph = position[which[kept]]
    reasons = dict(molecules.faults)
    nodes, edges = _stretches(molecules.num_nodes, graph), _stretches(molecules.num_edges, graph)
    return Molecules(
        kept,
        molecules.num_nodes[graph],
        molecules.num_edges[graph],
        molecules.x[nodes],
        molecules.edge_index[edges],
        molecules.edge_attr[edges],
        tuple((i, reasons[at]) for i, at in enumerate(which.tolist()) if at in reasons),
    )


def _stretches(sizes: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Numbers of the rows of the chosen ones, of things that take `sizes` rows one after the other."""
    wanted = sizes[chosen]
    start = (np.cumsum(sizes) - sizes)[chosen] - np.cumsum(wanted) + wanted
    return np.repeat(start, wanted) + np.arange(wanted.sum())


def _parse(smiles: Sequence[str]) -> tuple[list[int], list[bytes], np.ndarray, np.ndarray, list[tuple[int, str]]]:
    """(positions of molecules, their binary forms, numbers of atoms, of bonds; position and reason of others)."""
    try:
        from rdkit import Chem, rdBase
    except ImportError as error:
        raise MissingExtraError("rdkit", "molecules", "reading SMILES") from error
    kept: list[int] = []
    pickled: list[bytes] = []
    sizes: list[tuple[int, int]] = []
    faults: list[tuple[int, str]] = []
    quiet = rdBase.BlockLogs()
    for i, text in enumerate(smiles):
        molecule: Any = Chem.MolFromSmiles(text)
        if molecule is None:
            faults.append((i, "RDKit cannot parse the SMILES"))
        elif molecule.GetNumAtoms() == 0:
            faults.append((i, "the SMILES holds no atom"))
        else:
            kept.append(i)
            pickled.append(molecule.ToBinary(OPTIONS))
            sizes.append((molecule.GetNumAtoms(), molecule.GetNumBonds()))
    del quiet
    num_nodes, num_bonds = np.array(sizes, dtype=np.int64).reshape(-1, 2).T.copy()
    return kept, pickled, num_nodes, num_bonds, faults


def _raw(
    smiles: Sequence[str], pickled: Sequence[bytes], num_nodes: np.ndarray, num_bonds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(int64 [atoms, 9], int64 [bonds, 5]: both atoms, features) of molecules one after another, in RDKit's numbers.

    They come out of the binary form, whose layout is RDKit's own affair. So RDKit's getters are asked for every 128th
    molecule, for the first one with each value of each feature, and for all that are laid out otherwise than is known.
    Where they say anything else, they are asked for all.
    """
    decoded = decode(pickled, num_nodes, num_bonds)
    known = decoded.known
    of_atom, of_bond = np.repeat(np.arange(len(known)), num_nodes), np.repeat(np.arange(len(known)), num_bonds)
    atoms, bonds = decoded.atoms, decoded.bonds
    if not known.all():
        atoms = np.zeros((len(of_atom), atoms.shape[1]), dtype=np.int64)
        bonds = np.zeros((len(of_bond), bonds.shape[1]), dtype=np.int64)
        atoms[known[of_atom]], bonds[known[of_bond]] = decoded.atoms, decoded.bonds
    sample = np.zeros(len(known), dtype=bool)
    sample[::_CHECK_EVERY] = True
    for rows, molecule in ((atoms, of_atom), (bonds[:, 2:], of_bond)):
        for column in rows.T:
            sample[_first_with(column, molecule, sample)] = True
    sample &= known
    theirs = _got([smiles[i] for i in np.flatnonzero(sample).tolist()])
    if not (np.array_equal(atoms[sample[of_atom]], theirs[0]) and np.array_equal(bonds[sample[of_bond]], theirs[1])):
        known = np.zeros_like(known)
    if not known.all():
        rest = _got([smiles[i] for i in np.flatnonzero(~known).tolist()])
        atoms[~known[of_atom]], bonds[~known[of_bond]] = rest
    return atoms, bonds


def _first_with(values: np.ndarray, molecule: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """The first molecule with each value that none of the sample has. values: of one byte; molecule: that of each."""
    first = np.full(256, -1, dtype=np.int64)
    first[values[::-1] & 255] = molecule[::-1]  # of several, the last one stays
    first[values[sample[molecule]] & 255] = -1
    return first[first >= 0]


def _got(smiles: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """What `_raw` gives, of strings that are molecules, by RDKit's getters."""
    from rdkit import Chem, rdBase

    quiet = rdBase.BlockLogs()
    molecules: list[Any] = [Chem.MolFromSmiles(text) for text in smiles]
    del quiet
    atoms = _rows((_atoms(molecule) for molecule in molecules), len(ATOM_FEATURES))
    return atoms, _rows((_bonds(molecule) for molecule in molecules), 2 + len(BOND_FEATURES))


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
    # By way of the atoms: to find a bond by its number takes RDKit as long as there are bonds.
    bonds = {b.GetIdx(): b for a in molecule.GetAtoms() for b in a.GetBonds()}
    for b in map(bonds.__getitem__, range(len(bonds))):
        yield from (b.GetBeginAtomIdx(), b.GetEndAtomIdx(), b.GetBondType(), b.GetStereo(), b.GetIsConjugated())


def _rows(values: Any, width: int) -> np.ndarray:
    """int64 [rows, width]; RDKit's enumerations are integers."""
    return np.fromiter(chain.from_iterable(values), dtype=np.int64).reshape(-1, width)


@lru_cache(maxsize=1)
def _tables() -> tuple[tuple[int, np.ndarray], ...]:
    """For each feature (lowest value, category of each value from there on; -1: none), with a -1 before and behind."""
    from rdkit import Chem

    def named(values: dict[int, Any], names: list[str]) -> tuple[int, np.ndarray]:
        table = np.full(max(values) + 3, -1, dtype=np.int64)
        for number, value in values.items():
            if str(value) in names:
                table[number + 1] = names.index(str(value))
        return -1, table

    def span(low: int, high: int) -> tuple[int, np.ndarray]:
        return low - 1, np.concatenate([[-1], np.arange(high - low + 1), [-1]])

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
    categories = np.empty_like(raw)
    for column, (low, table) in enumerate(tables):
        categories[:, column] = table.take(raw[:, column] - low, mode="clip")
    return categories, np.argwhere(categories < 0)


def _strange(names: Sequence[str], raw: np.ndarray, where: np.ndarray, rows: np.ndarray) -> dict[int, str]:
    """Reason for each molecule with a value outside the categories, by its position among the molecules."""
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
    offset = np.tile(np.repeat(np.cumsum(num_nodes) - num_nodes, num_bonds), 2)
    order = np.argsort((edges[:, 0] + offset) * num_nodes.max(initial=1) + edges[:, 1])
    return np.ascontiguousarray(edges[order]), np.tile(features, (2, 1))[order]
