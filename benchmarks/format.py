"""Bytes and CPU time of stored packs: block size x codec x storage dtypes, and what reading costs beyond decompression.

    python benchmarks/format.py [--packs 2048] [--seed 0] [--out benchmarks/results/format.md]

The packs are real molecules (`sample:nci`, 4,991 graphs) in random order, again and again until there are enough packs,
each of 256 nodes, 552 edges and 32 graphs. Times are CPU time of this one thread, the best of several runs, files in
the page cache. Writing includes hashing and fsync, not gathering.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parent))

from provenance import provenance

from packer.files.atomic import write_bytes_atomically
from packer.graphs.schema import Schema
from packer.graphs.table import GraphTable
from packer.limits.pack_limits import PackLimits
from packer.packs.materialise import materialise
from packer.packs.unpack import unpack_table
from packer.shards import GraphCounts, Manifest, choose_layout, open_shard, write_shard
from packer.shards.manifest import GRAPHS, MANIFEST, PLAN, shard_name
from packer.verify.shard import ShardTask, verify_shard
from pipelines import build

LIMITS = PackLimits(256, 552, 32)
BLOCK_SIZES = (1 << 16, 1 << 18, 1 << 20, 1 << 22)
LOADED = ("x", "edge_attr", "edge_index", "y", "batch", "ptr", "num_real", "graph_ids")
"""What a reader decodes of a block: all but the masks, which it makes from num_real."""

Blocks = list[dict[str, np.ndarray]]


def cpu(run: Callable[[], object], repeats: int = 3) -> float:
    """Least CPU seconds of some runs."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        run()
        best = min(best, time.process_time() - start)
    return best


def molecules(folder: Path) -> tuple[GraphTable, str]:
    """The graphs of sample:nci as a table, and their content hash."""
    build("sample:nci", folder, LIMITS, algorithm="first-fit-decreasing")
    manifest = Manifest.load(folder)
    shards = [open_shard(folder, manifest, i) for i in range(len(manifest.shards))]
    blocks = [reader.block(i) for reader in shards for i in range(reader.entry.blocks)]
    packs = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    return unpack_table(packs, manifest.schema, LIMITS)[0], manifest.content_hash


def packs_of(table: GraphTable, num_packs: int, seed: int) -> dict[str, np.ndarray]:
    """Columns of so many packs: the graphs in random order, next-fit."""
    rng = np.random.default_rng(seed)
    nodes, edges = table.counts("node"), np.maximum(table.counts("edge"), 1)
    ids: list[int] = []
    offsets = [0]
    n = e = g = 0
    while len(offsets) <= num_packs:
        for i in rng.permutation(table.num_graphs).tolist():
            # "all": one node and one edge are kept for each unused slot.
            spare = LIMITS.num_graphs - (g + 1)
            if spare < 1 or n + nodes[i] > LIMITS.num_nodes - spare or e + edges[i] > LIMITS.num_edges - spare:
                offsets.append(len(ids))
                n = e = g = 0
            ids.append(i)
            n, e, g = n + nodes[i], e + edges[i], g + 1
    offsets = offsets[: num_packs + 1]
    return materialise(table, np.array(ids[: offsets[-1]]), np.array(offsets), LIMITS)


def with_storage(schema: Schema, packs: dict[str, np.ndarray], kind: str, seed: int) -> tuple[Schema, dict]:
    """The same packs in other dtypes. kind: "narrow" (as chosen), "logical" (as the source has them: int64), "float"
    (x of 9 random float32: dense features that no codec can shrink)."""
    if kind == "narrow":
        return schema, packs
    if kind == "float":
        noise = np.random.default_rng(seed).standard_normal(packs["x"].shape).astype(np.float32)
        noise[~packs["nodes_mask"]] = 0
        floats = {"dtype": "float32", "storage": "float32"}
        fields = [dataclasses.replace(f, **floats) if f.key == "x" else f for f in schema.fields]
        return dataclasses.replace(schema, fields=tuple(fields)), {**packs, "x": noise}
    fields = [dataclasses.replace(f, storage=f.dtype) for f in schema.fields]
    wide = {f.key: packs[f.key].astype(f.dtype) for f in schema.fields if f.role == "value"}
    return dataclasses.replace(schema, fields=tuple(fields)), {**packs, **wide}


