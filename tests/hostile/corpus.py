"""Inputs made to hurt, and what reads them, run in a process of its own under a limit of memory.

    python tests/hostile/corpus.py FOLDER SCALE GROUP ...

SCALE: 1 for inputs as large as they hurt, more for as many times smaller ones.

Prints a line of JSON a case: its name, what came of it (the name of the error, or "read"), its text and the seconds.
"""

from __future__ import annotations

import json
import resource
import struct
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from reference_packs import reseal, write_data_set

from hostile import stores, thrift_tree
from packer.certificate import Certificate, check_certificate
from packer.errors import PackerError
from packer.files.atomic import hash_file
from packer.files.canonical import seal
from packer.graphs.sizes import GraphSizes
from packer.limits.pack_limits import PackLimits
from packer.plan.pack_plan import PackPlan, make_plan
from packer.shards import Manifest, iter_graphs, open_shard
from packer.shards.manifest import GRAPHS, MANIFEST, PLAN
from packer.verify.data_set import verify_shards
from packer.verify.plan import check_plan

MEMORY = 1 << 30
"""What a case may take over what the process holds already: less than 2 GiB in all."""
SCALE = int(sys.argv[2]) if len(sys.argv) > 2 else 1
ZEROS = bytes((60 << 20) // SCALE)
MANY = 1_000_000 // SCALE
Case = Callable[[], Any]
Cases = Iterator[tuple[str, Case]]


def fresh(folder: Path) -> Manifest:
    for path in folder.iterdir():
        path.unlink()
    return write_data_set(folder)


def manifests(folder: Path) -> Cases:
    plain = json.loads((folder / MANIFEST).read_bytes())
    del plain["sha256"]

    def case(**changes: Any) -> Case:
        return lambda: Manifest.load(seal({**plain, **changes}))

    nodes = [{"level": "node", "type": f"n{i}"} for i in range(20_000)]
    edges = [{"level": "edge", "type": [f"n{i}", "to", f"n{i}"]} for i in range(20_000)]
    fields = [{**plain["schema"]["fields"][0], "type": f"n{i % 20_000}", "name": f"x{i}"} for i in range(30_000)]
    schema = plain["schema"]
    yield "40,000 axes and 30,000 fields", case(schema={**schema, "axes": nodes + edges, "fields": fields})
    yield "30,000 fields", case(schema={**schema, "fields": [{**f, "type": None} for f in fields]})
    yield "30,000 fields of one name", case(schema={**schema, "fields": schema["fields"][:1] * 9000})
    yield "a million strings", case(schema={**schema, "strings": [f"s{i}" for i in range(MANY)]})
    limits = plain["limits"]
    types = {f"n{i}": 10 for i in range(MANY // 10)}
    yield "limits of 100,000 types", case(limits={**limits, "num_nodes": types})
    edge_types = {f"n{i}__to__n{i}": 10 for i in range(MANY // 10)}
    yield "edge limits of 100,000 types", case(limits={**limits, "num_edges": edge_types})
    index = {**schema["fields"][5], "shape": [MANY], "targets": ["node"] * MANY}
    yield "an index with a million targets", case(schema={**schema, "fields": [index]})
    yield "a million names of columns", case(uncompressed=[f"x{i}" for i in range(MANY)])
    yield "a million equal names", case(uncompressed=["x"] * MANY)
    counts = plain["counts"]
    many = 300_000_000
    yield "3e8 graphs", case(counts={**counts, "graphs": many, "packed": many, "skipped": 0, "reasons": {}})
    reasons = {f"r{i}": 1 for i in range(MANY)}
    yield "a million reasons", case(counts={**counts, "reasons": reasons})
    shard = plain["shards"][0]
    blocks = MANY // 2
    wide = {**shard, "packs": blocks * 1024, "block_bytes": [300] * blocks, "block_crc32": [0] * blocks}
    wide = {**wide, "bytes": blocks * 300 + 100}
    huge = blocks * 1024
    plan = {**plain["plan"], "num_packs": huge}
    yield "5e8 packs", case(shards=[wide], num_packs=huge, packs_per_block=1024, plan=plan)
    yield (
        "a footer of 2 GiB",
        case(shards=[{**shard, "bytes": 2**31 + sum(shard["block_bytes"]) - 1}, *plain["shards"][1:]]),
    )
    yield "limits of 2^31", case(limits={**limits, "num_nodes": 2**31 - 1, "num_graphs": 2**31 - 1})
    yield "null bytes and no hash", lambda: Manifest.load(b"\0" * (64 << 20))


def page_headers(folder: Path) -> Cases:
    manifest = Manifest.load(folder)
    entry = manifest.shards[0]
    data = (folder / entry.name).read_bytes()
    tree, after = thrift_tree.parse(data, 4)
    rest = data[after : entry.block_bytes[0]]

    def case(header: bytes, rest: bytes = rest) -> Case:
        def run() -> Any:
            block = b"PAR1" + header + rest
            path = folder / entry.name
            path.write_bytes(block + data[entry.block_offsets[1] :])
            forged = replace(
                entry,
                bytes=path.stat().st_size,
                sha256=hash_file(path).sha256,
                block_bytes=(len(block), *entry.block_bytes[1:]),
                block_crc32=(zlib.crc32(block), *entry.block_crc32[1:]),
            )
            # Past the manifest's own bound on the size of blocks, to show that this one needs it not.
            return open_shard(folder, replace(manifest, shards=(forged, *manifest.shards[1:])), 0).block(0)

        return run

    def bent(*fields: list[Any], at: int = 9) -> bytes:
        return thrift_tree.write([*tree[:at], *fields, *tree[at:]])

    zeros = ZEROS
    yield "a list of 60 million empty structs", case(b"\x9c" + b"\xfc" + thrift_tree.varint(len(ZEROS)) + zeros)
    yield (
        "60 million empty structs after the header",
        case(bent([9, 9, [12]])[:-2] + b"\xfc" + thrift_tree.varint(len(ZEROS)) + zeros),
    )
    yield "a header of 60 MB of zeros", case(b"\x15" + zeros)
    yield "a number of 60 MB", case(b"\x15" + b"\x80" * len(ZEROS))
    yield "structs in structs", case(b"\x5c" * (1 << 20))
    yield (
        "statistics of 60 MB",
        case(thrift_tree.write([*tree[:4], [5, 12, [*tree[4][2][:4], [5, 12, [[1, 8, ZEROS]]]]]])),
    )
    yield "a column chunk of 60 MB", case(b"\x26\x00\x1c\x15\x00\x19\xf5" + thrift_tree.varint(len(ZEROS)) + zeros)
    for name, header in (
        ("the size twice", bent(tree[1], at=2)),
        ("the size of another type", thrift_tree.write([tree[0], [2, 6, tree[1][2]], *tree[2:]])),
        ("out of order", thrift_tree.write([tree[1], tree[0], *tree[2:]])),
        ("an unknown field", bent([14, 5, 1])),
        ("a field left out", thrift_tree.write(tree[1:])),
        ("a dictionary's header as well", bent([7, 12, [[1, 5, 2**31 - 1], [2, 5, 0]]], at=5)),
        ("a longer number", b"\x15\x80\x00" + thrift_tree.write([[1, 5, 0], *tree[1:]])[2:]),
        ("a longer number of a field", b"\x05\x02" + thrift_tree.write(tree)[1:]),
        ("cut short", thrift_tree.write(tree)[:-1]),
    ):
        yield name, case(header)


def footers(folder: Path) -> Cases:
    manifest = Manifest.load(folder)
    entry = manifest.shards[0]
    data = (folder / entry.name).read_bytes()
    tree, _ = thrift_tree.parse(data, entry.block_offsets[-1])

    def case(footer: bytes) -> Case:
        def run() -> Any:
            whole = footer + struct.pack("<I", len(footer)) + b"PAR1"
            path = folder / entry.name
            path.write_bytes(data[: entry.block_offsets[-1]] + whole)
            forged = replace(
                entry, bytes=path.stat().st_size, sha256=hash_file(path).sha256, footer_crc32=zlib.crc32(whole)
            )
            fresh_manifest = replace(manifest, shards=(forged, *manifest.shards[1:]))
            (folder / MANIFEST).write_bytes(fresh_manifest.to_bytes())
            return verify_shards(folder)

        return run

    yield from _bent_footers(tree, case)


def _bent_footers(tree: thrift_tree.Tree, case: Callable[[bytes], Case]) -> Cases:
    zeros, million = ZEROS, thrift_tree.varint(len(ZEROS))
    group = next(field for field in tree if field[0] == 4)[2][1]
    chunk = group[0][2][1]
    yield "60 million empty row groups", case(thrift_tree.write(tree[:3])[:-1] + b"\x19\xfc" + million + zeros)
    yield "60 million empty keys", case(thrift_tree.write(tree[:4])[:-1] + b"\x19\xfc" + million + zeros)
    yield "60 million orders of columns", case(thrift_tree.write(tree[:6])[:-1] + b"\x19\xfc" + million + zeros)
    yield "60 million columns", case(thrift_tree.write(tree[:1])[:-1] + b"\x19\xfc" + million + zeros)
    yield "zeros", case(zeros)
    many = [12, *([chunk] * (32_769 + MANY // 10))]
    yield (
        "a row group of 200,000 columns",
        case(thrift_tree.write([*tree[:3], [4, 9, [12, [[1, 9, many], *group[1:]]]], *tree[4:]])),
    )
    yield (
        "100,000 row groups",
        case(thrift_tree.write([*tree[:3], [4, 9, [12, *([group] * (MANY // 100))]], *tree[4:]])),
    )
    yield "a million keys", case(thrift_tree.write([*tree[:4], [5, 9, [12, *([[[1, 8, b"a"]]] * MANY)]], *tree[5:]]))
    keys = tree[4][2]
    yield "a key twice", case(thrift_tree.write([*tree[:4], [5, 9, [*keys, keys[1]]], *tree[5:]]))
    yield "the rows twice", case(thrift_tree.write([*tree[:3], tree[2], *tree[3:]]))
    yield "the row groups twice", case(thrift_tree.write([*tree[:4], tree[3], *tree[4:]]))
    yield "rows of another type", case(thrift_tree.write([*tree[:2], [3, 5, tree[2][2]], *tree[3:]]))
    yield "something left over", case(thrift_tree.write(tree) + b"\0")
    yield "encryption", case(thrift_tree.write([*tree, [8, 12, [[1, 12, []]]]]))


def graphs(folder: Path) -> Cases:
    manifest = Manifest.load(folder)
    data = (folder / GRAPHS).read_bytes()
    length = int.from_bytes(data[-8:-4], "little")
    start = len(data) - 8 - length
    tree, _ = thrift_tree.parse(data, start)
    table = pa.Table.from_batches(iter_graphs(folder, manifest))

    def write(content: bytes, rows: int = 40) -> Any:
        (folder / GRAPHS).write_bytes(content)
        counts = replace(manifest.counts, graphs=rows, packed=rows - 2)
        files = {**manifest.files, GRAPHS: hash_file(folder / GRAPHS)}
        (folder / MANIFEST).write_bytes(replace(manifest, files=files, counts=counts).to_bytes())
        opened = Manifest.load(folder)
        for _ in iter_graphs(folder, opened):
            pass
        return verify_shards(folder)

    def case(footer: bytes, body: bytes = data[:start]) -> Case:
        return lambda: write(body + footer + struct.pack("<I", len(footer)) + b"PAR1")

    yield from _bent_footers(tree, case)

    def forged(change: Callable[[Any], None]) -> bytes:
        copy, _ = thrift_tree.parse(data, start)
        change(copy)
        return thrift_tree.write(copy)

    def chunk(copy: Any) -> Any:
        return copy[3][2][1][0][2][1][1][2]

    def texts_as_numbers(copy: Any) -> None:
        for element in copy[1][2][2:]:
            element[0][2] = 6

    def dictionary_behind(copy: Any) -> None:
        chunk(copy).insert(-1, [11, 6, 10_000])

    yield "texts that their chunks call numbers", case(forged(texts_as_numbers))
    yield "a dictionary behind its data", case(forged(dictionary_behind))
    for name, footer in thrift_tree.repeated_groups(tree):
        yield name, case(footer)
    yield "a number of values twice", case(forged(lambda copy: chunk(copy).insert(5, [5, 6, 2**40])))
    yield "bytes of no column", case(forged(lambda copy: None), data[:start] + bytes(1000))
    for rows in (60_000, 3_000_000):
        options = {"compression": "zstd", "use_dictionary": rows > 60_000, "row_group_size": rows}
        big = pa.table({n: pa.array(np.zeros(rows, "i8")) for n in ("id", "pack")})
        yield (
            f"{rows} rows in a few bytes",
            lambda big=big, options=options, rows=rows: write(_bytes(big, options), rows),
        )
    long = table.set_column(table.schema.get_field_index("smiles"), "smiles", pa.array(["a" * (8 << 20)] * 40))
    for options in ({"use_dictionary": False}, {"use_dictionary": True}):
        content = _bytes(long, {"compression": "zstd", "write_statistics": False, **options})
        yield f"texts of 320 MiB, {options}", lambda content=content: write(content)
    for name, values in (("pack", 10**12), ("slot", 2**31 - 1), ("id", -(2**62)), ("num_nodes", 2**62)):
        at = table.schema.get_field_index(name)
        column = np.array(table.column(name).to_numpy())
        column[0] = values
        wrong = table.set_column(at, table.schema.field(name), pa.array(column))
        content = _bytes(wrong, {"compression": "zstd", "use_dictionary": False, "write_statistics": False})
        yield f"{name} of {values}", lambda content=content: write(content)


def _bytes(table: pa.Table, options: dict[str, Any]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    return sink.getvalue().to_pybytes()


def plans(folder: Path) -> Cases:
    plan = make_plan(GraphSizes(np.array([3, 4, 4]), np.array([2, 2, 2])), PackLimits(16, 16, 4), "histogram")
    for by_graph in (True, False):
        plan.save(folder / "given.parquet", by_graph=by_graph)
        table = pq.read_table(folder / "given.parquet")
        about = json.loads(table.schema.metadata[b"graph-packer-plan"])

        def case(table: pa.Table = table, text: bytes = b"", about: Any = about, **changes: Any) -> Case:
            text = text or json.dumps({**about, **changes}).encode()
            content = _bytes(table.replace_schema_metadata({b"graph-packer-plan": text}), {"compression": "zstd"})
            return lambda: PackPlan.load(content)

        rows = 4_000_000
        bomb = pa.table({name: pa.array(np.zeros(rows, "i8")) for name in table.column_names})
        what = f", by graph: {by_graph}"
        yield "8 million rows of runs" + what, case(bomb)
        if by_graph:
            yield "a million rows of 600 types", _many_types(folder, about, (1 << 20) // SCALE)
        yield "10^12 packs" + what, case(num_packs=10**12)
        if by_graph:
            at = table.schema.get_field_index("pack")
            yield "pack 2^62", case(table.set_column(at, "pack", pa.array([0, 1, 2**62])), num_packs=3)
        else:
            most = {**about["histogram"], "count": [2**62] * len(about["histogram"]["count"])}
            yield "2^62 graphs of a size", case(histogram=most)
            same = [pa.array([2**32] * table.num_rows)] * 2
            wraps = table.set_column(1, "packs", same[0]).set_column(3, "graphs", same[1])
            yield "products past 2^64", case(wraps, num_packs=2**32)
        yield "a column of texts" + what, case(table.append_column("more", pa.array(["a"] * table.num_rows)))
        yield (
            "limits by 100,000 types" + what,
            case(limits={**about["limits"], "num_nodes": {f"n{i}": 9 for i in range(MANY // 10)}}),
        )
        yield "100,000 node types" + what, case(node_types=[f"n{i}" for i in range(MANY // 10)])
        yield "deep JSON" + what, case(text=b"[" * 100_000)
        yield "a number of a million digits" + what, case(text=b'{"seed":1' + b"0" * MANY + b"}")
        yield "5 million lists" + what, case(text=b'{"a":[' + b"[]," * 5 * MANY + b"[]]}")
        yield "a word as seed" + what, case(seed="a")
        yield "a list as metadata" + what, case(text=b"[1]")

    def stored() -> Any:
        fresh(folder)
        footer = b"PAR1" + ZEROS + struct.pack("<I", len(ZEROS)) + b"PAR1"
        (folder / PLAN).write_bytes(footer)
        manifest = Manifest.load(folder)
        reseal(folder, files={**manifest.files, PLAN: hash_file(folder / PLAN)})
        faults = check_plan(folder, Manifest.load(folder))
        assert faults, "a plan of zeros"
        return verify_shards(folder)

    yield "a data set's plan of zeros", stored


def _many_types(folder: Path, about: Any, rows: int) -> Case:
    """A plan of zeros: each row group within bounds, and all together 600 values a row."""
    types = [f"n{i}" for i in range(600)]
    text = json.dumps({**about, "node_types": types, "edge_types": []}).encode()
    groups = max(3, rows // 40_000)
    zeros = pa.array(np.zeros(rows // groups, "i8"))
    part = pa.table(dict.fromkeys(["pack", "graph_id", *(f"size/{name}" for name in types)], zeros))
    part = part.replace_schema_metadata({b"graph-packer-plan": text})
    path = folder / "types.parquet"
    with pq.ParquetWriter(path, part.schema, compression="zstd", write_statistics=False) as writer:
        for _ in range(groups):
            writer.write_table(part)
    return lambda: PackPlan.load(path)


def certificates(folder: Path) -> Cases:
    need, capacity, count = np.array([[3, 2], [4, 2]]), np.array([16, 16]), np.array([1, 2])
    sound = {"dims": [0], "divisors": [1], "need": [[3], [4]], "price": [3, 4], "value": 16, "bound": 1}
    for changes in (
        {"value": 2**80},
        {"value": 0},
        {"bound": 10**30},
        {"dims": [2**62]},
        {"dims": [0] * 1000, "divisors": [1] * 1000, "need": [[1] * 1000]},
        {"divisors": [0]},
        {"price": [2**62, 2**62]},
        {"price": [10**30, 1]},
        {"need": [[3], [3]]},
        {"need": [[[3]], [[4]]]},
        {"need": [[3], [4, 5]]},
        {"need": None},
        {"dims": "ab"},
    ):
        yield (
            str(changes)[:60],
            lambda changes=changes: check_certificate(
                Certificate.from_dict({**sound, **changes}), need, capacity, count
            ),
        )


def answers(folder: Path) -> Cases:
    for mode in stores.MODES:
        yield mode, lambda mode=mode: stores.read(mode)


GROUPS: dict[str, Callable[[Path], Cases]] = {
    "manifests": manifests,
    "page_headers": page_headers,
    "footers": footers,
    "graphs": graphs,
    "plans": plans,
    "certificates": certificates,
    "answers": answers,
}


def main() -> None:
    folder = Path(sys.argv[1])
    unlimited = resource.getrlimit(resource.RLIMIT_AS)[1]
    for group in sys.argv[3:]:
        fresh(folder)
        for name, case in GROUPS[group](folder):
            # Only while it reads: what the inputs take to be made is not the question.
            held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, unlimited))
            start = time.process_time()
            try:
                found = case()
                faults = getattr(found, "faults", None)
                kind, text = ("read", "") if not faults else ("faults", str(faults[0]))
            except PackerError as error:
                kind, text = type(error).__name__, str(error)
            except BaseException:
                kind, text = "raw", traceback.format_exc()
            seconds = round(time.process_time() - start, 2)
            resource.setrlimit(resource.RLIMIT_AS, (unlimited, unlimited))
            about = {"group": group, "case": name, "kind": kind, "text": text[:2000], "seconds": seconds}
            print(json.dumps(about), flush=True)


if __name__ == "__main__":
    main()
