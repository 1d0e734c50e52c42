"""CPU time of reading a pack: our reader beside collating online, a raw memory map, and other shard formats.

    python benchmarks/reading.py [--peers PYTHON] [--copies 6] [--seed 0] [--out benchmarks/results/reading.md]

The packs are real molecules (`sample:nci`, 256 nodes, 552 edges, 32 graphs), each set repeated `copies` times; once
with their categorical features, once with random dense float32 ones. Every row runs in a process of its own, one torch
thread, files in the page cache: a new reader object and one whole pass a repetition, the median of five, the time of
the whole process tree divided by the packs. Imports are not counted; opening is, but for the other formats. Every
reader gives one dict of int64, float32 and bool tensors a pack, from the same narrow stored dtypes (the memory maps
hold int64); numpy_loader, jax_loader and jraph give int32. Compilation is not counted. "take alone" has its blocks in
memory already: it is what a step costs where they are held. PEERS is a Python with torch, litdata, mosaicml-streaming,
webdataset and datasets; a package that it lacks is a row that says so.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

FIELDS = ("x", "edge_index", "edge_attr", "y")
MASKS = ("nodes_mask", "edges_mask", "graphs_mask")
SLOTS = {"nodes_mask": 256, "edges_mask": 552, "graphs_mask": 32}
STORED = (*FIELDS, "batch", "ptr", "num_real")
REPETITIONS = 5
Pack = dict[str, Any]


def logical(stored: dict[str, np.ndarray]) -> Pack:
    """What every peer does with one pack as stored: the tensors of `PackDataset`."""
    import torch

    pack = {
        name: torch.from_numpy(stored[name].astype(np.int64 if stored[name].dtype.kind in "ui" else np.float32))
        for name in STORED[:-1]
    }
    for mask, real in zip(MASKS, stored["num_real"].tolist(), strict=True):
        pack[mask] = torch.from_numpy(np.arange(SLOTS[mask]) < real)
    return pack


# ---- ours ------------------------------------------------------------------------------------------------------------


def in_order(folder: Path, **options: Any) -> Iterator[Pack]:
    from packer import PackDataset

    dataset = PackDataset(folder, **options)
    for i in range(len(dataset)):
        yield dataset[i]


def loader(folder: Path, **options: Any) -> Iterator[Any]:
    from packer import PackDataset, torch_loader

    yield from torch_loader(PackDataset(folder), **options)


def arrays(folder: Path, **options: Any) -> Iterator[Any]:
    from packer import numpy_loader

    yield from numpy_loader(folder, **options)


def on_jax(folder: Path, **options: Any) -> Iterator[Any]:
    """The second pass: the first one compiles. The last step is waited for."""
    import jax

    from packer import jax_loader

    loader = jax_loader(folder, **options)
    jax.block_until_ready(list(loader))
    yield None
    step = None
    for step in loader:
        yield step
    jax.block_until_ready(step)


def taken(folder: Path, library: str, batch_size: int, redraw: bool = False, compiled: bool = False) -> Iterator[Any]:
    """Every pack once, in random order, from blocks that lie in memory as they are stored."""
    from packer import PackReader
    from packer.reading.array_ops import ops_of
    from packer.reading.redraw import SizeClasses, redraw_key
    from packer.reading.stored import layout_of, stored_arrays, stored_names
    from packer.reading.take import take

    reader = PackReader(folder).with_dtypes("int32", "float32", only_32_bit=True)
    layout, per_block = layout_of(reader, ops_of(library)), reader.manifest.packs_per_block
    names = stored_names(layout, redraw=True)
    rng, graphs = np.random.default_rng(0), layout.num_graphs
    blocks: list[tuple[Any, Any, list[Any]]] = []
    for number in range(-(-len(reader) // per_block)):
        columns = reader.blocks.columns(number, names)
        packs = len(columns["num_real"])
        slots = np.arange((per_block + 1) * graphs, dtype=np.int32).reshape(-1, graphs)
        slots[:packs] = SizeClasses.of(columns, reader.manifest.schema).slots(number, redraw_key(0, 0))
        order = np.full(-(-packs // batch_size) * batch_size, -1)
        order[:packs] = rng.permutation(packs)
        arrays = stored_arrays(columns, reader, layout, per_block, redraw)
        held = {name: layout.ops.hold(rows) for name, rows in arrays.items()}
        ids = [layout.ops.hold(part) for part in order.reshape(-1, batch_size)]
        blocks.append((held, layout.ops.hold(slots) if redraw else None, ids))
    one = _compiled(library, lambda held, ids, slots: take(held, ids, layout, slots)) if compiled else None
    for warming in (True, False):
        step = None
        for held, slots, ids in blocks:
            for part in ids:
                step = take(held, part, layout, slots) if one is None else one(held, part, slots)
                if not warming:
                    yield step
        if library == "jax":
            import jax

            jax.block_until_ready(step)
        if warming:
            yield None


def _compiled(library: str, function: Callable[..., Any]) -> Callable[..., Any]:
    if library == "jax":
        import jax

        return jax.jit(function)
    import torch

    return torch.compile(function, fullgraph=True, dynamic=False)


# ---- without packs on disk -------------------------------------------------------------------------------------------


def npy_blocks(folder: Path) -> Iterator[Pack]:
    """A memory map of the tensors as they are used (int64), copied a block at a time and cut."""
    import torch

    maps = {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}
    packs = len(maps["x"])
    for start in range(0, packs, 190):
        block = {name: np.array(rows[start : start + 190]) for name, rows in maps.items()}
        for i in range(len(block["x"])):
            yield {name: torch.from_numpy(rows[i]) for name, rows in block.items()}


def pyg_online(folder: Path) -> Iterator[Any]:
    """PyG's DataLoader collating the same graphs, 15 a step, then padding; the mean number a pack holds."""
    import torch
    from torch_geometric.loader import DataLoader

    graphs = torch.load(folder / "graphs.pt", weights_only=False)
    yield None  # what came so far is not counted
    for batch in DataLoader(graphs, batch_size=len(graphs) // int((folder / "packs").read_text())):
        nodes, edges, real = min(batch.num_nodes, 256), min(batch.num_edges, 552), batch.num_graphs
        x = torch.zeros(256, 9, dtype=batch.x.dtype)
        x[:nodes] = batch.x[:nodes]
        edge_index = torch.full((2, 552), 255)
        edge_index[:, :edges] = batch.edge_index[:, :edges]
        edge_attr = torch.zeros(552, 3, dtype=batch.edge_attr.dtype)
        edge_attr[:edges] = batch.edge_attr[:edges]
        y = torch.zeros(32, 1, dtype=batch.y.dtype)
        y[:real] = batch.y.view(-1, 1)
        slot = torch.full((256,), 31)
        slot[:nodes] = batch.batch[:nodes]
        masks = (torch.arange(256) < nodes, torch.arange(552) < edges, torch.arange(32) < real)
        yield x, edge_index, edge_attr, y, slot, masks


def jraph_online(folder: Path) -> Iterator[Any]:
    """jraph's dynamically_batch of the same graphs in source order, which fills batches up and pads them."""
    import jraph
    import torch

    tuples = [
        jraph.GraphsTuple(
            nodes=graph.x.numpy().astype(np.int32),
            edges=graph.edge_attr.numpy().astype(np.int32),
            senders=graph.edge_index[0].numpy().astype(np.int32),
            receivers=graph.edge_index[1].numpy().astype(np.int32),
            globals=graph.y.reshape(1, -1).numpy(),
            n_node=np.array([graph.num_nodes], dtype=np.int32),
            n_edge=np.array([graph.num_edges], dtype=np.int32),
        )
        for graph in torch.load(folder / "graphs.pt", weights_only=False)
    ]
    yield None
    yield from jraph.dynamically_batch(iter(tuples), 256, 552, 32)


# ---- peers: `write` and `read` of each -------------------------------------------------------------------------------


def write_litdata(packs: dict[str, np.ndarray], folder: Path, compression: str | None = None) -> None:
    from litdata.streaming.writer import BinaryWriter

    writer = BinaryWriter(str(folder), chunk_bytes="64MB", compression=compression)
    for i in range(len(packs["x"])):
        writer.add_item(i, {name: packs[name][i] for name in STORED})
    writer.done()
    writer.merge()


def read_litdata(folder: Path) -> Iterator[Pack | None]:
    from litdata import StreamingDataset

    dataset = StreamingDataset(str(folder))
    yield None
    for stored in dataset:
        yield logical(stored)


def write_streaming(packs: dict[str, np.ndarray], folder: Path) -> None:
    from streaming import MDSWriter

    columns = {name: f"ndarray:{packs[name].dtype}:{','.join(map(str, packs[name].shape[1:]))}" for name in STORED}
    with MDSWriter(out=str(folder), columns=columns) as writer:
        for i in range(len(packs["x"])):
            writer.write({name: packs[name][i] for name in STORED})


def read_streaming(folder: Path) -> Iterator[Pack | None]:
    from streaming import StreamingDataset

    dataset = StreamingDataset(local=str(folder), batch_size=1, shuffle=False)
    yield None
    for stored in dataset:
        yield logical(stored)


def write_webdataset(packs: dict[str, np.ndarray], folder: Path) -> None:
    import webdataset

    with webdataset.TarWriter(str(folder / "packs.tar")) as writer:
        for i in range(len(packs["x"])):
            writer.write({"__key__": f"{i:06d}", **{f"{name}.npy": packs[name][i] for name in STORED}})


def read_webdataset(folder: Path) -> Iterator[Pack | None]:
    import webdataset

    dataset = webdataset.WebDataset(str(folder / "packs.tar"), shardshuffle=False).decode()
    yield None
    for stored in dataset:
        yield logical({name: stored[f"{name}.npy"] for name in STORED})


def write_datasets(packs: dict[str, np.ndarray], folder: Path) -> None:
    import datasets

    shapes = {name: packs[name].reshape(len(packs[name]), -1) for name in STORED}
    datasets.Dataset.from_dict(shapes).save_to_disk(str(folder))


def read_datasets(folder: Path) -> Iterator[Pack | None]:
    import datasets

    shapes = {name: tuple(shape) for name, shape in json.loads((folder / "shapes.json").read_text()).items()}
    dataset = datasets.load_from_disk(str(folder)).with_format("numpy")
    yield None
    for stored in dataset:
        yield logical({name: stored[name].reshape(shapes[name]) for name in STORED})


PEERS: dict[str, tuple[str, Callable[..., None], Callable[[Path], Iterator[Pack | None]]]] = {
    "LitData, uncompressed": ("litdata", write_litdata, read_litdata),
    "LitData, zstd": ("litdata", lambda packs, folder: write_litdata(packs, folder, "zstd"), read_litdata),
    "MosaicML streaming, uncompressed": ("streaming", write_streaming, read_streaming),
    "WebDataset (tar of .npy)": ("webdataset", write_webdataset, read_webdataset),
    "Hugging Face datasets, uncompressed": ("datasets", write_datasets, read_datasets),
}

EIGHT: dict[str, Any] = {"batch_size": 8}
COMPILED: dict[str, Any] = {**EIGHT, "compiled": True}
OURS: dict[str, tuple[str, Callable[..., Iterator[Any]], dict[str, Any]]] = {
    "PackDataset, zstd, verified": ("zstd", in_order, {}),
    "PackDataset, zstd, unverified": ("zstd", in_order, {"verify": "off"}),
    "PackDataset, lz4, verified": ("lz4", in_order, {}),
    "PackDataset, uncompressed, verified": ("none", in_order, {}),
    "PackDataset, uncompressed, unverified": ("none", in_order, {"verify": "off"}),
    "torch_loader, shuffled, graphs redrawn": ("zstd", loader, {}),
    "torch_loader, shuffled, graphs swapped": ("zstd", loader, {"redraw": "swaps"}),
    "torch_loader, shuffled": ("zstd", loader, {"redraw": False}),
    "torch_loader, shuffled, 8 packs a step": ("zstd", loader, {"redraw": False, **EIGHT}),
    "torch_loader, shuffled, 8 packs a step, graphs redrawn": ("zstd", loader, EIGHT),
    "numpy_loader, shuffled, graphs redrawn": ("zstd", arrays, {}),
    "numpy_loader, shuffled, graphs swapped": ("zstd", arrays, {"redraw": "swaps"}),
    "numpy_loader, shuffled": ("zstd", arrays, {"redraw": False}),
    "numpy_loader, shuffled, stacked for 4 devices": ("zstd", arrays, {"redraw": False, "devices": 4}),
    "jax_loader, shuffled, graphs redrawn": ("zstd", on_jax, {}),
    "jax_loader, shuffled": ("zstd", on_jax, {"redraw": False}),
    "jax_loader, shuffled, 8 packs a step": ("zstd", on_jax, {"redraw": False, **EIGHT}),
    "jax_loader, shuffled, 8 packs a step, resident": ("zstd", on_jax, {"redraw": False, **EIGHT, "resident": True}),
    "take alone, numpy, 8 packs a step": ("zstd", taken, {"library": "numpy", "batch_size": 8}),
    "take alone, numpy, 8 packs a step, redrawn": (
        "zstd",
        taken,
        {"library": "numpy", "batch_size": 8, "redraw": True},
    ),
    "take alone, torch, 8 packs a step": ("zstd", taken, {"library": "torch", "batch_size": 8}),
    "take alone, torch compiled, 8 packs a step": ("zstd", taken, {**COMPILED, "library": "torch"}),
    "take alone, torch compiled, 8 packs a step, redrawn": (
        "zstd",
        taken,
        {**COMPILED, "library": "torch", "redraw": True},
    ),
    "take alone, JAX compiled, 8 packs a step": ("zstd", taken, {**COMPILED, "library": "jax"}),
    "take alone, JAX compiled, 8 packs a step, redrawn": (
        "zstd",
        taken,
        {**COMPILED, "library": "jax", "redraw": True},
    ),
    "torch_loader, in order, dicts": ("zstd", loader, {"shuffle": False, "layout": "dict"}),
    "torch DataLoader, 0 workers": ("zstd", loader, {"redraw": False, "as_dataloader": True}),
    "torch DataLoader, 2 workers": ("zstd", loader, {"redraw": False, "num_workers": 2}),
    "block-wise copy from .npy memory maps": ("npy", npy_blocks, {}),
    "PyG DataLoader, collated and padded online": ("pyg", pyg_online, {}),
    "jraph.dynamically_batch, batched and padded online": ("pyg", jraph_online, {}),
}


# ---- one row, in its own process -------------------------------------------------------------------------------------


def tree_cpu() -> float:
    """CPU seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def measure(read: Callable[[], Iterator[Any]], packs: int) -> dict[str, float]:
    """Median CPU and wall microseconds a pack of some repetitions; the first one warms up."""
    import torch

    torch.set_num_threads(1)
    times: list[tuple[float, float]] = []
    for _ in range(REPETITIONS + 1):
        cpu, wall = tree_cpu(), time.perf_counter()
        for step in read():
            if step is None:
                cpu, wall = tree_cpu(), time.perf_counter()
        times.append(((tree_cpu() - cpu) / packs * 1e6, (time.perf_counter() - wall) / packs * 1e6))
    cpu_us, wall_us = zip(*times[1:], strict=True)
    return {"cpu": statistics.median(cpu_us), "wall": statistics.median(wall_us)}


def run_row(name: str, root: Path) -> dict[str, Any]:
    """Called in the row's process, where `packer` may be absent."""
    packs = int((root / "packs").read_text())
    if name in OURS:
        kind, read, options = OURS[name]
        return measure(lambda: read(root / kind, **options), packs)
    package, write, peer = PEERS[name]
    try:
        importlib.import_module(package)
    except ImportError as error:
        return {"skipped": str(error)}
    stored = dict(np.load(root / "stored.npz"))
    folder = Path(tempfile.mkdtemp(dir=root))
    write(stored, folder)
    (folder / "shapes.json").write_text(json.dumps({n: rows.shape[1:] for n, rows in stored.items()}))
    return measure(lambda: peer(folder), packs)


def in_own_process(python: str, name: str, root: Path) -> dict[str, Any]:
    command = [python, __file__, "--row", name, "--root", str(root)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    if done.returncode:
        return {"skipped": done.stderr.strip().splitlines()[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


# ---- the data --------------------------------------------------------------------------------------------------------


def write_data(root: Path, copies: int, dense: bool, seed: int) -> None:
    """Everything the rows read: data sets of each codec, memory maps, the graphs for PyG, the packs as stored."""
    import torch

    from packer import PackDataset, PackLimits, unpack
    from packer.shards import Manifest
    from pipelines import build

    built = root / "built"
    build("sample:nci", built, PackLimits(256, 552, 32), algorithm="first-fit-decreasing")
    manifest = Manifest.load(built)
    schema, columns = manifest.schema, all_columns(built)
    if dense:
        rng = np.random.default_rng(seed)
        fields = []
        for field in schema.fields:
            if field.name in ("x", "edge_attr"):
                columns[field.name] = rng.normal(size=columns[field.name].shape).astype(np.float32)
                field = dataclasses.replace(field, dtype="float32", storage="float32")
            fields.append(field)
        schema = dataclasses.replace(schema, fields=tuple(fields))
    columns = {name: np.concatenate([rows] * copies) for name, rows in columns.items()}
    for compression in ("zstd", "lz4", "none"):
        write_copy(root / compression, built, manifest, schema, columns, compression)
    packs = len(columns["x"])
    for folder in (root, root / "pyg"):
        folder.mkdir(exist_ok=True)
        (folder / "packs").write_text(str(packs))
    np.savez(root / "stored.npz", **{name: columns[name] for name in STORED})
    (root / "npy").mkdir()
    for name in (*STORED[:-1], *MASKS):
        rows = columns[name]
        np.save(root / "npy" / f"{name}.npy", rows.astype(np.int64) if rows.dtype.kind in "ui" else rows)
    graphs = unpack(PackDataset(built)) * copies
    if dense:
        for graph in graphs:
            graph.x, graph.edge_attr = graph.x.float(), graph.edge_attr.float()
    torch.save(graphs, root / "pyg" / "graphs.pt")


def all_columns(folder: Path) -> dict[str, np.ndarray]:
    from packer.shards import Manifest, open_shard

    manifest = Manifest.load(folder)
    readers = [open_shard(folder, manifest, i) for i in range(len(manifest.shards))]
    blocks = [reader.block(i) for reader in readers for i in range(reader.entry.blocks)]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def write_copy(
    folder: Path, built: Path, manifest: Any, schema: Any, columns: dict[str, np.ndarray], codec: str
) -> None:
    from packer.files.atomic import write_bytes_atomically
    from packer.shards import choose_layout, shard_name, write_shard

    folder.mkdir()
    for name in manifest.files:
        shutil.copy(built / name, folder / name)
    per_block, per_shard, plain = choose_layout({name: rows[:64] for name, rows in columns.items()}, codec)
    packs, shards = len(columns["x"]), []
    for start in range(0, packs, per_shard):
        stop = min(start + per_shard, packs)
        blocks = (
            {name: rows[i : min(i + per_block, stop)] for name, rows in columns.items()}
            for i in range(start, stop, per_block)
        )
        shards.append(write_shard(folder, shard_name(len(shards)), blocks, schema, manifest.limits, codec, plain))
    copy = dataclasses.replace(
        manifest,
        schema=schema,
        num_packs=packs,
        packs_per_block=per_block,
        compression=codec,
        uncompressed=plain,
        shards=tuple(shards),
        plan={**manifest.plan, "num_packs": packs},
    )
    write_bytes_atomically(folder, "manifest.json", copy.to_bytes())


# ---- the page --------------------------------------------------------------------------------------------------------


def table(results: dict[str, dict[str, Any]]) -> list[str]:
    ours = results["PackDataset, zstd, verified"]["cpu"]
    lines = ["| reader | CPU µs a pack | wall µs a pack | CPU, in times of the first row |", "|---|--:|--:|--:|"]
    for name, found in results.items():
        if "skipped" in found:
            lines.append(f"| {name} | not run: {found['skipped'][:80]} | | |")
        else:
            lines.append(f"| {name} | {found['cpu']:.1f} | {found['wall']:.1f} | {found['cpu'] / ours:.2f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=sys.executable, help="a Python that has the other formats' packages")
    parser.add_argument("--copies", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "reading.md")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.row:
        print(json.dumps(run_row(given.row, given.root)))
        return

    sys.path.insert(0, str(Path(__file__).parent))
    from provenance import provenance

    page = ["# Reading packs", "", (__doc__ or "").split("\n\n", 2)[2].strip(), ""]
    page += [provenance("torch", "torch_geometric", "numpy", "pyarrow", seed=given.seed), ""]
    for title, dense in (("Categorical features", False), ("Dense float32 features", True)):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            write_data(root, given.copies, dense, given.seed)
            packs = int((root / "packs").read_text())
            results: dict[str, dict[str, Any]] = {}
            for name in (*OURS, *PEERS):
                results[name] = in_own_process(given.peers if name in PEERS else sys.executable, name, root)
                print(name, results[name], file=sys.stderr)
            page += [f"## {title}, {packs} packs", "", *table(results), ""]
    given.out.write_text("\n".join(page))
    print("\n".join(page))


if __name__ == "__main__":
    main()
