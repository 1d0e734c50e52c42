"""`ase:` and `sample:g2`: four kinds of files, targets and their levels, faults of frames, and who reads what."""

from __future__ import annotations

import os
import pickle
import shutil
import sqlite3
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forks import forked_dask
from jobs import hashes

pytest.importorskip("ase")
pytest.importorskip("matscipy")

from ase import Atoms
from ase.calculators.emt import EMT
from ase.collections import g2
from ase.io import read, ulm
from structures import ENDINGS, structures, write_frames

from packer import PackLimits, unpack
from packer.errors import BuildError, FieldError, MissingExtraError, SourceError
from packer.graphs.table import GraphTable
from packer.scan.block import join_blocks
from packer.scan.levels import decide
from packer.scan.statistics import merge
from pipelines import build
from pipelines.executors import make_executor
from pipelines.sources import atoms as source_of_atoms
from pipelines.sources import parse_source
from pipelines.sources.protocol import Scan, Source, pinned

TARGETS = ("energy", "forces", "stress")


def scans(source: Source) -> list[Scan]:
    return [task.scan() for task in source.tasks()]


def table_of(source: Source, **levels: str) -> GraphTable:
    blocks = [scan.graphs for scan in scans(source)]
    statistics = blocks[0].statistics
    for block in blocks[1:]:
        statistics = merge(statistics, block.statistics)
    return join_blocks(blocks, decide(statistics, levels)[0])


