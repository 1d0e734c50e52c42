"""Files of frames (extxyz, .traj, ASE's .db and .aselmdb): where each frame lies in them, and one frame after another.

Nothing here unpickles or evaluates: extxyz is text, .traj (ulm) and .db are JSON and plain arrays, .aselmdb is zipped
JSON. Constraints are not made into objects, and forces are those that the file holds.
"""

from __future__ import annotations

import io
import sqlite3
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from glob import has_magic
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from packer.errors import MissingExtraError, PackerError, SourceError
from pipelines.sources.text import digest, has_changed, open_file, written
from pipelines.text.clean import line


@dataclass(frozen=True, eq=False)
class Frame:
    """One structure as its file has it.

    numbers: [atoms]; positions: [atoms, 3]; cell: [3, 3]; pbc: [3]; results: of a calculation, by ASE's names; arrays:
    more values of each atom; info: more values of the frame.
    """

    numbers: np.ndarray
    positions: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray
    results: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, Any] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)

    def find(self, name: str) -> Any:
        """What the frame has by this name; None: nothing."""
        values = (held[name] for held in (self.results, self.arrays, self.info) if name in held)
        return next((value for value in values if value is not None), None)


class FaultyFrame(Exception):
    """A frame that is no graph; its text is the reason."""


class Pin(NamedTuple):
    """A file as it was when the job began. stamp: what changes when it is written to; looked at before the hash."""

    sha256: str
    stamp: tuple[int, ...]

    @classmethod
    def of(cls, path: Path) -> Pin:
        check_settled(path)
        stamp = written(path)
        return cls(digest(path), stamp)

    def check(self, path: Path) -> None:
        """Raise SourceError for another file. A copy on another machine is read once, for its hash."""
        check_settled(path)
        if written(path) != self.stamp and digest(path) != self.sha256:
            raise has_changed(path, digest(path), self.sha256)


def check_settled(path: Path) -> None:
    """SourceError for a database of which SQLite keeps some in another file: a pin is of the file alone."""
    if path.suffix != ".db":
        return
    for ending in ("-wal", "-journal"):
        beside = Path(f"{path.resolve()}{ending}")
        with suppress(OSError):
            if beside.stat().st_size:
                raise SourceError(
                    f"{beside} holds changes of {path}, which is being written to, or was not closed. Close what has "
                    f"it open, then run: sqlite3 {path} 'PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode=DELETE'"
                )


def unreadable(error: Exception) -> FaultyFrame:
    """A frame at which ASE fails."""
    return FaultyFrame(f"ASE cannot read it: {short_error(error)}")


Spans = np.ndarray
"""Where frames lie, int64 [frames, 2]: first and last byte of text; number or row, twice, in the other files."""
Read = Callable[[int, int], Frame]
"""One frame by its span. Raises FaultyFrame, and whatever ASE raises for what it cannot read."""


def files_of(text: str) -> tuple[Path, ...]:
    """The files that are named: a file, a folder (its files of frames), a pattern such as data/*.extxyz, or several of
    them with commas between. SourceError where there is none, or a kind that is not known."""
    if "://" in text:
        raise SourceError(f"ase:{text}: files of frames are read in pieces by every worker: copy them to a disk first")
    parts = [text] if Path(text).exists() else text.split(",")
    if not all(part.strip() for part in parts):
        raise SourceError(f"ase:{text} names a file with an empty name: leave out the comma; a dot is this folder")
    paths = [path for part in parts for path in _named(part)]
    for path in paths:
        if path.suffix not in KINDS:
            raise SourceError(f"{path} is of no known kind: frames are read from {', '.join(KINDS)}")
    first: dict[object, Path] = {}
    for path in paths:
        other = first.setdefault(_same(path), path)
        if other is not path:
            also = "" if other == path else f", once as {other}"
            raise SourceError(f"ase:{text} names {path} twice{also}: name each file once")
    return tuple(paths)


def _same(path: Path) -> object:
    """What all names of a file have in common."""
    with suppress(OSError, ValueError):
        about = path.stat()
        return about.st_dev, about.st_ino
    return path


