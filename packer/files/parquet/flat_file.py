"""A Parquet file of flat columns, read a row group at a time: what is decoded is the memory that was looked through.

The file is never mapped, and never handed to Arrow: one that is cut short or written to meanwhile is an error.
"""

from __future__ import annotations

import io
from typing import Any, Collection, Iterator, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from packer.errors import FormatError
from packer.files.atomic import sha256_of
from packer.files.open import place_of
from packer.files.parquet.checks import (
    MAGIC,
    MAX_GROUP_BYTES,
    TAIL_BYTES,
    Chunk,
    check_chunks,
    flat_footer,
    footer_bytes,
)
from packer.files.parquet.structs import most_rows
from packer.files.protocol import Entry, PlacedFile, Where


class Readable(Protocol):
    """What is read from: the part of a PlacedFile that it takes."""

    @property
    def size(self) -> int: ...
    def read(self, offset: int, size: int) -> bytearray: ...


class FlatParquet:
    """A file of numbers and texts, one level deep. columns: names; rows: of all groups; metadata: of the schema.

    Raises FormatError for a file that no writer of ours would make, and when its groups are read.
    """

    def __init__(self, file: Readable, least_most_rows: int = 0) -> None:
        """least_most_rows: so many rows are accepted of a file however small."""
        self._file = file
        size = file.size
        if size < len(MAGIC) + TAIL_BYTES or bytes(file.read(0, len(MAGIC))) != MAGIC:
            raise FormatError("it is not a Parquet file")
        length = footer_bytes(bytes(file.read(size - TAIL_BYTES, TAIL_BYTES)), size)
        footer = bytes(file.read(size - length, length))
        parsed = flat_footer(footer, size, max(least_most_rows, most_rows(size)))
        self.columns, self.rows, self.metadata = parsed.columns, parsed.rows, parsed.metadata
        self._groups = parsed.groups
        self._held = _Held(size)
        try:
            about = pq.read_metadata(pa.BufferReader(MAGIC + footer))
            self._parquet: Any = pq.ParquetFile(
                self._held, metadata=about, pre_buffer=False, page_checksum_verification=True
            )
            self.schema: pa.Schema = self._parquet.schema_arrow
        except (pa.ArrowException, OSError, ValueError) as error:
            raise FormatError(f"its footer cannot be read: {error}") from error

    def tables(self, columns: Collection[str] | None = None) -> Iterator[pa.Table]:
        """The row groups, each in memory of its own: all columns, or those named, in the file's order."""
        wanted = None if columns is None else {name.encode() for name in columns}
        for number, group in enumerate(self._groups):
            chunks = [chunk for chunk in group if wanted is None or chunk.name in wanted]
            held = [self._read(chunk) for chunk in chunks]
            check_chunks(chunks, held)
            self._held.pieces = {chunk.start: data for chunk, data in zip(chunks, held)}
            try:
                table = self._parquet.read_row_group(number, columns=columns, use_threads=False)
                table.validate(full=True)
            except (pa.ArrowException, OSError, ValueError) as error:
                raise FormatError(str(error)) from error
            finally:
                self._held.pieces = {}
            yield table

    def _read(self, chunk: Chunk) -> bytearray:
        size = chunk.end - chunk.start
        if size > MAX_GROUP_BYTES + (MAX_GROUP_BYTES >> 4):
            raise FormatError(f"a column chunk takes {size} bytes: it decodes to more than {MAX_GROUP_BYTES}")
        return self._file.read(chunk.start, size)


class _Held(io.RawIOBase):
    """A file of which only the pieces of a row group can be read: start -> bytes."""

    def __init__(self, size: int) -> None:
        self.pieces: dict[int, bytearray] = {}
        self._size, self._at = size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read_buffer(self, size: int) -> pa.Buffer:
        """What Arrow asks for: a piece from its start on, without a copy."""
        piece = self.pieces.get(self._at)
        if piece is None or not 0 <= size <= len(piece):
            raise OSError(f"{size} bytes at {self._at} are not those of a column chunk")
        self._at += size
        return pa.py_buffer(memoryview(piece)[:size])

    def read(self, size: int = -1) -> bytes:
        return self.read_buffer(size).to_pybytes()


class WholeFile:
    """A file of a data set with the size that the manifest says, on this machine, as a context: what is read through
    `file` is asked of the descriptor each time. Raises FormatError, StoreError."""

    def __init__(self, where: Where, name: str, entry: Entry) -> None:
        self._name, self._entry = name, entry
        self._opened = place_of(where).open(name, entry)
        try:
            self.file = self._local(self._opened)
        except BaseException:
            self._opened.close()
            raise

    def _local(self, file: PlacedFile) -> PlacedFile:
        if file.size != self._entry.bytes or file.size == 0:
            raise FormatError(f"{self._name} has {file.size} bytes, the manifest says {self._entry.bytes}")
        return file.local()

    def check_sha256(self) -> None:
        """Raises FormatError unless the file, or another copy of it, is the one that the manifest describes."""
        if self._is_sound():
            return
        copy = self._opened.renewed()
        if copy is not None:
            self.file.close()
            self._opened = copy
            self.file = self._local(copy)
            if self._is_sound():
                return
        raise FormatError("its SHA-256 is not the one that the manifest says")

    def _is_sound(self) -> bool:
        return sha256_of(self.file.read, self.file.size) == self._entry.sha256

    def __enter__(self) -> WholeFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self._opened.close()