def equal(a: GraphTable, b: GraphTable) -> bool:
    return a.content_hash() == b.content_hash()


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[Atoms]:
    """As they come out of an extxyz file: the other kinds are written from them."""
    path = write_frames(tmp_path_factory.mktemp("frames") / "first.extxyz", structures(30))
    found: Any = read(path, ":")
    return found


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_kind_of_file_gives_the_same_graphs(
    tmp_path: Path, frames: list[Atoms], ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if ending == ".aselmdb":
        pytest.importorskip("ase_db_backends")
    path = write_frames(tmp_path / f"frames{ending}", frames)
    path.chmod(0o444)
    monkeypatch.setattr(source_of_atoms, "_FRAMES_PER_BLOCK", 7)
    source = parse_source(f"ase:{path}", cutoff=4.0, targets=TARGETS)
    tasks = list(source.tasks())
    assert [task.first_id for task in tasks] == [0, 7, 14, 21, 28] and source.num_graphs == 30
    assert tasks[1].label == f"frames 7 to 13 of frames{ending}"
    table = table_of(source)
    fields = {field.name: field for field in table.schema.fields}
    assert [(name, field.level, field.shape, field.dtype) for name, field in fields.items()] == [
        ("z", "node", (), "int64"),
        ("pos", "node", (3,), "float32"),
        ("edge_index", "edge", (2,), "int64"),
        ("shifts", "edge", (3,), "float32"),
        ("unit_shifts", "edge", (3,), "int8"),
        ("cell", "graph", (3, 3), "float32"),
        ("pbc", "graph", (3,), "bool"),
        ("energy", "graph", (), "float32"),
        ("forces", "node", (3,), "float32"),
        ("stress", "graph", (3, 3), "float32"),
    ]
    node, edge = table.ptr["node"], table.ptr["edge"]
    assert table.num_graphs == 30
    for at, atoms in enumerate(frames):
        own, edges = slice(*node[at : at + 2]), slice(*edge[at : at + 2])
        columns = {name: table.columns[name] for name in fields}
        assert columns["z"][own].tolist() == atoms.numbers.tolist()
        assert np.array_equal(columns["pos"][own], atoms.positions.astype(np.float32))
        assert np.array_equal(columns["cell"][at], atoms.cell.array.astype(np.float32))
        assert columns["pbc"][at].tolist() == atoms.pbc.tolist()
        calc: Any = atoms.calc
        assert columns["energy"][at] == np.float32(calc.results["energy"])
        assert np.array_equal(columns["forces"][own], calc.results["forces"].astype(np.float32))
        source_, target = columns["edge_index"][edges].T
        images = columns["unit_shifts"][edges]
        assert np.allclose(columns["shifts"][edges], images @ atoms.cell.array, atol=1e-5)
        away = atoms.positions[target] - atoms.positions[source_] + images @ atoms.cell.array
        assert (np.linalg.norm(away, axis=1) < 4.0).all()
        if "stress" in calc.results:
            xx, yy, zz, yz, xz, xy = calc.results["stress"].astype(np.float32)
            assert columns["stress"][at].tolist() == [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]
        else:
            assert np.isnan(columns["stress"][at]).all()
    assert sorted(inside.name for inside in tmp_path.iterdir()) == [f"frames{ending}"], "reading writes nothing"


def test_graphs_are_of_float64_where_asked(tmp_path: Path, frames: list[Atoms]) -> None:
    path = write_frames(tmp_path / "a.traj", frames)
    table = table_of(parse_source(f"ase:{path}", cutoff=4.0, targets=["energy"], float_dtype="float64"))
    calc: Any = frames[0].calc
    assert table.columns["energy"][0] == calc.results["energy"]
    assert {f.name for f in table.schema.fields if f.dtype == "float64"} == {"pos", "shifts", "cell", "energy"}


def test_several_files_a_folder_a_pattern(tmp_path: Path, frames: list[Atoms]) -> None:
    write_frames(tmp_path / "a.traj", frames[:10])
    write_frames(tmp_path / "b.extxyz", frames[10:])
    (tmp_path / "notes.txt").write_text("none of it")
    one = table_of(parse_source(f"ase:{tmp_path}", cutoff=4.0))
    assert one.num_graphs == 30 and one.source_ids.tolist() == list(range(30))
    for text in (f"{tmp_path}/a.traj,{tmp_path}/b.extxyz", f"{tmp_path}/*.[te]*[jz]"):
        assert equal(table_of(parse_source(f"ase:{text}", cutoff=4.0)), one)
    (tmp_path / "sub").mkdir()
    odd = tmp_path / "sub" / "a,b.extxyz"
    shutil.copy(tmp_path / "b.extxyz", odd)
    assert table_of(parse_source(f"ase:{odd}", cutoff=4.0)).num_graphs == 20


BAD_SOURCES = [
    ({}, "a.extxyz", r"needs cutoff=R \(--cutoff R\)"),
    ({"cutoff": 0}, "a.extxyz", "cutoff must be a finite number above 0; got 0"),
    ({"cutoff": float("nan")}, "a.extxyz", "cutoff must be a finite number above 0; got nan"),
    ({"cutoff": 5, "float_dtype": "float16"}, "a.extxyz", "float_dtype must be float32 or float64; got 'float16'"),
    ({"cutoff": 5, "target_dtype": "float64"}, "a.extxyz", r"target_dtype \(--target-dtype\): for smiles: sources"),
    ({"cutoff": 5}, "gone.extxyz", r"cannot read .*gone\.extxyz: No such file"),
    ({"cutoff": 5}, "a.cif", r"a\.cif is of no known kind: frames are read from \.extxyz, \.xyz, \.traj"),
    ({"cutoff": 5}, "q*.xyz", r"no file is called .*q\*\.xyz"),
    ({"cutoff": 5}, "empty", r"the folder .*empty holds no file of frames"),
    ({"cutoff": 5}, "a.extxyz,a.extxyz", r"names .*a\.extxyz twice: "),
    ({"cutoff": 5}, "a.extxyz,empty/../a.extxyz", r"empty/\.\./a\.extxyz twice, once as .*/a\.extxyz: name each"),
    ({"cutoff": 5}, "a.extxyz,link.xyz", r"link\.xyz twice, once as .*a\.extxyz"),
    ({"cutoff": 5}, "twice", r"twice/b\.extxyz twice, once as .*twice/a\.extxyz"),
    ({"cutoff": 5}, "pipe.xyz", r"pipe\.xyz is no plain file, but a pipe"),
    (
        {"cutoff": 5, "targets": ["enrgy"]},
        "a.extxyz",
        r"none of the first 1,000 frames .* 'enrgy' .* there are: .*energy",
    ),
    ({"cutoff": 5, "targets": ["energy,forces"]}, "a.extxyz", "one name each, --target energy --target forces"),
    ({"cutoff": 5}, "none.extxyz", r"none\.extxyz holds no frame"),
    ({"cutoff": 5, "targets": ["energy"]}, "none.extxyz", r"none\.extxyz holds no frame"),
    ({"cutoff": 5, "targets": ["pos"]}, "a.extxyz", "'pos' is what graphs of atoms have anyway"),
    ({"cutoff": 5}, "pickled.traj", "is no ASE trajectory, or damaged"),
    ({"cutoff": 5}, "text.db", "is no ASE database, or damaged: DatabaseError"),
    ({"cutoff": 5}, "other.db", "is no ASE database, or damaged: OperationalError: no such table: systems"),
    ({"cutoff": 5}, "text.aselmdb", "is no ASE database of LMDB, or damaged"),
    ({"cutoff": 5}, "other.traj", "is no trajectory: it holds 'Other'"),
    ({"cutoff": 5}, "count.extxyz", r"count\.extxyz, line 5: frame 1 begins with its number of atoms; got 'two'"),
    ({"cutoff": 5}, "minus.extxyz", r"minus\.extxyz, line 1: frame 0 begins with its number of atoms; got '-1'"),
]


@pytest.mark.parametrize(("options", "file", "message"), BAD_SOURCES, ids=[case[1] for case in BAD_SOURCES])
def test_what_is_no_source_of_frames(tmp_path: Path, options: dict[str, Any], file: str, message: str) -> None:
    one = "2\nProperties=species:S:1:pos:R:3 energy=1\nH 0 0 0\nH 0 0 0.7\n"
    (tmp_path / "empty").mkdir()
    for name, text in (
        ("a.extxyz", one),
        ("a.cif", "data_"),
        ("none.extxyz", "\n"),
        ("count.extxyz", f"{one}two\n"),
        ("minus.extxyz", "-1\n\n"),
        ("text.db", one),
        ("text.aselmdb", one),
    ):
        (tmp_path / name).write_text(text)
    (tmp_path / "pickled.traj").write_bytes(pickle.dumps(Bomb(str(tmp_path / "bang"))))
    with sqlite3.connect(tmp_path / "other.db") as database:
        database.execute("CREATE TABLE t (a)")
    database.close()
    with ulm.open(tmp_path / "other.traj", "w", tag="Other") as other:
        other.write(a=1)
    (tmp_path / "link.xyz").symlink_to("a.extxyz")
    os.mkfifo(tmp_path / "pipe.xyz")
    (tmp_path / "twice").mkdir()
    for name in ("a", "b"):
        (tmp_path / "twice" / f"{name}.extxyz").symlink_to(tmp_path / "a.extxyz")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    text = ",".join(str(tmp_path / part) for part in file.split(","))
    with pytest.raises(SourceError, match=message):
        scans(parse_source(f"ase:{text}", **options))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("text", [" ", "a.extxyz,", ",a.extxyz", "a.extxyz,,b.extxyz", "a.extxyz, "])
def test_an_empty_name_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / f"{name}.extxyz").write_text(SOUND)
    with pytest.raises(SourceError, match="names a file with an empty name"):
        scans(parse_source(f"ase:{text}", cutoff=5.0))


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (Path(self.path),)


