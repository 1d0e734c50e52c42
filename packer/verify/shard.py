"""One shard under verification: each byte hashed, each block decoded and checked, in one pass and bounded memory."""

from __future__ import annotations

import functools
import hashlib
import zlib
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from packer.errors import FormatError
from packer.files.protocol import Place
from packer.graphs.schema import Schema
from packer.hashing import row_hashes
from packer.shards.manifest import Manifest
from packer.shards.pages import CODECS, Page, check_page, decode_page, empty_column, walk_pages
from packer.shards.reader import MAGIC, open_shard, start_of_pages
from packer.shards.targets import Moments, block_moments, merged, no_moments
from packer.verify.block import SlotCounts, check_block
from packer.verify.footer import check_footer


class Fault(NamedTuple):
    """One thing that is wrong in a data set.

    file: its name; block: row group of the shard; pack: number in the whole data set; field: column; what: what was
    found. None where it does not apply.
    """

    file: str
    block: int | None
    pack: int | None
    field: str | None
    what: str

    def __str__(self) -> str:
        where = [self.file]
        where += [f"{name} {at}" for name, at in zip(("block", "pack", "field"), self[1:4]) if at is not None]
        return f"{', '.join(where)}: {self.what}"


class ShardTask(NamedTuple):
    """place: of the data set; manifest: its SHA-256, so that a worker reads it once; key: of the graphs' hashes."""

    place: Place
    manifest: str
    shard: int
    key: int


class ShardResult(NamedTuple):
    """sums: uint64 [blocks], hashes of the graphs found; readable: bool [blocks], whether sums can be compared;
    moments: of the target fields of all graphs, where every block is readable."""

    faults: list[Fault]
    sums: np.ndarray
    readable: np.ndarray
    packs: int
    graphs: int
    moments: Moments


def verify_shard(task: ShardTask) -> ShardResult:
    """Check one shard: a task for `map`, here or in another process."""
    manifest = load_manifest(task.place, task.manifest)
    entry = manifest.shards[task.shard]
    result = ShardResult(
        [], np.zeros(entry.blocks, dtype=np.uint64), np.zeros(entry.blocks, dtype=bool), entry.packs, 0, {}
    )
    reader = open_shard(task.place, manifest, task.shard, verify="off")
    digest = hashlib.sha256()
    pages: list[list[Page]] = []
    graphs, moments = 0, no_moments(manifest.schema)
    try:
        for block in range(entry.blocks):
            data = reader.raw_block(block)
            digest.update(data)
            faults, of_block, rows, of_targets = _verify_block(data, manifest, task.shard, block)
            result.faults.extend(faults)
            pages.append(of_block)
            if rows:
                result.readable[block] = True
                result.sums[block] = np.sum(row_hashes(rows, task.key), dtype=np.uint64)
                graphs += len(rows[0])
                moments = merged(moments, of_targets)
        footer = bytes(reader.raw_footer())
    except FormatError as error:
        return result._replace(faults=[*result.faults, Fault(entry.name, None, None, None, str(error))])
    finally:
        reader.close()
    digest.update(footer)
    result.faults.extend(_verify_footer(footer, manifest, task.shard, pages))
    if digest.hexdigest() != entry.sha256:
        problem = f"SHA-256 of the file is {digest.hexdigest()}, the manifest says {entry.sha256}"
        result.faults.append(Fault(entry.name, None, None, None, problem))
    return result._replace(graphs=graphs, moments=moments)


def graph_rows(block: dict[str, np.ndarray], counts: SlotCounts, axes: list[str], first_pack: int) -> list[np.ndarray]:
    """(id, pack, slot, size on each of `axes`) of the real graphs of a block: int64 [graphs] each."""
    in_use = np.arange(block["graph_ids"].shape[1]) < counts.num_real[:, None]
    pack, slot = np.nonzero(in_use)
    return [block["graph_ids"][in_use], first_pack + pack, slot, *(counts.sizes[axis][in_use] for axis in axes)]


def sized_axes(schema: Schema) -> list[str]:
    """Keys of the axes on which a pack's columns tell the size of each graph."""
    return [axis.key for axis in schema.sized if axis.level != "edge" or axis.key in schema.edge_fields]


@functools.lru_cache(maxsize=2)
def load_manifest(place: Place, sha256: str) -> Manifest:
    """The manifest of a data set, read once a process; sha256 tells apart what lies there at different times."""
    manifest = Manifest.load(place)
    if manifest.sha256 != sha256:
        raise FormatError(f"{place} was written anew while it was verified")
    return manifest


def _verify_block(
    data: bytearray, manifest: Manifest, shard: int, block: int
) -> tuple[list[Fault], list[Page], list[np.ndarray], Moments]:
    """Faults, pages with places in the file, the block's graphs and their moments (none when they cannot be told)."""
    entry = manifest.shards[shard]
    first_pack = shard * manifest.packs_per_shard + block * manifest.packs_per_block
    rows = min(manifest.packs_per_block, entry.packs - block * manifest.packs_per_block)
    faults: list[Fault] = []

    def fault(problem: str, field: str | None = None, pack: int | None = None) -> None:
        faults.append(Fault(entry.name, block, None if pack is None else first_pack + pack, field, problem))

    crc = zlib.crc32(data)
    if crc != entry.block_crc32[block]:
        fault(f"CRC-32 is {crc:08x}, the manifest says {entry.block_crc32[block]:08x}")
    if block == 0 and not data.startswith(MAGIC):
        fault(f"the file starts with {bytes(data[:4])!r}, not {MAGIC!r}")
    pages: list[Page] = []
    columns = {c.name: empty_column(c, rows) for c in manifest.block_format.columns if c.width == 0}
    codec = CODECS[manifest.compression]
    codec = None if codec is None else pa.Codec(codec)
    try:
        for page in walk_pages(data, start_of_pages(block), rows, manifest.block_format.columns):
            pages.append(page)
            wrong = check_page(data, page, rows, codec)
            if wrong:
                fault(wrong, page.column.name)
            columns[page.column.name] = decode_page(data, page, rows, codec)
    except FormatError as error:
        fault(str(error))
        return faults, [], [], {}
    findings, counts = check_block(columns, manifest.schema, manifest.limits)
    for finding in findings:
        fault(finding.what, finding.field, finding.pack)
    offset = entry.block_offsets[block]
    moved = [p._replace(header=p.header + offset, start=p.start + offset, stop=p.stop + offset) for p in pages]
    if not counts.sound.all():
        return faults, moved, [], {}
    graphs = graph_rows(columns, counts, sized_axes(manifest.schema), first_pack)
    return faults, moved, graphs, block_moments(columns, manifest.schema)


def _verify_footer(footer: bytes, manifest: Manifest, shard: int, pages: list[list[Page]]) -> list[Fault]:
    entry = manifest.shards[shard]
    crc = zlib.crc32(footer)
    faults = check_footer(footer, manifest, shard, pages)
    if crc != entry.footer_crc32:
        faults.append(f"CRC-32 of the footer is {crc:08x}, the manifest says {entry.footer_crc32:08x}")
    return [Fault(entry.name, None, None, None, problem) for problem in faults]
