"""CPU time of making packs: our build and verify beside PyG collating the same packs, and other shard writers.

    python benchmarks/throughput.py [--peers PYTHON] [--copies 4] [--molecules MOSES.csv.gz] [--seed 0]
        [--out benchmarks/results/throughput.md]

The packs are real molecules (`sample:nci`, limits 256/552/32, each set repeated `copies` times) under one plan, once
with their categorical features (int64) and once with random dense float32 ones. Ours starts from the scanned graph
table and ends with a shard on disk: gather, pad, narrow, zstd 1, page checksums, hashes. The PyG row is
`Batch.from_data_list` and padding into new tensors by hand, with masks: nothing is written. PEERS is a Python with
mosaicml-streaming and litdata; they get the packs that ours would write, as bytes, and only write. One process and one
thread each; CPU time of the fastest of five passes.

Before packs there is a scan: its blocks of `sample:nci`, and of the first molecules of a CSV file with a column SMILES
such as those of MOSES, beside RDKit's parse of the same strings. These take turns; CPU time in the median over blocks.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np

PASSES = 5
BLOCKS = 4
"""Of a source whose scan is measured."""
NODES, EDGES, GRAPHS = 256, 552, 32
PEERS = ("mosaicml-streaming", "litdata")


@dataclass(frozen=True)
class Packs:
    """Packs to be made. source: of our build; ids: graphs of each pack; graphs: the same as PyG objects."""

    kind: str
    source: Any
    ids: list[np.ndarray]
    graphs: list[Any]
    layout: Any


def prepare(kind: str, copies: int, seed: int, folder: Path) -> Packs:
    """Scan the molecules into a graph table, and plan."""
    import torch
    from torch_geometric.data import Data

    from packer import PackLimits, make_plan
    from packer.reading.unpack_graphs import graphs_of
    from pipelines.building.mapped.shards import PackSource, sample_layout, save_plan_arrays
    from pipelines.building.options import ScanOptions
    from pipelines.building.scan import scan_source
    from pipelines.executors import SerialExecutor
    from pipelines.sources import as_source
    from pipelines.stores.journal import Journal
    from pipelines.stores.store import FolderStore

    def scanned(source: Any, name: str) -> Any:
        work = folder / name
        work.mkdir()
        options = ScanOptions({}, {}, "skip")
        journal = Journal(FolderStore(work, work))
        return scan_source(as_source(source), options, work, journal, SerialExecutor(), lambda *_: None)

    molecules = graphs_of(scanned("sample:nci", f"{kind}-molecules").table)
    random = np.random.default_rng(seed)
    graphs: list[Any] = []
    for _ in range(copies):
        for molecule in molecules:
            x, edge_attr = molecule.x, molecule.edge_attr
            if kind == "dense":
                x, edge_attr = (
                    torch.from_numpy(random.standard_normal(tuple(value.shape)).astype(np.float32))
                    for value in (x, edge_attr)
                )
            graphs.append(Data(x=x, edge_index=molecule.edge_index, edge_attr=edge_attr, y=molecule.y))
    table = scanned(graphs, kind)
    limits = PackLimits(NODES, EDGES, GRAPHS)
    plan = make_plan(table.table.sizes(), limits, seed=seed)
    save_plan_arrays(folder / f"{kind}-plan", plan.graph_ids, plan.pack_offsets, table.table.source_ids)
    source = PackSource(str(table.folder), str(folder / f"{kind}-plan"), limits)
    ids = np.split(plan.graph_ids, plan.pack_offsets[1:-1])
    return Packs(kind, source, ids, graphs, sample_layout(table.table, plan.graph_ids, limits, "zstd"))


def best(run: Callable[[], Any], passes: int) -> float:
    """CPU seconds of the fastest pass."""
    seconds: list[float] = []
    for _ in range(passes):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    return min(seconds)


def write_ours(packs: Packs, folder: Path) -> int:
    """Every shard; the bytes on disk."""
    from pipelines.building.mapped.shards import ShardTask, run_task

    total, layout = 0, packs.layout
    for number, first in enumerate(range(0, len(packs.ids), layout.packs_per_shard)):
        stop = min(first + layout.packs_per_shard, len(packs.ids))
        task = ShardTask(
            packs.source, str(folder), number, first, stop, layout.packs_per_block, "zstd", layout.uncompressed
        )
        total += run_task(task)["bytes"]
    return total


def collate_with_pyg(packs: Packs) -> None:
    """Each pack as PyG users make it: a Batch, then padding into new tensors, with masks."""
    import torch
    from torch_geometric.data import Batch

    for ids in packs.ids:
        batch: Any = Batch.from_data_list([packs.graphs[i] for i in ids.tolist()])
        nodes, edges, graphs = batch.num_nodes, batch.num_edges, batch.num_graphs
        x = batch.x.new_zeros(NODES, batch.x.shape[1])
        x[:nodes] = batch.x
        edge_index = torch.full((2, EDGES), nodes)
        edge_index[:, :edges] = batch.edge_index
        edge_attr = batch.edge_attr.new_zeros(EDGES, batch.edge_attr.shape[1])
        edge_attr[:edges] = batch.edge_attr
        y = batch.y.new_zeros(GRAPHS)
        y[:graphs] = batch.y
        slot = torch.full((NODES,), graphs)
        slot[:nodes] = batch.batch
        masks = [torch.arange(size) < real for size, real in ((NODES, nodes), (EDGES, edges), (GRAPHS, graphs))]
        assert len(masks) == 3


def write_with_peer(peer: str, stored: Path, passes: int) -> tuple[float, int]:
    """CPU seconds and bytes of writing the columns in `stored`; runs in the peers' Python, which lacks packer."""
    import shutil

    with np.load(stored) as file:
        columns = {name: file[name] for name in file.files}
    rows = [{name: values[i].tobytes() for name, values in columns.items()} for i in range(len(columns["x"]))]
    folder = Path(tempfile.mkdtemp())

    def run() -> None:
        shutil.rmtree(folder)
        if peer == "litdata":
            from litdata.streaming.cache import Cache

            cache = Cache(str(folder), chunk_bytes=64 << 20, compression="zstd")
            for number, row in enumerate(rows):
                cache[number] = row
            cache.done()
            cache.merge()
        else:
            from streaming import MDSWriter

            types = dict.fromkeys(columns, "bytes")
            with MDSWriter(
                out=str(folder), columns=types, compression="zstd:1", hashes=["xxh64"], size_limit=64 << 20
            ) as writer:
                for row in rows:
                    writer.write(row)

    seconds = best(run, passes)
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    shutil.rmtree(folder)
    return seconds, total


