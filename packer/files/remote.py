"""Data sets at a URL, read through fsspec: exact ranges, asked for again when the network or the store fails.

fsspec is imported when a URL is first connected to, and by each process for itself: its connections do not survive a
fork, and a child that only let go of them would disturb its parent's.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import tempfile
from typing import Any, Callable, Mapping, NoReturn, Sequence, Tuple, TypeVar

from packer.errors import FormatError, MissingExtraError, MissingFileError, StoreError
from packer.files import reachability
from packer.files.answers import bounded_options, cat_ranges
from packer.files.local import LocalFile
from packer.files.protocol import Entry, PlacedFile
from packer.files.retry import (
    ShortAnswerError,
    cause,
    error_code,
    http_status,
    is_final,
    is_refusal,
    redact,
    redactor,
    retried,
)

Answer = TypeVar("Answer")

PIECE_BYTES, PIECES_AT_ONCE = 4 << 20, 4
"""What a file is copied in: one connection alone gets only a part of a store's bandwidth."""

STALLED, SLOWEST = 30.0, 100_000.0
"""An answer may take so many seconds, and one more for so many bytes; then it counts as failed. A client's own patience
counts once for each of its own tries, which can be minutes."""

Ranges = Sequence[Tuple[int, int]]
_CLIENTS = {"s3": ("s3fs", "s3"), "s3a": ("s3fs", "s3"), "gs": ("gcsfs", "gcs"), "gcs": ("gcsfs", "gcs")}
"""Protocol -> the package that speaks it, the extra that has it."""

_kept: dict[int, Any] = {}
"""Every connection that this process, or one that it was forked from, has made. Never let go of: in a forked child the
end of its parent's connection would wait for a thread that is not there, and close sockets that both have."""


