"""What `verify_shards` proves: sound data sets pass, every broken rule is found and named by place."""

from __future__ import annotations

import multiprocessing
import re
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from reference_packs import (
    MOLECULE_LIMITS,
    MOLECULES,
    PAPER_LIMITS,
    PAPERS,
    blocks_of,
    next_fit,
    pack,
    random_graph,
    reseal,
    write_data_set,
)

from packer.files.atomic import hash_file
from packer.graphs.table import GraphTable
from packer.hashing import row_hashes
from packer.packs.materialise import materialise
from packer.verify.block import check_block
from packer.verify.data_set import verify_shards
from packer.verify.multiset import add_to_blocks


@pytest.mark.parametrize("null_graphs", ["all", "one", "jraph"])
@pytest.mark.parametrize(("schema", "limits"), [(MOLECULES, MOLECULE_LIMITS), (PAPERS, PAPER_LIMITS)])
@pytest.mark.parametrize("compression", ["zstd", "lz4", "none"])
def test_sound_data_sets_pass(tmp_path, schema, limits, null_graphs, compression):
    limits = replace(limits, null_graphs=null_graphs)
    manifest = write_data_set(tmp_path, schema, limits, compression=compression)
    report = verify_shards(tmp_path)
    assert report.ok and report.faults == ()
    assert (report.packs, report.graphs) == (manifest.num_packs, 38)


def in_pack(pack, column, place, value):
    """A change of one entry; `place` may be a function of the columns of the pack."""

    def change(packs, rows):
        columns = packs[pack]
        columns[column][place(columns) if callable(place) else place] = value

    return change


def real_nodes(columns):
    return int(columns["num_real"][0])


def real_edges(columns):
    return int(columns["num_real"][1])


# Limits are 24 nodes, 40 edges, 5 graphs ("all"); pack 4 is row 1 of block 1 of shard 0 (3 packs a block, 2 blocks).
BROKEN_PACKS = {
    "mask, real": (in_pack(4, "nodes_mask", 0, False), "nodes_mask", r"entry 0 is 0, but num_real says"),
    "mask, padding": (
        in_pack(4, "graphs_mask", 4, True),
        "graphs_mask",
        r"entry 4 is 1, but num_real says",
    ),
    "mask, no bool": (
        lambda packs, rows: packs[4].update(edges_mask=set_byte(packs[4]["edges_mask"], 0, 2)),
        "edges_mask",
        "entry 0 is 2",
    ),
    "counts, too many": (in_pack(4, "num_real", 0, 25), "num_real", "entry 0 is 25; there are 24 slots"),
    "counts, negative": (in_pack(4, "num_real", 1, -1), "num_real", "entry 1 is -1; there are 40 slots"),
    "counts, no graph": (in_pack(4, "num_real", 2, 0), "num_real", "0 real graphs; a pack holds 1 to 4"),
    "counts, no room": (in_pack(4, "num_real", 0, 24), "num_real", "entry 0 is 24; of 24 slots null graphs take"),
    "counts, no null": (in_pack(4, "num_real", 2, 5), "num_real", "5 real graphs; a pack holds 1 to 4"),
    "ptr, start": (in_pack(4, "ptr", 0, 1), "ptr", "does not ascend from 0 to 24"),
    "ptr, end": (in_pack(4, "ptr", 5, 23), "ptr", "does not ascend from 0 to 24"),
    "ptr, inside": (in_pack(4, "ptr", 1, 250), "ptr", r"does not ascend from 0 to 24: \[0, 250"),
    "batch": (in_pack(4, "batch", 0, 1), "batch", "node 0 is in graph 1, ptr puts it into 0"),
    "edge, other graph": (
        in_pack(4, "edge_index", lambda c: (1, 0), 23),
        "edge_index",
        r"row 0 points to \[23\] and leaves its own graph \d",
    ),
    "edge, from padding": (
        in_pack(4, "edge_index", lambda c: (0, real_edges(c) - 1), 23),
        "edge_index",
        r"edge \d+ starts at node 23, which belongs to no real graph",
    ),
    "edge, outside": (in_pack(4, "edge_index", (0, 0), 255), "edge_index", "edge 0 starts at node 255"),
    "edge, order": (
        lambda packs, rows: packs[4]["edge_index"].__setitem__(
            np.s_[:, : real_edges(packs[4])], packs[4]["edge_index"][:, : real_edges(packs[4])][:, ::-1].copy()
        ),
        "edge_index",
        "belongs to an earlier graph than the edge before it",
    ),
    "edge, padding": (
        in_pack(4, "edge_index", (1, 39), 0),
        "edge_index",
        r"row 39 points to \[0\] and is padding, but not at its null graph 4",
    ),
    "node index": (
        in_pack(4, "parent_index", 0, 23),
        "parent_index",
        r"row 0 points to \[23\] and leaves its own graph 0",
    ),
    "graph index": (in_pack(4, "root_index", 4, 0), "root_index", "row 4 points to .* not at its null graph 4"),
    "padding, node": (in_pack(4, "x", (23, 1), 8), "x", r"row 23 is padding, but holds \[7, 8, 7\], not 7"),
    "padding, nan": (in_pack(4, "pos", (23, 1), 0), "pos", "row 23 is padding, but holds"),
    "padding, bfloat16": (in_pack(4, "edge_attr", 39, 1), "edge_attr", "row 39 is padding"),
    "padding, graph": (in_pack(4, "good", 4, False), "good", r"row 4 is padding, but holds \[False\], not True"),
    "padding, -0.0": (in_pack(4, "y", (4, 0), -0.0), "y", r"row 4 is padding, but holds \[-0.0, 0.0\]"),
    "ids, null": (in_pack(4, "graph_ids", 4, 3), "graph_ids", "slot 4 has id 3; . graphs are real"),
    "ids, real": (in_pack(4, "graph_ids", 0, -1), "graph_ids", "slot 0 has id -1"),
}


