"""Tables that tasks read for themselves: the rows, graphs and errors of reading them from their start."""

from __future__ import annotations

import csv
import decimal
import gzip
import hashlib
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from forks import forked_dask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from packer.errors import SourceError
from packer.limits.pack_limits import PackLimits
from pipelines import build
from pipelines.executors import make_executor
from pipelines.sources import parquet_table, parse_source, smiles, stretches
from pipelines.sources.smiles import ReadingTask
from pipelines.sources.table import Row, csv_rows

LIMITS = PackLimits(64, 160, 9)
PIECES = [*',,,;""CN1é \n\n', "\r\n", "\r", '""', ',"', '",', '\n"', '"\n', "C,1\n", "CC,2\n", '"C",3\n', "\n\n"]


def small_parts(file: Any) -> Iterator[bytes]:
    """As `parts_of`, of a few bytes."""
    while part := file.read(7):
        while part.endswith(b"\r") and (more := file.read(1)):
            part += more
        yield part


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stretches, "parts_of", small_parts)
    monkeypatch.setattr(smiles, "_ROWS_PER_BLOCK", 3)
    monkeypatch.setattr(smiles, "_ROWS_OF_GROUP", 3)


def one_by_one(path: Path) -> list[Row] | str:
    try:
        return list(csv_rows(path, ("smiles", "y")))
    except SourceError as error:
        return str(error)


def by_tasks(path: Path) -> list[Row] | str:
    try:
        tasks = list(parse_source(f"smiles:{path}", targets=["y"]).tasks())
        found = [(task, task.rows) for task in tasks]  # type: ignore[attr-defined]
    except SourceError as error:
        return str(error)
    for task, rows in found:
        assert 1 <= len(rows) <= 3 and task.label == f"lines {rows[0].line} to {rows[-1].line} of {path.name}"
    assert [task.first_id for task in tasks] == list(range(0, sum(len(rows) for _, rows in found), 3))
    return [row for _, rows in found for row in rows]


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["smiles,y", "\ufeffsmiles,y", "y,smiles", '"smiles","y"', 'smiles,"a\nb",y', "smiles;y"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.lists(st.sampled_from(PIECES), max_size=25),
    st.sampled_from([b"", b"", b"", b"\xff", b"\0", b"\xc3"]),
)
def test_tasks_read_the_rows_and_raise_the_errors_of_a_reader_from_the_start(
    tmp_path: Path, small: None, header: str, end: str, pieces: list[str], odd: bytes
) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes((header + end + "".join(pieces)).encode() + odd)
    assert by_tasks(path) == one_by_one(path)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.text(st.characters(exclude_characters="\0", codec="utf-8")), st.integers()), max_size=12),
    st.sampled_from([(csv.QUOTE_ALL, "\n"), (csv.QUOTE_ALL, "\r\n"), (csv.QUOTE_MINIMAL, "\r\n")]),
)
def test_tasks_read_what_csv_writes(
    tmp_path: Path, small: None, cells: list[tuple[str, int]], style: tuple[Any, str]
) -> None:
    path = tmp_path / "m.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=style[0], lineterminator=style[1]).writerows([("smiles", "y"), *cells])
    tasks = list(parse_source(f"smiles:{path}", targets=["y"]).tasks())
    assert all(isinstance(task, ReadingTask) for task in tasks)  # quotes that csv writes can be counted
    assert [row.cells for task in tasks for row in task.rows] == [(text, str(y)) for text, y in cells]  # type: ignore


def test_a_quote_within_a_cell_leaves_the_file_to_one_reader(tmp_path: Path, small: None) -> None:
    path = tmp_path / "m.csv"
    path.write_text('smiles,y,size\nC,1,5"\nCC,2,"6"\n')
    assert not any(isinstance(task, ReadingTask) for task in parse_source(f"smiles:{path}", targets=["y"]).tasks())
    assert by_tasks(path) == one_by_one(path) == [Row(2, ("C", "1")), Row(3, ("CC", "2"))]


def table(rows: int = 120) -> pa.Table:
    texts = ["CCO", "c1ccccc1", "C(", "CC(=O)O", "[nH]1cccc1", "C[C@H](F)Cl", ""]
    return pa.table(
        {
            "smiles": [texts[i % 7] for i in range(rows)],
            "a": [None if i % 5 == 0 else i / 7 for i in range(rows)],
            "b": list(range(rows)),
            "part": [("train", "test", None)[i % 3] for i in range(rows)],
        }
    )