def write(folder: Path, schema: Schema, blocks: Blocks, codec: str, plain: tuple[str, ...] = ()) -> Manifest:
    """A data set of one shard; the files beside it are empty."""
    entry = write_shard(folder, shard_name(0), blocks, schema, LIMITS, codec, plain)
    plan = {"algorithm": "", "seed": 0, "num_packs": entry.packs, "lower_bound": 0, "status": "feasible"}
    files = {name: write_bytes_atomically(folder, name, b"") for name in (GRAPHS, PLAN)}
    manifest = Manifest(
        schema,
        LIMITS,
        entry.packs,
        len(blocks[0]["num_real"]),
        codec,
        (entry,),
        GraphCounts(0, 0),
        {**plan, "stopped_by": ""},
        files,
        {},
        "",
        {},
        plain,
    )
    write_bytes_atomically(folder, MANIFEST, manifest.to_bytes())
    return manifest


def cut(packs: dict[str, np.ndarray], size: int) -> Blocks:
    rows = len(packs["num_real"])
    return [{name: values[i : i + size] for name, values in packs.items()} for i in range(0, rows, size)]


def read_all(folder: Path, manifest: Manifest, verify: str) -> None:
    reader = open_shard(folder, manifest, 0, verify)
    for block in range(reader.entry.blocks):
        reader.block(block, LOADED)
    reader.close()


def table_row(folder: Path, schema: Schema, packs: dict, codec: str, block_bytes: int, name: str) -> str:
    rows = len(packs["num_real"])
    sample = {key: values[:64] for key, values in packs.items()}
    layout = choose_layout(sample, codec, block_bytes)
    blocks = cut(packs, min(layout.packs_per_block, rows))
    manifest = write(folder, schema, blocks, codec, layout.uncompressed)
    raw = sum(values.nbytes for values in packs.values()) / rows
    stored = manifest.shards[0].bytes / rows
    times = [
        cpu(lambda: write_shard(folder, shard_name(0), blocks, schema, LIMITS, codec, layout.uncompressed)),
        *(cpu(lambda verify=verify: read_all(folder, manifest, verify)) for verify in ("always", "off")),
        cpu(lambda: verify_shard(ShardTask(str(folder), manifest.sha256, 0, 1)), 1),
    ]
    micros = " | ".join(f"{seconds / rows * 1e6:.1f}" for seconds in times)
    size = f"{block_bytes >> 10} KiB" if block_bytes < 1 << 20 else f"{block_bytes >> 20} MiB"
    return f"| {name} | {codec} | {size} | {layout.packs_per_block} | {raw:,.0f} | {stored:,.0f} | {micros} |"


