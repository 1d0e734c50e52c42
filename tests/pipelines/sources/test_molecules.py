"""Features of molecules of every kind: PyG's, whether they came out of RDKit's binary form or from its getters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem, rdBase
from torch_geometric.utils import from_smiles

from pipelines.sources import molecules, pickled
from pipelines.sources.molecules import Molecules, featurise
from pipelines.sources.pickled import OPTIONS, decode

DECODED = {
    "hydrogens": "C [H] [H][H] [H+] [H-] [2H] [3H]C [H]C([H])([H])[H] [CH4] O [OH2] [2H]O[2H] [NH4+].[OH-] [BH4-]",
    "charges": "[NH4+] [O-][N+](=O)C [Al+3] [Fe+6] [C-]#[O+] [Na+].[Cl-] [O-2] [S-2].[Zn+2] C[N+](C)(C)C.[I-] [Fe-5]",
    "radicals": "[CH3] [CH2] [CH] [C] [O] [O][O] [N]=O C[CH]C [Cl] CC[O] c1cc[c]cc1 [SiH2] [N+]",
    "isotopes": "[13CH4] [13C]C [235U] [238UH2] [999C] [18O]=[13C]=O [11CH3]c1ccccc1",
    "metals": "[Fe] [Li]C [Og] [Fe+2].c1cc[cH-]c1.c1cc[cH-]c1 [Pt](Cl)(Cl)(N)N C[Mg]Br C[Zn]C [Hg]C F[U](F)(F)(F)(F)F",
    "dative": "N->[Pt](Cl)(Cl)<-N [Cl-]->[Fe+2]<-[Cl-] CO->[Li+] O->[Cu+2]<-O CC(=O)[O-]->[Na+]",
    "kinds of bonds": "C#N C=C=C C$C [W]$[W] C:C c1ccccc1 C1=CC=CC=C1 C=CC=C N=[N+]=[N-] [C-]#[N+]C OC=CC#N",
    "E and Z": r"F/C=C/F F/C=C\F F\C=C\F C/C=C/C=C\C F/C(Cl)=C(Br)/I C/C=N/O C1CCCC/C=C/1 C/N=N/C CC=CC F/C=C/C=C/F",
    "tetrahedral": "C[C@H](F)Cl C[C@@H](F)Cl C[C@](F)(Cl)Br N[C@@H](C)C(=O)O C[S@](=O)CC C[P@@](F)Cl C[N@+](CC)(F)Cl",
    "other centres": "C[Pt@SP1](F)(Cl)Br F[Pt@SP3](Cl)(Br)I S[As@TB1](F)(Cl)(Br)N S[As@TB15](F)(Cl)(Br)N "
    "C[Co@OH1](F)(Cl)(Br)(I)S C[Co@OH26](F)(Cl)(Br)(I)S CC(F)=[C@AL1]=C(F)C C[C@TH1](F)(Cl)Br",
    "hypervalent": "FS(F)(F)(F)(F)F ClP(Cl)(Cl)(Cl)Cl FI(F)(F)(F)F OCl(=O)(=O)=O F[Xe](F)(F)F CS(=O)(=O)C CP(=O)(O)O "
    "O=[N](=O)C F[Si-2](F)(F)(F)(F)F",
    "aromatic": "c1cc[nH]c1 c1ccncc1 [nH]1cccc1 c1ccoc1 c1cc[se]c1 c1cc[te]c1 c1ccc2[nH]ccc2c1 "
    "C[n+]1ccccc1 O=c1cc[nH]cc1 [O-][n+]1ccccc1 b1ccccc1 c1[nH]cnc1 c1cccc[cH+]c1 [cH-]1cccc1 Cn1cnc2c1c(=O)[nH]cn2",
    "rings": "C1CC1 C12CC1C2 C1CC2CC1CC2 C1CCC2(CC1)CC2 C12C3C4C1C5C2C3C45 C1CC1.C1CCC1 C1CCCCCCCCCCCCCCCCCCCCCCC1 "
    "c12c3c4c5c1c6c7c8c2c9c1c3c2c3c4c4c%10c5c5c6c6c7c7c%11c8c9c8c9c1c2c1c2c3c4c3c4c%10c5c5c6c6c7c7c%11c8c8c9c1c1c2c3c2"
    "c4c5c6c3c7c8c1c23",
    "parts": "C.C O.O.O [Na+].[OH-].[Cl-].[K+] c1ccccc1.[CH3] [H+].[Cl-] N.B",
    "map numbers": "[CH3:1][OH:2] [CH3:127]C [CH3:128]C [13CH3:255][C@H:1000]([F:3])[Cl:99999] [C:0]C",
    "wildcards": "* *C [*]C [2*]C [*:1]c1ccccc1 [*:300]C[*:2] [*+]C *=C *C* [2*:130]#C *1ccccc1",
}
"""SMILES by kind, all laid out in bytes as is known."""

EXTENDED = (
    "CC=CC |ctu:1|",  # stereo that may be either
    "C1CCCCCC=C1 |c:6|",
    "C1CCCCCCCCC=C1 |t:9|",
    "C[Pt]N |Z:0|",  # a bond of order zero
    "CC |^1:0|",
    "CC |(0,0,;1.5,0,)|",
    "CC* |$;;R1$|",
    "CC1=CC=CC(I)=C1C1=C(C)C=CC=C1F |(1.5,-2.6,;0.75,-1.3,;1.5,0,;0.75,1.3,;-0.75,1.3,;-1.5,0,;-3,0,;-0.75,-1.3,;"
    "-1.5,-2.6,;-3,-2.6,;-3.75,-1.3,;-3.75,-3.9,;-3,-5.2,;-1.5,-5.2,;-0.75,-3.9,;0.75,-3.9,),wU:7.7|",  # an axis
)
"""With words of CXSMILES."""

ASKED = (
    "C~C",  # a bond that is a query
    "[*]C |$Q_e;$|",  # an atom that is one
    "CC |m:0:1|",
    "C[C@H](F)Cl |&1:1|",  # groups of centres
    "CCO |Sg:n:1:n:ht|",
    "C" * 256,
    "C1" + "C" * 300 + "1",
    "CC(=O)NC" * 60,
)
"""What is laid out otherwise."""


def same_as_pyg(smiles: Sequence[str], found: Molecules) -> None:
    """Each is PyG's graph, or is a fault where PyG raises or gives no node."""
    quiet = rdBase.BlockLogs()
    graphs: dict[int, Any] = {}
    for i, text in enumerate(smiles):
        try:
            graph = from_smiles(text)
        except (ValueError, KeyError):  # a value that is none of PyG's categories
            continue
        if graph.num_nodes:
            graphs[i] = graph
    del quiet
    assert found.kept.tolist() == list(graphs)
    assert sorted([*graphs, *(i for i, _ in found.faults)]) == list(range(len(smiles)))
    nodes, edges = np.cumsum(found.num_nodes), np.cumsum(found.num_edges)
    for at, (i, graph) in enumerate(graphs.items()):
        own_nodes = slice(nodes[at] - found.num_nodes[at], nodes[at])
        own_edges = slice(edges[at] - found.num_edges[at], edges[at])
        assert found.x[own_nodes].tolist() == graph.x.tolist(), smiles[i]
        assert found.edge_index[own_edges].T.tolist() == graph.edge_index.tolist(), smiles[i]
        assert found.edge_attr[own_edges].tolist() == graph.edge_attr.tolist(), smiles[i]


