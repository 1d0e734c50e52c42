"""Shards and manifests: what is written comes back, byte for byte and under any reader."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import zlib
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import ROOT
from reference_packs import MOLECULE_LIMITS, MOLECULES, PAPER_LIMITS, PAPERS, write_data_set

from packer.errors import FormatError
from packer.graphs.axes import Axis
from packer.graphs.schema import Field, Schema
from packer.limits.pack_limits import PackLimits
from packer.packs.columns import pack_columns
from packer.shards import Manifest, ShardReader, choose_layout, iter_graphs, open_shard, write_shard
from packer.shards.pages import CODECS, block_format, walk_pages

EVERY_CODEC = pytest.mark.parametrize("compression", list(CODECS))


def small_schema(shape=(2,), storage="uint8"):
    return Schema((Axis("node"), Axis("edge")), (Field("x", "node", "value", shape, 0, storage, storage),))


def random_block(schema, limits, packs, seed=0):
    """Any bytes at all: writing and reading do not look at what columns mean."""
    rng = np.random.default_rng(seed)
    block = {}
    for column in pack_columns(schema, limits):
        values = rng.integers(0, 2 if column.storage == "bool" else 256, packs * column.width, dtype=np.uint8)
        block[column.name] = values.view(column.storage).reshape(packs, *column.shape)
    return block


def same(a, b):
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and a[k].tobytes() == b[k].tobytes() for k in a)


@EVERY_CODEC
@pytest.mark.parametrize("verify", ["off", "first-touch", "always"])
def test_blocks_come_back_to_the_bit(tmp_path, compression, verify):
    limits = PackLimits(10, 12, 3)
    blocks = [random_block(MOLECULES, limits, packs, packs) for packs in (4, 4, 1)]
    entry = write_shard(tmp_path, "s.parquet", iter(blocks), MOLECULES, limits, compression)
    assert (entry.packs, entry.blocks, sum(entry.block_bytes) < entry.bytes) == (9, 3, True)
    reader = ShardReader(tmp_path, entry, block_format(pack_columns(MOLECULES, limits), 4, compression), verify)
    for i in (2, 0, 1, 0):
        found = reader.block(i)
        assert same(found, blocks[i])
        assert list(found) == list(blocks[i])
        assert all(values.flags.writeable and values.flags.aligned for values in found.values() if values.size)
    assert list(reader.block(1, ["y", "x", "nothing"])) == ["x", "nothing", "y"]
    with pytest.raises(FormatError, match=r"no column \['z'\]; a pack has \['x', 'pos'"):
        reader.block(0, ["z"])
    with pytest.raises(FormatError, match=r"has blocks 0 to 2; asked for 3"):
        reader.block(3)
    reader.close()
    assert same(pickle.loads(pickle.dumps(reader)).block(1), blocks[1])


@settings(max_examples=40, deadline=None)
@given(
    shape=st.lists(st.integers(0, 3), max_size=3),
    storage=st.sampled_from(["uint8", "int16", "float16", "float32", "float64", "int64", "bool"]),
    sizes=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    packs=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    compression=st.sampled_from(list(CODECS)),
    null_graphs=st.sampled_from(["all", "one", "jraph"]),
)
def test_writing_then_reading_is_the_identity(tmp_path_factory, shape, storage, sizes, packs, compression, null_graphs):
    folder = tmp_path_factory.mktemp("identity")
    schema, limits = small_schema(tuple(shape), storage), PackLimits(*sizes, 2, null_graphs)
    full = max(packs)
    blocks = [random_block(schema, limits, n, i) for i, n in enumerate([full] * (len(packs) - 1) + [packs[-1]])]
    entry = write_shard(folder, "s.parquet", blocks, schema, limits, compression)
    columns = pack_columns(schema, limits)
    reader = ShardReader(folder, entry, block_format(columns, full, compression))
    assert all(same(reader.block(i), block) for i, block in enumerate(blocks))
    table = pq.read_table(folder / "s.parquet", page_checksum_verification=True)
    for column in columns:
        if column.width:
            joined = b"".join(block[column.name].tobytes() for block in blocks)
            assert b"".join(table.column(column.name).to_pylist()) == joined


def test_a_shard_alone_is_enough_to_rebuild_every_tensor(tmp_path):
    manifest = write_data_set(tmp_path)
    table = pq.read_table(tmp_path / "shard-00000.parquet")
    about = json.loads(table.schema.metadata[b"graph-packer"])
    assert about["format"] == "graph-packer/1"
    assert Schema.from_dict(about["schema"]) == manifest.schema or "nan" in json.dumps(about["schema"])
    assert PackLimits.from_dict(about["limits"]) == manifest.limits
    ours = open_shard(tmp_path, manifest, 0).block(0)
    assert [c["name"] for c in about["columns"]] == list(ours)
    for column in about["columns"]:
        shape = (manifest.packs_per_block, *column["shape"])
        if 0 in shape:
            assert column["name"] not in table.column_names
            continue
        field = table.schema.field(column["name"])
        assert pa.types.is_fixed_size_binary(field.type) and not field.nullable
        data = b"".join(table.column(column["name"]).to_pylist()[: shape[0]])
        assert np.frombuffer(data, column["storage"]).reshape(shape).tobytes() == ours[column["name"]].tobytes()


def test_the_ten_lines_of_the_documentation_read_a_shard(tmp_path, monkeypatch):
    manifest = write_data_set(tmp_path)
    text = (ROOT / "docs" / "format.md").read_text()
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(text.split("```python\n")[1].split("```")[0], names)
    block = open_shard(tmp_path, manifest, 0).block(0)
    assert list(names["packs"]) == [column.name for column in manifest.columns]
    for column in manifest.columns:
        found = names["packs"][column.name][: manifest.packs_per_block]
        assert found.dtype == ("uint16" if column.dtype == "bfloat16" else column.dtype)
        assert np.array_equal(found, block[column.name], equal_nan=column.dtype == "float32")


def test_a_shard_has_no_statistics_no_dictionary_and_one_row_group_a_block(tmp_path):
    manifest = write_data_set(tmp_path)
    about = pq.read_metadata(tmp_path / "shard-00000.parquet")
    assert about.num_row_groups == manifest.shards[0].blocks == 2
    for group in range(2):
        for i in range(about.num_columns):
            chunk = about.row_group(group).column(i)
            assert not chunk.is_stats_set and not chunk.has_dictionary_page
            assert (chunk.compression, chunk.physical_type) == ("ZSTD", "FIXED_LEN_BYTE_ARRAY")


def test_every_byte_of_a_shard_is_under_a_checksum_of_the_manifest(tmp_path):
    entry = write_data_set(tmp_path).shards[0]
    data = (tmp_path / entry.name).read_bytes()
    parts = [data[a:b] for a, b in zip(entry.block_offsets, [*entry.block_offsets[1:], len(data)])]  # noqa: B905
    assert b"".join(parts) == data
    assert [zlib.crc32(part) for part in parts] == [*entry.block_crc32, entry.footer_crc32]


def test_page_headers_hold_the_crc_of_their_pages(tmp_path):
    manifest = write_data_set(tmp_path)
    reader = open_shard(tmp_path, manifest, 0)
    data = reader.raw_block(1)
    pages = list(walk_pages(data, 0, 3, manifest.block_format.columns))
    assert [p.column for p in pages] == [c for c in manifest.block_format.columns if c.width]
    assert all(zlib.crc32(data[p.start : p.stop]) == p.crc32 for p in pages)


@EVERY_CODEC
def test_the_same_blocks_give_the_same_bytes(tmp_path, compression):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_data_set(tmp_path / name, PAPERS, PAPER_LIMITS, compression=compression)
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_bytes_are_the_same_in_another_process(tmp_path):
    write_data_set(tmp_path)
    code = (
        "import sys, pathlib; sys.path[:0] = sys.argv[2:]; import reference_packs; "
        "p = pathlib.Path(sys.argv[1]); p.mkdir(); reference_packs.write_data_set(p)"
    )
    paths = [p for p in sys.path if p]
    environment = {**os.environ, "PYTHONHASHSEED": "12", "ARROW_DEFAULT_MEMORY_POOL": "system"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "new"), *paths], check=True, env=environment)
    for path in (tmp_path / "new").iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


def test_graphs_parquet_does_not_depend_on_how_rows_come(tmp_path):
    from packer.shards.graphs_file import write_graphs

    rows = 150_000  # more than two row groups of 65,536
    every = {
        "id": np.arange(rows),
        "pack": np.arange(rows) // 4,
        "slot": (np.arange(rows) % 4).astype(np.int32),
        "num_nodes": np.full(rows, 3),
        "num_edges": np.full(rows, 4),
        "lost_nodes": np.zeros(rows, dtype=np.int64),
        "lost_edges": np.zeros(rows, dtype=np.int64),
        "status": pa.array(["packed"] * rows),
        "reason": pa.array([""] * rows),
    }
    schema = small_schema()
    whole = write_graphs(tmp_path, [every], schema)
    cuts = [(0, 1), (1, 70_000), (70_000, 140_001), (140_001, rows)]
    parts = ({name: values[a:b] for name, values in every.items()} for a, b in cuts)
    assert write_graphs(tmp_path, parts, schema) == whole
    assert pq.read_metadata(tmp_path / "graphs.parquet").num_row_groups == 3
    assert not list(tmp_path.glob("*.tmp"))
    with pytest.raises(FormatError, match="graph ids must ascend"):
        write_graphs(tmp_path, [every, every], schema)
    with pytest.raises(FormatError, match="column reason has 1 rows without a value"):
        write_graphs(tmp_path, [{**every, "reason": pa.array([None] + [""] * (rows - 1))}], schema)
    assert pq.read_metadata(tmp_path / "graphs.parquet").num_rows == rows, "a failed write leaves the old file"


def test_string_attributes_may_be_called_like_our_columns(tmp_path):
    manifest = write_data_set(tmp_path)
    table = pa.Table.from_batches(iter_graphs(tmp_path, manifest))
    assert table.column("string/status")[:4].to_pylist() == ["status of 0", "status of 1", "status of 2", None]
    assert table.column("status").to_pylist() == ["packed"] * 38 + ["skipped"] * 2
    assert table.column("smiles")[5].as_py() == "smiles of 5"


def test_a_manifest_comes_back(tmp_path):
    manifest = write_data_set(tmp_path, PAPERS, PAPER_LIMITS)
    assert Manifest.load(tmp_path) == Manifest.load(manifest.to_bytes()) == manifest
    data = (tmp_path / "manifest.json").read_bytes()
    plain = json.loads(data)
    assert (next(iter(plain)), list(plain)[-1]) == ("format", "sha256")
    assert manifest.sha256 == plain["sha256"]
    assert not any(word in data.decode() for word in (str(tmp_path), os.uname().nodename, '"seconds"'))


def test_locating_packs(tmp_path):
    manifest = write_data_set(tmp_path)  # blocks of 3 packs, shards of 2 blocks
    assert [manifest.locate(p) for p in (0, 2, 3, 5, 6)] == [(0, 0, 0), (0, 0, 2), (0, 1, 0), (0, 1, 2), (1, 0, 0)]
    assert (manifest.packs_per_shard, manifest.blocks_per_shard, manifest.num_packs, manifest.num_blocks) == (
        6,
        2,
        10,
        4,
    )


def failing_blocks(limits):
    yield random_block(MOLECULES, limits, 2)
    raise RuntimeError("the source broke")


def wrong(block, **changes):
    return {**block, **changes}


def test_a_failed_shard_leaves_nothing(tmp_path):
    limits = PackLimits(10, 12, 3)
    with pytest.raises(RuntimeError, match="the source broke"):
        write_shard(tmp_path, "s.parquet", failing_blocks(limits), MOLECULES, limits)
    block = random_block(MOLECULES, limits, 2)
    cases = [
        ([], "a shard holds at least one block"),
        ([block, random_block(MOLECULES, limits, 3)], "block 1 holds 3 packs after blocks of 2 and 2"),
        ([block, random_block(MOLECULES, limits, 1), block], "block 2 holds 2 packs after blocks of 2 and 1"),
        (
            [wrong(block, y=block["y"].view("f4")[..., :2])],
            r"column y: got float32 \[2, 3, 2\], not float64 \[2, 3, 2\]",
        ),
        ([wrong(block, y=block["y"][:, :2])], r"column y: got float64 \[2, 2, 2\], not float64 \[2, 3, 2\]"),
        ([wrong(block, more=block["y"])], "block 0 has columns"),
    ]
    for blocks, text in cases:
        with pytest.raises(FormatError, match=text):
            write_shard(tmp_path, "s.parquet", blocks, MOLECULES, limits)
    with pytest.raises(FormatError, match="compression must be one of none, lz4, zstd; got 'gzip'"):
        write_shard(tmp_path, "s.parquet", [block], MOLECULES, limits, "gzip")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    from packer.files import atomic as files

    written = []

    def limited(fd, data):
        written.append(len(data))
        if sum(written) > 500:
            raise OSError(28, "No space left on device")
        return os_write(fd, data[: max(1, len(data) // 2)])  # and short writes are gone on with

    os_write = os.write
    limits = PackLimits(10, 12, 3)
    monkeypatch.setattr(files.os, "write", limited)
    with pytest.raises(OSError, match="No space left"):
        write_shard(tmp_path, "s.parquet", [random_block(MOLECULES, limits, 2)], MOLECULES, limits)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_format_benchmark_runs(tmp_path):
    pytest.importorskip("rdkit")
    script = ROOT / "benchmarks" / "format.py"
    done = subprocess.run([sys.executable, str(script), "--packs", "64", "--out", str(tmp_path / "f.md")], check=False)
    assert done.returncode == 0
    assert (tmp_path / "f.md").read_text().count("\n| narrow | zstd |") == 4


def test_layout_follows_from_stored_bytes():
    # 1,000 bytes a pack: 1 MiB / 1,000 = 1,048.6, but a block has at most 1,024 packs; 64 MiB is 65.5 such.
    sample = {"x": np.random.default_rng(0).integers(0, 256, (100, 1000), dtype=np.uint8)}
    assert choose_layout(sample, "none") == (1024, 66 * 1024, ())
    # 10,000 bytes a pack: 1,048,576 / 10,000 = 104.9 packs a block; 64 MiB / 1,040,000 = 64.53 blocks a shard.
    wide = {"x": np.random.default_rng(0).integers(0, 256, (100, 10_000), dtype=np.uint8)}
    assert choose_layout(wide, "none") == (104, 65 * 104, ())
    # Zeros compress to nothing, but a block decodes to at most 8 MiB: 8,388,608 / 100,000 = 83 packs.
    assert choose_layout({"x": np.zeros((4, 100_000), dtype=np.uint8)}, "zstd").packs_per_block == 83
    # A pack of 16 MiB has a block of its own, and shards of 4.
    assert choose_layout({"x": np.zeros((1, 16 << 20), dtype=np.uint8)}, "none") == (1, 4, ())


def test_what_hardly_shrinks_is_stored_as_it_is():
    rng = np.random.default_rng(0)
    sample = {"noise": rng.integers(0, 256, (50, 1000), dtype=np.uint8), "flags": np.zeros((50, 1000), dtype=np.uint8)}
    sample["digits"] = rng.integers(0, 10, (50, 1000), dtype=np.uint8)  # log2(10) of 8 bits: about half is saved
    assert choose_layout(sample, "zstd").uncompressed == ("noise",)
    assert choose_layout(sample, "none").uncompressed == ()


def test_unwritable_schemas_are_refused(tmp_path):
    limits = PackLimits(10, 12, 3)
    fields = MOLECULES.fields
    cases = [
        (replace(fields[0], pad=300), "pad 300 does not fit its storage dtype uint8"),
        (replace(fields[0], storage="float32"), "dtype 'int64' cannot be stored as 'float32'"),
        (replace(fields[0], shape=(2**30,)), "bytes a pack; at most 2147483647 can be stored"),
        (replace(fields[5], targets=("node",)), "an index must be integer and point to 2 axes"),
        (replace(fields[0], name="batch"), r"more than one column is named \['batch'\]"),
    ]
    for field, text in cases:
        with pytest.raises(FormatError, match=text):
            write_shard(tmp_path, "s.parquet", [], replace(MOLECULES, fields=(field,)), limits)
    with pytest.raises(FormatError, match="for planning only"):
        write_shard(tmp_path, "s.parquet", [], MOLECULES, replace(MOLECULE_LIMITS, null_graphs="none"))


def test_reading_survives_a_fork(tmp_path):
    manifest = write_data_set(tmp_path)
    reader = open_shard(tmp_path, manifest, 0)
    expected = reader.block(0)
    code = os.fork()
    if code == 0:
        os._exit(0 if same(reader.block(0), expected) and same(reader.block(1), reader.block(1)) else 1)
    assert os.waitpid(code, 0)[1] == 0


def test_the_reader_does_not_import_the_writer():
    code = (
        "import sys; from packer.shards import Manifest, open_shard; "
        "print([m for m in ('pyarrow.parquet', 'pyarrow.compute', 'packer.shards.writer') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
