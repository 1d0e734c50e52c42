"""The Parquet footer of a shard: what any other reader goes by must lead it to the very bytes that ours reads."""

from __future__ import annotations

import base64
from typing import Any, Iterator, Sequence

import pyarrow as pa

from packer.errors import FormatError
from packer.files.parquet.checks import read_footer
from packer.files.parquet.thrift import Struct
from packer.shards.manifest import Manifest
from packer.shards.pages import Page
from packer.shards.writer import METADATA_KEY, shard_schema

_CODEC_NUMBER = {"none": 0, "zstd": 6, "lz4": 7}
_FIXED_LEN_BYTE_ARRAY, _REQUIRED, _PLAIN = 7, 0, 0
_PLAIN_TYPE = (None, None, None)  # no children, no converted type, no logical type
_MOST_FAULTS = 100


def check_footer(footer: bytes, manifest: Manifest, shard: int, pages: Sequence[Sequence[Page]]) -> list[str]:
    """What a shard's footer says otherwise than the manifest and the pages found; nothing when all is well.

    pages: those of each block, their places counted from the start of the file; none of a block that is broken.
    Row groups are compared one after the other, and not kept.
    """
    groups = _Groups(manifest, shard, pages)
    try:
        struct = read_footer(footer, {4: groups.compare})
        return list(_differences(struct, manifest, shard)) or groups.faults
    except FormatError as error:
        return [f"the footer cannot be read: {error}"]


def _differences(struct: Struct, manifest: Manifest, shard: int) -> Iterator[str]:
    entry = manifest.shards[shard]
    expected = shard_schema(manifest.schema, manifest.limits)
    stated = [(e[4], e.get(1), e.get(2), e.get(3), e.get(5), e.get(6), e.get(10)) for e in struct[2][1:]]
    wanted = [(f.name.encode(), _FIXED_LEN_BYTE_ARRAY, f.type.byte_width, _REQUIRED, *_PLAIN_TYPE) for f in expected]
    if stated != wanted or struct[2][0].get(5) != len(wanted):
        yield f"its schema is {stated[:40]}, not {wanted[:40]}"
        return
    if struct[3] != entry.packs:
        yield f"it counts {struct[3]} rows, the manifest {entry.packs} packs"
    yield from _metadata_differences(struct, expected)
    if struct[4] != entry.blocks:
        yield f"it has {struct[4]} row groups, the manifest {entry.blocks} blocks"


class _Groups:
    """The row groups of a shard's footer, compared with its blocks as they come. faults: what differs, the first."""

    def __init__(self, manifest: Manifest, shard: int, pages: Sequence[Sequence[Page]]) -> None:
        self._manifest, self._entry, self._pages = manifest, manifest.shards[shard], pages
        self._codec = _CODEC_NUMBER[manifest.compression]
        self._block = 0
        self.faults: list[str] = []

    def compare(self, group: Struct) -> None:
        block, self._block = self._block, self._block + 1
        if block >= self._entry.blocks:
            raise FormatError(f"it has more row groups than the manifest's {self._entry.blocks} blocks")
        row = self._pages[block] if block < len(self._pages) else ()
        if not row or len(self.faults) >= _MOST_FAULTS:
            return
        per_block = self._manifest.packs_per_block
        rows = min(per_block, self._entry.packs - block * per_block)
        if group[3] != rows or len(group[1]) != len(row):
            self.faults.append(
                f"row group {block} has {group[3]} rows in {len(group[1])} columns, not {rows} in {len(row)}"
            )
            return
        for chunk, page in zip(group[1], row):
            codec = self._codec if page.column.compressed else _CODEC_NUMBER["none"]
            self.faults.extend(_chunk_differences(chunk, page, rows, codec, block))


def _chunk_differences(chunk: Any, page: Page, rows: int, codec: int, block: int) -> Iterator[str]:
    about = chunk[3]
    stated = (about[1], about[3], about[4], about[5], about[7], about[9], about.get(11))
    name, size = page.column.name.encode(), page.stop - page.header
    wanted = (_FIXED_LEN_BYTE_ARRAY, [name], codec, rows, size, page.header, None)
    if stated != wanted or _PLAIN not in about[2]:
        yield f"row group {block}, column {page.column.name}: {stated}, not {wanted}"


def _metadata_differences(struct: Struct, expected: pa.Schema) -> Iterator[str]:
    stated: dict[bytes, bytes | None] = {pair[1]: pair.get(2) for pair in struct.get(5, ())}
    if stated.get(METADATA_KEY) != expected.metadata[METADATA_KEY]:
        yield "its metadata does not hold the manifest's schema"
    try:
        arrow = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(stated.get(b"ARROW:schema") or b"")))
    except (pa.ArrowException, ValueError, OSError) as error:
        yield f"its Arrow schema cannot be read: {error}"
        return
    if not arrow.equals(expected, check_metadata=True):
        yield f"its Arrow schema is {str(arrow)[:400]}"