def pickles(smiles: Sequence[str]) -> tuple[list[bytes], np.ndarray, np.ndarray]:
    held = [Chem.MolFromSmiles(text) for text in smiles]
    sizes = np.array([(one.GetNumAtoms(), one.GetNumBonds()) for one in held], dtype=np.int64).reshape(-1, 2)
    return [one.ToBinary(OPTIONS) for one in held], sizes[:, 0], sizes[:, 1]


KINDS = [*((kind, tuple(texts.split())) for kind, texts in DECODED.items()), ("extended", EXTENDED)]


@pytest.mark.parametrize(("kind", "smiles"), KINDS, ids=[kind for kind, _ in KINDS])
def test_odd_molecules_are_decoded_and_are_those_of_pyg(kind: str, smiles: tuple[str, ...]) -> None:
    assert decode(*pickles(smiles)).known.all()
    same_as_pyg(smiles, featurise(smiles))


def test_what_is_laid_out_otherwise_is_asked_for_alone() -> None:
    smiles = [text for pair in zip(ASKED, EXTENDED, strict=True) for text in pair]
    assert decode(*pickles(smiles)).known.tolist() == [False, True] * len(ASKED)
    same_as_pyg(smiles, featurise(smiles))


def test_a_chain_of_more_atoms_than_16_bits_count() -> None:
    atoms = 2**16 + 9
    found = featurise(["CC", "C" * atoms])
    # Atom i of the chain has edges to i - 1 and i + 1; its ends have one edge and three hydrogens, others two and two.
    i = np.arange(atoms)
    edges = np.stack([np.repeat(i, 2), np.stack([i - 1, i + 1], axis=1).ravel()], axis=1)[1:-1]
    assert found.num_nodes.tolist() == [2, atoms] and np.array_equal(found.edge_index[2:], edges)
    assert np.array_equal(found.x[2:, 4], np.where((i == 0) | (i == atoms - 1), 3, 2))
    assert (found.x[2:, 2] == 4).all() and not found.x[2:, 8].any()


