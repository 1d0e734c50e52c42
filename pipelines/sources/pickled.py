"""Atoms and bonds out of RDKit's binary form of molecules (`Mol.ToBinary`), a block of them at a time.

How the form is laid out, in bytes; numbers are little-endian on every machine:

* a mark of 4, 4 zeros, the version (major, minor, patch: 4 each), numbers of atoms and bonds (4 each), 128, 1;
* the atoms: atomic number; flags (64: aromatic, 32: no implicit hydrogens, 8: map number, 4: label); 4 whose bits say
  which values follow; those of `_VALUES`, 1 each; an isotope of 4; map number and label, where there are any;
* 11, the bonds: both atoms; flags (64: aromatic, 32: conjugated, 8: kind, 4: direction, 2: stereo); kind, direction and
  stereo, 1 each, where they are not the usual ones; with stereo a number of atoms, and these;
* a number that says how rings were looked for, the number of rings (4), each as its length and its atoms;
* 22, and nothing more. Up to 255 atoms each one's number takes 1 byte, and so does a ring's length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

OPTIONS = 0x20000
"""For `ToBinary`: no properties and no conformers (PropertyPickleOptions.NoConformers)."""

VERSIONS = ((15, 0), (16, 1), (16, 2), (16, 3), (16, 4))
"""Major and minor versions that are known to be laid out so: RDKit's from 2023.9 to 2026.9."""

_START = np.frombuffer(bytes.fromhex("efbeadde00000000"), dtype=np.uint8)
_HEAD = 30
_MOST_ATOMS = 255
_BONDS, _RINGS, _END = 11, (20, 66, 67, 68), 22
_VALUES = ("charge", "chirality", "hybridization", "hydrogens", "explicit valence", "implicit valence", "radicals")
"""Where bit i + 1 is set, value i follows; else it is 0, the hybridization SP3."""
_SP3, _SINGLE = 4, 1
_SET = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.int64)

Bytes = Callable[[np.ndarray], np.ndarray]
"""Of offsets the bytes that stand there."""


class Decoded(NamedTuple):
    """Molecules one after another. known: bool, of all; the others are laid out otherwise and left out of what follows.

    atoms: int64 [atoms, 9], in the order of ATOM_FEATURES; bonds: int64 [bonds, 5], two atoms and BOND_FEATURES.
    Enumerations are RDKit's.
    """

    known: np.ndarray
    atoms: np.ndarray
    bonds: np.ndarray


def decode(pickled: Sequence[bytes], num_atoms: np.ndarray, num_bonds: np.ndarray) -> Decoded:
    """Of each molecule what `ToBinary(OPTIONS)` gave; known where it is laid out as above, to the last byte.

    Time: linear in bytes, and some array operations for each atom, bond and ring of the molecule that has most.
    """
    data = np.frombuffer(b"".join(pickled), dtype=np.uint8)
    size = np.fromiter(map(len, pickled), np.int64, len(pickled))
    start = np.cumsum(size) - size
    head = data.take(start[:, None] + np.arange(_HEAD), mode="clip")
    numbers = head[:, 8:28].copy().view("<i4")
    known = (size > _HEAD) & (head[:, :8] == _START).all(axis=1) & (head[:, 28:] == (0x80, 1)).all(axis=1)
    known &= (numbers[:, None, :2] == VERSIONS).all(axis=2).any(axis=1)
    known &= (numbers[:, 3] == num_atoms) & (num_atoms <= _MOST_ATOMS) & (numbers[:, 4] == num_bonds)
    return _decode(lambda at: data.take(at, mode="clip"), known, start, start + size, num_atoms, num_bonds)