def test_files_of_frames_are_for_this_source_alone() -> None:
    with pytest.raises(SourceError, match=r"cutoff and float_dtype \(--cutoff, --float-dtype\) are for ase: sources"):
        parse_source("sample:g2", cutoff=5.0)
    with pytest.raises(SourceError, match="read in pieces by every worker: copy them to a disk first"):
        scans(parse_source("ase:s3://bucket/a.extxyz", cutoff=5.0))
    with pytest.raises(SourceError, match="did you mean 'ase'"):
        parse_source("asse:a.extxyz")


H2 = "H 0 0 0{0}\nH 0 0 0.7{0}\n"
PLAIN = "Properties=species:S:1:pos:R:3"
WITH_FORCES = PLAIN + ":forces:R:3"
CUBE = 'Lattice="9 0 0 0 9 0 0 0 9"'
FAULTS = {
    "no atoms": f"0\n{PLAIN} energy=1\n",
    "a position is NaN or beyond float32": f"2\n{PLAIN} energy=1\nH 0 0 0\nH 0 nan 0.7\n",
    "the cell holds NaN or what is beyond float32": f'2\n{PLAIN} Lattice="9 0 0 0 nan 0 0 0 9"\n{H2.format("")}',
    "it is periodic along a vector that its cell lacks": f'2\n{PLAIN} pbc="T F F"\n{H2.format("")}',
    "its cell is singular": f'2\n{PLAIN} Lattice="9 0 0 9 0 0 0 0 9"\n{H2.format("")}',
    "an atom has no other within the cutoff": f"3\n{PLAIN} energy=1\n{H2.format('')}H 0 0 30\n",
    "two atoms are at one place": f"3\n{PLAIN} energy=1\n{H2.format('')}H 0 0 0\n",
    "images within the cutoff are more than 127 cells away (unit_shifts are int8): wrap its atoms": (
        f"2\n{PLAIN} {CUBE}\nH 0 0 0\nH 0 0 1441\n"
    ),
    "it spreads over more than 1,000,000 boxes of the cutoff's size": f"2\n{PLAIN}\nH 0 0 0\nH 9999 9999 9999\n",
    "forces of 2 atoms is [2, 2], not [2, 3]": f"2\n{PLAIN}:forces:R:2\n{H2.format(' 1 2')}",
    "forces is infinite or beyond float32": f"2\n{WITH_FORCES}\n{H2.format(' 1 2 1e39')}",
    "energy is infinite or beyond float32": f"2\n{PLAIN} energy=inf\n{H2.format('')}",
    "energy is 16777217, of which float32 makes 16777216: pass --float-dtype float64": (
        f"2\n{PLAIN} energy=16777217\n{H2.format('')}"
    ),
    "forces is 1e-50, of which float32 makes 0: pass --float-dtype float64": (
        f"2\n{WITH_FORCES}\n{H2.format(' 0 1e-50 2')}"
    ),
    "energy is not made of numbers": f"2\n{PLAIN} energy=low\n{H2.format('')}",
    "dipole is [2], not [3]": f'2\n{PLAIN} dipole="1 2"\n{H2.format("")}',
    "an atomic number is none of 0 to 118": "2\nProperties=Z:I:1:pos:R:3\n1 0 0 0\n119 0 0 1\n",
    "unknown element Xq": f"2\n{PLAIN}\nH 0 0 0\nXq 0 0 0.7\n",
    "ASE cannot read it: ValueError: could not convert string to float: 'O'": f"2\n{PLAIN}\nH 0 0 0\nH 0 O 0.7\n",
    "the file ends within its last line, which lacks its line end": f"2\n{PLAIN}\n{H2.format('').rstrip()}",
    "the file ends within it": f"3\n{PLAIN}\n{H2.format('')}",
}
SOUND = f'2\n{WITH_FORCES} energy=-1 dipole="0 0 1"\n{H2.format(" 1 2 3")}'


