"""`graphs.parquet` under verification: every source graph once, in the pack it says or with the reason why not."""

from __future__ import annotations

from collections import Counter
from typing import Collection, Iterator, NamedTuple, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from packer.errors import FormatError
from packer.files.protocol import Place
from packer.hashing import row_hashes
from packer.shards.graphs_file import STATUSES, iter_graphs, lost_column, size_column
from packer.shards.manifest import GRAPHS, Manifest
from packer.shards.reader import open_shard
from packer.verify.block import check_block
from packer.verify.multiset import add_to_blocks
from packer.verify.shard import Fault, graph_rows, sized_axes

_NAMED = 3
"""Blocks in which differences are searched graph by graph."""


class GraphsResult(NamedTuple):
    """sums: uint64 [blocks of the data set], hashes of the graphs that the file puts there; None: cannot be told."""

    faults: list[Fault]
    sums: np.ndarray | None
    graphs: int


def check_graphs(place: Place, manifest: Manifest, key: int) -> GraphsResult:
    """Read the file once, a row group at a time: ids, statuses, places and sizes of the graphs, and the counts."""
    faults: list[str] = []
    sums = np.zeros(manifest.num_blocks, dtype=np.uint64)
    statuses: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    last, graphs = -1, 0
    sizes = [size_column(manifest.schema.axis(axis)) for axis in sized_axes(manifest.schema)]
    try:
        for batch in iter_graphs(place, manifest, verify=False):
            column = _columns(batch)
            ids = column["id"]
            steps = np.diff(np.append(last, ids))
            faults += _first(steps <= 0, ids, "id {0} does not ascend")
            last = int(ids[-1])
            status, places = _statuses(batch), (column["pack"], column["slot"])
            faults += _place_faults(status, *places, ids, manifest)
            names = [size_column(axis) for axis in manifest.schema.sized]
            faults += _first(np.any([column[name] < 0 for name in names], axis=0), ids, "graph {0} has a negative size")
            lost = np.stack([column[lost_column(axis)] for axis in manifest.schema.axes])
            faults += _first(np.any(lost < 0, axis=0), ids, "graph {0} lost a negative number of rows")
            faults += _first(
                (status == STATUSES.index("trimmed")) != np.any(lost, axis=0),
                ids,
                "graph {0}: trimmed graphs, and no others, have lost rows",
            )
            reason = batch.column("reason")
            has_reason = pc.call_function("not_equal", [reason, pa.scalar("")]).to_numpy(zero_copy_only=False)
            faults += _first(
                (status == 0) == has_reason, ids, "graph {0}: a reason must stand by every graph not packed as it is"
            )
            for name, counter in (("status", statuses), ("reason", reasons)):
                for pair in pc.call_function("value_counts", [batch.column(name)]).to_pylist():
                    counter[pair["values"]] += pair["counts"]
            kept = (status >= 0) & (status < 2) & (places[0] >= 0) & (places[0] < manifest.num_packs)
            rows = [values[kept] for values in (ids, *places, *(column[name] for name in sizes))]
            add_to_blocks(sums, rows[1] // manifest.packs_per_block, row_hashes(rows, key))
            graphs += len(ids)
            if len(faults) > 100:
                faults.append("further faults are not searched for")
                break
        else:
            faults += _count_faults(manifest, graphs, statuses, reasons)
    except FormatError as error:
        return GraphsResult([_fault(str(error))], None, graphs)
    return GraphsResult([_fault(problem) for problem in faults], sums, graphs)


def find_differences(place: Place, manifest: Manifest, blocks: Sequence[int]) -> Iterator[Fault]:
    """Which graphs of these blocks (numbered through all shards) are not where graphs.parquet puts them."""
    wanted = blocks[:_NAMED]
    axes = sized_axes(manifest.schema)
    stated = _stated_rows(place, manifest, wanted, [size_column(manifest.schema.axis(axis)) for axis in axes])
    for block in wanted:
        shard, inside = divmod(block, manifest.blocks_per_shard)
        first = block * manifest.packs_per_block
        reader = open_shard(place, manifest, shard, verify="off")
        columns = reader.block(inside)
        reader.close()
        actual = np.stack(
            graph_rows(columns, check_block(columns, manifest.schema, manifest.limits)[1], axes, first), 1
        )
        expected = stated[(stated[:, 1] >= first) & (stated[:, 1] < first + manifest.packs_per_block)]
        yield from _differing(actual, expected, axes, manifest.shards[shard].name, inside)
    if len(blocks) > _NAMED:
        yield _fault(f"{len(blocks) - _NAMED} more blocks hold other graphs than {GRAPHS} says")


def _differing(
    actual: np.ndarray, expected: np.ndarray, axes: Sequence[str], shard: str, block: int
) -> Iterator[Fault]:
    """The first few places (pack, slot) where two sets of rows (id, pack, slot, sizes) differ."""
    actual_rows = {(row[1], row[2]): (row[0], *row[3:]) for row in actual.tolist()}
    expected_rows = {(row[1], row[2]): (row[0], *row[3:]) for row in expected.tolist()}
    positions = sorted(
        position
        for position in actual_rows.keys() | expected_rows.keys()
        if actual_rows.get(position) != expected_rows.get(position)
    )
    if not positions and len(actual) != len(expected):
        yield Fault(GRAPHS, None, None, None, f"it puts two graphs into one slot of {shard}, block {block}")
    for pack, slot in positions[:_NAMED]:
        texts = [
            f"graph {row[0]} of size {dict(zip(axes, row[1:]))}" if row else "no graph"
            for row in (actual_rows.get((pack, slot)), expected_rows.get((pack, slot)))
        ]
        more = f" ({len(positions)} such slots in the block)" if len(positions) > 1 else ""
        yield Fault(shard, block, pack, "graph_ids", f"slot {slot} holds {texts[0]}, {GRAPHS} says {texts[1]}{more}")


def _stated_rows(place: Place, manifest: Manifest, blocks: Collection[int], sizes: Sequence[str]) -> np.ndarray:
    names = ["id", "pack", "slot", *sizes]
    kept = [np.zeros((0, len(names)), dtype=np.int64)]
    for batch in iter_graphs(place, manifest, names, verify=False):
        column = _columns(batch)
        rows = np.isin(column["pack"] // manifest.packs_per_block, list(blocks)) & (column["pack"] >= 0)
        if rows.any():
            kept.append(np.stack([column[name][rows].astype(np.int64) for name in names], axis=1))
    return np.concatenate(kept)


def _columns(batch: pa.RecordBatch) -> dict[str, np.ndarray]:
    numbers = (f.name for f in batch.schema if pa.types.is_integer(f.type))
    return {name: batch.column(name).to_numpy() for name in numbers}


def _statuses(batch: pa.RecordBatch) -> np.ndarray:
    """Place in STATUSES, -1 for none of them: int [rows]."""
    numbers = np.full(batch.num_rows, -1)
    for number, name in enumerate(STATUSES):
        numbers[pc.call_function("equal", [batch.column("status"), pa.scalar(name)]).to_numpy(zero_copy_only=False)] = (
            number
        )
    return numbers


def _place_faults(
    status: np.ndarray, pack: np.ndarray, slot: np.ndarray, ids: np.ndarray, manifest: Manifest
) -> list[str]:
    graphs = manifest.limits.num_graphs
    assert graphs is not None
    inside = (pack >= 0) & (pack < manifest.num_packs) & (slot >= 0) & (slot < graphs - 1)
    outside = (pack == -1) & (slot == -1)
    return [
        *_first(status < 0, ids, f"graph {{0}} has a status that is none of {', '.join(STATUSES)}"),
        *_first(
            (status >= 0) & (status < 2) & ~inside, ids, "graph {0} is packed, but its pack or slot does not exist"
        ),
        *_first((status == 2) & ~outside, ids, "graph {0} is skipped, but has a pack or slot"),
    ]


def _count_faults(manifest: Manifest, graphs: int, statuses: Counter[str], reasons: Counter[str]) -> Iterator[str]:
    counts = manifest.counts
    stated = {"packed": counts.packed, "trimmed": counts.trimmed, "skipped": counts.skipped}
    for name, number in stated.items():
        if statuses[name] != number:
            yield f"{statuses[name]} graphs are {name}, the manifest says {number}"
    if graphs != counts.graphs:
        yield f"it has {graphs} graphs, the manifest says {counts.graphs}"
    reasons.pop("", None)
    if dict(reasons) != dict(counts.reasons):
        yield f"its reasons are {dict(reasons.most_common(20))}, the manifest says {dict(counts.reasons)}"


def _first(bad: np.ndarray, ids: np.ndarray, text: str) -> list[str]:
    rows = np.flatnonzero(bad)
    if not len(rows):
        return []
    return [text.format(ids[rows[0]]) + (f" (and {len(rows) - 1} more near it)" if len(rows) > 1 else "")]


def _fault(problem: str) -> Fault:
    return Fault(GRAPHS, None, None, None, problem)
