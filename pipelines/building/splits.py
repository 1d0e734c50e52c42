"""Which source graph belongs to which split. Packs are fixed at build, so each split is a data set of its own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from packer.errors import BuildError, SourceError
from packer.hashing import shuffled
from pipelines.sources.table import csv_rows
from pipelines.sources.text import digest, text_of
from pipelines.stores.layout import check_name
from pipelines.text.numbers import real_of, whole_of


@dataclass(frozen=True)
class Splits:
    """How to split: by fractions (name -> share, drawn with `seed`), by a column of the source, or by a file of ids.

    sha256: of the file that is to be read, and listed: the splits that it names; None: whatever lies there.
    """

    fractions: tuple[tuple[str, float], ...] = ()
    seed: int = 0
    column: str | None = None
    file: Path | None = None
    sha256: str | None = None
    listed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        ways = [bool(self.fractions), self.column is not None, self.file is not None]
        if sum(ways) != 1:
            raise BuildError("split by fractions, by a column or by a file: give exactly one of them")
        for name, share in self.fractions:
            check_name(name)
            if isinstance(share, (bool, str)) or not 0 < share <= 1:
                raise BuildError(f"the share of split {name!r} must be above 0 and at most 1; got {share}")
        total = sum(share for _, share in self.fractions)
        if self.fractions and abs(total - 1) > 1e-9:
            shares = ",".join(f"{name}={share:g}" for name, share in self.fractions)
            raise BuildError(f"the shares of the splits must add up to 1; {shares} add up to {total:g}")
        if len({name for name, _ in self.fractions}) < len(self.fractions):
            raise BuildError(f"a split is named twice: {', '.join(name for name, _ in self.fractions)}")

    @classmethod
    def of(cls, shares: str | Mapping[str, float] | None, seed: int, column: str | None, file: Any) -> Splits | None:
        """From what a user passes, "train=0.8,valid=0.2" or a dict; None where nothing asks for splits."""
        if shares is None and column is None and file is None:
            return None
        fractions = tuple(shares.items()) if isinstance(shares, Mapping) else parse_fractions(shares or "")
        return cls(fractions, seed, column, None if file is None else Path(file))

    def key(self) -> dict[str, Any]:
        """What the outcome depends on."""
        if self.fractions:
            return {"fractions": dict(self.fractions), "seed": self.seed}
        return {"column": self.column} if self.file is None else {"file": self.sha256 or digest(self.file)}

    def pinned(self) -> Splits:
        """The same, and no other file may lie there when it is read. SourceError for a file that lists no splits."""
        if self.file is None:
            return self
        sha256 = digest(self.file)
        return replace(self, sha256=sha256, listed=tuple(ids_of_file(self.file, sha256)))

    @property
    def known_names(self) -> tuple[str, ...]:
        """The names of the splits, as far as they do not depend on the source."""
        return self.listed or tuple(name for name, _ in self.fractions)


def parse_fractions(text: str) -> tuple[tuple[str, float], ...]:
    """ "train=0.8,valid=0.1,test=0.1" -> (("train", 0.8), ...)."""
    fractions: list[tuple[str, float]] = []
    for part in filter(None, text.split(",")):
        name, _, share = part.partition("=")
        number = real_of(share)
        if number is None:
            raise BuildError(
                f"splits are written as NAME=SHARE,NAME=SHARE, e.g. train=0.8,valid=0.1,test=0.1; got {part!r}"
            )
        fractions.append((name.strip(), number))
    return tuple(fractions)


def by_fractions(splits: Splits, num_graphs: int) -> dict[str, np.ndarray]:
    """Split name -> int64 ids, ascending."""
    numbers = numbers_by_fractions(splits, np.arange(num_graphs, dtype=np.int64), num_graphs)
    return {name: np.flatnonzero(numbers == number) for number, (name, _) in enumerate(splits.fractions)}


def numbers_by_fractions(splits: Splits, ids: np.ndarray, num_graphs: int) -> np.ndarray:
    """Which of the splits each of these graphs of the source belongs to, each by itself: int64 [ids].

    All graphs are shuffled by the seed, and cut at the rounded running shares.
    """
    shares = np.cumsum([share for _, share in splits.fractions])
    cuts = np.rint(shares * num_graphs).astype(np.int64)
    return np.searchsorted(cuts, shuffled(ids, num_graphs, splits.seed), side="right")


def by_labels(labels: np.ndarray, column: str) -> dict[str, np.ndarray]:
    """labels: str [graphs]; the splits are the distinct labels, train, valid and test first."""
    return {name: np.flatnonzero(labels == name) for name in label_names(labels.tolist(), column)}


def label_names(labels: Iterable[str], column: str) -> list[str]:
    """The splits that the labels of a column name, train, valid and test first. BuildError for names that are none."""
    usual = ["train", "valid", "val", "validation", "test"]
    names = sorted(set(labels), key=lambda name: (usual.index(name) if name in usual else len(usual), name))
    if len(names) > 100:
        raise BuildError(f"column {column!r} has {len(names)} distinct values; a split column has a few")
    for name in names:
        check_name(name)
    return names


def ids_of_file(path: Path, sha256: str | None = None) -> dict[str, np.ndarray]:
    """Split name -> int64 ids as listed: a JSON object of lists of ids, or a CSV file with the columns graph_id, split.

    sha256: of the file that it is to be; SourceError for another one.
    """
    is_json = path.name.lower().removesuffix(".gz").endswith(".json")
    ids_by_name = _json_ids(path, sha256) if is_json else _csv_ids(path, sha256)
    for name in ids_by_name:
        check_name(name)
    return ids_by_name


def by_file(path: Path, num_graphs: int, sha256: str | None = None) -> dict[str, np.ndarray]:
    """Split name -> int64 ids, ascending, from a file that names every graph once; see `ids_of_file`."""
    ids_by_name = ids_of_file(path, sha256)
    times = np.zeros(num_graphs, dtype=np.int64)
    for name, ids in ids_by_name.items():
        if len(ids) and (ids.min() < 0 or ids.max() >= num_graphs):
            bad = ids[(ids < 0) | (ids >= num_graphs)][0]
            raise SourceError(f"{path}: split {name!r} names graph {bad}; the source has graphs 0 to {num_graphs - 1}")
        np.add.at(times, ids, 1)
    wrong = np.flatnonzero(times != 1)
    if len(wrong):
        raise SourceError(
            f"{path}: graph {wrong[0]} is in {times[wrong[0]]} splits, and {len(wrong)} graphs are not in exactly one; "
            "name every graph of the source once"
        )
    return {name: np.sort(ids) for name, ids in ids_by_name.items()}


def _json_ids(path: Path, sha256: str | None) -> dict[str, np.ndarray]:
    with text_of(path, sha256) as (file, check):
        text = file.read()
        check(True)
    try:
        stored = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(f'{path} must hold {{"train": [ids], ...}}: {error}') from error
    try:
        for name, ids in stored.items():
            wrong = next((number for number in ids if type(number) is not int), None)
            if wrong is not None:
                raise SourceError(f"{path}: split {name!r} names {wrong!r}, which is no whole number")
        return {str(name): np.array(ids, dtype=np.int64).reshape(-1) for name, ids in stored.items()}
    except (AttributeError, TypeError, OverflowError) as error:
        raise SourceError(f'{path} must hold {{"train": [ids], ...}}: {error}') from error


def _csv_ids(path: Path, sha256: str | None) -> dict[str, np.ndarray]:
    ids_by_name: dict[str, list[int]] = {}
    for row in csv_rows(path, ("graph_id", "split"), sha256):
        text, name = row.cells
        number = whole_of(text.strip())
        if number is None or not 0 <= number < 2**63:
            raise SourceError(f"{path}, line {row.line}: graph_id is {text[:60]!r}, not a whole number")
        ids_by_name.setdefault(name, []).append(number)
    return {name: np.array(ids, dtype=np.int64) for name, ids in ids_by_name.items()}
