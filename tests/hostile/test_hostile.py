"""Damage and malice: whatever lies in the folder, readers end soon, in little memory, with a clear word."""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
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
from reference_packs import reseal, write_data_set

from packer.errors import FormatError
from packer.files.atomic import FileEntry, hash_file
from packer.files.canonical import MAX_BYTES, seal, unseal
from packer.files.parquet.flat_file import FlatParquet
from packer.files.parquet.structs import FOOTER, PAGE_HEADER
from packer.files.parquet.thrift import read_struct
from packer.shards import Manifest, iter_graphs, open_shard
from packer.verify.data_set import verify_shards


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A data set that no test may change, and its files."""
    folder = tmp_path_factory.mktemp("sound")
    write_data_set(folder)
    return folder, {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def copy(tmp_path, sound):
    for name, data in sound[1].items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def contents(folder):
    """All that a reader gives: every block of every shard and every row of graphs.parquet, on first touch."""
    manifest = Manifest.load(folder)
    found = []
    for shard in range(len(manifest.shards)):
        reader = open_shard(folder, manifest, shard)
        for block in range(manifest.shards[shard].blocks):
            found.append({name: values.tobytes() for name, values in reader.block(block).items()})
        reader.close()
    return found + [batch.to_pylist() for batch in iter_graphs(folder, manifest)]


def test_every_single_bit_flip_is_found(copy, sound):
    """300 random flips over all files: `verify` finds each, a reader refuses it or gives the same numbers."""
    rng = random.Random(7)
    expected = contents(copy)
    names = sorted(sound[1])
    refused = dict.fromkeys(names, 0)
    for i in range(300):
        name = names[i % len(names)]
        data = bytearray(sound[1][name])
        bit = rng.randrange(8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
        (copy / name).write_bytes(data)
        assert any(f.file in (name, "manifest.json") for f in verify_shards(copy).faults), (name, bit)
        try:
            assert contents(copy) == expected, (name, bit)
        except FormatError as error:
            assert name in str(error)
            refused[name] += 1
        (copy / name).write_bytes(sound[1][name])
    del refused["plan.parquet"]  # no reader needs it
    assert set(refused.values()) == {60}, "every byte of these is under a checksum that the reader looks at"
    assert verify_shards(copy).ok


def test_every_truncation_is_found(copy, sound):
    rng = random.Random(8)
    for name, data in sound[1].items():
        for size in [0, 1, 4, 8, len(data) - 1, *(rng.randrange(len(data)) for _ in range(8))]:
            (copy / name).write_bytes(data[:size])
            assert not verify_shards(copy).ok
            if name != "plan.parquet":
                with pytest.raises(FormatError, match=name):
                    contents(copy)
        (copy / name).write_bytes(data + b"\0")
        assert not verify_shards(copy).ok
        (copy / name).write_bytes(data)


def test_a_file_cut_short_while_it_is_open_is_an_error_not_a_signal(copy, sound):
    manifest = Manifest.load(copy)
    reader = open_shard(copy, manifest, 0)
    reader.block(0)
    os.truncate(copy / "shard-00000.parquet", manifest.shards[0].block_offsets[1] + 10)
    with pytest.raises(FormatError, match=r"shard-00000.parquet ends at byte \d+, inside a piece that goes on to"):
        reader.block(1)


def test_checksums_are_looked_at_as_asked(copy):
    manifest = Manifest.load(copy)
    path = copy / "shard-00000.parquet"
    readers = {verify: open_shard(copy, manifest, 0, verify) for verify in ("off", "first-touch", "always")}
    for reader in readers.values():
        reader.block(0)
    page = manifest.shards[0].block_offsets[1] - 40  # in the ids of the last pack of block 0
    with path.open("r+b") as file:
        file.seek(page)
        byte = file.read(1)
        file.seek(page)
        file.write(bytes([byte[0] ^ 1]))
    readers["first-touch"].raw_block(0)
    with pytest.raises(FormatError, match=r"block 0 is damaged: its CRC-32 is \w{8}, the manifest says \w{8}. Restore"):
        readers["always"].raw_block(0)
    with pytest.raises(FormatError, match="block 0 is damaged"):
        open_shard(copy, manifest, 0).raw_block(0)
    with pytest.raises(FormatError, match="verify must be one of off, first-touch, always; got 'on'"):
        open_shard(copy, manifest, 0, "on")


def test_a_shard_without_its_magic_is_refused(copy):
    manifest, path = Manifest.load(copy), copy / "shard-00000.parquet"
    data = b"PAR2" + path.read_bytes()[4:]
    path.write_bytes(data)
    entry = manifest.shards[0]
    crcs = (zlib.crc32(data[: entry.block_bytes[0]]), entry.block_crc32[1])
    forged = replace(entry, block_crc32=crcs, sha256=hash_file(path).sha256)
    reseal(copy, shards=(forged, *manifest.shards[1:]))
    with pytest.raises(FormatError, match="is not a Parquet file: it starts with b'PAR2'"):
        open_shard(copy, Manifest.load(copy), 0).block(0)
    assert [f.what for f in verify_shards(copy).faults] == ["the file starts with b'PAR2', not b'PAR1'"]


@pytest.mark.parametrize("name", ["manifest.json", "shard-00000.parquet", "graphs.parquet"])
def test_only_plain_files_inside_the_folder_are_read(copy, name, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / name
    elsewhere.write_bytes((copy / name).read_bytes())
    (copy / name).unlink()
    (copy / name).symlink_to(elsewhere)
    faults = [str(f) for f in verify_shards(copy).faults]
    assert any(f"{name} is a symbolic link; a data set holds plain files only" in text for text in faults)
    (copy / name).unlink()
    os.mkfifo(copy / name)  # opening it for reading would wait for a writer
    assert any(f"{name} is not a plain file" in str(f) for f in verify_shards(copy).faults)
    (copy / name).unlink()
    (copy / name).mkdir()
    assert any(f"{name} is not a plain file" in str(f) for f in verify_shards(copy).faults)


def body_of(data):
    plain = json.loads(data)
    del plain["sha256"]
    return plain


def edited(data, path, value):
    """A manifest with one value changed, sealed anew."""
    plain = body_of(data)
    at = plain
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return seal(plain)


HOSTILE_VALUES = [
    (
        ("format",),
        "graph-packer/2",
        "says format 'graph-packer/2'; this version of graph-packer reads",
    ),
    (("shards", 0, "name"), "../../etc/passwd", "shard 0 must be named shard-00000.parquet"),
    (("shards", 0, "name"), "/etc/passwd", "shard 0 must be named shard-00000.parquet"),
    (("shards", 1, "name"), "shard-00000.parquet", "shard 1 must be named shard-00001.parquet"),
    (("shards", 0, "packs"), 2**62, "packs of shard 0 must be a whole number from 1 to"),
    (("shards", 0, "packs"), 7, "its shards hold 11 packs, num_packs is 10"),
    (("shards", 0, "packs"), True, "packs of shard 0 must be a whole number"),
    (("shards", 0, "packs"), 6.0, "packs of shard 0 must be a whole number"),
    (("shards", 0, "bytes"), -1, "bytes of shard 0 must be a whole number from 0"),
    (("shards", 0, "bytes"), 10, "the blocks of shard-00000.parquet do not fit its 10 bytes"),
    (("shards", 0, "block_bytes"), [2**31 - 1, 1], "the blocks of shard-00000.parquet do not fit"),
    (("shards", 0, "block_bytes"), [1], "shard-00000.parquet has 1 blocks for 6 packs"),
    (("shards", 0, "block_crc32"), [0, 2**33], "block_crc32 of shard 0 must be a whole number"),
    (("shards", 0, "sha256"), "0", "sha256 of shard 0 must be 64 hexadecimal digits"),
    (("shards",), {}, "shards must be a list"),
    (("shards",), [], "its shards hold 0 packs, num_packs is 10"),
    (("num_packs",), 10**30, "num_packs must be a whole number from 0"),
    (("packs_per_block",), 0, "packs_per_block must be a whole number from 1 to 1024; got 0"),
    (("packs_per_block",), 2, "shard-00000.parquet has 2 blocks for 6 packs"),
    (("compression",), "gzip", "compression must be one of none, lz4, zstd; got 'gzip'"),
    (("compression",), ["zstd"], "compression must be one of none, lz4, zstd"),
    (("limits", "num_nodes"), 2**24, "a block of 3 packs of .* bytes is over 268435456 bytes"),
    (("limits", "num_nodes"), 2**63, "num_nodes must be between 1 and 2147483647"),
    (("limits", "num_nodes"), {"a": 5}, "num_nodes"),
    (("limits", "null_graphs"), "none", "for planning only"),
    (("limits",), [], "limits must be an object"),
    (("schema", "fields", 0, "shape"), [2**31, 2**31, 2**31], "shape .* is not one"),
    (("schema", "fields", 0, "shape"), [2**30, 2**30], "bytes a pack; at most 2147483647 can be stored"),
    (("schema", "fields", 0, "shape"), [-1], "shape .* is not one"),
    (("schema", "fields", 0, "shape"), [1] * 1000, "shape .* is not one"),
    (("schema", "fields", 0, "shape"), 5, "not a schema"),
    (("schema", "fields", 0, "storage"), "object", "dtype 'int64' cannot be stored as 'object'"),
    (("schema", "fields", 0, "dtype"), "O", "dtype 'O' cannot be stored"),
    (("schema", "fields", 0, "level"), "galaxy", "its axis .galaxy. is not among those"),
    (("schema", "fields", 0, "type"), ["a", "b", "c"], "its axis 'a__b__c' is not among those of the schema"),
    (("schema", "fields", 0, "pad"), 10**39, "does not fit its storage dtype"),
    (("schema", "fields", 0, "pad"), "1e999", "does not fit its storage dtype"),
    (("schema", "fields", 0, "name"), "ptr", r"more than one column is named \['ptr'\]"),
    (("schema", "fields", 0, "name"), "a" * 1000, "name, level or role is not known"),
    (("schema", "fields", 0, "extra"), 1, "not a schema"),
    (("schema", "fields", 5, "targets"), ["node", "planet"], "an index must be integer and point to 2 axes"),
    (("schema", "axes"), [], "axes must be node axes, then edge axes"),
    (("schema", "axes"), [{"level": "edge", "type": None}], "axes must be node axes, then edge axes"),
    (("schema", "axes", 1, "type"), "cites", "'cites' is no type of edges"),
    (("schema", "axes", 1, "type"), ["node", "cites", "moon"], "leads to node types that are not among"),
    (("schema", "strings"), ["a", "a"], "names of string attributes must be distinct"),
    (("schema",), None, "schema must be an object"),
    (("counts", "graphs"), 41, "does not add up"),
    (("counts", "reasons"), {"oversize": 3}, "more reasons than skipped and trimmed graphs"),
    (("counts", "reasons"), {"oversize": -1}, "count of a reason must be a whole number"),
    (("counts",), {}, "counts has members"),
    (("files", "graphs.parquet", "bytes"), "1", "bytes of graphs.parquet must be a whole number"),
    (("files",), {"../x": {"bytes": 1, "sha256": "0" * 64}}, "files must be graphs.parquet and plan.parquet"),
    (("plan",), {}, "its plan lacks"),
    (("plan", "lower_bound"), 11, "lower_bound of its plan must be a whole number from 1 to 10; got 11"),
    (("plan", "lower_bound"), "9", "lower_bound of its plan must be a whole number from 1 to 10; got 9"),
    (("plan", "status"), ["optimal"], "status of its plan must be optimal or feasible"),
    (("plan", "algorithm"), None, "algorithm of its plan must be a short text"),
    (("plan", "seed"), 0.5, "seed of its plan must be a whole number"),
    (("plan", "num_packs"), 11, "or is not one of 10 packs"),
    (("versions", "pyarrow"), 26, "version of pyarrow must be a short text"),
    (("surprise",), 1, "has members"),
]


@pytest.mark.parametrize(("path", "value", "text"), HOSTILE_VALUES)
def test_a_forged_value_is_refused(sound, path, value, text):
    with pytest.raises(FormatError, match=text):
        Manifest.load(edited(sound[1]["manifest.json"], path, value))


def test_any_missing_member_is_refused(sound):
    plain = body_of(sound[1]["manifest.json"])
    for name in plain:
        with pytest.raises(FormatError, match=r"manifest.json has members"):
            Manifest.load(seal({key: value for key, value in plain.items() if key != name}))


def resealed(body: bytes) -> bytes:
    return body[:-1] + b',"sha256":"' + hashlib.sha256(body).hexdigest().encode() + b'"}\n'


BODIES = {
    "twice the same name": (b'{"a":1,"a":2}', "written anew, its bytes differ"),
    "spaces": (b'{"a": 1}', "written anew, its bytes differ"),
    "not a number": (b'{"a":NaN}', "not canonical JSON"),
    "infinite": (b'{"a":-Infinity}', "not canonical JSON"),
    "huge float": (b'{"a":1e999}', "not canonical JSON"),
    "order": (b'{"a":{"c":1,"b":2}}', "written anew, its bytes differ"),
    "escapes": (b'{"a":"\\u0061"}', "written anew, its bytes differ"),
    "no JSON": (b"{garbage}", "not canonical JSON"),
    "no text": (b'{"a":"\xff"}', "not canonical JSON"),
    "huge integer": (b'{"a":1' + b"0" * 1_000_000 + b"}", "a number of 1000001 digits"),
    "deep": (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not canonical JSON|too large"),
    "many lists": (b'{"a":[' + b"[]," * 300_000 + b"[]]}", "too many entries"),
    "many commas": (b'{"a":[' + b"1," * 9_000_000 + b"1]}", "too many entries"),
}


@pytest.mark.parametrize("name", BODIES)
def test_what_is_not_canonical_json_is_refused(name):
    body, text = BODIES[name]
    with pytest.raises(FormatError, match=text):
        unseal(resealed(body), "manifest.json")


def test_a_huge_manifest_is_not_read(copy):
    with (copy / "manifest.json").open("wb") as file:
        file.truncate(1 << 40)  # a hole: takes no disk
    with pytest.raises(FormatError, match=f"at most {MAX_BYTES} are read"):
        Manifest.load(copy)


def values():
    leaves = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=6)
    return st.recursive(
        leaves, lambda deeper: st.lists(deeper, max_size=3) | st.dictionaries(st.text(), deeper, max_size=2)
    )


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_any_value_anywhere_in_a_manifest(sound, data):
    """Loads or is refused: nothing else is raised."""
    plain = body_of(sound[1]["manifest.json"])
    at, path = plain, []
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        key = data.draw(st.sampled_from(keys))
        path.append(key)
        if not isinstance(at[key], (dict, list)) or not at[key] or data.draw(st.booleans()):
            break
        at = at[key]
    value = data.draw(values())
    try:
        document = edited(sound[1]["manifest.json"], path, value)
    except (ValueError, OverflowError):
        return  # infinite: cannot be written
    try:
        manifest = Manifest.load(document)
    except FormatError:
        return
    assert Manifest.load(manifest.to_bytes()) == manifest or "nan" in str(manifest.schema)


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200), fields=st.sampled_from([FOOTER, PAGE_HEADER]))
def test_any_bytes_as_thrift(data, fields):
    try:
        _, end = read_struct(data, 0, fields)
    except FormatError:
        return
    assert 0 < end <= len(data)


@settings(max_examples=150, deadline=None)
@given(places=st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), min_size=1, max_size=6))
def test_any_bytes_in_a_block_that_the_checksums_fit(sound, tmp_path_factory, places):
    """A forger's block: whatever the pages say, the reader gives arrays of the right shape or refuses."""
    folder, files = sound
    manifest = Manifest.load(folder)
    entry = manifest.shards[0]
    data = bytearray(files[entry.name])
    for place, byte in places:
        data[place % entry.block_offsets[-1]] = byte
    target = tmp_path_factory.getbasetemp() / "forged.parquet"
    target.write_bytes(data)
    crcs = tuple(zlib.crc32(data[a : a + n]) for a, n in zip(entry.block_offsets, entry.block_bytes))  # noqa: B905
    forged = replace(entry, block_crc32=crcs)
    reader = open_shard(folder, replace(manifest, shards=(forged, *manifest.shards[1:])), 0)
    reader.path = target
    for block in range(2):
        try:
            found = reader.block(block)
        except FormatError:
            continue
        assert {name: values.shape[1:] for name, values in found.items()} == {c.name: c.shape for c in manifest.columns}
    reader.close()