def set_byte(mask, at, value):
    raw = mask.view(np.uint8).copy()
    raw[at] = value
    return raw.view(bool)


@pytest.mark.parametrize("name", BROKEN_PACKS)
def test_a_broken_pack_is_found_and_named(tmp_path, name):
    change, field, text = BROKEN_PACKS[name]
    write_data_set(tmp_path, change=change)
    faults = verify_shards(tmp_path).faults
    assert faults, "not found"
    assert {(f.file, f.block, f.pack) for f in faults} == {("shard-00000.parquet", 1, 4)}
    assert faults[0].field == field
    found = str(faults[0])
    assert found.startswith(f"shard-00000.parquet, block 1, pack 4, field {field}: ")
    assert re.search(text, found), found


@pytest.mark.parametrize("null_graphs", ["all", "one", "jraph"])
@pytest.mark.parametrize(("schema", "limits"), [(MOLECULES, MOLECULE_LIMITS), (PAPERS, PAPER_LIMITS)])
def test_materialise_lays_packs_out_as_the_reference_does(schema, limits, null_graphs):
    """Two authors of one layout: vectorised `materialise`, and loops over graphs. Both pass the checks."""
    schema, limits = replace(schema, strings=()), replace(limits, null_graphs=null_graphs)
    rng = np.random.default_rng(3)
    graphs = [random_graph(schema, rng) for _ in range(60)]
    packs = next_fit(graphs, schema, limits)
    expected = blocks_of([pack([graphs[i] for i in ids], ids, schema, limits) for ids in packs], len(packs))[0]
    ptr = {axis.key: np.cumsum([0, *(graph.counts[axis.key] for graph in graphs)]) for axis in schema.axes}
    columns = {f.key: np.concatenate([g.values[f.key] for g in graphs]).astype(f.storage) for f in schema.fields}
    table = GraphTable(schema, ptr, columns, {}, np.arange(60))
    found = materialise(table, np.concatenate(packs), np.cumsum([0, *map(len, packs)]), limits)
    assert {name: values.tobytes() for name, values in found.items()} == {
        name: values.tobytes() for name, values in expected.items()
    }
    findings, counts = check_block(found, schema, limits)
    assert findings == []
    in_order = np.concatenate(packs)
    for axis in schema.axes:
        in_use = np.arange(limits.num_graphs) < counts.num_real[:, None]
        assert counts.sizes[axis.key][in_use].tolist() == [graphs[i].counts[axis.key] for i in in_order]