def written(folder: Path) -> dict[str, Path]:
    """The same table in files of several kinds."""
    found = {kind: folder / f"m.{kind}" for kind in ("csv", "csv.gz", "parquet", "large.parquet", "odd.csv")}
    rows = [["" if cell is None else str(cell) for cell in row.values()] for row in table().to_pylist()]
    text = "".join(",".join(row) + "\n" for row in [table().column_names, *rows])
    found["csv"].write_text(text)
    found["csv.gz"].write_bytes(gzip.compress(text.encode()))
    found["odd.csv"].write_text("\ufeff" + text.replace("CCO", '"CCO"').replace("\n", "\r\n") + "\r\n")
    pq.write_table(table(), found["parquet"], row_group_size=31)
    cast = table().set_column(0, "smiles", table()["smiles"].cast(pa.large_string()).dictionary_encode())
    pq.write_table(cast.set_column(3, "part", table()["part"].dictionary_encode()), found["large.parquet"])
    return found


def contents(folder: Path) -> dict[str, str]:
    """Of a data set all that does not name its source or its build."""
    told = ("manifest.json", "build.json", "README.md")
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in told]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_files_of_every_kind_give_the_same_bytes_however_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smiles, "_ROWS_PER_BLOCK", 20)
    asked = {"targets": ["a", "b"], "strings": ["part"], "on_empty": "skip"}
    found: dict[tuple[str, Any], dict[str, str]] = {}
    with (
        forked_dask(),
        closing(make_executor("dask", 2)) as with_dask,
        closing(make_executor("process", 2)) as with_two,
    ):
        places: dict[Any, dict[str, Any]] = {
            1: {"workers": 1},
            2: {"executor": with_two},
            "dask": {"executor": with_dask},
        }
        for kind, path in written(tmp_path).items():
            for where in (1, 2, "dask") if kind in ("csv.gz", "parquet") else (1, "dask"):
                out = tmp_path / f"{kind}-{where}"
                built = build(f"smiles:{path}", out, LIMITS, **places[where], **asked)
                assert built.manifest.counts.packed == 86  # 17 of each of 7 texts, one more of CCO; 5 are molecules
                found[kind, where] = contents(out)
    wanted = found["csv.gz", 1]
    assert len(wanted) >= 3 and all(one == wanted for one in found.values())


def cells(path: Path, **asked: Any) -> list[tuple[str, ...]]:
    tasks = parse_source(f"smiles:{path}", **asked).tasks()
    return [row.cells for task in tasks for row in task.rows]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.dictionary(pa.int8(), pa.string())]
)
def test_texts_of_every_kind(tmp_path: Path, small: None, kind: pa.DataType) -> None:
    texts = pa.array(["C", "é", None, "", "CC"])
    held = texts.dictionary_encode() if pa.types.is_dictionary(kind) else texts.cast(kind)
    pq.write_table(pa.table({"x": [1, 2, 3, 4, 5], "smiles": held}), tmp_path / "m", row_group_size=2)
    assert cells(tmp_path / "m") == [("C",), ("é",), ("",), ("",), ("CC",)]


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (pa.array([1, None, -(2**62)]), ["1", "", str(-(2**62))]),
        (pa.array([0.1, None, float("nan")]), ["0.1", "", "nan"]),
        (pa.array([0.5, 1e20, None], pa.float32()), ["0.5", "1.0000000200408773e+20", ""]),  # the double that it is
        (pa.array([True, None, False]), ["1", "", "0"]),
        (pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("-2.25")]), ["1.50", "", "-2.25"]),
        (pa.array(["7", " 8", None]), ["7", " 8", ""]),
        (pa.array([None, None, None]), ["", "", ""]),
        (pa.array([3, 3, 4]).dictionary_encode(), ["3", "3", "4"]),
    ],
)
def test_numbers_of_every_kind(tmp_path: Path, small: None, values: pa.Array, texts: list[str]) -> None:
    pq.write_table(pa.table({"smiles": ["C", "C", "C"], "y": values}), tmp_path / "m")
    assert [y for _, y in cells(tmp_path / "m", targets=["y"])] == texts


def test_strings_may_be_numbers_and_days(tmp_path: Path, small: None) -> None:
    values = {"smiles": ["C"], "id": [7], "day": [date(2026, 11, 29)], "ok": [True]}
    pq.write_table(pa.table(values), tmp_path / "m")
    assert cells(tmp_path / "m", strings=["id", "day", "ok"]) == [("C", "7", "2026-11-29", "True")]


def test_a_large_row_group_is_shared_by_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, rows in (("_ROWS_PER_BLOCK", 3), ("_ROWS_OF_GROUP", 40)):
        monkeypatch.setattr(smiles, name, rows)
    pq.write_table(pa.table({"smiles": ["C"] * 6002}), tmp_path / "m", row_group_size=6000)
    source = parse_source(f"smiles:{tmp_path / 'm'}")
    # 6,000 rows by at most 128 tasks of at most 40 rows: 47 would be too many, so 150 tasks of 40; then one of 2.
    assert [task.first_id for task in source.tasks()] == [*range(0, 6000, 40), 6000]
    assert [task.label for task in source.tasks()][-2:] == ["rows 5960 to 5999 of m", "rows 6000 to 6001 of m"]
    assert source.num_graphs == 6002