def format_table(root: Path, schema: Schema, packs: dict, seed: int) -> list[str]:
    lines = [
        "| dtypes | codec | block | packs a block | decoded bytes a pack | stored bytes a pack | write µs | "
        "read, checked µs | read, unchecked µs | verify µs |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for kind in ("narrow", "logical", "float"):
        own = with_storage(schema, packs, kind, seed)
        for codec in ("none", "lz4", "zstd"):
            for size in BLOCK_SIZES if kind == "narrow" else (1 << 20,):
                lines.append(table_row(root, *own, codec, size, kind))
    return lines


def peers_table(root: Path, schema: Schema, packs: dict) -> list[str]:
    """The same shard through pyarrow.parquet."""
    lines = ["| how a block is read | codec | µs a pack |", "|---|---|---:|"]
    rows = len(packs["num_real"])
    for codec in ("zstd", "none"):
        layout = choose_layout({key: values[:64] for key, values in packs.items()}, codec)
        manifest = write(root, schema, cut(packs, layout.packs_per_block), codec, layout.uncompressed)
        path = root / shard_name(0)
        names = pq.read_schema(path).names
        chosen = [names.index(name) for name in LOADED]

        def arrow(checked: bool, path: Path = path, chosen: list[int] = chosen) -> None:
            options = {"memory_map": True, "pre_buffer": False, "page_checksum_verification": checked}
            file = pq.ParquetFile(path, **options)
            for group in range(file.num_row_groups):
                table = file.reader.read_row_group(group, column_indices=chosen, use_threads=False)
                for column in table.columns:
                    np.frombuffer(column.chunk(0).buffers()[1], np.uint8)

        for name, run in (
            ("pages by their own headers, no checks", lambda manifest=manifest: read_all(root, manifest, "off")),
            ("the same, CRC-32 of every byte (ours)", lambda manifest=manifest: read_all(root, manifest, "always")),
            ("pyarrow ParquetReader.read_row_group, no checks", lambda: arrow(False)),
            ("the same, page checksums (headers and footer unchecked)", lambda: arrow(True)),
        ):
            lines.append(f"| {name} | {codec} | {cpu(run) / rows * 1e6:.1f} |")
    return lines


def opening_table(root: Path, schema: Schema, packs: dict) -> list[str]:
    sample = {key: values[:64] for key, values in packs.items()}
    manifest = write(root, schema, cut(packs, choose_layout(sample).packs_per_block // 16), "zstd")
    path = root / shard_name(0)

    def opened() -> None:
        reader = open_shard(root, manifest, 0)
        reader.raw_footer()
        reader.close()

    lines = [f"| opening a data set (a shard of {manifest.shards[0].blocks} blocks) | µs |", "|---|---:|"]
    for name, run in (
        ("manifest: hash, parse, check", lambda: Manifest.load(root)),
        ("shard: open, size, footer checksum", opened),
        ("pyarrow ParquetFile of that shard, for comparison", lambda: pq.ParquetFile(path, memory_map=True)),
    ):
        lines.append(f"| {name} | {cpu(lambda run=run: [run() for _ in range(50)]) / 50 * 1e6:.0f} |")
    return lines


def checksum_table() -> list[str]:
    data = np.random.default_rng(0).integers(0, 256, 1 << 20, dtype=np.uint8).tobytes()
    lines = ["| checksum of a block of 1 MiB | µs |", "|---|---:|"]
    for name, run in (
        ("zlib.crc32", lambda: zlib.crc32(data)),
        ("hashlib.sha256", lambda: hashlib.sha256(data).digest()),
        ("hashlib.blake2b", lambda: hashlib.blake2b(data).digest()),
    ):
        lines.append(f"| {name} | {cpu(lambda run=run: [run() for _ in range(20)]) / 20 * 1e6:.0f} |")
    return lines


def levels_table(packs: dict) -> list[str]:
    rows = min(512, len(packs["num_real"]))
    columns = [pa.py_buffer(np.ascontiguousarray(values[:rows])) for values in packs.values()]
    lines = ["| zstd level | bytes a pack | compress µs a pack | decompress µs a pack |", "|---|---:|---:|---:|"]
    for level in (1, 3, 6, 9):
        codec = pa.Codec("zstd", compression_level=level)
        packed = [codec.compress(column) for column in columns]
        pairs = list(zip(packed, columns, strict=True))
        there = cpu(lambda codec=codec: [codec.compress(column) for column in columns], 2)
        back = cpu(lambda codec=codec, pairs=pairs: [codec.decompress(p, decompressed_size=c.size) for p, c in pairs])
        size = sum(p.size for p in packed)
        lines.append(f"| {level} | {size / rows:,.0f} | {there / rows * 1e6:.1f} | {back / rows * 1e6:.1f} |")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--packs", type=int, default=2048)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "format.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        table, content = molecules(root / "nci")
        packs = packs_of(table, options.packs, options.seed)
        (root / "shard").mkdir()
        parts = [
            format_table(root / "shard", table.schema, packs, options.seed),
            peers_table(root / "shard", table.schema, packs),
            opening_table(root / "shard", table.schema, packs),
            checksum_table(),
            levels_table(packs),
        ]
    command = f"`python benchmarks/format.py --packs {options.packs} --seed {options.seed}`"
    about = f"{command}. {provenance('numpy', 'pyarrow', seed=options.seed)}"
    graphs = f"sample:nci, {table.num_graphs:,} graphs, content hash {content[:16]}; limits {LIMITS}"
    text = "\n\n".join(
        ["# What a pack costs on disk", about, __doc__.split("\n\n")[2].strip(), graphs, *map("\n".join, parts)]
    )
    options.out.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