def test_null_graphs_must_share_padding_evenly(tmp_path):
    def change(packs, rows):
        columns = next(c for c in packs if c["num_real"][2] <= 3)  # two null graphs or more
        columns["ptr"][columns["num_real"][2] + 1] -= 1

    write_data_set(tmp_path, change=change)
    faults = verify_shards(tmp_path).faults
    assert [f.field for f in faults] == ["ptr"]
    assert re.search(r"null graph . owns \d+ padding rows, not \d+", faults[0].what)


def test_many_broken_packs_are_counted_not_listed(tmp_path):
    def change(packs, rows):
        for columns in packs:
            columns["nodes_mask"][0] = False

    write_data_set(tmp_path, packs_per_block=8, change=change)
    faults = [f for f in verify_shards(tmp_path).faults if f.block == 0 and f.file == "shard-00000.parquet"]
    assert [f.pack for f in faults] == [0, 1, 2]
    assert faults[-1].what.endswith("(5 more such packs here)")


def test_empty_packs_are_no_packs(tmp_path):
    manifest = write_data_set(tmp_path)
    block = {c.name: np.zeros((2, *c.shape), dtype=c.storage) for c in manifest.columns}
    findings, counts = check_block(block, manifest.schema, manifest.limits)
    assert {f.pack for f in findings} == {0, 1} and not counts.sound.any()


def swap(rows, name, i, j):
    values = rows[name]
    if isinstance(values, pa.Array):
        values = np.array(values.to_pylist(), dtype=object)
    values[[i, j]] = values[[j, i]]
    rows[name] = pa.array(values) if values.dtype == object else values


def put(rows, name, i, value):
    values = rows[name].to_pylist() if isinstance(rows[name], pa.Array) else rows[name].tolist()
    values[i] = value
    rows[name] = pa.array(values) if isinstance(rows[name], pa.Array) else np.array(values, dtype=rows[name].dtype)


# The last two of 40 graphs are skipped.
BROKEN_GRAPHS = {
    "two slots swapped": (
        lambda rows: swap(rows, "slot", 0, 1),
        r"pack 0, .*: slot 0 holds graph 0 .*says graph 1",
    ),
    "size": (
        lambda rows: put(rows, "num_nodes", 0, 9),
        r"slot 0 holds graph 0 of size \{'node': \d, .*'node': 9",
    ),
    "edges": (lambda rows: put(rows, "num_edges", 0, 9), r"slot 0 holds graph 0 .*'edge': 9"),
    "pack": (lambda rows: put(rows, "pack", 0, 9), "pack 0, .*: slot 0 holds graph 0 .* says no graph"),
    "no such pack": (lambda rows: put(rows, "pack", 0, 10), "graph 0 is packed, but its pack or slot does not exist"),
    "no such slot": (lambda rows: put(rows, "slot", 0, 4), "graph 0 is packed, but its pack or slot does not exist"),
    "skipped in a pack": (lambda rows: put(rows, "pack", 39, 0), "graph 39 is skipped, but has a pack or slot"),
    "status": (
        lambda rows: put(rows, "status", 0, "lost"),
        "graph 0 has a status that is none of packed, trim",
    ),
    "status counts": (lambda rows: put(rows, "status", 0, "trimmed"), "37 graphs are packed, the manifest says 38"),
    "reason": (lambda rows: put(rows, "reason", 0, "why"), "graph 0: a reason must stand by every graph not packed"),
    "reason counts": (
        lambda rows: put(rows, "reason", 39, "other"),
        "its reasons are .* says {'oversize': 2}",
    ),
    "lost rows": (
        lambda rows: put(rows, "lost_edges", 0, 3),
        "graph 0: trimmed graphs, and no others, have lost rows",
    ),
    "lost rows of a trimmed graph": (
        lambda rows: put(rows, "status", 0, "trimmed"),
        "graph 0: trimmed graphs, and no others, have lost rows",
    ),
    "negative loss": (lambda rows: put(rows, "lost_nodes", 0, -3), "graph 0 lost a negative number of rows"),
    "negative size": (lambda rows: put(rows, "num_edges", 39, -1), "graph 39 has a negative size"),
}


