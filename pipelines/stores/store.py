"""Where a build writes: a folder that all workers share, or a URL of an object store.

A file appears whole, under its name, and may be written twice with the same content: that is all that tasks rely on.
Object stores have no rename; there one PUT of the whole file does what a rename does here. Only files larger than any
shard, such as graphs.parquet of a billion graphs, are uploaded in parts, and what is left of such uploads is removed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Collection, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Protocol

from packer.errors import BuildError, MissingFileError
from packer.files.atomic import put_in_place
from packer.files.local import LocalPlace
from packer.files.open import local_path
from packer.files.protocol import Place
from packer.files.remote import RemotePlace

_WHOLE = 1 << 40
"""Clients cut uploads into parts from some size on; not ours."""
LARGE = 256 << 20
"""Larger files are uploaded in parts: stores refuse a PUT of more than some GiB, and memory is bounded."""
_PART = 64 << 20
_REMOVED_AT_ONCE = 16
_AT_ONCE = 64
"""Ranges that are asked for together."""

OVERWRITE = "overwrite=True (--overwrite)"
"""What a build is passed to start afresh, as Python and as the command have it."""

Ranges = Sequence[tuple[int, int]]


class Store(Protocol):
    """Files by name, "a/b" below "a". Values: they pickle, and str() is fit to be shown."""

    @property
    def place(self) -> Place:
        """The same files, to be read as a data set."""
        ...

    @property
    def where(self) -> Path | str:
        """The folder or URL, as a data set is opened with."""
        ...

    def below(self, name: str) -> Store:
        """The store of the files below `name`; itself for ""."""
        ...

    def size(self, name: str) -> int | None:
        """Bytes of a file; None where it is not there."""
        ...

    def read(self, name: str) -> bytes:
        """MissingFileError where it is not there."""
        ...

    def ranges(self, name: str, wanted: Ranges) -> list[bytes]:
        """The bytes [offset, offset + size) of a file for each (offset, size)."""
        ...

    def put(self, name: str, data: bytes) -> None:
        """Write a file, whole and for good, in place of what may be there."""
        ...

    def create(self, name: str, data: bytes) -> None:
        """The same where there is none yet; BuildError where there is one of other content, if the store can tell."""
        ...

    def put_file(self, name: str, path: Path) -> None:
        """The same with a file of this machine, made in a folder that `scratch` gave; it is gone afterwards."""
        ...

    def scratch(self) -> Any:
        """A context: a folder of this machine for a file that is to be `put_file`."""
        ...

    def names(self) -> Iterable[str]:
        """All files, those below folders included, in order."""
        ...

    def remove(self, names: Iterable[str]) -> None:
        """Remove files, in this order; those that are not there are none to remove."""
        ...

    def remove_all(self, names: Collection[str]) -> None:
        """The same in any order, many at a time."""
        ...

    def abandon_uploads(self, names: Collection[str]) -> None:
        """Remove what uploads of these files that were cut off have left."""
        ...


@dataclass(frozen=True)
class FolderStore:
    """A folder. scratch_in: where files are made before they get their names, in the same file system."""

    folder: Path
    scratch_in: Path

    def __reduce__(self) -> tuple[Any, ...]:
        """As absolute paths: workers, on whatever machine, may stand in another folder."""
        return FolderStore, (self.folder.absolute(), self.scratch_in.absolute())

    def __str__(self) -> str:
        return str(self.folder)

    @property
    def place(self) -> Place:
        return LocalPlace(self.folder)

    @property
    def where(self) -> Path:
        return self.folder

    def below(self, name: str) -> FolderStore:
        return FolderStore(self.folder / name, self.scratch_in)

    def size(self, name: str) -> int | None:
        path = self.folder / name
        return path.stat().st_size if path.is_file() else None

    def read(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            raise MissingFileError(f"{name} is missing from {self}") from None

    def ranges(self, name: str, wanted: Ranges) -> list[bytes]:
        parts: list[bytes] = []
        with (self.folder / name).open("rb") as file:
            for offset, size in wanted:
                parts.append(os.pread(file.fileno(), size, offset))
                if len(parts[-1]) != size:
                    raise BuildError(f"{self.folder / name} is cut short: pass {OVERWRITE} to start afresh")
        return parts

    def put(self, name: str, data: bytes) -> None:
        with self.scratch() as folder:
            (folder / "file").write_bytes(data)
            self.put_file(name, folder / "file")

    def create(self, name: str, data: bytes) -> None:
        """The folder's lock keeps other builds away."""
        self.put(name, data)

    def put_file(self, name: str, path: Path) -> None:
        final = self.folder / name
        final.parent.mkdir(parents=True, exist_ok=True)
        put_in_place(path, final)

    @contextmanager
    def scratch(self) -> Generator[Path]:
        """Of its own for each writer: two that write the same file do not meet before it is whole."""
        folder = self.scratch_in / uuid.uuid4().hex
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def names(self) -> Generator[str]:
        if self.folder.exists() and not self.folder.is_dir():
            raise BuildError(f"{self} is a file; give a folder that is empty or absent")
        for root, folders, files in os.walk(self.folder):
            folders.sort()
            links = (name for name in folders if Path(root, name).is_symlink())  # which walk does not enter
            yield from (str(Path(root, name).relative_to(self.folder)) for name in sorted([*files, *links]))

    def remove(self, names: Iterable[str]) -> None:
        """BuildError, before any is removed, where the way to one leads over a link, so that it lies elsewhere."""
        held = list(names)
        self._refuse_links(held)
        for name in held:
            path = self.folder / name
            path.unlink(missing_ok=True)
            for folder in path.parents:
                if folder == self.folder or not folder.is_dir() or any(folder.iterdir()):
                    break
                folder.rmdir()

    def remove_all(self, names: Collection[str]) -> None:
        self.remove(names)

    def _refuse_links(self, names: Iterable[str]) -> None:
        for above in {above for name in names for above in PurePath(name).parents}:
            path = self.folder / above
            if above.parts and path.is_symlink():
                raise BuildError(
                    f"{path} is a symbolic link: files that lie elsewhere are not removed. Remove the link"
                )

    def abandon_uploads(self, names: Collection[str]) -> None:
        """There are none: such files have no names."""


