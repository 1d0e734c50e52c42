"""A small packed data set written pack by pack with loops: what the readers' tests compare with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from packer.files.atomic import write_bytes_atomically
from packer.graphs.axes import HOMOGENEOUS, Axis
from packer.graphs.schema import Field, Schema
from packer.limits.pack_limits import PackLimits
from packer.packs.columns import pack_columns
from packer.shards import GraphCounts, Manifest, shard_name, write_graphs, write_shard
from packer.shards.graphs_file import graphs_schema

LIMITS = PackLimits(num_nodes=12, num_edges=20, num_graphs=4, null_graphs="one")
SCHEMA = Schema(
    HOMOGENEOUS,
    (
        Field("x", "node", "value", (2,), 0, "int64", "uint8"),
        Field("edge_index", "edge", "index", (2,), -1, "int64", "uint8", targets=("node", "node")),
        Field("edge_attr", "edge", "value", (1,), 0, "float64", "float64"),
        Field("half", "node", "value", (), 0, "bfloat16", "uint16"),
        Field("y", "graph", "value", (), 0, "float32", "float32", form="value"),
    ),
)

AUTHOR, PAPER, WRITES = Axis("node", "author"), Axis("node", "paper"), Axis("edge", ("author", "writes", "paper"))
HETERO_LIMITS = PackLimits({"author": 8, "paper": 10}, {("author", "writes", "paper"): 14}, 3, null_graphs="one")
HETERO_SCHEMA = Schema(
    (AUTHOR, PAPER, WRITES),
    (
        Field("x", "node", "value", (2,), 0, "float32", "float32", type="author"),
        Field("x", "node", "value", (3,), 0, "float32", "float32", type="paper"),
        Field("edge_index", "edge", "index", (2,), -1, "int64", "uint8", type=WRITES.type, targets=("author", "paper")),
        Field("y", "graph", "value", (1,), 0, "int64", "int8"),
    ),
)
TRIPLET = Axis("triplet")
AXES_LIMITS = PackLimits(12, 20, 4, "one", {"triplet": 15}, {"built": 60})
AXES_SCHEMA = Schema(
    (*HOMOGENEOUS, TRIPLET),
    (
        *SCHEMA.fields[:2],
        Field("paths", "triplet", "index", (2,), 0, "int64", "uint8", targets=("edge", "node")),
        Field("last", "triplet", "index", (2,), -1, "int64", "uint8", targets=("edge", "edge")),
        Field("reverse", "edge", "index", (), 0, "int64", "uint8", targets=("edge",)),
        Field("angle", "triplet", "value", (2,), 0, "float32", "float32"),
        Field("built", "graph", "value", (), 0, "int64", "uint8", form="scalar"),
    ),
    budgets=("built",),
)
KINDS = {
    "plain": (SCHEMA, LIMITS),
    "hetero": (HETERO_SCHEMA, HETERO_LIMITS),
    "axes": (AXES_SCHEMA, AXES_LIMITS),
}
FOLLOWED = {"plain": ("x", "edge_attr", "y"), "hetero": ("author/x", "y"), "axes": ("angle", "reverse", "built")}
"""Fields for follow_batch."""


def random_pack(seed: int, schema: Schema, limits: PackLimits, first_id: int) -> dict[str, np.ndarray]:
    """One pack in storage dtypes: real graphs first, then one null graph with all padding, then empty slots."""
    rng = np.random.default_rng(seed)
    slots = limits.slots(schema.axes)
    real = int(rng.integers(1, limits.num_graphs))
    counts = {axis.key: rng.integers(1, 4, real) for axis in schema.axes}
    first: dict[str, np.ndarray] = {}
    pack = {c.name: np.zeros(c.shape, c.storage) for c in pack_columns(schema, limits)}
    pack["num_real"][:] = [*(counts[axis.key].sum() for axis in schema.axes), real]
    pack["graph_ids"][:] = -1
    pack["graph_ids"][:real] = first_id + np.arange(real)
    pack["graphs_mask"][:real] = True
    for axis in schema.axes:
        total = counts[axis.key].sum()
        pack[axis.mask_name][:total] = True
        bounds = [0, *np.cumsum(counts[axis.key]), *[slots[axis.key]] * (limits.num_graphs - real)]
        first[axis.key] = np.array(bounds)
        if axis.is_pointed:
            pack[axis.ptr_name][:] = bounds
            for slot in range(limits.num_graphs):
                pack[axis.batch_name][bounds[slot] : bounds[slot + 1]] = slot
    for field in schema.fields:
        column = pack[field.key]
        if field.role == "index":
            owner = np.repeat(np.arange(real), counts[field.axis.key])
            for entry, key in enumerate(field.targets):
                at = column if not field.shape else column[entry] if field.cat_dim == -1 else column[:, entry]
                at[:] = first[key][real]
                at[: len(owner)] = first[key][owner]
        elif field.key in schema.budgets:
            column[:real] = rng.integers(1, 4, real)
        else:
            rows = real if field.axis is None else counts[field.axis.key].sum()
            column[:rows] = rng.integers(0, 100, (rows, *field.shape))
    return pack


def write_packs(
    folder: Path,
    num_packs: int = 23,
    packs_per_block: int = 5,
    packs_per_shard: int = 10,
    schema: Schema = SCHEMA,
    limits: PackLimits = LIMITS,
    compression: str = "zstd",
    skipped: int = 0,
    packs: list[dict[str, np.ndarray]] | None = None,
) -> list[dict[str, np.ndarray]]:
    """Write a data set to `folder`; the last `skipped` graphs of its source are in no pack. Returns its packs."""
    folder.mkdir(parents=True, exist_ok=True)
    if packs is None:
        packs, graphs = [], 0
        for i in range(num_packs):
            packs.append(random_pack(i, schema, limits, graphs))
            graphs += int(packs[-1]["num_real"][-1])
    shards = []
    for start in range(0, len(packs), packs_per_shard):
        shard = packs[start : start + packs_per_shard]
        blocks = [shard[i : i + packs_per_block] for i in range(0, len(shard), packs_per_block)]
        joined = ({name: np.stack([pack[name] for pack in block]) for name in block[0]} for block in blocks)
        shards.append(write_shard(folder, shard_name(len(shards)), joined, schema, limits, compression))
    files = {"graphs.parquet": _graphs(folder, packs, schema, skipped)}
    files["plan.parquet"] = write_bytes_atomically(folder, "plan.parquet", b"no plan")
    graphs = sum(int(pack["num_real"][-1]) for pack in packs)
    plan = {"algorithm": "test", "lower_bound": 1, "num_packs": len(packs), "seed": 0, "status": "feasible"}
    manifest = Manifest(
        schema,
        limits,
        len(packs),
        packs_per_block,
        compression,
        tuple(shards),
        GraphCounts(graphs + skipped, graphs, skipped=skipped, reasons={"test": skipped} if skipped else {}),
        {**plan, "stopped_by": "work"},
        files,
        {"kind": "test"},
        "0" * 64,
        {"graph-packer": "test"},
    )
    write_bytes_atomically(folder, "manifest.json", manifest.to_bytes())
    return packs


def _graphs(folder: Path, packs: list[dict[str, np.ndarray]], schema: Schema, skipped: int):
    rows = [(int(g), i, slot) for i, p in enumerate(packs) for slot, g in enumerate(p["graph_ids"]) if g >= 0]
    rows += [(len(rows) + i, -1, -1) for i in range(skipped)]
    rows.sort()
    part = {
        "id": np.array([row[0] for row in rows], np.int64),
        "pack": np.array([row[1] for row in rows], np.int64),
        "slot": np.array([row[2] for row in rows], np.int32),
        "status": ["packed" if row[1] >= 0 else "skipped" for row in rows],
        "reason": ["" if row[1] >= 0 else "test" for row in rows],
    }
    sizes = {name: np.zeros(len(rows), np.int64) for name in graphs_schema(schema).names if name not in part}
    return write_graphs(folder, [{**part, **sizes}], schema)