@pytest.mark.parametrize("name", BROKEN_GRAPHS)
def test_a_wrong_graphs_file_is_found(tmp_path, name):
    change, text = BROKEN_GRAPHS[name]
    write_data_set(tmp_path, change=lambda packs, rows: change(rows))
    faults = [str(f) for f in verify_shards(tmp_path).faults]
    assert any(re.search(text, f) for f in faults), faults


def test_a_graph_in_two_packs_is_found(tmp_path):
    def change(packs, rows):
        packs[5]["graph_ids"][0] = packs[0]["graph_ids"][0]

    write_data_set(tmp_path, change=change)
    faults = verify_shards(tmp_path).faults
    assert [(f.file, f.block, f.pack, f.field) for f in faults] == [("shard-00000.parquet", 1, 5, "graph_ids")]
    assert "slot 0 holds graph 0 of size" in faults[0].what


def test_a_graph_left_out_is_found(tmp_path):
    def change(packs, rows):
        for name in ("pack", "slot"):
            put(rows, name, 0, -1)
        put(rows, "status", 0, "skipped")
        put(rows, "reason", 0, "oversize")

    write_data_set(tmp_path, change=change)
    texts = [str(f) for f in verify_shards(tmp_path).faults]
    assert any("37 graphs are packed, the manifest says 38" in text for text in texts)


def test_extra_missing_and_swapped_files_are_found(tmp_path):
    folder = tmp_path
    write_data_set(folder)
    for allowed in ("build.json", ".work"):
        (folder / allowed).mkdir()
    assert verify_shards(folder).ok
    shutil.copy(folder / "shard-00000.parquet", folder / "shard-00009.parquet")
    (folder / "shard-00002.parquet.tmp").write_bytes(b"")
    assert [f.file for f in verify_shards(folder).faults] == ["shard-00002.parquet.tmp", "shard-00009.parquet"]
    (folder / "shard-00009.parquet").unlink()
    (folder / "shard-00002.parquet.tmp").unlink()
    for name in ("shard-00001.parquet", "graphs.parquet", "plan.parquet"):
        kept = (folder / name).read_bytes()
        (folder / name).unlink()
        faults = verify_shards(folder).faults
        assert [f.file for f in faults] == [name] and f"{name} is missing from" in faults[0].what
        (folder / name).write_bytes(kept)
    first, second = (folder / f"shard-0000{i}.parquet" for i in (0, 1))
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)
    assert {f.file for f in verify_shards(folder).faults} == {"shard-00000.parquet", "shard-00001.parquet"}
    (folder / "manifest.json").unlink()
    assert "holds no manifest.json: not a data set" in str(verify_shards(folder).faults[0])


def test_a_footer_that_leads_other_readers_astray_is_found(tmp_path, tmp_path_factory):
    """The bytes of another shard with the same blocks but another footer, under a manifest sealed anew."""
    manifest = write_data_set(tmp_path)
    other = tmp_path_factory.mktemp("other")
    renamed = replace(MOLECULES, fields=(replace(MOLECULES.fields[0], name="X"), *MOLECULES.fields[1:]))
    stranger = write_data_set(other, renamed)
    shutil.copy(other / "shard-00000.parquet", tmp_path)
    entry = stranger.shards[0]
    reseal(tmp_path, shards=(entry, *manifest.shards[1:]))
    faults = verify_shards(tmp_path).faults
    assert {f.file for f in faults} == {"shard-00000.parquet"}
    assert "its schema is" in faults[0].what


