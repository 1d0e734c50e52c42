"""Inputs made to hurt (`tests/hostile/corpus.py`) under limits of memory and time; files cut while they are read."""

from __future__ import annotations

import copy
import json
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from reference_packs import write_data_set

from hostile import stores, thrift_tree
from packer import PackDataset, numpy_loader, torch_loader, unpack
from packer.errors import FormatError
from packer.files.atomic import hash_file
from packer.files.parquet import checks as parquet_check
from packer.graphs.axes import Axis
from packer.graphs.schema import Schema
from packer.limits.pack_limits import PackLimits
from packer.shards import GraphCounts, Manifest, iter_graphs
from packer.shards.graphs_file import graphs_schema, write_graphs
from packer.shards.manifest import GRAPHS
from packer.verify.footer import check_footer

GROUPS = ("manifests", "page_headers", "footers", "graphs", "plans", "certificates", "answers")
SOUND = {"an index with a million targets", *stores.NAMES}
"""Large, but by the rules; and names that a store need not tell."""
SECONDS = 20


def run_corpus(folder, scale, groups=GROUPS):
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "corpus.py"), str(folder), str(scale), *groups],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(cases):
    assert {case["group"] for case in cases} == set(GROUPS) and len(cases) > 100
    for case in cases:
        assert case["kind"] != "raw", case
        assert case["seconds"] < SECONDS, case
        if case["case"] in SOUND:
            assert case["kind"] == "read", case
        else:
            assert case["kind"] != "read" and len(case["text"]) < 1000, case


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits memory by what Linux tells of a process")
def test_hostile_inputs_end_in_clear_errors_in_little_memory(tmp_path):
    check(run_corpus(tmp_path, 16))


@pytest.mark.slow
def test_hostile_inputs_of_full_size_end_in_clear_errors_in_little_memory(tmp_path):
    check(run_corpus(tmp_path, 1))


READ_WHILE_CUT = """
    import os, sys
    from packer.errors import FormatError
    from packer.files import FileEntry
    from packer.files.parquet.flat_file import FlatParquet, WholeFile

    folder, name = sys.argv[1:]
    path = os.path.join(folder, name)
    with WholeFile(folder, name, FileEntry(os.path.getsize(path), "")) as whole:
        tables = FlatParquet(whole.file).tables()
        next(tables)
        print("read", flush=True)
        sys.stdin.readline()
        try:
            for _ in tables:
                pass
        except FormatError as error:
            print(error, flush=True)
"""


