"""A manifest names the files that its graphs were read from: those files, or no data set."""

import gzip
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deadly import Apart
from jobs import LIMITS, SMILES, graphs, hashes, killed_at

from packer import make_plan
from packer.errors import SourceError
from packer.graphs.sizes import GraphSizes
from packer.shards import Manifest
from pipelines import build
from pipelines.building import build as build_job
from pipelines.sources import parse_source
from pipelines.sources.protocol import pinned
from pipelines.stores.journal import WORK

WIDE = 5_000
"""Characters of a column that nobody asks for: a file of some rows is longer than any buffer."""


def table(rows: int, first: int = 0, wide: int = WIDE) -> str:
    lines = [f"{SMILES[i % 10]},{first + i}.5,{'.' * wide}" for i in range(rows)]
    return "\n".join(["smiles,t,filler", *lines, ""])


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.sources import smiles

    monkeypatch.setattr(smiles, "_ROWS_PER_BLOCK", 20)


def tu_raw(root: Path, labels: str) -> Path:
    """Three graphs of two nodes and one edge."""
    raw = root / "T" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    (raw / "T_A.txt").write_text("".join(f"{2 * i + 1}, {2 * i + 2}\n{2 * i + 2}, {2 * i + 1}\n" for i in range(3)))
    (raw / "T_graph_indicator.txt").write_text("1\n1\n2\n2\n3\n3\n")
    (raw / "T_graph_labels.txt").write_text(labels)
    return raw / "T_graph_labels.txt"


def csv_case(tmp_path: Path) -> tuple[Path, bytes, Any, dict[str, Any]]:
    path = tmp_path / "molecules.csv"
    path.write_text(table(60))
    return path, table(60, 1000).encode(), f"smiles:{path}", {"targets": ["t"]}


def gz_case(tmp_path: Path) -> tuple[Path, bytes, Any, dict[str, Any]]:
    path = tmp_path / "molecules.csv.gz"
    path.write_bytes(gzip.compress(table(60).encode()))
    return path, gzip.compress(table(60, 1000).encode()), f"smiles:{path}", {"targets": ["t"]}


def parquet_case(tmp_path: Path) -> tuple[Path, bytes, Any, dict[str, Any]]:
    """As many row groups as blocks: what is read of one says nothing of another."""
    path = tmp_path / "molecules.parquet"
    for name, first in (("other", 1000), (path.name, 0)):
        columns = {"smiles": [SMILES[i % 10] for i in range(60)], "t": [first + i + 0.5 for i in range(60)]}
        pq.write_table(pa.table(columns), tmp_path / name, row_group_size=20)
    return path, (tmp_path / "other").read_bytes(), f"smiles:{path}", {"targets": ["t"]}


def tu_case(tmp_path: Path) -> tuple[Path, bytes, Any, dict[str, Any]]:
    return tu_raw(tmp_path, "0\n1\n0\n"), b"1\n0\n1\n", "tudataset:T", {"root": tmp_path}


def split_case(tmp_path: Path) -> tuple[Path, bytes, Any, dict[str, Any]]:
    _, _, source, options = csv_case(tmp_path)
    path = tmp_path / "splits.csv"
    rows = [f"{i},{'ab'[i % 2]}\n" for i in range(60)]
    path.write_text("graph_id,split\n" + "".join(rows))
    other = "graph_id,split\n" + "".join(f"{i},{'ab'[i % 3 == 0]}\n" for i in range(60))
    return path, other.encode(), source, {**options, "split_file": path}


def plan_case(tmp_path: Path) -> tuple[Path, bytes, Any, dict[str, Any]]:
    data = graphs(40)
    sizes = GraphSizes([g.num_nodes for g in data], [g.num_edges for g in data])  # pyright: ignore[reportArgumentType]
    path = tmp_path / "plan.parquet"
    make_plan(sizes, LIMITS, "stream", seed=1).save(tmp_path / "other.parquet")
    make_plan(sizes, LIMITS, "first-fit").save(path)
    return path, (tmp_path / "other.parquet").read_bytes(), data, {"plan": path}


CASES = {
    "csv": csv_case,
    "gz": gz_case,
    "parquet": parquet_case,
    "tudataset": tu_case,
    "split file": split_case,
    "plan": plan_case,
}


@pytest.mark.parametrize("where", ["here", "cluster"])
@pytest.mark.parametrize("kind", CASES)
def test_a_file_that_was_replaced_after_it_was_hashed_is_refused(
    kind: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_blocks: None
) -> None:
    path, other, source, options = CASES[kind](tmp_path)
    stated = hashlib.sha256(path.read_bytes()).hexdigest()
    check_job = build_job.check_job

    def and_then_replaced(job: Any) -> Any:
        checked = check_job(job)
        (tmp_path / "new").write_bytes(other)
        (tmp_path / "new").replace(path)
        return checked

    place = {"workers": 1} if where == "here" else {"executor": Apart()}
    with monkeypatch.context() as patch:
        patch.setattr(build_job, "check_job", and_then_replaced)
        with pytest.raises(SourceError, match=rf"{path.name} has changed while it was read: its SHA-256 is .*{stated}"):
            build(source, tmp_path / "out", LIMITS, **place, **options)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").rglob("manifest.json"))
    build(source, tmp_path / "out", LIMITS, **place, **options)  # of the file as it is now