def test_page_checksums_are_checked(tmp_path):
    """A page whose header has another CRC, with every checksum of the manifest made to fit."""
    import zlib

    from packer.shards import open_shard
    from packer.shards.pages import walk_pages

    manifest = write_data_set(tmp_path, compression="none")
    path, entry = tmp_path / "shard-00000.parquet", manifest.shards[0]
    page = next(walk_pages(open_shard(tmp_path, manifest, 0).raw_block(1), 0, 3, manifest.block_format.columns))
    data = bytearray(path.read_bytes())
    data[entry.block_offsets[1] + page.start] ^= 4
    path.write_bytes(data)
    start, stop = entry.block_offsets[1:3]
    crcs = (entry.block_crc32[0], zlib.crc32(data[start:stop]))
    fitting = replace(entry, block_crc32=crcs, sha256=hash_file(path).sha256)
    reseal(tmp_path, shards=(fitting, *manifest.shards[1:]))
    faults = verify_shards(tmp_path).faults
    assert [(f.file, f.block, f.field) for f in faults[:1]] == [("shard-00000.parquet", 1, "x")]
    assert "page checksum is" in faults[0].what


def test_the_bound_is_proven_again(tmp_path):
    from packer.graphs.sizes import GraphSizes
    from packer.plan.pack_plan import make_plan
    from packer.verify.plan import distinct_sizes

    manifest = write_data_set(tmp_path)
    sizes, count = distinct_sizes(tmp_path, manifest)
    assert count.sum() == 38 and len(np.unique(sizes, axis=0)) == len(sizes)
    plan = make_plan(GraphSizes.from_histogram(*sizes.T, count), manifest.limits, "first-fit-decreasing")
    told = {**manifest.plan, "lower_bound": plan.lower_bound, "certificate": plan.certificate.to_dict()}
    reseal(tmp_path, plan=told)
    assert verify_shards(tmp_path).ok
    for change, text in (
        ({"lower_bound": plan.lower_bound - 1}, f"proves {plan.lower_bound} packs, the manifest says"),
        ({"status": "optimal", "lower_bound": 9}, "is 'optimal' with 10 packs and a lower bound of 9"),
        ({"certificate": {**told["certificate"], "value": 1}}, "certificate"),
    ):
        reseal(tmp_path, plan={**told, **change})
        faults = verify_shards(tmp_path).faults
        assert [f.file for f in faults] == ["plan.parquet"] and text in faults[0].what, change


def test_shards_can_be_checked_in_other_processes(tmp_path):
    write_data_set(tmp_path, change=BROKEN_PACKS["batch"][0])
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        report = verify_shards(tmp_path, map=pool.map)
    assert report.faults == verify_shards(tmp_path).faults and len(report.faults) == 1


def test_sums_of_hashes_tell_multisets_apart():
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 50, 1000) for _ in range(4)]
    blocks = rows[1] // 10
    order = rng.permutation(1000)
    sums = []
    for taken in (np.arange(1000), order):
        found = np.zeros(5, dtype=np.uint64)
        for part in np.array_split(taken, 7):
            add_to_blocks(found, blocks[part], row_hashes([row[part] for row in rows], 42))
        sums.append(found)
    assert (sums[0] == sums[1]).all()
    expected = [
        sum(row_hashes([row[blocks == b] for row in rows], 42).tolist()) % 2**64 for b in range(5)
    ]  # Python integers
    assert sums[0].tolist() == expected
    # Two graphs that trade places, or a one that counts twice while another is gone, change the sum.
    a, b = np.array([3, 4]), np.array([4, 3])
    assert row_hashes([a, a], 1).sum() != row_hashes([a, b], 1).sum()
    assert row_hashes([a, a], 1).sum() != row_hashes([a, a], 2).sum()


def test_a_report_of_a_folder_that_is_none(tmp_path):
    report = verify_shards(tmp_path)
    assert not report.ok and (report.packs, report.graphs) == (0, 0)


def test_a_folder_full_of_strangers_is_told_briefly(tmp_path) -> None:
    write_data_set(tmp_path)
    for number in range(1000):
        (tmp_path / f"{number:04d}.txt").touch()
    faults = verify_shards(tmp_path).faults
    assert len(faults) == 101 and "this one and 899 more" in faults[-1].what
