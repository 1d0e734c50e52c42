"""Inputs of any length made of real molecules: sample:nci again and again.

Workers import this module, so it is none that is run as a script.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from pyarrow.csv import read_csv

from packer.scan.attributes import ALL, Attributes
from packer.scan.block import RawBlock
from pipelines.sources import as_source
from pipelines.sources.protocol import Scan, Source


def as_csv(path: Path, copies: int, blocks: int | None = None) -> Source:
    """A CSV file of the molecules (those of the first blocks alone, where told), to be parsed and featurised."""
    rows = [row.cells for task in islice(as_source("sample:nci").tasks(), blocks) for row in task.rows]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("smiles", "tpsa"))
        for _ in range(copies):
            writer.writerows(rows)
    return replace(as_source(f"smiles:{path}", smiles_column="smiles", targets=("tpsa",)), on_empty="skip")


def as_files(folder: Path, copies: int, blocks: int | None = None) -> dict[str, Source]:
    """The molecules in files of every kind that a source may be."""
    plain = as_csv(folder / "molecules.csv", copies, blocks)
    packed, columns = folder / "molecules.csv.gz", folder / "molecules.parquet"
    packed.write_bytes(gzip.compress((folder / "molecules.csv").read_bytes(), 1))
    pq.write_table(read_csv(folder / "molecules.csv"), columns)
    kinds = {"CSV": plain, "CSV, gzipped": packed, "Parquet": columns}
    return {
        kind: as_source(f"smiles:{path}", targets=("tpsa",)) if isinstance(path, Path) else path
        for kind, path in kinds.items()
    }


def as_blocks(folder: Path, copies: int, blocks: int | None = None) -> ScannedBlocks:
    """The molecules as scan blocks in files, so that a scan is hardly more than reading them."""
    graphs: list[int] = []
    for number, task in enumerate(islice(as_source("sample:nci").tasks(), blocks)):
        block = task.scan().graphs
        graphs.append(len(block.ids))
        (folder / str(number)).write_bytes(block.to_bytes())
    return ScannedBlocks(str(folder), tuple(graphs), copies)


@dataclass(frozen=True)
class ScannedBlocks:
    """A source of blocks that were scanned before, repeated. graphs: of each block."""

    folder: str
    graphs: tuple[int, ...]
    copies: int
    name: str = "repeated"
    parallel: bool = True
    repeatable: bool = True
    on_empty: str = "error"
    argv: tuple[str, ...] = ()

    @property
    def num_graphs(self) -> int:
        return self.copies * sum(self.graphs)

    def key(self) -> dict[str, Any]:
        return {"kind": "repeated", "graphs": list(self.graphs), "copies": self.copies}

    def tasks(self) -> Iterator[ScannedBlock]:
        first_id = 0
        for _ in range(self.copies):
            for number, graphs in enumerate(self.graphs):
                yield ScannedBlock(f"{self.folder}/{number}", first_id, graphs)
                first_id += graphs


@dataclass(frozen=True)
class ScannedBlock:
    """A block from a file, numbered anew."""

    file: str
    first_id: int
    graphs: int

    @property
    def label(self) -> str:
        return f"graphs {self.first_id} to {self.first_id + self.graphs - 1}"

    def scan(self, attributes: Attributes = ALL) -> Scan:
        block = RawBlock.from_bytes(Path(self.file).read_bytes())
        return Scan(self.graphs, replace(block, ids=np.arange(self.first_id, self.first_id + self.graphs)), ())