@pytest.mark.parametrize("kind", ["csv", "gz"])
def test_a_file_that_is_written_to_while_it_is_read_is_refused(kind: str, tmp_path: Path, small_blocks: None) -> None:
    path = tmp_path / ("molecules.csv" if kind == "csv" else "molecules.csv.gz")

    def packed(text: str) -> bytes:
        # Noise, so that the compressed file is longer than any buffer.
        text = text.replace("." * WIDE, os.urandom(WIDE // 2).hex())
        return text.encode() if kind == "csv" else gzip.compress(text.encode(), 0)

    path.write_bytes(packed(table(60)))
    wrote: list[str] = []

    def write(stage: str, done: int, total: int | None) -> None:
        if stage == "scan" and not wrote:
            wrote.append(stage)
            with path.open("r+b") as file:
                file.seek(path.stat().st_size - 30_000)
                file.write(b"x")

    with pytest.raises(SourceError, match=rf"{path.name} (has changed while it was read|is damaged)"):
        build(f"smiles:{path}", tmp_path / "out", LIMITS, workers=1, targets=["t"], progress=write)
    assert wrote and not (tmp_path / "out").exists()


def replaced_in_the_middle(tmp_path: Path, case: Any) -> None:
    """A build during which the file becomes another one after the first block."""
    path, other, source, options = case(tmp_path)
    path.with_name("first").write_bytes(path.read_bytes())

    def replace(stage: str, done: int, total: int | None) -> None:
        (tmp_path / "new").write_bytes(other)
        (tmp_path / "new").replace(path)

    build(source, tmp_path / "out", LIMITS, workers=1, progress=replace, **options)


def test_a_file_that_the_driver_reads_and_that_was_replaced_is_read_to_its_end(
    tmp_path: Path, small_blocks: None
) -> None:
    """The one that was opened: its hash and its graphs."""
    replaced_in_the_middle(tmp_path, gz_case)
    (tmp_path / "first").replace(tmp_path / "molecules.csv.gz")
    build(f"smiles:{tmp_path}/molecules.csv.gz", tmp_path / "again", LIMITS, workers=1, targets=["t"])
    assert hashes(tmp_path / "out") == hashes(tmp_path / "again")


@pytest.mark.parametrize("case", [csv_case, parquet_case])
def test_a_file_that_tasks_read_and_that_was_replaced_is_refused(case: Any, tmp_path: Path, small_blocks: None) -> None:
    with pytest.raises(SourceError, match="has changed while it was read"):
        replaced_in_the_middle(tmp_path, case)
    assert not (tmp_path / "out").exists()


def test_a_key_stays_when_it_is_pinned(tmp_path: Path) -> None:
    path, other, text, options = csv_case(tmp_path)
    source = pinned(parse_source(text, **options))
    before = source.key()
    path.write_bytes(other)
    assert source.key() == before != parse_source(text, **options).key()
    with pytest.raises(SourceError, match="has changed while it was read"):
        list(source.tasks())


def test_a_build_goes_on_from_another_folder_beside_another_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_blocks: None
) -> None:
    """Both lie in a folder of the same name, both are unfinished, and each has blocks that the other lacks."""
    for name, first in (("one", 0), ("two", 70_000)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "molecules.csv").write_text(table(60, first, wide=0))

    def run(name: str, out: str) -> Callable[[], Any]:
        source = f"smiles:{tmp_path / name / 'molecules.csv'}"
        return lambda: build(source, out, LIMITS, "first-fit", workers=1, targets=["t"])

    run("one", str(tmp_path / "reference"))()
    for event in (6, 12, 18):  # after one block or more, and before the table of all
        for name in ("one", "two"):
            monkeypatch.chdir(tmp_path / name)
            assert killed_at(event, run(name, f"packs{event}"))
        there = {path: path.read_bytes() for path in (tmp_path / "two").rglob("*") if path.is_file()}
        monkeypatch.chdir(tmp_path / "two")
        assert list(Path(f"packs{event}/{WORK}/blocks").iterdir())
        run("one", str(tmp_path / "one" / f"packs{event}"))()
        assert hashes(tmp_path / "one" / f"packs{event}") == hashes(tmp_path / "reference")
        assert there == {path: path.read_bytes() for path in (tmp_path / "two").rglob("*") if path.is_file()}
    assert Manifest.load(tmp_path / "reference").counts.packed == 60