def zigzag(number):
    """A number that is not negative as Thrift writes it."""
    out, number = b"", number << 1
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


@pytest.mark.parametrize(
    ("claim", "text"),
    [
        (1 << 28, "column x: not a plain data page of 3 rows of 72 bytes"),
        (216, "column x: its page does not decompress"),
    ],
)
def test_a_decompression_bomb_is_not_unpacked(copy, claim, text):
    """The first page of a block decompresses to 256 MiB; its header says so, or lies. Every checksum fits."""
    manifest = Manifest.load(copy)
    entry, path = manifest.shards[0], copy / "shard-00000.parquet"
    payload = pa.Codec("zstd").compress(np.zeros(1 << 28, dtype=np.uint8)).to_pybytes()
    header = b"\x15\x00\x15" + zigzag(claim) + b"\x15" + zigzag(len(payload))
    block = b"PAR1" + header + b"\x2c\x15" + zigzag(3) + b"\x15\x00\x15\x06\x15\x06\x00\x00" + payload
    data = block + path.read_bytes()[entry.block_offsets[1] :]
    path.write_bytes(data)
    forged = replace(
        entry,
        bytes=len(data),
        block_bytes=(len(block), entry.block_bytes[1]),
        block_crc32=(zlib.crc32(block), entry.block_crc32[1]),
        sha256=hash_file(path).sha256,
    )
    reseal(copy, shards=(forged, *manifest.shards[1:]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FormatError, match=text):
        open_shard(copy, Manifest.load(copy), 0).block(0)
    assert any(text in f.what for f in verify_shards(copy).faults)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10, "KiB"


def test_a_page_that_decompresses_to_another_size_is_refused(tmp_path):
    """LZ4 does not know its own size: `verify` finds a page that is too short, which reading alone cannot."""
    for compression in ("zstd", "lz4"):
        manifest = write_data_set(tmp_path, compression=compression)
        from packer.shards.pages import CODECS, check_page, decode_page, walk_pages

        reader = open_shard(tmp_path, manifest, 0)
        data = reader.raw_block(1)
        page = next(walk_pages(data, 0, 3, manifest.block_format.columns))
        codec = pa.Codec(CODECS[compression])
        assert check_page(data, page, 3, codec) is None
        for size in (215, 217):  # the column takes 3 * 24 * 3 = 216 bytes
            payload = codec.compress(np.ones(size, dtype=np.uint8)).to_pybytes()
            short = page._replace(header=0, start=0, stop=len(payload), crc32=zlib.crc32(payload))
            try:
                wrong = check_page(payload, short, 3, codec) or decode_page(payload, short, 3, codec) is None
            except FormatError as error:
                wrong = str(error)
            assert wrong, (compression, size)


def forge_graphs(folder, table, **options):
    """Another graphs.parquet under a manifest sealed anew."""
    options = {"compression": "zstd", "use_dictionary": False, "write_statistics": False, **options}
    pq.write_table(table, folder / "graphs.parquet", **options)
    entry = hash_file(folder / "graphs.parquet")
    manifest = Manifest.load(folder)
    reseal(folder, files={**manifest.files, "graphs.parquet": entry})


def test_bombs_in_graphs_parquet_are_not_unpacked(copy):
    manifest = Manifest.load(copy)
    table = pa.Table.from_batches(iter_graphs(copy, manifest))
    # One string of 8 MiB, 40 times: 10 kB on disk by a dictionary, 320 MiB decoded.
    long = pa.array(["a" * (8 << 20)] * 40)
    at = table.schema.get_field_index("smiles")
    big = table.set_column(at, "smiles", long)
    for options, text in (
        ({}, "a row group decodes to more than 268435456 bytes"),
        ({"use_dictionary": True}, "texts are not in plain encoding"),
        ({"column_encoding": {"smiles": "DELTA_BYTE_ARRAY"}}, "texts are not in plain encoding"),
    ):
        forge_graphs(copy, big, **options)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        faults = verify_shards(copy).faults
        assert [f.file for f in faults] == ["graphs.parquet"] and text in faults[0].what
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10, "KiB"
    for other, text in (
        (table.slice(0, 39), "it has 39 graphs"),
        (pa.concat_tables([table, table]), "it has 80 graphs, the manifest says 40"),
        (table.drop_columns(["pack"]) if hasattr(table, "drop_columns") else table.drop(["pack"]), "it has columns"),
        (table.append_column("more", pa.array([[1]] * 40)), "its columns are nested"),
    ):
        forge_graphs(copy, other)
        assert any(text in f.what for f in verify_shards(copy).faults), text


@settings(max_examples=150, deadline=None)
@given(places=st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), min_size=1, max_size=4))
def test_any_bytes_in_graphs_parquet_that_the_hash_fits(sound, tmp_path_factory, places):
    folder, files = sound
    target = tmp_path_factory.getbasetemp() / "forged-graphs"
    target.mkdir(exist_ok=True)
    data = bytearray(files["graphs.parquet"])
    for place, byte in places:
        data[place % len(data)] = byte
    (target / "graphs.parquet").write_bytes(data)
    manifest = Manifest.load(folder)
    entry = FileEntry(len(data), hashlib.sha256(data).hexdigest())
    try:
        list(iter_graphs(target, replace(manifest, files={**manifest.files, "graphs.parquet": entry})))
    except FormatError as error:
        assert "graphs.parquet" in str(error)


class InMemory:
    """Bytes as a file to read."""

    def __init__(self, data):
        self.data, self.size = data, len(data)

    def read(self, offset, size):
        return bytearray(self.data[offset : offset + size])


def fuzz(cases):
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import fuzz

    tallies, _ = fuzz.run(cases, seed=1)
    assert fuzz.page(tallies, 0, cases, 1).startswith("# Hostile files")
    return [text for tally in tallies.values() for text in tally.unexpected]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="benchmarks are for Python 3.11")
def test_the_fuzz_run_finds_nothing():
    assert fuzz(100) == []


@pytest.mark.slow
def test_a_long_fuzz_run_finds_nothing():
    assert fuzz(10_000) == []


def test_what_other_writers_make_is_let_through():
    """The look before decoding refuses no ordinary flat file of numbers and texts."""
    table = pa.table({"a": np.arange(1000), "b": pa.array(["x", None] * 500), "c": np.zeros(1000, dtype="f4")})
    for options in (
        {"compression": "zstd", "use_dictionary": False},
        {"compression": "none", "use_dictionary": ["a"], "data_page_size": 100},
    ):
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, **options)
        file = FlatParquet(InMemory(sink.getvalue().to_pybytes()))
        assert pa.concat_tables(file.tables()) == table