def test_a_string_that_comes_again_is_the_same_molecule() -> None:
    smiles = ["CCO", "C(", "C", "CCO", "", "[Fe+7]", "C", "C(", "c1ccccc1", "", "CCO"]
    found = featurise(smiles)
    same_as_pyg(smiles, found)
    assert [reason for _, reason in found.faults] == [
        "RDKit cannot parse the SMILES",
        "the SMILES holds no atom",
        "formal charge 7 has no category in PyG",
        "RDKit cannot parse the SMILES",
        "the SMILES holds no atom",
    ]
    assert featurise([""] * 3).kept.tolist() == [] == featurise([]).kept.tolist()


MANY = [f"{'C' * (1 + i % 7)}{ring}{'N' * (1 + i % 5)}O" for i in range(40) for ring in ("c1ccccc1", "=", "C1CC1", "")]


def equal(one: Molecules, other: Molecules) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in Molecules.__dataclass_fields__)


def test_forms_of_unknown_versions_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = featurise(MANY)
    monkeypatch.setattr(pickled, "VERSIONS", ((99, 1), (16, 99)))
    assert not decode(*pickles(MANY)).known.any()
    assert equal(featurise(MANY), wanted)


@pytest.mark.parametrize(
    ("atoms", "column", "old", "new"), [(True, 6, 4, 3), (True, 2, 3, 2), (True, 4, 1, 5), (False, 2, 1, 2)]
)
def test_a_value_that_means_something_else_is_found(
    monkeypatch: pytest.MonkeyPatch, atoms: bool, column: int, old: int, new: int
) -> None:
    def otherwise(*given: Any) -> Any:
        found = decode(*given)
        rows = found.atoms if atoms else found.bonds
        assert (rows[:, column] == old).any()
        rows[rows[:, column] == old, column] = new
        return found

    wanted = featurise(MANY)
    monkeypatch.setattr(molecules, "decode", otherwise)
    assert equal(featurise(MANY), wanted)


def test_one_molecule_in_so_many_is_compared_whatever_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    smiles = list(dict.fromkeys(MANY))
    assert len(smiles) > molecules._CHECK_EVERY

    def otherwise(*given: Any) -> Any:
        found = decode(*given)
        first = int(given[1][: molecules._CHECK_EVERY].sum())
        found.atoms[first, 8] = 1 - found.atoms[first, 8]
        return found

    wanted = featurise(smiles)
    monkeypatch.setattr(molecules, "decode", otherwise)
    assert equal(featurise(smiles), wanted)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damaged_forms_are_unknown_or_keep_within_their_molecule(data: st.DataObject) -> None:
    forms, num_atoms, num_bonds = pickles(
        ["CCO", "F/C=C/F", "[13CH3:300]c1cc[nH]c1", "*C1CC1[N+](C)(C)C", "C[C@H](F)Cl"]
    )
    which = data.draw(st.integers(0, len(forms) - 1))
    form = bytearray(forms[which])
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(form) - 1), st.integers(0, 255)), min_size=1)):
        form[at] = value
    cut = data.draw(st.sampled_from([len(form), len(form), len(form) - 1, 29, 3, 0]))
    damaged = [*forms]
    damaged[which] = bytes(form[:cut]) + data.draw(st.sampled_from([b"", b"", b"\x16", b"\xff" * 40]))
    whole, found = decode(forms, num_atoms, num_bonds), decode(damaged, num_atoms, num_bonds)
    others = np.arange(len(forms)) != which
    assert found.known[others].all() and whole.known.all()
    for rows, all_rows, numbers in ((found.atoms, whole.atoms, num_atoms), (found.bonds, whole.bonds, num_bonds)):
        of, of_all = np.repeat(np.flatnonzero(found.known), numbers[found.known]), np.repeat(range(len(forms)), numbers)
        assert np.array_equal(rows[of != which], all_rows[of_all != which])
        assert len(rows) == len(of)
