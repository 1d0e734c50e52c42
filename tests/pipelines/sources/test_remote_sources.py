"""Sources at URLs: the same graphs, key and data set as from the file here, whatever the store does."""

from __future__ import annotations

import gzip
import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flaky_store import FlakyFileSystem
from object_store import KEY, SECRET, FaultProxy, make_bucket, s3_environment, s3_options
from pyarrow.csv import read_csv

from packer.errors import BuildError, FormatError, SourceError, StoreError
from packer.files.retry import TRIES
from packer.limits.pack_limits import PackLimits
from pipelines import build
from pipelines.entry import main
from pipelines.sources import as_source, parse_source
from pipelines.sources.protocol import Source
from pipelines.sources.remote import RemoteText, text_file
from pipelines.sources.text import open_file

SMILES = ("CCO", "c1ccccc1", "[nH]1cccc1", "CC(=O)O", "nonsense")
LIMITS = PackLimits(32, 80, 6)
numbers = itertools.count()


def csv_text(rows: int = 2500) -> bytes:
    """More than two blocks of a source."""
    lines = [f"{SMILES[i % 5]},{i}.5,{('train', 'test')[i % 3 == 0]}" for i in range(rows)]
    return ("smiles,t,part\n" + "\n".join(lines) + "\n").encode()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("packer.files.retry._LONGEST_WAIT", 0.01)
    monkeypatch.setattr(FlakyFileSystem, "spoil", None)
    monkeypatch.setattr(FlakyFileSystem, "reads", [])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))


def put(data: bytes, name: str = "mols.csv") -> str:
    """The URL of a new file."""
    url = f"flaky://bucket/source{next(numbers)}/{name}"
    FlakyFileSystem().pipe_file(url, data)
    return url


def rows_of(source: Source) -> list[tuple[Any, ...]]:
    return [(task.first_id, task.label, task.rows) for task in source.tasks()]  # type: ignore[attr-defined]


def as_parquet(data: bytes) -> bytes:
    """The same rows, more than two blocks of them in one row group."""
    held = io.BytesIO()
    pq.write_table(read_csv(pa.py_buffer(data)), held)
    return held.getvalue()


@pytest.mark.parametrize("name", ["mols.csv", "mols.csv.gz", "mols.tsv", "mols.parquet"])
def test_a_url_gives_what_the_file_gives(tmp_path: Path, name: str) -> None:
    data = csv_text().replace(b",", b"\t") if name.endswith("tsv") else csv_text()
    data = gzip.compress(data) if name.endswith("gz") else data
    data = as_parquet(data) if name.endswith("parquet") else data
    (tmp_path / name).write_bytes(data)
    url, options = put(data, name), {"targets": ["t"], "strings": ["part"]}
    here, there = (parse_source(f"smiles:{place}", **options) for place in (tmp_path / name, url))
    assert not FlakyFileSystem.reads, "nothing is read before it is needed"
    assert there.key() == here.key() and there.num_graphs == here.num_graphs
    assert rows_of(there) == rows_of(here) and len(rows_of(here)) == 3
    assert (there.name, there.argv[0]) == (f"smiles:{url}", f"smiles:{url}")
    assert len(FlakyFileSystem.reads) == 1, "fetched once"
    assert text_file(f"file://{tmp_path}/{name}") == tmp_path / name


def test_a_large_file_is_not_held_in_memory_and_read_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("packer.files.remote.PIECE_BYTES", 10_000)
    data = csv_text()
    file = text_file(put(data))
    with open_file(file) as one, open_file(file) as other:
        assert one.read(1000) == other.read(1000) == data[:1000]
        assert one.read() == data[1000:] and other.readline().endswith(b"\n")
        assert one.seekable() is False
    assert max(end - start for _, start, end in FlakyFileSystem.reads) == 10_000


