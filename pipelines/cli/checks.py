"""What the command line checks before anything is read: wrong usage has exit status 2."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

import typer

from packer.errors import FormatError, PackerError
from pipelines.building.target import check_replaceable
from pipelines.stores.locations import Where, label

PICTURES = {".svg": b"<?xml", ".png": b"\x89PNG", ".pdf": b"%PDF"}
"""Ending of a picture's name -> how such a file begins."""
TABLES = (b"algorithm,", b"num_nodes,", b"num_nodes_")
"""How tables of `compare` and `suggest` begin."""
PLANS = (b"PAR1",)


class UsageError(Exception):
    """Wrong usage, found before any data is read: exit status 2."""


@contextmanager
def usage(option: str = "") -> Generator[None]:
    """What goes wrong inside is wrong usage, of that option."""
    try:
        yield
    except PackerError as error:
        raise UsageError(f"{option}: {error}" if option else str(error)) from error


@contextmanager
def reading(place: Where) -> Generator[None]:
    """What nothing foresaw while a data set is read is its doing: a FormatError says so, and how to look closer."""
    try:
        yield
    except (PackerError, UsageError, ImportError, NameError, typer.Exit, typer.Abort):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        name = label(place)
        raise FormatError(
            f"{name} contradicts itself, as damaged or edited data do ({in_short(error)}). `graph-pack verify {name}` "
            "says what is wrong with it; where that finds nothing, GRAPH_PACK_TRACEBACK=1 shows more: please report it"
        ) from error


def in_short(error: Exception) -> str:
    """One line about an error of any kind."""
    lines = str(error).strip().splitlines() or [""]
    if lines[0].startswith("in a worker:"):
        return lines[-1]  # of a traceback: the error itself
    return f"{type(error).__name__}: {lines[0]}"


def check_choice(option: str, value: str | None, known: Sequence[str]) -> None:
    """Raise UsageError unless the value is one of the known ones."""
    if value is not None and value not in known:
        raise UsageError(f"{option} must be one of {', '.join(known)}; got {value!r}{nearest(value, known)}")


def nearest(value: str, known: Iterable[str]) -> str:
    """What may have been meant, as the end of a message; "" where nothing is near."""
    near = get_close_matches(value, list(known), 1)
    return f". Did you mean {near[0]!r}?" if near else ""


def file_place(option: str, begins: Collection[bytes]) -> Callable[[Path | None], Path | None]:
    """A callback: files are written at the end, but their folder must be there at the beginning, and nothing of
    another kind under the name. begins: how files of the kind begin."""

    def check(path: Path | None) -> Path | None:
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            reason = "is a folder" if path.is_dir() else f"cannot be written: there is no folder {path.parent}"
            raise UsageError(f"{option} {path} {reason}. Name a file in a folder that exists")
        if path is not None:
            with usage(option):
                check_replaceable(path, begins)
        return path

    return check


def picture_place(path: Path | None) -> Path | None:
    if path is not None and path.suffix.lower() not in PICTURES:
        raise UsageError(f"--plot {path}: pictures are written as {', '.join(PICTURES)}, by the end of the name")
    return file_place("--plot", () if path is None else (PICTURES[path.suffix.lower()],))(path)
