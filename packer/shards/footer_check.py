"""The Parquet footer of a shard: what any other reader goes by must lead it to the very bytes that ours reads."""

from __future__ import annotations

import base64
from typing import Any, Iterator, Sequence

import pyarrow as pa

from packer.errors import FormatError
from packer.shards.manifest import Manifest
from packer.shards.pages import Page
from packer.shards.parquet_check import read_footer
from packer.shards.thrift import Struct
from packer.shards.writer import METADATA_KEY, shard_schema

_CODEC_NUMBER = {"none": 0, "zstd": 6, "lz4": 7}
_FIXED_LEN_BYTE_ARRAY, _REQUIRED, _PLAIN = 7, 0, 0


def check_footer(footer: bytes, manifest: Manifest, shard: int, pages: Sequence[Sequence[Page]]) -> list[str]:
    """What a shard's footer says otherwise than the manifest and the pages found; nothing when all is well.

    pages: those of each block, their places counted from the start of the file; none of a block that is broken.
    """
    try:
        found, _ = read_footer(b"PAR1" + footer)
        return list(_differences(found, manifest, shard, pages))
    except (FormatError, KeyError, TypeError, AttributeError, IndexError) as error:
        return [f"the footer cannot be read: {error}"]


def _differences(found: Struct, manifest: Manifest, shard: int, pages: Sequence[Sequence[Page]]) -> Iterator[str]:
    entry = manifest.shards[shard]
    expected = shard_schema(manifest.schema, manifest.limits)
    stated = [(e[4], e.get(1), e.get(2), e.get(3), e.get(5)) for e in found[2][1:]]
    wanted = [(f.name.encode(), _FIXED_LEN_BYTE_ARRAY, f.type.byte_width, _REQUIRED, None) for f in expected]
    if stated != wanted:
        yield f"its schema is {stated[:40]}, not {wanted[:40]}"
        return
    if found[3] != entry.packs:
        yield f"it counts {found[3]} rows, the manifest {entry.packs} packs"
    yield from _metadata_differences(found, expected)
    if len(found[4]) != entry.blocks:
        yield f"it has {len(found[4])} row groups, the manifest {entry.blocks} blocks"
        return
    codec = _CODEC_NUMBER[manifest.compression]
    for block, (group, row) in enumerate(zip(found[4], pages)):
        if not row:
            continue
        rows = min(manifest.packs_per_block, entry.packs - block * manifest.packs_per_block)
        if group[3] != rows or len(group[1]) != len(row):
            yield f"row group {block} has {group[3]} rows in {len(group[1])} columns, not {rows} in {len(row)}"
            continue
        for chunk, page in zip(group[1], row):
            own = codec if page.column.compressed else _CODEC_NUMBER["none"]
            yield from _chunk_differences(chunk, page, rows, own, block)


def _chunk_differences(chunk: Any, page: Page, rows: int, codec: int, block: int) -> Iterator[str]:
    about = chunk[3]
    stated = (about[1], about[3], about[4], about[5], about[7], about[9], about.get(11), 1 in chunk)
    name, size = page.column.name.encode(), page.stop - page.header
    wanted = (_FIXED_LEN_BYTE_ARRAY, [name], codec, rows, size, page.header, None, False)
    if stated != wanted or _PLAIN not in about[2]:
        yield f"row group {block}, column {page.column.name}: {stated}, not {wanted}"


def _metadata_differences(found: Struct, expected: pa.Schema) -> Iterator[str]:
    stated = {pair[1]: pair.get(2) for pair in found[5]}
    if stated.get(METADATA_KEY) != expected.metadata[METADATA_KEY]:
        yield "its metadata does not hold the manifest's schema"
    try:
        arrow = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(stated.get(b"ARROW:schema") or b"")))
    except (pa.ArrowException, ValueError, OSError) as error:
        yield f"its Arrow schema cannot be read: {error}"
        return
    if not arrow.equals(expected, check_metadata=True):
        yield f"its Arrow schema is {str(arrow)[:400]}"