@pytest.mark.parametrize("reason", FAULTS)
def test_faults_of_frames(tmp_path: Path, reason: str) -> None:
    """Told by file, frame and reason; the frames around it are read."""
    path = tmp_path / "md.extxyz"
    path.write_text(SOUND + SOUND + FAULTS[reason])
    options: dict[str, Any] = {"cutoff": 5.0, "targets": ["energy", "forces", "dipole"]}
    (scan,) = scans(parse_source(f"ase:{path}", **options))
    assert scan.num_records == 3 and scan.graphs.ids.tolist() == [0, 1]
    assert [(skip.graph_id, skip.reason, skip.where) for skip in scan.skips] == [(2, reason, "md.extxyz, frame 2")]
    with pytest.raises(SourceError, match=r"graph 2 of ase:.*md\.extxyz \(md\.extxyz, frame 2\) cannot be packed: "):
        build(f"ase:{path}", tmp_path / "out", PackLimits(9, 20, 4), workers=1, **options)
    built = build(f"ase:{path}", tmp_path / "out", PackLimits(9, 20, 4), workers=1, on_empty="skip", **options)
    assert len(unpack(built)) == 2


@pytest.mark.parametrize(
    ("atoms", "cell"),
    [
        ("H 99999999 0 0\nH 100000000 0 0", ""),  # float32 has one number for both
        ("H 99999.003 0 0\nH 100000.013 0 0", ""),  # and here 0.5% of the distance are added
        ("H 0 0 0\nH 99998.995 0 0", ' Lattice="100000 0 0 0 6 0 0 0 6"'),  # where images meet
        ("H 0 0 0\nH 1e-30 0 0", ""),  # whose square is 0 in float32
    ],
)
def test_lengths_that_float32_changes_are_faults(tmp_path: Path, atoms: str, cell: str) -> None:
    path = tmp_path / "md.extxyz"
    path.write_text(f"{SOUND}2\n{PLAIN}{cell}\n{atoms}\n{SOUND}")
    (scan,) = scans(parse_source(f"ase:{path}", cutoff=2.0))
    assert scan.graphs.ids.tolist() == [0, 2] and [skip.where for skip in scan.skips] == ["md.extxyz, frame 1"]
    assert scan.skips[0].reason.startswith("float32 changes the length of an edge by more than 0.1%")
    assert "--float-dtype float64" in scan.skips[0].reason
    (scan,) = scans(parse_source(f"ase:{path}", cutoff=2.0, float_dtype="float64"))
    assert not scan.skips