def measure(packs: Packs, folder: Path, peers: str | None, passes: int) -> list[str]:
    """The table rows of one kind of features."""
    import torch

    torch.set_num_threads(1)
    count = len(packs.ids)
    out = folder / f"{packs.kind}-shards"
    out.mkdir()
    ours = best(lambda: write_ours(packs, out), passes)
    size = write_ours(packs, out)
    pyg = best(lambda: collate_with_pyg(packs), passes)

    def row(who: str, seconds: float, total: int | None) -> str:
        stored = "" if total is None else f"{total / count:,.0f}"
        return f"| {packs.kind} | {who} | {seconds / count * 1e6:.1f} | {pyg / seconds:.1f} | {stored} |"

    rows = [row("graph-packer: gather, pad, narrow, compress, check, write", ours, size)]
    rows.append(row("PyG: collate and pad (nothing written)", pyg, None))
    stored = folder / f"{packs.kind}.npz"
    columns = packs.source.columns(0, count)
    np.savez(stored, **columns)
    for peer in PEERS if peers else ():
        command = [peers or "", __file__, "--as-peer", peer, str(stored), "--passes", str(passes)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            rows.append(f"| {packs.kind} | {peer}: {done.stderr.strip().splitlines()[-1][:80]} | | | |")
        else:
            seconds, total = done.stdout.split()[-2:]
            rows.append(row(f"{peer}: write finished packs", float(seconds), int(total)))
    return rows


def verify_row(folder: Path, passes: int) -> str:
    """CPU of verify_shards over a built data set."""
    from packer import PackLimits, verify_shards
    from pipelines import build

    built = build("sample:nci", folder / "built", PackLimits(NODES, EDGES, GRAPHS), workers=1)
    count = built.manifest.num_packs
    seconds = best(lambda: verify_shards(built), passes)
    return f"`verify_shards` of {count} packs: {seconds / count * 1e6:.1f} µs a pack."


def scan_rows(name: str, tasks: Sequence[Any], passes: int) -> list[str]:
    """Table rows of scan blocks of SMILES."""
    from rdkit import Chem, rdBase
    from torch_geometric.utils import from_smiles

    def parse(task: Any) -> None:
        quiet = rdBase.BlockLogs()
        for row in task.rows:
            Chem.MolFromSmiles(row.cells[0])
        del quiet

    def with_getters(task: Any) -> None:
        with patch("pipelines.sources.pickled.VERSIONS", ((0, 0),)):
            task.scan()

    def with_pyg(task: Any) -> None:
        quiet = rdBase.BlockLogs()
        for row in task.rows:
            from_smiles(row.cells[0])
        del quiet

    who = {
        "RDKit: `MolFromSmiles`": parse,
        "graph-packer: a scan block": lambda task: task.scan(),
        "graph-packer, where RDKit's binary form is of an unknown version": with_getters,
        "PyG: `from_smiles`": with_pyg,
    }
    seconds: dict[str, list[float]] = {name: [] for name in who}
    for task in list(tasks) * passes:
        for each, run in who.items():
            seconds[each].append(best(partial(run, task), 1) / len(task.rows))
    alone = seconds["RDKit: `MolFromSmiles`"]
    return [
        f"| {name} | {each} | {statistics.median(found) * 1e6:.0f} | "
        f"{statistics.median(a / b for a, b in zip(found, alone, strict=True)):.2f} |"
        for each, found in seconds.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", help="a Python that has mosaicml-streaming and litdata")
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--passes", type=int, default=PASSES)
    parser.add_argument("--molecules", type=Path, help="a CSV file with a column SMILES")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "throughput.md")
    parser.add_argument("--as-peer", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.as_peer:
        print(*write_with_peer(arguments.as_peer[0], Path(arguments.as_peer[1]), arguments.passes))
        return
    from provenance import provenance

    from pipelines.sources import as_source

    rows = ["| features | who | CPU µs a pack | times faster than PyG | bytes a pack |", "|---|---|--:|--:|--:|"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind in ("categorical", "dense"):
            packs = prepare(kind, arguments.copies, arguments.seed, folder)
            rows += measure(packs, folder, arguments.peers, arguments.passes)
        verified = verify_row(folder, arguments.passes)
    scans = ["| molecules | who | CPU µs a molecule | times RDKit |", "|---|---|--:|--:|"]
    for name, source in {"sample:nci": "sample:nci", "MOSES": arguments.molecules}.items():
        if source is not None:
            read = as_source(source) if name == source else as_source(f"smiles:{source}", smiles_column="SMILES")
            scans += scan_rows(name, list(islice(read.tasks(), BLOCKS)), arguments.passes)
    versions = provenance("numpy", "pyarrow", "rdkit", "torch", "torch_geometric", seed=arguments.seed)
    text = "\n".join(
        [
            "# Throughput of building",
            "",
            f"Generated by `benchmarks/throughput.py --copies {arguments.copies}`. {versions}",
            "",
            "## Scanning molecules",
            "",
            *scans,
            "",
            "## Making packs",
            "",
            *rows,
            "",
            verified,
            "",
            "PyG only collates; ours also writes a checked shard. The other writers start from finished packs.",
            "",
        ]
    )
    arguments.out.parent.mkdir(exist_ok=True)
    arguments.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