@dataclass(frozen=True)
class ObjectStore:
    """What lies at a URL, through fsspec."""

    place: RemotePlace

    def __str__(self) -> str:
        return str(self.place)

    @property
    def where(self) -> str:
        return self.place.url

    def below(self, name: str) -> ObjectStore:
        return ObjectStore(self.place.below(name)) if name else self

    def size(self, name: str) -> int | None:
        def ask(fs: Any, root: str) -> int:
            fs.invalidate_cache()  # other processes write here too
            return int(fs.info(f"{root}/{name}")["size"])

        try:
            return self.place.ask(ask, name, "asking for its size")
        except MissingFileError:
            return None

    def read(self, name: str) -> bytes:
        file = self.place.open(name)
        return bytes(file.read(0, file.size))

    def ranges(self, name: str, wanted: Ranges) -> list[bytes]:
        parts: list[bytes] = []
        for start in range(0, len(wanted), _AT_ONCE):
            parts += self.place.ranges(name, wanted[start : start + _AT_ONCE])
        return parts

    def put(self, name: str, data: bytes) -> None:
        self.place.ask(lambda fs, root: fs.pipe_file(f"{root}/{name}", data, chunksize=_WHOLE), name, "writing it")

    def create(self, name: str, data: bytes) -> None:
        def create(fs: Any, root: str) -> None:
            try:
                fs.pipe_file(f"{root}/{name}", data, mode="create", chunksize=_WHOLE)
            except FileExistsError:
                # An answer that was lost, a build that was stopped here, or another one: what is there tells.
                if fs.cat_file(f"{root}/{name}") != data:
                    raise

        try:
            self.place.ask(create, name, "writing it")
        except FileExistsError:
            raise BuildError(
                f"{self}/{name} is there already: another build has written to {self}. Choose another place, or pass "
                f"{OVERWRITE}"
            ) from None

    def put_file(self, name: str, path: Path) -> None:
        if path.stat().st_size <= LARGE:
            self.put(name, path.read_bytes())
        else:
            self.place.ask(
                lambda fs, root: fs.put_file(str(path), f"{root}/{name}", chunksize=_PART), name, "writing it"
            )
        path.unlink()

    @contextmanager
    def scratch(self) -> Generator[Path]:
        with tempfile.TemporaryDirectory(prefix="graph-pack-") as folder:
            yield Path(folder)

    def names(self) -> list[str]:
        def find(fs: Any, root: str) -> list[str]:
            fs.invalidate_cache()
            return sorted(str(path)[len(root) + 1 :] for path in fs.find(root))

        try:
            return self.place.ask(find, "", "listing it")
        except MissingFileError:
            return []

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            try:
                self.place.ask(lambda fs, root, name=name: fs.rm_file(f"{root}/{name}"), name, "removing it")
            except MissingFileError:
                continue

    def remove_all(self, names: Collection[str]) -> None:
        """One request each: clients that remove lists take them for patterns, and an asterisk is a letter of a URL."""
        with ThreadPoolExecutor(_REMOVED_AT_ONCE) as threads:
            list(threads.map(lambda name: self.remove([name]), names))

    def abandon_uploads(self, names: Collection[str]) -> None:
        """On S3, where they would be paid for; elsewhere they expire by themselves."""
        uploaded = set(names)

        def abandon(fs: Any, root: str) -> None:
            if "s3" not in fs.protocol:
                return
            bucket, prefix = root.split("/", 1) if "/" in root else (root, "")
            with suppress(PermissionError):  # then a rule of the bucket has to do it
                for upload in fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix).get("Uploads", ()):
                    key = upload["Key"]
                    if key[len(prefix) :].lstrip("/") in uploaded and key.startswith(f"{prefix}/" if prefix else ""):
                        fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload["UploadId"])

        self.place.ask(abandon, "", "removing unfinished uploads")


def store_of(where: str | os.PathLike[str], scratch_in: Path, storage_options: Any = None) -> Store:
    """The store that a path or a URL names. storage_options: for URLs."""
    local = local_path(os.fspath(where))
    if local is None:
        return ObjectStore(RemotePlace(os.fspath(where), storage_options))
    return FolderStore(Path(local), scratch_in)


def is_url(where: str | os.PathLike[str]) -> bool:
    """Whether it names an object store, and not a folder, which file:// names too."""
    return local_path(os.fspath(where)) is None