def test_a_graphs_file_cut_short_while_it_is_read_is_an_error_not_a_signal(tmp_path):
    """A process has read the first of three row groups when another cuts the file; a mapping would end it by SIGBUS."""
    schema, rows = Schema((Axis("node"), Axis("edge")), ()), 3 << 16
    texts = {"status": pa.array(["packed"] * rows), "reason": pa.array([""] * rows)}
    numbers = [name for name in graphs_schema(schema).names if name not in texts]
    entry = write_graphs(tmp_path, [{**{name: np.arange(rows) for name in numbers}, **texts}], schema)
    reader = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(READ_WHILE_CUT), str(tmp_path), GRAPHS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert reader.stdout is not None and reader.stdout.readline() == "read\n"
    os.truncate(tmp_path / GRAPHS, entry.bytes // 3)
    text, _ = reader.communicate("go on\n", timeout=60)
    assert reader.returncode == 0, signal.Signals(-reader.returncode).name
    assert text.startswith(f"{GRAPHS} ends at byte {entry.bytes // 3}, inside a piece that goes on to ")


def forged_graphs(folder, **columns):
    """A data set whose graphs.parquet says something else, under a hash that fits."""
    manifest = write_data_set(folder)
    table = pa.Table.from_batches(iter_graphs(folder, manifest))
    for name, change in columns.items():
        at = table.schema.get_field_index(name)
        values = np.array(table.column(name).to_numpy())
        change(values)
        table = table.set_column(at, table.schema.field(name), pa.array(values))
    pq.write_table(table, folder / GRAPHS, compression="zstd", use_dictionary=False, write_statistics=False)
    forged = replace(manifest, files={**manifest.files, GRAPHS: hash_file(folder / GRAPHS)})
    (folder / "manifest.json").write_bytes(forged.to_bytes())
    return forged


def put(place, value):
    def change(values):
        values[place] = value

    return change


CONTRADICTIONS = [
    ({"pack": put(0, 10**9)}, r"pack is 1000000000, not from -1 to 9"),
    ({"pack": put(0, -5)}, r"pack is -5, not from -1 to 9"),
    ({"slot": put(0, 4)}, r"slot is 4, not from -1 to 3"),
    ({"slot": put(0, -1)}, r"a graph has a pack without a slot"),
    ({"id": put(1, 0)}, r"graph 0 comes after -1"),
    ({"num_nodes": put(0, 2**40)}, r"num_nodes is 1099511627776, not from 0 to 24"),
]


@pytest.mark.parametrize(("columns", "text"), CONTRADICTIONS)
def test_numbers_that_contradict_the_manifest_name_verify(tmp_path, columns, text):
    manifest = forged_graphs(tmp_path, **columns)
    with pytest.raises(FormatError, match=text + r".*: the data set contradicts itself; `graph-pack verify` names"):
        list(iter_graphs(tmp_path, manifest))


def test_scatter_takes_no_more_than_the_graphs_that_there_are(tmp_path):
    """3e8 graphs stated where 40 rows are: refused, before an array of that length."""
    manifest = write_data_set(tmp_path)
    counts = GraphCounts(300_000_000, 299_999_998, 0, 2, {"oversize": 2})
    with pytest.raises(FormatError, match=r"300000000 graphs do not fit into the \d+ bytes of graphs.parquet"):
        Manifest.load(replace(manifest, counts=counts).to_bytes())
    counts = GraphCounts(60_000, 59_998, 0, 2, {"oversize": 2})
    (tmp_path / "manifest.json").write_bytes(replace(manifest, counts=counts).to_bytes())
    dataset = PackDataset(tmp_path)
    slots = len(dataset) * dataset.limits.num_graphs
    with pytest.raises(FormatError, match=r"it has 40 graphs, the manifest says 60000"):
        dataset.scatter(torch.zeros(slots))


def test_packs_that_contradict_themselves_are_not_lifted(tmp_path):
    """A `ptr` that runs over the pack, written by the rules otherwise: unpack names verify."""

    def change(packs, rows):
        packs[0]["ptr"][1] = 255

    pytest.importorskip("torch_geometric")
    write_data_set(tmp_path, limits=PackLimits(24, 40, 5), change=change)
    for source in ((tmp_path,), (0, str(tmp_path))):
        with pytest.raises(
            FormatError, match=r"ptr: does not ascend from 0 to 24.*contradicts itself; `graph-pack verify"
        ):
            unpack(*source)


def test_row_groups_that_repeat_are_refused_at_the_first_repeat(tmp_path, monkeypatch):
    """Some 100,000 row groups of 11 columns, all in the same place: 12 column chunks are looked at, and none kept."""
    write_data_set(tmp_path)
    data = (tmp_path / GRAPHS).read_bytes()
    tree, _ = thrift_tree.parse(data, len(data) - 8 - int.from_bytes(data[-8:-4], "little"))
    seen = []
    chunk = parquet_check._chunk
    monkeypatch.setattr(parquet_check, "_chunk", lambda *given: seen.append(given) or chunk(*given))
    texts = (r"bytes \d+ to 4 are not those of one column chunk", "a row group does not hold the schema's columns")
    for (_, struct), text, looked in zip(thrift_tree.repeated_groups(tree), texts, (12, 0), strict=True):
        seen.clear()
        footer = struct + len(struct).to_bytes(4, "little") + b"PAR1"
        with pytest.raises(FormatError, match=text):
            parquet_check.flat_footer(footer, len(data) + len(footer), 1 << 40)
        assert len(seen) == looked


def test_a_shard_footer_with_more_row_groups_than_blocks_is_refused_at_the_first(tmp_path):
    manifest = write_data_set(tmp_path)
    entry = manifest.shards[0]
    data = (tmp_path / entry.name).read_bytes()
    tree, _ = thrift_tree.parse(data, entry.block_offsets[-1])
    groups = next(field for field in tree if field[0] == 4)[2]
    groups.append(groups[-1])
    struct = thrift_tree.write(tree)
    text = f"the footer cannot be read: it has more row groups than the manifest's {entry.blocks} blocks"
    assert check_footer(struct + len(struct).to_bytes(4, "little") + b"PAR1", manifest, 0, []) == [text]


class Lengthening(random.Random):
    """Takes a list of some struct and makes it as long as `bend` may make it, every time."""

    def randrange(self, stop):
        return 6 if stop == 9 else 0

    def choice(self, seq):
        return 1000 if seq == (0, 2, 3, 1000) else super().choice(seq)


def test_a_bent_struct_stays_of_a_size():
    """A list in a list, 10 numbers in each entry: a thousandfold both, 1000 * 1000 * 10 numbers of 2 bytes or more."""
    struct = [[1, 9, [12, [[1, 9, [12, [[number, 6, 1] for number in range(1, 11)]]]]]]]
    for seed in range(8):
        tree, rng = copy.deepcopy(struct), Lengthening(seed)
        for _ in range(4):
            thrift_tree.bend(tree, rng)
        assert len(thrift_tree.write(tree)) < 10 * thrift_tree.MOST_VALUES


def test_a_list_of_numbers_that_is_called_one_of_structs_can_be_bent_again():
    tree = [[1, 9, [12, 5, 6]], [2, 9, [12, b"a"]]]
    for seed in range(20):
        thrift_tree.bend(copy.deepcopy(tree), random.Random(seed))


LIES = {
    "ptr": lambda values: values[:2] * 0 + 255,
    "batch": lambda values: values[:1] * 0 + 255,
    "edge_index": lambda values: values[:1] * 0 + 255,
    "num_real": lambda values: values * 0 + 10**6,
}


@pytest.mark.parametrize("name", sorted(LIES))
def test_readers_of_packs_that_lie_read_on_or_name_verify(tmp_path, name):
    """One array of the first pack lies, under checksums that fit: no reader fails otherwise than by naming verify."""

    def change(packs, rows):
        packs[0][name][: len(LIES[name](packs[0][name]))] = LIES[name](packs[0][name])

    pytest.importorskip("torch_geometric")
    write_data_set(tmp_path, change=change)

    def scattered():
        dataset = PackDataset(tmp_path)
        dataset.scatter(torch.zeros(len(dataset) * dataset.limits.num_graphs))

    readers = {
        "dataset": lambda: [PackDataset(tmp_path)[0]],
        "torch": lambda: list(torch_loader(PackDataset(tmp_path), batch_size=1)),
        "torch, redrawn": lambda: list(torch_loader(PackDataset(tmp_path), batch_size=1, redraw=True)),
        "numpy": lambda: list(numpy_loader(tmp_path, batch_size=1)),
        "numpy, redrawn": lambda: list(numpy_loader(tmp_path, batch_size=1, redraw=True)),
        "unpack": lambda: unpack(tmp_path),
        "unpack a pack": lambda: unpack(0, str(tmp_path)),
        "scatter": scattered,
    }
    refused = set()
    for reader, read in readers.items():
        try:
            read()
        except FormatError as error:
            assert "verify" in str(error), (reader, str(error))
            refused.add(reader)
    assert refused >= {"unpack", "unpack a pack"}  # which lift what the numbers say
    if name == "num_real":
        assert refused == set(readers) - {"scatter"}


@pytest.mark.parametrize("name", sorted(LIES))
def test_training_on_packs_that_lie_names_the_place_and_verify(tmp_path, capfd, name):
    """In the last pack, so that neither the target nor the encoders have met it first."""
    from pipelines.cli.app import run as run_command

    def change(packs, rows):
        packs[-1][name][: len(LIES[name](packs[-1][name]))] = LIES[name](packs[-1][name])

    pytest.importorskip("torch_geometric")
    write_data_set(tmp_path, change=change)
    assert run_command(["train", str(tmp_path), "--epochs", "1", "--hidden", "4"]) == 1
    told = capfd.readouterr().err
    assert re.search(rf"{re.escape(str(tmp_path))} contradicts itself: shard-\d+\.parquet, pack \d+, {name}: ", told)
    assert f"`graph-pack verify {tmp_path}` names every such place" in told
    assert "report it" not in told


def test_whole_numbers_that_are_no_kinds_are_told_before_memory_is_taken_for_them(tmp_path, capfd):
    from torch_geometric.data import Data

    from pipelines import build
    from pipelines.cli.app import run as run_command

    for number, (x, y, text) in enumerate(
        ((2**40, 0, "each value of a column gets weights"), (0, 2**40, "classes are"))
    ):
        graph = Data(x=torch.full((2, 1), x), edge_index=torch.tensor([[0], [1]]), y=torch.tensor([y]))
        build([graph] * 3, tmp_path / str(number), PackLimits(8, 8, 3), "first-fit", workers=1)
        assert run_command(["train", str(tmp_path / str(number)), "--epochs", "1"]) == 1
        told = capfd.readouterr().err
        assert text in told and "report it" not in told
