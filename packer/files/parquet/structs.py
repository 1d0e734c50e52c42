"""What may stand in the Thrift structs of a Parquet file of ours: those parts of parquet.thrift that pyarrow writes.

Left out, and so refused: encryption, column chunks in other files, page indexes, Bloom filters, pages of version 2.
"""

from __future__ import annotations

from typing import Mapping

from packer.files.parquet.thrift import BINARY, BOOL, BYTE, I16, I32, I64, LIST, STRUCT, Fields

MAX_HEADER_BYTES = 1024
"""Bytes of a page header: 40 or so without statistics."""
MAX_CHUNK_BYTES = 4096
"""Bytes of a column chunk's metadata, which pyarrow up to version 17 repeats after its pages."""
MAX_FOOTER_BYTES = 64 << 20
"""Bytes of a footer: half a million column chunks."""
ROWS_PER_BYTE = 16
"""Rows that a byte of a file may stand for: an id, different in each row, takes about a byte at least."""
MAX_COLUMNS = 1 << 15
"""Columns of a file."""
_SMALL_ROWS = 1 << 16
_FEW, _MANY = 16, 1 << 20
"""Entries of lists about one column, and row groups of a file."""

_EMPTY = Fields("an empty struct", {})
_STATISTICS = Fields(
    "page statistics",
    {
        **dict.fromkeys((1, 2, 5, 6), (BINARY, None)),
        **dict.fromkeys((3, 4), (I64, None)),
        **dict.fromkeys((7, 8), (BOOL, None)),
    },
)
_DATA_PAGE = Fields(
    "a data page's header",
    {1: (I32, None), 2: (I32, None), 3: (I32, None), 4: (I32, None), 5: (STRUCT, _STATISTICS)},
    (1, 2, 3, 4),
)
_DICTIONARY_PAGE = Fields("a dictionary page's header", {1: (I32, None), 2: (I32, None), 3: (BOOL, None)}, (1, 2))
PAGE_HEADER = Fields(
    "a page header",
    {**dict.fromkeys((1, 2, 3, 4), (I32, None)), 5: (STRUCT, _DATA_PAGE), 7: (STRUCT, _DICTIONARY_PAGE)},
    (1, 2, 3),
)

_KEY_VALUE = Fields("a key with its value", {1: (BINARY, None), 2: (BINARY, None)}, (1,))
_ENCODING_STATS = Fields("encoding statistics", {1: (I32, None), 2: (I32, None), 3: (I32, None)}, (1, 2, 3))
_SIZES = Fields("size statistics", {1: (I64, None), 2: (LIST, (I64, None, _FEW)), 3: (LIST, (I64, None, _FEW))})
_COLUMN = Fields(
    "a column's metadata",
    {
        1: (I32, None),
        2: (LIST, (I32, None, _FEW)),
        3: (LIST, (BINARY, None, _FEW)),
        4: (I32, None),
        **dict.fromkeys((5, 6, 7, 9, 11), (I64, None)),
        8: (LIST, (STRUCT, _KEY_VALUE, _FEW)),
        12: (STRUCT, _STATISTICS),
        13: (LIST, (STRUCT, _ENCODING_STATS, _FEW)),
        16: (STRUCT, _SIZES),
    },
    (1, 2, 3, 4, 5, 6, 7, 9),
)
COLUMN_CHUNK = Fields("a column chunk", {2: (I64, None), 3: (STRUCT, _COLUMN)}, (2, 3))
_SORTED = Fields("a sorting column", {1: (I32, None), 2: (BOOL, None), 3: (BOOL, None)}, (1, 2, 3))
_ROW_GROUP = Fields(
    "a row group",
    {
        1: (LIST, (STRUCT, COLUMN_CHUNK, MAX_COLUMNS)),
        **dict.fromkeys((2, 3, 5, 6), (I64, None)),
        4: (LIST, (STRUCT, _SORTED, _FEW)),
        7: (I16, None),
    },
    (1, 2, 3),
)


def most_rows(size: int) -> int:
    """Rows that a file of `size` bytes may hold: more are not ids that ascend, but a few bytes said over and over."""
    return _SMALL_ROWS + ROWS_PER_BYTE * size


def _union(name: str, members: Mapping[int, Fields]) -> Fields:
    return Fields(name, {number: (STRUCT, fields) for number, fields in members.items()})


_TIME = Fields(
    "a time's type", {1: (BOOL, None), 2: (STRUCT, _union("a unit of time", dict.fromkeys((1, 2, 3), _EMPTY)))}, (1, 2)
)
_DECIMAL = Fields("a decimal's type", {1: (I32, None), 2: (I32, None)}, (1, 2))
_INTEGER = Fields("an integer's type", {1: (BYTE, None), 2: (BOOL, None)}, (1, 2))
_LOGICAL = _union(
    "a logical type",
    {**dict.fromkeys((1, 2, 3, 4, 6, 11, 12, 13, 14, 15), _EMPTY), 5: _DECIMAL, 7: _TIME, 8: _TIME, 10: _INTEGER},
)
_ELEMENT = Fields(
    "a column of the schema",
    {
        **dict.fromkeys((1, 2, 3, 5, 6, 7, 8, 9), (I32, None)),
        4: (BINARY, None),
        10: (STRUCT, _LOGICAL),
    },
    (4,),
)
FOOTER = Fields(
    "the footer",
    {
        1: (I32, None),
        2: (LIST, (STRUCT, _ELEMENT, MAX_COLUMNS + 1)),
        3: (I64, None),
        4: (LIST, (STRUCT, _ROW_GROUP, _MANY)),
        5: (LIST, (STRUCT, _KEY_VALUE, _FEW)),
        6: (BINARY, None),
        7: (LIST, (STRUCT, _union("an order of columns", {1: _EMPTY, 2: _EMPTY}), MAX_COLUMNS)),
    },
    (1, 2, 3, 4),
)
