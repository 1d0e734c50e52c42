"""Text sources: the table and the numbers that are read are those that are there, or an error names the place."""

import bz2
import csv
import gzip
import io
import lzma
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from packer.errors import SourceError
from pipelines.building.splits import by_file
from pipelines.sources import parse_source
from pipelines.sources.table import Row, csv_rows
from pipelines.sources.targets import Targets, missing_of
from pipelines.sources.text import count_lines


def rows(path: Path, content: str | bytes, columns: tuple[str, ...] = ("smiles", "y"), **asked: Any) -> list[Row]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(csv_rows(path, columns, **asked))


def refused(path: Path, content: str | bytes, **asked: Any) -> str:
    with pytest.raises(SourceError) as error:
        rows(path, content, **asked)
    return str(error.value).removeprefix(str(path))


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ('smiles,y,n\nC,1,a\nCC,2,"5 inch\nCCC,3,b\n', ", line 3: a quote begins a cell here and is never closed"),
        ('smiles,"y\nC,1\n', ", line 1: a quote begins a cell here and is never closed"),
        ('smiles,y,n\nC,1,"a\n\nb\nCC,2,"x"\n', ", line 2: a quote begins a cell here, and text follows .* on line 5"),
        ('smiles,y\n"C"C,1\n', ", line 2: text follows the quote that closes a cell"),
        # The cell of lines 2 and 3 is whole; the one that opens on line 4 is not.
        ('smiles,y,n\nC,1,"a\nb"\nCC,2,"\n', ", line 4: a quote begins a cell here and is never closed"),
        ("smiles,y,y\nC,1,2\n", r" has column 'y' 2 times \(columns 2, 3\): rename all but one"),
        ("smiles,y, y\nC,1,2\n", " has column 'y' 2 times"),
        ('smiles,y,n\nC,1,"a\nb"\nC,1\n', ", line 4: 2 cells, but the header names 3 columns"),
        ("smiles,y\nC,1,\n", ", line 2: 3 cells, but the header names 2 columns"),
        ("", " is empty: a CSV file starts with a line of column names"),
        ("\nsmiles,y\n", ", line 1 is blank"),
        ("smiles y\nC 1\n", r" has no column 'smiles'.* \(parted by ','; delimiter \(--delimiter\) names another\)"),
        (b"smiles,y\rC,1\r\nC\0,1\n", ", line 3: a NUL byte, which no text holds"),
        (b"smiles,y\r\n" * 9000 + b"C\xe9,1\n", ", line 9001: byte 0xe9 is not UTF-8. Write it as UTF-8 text"),
        ("smiles,y\nC,1\n".encode("utf-16"), " is UTF-16 or UTF-32 text: write it as UTF-8 text, plain or gzipped"),
        (b"smiles,y\nC,1\n\xc3", " ends within a character: restore the file"),
        (bz2.compress(b"smiles,y\n"), " is compressed by bzip2"),
        (lzma.compress(b"smiles,y\n"), " is compressed by xz"),
        (b"\x28\xb5\x2f\xfd\x04\0", " is compressed by zstd"),
        (gzip.compress(gzip.compress(b"smiles,y\n", mtime=0), mtime=0), ", once unzipped, is gzipped once more"),
        (gzip.compress(b"smiles,y\nC,1\n", mtime=0)[:-5], " is damaged: Compressed file ended before"),
        (gzip.compress(b"smiles,y\nC,1\n", mtime=0) + b"more", " is damaged: Not a gzipped file"),
    ],
)
def test_a_table_that_is_not_what_it_seems_is_an_error_with_the_place(
    tmp_path: Path, content: str | bytes, fault: str
) -> None:
    assert re.match(fault, refused(tmp_path / "m.csv", content), re.DOTALL)