def _named(part: str) -> list[Path]:
    path = Path(part)
    if path.is_dir():
        paths = sorted(inside for inside in path.iterdir() if inside.suffix in KINDS and inside.is_file())
        if not paths:
            raise SourceError(f"the folder {path} holds no file of frames ({', '.join(KINDS)})")
        return paths
    if not path.exists() and has_magic(part):
        paths = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        if not paths:
            raise SourceError(f"no file is called {part}")
        return paths
    return [path]


def spans_of(path: Path) -> Spans:
    """The spans of all frames of a file. SourceError for what is no such file."""
    check_settled(path)
    return _spans(path, *written(path))


@lru_cache(maxsize=1024)
def _spans(path: Path, *_: int) -> Spans:
    try:
        spans = KINDS[path.suffix].spans(path)
    except (PackerError, ImportError):
        raise
    except Exception as error:  # whatever damaged files make of their readers
        raise SourceError(f"{path} is no {KINDS[path.suffix].name}, or damaged: {short_error(error)}") from error
    return np.array(spans, dtype=np.int64).reshape(-1, 2)


def frames_in(path: Path) -> AbstractContextManager[Read]:
    """A function that reads frames of the file by their spans, while the file is open."""
    check_settled(path)
    return KINDS[path.suffix].opened(path)


def short_error(error: BaseException) -> str:
    """An error of somebody else's code in one short line."""
    return line(f"{type(error).__name__}: {error}")[:120].rstrip(": ")


def import_ase() -> None:
    """MissingExtraError without the packages that read frames."""
    try:
        import ase as ase
        import matscipy as matscipy
    except ImportError as error:
        raise MissingExtraError("ase and matscipy", "atoms", "reading atoms") from error


def _spans_of_text(path: Path) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    at = lines = 0
    with open_file(path) as file:
        while first := file.readline():
            try:
                atoms = int(first)
            except ValueError:
                if not first.strip() and not file.read().strip():
                    break
                atoms = -1
            if atoms < 0:
                raise SourceError(
                    f"{path}, line {lines + 1}: frame {len(spans)} begins with its number of atoms; got "
                    f"{line(first[:40].decode(errors='replace').strip())!r}"
                )
            stop = at + len(first) + sum(map(len, islice(file, atoms + 1)))
            spans.append((at, stop))
            at, lines = stop, lines + atoms + 2
    return spans


@contextmanager
def _opened_text(path: Path) -> Generator[Read]:
    from ase.io.extxyz import read_xyz

    with open_file(path) as file:

        def read(start: int, stop: int) -> Frame:
            file.seek(start)
            text = file.read(stop - start).decode()
            number, lines = int(text.partition("\n")[0]), text.count("\n") + (not text.endswith("\n"))
            if lines < number + 2:
                raise FaultyFrame("the file ends within it")
            if not text.endswith("\n"):  # a number may have lost digits
                raise FaultyFrame("the file ends within its last line, which lacks its line end")
            if not number:
                raise FaultyFrame("no atoms")
            try:
                atoms: Any = next(read_xyz(io.StringIO(text), 0))
            except KeyError as error:
                if error.args[0] in text.split("\n", 2)[2].split():
                    raise FaultyFrame(f"unknown element {line(str(error.args[0]))[:40]}") from error
                raise
            results = {} if atoms.calc is None else atoms.calc.results
            return Frame(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, results, atoms.arrays, atoms.info)

        yield read


def _spans_of_ulm(path: Path) -> list[tuple[int, int]]:
    with _ulm(path) as file:
        if file.get_tag() != "ASE-Trajectory":
            raise SourceError(f"{path} is no trajectory: it holds {line(file.get_tag())!r}")
        return [(number, number) for number in range(len(file))]


def _ulm(path: Path) -> Any:
    from ase.io import ulm

    return ulm.open(path, "r")


@contextmanager
def _opened_ulm(path: Path) -> Generator[Read]:
    with _ulm(path) as file:

        def read(number: int, _: int) -> Frame:
            frame = file[number]
            head = frame if "numbers" in frame else file  # what frames share is with the first
            results, info = frame.get("calculator"), frame.get("info")
            return Frame(
                head.numbers,
                frame.positions,
                np.asarray(frame.cell, dtype=np.float64),
                np.asarray(head.pbc),
                {name: results.get(name) for name in results.keys()} if results is not None else {},  # noqa: SIM118
                {},
                info if isinstance(info, dict) else {},
            )

        yield read


