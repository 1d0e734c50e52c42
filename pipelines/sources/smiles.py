"""SMILES files: `smiles:FILE.csv[.gz]` and `.parquet`, here or at a URL; `sample:nci`, which the rdkit wheel ships."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from packer.errors import MissingExtraError, SourceError
from packer.scan.attributes import ALL, Attributes, without
from packer.scan.block import RawBlock
from pipelines.sources.flat import FlatField, block_of_arrays
from pipelines.sources.molecules import Molecules, featurise
from pipelines.sources.parquet_table import Column, groups, is_parquet, num_rows
from pipelines.sources.protocol import Scan, Skip
from pipelines.sources.remote import text_file
from pipelines.sources.stretches import stretches
from pipelines.sources.table import Row, check_delimiter, csv_rows, plain_rows
from pipelines.sources.targets import MISSING, Targets, check_dtype, missing_of
from pipelines.sources.text import TextFile, count_lines, digest
from pipelines.text.clean import stored

# A seventh of a second of featurising: small enough to share evenly among workers and to lose at a kill.
_ROWS_PER_BLOCK = 1024
_ROWS_OF_GROUP = 8 * _ROWS_PER_BLOCK
"""At most, of a task that reads a large row group: each process that has some of its rows decodes all of it once."""
_FEATURISER = "pyg.from_smiles/1"


@dataclass(frozen=True)
class SmilesTask:
    """Rows to featurise. Cells: the SMILES, then a number for each target, then the texts of `strings`.

    unit: what the rows' numbers count.
    """

    first_id: int
    file: str
    targets: Targets
    strings: tuple[str, ...]
    rows: tuple[Row, ...]
    unit: str = "line"

    @property
    def label(self) -> str:
        return f"{self.unit}s {self.rows[0].line} to {self.rows[-1].line} of {self.file}"

    def scan(self, attributes: Attributes = ALL) -> Scan:
        molecules = featurise([row.cells[0] for row in self.rows])
        faulty = dict(molecules.faults)
        skips = tuple(
            Skip(self.first_id + i, faulty[i], f"{self.unit} {self.rows[i].line}", self._strings(self.rows[i]))
            for i in sorted(faulty)
        )
        return Scan(len(self.rows), without(self._block(molecules), attributes), skips)

    def _strings(self, row: Row) -> tuple[tuple[str, str], ...]:
        return (("smiles", row.cells[0]), *zip(self.strings, row.cells[1 + len(self.targets.names) :], strict=True))

    def _block(self, molecules: Molecules) -> RawBlock:
        kept = [self.rows[i] for i in molecules.kept.tolist()]
        fields = [
            FlatField("x", molecules.x, molecules.num_nodes),
            FlatField("edge_index", molecules.edge_index, molecules.num_edges, index=True),
            FlatField("edge_attr", molecules.edge_attr, molecules.num_edges),
        ]
        if self.targets.names and kept:
            y = self.targets.read(kept, self.file, self.unit)
            # [1] a graph for one target, [1, targets] for several.
            fields.append(FlatField("y", y[:, 0] if y.shape[1] == 1 else y, np.ones(len(kept), dtype=np.int64)))
        columns = {"smiles": 0} | {name: at for at, name in enumerate(self.strings, 1 + len(self.targets.names))}
        strings = {name: [row.cells[at] for row in kept] for name, at in columns.items()}
        ids = self.first_id + molecules.kept
        return block_of_arrays(ids, molecules.num_nodes, molecules.num_edges, fields, strings)


class Part(Protocol):
    """Rows of a file that whoever asks for them reads. where: their numbers."""

    @property
    def where(self) -> str: ...

    def rows(self) -> tuple[Row, ...]: ...


@dataclass(frozen=True)
class ReadingTask:
    """Rows that are read where they are featurised. The rest is as in `SmilesTask`."""

    first_id: int
    file: str
    targets: Targets
    strings: tuple[str, ...]
    part: Part
    unit: str = "line"

    @property
    def label(self) -> str:
        return f"{self.part.where} of {self.file}"

    @property
    def rows(self) -> tuple[Row, ...]:
        return self.part.rows()

    def scan(self, attributes: Attributes = ALL) -> Scan:
        task = SmilesTask(self.first_id, self.file, self.targets, self.strings, self.rows, self.unit)
        return task.scan(attributes)


@dataclass(frozen=True)
class SmilesFile:
    """A CSV or Parquet file with a column of SMILES; y holds the targets in target_dtype, [1] or [1, targets].

    Where the file lies is no part of its key: the same bytes give the same data set. sha256: of the file that is to be
    read; None: whatever lies there. missing: cells of targets that become NaN; delimiter: None, what the header shows.
    """

    path: TextFile
    smiles_column: str
    targets: tuple[str, ...] = ()
    strings: tuple[str, ...] = ()
    sha256: str | None = None
    target_dtype: str = "float32"
    missing: tuple[str, ...] = MISSING
    delimiter: str | None = None
    parallel: bool = True
    repeatable: bool = True
    on_empty: str = "error"

    def pinned(self) -> SmilesFile:
        """See `protocol.pinned`."""
        return replace(self, sha256=digest(self.path))

    @property
    def name(self) -> str:
        return f"smiles:{self.path}"

    @property
    def argv(self) -> tuple[str, ...]:
        targets = (word for target in self.targets for word in ("--target", target))
        return (self.name, "--smiles-column", self.smiles_column, *targets, *option_words(self._asked()))

    def _asked(self) -> dict[str, Any]:
        """What is read otherwise than by default."""
        options = {"target_dtype": self.target_dtype, "missing": list(self.missing), "delimiter": self.delimiter}
        usual = {"target_dtype": "float32", "missing": list(MISSING), "delimiter": None}
        return {name: value for name, value in options.items() if value != usual[name]}

    @property
    def num_graphs(self) -> int | None:
        if is_parquet(self.path):
            return num_rows(self.path)
        lines = count_lines(self.path)
        return None if lines is None else lines - 1

    def key(self) -> dict[str, Any]:
        return {
            "kind": "smiles",
            "file": stored(self.path.name),
            "sha256": self.sha256 or digest(self.path),
            "smiles_column": self.smiles_column,
            "targets": list(self.targets),
            "strings": list(self.strings),
            **self._asked(),
            **featuriser_key(),
        }

    def tasks(self) -> Iterator[SmilesTask | ReadingTask]:
        """Tasks read files that lie here; from a URL, a gzipped one or CSV with loose quotes they carry their rows."""
        about = self.path.name, Targets(self.targets, self.target_dtype, self.missing), self.strings
        columns = (self.smiles_column, *self.targets, *self.strings)
        if is_parquet(self.path):
            here = isinstance(self.path, Path)
            for group in groups(self.path, self._typed(), self.sha256, _ROWS_PER_BLOCK, _ROWS_OF_GROUP):
                first = group.first + group.start
                yield (
                    ReadingTask(first, *about, group, "row") if here else SmilesTask(first, *about, group.rows(), "row")
                )
            return
        parts = None
        if isinstance(self.path, Path):
            parts = stretches(self.path, columns, _ROWS_PER_BLOCK, self.sha256, self.delimiter)
        if parts is None:
            yield from _tasks(csv_rows(self.path, columns, self.sha256, self.delimiter), *about)
            return
        for number, part in enumerate(parts):
            yield ReadingTask(number * _ROWS_PER_BLOCK, *about, part)

    def _typed(self) -> list[Column]:
        """The columns of a Parquet file."""
        if self.delimiter is not None:
            raise SourceError(f"{self.path} is a Parquet file, whose cells no delimiter parts: leave out --delimiter")
        numbers, any_kind = (
            [Column(name, "number") for name in self.targets],
            [Column(name, "any") for name in self.strings],
        )
        return [Column(self.smiles_column, "text"), *numbers, *any_kind]


def smiles_file(
    text: str,
    *,
    smiles_column: str | None,
    targets: Sequence[str],
    target_dtype: str | None,
    missing: str | Sequence[str] | None,
    delimiter: str | None,
    storage_options: Mapping[str, Any] | None,
    strings: Sequence[str],
) -> SmilesFile:
    """The source `smiles:TEXT` that options ask for. SourceError for what they must not be."""
    return SmilesFile(
        text_file(text, storage_options),
        smiles_column or "smiles",
        tuple(targets),
        tuple(strings),
        target_dtype=check_dtype(target_dtype or "float32"),
        missing=MISSING if missing is None else missing_of(missing),
        delimiter=None if delimiter is None else check_delimiter(delimiter),
    )


@dataclass(frozen=True)
class NciSample:
    """The first NCI molecules, with their polar surface (TPSA, square angstrom) as y: 4,991 of 4,999 lines parse.

    sha256: of the files that are to be read; (): whatever lies there.
    """

    sha256: tuple[str, ...] = ()
    parallel: bool = True
    repeatable: bool = True
    on_empty: str = "skip"
    name: str = "sample:nci"
    argv: tuple[str, ...] = ("sample:nci",)
    num_graphs: int | None = 4999

    @cached_property
    def files(self) -> tuple[Path, Path]:
        """The SMILES (tab separated, no header) and the targets (one comment line, then SMILES and value)."""
        try:
            from rdkit import RDConfig
        except ImportError as error:
            raise MissingExtraError("rdkit", "molecules", "sample:nci") from error
        folder = Path(RDConfig.RDDataDir) / "NCI"
        return folder / "first_5K.smi", folder / "first_5k.tpsa.csv"

    def key(self) -> dict[str, Any]:
        return {"kind": "sample:nci", "sha256": list(self.pinned().sha256), **featuriser_key()}

    def pinned(self) -> NciSample:
        """See `protocol.pinned`."""
        return self if self.sha256 else replace(self, sha256=tuple(digest(path) for path in self.files))

    def tasks(self) -> Iterator[SmilesTask]:
        return _tasks(self._rows(), self.files[0].name, Targets(("tpsa",)), ())

    def _rows(self) -> Iterator[Row]:
        """Both files joined by line; the SMILES of a line must be the same in both."""
        one, other = self.files
        pins = self.sha256 or (None, None)
        pairs = zip_longest(plain_rows(one, 2, "\t", 0, pins[0]), plain_rows(other, 2, ",", 1, pins[1]))
        for number, (molecule, value) in enumerate(pairs, 1):
            if molecule is None or value is None:
                raise SourceError(f"{one} and {other} differ in length: one ends before molecule {number}")
            text, other_text = molecule.cells[0], value.cells[0]
            if text != other_text:
                raise SourceError(f"line {molecule.line}: {one.name} has {text!r}, {other.name} {other_text!r}")
            yield Row(molecule.line, (text, value.cells[1]))


def featuriser_key() -> dict[str, str]:
    """Name of the features and version of what computes them."""
    try:
        return {"featuriser": _FEATURISER, "rdkit": version("rdkit")}
    except PackageNotFoundError as error:
        raise MissingExtraError("rdkit", "molecules", "reading SMILES") from error


def _tasks(rows: Iterator[Row], file: str, targets: Targets, strings: tuple[str, ...]) -> Iterator[SmilesTask]:
    first_id = 0
    while block := tuple(islice(rows, _ROWS_PER_BLOCK)):
        yield SmilesTask(first_id, file, targets, strings, block)
        first_id += len(block)


def option_words(asked: Mapping[str, Any]) -> tuple[str, ...]:
    """Options of a command, from what a key holds of them."""
    texts = {name: ",".join(value) if isinstance(value, list) else str(value) for name, value in asked.items()}
    return tuple(word for name, text in texts.items() for word in (f"--{name.replace('_', '-')}", text))
