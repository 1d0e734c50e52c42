"""What the shards hold against `content_hash`, which was taken of the graphs when they were scanned.

The graphs of all packs go into a table on disk, and are hashed from there in the order of the source: memory grows by
some 24 bytes a graph, the disk by what the graphs take without padding.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Iterator, Sequence

import numpy as np
import pyarrow as pa

from packer.errors import FormatError
from packer.files.protocol import Place
from packer.graphs.table import HASH_GRAPHS, GraphTable, TableWriter, combine_hashes
from packer.packs.unpack import unpack_table
from packer.shards.graphs_file import TOO_LARGE, iter_graphs, string_columns
from packer.shards.manifest import Manifest
from packer.shards.reader import open_shard

EQUAL, DIFFERS = "equal", "differs"


def compare_content(places: Sequence[Place]) -> tuple[str, str]:
    """(EQUAL, ""), (DIFFERS, what was found), or ("", why it cannot be told), of the data sets of one build.

    places: of sound data sets; all splits of a build, for the hash is of the whole source.
    """
    manifests = [Manifest.load(place) for place in places]
    why = incomparable(manifests)
    if why:
        return "", why
    with tempfile.TemporaryDirectory(prefix="graph-pack-") as folder:
        content_hash = _content_hash(places, manifests, Path(folder))
    stated = manifests[0].content_hash
    if content_hash == stated:
        return EQUAL, ""
    return DIFFERS, f"the graphs in its packs have the content hash {content_hash}, the manifest says {stated}"


def incomparable(manifests: Sequence[Manifest]) -> str:
    """Why the shards of these data sets do not hold all that their content hash was taken of; "" where they do."""
    first = manifests[0]
    if any((one.content_hash, one.schema) != (first.content_hash, first.schema) for one in manifests):
        return "these data sets are not of one build"
    trimmed = sum(one.counts.trimmed for one in manifests)
    if trimmed:
        return f"{trimmed} graphs were trimmed: what they were is in no shard"
    large = sum(one.counts.reasons.get(TOO_LARGE, 0) for one in manifests)
    if large:
        return f"{large} graphs were larger than the limits: they are in no shard"
    if len(manifests) == 1 and "split" in first.source:
        return "this is one split, and the content hash is of all: verify the folder that holds them"
    return ""


def _content_hash(places: Sequence[Place], manifests: Sequence[Manifest], folder: Path) -> str:
    schema = manifests[0].schema
    bare = replace(schema, strings=())
    with TableWriter(folder / "packs", bare) as writer:
        for place, manifest in zip(places, manifests):
            for packs in _blocks(place, manifest):
                table = unpack_table(packs, manifest.schema, manifest.limits)[0]
                writer.append(replace(table, schema=bare))
    table = GraphTable.open(folder / "packs")
    order = np.argsort(table.source_ids, kind="stable")
    texts = _strings(places, manifests, folder / "strings.arrow")

    def hashes() -> Iterator[bytes]:
        for start in range(0, max(len(order), 1), HASH_GRAPHS):
            part = table.select(order[start : start + HASH_GRAPHS])
            yield replace(part, schema=schema, strings=texts(part.source_ids)).block_hash(0)

    return combine_hashes(schema, hashes())


def _blocks(place: Place, manifest: Manifest) -> Iterator[Any]:
    for number, entry in enumerate(manifest.shards):
        reader = open_shard(place, manifest, number, "first-touch")
        try:
            for block in range(entry.blocks):
                yield reader.block(block)
        finally:
            reader.close()


def _strings(places: Sequence[Place], manifests: Sequence[Manifest], path: Path) -> Any:
    """A function of ids, int64 ascending, to the string attributes of those graphs."""
    names = string_columns(manifests[0].schema)
    if not names:
        return lambda ids: {}
    columns = ["id", *names.values()]
    kind = pa.schema([("id", pa.int64()), *((name, pa.string()) for name in names.values())])
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, kind) as writer:
        for place, manifest in zip(places, manifests):
            for batch in iter_graphs(place, manifest, columns):
                writer.write_batch(pa.RecordBatch.from_arrays([batch.column(name) for name in columns], schema=kind))
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    known = table.column("id").to_numpy()
    order = np.argsort(known, kind="stable")
    known = known[order]

    def texts(ids: np.ndarray) -> Any:
        at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        if not np.array_equal(known[at], ids):
            raise FormatError("graphs.parquet does not list the graphs that are in the packs")
        return {name: table.column(column).take(pa.array(order[at])) for name, column in names.items()}

    return texts
