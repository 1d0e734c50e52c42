"""How many packs a block and a shard hold and what is compressed, decided from a sample before anything is written."""

from __future__ import annotations

from typing import Mapping, NamedTuple

import numpy as np
import pyarrow as pa

from packer.errors import FormatError
from packer.shards.pages import CODECS

BLOCK_BYTES = 1 << 20
"""Stored bytes that a block should have."""
SHARD_BYTES = 64 << 20
"""Stored bytes that a shard should have."""
DECODED_BYTES = 8 << 20
"""A block decodes to at most this where a pack allows it: what a reader's cache holds is counted in blocks."""
MAX_BLOCK_PACKS = 1024
MAX_BLOCK_BYTES = 1 << 28
"""Decoded bytes above which a block is refused, by writer and reader: it is also the largest pack."""
ZSTD_LEVEL = 1
LEAST_SAVING = 0.2
"""A column of which the codec saves a smaller share is stored as it is: reading it is then a copy."""


class Layout(NamedTuple):
    """uncompressed: names of the columns that are stored as they are, whatever the codec."""

    packs_per_block: int
    packs_per_shard: int
    uncompressed: tuple[str, ...] = ()


def choose_layout(
    sample: Mapping[str, np.ndarray],
    compression: str = "zstd",
    block_bytes: int = BLOCK_BYTES,
    shard_bytes: int = SHARD_BYTES,
) -> Layout:
    """What to compress, and packs per block and shard that come close to block_bytes and shard_bytes as stored.

    sample: column name -> [packs, ...] in storage dtype, some first packs (64 are plenty). Depends on the sample and
    the compression library alone. Raises FormatError for packs too large to store.
    """
    packs = len(next(iter(sample.values())))
    raw = sum(values.nbytes for values in sample.values()) / packs
    if raw > MAX_BLOCK_BYTES:
        raise FormatError(f"a pack takes {raw:.0f} bytes; at most {MAX_BLOCK_BYTES} can be stored: lower the limits")
    sizes = {name: _stored(values, compression) for name, values in sample.items()}
    plain = [name for name, size in sizes.items() if size > (1 - LEAST_SAVING) * sample[name].nbytes]
    if CODECS[compression] is None:
        plain = []
    stored = sum(sample[name].nbytes if name in plain else size for name, size in sizes.items()) / packs
    per_block = min(block_bytes / stored, DECODED_BYTES / raw, MAX_BLOCK_PACKS)
    per_block = max(1, int(per_block))
    return Layout(per_block, max(1, round(shard_bytes / (stored * per_block))) * per_block, tuple(plain))


def _stored(values: np.ndarray, compression: str) -> int:
    if CODECS[compression] is None or values.nbytes == 0:
        return values.nbytes
    level = ZSTD_LEVEL if compression == "zstd" else None
    codec = pa.Codec(CODECS[compression], compression_level=level)
    return codec.compress(np.ascontiguousarray(values).view(np.uint8).reshape(-1)).size
