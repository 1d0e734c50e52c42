"""One pack of a data set, looked through before anything trusts its numbers."""

from __future__ import annotations

import numpy as np

from packer.errors import FieldError
from packer.files.open import place_of
from packer.files.protocol import Where
from packer.shards.manifest import Manifest
from packer.shards.reader import open_shard
from packer.verify.block import require_sound


def read_pack(where: Where, manifest: Manifest, pack: int, verify: str = "first-touch") -> dict[str, np.ndarray]:
    """All pack columns in storage dtype, [1, ...] each.

    Raises FieldError where there is no such pack, FormatError for one that contradicts itself.
    """
    if not 0 <= pack < manifest.num_packs:
        raise FieldError(f"there is no pack {pack}: {place_of(where)} has packs 0 to {manifest.num_packs - 1}")
    shard, block, row = manifest.locate(pack)
    reader = open_shard(where, manifest, shard, verify)
    try:
        columns = {name: values[row : row + 1] for name, values in reader.block(block).items()}
    finally:
        reader.close()
    require_sound(columns, manifest.schema, manifest.limits)
    return columns