class RemotePlace:
    """The URL of a data set. Values: url and options; a connection is made on first use in each process.

    storage_options: what fsspec's file system takes. They are pickled with the place, and never shown.
    """

    def __init__(self, url: str, storage_options: Any = None) -> None:
        if "?" in url or "#" in url:
            raise FormatError(
                f"{redact(url)}: the URL of a data set names a folder, to which names of files are added; it cannot "
                "have a query or a fragment. Pass credentials as storage_options"
            )
        if storage_options is not None and not isinstance(storage_options, Mapping):
            raise FormatError(f"storage_options must be a mapping of names; got {type(storage_options).__name__}")
        self.url = url.rstrip("/")
        self._options = dict(storage_options or {})
        self._reset()

    def _reset(self, reached: bool = False) -> None:
        self._reached = reached
        self._hide = redactor(self._options, self.url)
        self._connection: tuple[int, Any, str] = -1, None, ""
        self._sizes: dict[str, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "_options": self._options, "_reached": self._reached}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset(self._reached)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePlace) and (self.url, self._options) == (other.url, other._options)

    def __hash__(self) -> int:
        return hash(self.url)

    def __str__(self) -> str:
        return redact(self.url)

    def __repr__(self) -> str:
        return f"RemotePlace({str(self)!r})"

    def open(self, name: str, entry: Entry | None = None) -> RemoteFile:
        size = None if entry is None else self._sizes.get(name)  # what no manifest describes may be another by now
        if size is None:
            size = self._sizes[name] = self._size(name)
        return RemoteFile(self, name, size)

    def names(self) -> list[str] | None:
        fs, root = self._connect()
        try:
            paths = self._ask(lambda: fs.ls(root, detail=False, **_patience(fs)), "", "listing it")
        except (MissingFileError, StoreError):
            return None
        return [name for name in (str(path).rstrip("/").rpartition("/")[2] for path in paths) if name]

    def _size(self, name: str) -> int:
        fs, root = self._connect()
        size = self._ask(lambda: fs.info(f"{root}/{name}", **_patience(fs)).get("size"), name, "asking for its size")
        if not isinstance(size, int):
            raise StoreError(f"{self}: the server does not say how large {name} is")
        return size

    def ranges(self, name: str, wanted: Ranges) -> list[bytes]:
        """The bytes [offset, offset + size) of a file for each (offset, size), asked for at once."""
        fs, root = self._connect()
        received: dict[int, bytes] = {}

        def ask() -> list[bytes]:
            left = [i for i in range(len(wanted)) if i not in received]
            answers = cat_ranges(
                fs,
                f"{root}/{name}",
                [wanted[i][0] for i in left],
                [sum(wanted[i]) for i in left],
                **_patience(fs, sum(wanted[i][1] for i in left)),
            )
            errors: list[BaseException] = []
            for i, answer in zip(left, answers):
                if isinstance(answer, BaseException):
                    errors.append(answer)
                elif len(answer) > wanted[i][1]:
                    errors.append(ValueError(f"the server sent {len(answer)} bytes: it does not answer ranges"))
                elif len(answer) < wanted[i][1]:
                    errors.append(ShortAnswerError(f"the server sent {len(answer)} of {wanted[i][1]} bytes"))
                else:
                    received[i] = answer
            if errors:
                raise min(errors, key=lambda error: not is_final(error))
            return [received[i] for i in range(len(wanted))]

        first, last = wanted[0][0], sum(wanted[-1])
        return self._ask(ask, name, f"reading its bytes {first} to {last - 1}")

    def copy(self, name: str, size: int, fd: int) -> str:
        """Write a file's first `size` bytes to a descriptor, in bounded memory; their SHA-256. OSError from writing."""
        digest = hashlib.sha256()
        step = PIECE_BYTES * PIECES_AT_ONCE
        for start in range(0, size, step):
            stop = min(size, start + step)
            pieces = [(at, min(PIECE_BYTES, stop - at)) for at in range(start, stop, PIECE_BYTES)]
            for data in self.ranges(name, pieces):
                digest.update(data)
                _write_all(fd, data)
        return digest.hexdigest()

    def below(self, name: str) -> RemotePlace:
        """The place of the files below a folder of this one."""
        place = RemotePlace(f"{self.url}/{name}", self._options)
        place._reached = self._reached
        return place

    def ask(self, ask: Callable[[Any, str], Answer], name: str, purpose: str) -> Answer:
        """ask(file system, path of the folder in it), again while the network or the store fails.

        name, purpose: the file, and what is done with it, for errors: MissingFileError, FileExistsError, StoreError.
        """
        fs, root = self._connect()
        return self._ask(lambda: ask(fs, root), name, purpose)

    def _ask(self, ask: Any, name: str, purpose: str) -> Any:
        """The answer of the store, or an error that says what was asked of whom."""
        request = f"{self}{name and '/'}{name}: {purpose}"
        if not self._reached:
            self._check_reachable(request)
        try:
            answer = retried(ask, request, self._hide, is_final if self._reached else _is_final_at_first)
        except (StoreError, FileExistsError):
            raise
        except Exception as error:
            self._reached = self._reached or _is_answer(error)
            self._refuse(error, name, request)
        self._reached = True
        return answer

    def _check_reachable(self, request: str) -> None:
        """StoreError where nothing answers at the store's address, nor to the client, which may know another way."""
        fs, root = self._connect()
        address = reachability.address_of(fs, self.url)
        why = None if address is None else reachability.refusal(address)
        if why is not None:
            try:
                fs.info(root, **({"timeout": reachability.PATIENCE} if fs.async_impl else {}))
            except Exception as error:
                if not _is_answer(error):
                    raise StoreError(f"{request} is not possible: {why}. {reachability.REMEDY}") from None
        self._reached = address is not None

    def _refuse(self, error: Exception, name: str, request: str) -> NoReturn:
        status = _status(error)
        if error_code(error) == "NoSuchBucket":
            bucket = redact(self.url).partition("://")[2].partition("/")[0]
            raise MissingFileError(f"{request}: there is no bucket {bucket!r}. Make it, or correct the URL") from None
        if is_refusal(error):
            raise StoreError(
                f"{request} is not possible: {cause(error, self._hide)}. Check the URL, and the credentials, profile "
                "and region in storage_options or in the environment"
            ) from None
        if isinstance(error, PermissionError) or status in (401, 403):
            raise StoreError(
                f"{request}: access denied ({cause(error, self._hide)}). Check the credentials, in storage_options or "
                "in the environment. Stores also say so of a missing file to those who may not list the folder"
            ) from None
        if (isinstance(error, FileNotFoundError) and not reachability.is_unreachable(error)) or status == 404:
            raise MissingFileError(f"{name} is missing from {self}") from None
        remedy = f". {reachability.REMEDY}" if reachability.is_unreachable(error) else ""
        raise StoreError(f"{request} is not possible: {cause(error, self._hide)}{remedy}") from None

    def _connect(self) -> tuple[Any, str]:
        """(file system, path of the folder in it), of this process."""
        pid, fs, root = self._connection
        if pid != os.getpid():
            fs, root = self._new_connection()
            _kept[id(fs)] = fs
            self._connection = os.getpid(), fs, root
        return fs, root

    def _new_connection(self) -> tuple[Any, str]:
        protocol = self.url.partition("://")[0].rpartition("::")[2]
        package, extra = _CLIENTS.get(protocol, ("fsspec", "s3"))
        try:
            from fsspec import asyn
            from fsspec.core import url_to_fs

            if asyn.iothread[0] is not None and not asyn.iothread[0].is_alive():
                asyn.reset_lock()  # forked: older versions (2025.3) would wait for the parent's thread
            fs, root = url_to_fs(self.url, **bounded_options(protocol, self._options))
            fs.invalidate_cache()  # it may remember the sizes of files that were overwritten since
        except ImportError as error:
            if protocol in _CLIENTS or (error.name or "").partition(".")[0] == "fsspec":
                raise MissingExtraError(package, extra, f"reading {self}") from error
            raise ImportError(f"reading {self}: {error}") from error
        except Exception as error:
            raise StoreError(f"{self} cannot be connected to: {cause(error, self._hide)}") from None
        return fs, str(root).rstrip("/")