def _decode(
    byte: Bytes, known: np.ndarray, start: np.ndarray, end: np.ndarray, num_atoms: np.ndarray, num_bonds: np.ndarray
) -> Decoded:
    """The same, of those that begin as they should, each from `start` to `end`."""
    held = np.flatnonzero(known)
    num_atoms_held, num_bonds_held = num_atoms[held], num_bonds[held]
    atoms_at, at = _walk(start[held] + _HEAD, num_atoms_held, lambda at: _atom_size(byte, at))
    good = byte(at) == _BONDS
    bonds_at, at = _walk(at + 1, num_bonds_held, lambda at: _bond_size(byte, at))
    good &= np.isin(byte(at), _RINGS) & (byte(at + 2) == 0) & (byte(at + 3) == 0) & (byte(at + 4) == 0)
    num_rings = byte(at + 1).astype(np.int64)
    rings_at, at = _walk(at + 5, num_rings, lambda at: 1 + byte(at).astype(np.int64))
    good &= (byte(at) == _END) & (at + 1 == end[held])
    first = np.cumsum(num_atoms_held) - num_atoms_held
    of_atom, of_bond, of_ring = (
        np.repeat(np.arange(len(held)), n) for n in (num_atoms_held, num_bonds_held, num_rings)
    )
    atoms, odd_atoms = _atoms(byte, atoms_at)
    bonds, odd_bonds = _bonds(byte, bonds_at)
    ring_size = byte(rings_at).astype(np.int64)
    in_ring = np.repeat(rings_at + 1 - np.cumsum(ring_size) + ring_size, ring_size) + np.arange(ring_size.sum())
    ring_atoms, of_member = byte(in_ring), np.repeat(of_ring, ring_size)
    good[of_atom[odd_atoms]] = False
    good[of_bond[odd_bonds | (bonds[:, :2] >= num_atoms_held[of_bond, None]).any(axis=1)]] = False
    good[of_member[ring_atoms >= num_atoms_held[of_member]]] = False
    if not good.all():
        rest = known.copy()
        rest[held[~good]] = False
        return _decode(byte, rest, start, end, num_atoms, num_bonds)
    atoms[:, 2] += np.bincount((bonds[:, :2] + first[of_bond, None]).ravel(), minlength=len(atoms))
    atoms[ring_atoms + first[of_member], 8] = 1
    return Decoded(known, atoms, bonds)


def _walk(start: np.ndarray, count: np.ndarray, size: Bytes) -> tuple[np.ndarray, np.ndarray]:
    """Of each molecule the offsets of its `count` records, one behind the other, and the offset behind the last.

    size: of the records at offsets. All molecules go on by one record at a time.
    """
    order = np.argsort(-count, kind="stable")
    at, number = start[order], (np.cumsum(count) - count)[order]
    offsets = np.empty(count.sum(), dtype=np.int64)
    most = int(count.max(initial=0))
    for step, going in enumerate(np.searchsorted(-count[order], -np.arange(most)).tolist()):
        offsets[number[:going] + step] = at[:going]
        at[:going] += size(at[:going])
    end = np.empty_like(at)
    end[order] = at
    return offsets, end


def _atom_size(byte: Bytes, at: np.ndarray) -> np.ndarray:
    flags = byte(at + 1)
    size = 6 + _SET[byte(at + 2)] + 4 * _SET[byte(at + 3)]
    if (flags & 12).any():
        mapped, labelled = flags >> 3 & 1, flags >> 2 & 1
        size += mapped * (2 + 4 * (byte(at + size + 1) == 255))  # a number of 128 or more stands in 4 bytes more
        size += labelled * (5 + byte(at + size + 1).astype(np.int64))  # a text behind its length
    return size


def _bond_size(byte: Bytes, at: np.ndarray) -> np.ndarray:
    flags = byte(at + 2)
    size = 3 + (flags >> 3 & 1) + (flags >> 2 & 1).astype(np.int64)
    stereo = flags >> 1 & 1
    if stereo.any():
        size += stereo * (2 + byte(at + size + 1).astype(np.int64))
    return size


def _atoms(byte: Bytes, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(int64 [atoms, 9], their degree that to hydrogens alone, none in a ring; bool: those laid out otherwise)."""
    flags, present = byte(at + 1), byte(at + 2)
    offset = at + 6
    value: dict[str, np.ndarray] = {}
    for bit, name in enumerate(_VALUES, 1):
        here = (present >> bit & 1).astype(bool)
        value[name] = np.where(here, byte(offset), _SP3 if name == "hybridization" else 0)
        offset += here
    hydrogens = value["hydrogens"] + np.where(flags & 32, 0, value["implicit valence"]).astype(np.int64)
    atoms = np.zeros((len(at), 9), dtype=np.int64)
    for column, values in enumerate(
        (
            byte(at),
            value["chirality"],
            hydrogens,
            value["charge"].astype(np.int8),
            hydrogens,
            value["radicals"],
            value["hybridization"],
            flags >> 6 & 1,
        )
    ):
        atoms[:, column] = values
    odd = (
        (flags & ~np.uint8(108) > 0) | (present & 1 > 0) | (byte(at + 3) > 1) | (byte(at + 4) > 0) | (byte(at + 5) > 0)
    )
    return atoms, odd


def _bonds(byte: Bytes, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(int64 [bonds, 5]; bool: those laid out otherwise)."""
    flags = byte(at + 2)
    kind, direction, stereo = ((flags >> bit & 1).astype(bool) for bit in (3, 2, 1))
    bonds = np.empty((len(at), 5), dtype=np.int64)
    bonds[:, 0], bonds[:, 1] = byte(at), byte(at + 1)
    bonds[:, 2] = np.where(kind, byte(at + 3), _SINGLE)
    bonds[:, 3] = np.where(stereo, byte(at + 3 + kind + direction), 0)
    bonds[:, 4] = flags >> 5 & 1
    return bonds, flags & ~np.uint8(110) > 0
