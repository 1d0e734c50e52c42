"""A plan as one Parquet file that any tool can read: a row a graph, in pack order."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from packer.certificate import Certificate
from packer.errors import FormatError, PackerError
from packer.limits import PackLimits
from packer.packing import Packing
from packer.sizes import GraphSizes

if TYPE_CHECKING:
    import os

    from packer.plan import PackPlan

_KEY = b"graph-packer-plan"
_WRITING: Any = {"compression": "zstd", "write_statistics": False, "write_page_checksum": True}


def save_plan(plan: PackPlan, path: str | os.PathLike[str]) -> None:
    """Columns `pack`, `graph_id` (int64) and the size on each axis; all else as JSON in the schema's metadata."""
    ids, offsets = plan.graph_ids, plan.pack_offsets
    held = np.diff(offsets)
    columns: dict[str, Any] = {"pack": np.repeat(np.arange(len(held), dtype=np.int64), held), "graph_id": ids}
    for axis in plan.sizes.axes:
        rows = plan.sizes.columns[axis.key]
        rows = rows if plan.sizes.count is None else np.repeat(rows, plan.sizes.count)
        columns[f"size/{axis.key}"] = rows.astype(np.int64)[ids]
    about: dict[str, Any] = {
        "format": "graph-packer-plan/1",
        "limits": plan.limits.to_dict(),
        "node_types": [axis.type for axis in plan.sizes.axes if axis.level == "node"],
        "edge_types": [axis.type for axis in plan.sizes.axes if axis.level == "edge"],
        "algorithm": plan.algorithm,
        "seed": plan.seed,
        "num_packs": plan.num_packs,
        "lower_bound": plan.lower_bound,
        "status": plan.status,
        "stopped_by": plan.stopped_by,
        "certificate": plan.certificate.to_dict(),
        "sizes": sizes_digest(plan.sizes),
    }
    table = pa.table(columns).replace_schema_metadata({_KEY: json.dumps(about, sort_keys=True).encode()})
    pq.write_table(table, str(path), row_group_size=1 << 16, **_WRITING)


def load_plan(path: str | os.PathLike[str]) -> PackPlan:
    """Read what save_plan wrote; every number is checked against the rows."""
    from packer.plan import PackPlan, items_of

    try:
        table = pq.read_table(str(path), page_checksum_verification=True)
        about: dict[str, Any] = json.loads((table.schema.metadata or {})[_KEY])
        if about["format"] != "graph-packer-plan/1":
            raise FormatError(f"{path}: plan format {about['format']!r} is not known; upgrade graph-packer")
        columns = {name: table.column(name).to_numpy() for name in table.column_names}
        ids, pack = columns["graph_id"], columns["pack"]
        sizes = _sizes(columns, about, ids)
        limits = PackLimits.from_dict(about["limits"], sizes.axes)
        certificate = Certificate.from_dict(about["certificate"])
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        if isinstance(error, (PackerError, FileNotFoundError)):
            raise
        raise FormatError(f"{Path(path).name} is not a plan of graph-packer: {error}") from error
    offsets = np.append(0, np.cumsum(np.bincount(pack, minlength=about["num_packs"])))
    if (np.diff(pack) < 0).any() or len(offsets) != about["num_packs"] + 1 or (np.diff(offsets) < 1).any():
        raise FormatError(f"{Path(path).name}: its packs are not the {about['num_packs']} packs that it states")
    if sizes_digest(sizes) != about["sizes"]:
        raise FormatError(f"{Path(path).name}: its sizes are not those that it was made for")
    items = items_of(sizes, limits)
    packing = Packing(
        items, about["algorithm"], about["seed"], certificate, about["stopped_by"], 0.0, (ids, offsets.astype(np.int64))
    )
    return PackPlan(sizes, limits, packing)


def sizes_digest(sizes: GraphSizes) -> str:
    """SHA-256 over axis names and sizes in source order: the same for equal data sets, however they were given."""
    digest = hashlib.sha256()
    for axis in sizes.axes:
        rows = sizes.columns[axis.key]
        rows = rows if sizes.count is None else np.repeat(rows, sizes.count)
        digest.update(axis.key.encode() + b"\0")
        digest.update(np.ascontiguousarray(rows, dtype="<i8").tobytes())
    return digest.hexdigest()


def _sizes(columns: dict[str, np.ndarray], about: dict[str, Any], ids: np.ndarray) -> GraphSizes:
    if not np.array_equal(np.sort(ids), np.arange(len(ids))):
        raise FormatError("its graph ids are not each of 0.. once")

    def in_source_order(key: str) -> np.ndarray:
        rows = np.empty(len(ids), dtype=np.int64)
        rows[ids] = columns[f"size/{key}"]
        return rows

    if about["node_types"] == [None]:
        return GraphSizes(in_source_order("node"), in_source_order("edge"))
    return GraphSizes(
        {key: in_source_order(key) for key in about["node_types"]},
        {(s, r, t): in_source_order(f"{s}__{r}__{t}") for s, r, t in about["edge_types"]},
    )
