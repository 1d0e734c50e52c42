"""Packs made the slow and obvious way, one graph after another, and a small data set of them on disk."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from packer.files.atomic import write_bytes_atomically
from packer.graphs.axes import Axis
from packer.graphs.schema import Field, Schema
from packer.limits.pack_limits import PackLimits
from packer.packs.columns import pack_columns
from packer.shards.graphs_file import lost_column, size_column, string_columns, write_graphs
from packer.shards.manifest import GRAPHS, MANIFEST, PLAN, GraphCounts, Manifest, shard_name
from packer.shards.writer import write_shard

MOLECULES = Schema(
    (Axis("node"), Axis("edge")),
    (
        Field("x", "node", "value", (3,), 0, "int64", "uint8", pad=7),
        Field("pos", "node", "value", (2,), 0, "float32", "float32", pad=float("nan")),
        Field("nothing", "node", "value", (0,), 0, "float32", "float32"),
        Field("parent_index", "node", "index", (), 0, "int64", "uint8", targets=("node",)),
        Field("edge_attr", "edge", "value", (), 0, "bfloat16", "uint16", pad=1.0),
        Field("edge_index", "edge", "index", (2,), -1, "int64", "uint8", targets=("node", "node")),
        Field("y", "graph", "value", (2,), 0, "float64", "float64", form="row"),
        Field("good", "graph", "value", (), 0, "bool", "bool", pad=True, form="value"),
        Field("root_index", "graph", "index", (), 0, "int64", "uint8", form="value", targets=("node",)),
    ),
    ("smiles", "status"),
)
PAPERS = Schema(
    (Axis("node", "author"), Axis("node", "paper"), Axis("edge", ("author", "writes", "paper"))),
    (
        Field("x", "node", "value", (2,), 0, "float32", "int8", pad=-1, type="author"),
        Field("x", "node", "value", (), 0, "float32", "float32", type="paper"),
        Field(
            "edge_index",
            "edge",
            "index",
            (2,),
            -1,
            "int64",
            "uint8",
            type=("author", "writes", "paper"),
            targets=("author", "paper"),
        ),
        Field("y", "graph", "value", (), 0, "int64", "uint8", form="value"),
    ),
)
MOLECULE_LIMITS = PackLimits(24, 40, 5)
PAPER_LIMITS = PackLimits({"author": 20, "paper": 24}, {("author", "writes", "paper"): 30}, 5)


@dataclass(frozen=True)
class Graph:
    """counts: axis key -> rows; values: field key -> [rows, *shape], index fields local to the graph."""

    counts: dict
    values: dict


def random_graph(schema: Schema, rng: np.random.Generator, most: int = 6) -> Graph:
    """1 to `most` nodes of each type, up to 8 edges of each type."""
    counts = {a.key: int(rng.integers(1, most + 1) if a.level == "node" else rng.integers(0, 9)) for a in schema.axes}
    values = {}
    for field in schema.fields:
        rows = 1 if field.axis is None else counts[field.axis.key]
        if field.role == "index":
            columns = [rng.integers(0, counts[target], rows) for target in field.targets]
            values[field.key] = np.stack(columns, axis=1).reshape(rows, *field.shape)
        else:
            values[field.key] = rng.integers(0, 2, (rows, *field.shape)).astype(field.storage)
    return Graph(counts, values)


def null_counts(padding: int, nulls: int, mode: str) -> list[int]:
    """How many padding rows each null graph owns."""
    if mode in ("one", "jraph"):
        return [padding] + [0] * (nulls - 1)
    return [padding // nulls + (1 if i < padding % nulls else 0) for i in range(nulls)]


def pack(graphs: list[Graph], ids: list[int], schema: Schema, limits: PackLimits) -> dict:
    """All columns of one pack."""
    slots, total, real = limits.slots(schema.axes), limits.num_graphs, len(graphs)
    counts = {}
    for axis in schema.axes:
        own = [graph.counts[axis.key] for graph in graphs]
        counts[axis.key] = own + null_counts(slots[axis.key] - sum(own), total - real, limits.null_graphs)
    ptr = {key: np.r_[0, np.cumsum(own)] for key, own in counts.items()}
    found = {}
    for field in schema.fields:
        rows = []
        of_slot = [1] * total if field.axis is None else counts[field.axis.key]
        for slot, number in enumerate(of_slot):
            firsts = np.array([ptr[target][slot] for target in field.targets], dtype=np.int64)
            nulls = np.array([ptr[target][real] for target in field.targets], dtype=np.int64)
            firsts = np.where([ptr[target][slot] == slots[target] for target in field.targets], nulls, firsts)
            if slot < real:
                values = graphs[slot].values[field.key]
                rows.append(values + firsts.reshape(field.shape) if field.role == "index" else values)
            elif field.role == "index":
                rows.append(np.broadcast_to(firsts.reshape(field.shape), (number, *field.shape)))
            else:
                pad = 0x3F80 if field.dtype == "bfloat16" and field.pad == 1.0 else field.pad
                rows.append(np.full((number, *field.shape), pad))
        joined = np.concatenate(rows)
        found[field.key] = np.moveaxis(joined, 0, -1) if field.cat_dim == -1 else joined
    for axis in schema.axes:
        if axis.level == "node":
            found[axis.column("batch")] = np.repeat(np.arange(total), counts[axis.key])
            found[axis.column("ptr")] = ptr[axis.key]
        found[axis.mask_name] = np.arange(slots[axis.key]) < ptr[axis.key][real]
    found["graphs_mask"] = np.arange(total) < real
    found["num_real"] = np.array([*(ptr[axis.key][real] for axis in schema.axes), real])
    found["graph_ids"] = np.array(list(ids) + [-1] * (total - real))
    return {c.name: found[c.name].astype(c.storage).reshape(c.shape) for c in pack_columns(schema, limits)}


def next_fit(graphs: list[Graph], schema: Schema, limits: PackLimits) -> list[list[int]]:
    """Graph ids of each pack, in order."""
    packs: list[list[int]] = [[]]
    slots = limits.slots(schema.axes)
    for i, graph in enumerate(graphs):
        trial = [*packs[-1], i]
        reserved = {"node": limits.num_graphs - len(trial) if limits.null_graphs == "all" else 1}
        reserved["edge"] = 0 if limits.null_graphs == "jraph" else reserved["node"]
        fits = len(trial) < limits.num_graphs and all(
            sum(max(graphs[j].counts[a.key], limits.null_graphs == "all") for j in trial)
            <= slots[a.key] - reserved[a.level]
            for a in schema.axes
        )
        if fits:
            packs[-1] = trial
        else:
            assert packs[-1], graph.counts
            packs.append([i])
    return packs


def blocks_of(packs: list[dict], packs_per_block: int) -> list[dict]:
    parts = [packs[i : i + packs_per_block] for i in range(0, len(packs), packs_per_block)]
    return [{name: np.stack([p[name] for p in part]) for name in part[0]} for part in parts]


def graph_rows(graphs: list[Graph], packs: list[list[int]], schema: Schema) -> dict:
    """Columns of graphs.parquet."""
    place = {i: (p, s) for p, own in enumerate(packs) for s, i in enumerate(own)}
    rows: dict = {
        "id": np.arange(len(graphs)),
        "pack": np.array([place.get(i, (-1, -1))[0] for i in range(len(graphs))], dtype=np.int64),
        "slot": np.array([place.get(i, (-1, -1))[1] for i in range(len(graphs))], dtype=np.int32),
        "status": pa.array(["packed" if i in place else "skipped" for i in range(len(graphs))]),
        "reason": pa.array(["" if i in place else "oversize" for i in range(len(graphs))]),
    }
    for axis in schema.axes:
        rows[size_column(axis)] = np.array([graph.counts[axis.key] for graph in graphs], dtype=np.int64)
        rows[lost_column(axis)] = np.zeros(len(graphs), dtype=np.int64)
    for name, column in string_columns(schema).items():
        rows[column] = pa.array([None if i % 7 == 3 else f"{name} of {i}" for i in range(len(graphs))])
    return rows


def write_data_set(
    folder: Path,
    schema: Schema = MOLECULES,
    limits: PackLimits = MOLECULE_LIMITS,
    num_graphs: int = 40,
    num_skipped: int = 2,
    packs_per_block: int = 3,
    blocks_per_shard: int = 2,
    compression: str = "zstd",
    seed: int = 0,
    change=lambda packs, rows: None,
) -> Manifest:
    """A complete data set; the last graphs are skipped. change: edits packs and rows before they are written."""
    rng = np.random.default_rng(seed)
    graphs = [random_graph(schema, rng) for _ in range(num_graphs)]
    ids = next_fit(graphs[: num_graphs - num_skipped], schema, limits)
    packs = [pack([graphs[i] for i in own], own, schema, limits) for own in ids]
    rows = graph_rows(graphs, ids, schema)
    change(packs, rows)
    per_shard = packs_per_block * blocks_per_shard
    shards = [
        write_shard(
            folder,
            shard_name(n),
            blocks_of(packs[start : start + per_shard], packs_per_block),
            schema,
            limits,
            compression,
        )
        for n, start in enumerate(range(0, len(packs), per_shard))
    ]
    plan = {"algorithm": "next-fit", "seed": 0, "num_packs": len(packs), "lower_bound": 1, "status": "feasible"}
    plan_file = pa.BufferOutputStream()
    pq.write_table(pa.table({"graph_id": np.concatenate(ids)}), plan_file, compression="zstd")
    manifest = Manifest(
        schema,
        limits,
        len(packs),
        packs_per_block,
        compression,
        tuple(shards),
        GraphCounts(
            num_graphs, num_graphs - num_skipped, 0, num_skipped, {"oversize": num_skipped} if num_skipped else {}
        ),
        {**plan, "stopped_by": "done"},
        {
            GRAPHS: write_graphs(folder, [rows], schema),
            PLAN: write_bytes_atomically(folder, PLAN, plan_file.getvalue().to_pybytes()),
        },
        {"kind": "test", "seed": seed},
        "0" * 64,
        {"pyarrow": pa.__version__},
    )
    write_bytes_atomically(folder, MANIFEST, manifest.to_bytes())
    return manifest


def reseal(folder: Path, **changes: object) -> None:
    """Change members of a data set's manifest and seal it anew, as a careful forger would."""
    write_bytes_atomically(folder, MANIFEST, replace(Manifest.load(folder), **changes).to_bytes())