@pytest.mark.parametrize("workers", [1, 2])
def test_a_build_is_byte_identical_to_that_of_the_file_here(
    tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mols.csv").write_bytes(csv_text())
    url = put(csv_text())
    common: dict[str, Any] = {"on_empty": "skip", "split_column": "part", "targets": ["t"]}
    build(f"smiles:{tmp_path / 'mols.csv'}", tmp_path / "here", LIMITS, "first-fit", workers=1, **common)
    build(f"smiles:{url}", tmp_path / "there", LIMITS, "first-fit", workers=workers, **common)
    for split in ("train", "test"):
        for path in (tmp_path / "here" / split).iterdir():
            if path.name != "build.json":
                assert path.read_bytes() == (tmp_path / "there" / split / path.name).read_bytes(), path.name
    assert json.loads((tmp_path / "there" / "build.json").read_bytes())["given"]["source"][0] == f"smiles:{url}"
    FlakyFileSystem().pipe_file(url, csv_text(2000))
    with pytest.raises(BuildError, match="already holds a data set built otherwise"):
        build(f"smiles:{url}", tmp_path / "there", LIMITS, "first-fit", workers=workers, **common)


def test_what_cannot_be_a_source_at_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = put(b"")
    with pytest.raises(SourceError, match=f"^{url} is empty: a CSV file starts with a line of column names"):
        list(parse_source(f"smiles:{url}").tasks())
    with pytest.raises(SourceError, match=f"^cannot read {url}x: there is no such file. Check the URL"):
        parse_source(f"smiles:{url}x").key()
    with pytest.raises(SourceError, match=r"^https://host/m.csv: a source's URL cannot have a query. Pass credentials"):
        parse_source("smiles:https://me:word@host/m.csv?signature=abc")
    for text in ("s3://m.csv", "s3://bucket/"):
        with pytest.raises(SourceError, match=f"^{text} names no file: write it as s3://bucket/molecules.csv"):
            parse_source(f"smiles:{text}")
    with pytest.raises(
        SourceError, match=r"storage_options are for URLs such as s3://bucket/molecules.csv; m.csv is a"
    ):
        parse_source("smiles:m.csv", storage_options={"key": "k"})
    with pytest.raises(FormatError, match="storage_options are for URLs"):
        parse_source("smiles:file:///m.csv", storage_options={"key": "k"})
    with pytest.raises(SourceError, match="storage_options are for smiles: sources at URLs, not for sample:nci"):
        parse_source("sample:nci", storage_options={"key": "k"})
    with pytest.raises(SourceError, match="storage_options describe a source given as text"):
        as_source([], storage_options={"key": "k"})
    with pytest.raises(SourceError, match=f"^{url}.gz is damaged: Not a gzipped file"):
        FlakyFileSystem().pipe_file(f"{url}.gz", b"plain")
        list(parse_source(f"smiles:{url}.gz").tasks())


def test_a_file_that_changes_while_it_is_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("packer.files.remote.PIECE_BYTES", 10_000)
    url = put(csv_text())

    def overwrite(path: str, data: bytes) -> bytes:
        FlakyFileSystem().pipe_file(url, csv_text())
        return data

    monkeypatch.setattr(FlakyFileSystem, "spoil", staticmethod(overwrite))
    with pytest.raises(SourceError, match=f"^{url} was written to while it was read: run again when it is complete"):
        parse_source(f"smiles:{url}").key()


def test_faults_of_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, data: bytes) -> bytes:
        raise PermissionError("password hunter2 is wrong")

    def fail(path: str, data: bytes) -> bytes:
        raise ConnectionResetError("by peer")

    source = parse_source(f"smiles:{put(csv_text())}", storage_options={"password": "hunter2"})
    monkeypatch.setattr(FlakyFileSystem, "spoil", staticmethod(refuse))
    with pytest.raises(StoreError, match=r"mols.csv: .*access denied \(PermissionError: password \*\*\* is wrong\)"):
        source.key()
    monkeypatch.setattr(FlakyFileSystem, "spoil", staticmethod(fail))
    with pytest.raises(StoreError, match=rf"mols.csv: .* failed {TRIES} times"):
        source.key()
    monkeypatch.setattr(FlakyFileSystem, "spoil", None)
    assert len(rows_of(source)) == 3, "and once it is over, goes on"
    assert "hunter2" not in repr(source) + str(source) + repr(source.key()) + source.name


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[FaultProxy]:
    make_bucket(s3_endpoint, "sources")
    with FaultProxy(s3_endpoint, seed=3) as found:
        yield found


@pytest.fixture
def environment(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    s3_environment(monkeypatch, proxy.url)


def upload(data: bytes, proxy: FaultProxy, name: str) -> str:
    import s3fs

    s3fs.S3FileSystem(**s3_options(proxy.url)).pipe_file(f"sources/{name}", data)
    return f"s3://sources/{name}"


def test_s3_with_a_tenth_of_the_requests_failing(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("packer.files.remote.PIECE_BYTES", 2000)
    data = csv_text()
    url = upload(data, proxy, "ten/mols.csv")
    proxy.share = 0.1
    for _ in range(3):
        file = text_file(url, s3_options(proxy.url, own_retries=False))
        assert isinstance(file, RemoteText)
        assert file.open().read() == data and KEY not in repr(file)
    assert sum(proxy.faults.values()) >= 2, "the network did fail"


def test_the_commands_take_an_s3_source(
    proxy: FaultProxy, environment: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    url = upload(gzip.compress(csv_text(400)), proxy, "commands/mols.csv.gz")
    source = [f"smiles:{url}", "--target", "t", "--on-empty", "skip", "--workers", "2", "--json"]
    limits = ["--num-nodes", "32", "--num-edges", "80", "--num-graphs", "6"]

    def call(command: str, *more: str) -> dict[str, Any]:
        status = main([command, *source, *more])
        out, err = capfd.readouterr()
        assert status == 0, err
        assert KEY not in out + err and SECRET not in out + err
        return json.loads(out)

    proxy.share = 0.1
    assert call("scan")["source"] == f"smiles:{url}"
    assert call("plan", *limits, "--algorithm", "first-fit", "--out", str(tmp_path / "plan.parquet"))["graphs"] == 320
    assert call("compare", *limits, "--algorithm", "stream")["plans"][0]["packs"] > 50
    assert call("suggest", "--num-graphs", "6", "--time-limit", "1")["best"]
    built = call("build", "--plan", str(tmp_path / "plan.parquet"), "--out", str(tmp_path / "packs"))
    assert next(iter(built["data_sets"].values()))["graphs"]["packed"] == 320
    proxy.share = 0.0
    assert main(["scan", "smiles:s3://sources/none.csv"]) == 1
    assert "cannot read s3://sources/none.csv: there is no such file. Check the URL" in capfd.readouterr().err