def test_archives_and_what_is_only_called_gz(tmp_path: Path) -> None:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("m.csv", "smiles,y\n")
    assert " is a zip archive, as .xlsx files are too" in refused(tmp_path / "m.csv", held.getvalue())
    assert " is damaged: Not a gzipped file" in refused(tmp_path / "m.csv.GZ", "smiles,y\n")


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
@pytest.mark.parametrize("name", ["m.csv", "m", "m.csv.GZ", "m.tsv"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_same_rows_by_any_name_delimiter_and_line_end(tmp_path: Path, name: str, end: str, delimiter: str) -> None:
    lines = ['\ufeffsmiles#y#"a,b;c;d\te,f,g,h"', "CCO#1#", "", f'"C"#2#"x{end}""y"" #"', "CC#3#z"]
    text = end.join(lines).replace("#", delimiter).encode()
    data = gzip.compress(text[:9]) + gzip.compress(text[9:]) if name in ("m", "m.csv.GZ") else text
    asked: dict[str, Any] = {"delimiter": "|"} if delimiter == "|" else {}
    found = rows(tmp_path / name, data, **asked)
    assert found == [Row(2, ("CCO", "1")), Row(4, ("C", "2")), Row(6, ("CC", "3"))]
    assert count_lines(tmp_path / name) == (None if data is not text else 6)


table = st.lists(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), min_size=2, max_size=2))


@given(table, st.sampled_from(",;\t"), st.sampled_from(["\n", "\r\n"]))
def test_what_csv_writes_is_read_back(tmp_path_factory: Any, cells: list[list[str]], delimiter: str, end: str) -> None:
    path = tmp_path_factory.mktemp("t") / "m.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
        writer.writerows([["smiles", "y"], *cells])
    assert [row.cells for row in csv_rows(path, ("y", "smiles"))] == [(b, a) for a, b in cells]


def read(*cells: str, dtype: str = "float32", **asked: Any) -> np.ndarray:
    found = [Row(line, ("C", cell)) for line, cell in enumerate(cells, 2)]
    return Targets(("y",), dtype, **asked).read(found, "m.csv")[:, 0]


@pytest.mark.parametrize("cell", ["1_000", "<5", "²", "0x10", "inf", "-inf", "NA", "1,5", "1e", "+-1", ".", "١"])
def test_what_is_no_number_is_refused(cell: str) -> None:
    with pytest.raises(
        SourceError, match=r"m\.csv, line 3: y is .*, not a number. Correct it, or name it in missing \(--missing\)"
    ):
        read("1", cell)


@pytest.mark.parametrize(
    ("cell", "dtype", "becomes", "remedy"),
    [
        ("1e39", "float32", "inf", "Pass target_dtype='float64' (--target-dtype)"),
        ("16777217", "float32", "16777216", "Pass target_dtype='float64' (--target-dtype)"),
        ("-16777217.0", "float32", "-16777216", "Pass target_dtype='float64' (--target-dtype)"),
        ("1.6777217e7", "float32", "16777216", "Pass target_dtype='float64' (--target-dtype)"),
        ("1e-50", "float32", "0", "Pass target_dtype='float64' (--target-dtype)"),
        ("1e400", "float64", "inf", "Round it, or scale the column"),
        ("1e-400", "float64", "0", "Round it, or scale the column"),
        ("9007199254740993", "float64", "9007199254740992", "Round it"),  # 2**53 + 1
        ("9007199254740993", "float32", "9007199254740992", "Round it"),
    ],
)
def test_a_number_that_the_dtype_cannot_hold_is_refused(cell: str, dtype: str, becomes: str, remedy: str) -> None:
    with pytest.raises(SourceError) as error:
        read("1.5", "", cell, dtype=dtype)
    assert str(error.value).startswith(f"m.csv, line 4: y is {cell!r}, of which {dtype} makes {becomes}. {remedy}")


def test_numbers_that_are_held_or_rounded_as_usual() -> None:
    cells = ["0.1", "-59455.14628376", "16777216", "1e20", "0", "-0.0", "0e9", "1e-45", " 7 ", "9007199254740992", ".5"]
    assert np.array_equal(read(*cells), np.array([float(cell) for cell in cells], np.float32))
    assert np.array_equal(read(*cells, dtype="float64"), np.array([float(cell) for cell in cells]))
    assert read("16777217", "1e39", dtype="float64").tolist() == [16777217.0, 1e39]