class RemoteFile:
    """A file at a URL: no connection of its own, each read is a request."""

    def __init__(self, place: RemotePlace, name: str, size: int) -> None:
        self._place = place
        self._name = name
        self.size = size

    def read(self, offset: int, size: int) -> bytearray:
        return bytearray(self._place.ranges(self._name, [(offset, size)])[0]) if size else bytearray()

    def local(self) -> PlacedFile:
        """A copy in a temporary file without a name."""
        with self._copied() as file:
            return LocalFile(os.dup(file.fileno()), self.size, self._name)

    def map(self) -> memoryview:
        """The bytes of such a copy, not in this process's memory: nobody else can cut it. Not of an empty file."""
        with self._copied() as file:
            return memoryview(mmap.mmap(file.fileno(), self.size, access=mmap.ACCESS_READ))

    def _copied(self) -> Any:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
        try:
            self._place.copy(self._name, self.size, file.fileno())
        except OSError as error:
            file.close()
            raise StoreError(
                f"{self._name} of {self._place} needs {self.size} bytes in {tempfile.gettempdir()} for a while: "
                f"{error.strerror}. Make room, or set TMPDIR to another folder"
            ) from error
        except BaseException:
            file.close()
            raise
        return file

    def renewed(self) -> PlacedFile:
        """Itself: what was read came over a network, and may come right the next time."""
        return self

    def close(self) -> None:
        """Nothing is held."""


def _status(error: BaseException) -> int | None:
    status = http_status(error)
    return http_status(error.__cause__) if status is None and error.__cause__ is not None else status


def _is_answer(error: BaseException) -> bool:
    """Whether an error is what a store said, or at least no fault of the network."""
    return _status(error) is not None or (is_final(error) and not reachability.is_unreachable(error))


def _is_final_at_first(error: BaseException) -> bool:
    """is_final for a store that has not answered yet: if nobody is there, nobody will be."""
    return is_final(error) or reachability.is_unreachable(error)


def _patience(fs: Any, size: int = 0) -> dict[str, float]:
    """What tells a file system that works asynchronously how long to wait for an answer; others cannot be told."""
    return {"timeout": STALLED + size / SLOWEST} if fs.async_impl else {}


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