def test_a_file_of_faults_alone_says_so(tmp_path: Path) -> None:
    path = tmp_path / "md.xyz"
    path.write_text(FAULTS["two atoms are at one place"] + FAULTS["its cell is singular"] * 2)
    with pytest.raises(SourceError, match=r"packed: 3 are left out, 2 of them .*: its cell is singular"):
        build(f"ase:{path}", tmp_path / "out", workers=1, cutoff=5.0, on_empty="skip")


def test_a_block_without_a_sound_target_is_faults_alone(tmp_path: Path) -> None:
    path = tmp_path / "md.xyz"
    path.write_text(FAULTS["forces of 2 atoms is [2, 2], not [2, 3]"] * 2)
    (scan,) = scans(parse_source(f"ase:{path}", cutoff=5.0, targets=["forces"]))
    assert not len(scan.graphs.ids) and len(scan.skips) == 2


def test_padding_within_the_cutoff_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "md.xyz"
    path.write_text(SOUND)
    for source, options, cutoff in ((f"ase:{path}", {"cutoff": 6.0}, 6), ("sample:g2", {}, 5)):
        with pytest.raises(BuildError, match=rf"\(--pad-geometry\) is 4.5, but edges .* \(--cutoff\) of {cutoff}, "):
            build(source, tmp_path / "out", workers=1, pad_geometry=4.5, **options)
    assert build(f"ase:{path}", tmp_path / "out", PackLimits(9, 20, 4), workers=1, pad_geometry=6, cutoff=6.0)