def test_cells_that_are_named_as_missing_are_nan_and_no_others() -> None:
    assert np.isnan(read("", "nan", "NaN", " ")).all()
    named = missing_of("NA,-999,")
    assert named == ("NA", "-999", "") == missing_of(["NA", "-999,"])
    assert np.isnan(read("NA", "-999.0", "", " NA ", missing=named)).all()
    for cell in ("nan", "N/A"):
        with pytest.raises(SourceError, match=f"y is '{cell}', not a number"):
            read(cell, missing=named)
    with pytest.raises(SourceError, match="y is '', not a number"):
        read("", missing=missing_of("NA"))
    with pytest.raises(SourceError, match="missing names no cells"):
        missing_of([])


@given(st.integers(-(2**60), 2**60), st.sampled_from(["float32", "float64"]))
def test_whole_numbers_are_exact_or_refused(number: int, dtype: str) -> None:
    try:
        assert int(read(str(number), dtype=dtype)[0]) == number
    except SourceError:
        assert int(np.dtype(dtype).type(number)) != number


def test_options_change_key_and_words_only_where_they_are_given(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("smiles;y\nC;1\n")
    text = f"smiles:{tmp_path}/m.csv"
    plain = parse_source(text, targets=["y"])
    assert not {"target_dtype", "missing", "delimiter"} & plain.key().keys()
    assert plain.argv == (text, "--smiles-column", "smiles", "--target", "y")
    asked = parse_source(text, targets=["y"], target_dtype="float64", missing="NA,", delimiter="tab")
    found = {name: asked.key()[name] for name in ("target_dtype", "missing", "delimiter")}
    assert found == {"target_dtype": "float64", "missing": ["NA", ""], "delimiter": "\t"}
    assert asked.argv[5:] == ("--target-dtype", "float64", "--missing", "NA,", "--delimiter", "\t")
    assert parse_source(text, targets=["y"], target_dtype="float32").key() == plain.key()


@pytest.mark.parametrize(
    ("source", "options", "fault"),
    [
        ("smiles:m.csv", {"target_dtype": "float16"}, "target_dtype must be float32 or float64; got 'float16'"),
        ("smiles:m.csv", {"delimiter": '"'}, "delimiter must be one character such as ; or tab"),
        ("smiles:m.csv", {"delimiter": ", "}, "delimiter must be one character such as ; or tab"),
        ("sample:nci", {"missing": "NA"}, r"missing \(--missing\): for smiles: sources, not for sample:nci"),
    ],
)
def test_options_that_are_none(source: str, options: dict[str, Any], fault: str) -> None:
    with pytest.raises(SourceError, match=fault):
        parse_source(source, **options)


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("s.csv", 'graph_id,split\n0,"a\n1,a\n', "line 2: a quote begins a cell here and is never closed"),
        ("s.csv", "graph_id,split,split\n0,a,b\n", "has column 'split' 2 times"),
        ("s.csv", "graph_id,split\n0,a,b\n", "line 2: 3 cells, but the header names 2 columns"),
        ("s.csv", "graph_id,split\n1_0,a\n", "line 2: graph_id is '1_0', not a whole number"),
        ("s.json", '{"a": [0, 1.7]}', "split 'a' names 1.7, which is no whole number"),
        ("s.json", '{"a": ["1_0"]}', "split 'a' names '1_0', which is no whole number"),
        ("s.json", '{"a": 3}', "must hold"),
        pytest.param("s.json", '{"a": ' + "[" * 100_000, "must hold", id="nested"),
        pytest.param("s.json", '{"a": [1' + "0" * 5000 + "]}", "must hold", id="long number"),
    ],
)
def test_split_files_are_read_as_strictly(tmp_path: Path, name: str, content: str, fault: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(SourceError, match=fault):
        by_file(tmp_path / name, 2)


def test_split_files_may_be_gzipped(tmp_path: Path) -> None:
    for name, text in (("s", "graph_id;split\r\n0;a\r\n1;b\r\n"), ("s.json.gz", '{"a": [0], "b": [1]}')):
        (tmp_path / name).write_bytes(gzip.compress(text.encode()))
        assert {split: ids.tolist() for split, ids in by_file(tmp_path / name, 2).items()} == {"a": [0], "b": [1]}