def _spans_of_db(path: Path) -> list[tuple[int, int]]:
    database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        return [(row, row) for (row,) in database.execute("SELECT id FROM systems ORDER BY id")]
    finally:
        database.close()


@contextmanager
def _opened_db(path: Path) -> Generator[Read]:
    from ase.db import connect

    opened: Any = connect(path, use_lock_file=False, serial=True)
    with opened as database:
        yield lambda row, _: _frame_of_row(database.get(id=row))


def _frame_of_row(row: Any) -> Frame:
    return Frame(row.numbers, row.positions, row.cell, np.asarray(row.pbc), vars(row), {}, _Data(row))


class _Data(Mapping[str, Any]):
    """The data of a row, decoded when they are looked at; FaultyFrame where they cannot be."""

    def __init__(self, row: Any) -> None:
        self._row = row

    @cached_property
    def _held(self) -> Mapping[str, Any]:
        try:
            return dict(self._row.data)
        except Exception as error:  # whatever ASE makes of damaged bytes
            raise unreadable(error) from error

    def __getitem__(self, name: str) -> Any:
        return self._held[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)


def _spans_of_lmdb(path: Path) -> np.ndarray:
    with _lmdb(path) as (get, entries):
        last, deleted = int(get("nextid") or 1) - 1, np.unique(np.array(get("deleted_ids") or [], dtype=np.int64))
        if last - len(deleted) > entries:
            raise SourceError(
                f"{path} is damaged: it says that it has {last - len(deleted):,} rows, and holds {entries:,} values. "
                "Restore it, or write it again"
            )
        rows = np.setdiff1d(np.arange(1, last + 1), deleted)
        return np.stack([rows, rows], axis=1)


@contextmanager
def _opened_lmdb(path: Path) -> Generator[Read]:
    from ase.db.row import AtomsRow

    with _lmdb(path) as (get, _):

        def read(row: int, _: int) -> Frame:
            held = get(str(row))
            if held is None:
                raise FaultyFrame("the file has no such row")
            frame = _frame_of_row(AtomsRow(held))
            return Frame(np.asarray(frame.numbers), *_arrays(frame), frame.results, {}, frame.info)

        yield read


def _arrays(frame: Frame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lists of JSON as arrays."""
    positions = np.asarray(frame.positions, dtype=np.float64).reshape(-1, 3)
    return positions, np.asarray(frame.cell, dtype=np.float64), np.asarray(frame.pbc)


@contextmanager
def _lmdb(path: Path) -> Generator[tuple[Callable[[str], Any], int]]:
    """The values of the file by their keys, None for none, and their number. What ase-db-backends
    writes, without its other databases."""
    try:
        import lmdb
    except ImportError as error:
        raise MissingExtraError("lmdb", "atoms", "reading .aselmdb") from error
    from ase.io.jsonio import decode

    try:
        opened = lmdb.open(str(path), subdir=False, readonly=True, lock=False)
    except lmdb.Error as error:
        if "already open in this process" in str(error):
            raise SourceError(f"{path} is open in this process: close the database that has it open") from error
        raise
    with opened as environment:
        needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
        if (size := path.stat().st_size) < needed:  # to look beyond the end of a mapped file ends the process
            raise SourceError(f"{path} is damaged: it is {size:,} bytes of {needed:,}. Restore it, or write it again")
        with environment.begin() as values:

            def get(key: str) -> Any:
                held: Any = values.get(key.encode())
                return None if held is None else decode(zlib.decompress(held).decode())

            yield get, environment.stat()["entries"]


class Kind(NamedTuple):
    """A kind of file: what it is called, and how it is read."""

    name: str
    spans: Callable[[Path], Any]
    opened: Callable[[Path], AbstractContextManager[Read]]


_TEXT = Kind("extended XYZ file", _spans_of_text, _opened_text)
KINDS = {
    ".extxyz": _TEXT,
    ".xyz": _TEXT,
    ".traj": Kind("ASE trajectory", _spans_of_ulm, _opened_ulm),
    ".db": Kind("ASE database", _spans_of_db, _opened_db),
    ".aselmdb": Kind("ASE database of LMDB", _spans_of_lmdb, _opened_lmdb),
}
"""Ending of a name -> what the file is."""