def test_damaged_rows_are_faults_of_their_frames(tmp_path: Path, frames: list[Atoms]) -> None:
    path = write_frames(tmp_path / "a.db", frames[:4])
    with sqlite3.connect(path) as database:
        database.execute("UPDATE systems SET positions = ? WHERE id = 2", (b"1234567",))
        database.execute("UPDATE systems SET numbers = ? WHERE id = 3", (b"",))
        database.execute("DELETE FROM systems WHERE id = 1")
    database.close()
    (scan,) = scans(parse_source(f"ase:{path}", cutoff=5.0))
    assert [(skip.graph_id, skip.where) for skip in scan.skips] == [(0, "a.db, frame 0"), (1, "a.db, frame 1")]
    assert scan.skips[0].reason.startswith("ASE cannot read it: ValueError")
    assert scan.skips[1].reason == "positions, cell and pbc have not the shapes of its atoms"


def test_what_is_wrong_with_a_database_of_lmdb(tmp_path: Path, frames: list[Atoms]) -> None:
    pytest.importorskip("ase_db_backends")
    lmdb = pytest.importorskip("lmdb")
    path = write_frames(tmp_path / "a.aselmdb", frames[:20])
    whole = path.read_bytes()
    held = lmdb.open(str(path), subdir=False, readonly=True, lock=False)
    with pytest.raises(SourceError, match=r"a\.aselmdb is open in this process: close the database"):
        scans(parse_source(f"ase:{path}", cutoff=4.0))
    held.close()
    (task,) = parse_source(f"ase:{path}", cutoff=4.0).tasks()
    for pages in (2, len(whole) // 4096 - 1):
        path.write_bytes(whole[: 4096 * pages + 1])
        for late in (task.scan, lambda: scans(parse_source(f"ase:{path}", cutoff=4.0))):
            with pytest.raises(SourceError, match=r"a\.aselmdb is damaged: it is [\d,]+ bytes of [\d,]+\. Restore"):
                late()
    path.write_bytes(whole)
    with lmdb.open(str(path), subdir=False, lock=False) as environment, environment.begin(write=True) as values:
        values.put(b"nextid", zlib.compress(str(10**15).encode()))
    with pytest.raises(SourceError, match=r"it says that it has 999,999,999,999,999 rows, and holds 2\d values"):
        scans(parse_source(f"ase:{path}", cutoff=4.0))


def test_nothing_is_unpickled(tmp_path: Path, frames: list[Atoms]) -> None:
    """Arrays of objects and pickled data in places where ASE's files hold bytes."""
    bomb = pickle.dumps(Bomb(str(tmp_path / "bang")))
    path = write_frames(tmp_path / "a.db", frames[:2])
    with sqlite3.connect(path) as database:
        database.execute("UPDATE systems SET data = ?, positions = ? WHERE id = 1", (bomb, bomb))
        database.execute("UPDATE systems SET data = ? WHERE id = 2", (bomb,))
    database.close()
    with pytest.raises(SourceError, match="none of the first 1,000 frames"):
        scans(parse_source(f"ase:{path}", cutoff=5.0, targets=["more"]))
    traj = tmp_path / "a.traj"
    write_frames(traj, frames[:2])
    data = traj.read_bytes()
    assert data.count(b'"float64"') and len(b'"float64"') == len(b'"object" ')
    traj.write_bytes(data.replace(b'"float64"', b'"object" ') + bomb)
    (scan,) = scans(parse_source(f"ase:{traj}", cutoff=5.0))
    assert len(scan.skips) == 2 and all(skip.reason.startswith("ASE cannot read it: ") for skip in scan.skips)
    assert not (tmp_path / "bang").exists()


def test_targets_of_other_names(tmp_path: Path) -> None:
    """Columns are of atoms, the rest of the frame; what a frame lacks is NaN; texts may name splits."""
    path = tmp_path / "a.extxyz"
    path.write_text(
        f"2\n{PLAIN} part=b\n{H2.format('')}"
        f'2\n{PLAIN}:REF_forces:R:3:q:I:1 REF_energy=-1.5 tensor="1 2 3 4" part=a\n{H2.format(" 1 2 3 7")}'
    )
    names = ["REF_energy", "REF_forces", "q", "tensor"]
    table = table_of(parse_source(f"ase:{path}", cutoff=5.0, targets=names, strings=["part", "none"]))
    fields = {field.name: (field.level, field.shape) for field in table.schema.fields if field.name in names}
    assert fields == {
        "REF_energy": ("graph", ()),
        "REF_forces": ("node", (3,)),
        "q": ("node", ()),
        "tensor": ("graph", (4,)),
    }
    assert np.array_equal(table.columns["REF_energy"], [np.nan, -1.5], equal_nan=True)
    assert np.array_equal(table.columns["q"], [np.nan, np.nan, 7, 7], equal_nan=True)
    assert table.columns["tensor"][1].tolist() == [1, 2, 3, 4]
    assert table.strings["part"].to_pylist() == ["b", "a"] and table.strings["none"].to_pylist() == [None, None]
    with pytest.raises(FieldError, match="packs have a column of their own by this name"):
        scans(parse_source(f"ase:{path}", cutoff=5.0, targets=["ptr"]))
    with pytest.raises(FieldError, match="'q' cannot be a graph field: graph 0 has one row for each node"):
        table_of(parse_source(f"ase:{path}", cutoff=5.0, targets=["q"]), q="graph")


def test_levels_do_not_hang_on_the_numbers_of_atoms(tmp_path: Path) -> None:
    """Two atoms, two edges: by their lengths alone forces could be of edges, and positions of graphs."""
    path = tmp_path / "a.extxyz"
    path.write_text(SOUND * 3)
    (scan,) = scans(parse_source(f"ase:{path}", cutoff=5.0, targets=["forces"]))
    schema, is_open = decide(scan.graphs.statistics)
    assert not is_open
    assert {field.name for field in schema.fields if field.level == "node"} == {"z", "pos", "forces"}
    assert {field.name for field in schema.fields if field.level == "graph"} == {"cell", "pbc"}


def test_the_files_of_a_job_are_those_that_it_began_with(tmp_path: Path, frames: list[Atoms]) -> None:
    path = write_frames(tmp_path / "a.traj", frames)
    source = pinned(parse_source(f"ase:{path}", cutoff=4.0))
    assert pinned(source) == source and source.key() == parse_source(f"ase:{path}", cutoff=4.0).key()
    (task,) = source.tasks()
    os.utime(path, (1, 1))  # a copy on another machine
    assert not task.scan().skips
    write_frames(path, frames[:-1])
    for late in (task.scan, lambda: list(source.tasks())):
        with pytest.raises(SourceError, match=r"a\.traj has changed while it was read"):
            late()
    path.unlink()
    with pytest.raises(SourceError, match="cannot read"):
        task.scan()


@pytest.mark.parametrize("mode", ["WAL", "PERSIST"])
def test_a_database_of_which_some_lies_in_another_file_is_refused(
    tmp_path: Path, frames: list[Atoms], mode: str
) -> None:
    path = write_frames(tmp_path / "a.db", frames[:4])
    source = pinned(parse_source(f"ase:{path}", cutoff=4.0))
    (task,) = source.tasks()
    data = path.read_bytes()
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA journal_mode={mode}")
    database.execute("UPDATE systems SET unique_id = id WHERE id = 1")
    database.commit()
    beside = {"WAL": "-wal", "PERSIST": "-journal"}[mode]
    link = tmp_path / "sub"
    link.mkdir()
    (link / "b.db").symlink_to(path)
    again = parse_source(f"ase:{link / 'b.db'}", cutoff=4.0)
    for late in (task.scan, lambda: list(source.tasks()), lambda: pinned(again), lambda: list(again.tasks())):
        with pytest.raises(SourceError, match=rf"a\.db{beside} holds changes of .*PRAGMA journal_mode=DELETE"):
            late()
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.execute("PRAGMA journal_mode=DELETE")
    database.close()
    assert path.read_bytes() != data
    assert not next(iter(again.tasks())).scan().skips


def test_the_key_tells_what_graphs_depend_on(tmp_path: Path, frames: list[Atoms]) -> None:
    path = write_frames(tmp_path / "a.traj", frames)
    key = parse_source(f"ase:{path}", cutoff=4.0).key()
    assert key["files"] == ["a.traj"] and key["cutoff"] == 4.0 and {"ase", "matscipy"} <= key.keys()
    for other in ({"cutoff": 5.0}, {"float_dtype": "float64"}, {"targets": ["energy"]}, {"strings": ["part"]}):
        assert parse_source(f"ase:{path}", **{"cutoff": 4.0, **other}).key() != key
    elsewhere = tmp_path / "other"
    elsewhere.mkdir()
    shutil.copy(path, elsewhere)
    assert parse_source(f"ase:{elsewhere}", cutoff=4.0).key() == key
    asked = parse_source(f"ase:{path}", cutoff=4.0, targets=["energy"], float_dtype="float64")
    words = ("--cutoff", "4.0", "--float-dtype", "float64", "--target", "energy")
    assert asked.argv == (f"ase:{path}", *words)


def test_workers_and_clusters_write_the_same_bytes(
    tmp_path: Path, frames: list[Atoms], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_of_atoms, "_FRAMES_PER_BLOCK", 4)
    write_frames(tmp_path / "a.traj", frames[:17])
    with (tmp_path / "b.extxyz").open("w") as file:
        file.write((write_frames(tmp_path / "c.extxyz", frames[17:])).read_text() + FAULTS["its cell is singular"])
    (tmp_path / "c.extxyz").unlink()

    def built(name: str, **options: Any) -> dict[str, str]:
        job: dict[str, Any] = {"cutoff": 4.0, "targets": TARGETS, "on_empty": "skip", "algorithm": "histogram"}
        build(f"ase:{tmp_path}", tmp_path / "out" / name, PackLimits(40, 1500, 6), **job, **options)
        return hashes(tmp_path / "out" / name)

    one = built("one", workers=1)
    assert built("two", workers=2) == one
    pytest.importorskip("distributed")
    with warnings.catch_warnings(), forked_dask():
        warnings.simplefilter("ignore")
        executor = make_executor("dask", workers=2)
        try:
            assert built("dask", executor=executor) == one
        finally:
            executor.close()


def test_the_sample_of_molecules() -> None:
    source = parse_source("sample:g2")
    (scan,) = scans(source)
    assert scan.num_records == source.num_graphs == 162 and len(scan.graphs.ids) == 86 and len(scan.skips) == 76
    assert (scan.skips[0].where, scan.skips[0].reason) == ("PH3", "EMT knows no P")
    table = table_of(source)
    names = table.strings["name"].to_pylist()
    at = names.index("CH3CH2OH")
    atoms = g2["CH3CH2OH"]
    atoms.calc = EMT()
    assert table.columns["energy"][at] == pytest.approx(atoms.get_potential_energy(), rel=1e-6)
    own = slice(*table.ptr["node"][at : at + 2])
    assert np.allclose(table.columns["forces"][own], atoms.get_forces(), atol=1e-5)
    assert not table.columns["unit_shifts"].any() and not table.columns["pbc"].any()


def test_without_the_packages_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matscipy", None)
    for text, options in (("sample:g2", {}), ("ase:a.extxyz", {"cutoff": 5.0})):
        with pytest.raises(MissingExtraError, match=r"reading atoms needs ase and matscipy: pip install .*\[atoms\]"):
            scans(parse_source(text, **options))