def test_small_row_groups_are_joined_and_the_footer_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smiles, "_ROWS_PER_BLOCK", 10)
    rows = [*range(1, 8), 30, 3, 8]
    whole = pa.table({"smiles": ["C"] * sum(rows), "y": list(range(sum(rows)))})
    with pq.ParquetWriter(tmp_path / "m", whole.schema) as writer:
        first = 0
        for count in rows:
            writer.write_table(whole.slice(first, count))
            first += count
    source = parse_source(f"smiles:{tmp_path / 'm'}", targets=["y"])
    tasks = list(source.tasks())
    assert [task.first_id for task in tasks] == [0, 10, 15, 21, 28, 38, 48, 58, 61]
    made: list[Any] = []
    parquet = parquet_table._parquet
    monkeypatch.setattr(parquet_table, "_parquet", lambda *given: made.append(given) or parquet(*given))
    found = [row for task in tasks for row in task.rows]  # type: ignore[attr-defined]
    assert [row.cells[1] for row in found] == [str(y) for y in range(sum(rows))] and len(made) == 1
    pq.write_table(whole, tmp_path / "m")
    with pytest.raises(SourceError, match="m has changed while it was read"):
        tasks[0].scan()


def refused(path: Path, **asked: Any) -> str:
    with pytest.raises(SourceError) as error:
        for task in parse_source(f"smiles:{path}", **asked).tasks():
            task.scan()
    return str(error.value).replace(f"{path.parent}/", "")


def test_what_is_wrong_with_a_parquet_file_is_told_with_file_row_and_column(tmp_path: Path, small: None) -> None:
    path = tmp_path / "m.parquet"
    columns = {
        "SMILES": ["C", "C", "C", "CC"],
        "y": ["1", "2", "3", "x"],
        "at": [date(2026, 11, 29)] * 4,
        "l": [[1]] * 4,
    }
    pq.write_table(pa.table(columns), path, row_group_size=2)
    assert refused(path) == "m.parquet has no column 'smiles'. Its columns are: SMILES, y, at, l"
    ask = {"smiles_column": "SMILES"}
    assert "did you mean 'y'?" in refused(path, **ask, targets=["y "])
    assert refused(path, **ask, targets=["y"]).startswith("m.parquet, row 3: y is 'x', not a number. Correct it")
    assert refused(path, **ask, targets=["at"]).startswith("m.parquet: column 'at' holds date32[day], not numbers.")
    assert refused(path, **ask, strings=["l"]).startswith("m.parquet: column 'l' holds list<")
    assert "whose cells no delimiter parts" in refused(path, **ask, delimiter=";")
    pq.write_table(pa.table({"smiles": [1, 2]}), path)
    assert refused(path) == "m.parquet: column 'smiles' holds int64, not text. Its columns are: smiles (int64)"
    pq.write_table(pa.table([["C"], ["C"]], names=["smiles", "smiles"]), path)
    assert "has column 'smiles' 2 times (columns 1, 2)" in refused(path)
    pq.write_table(pa.table({"smiles": ["C", "C\0C"]}), path)
    assert refused(path) == "m.parquet, row 1: smiles holds a NUL byte, which no text holds. Restore the file"
    for kind in (pa.binary(), pa.string()):
        held = pa.array([b"C", b"C", b"C", b"\xff"], pa.binary())
        held = held if kind == pa.binary() else pa.StringArray.from_buffers(4, *held.buffers()[1:])
        pq.write_table(pa.table({"smiles": held}), path)
        assert refused(path) == "m.parquet, row 3: smiles is not UTF-8. Write it as UTF-8 text"


def test_a_damaged_parquet_file_is_an_error(tmp_path: Path, small: None) -> None:
    path = tmp_path / "m.parquet"
    pq.write_table(table(), path)
    whole = path.read_bytes()
    for data in (whole[:-20], whole[: len(whole) // 2], whole[:-8] + b"\xff\xff\xff\x7fPAR1", whole[:6]):
        path.write_bytes(data)
        assert "m.parquet is damaged: " in refused(path, targets=["b"])
    random = np.random.default_rng(0)
    for _ in range(25):
        data = bytearray(whole)
        data[random.integers(6, len(data))] ^= 1 << int(random.integers(8))
        path.write_bytes(data)
        try:
            for task in parse_source(f"smiles:{path}", targets=["b"]).tasks():
                task.scan()
        except SourceError:
            pass
    path.write_text("smiles,y\nC,1\n")
    assert "m.parquet is no Parquet file, whatever its name" in refused(path)
