"""Files that the tasks of a build leave for each other: what they hold, whose they are and that they are whole is
compared before they are used."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from packer.errors import BuildError, MissingFileError
from pipelines.stores.store import OVERWRITE, Ranges, Store

_MAGIC = b"graph-pack part\n"
_HEAD = struct.Struct("<16sIQ")

AGAIN = f"Run the same command again: what is damaged is made anew. Or pass {OVERWRITE} to start afresh"


class DamagedError(BuildError):
    """A file of an unfinished build that is not as it was written, or another build's."""


def digest_of(plain: Mapping[str, Any]) -> str:
    """What stands for a job, or for the scan of a source, in the seals of its files: SHA-256 of its key."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


HEAD = _HEAD.size
"""Bytes of a seal."""


def seal(data: bytes, whose: str) -> bytes:
    """The data behind a header with their length and the CRC-32 of `whose` (owner and name) and them."""
    return seal_of(data, whose) + data


def seal_of(data: bytes, whose: str) -> bytes:
    """The header alone."""
    return _HEAD.pack(_MAGIC, zlib.crc32(data, zlib.crc32(whose.encode())), len(data))


def unseal(sealed: bytes, whose: str, where: str) -> bytes:
    """The inverse. Raises DamagedError, naming the file as `where`, for what `seal` did not write for `whose`."""
    data = sealed[HEAD:]
    check_seal(sealed[:HEAD], data, whose, where)
    return data


def check_seal(head: bytes, data: bytes, whose: str, where: str) -> None:
    """Raise DamagedError unless `head` is the header of these data for `whose`."""
    if len(head) != HEAD or head != seal_of(data, whose):
        magic, crc32, size = _HEAD.unpack(head.ljust(HEAD, b"\0"))
        if magic != _MAGIC or size != len(data):
            raise damaged(where, f"{len(head) + len(data)} bytes, which are not a whole file of this build")
        computed = zlib.crc32(data, zlib.crc32(whose.encode()))
        raise damaged(where, f"its CRC-32 is {computed:08x}, not {crc32:08x}: other bytes, or another build's")


def damaged(where: str, reason: str) -> DamagedError:
    """The error for a file of an unfinished build."""
    return DamagedError(f"{where} is damaged: {reason}. {AGAIN}")


@dataclass(frozen=True)
class SealedStore:
    """A store whose files are sealed, each for `owner` and its name: no file is taken for another, nor for another
    owner's. What it holds, `sound` tells."""

    store: Store
    owner: str

    def __str__(self) -> str:
        return str(self.store)

    def whose(self, name: str) -> str:
        return f"{self.owner} {name}"

    def put(self, name: str, data: bytes) -> None:
        self.store.put(name, seal(data, self.whose(name)))

    def read(self, name: str) -> bytes:
        """Raises DamagedError, and MissingFileError where it is not there."""
        try:
            sealed = self.store.read(name)
        except MissingFileError as error:
            raise MissingFileError(
                f"{error}, where a task of this build wrote it: do all workers reach that place (work=, --work)? "
                f"{AGAIN}"
            ) from error
        return unseal(sealed, self.whose(name), f"{name} of {self.store}")

    def sound(self, name: str) -> bytes | None:
        """The file's data; None where it is not there or not as it was written, so that it has to be made."""
        if self.store.size(name) is None:
            return None
        try:
            return self.read(name)
        except DamagedError:
            return None

    def size(self, name: str) -> int | None:
        return self.store.size(name)

    def ranges(self, name: str, wanted: Ranges) -> list[bytes]:
        """As they lie there: files that are read in parts carry checksums of their own."""
        return self.store.ranges(name, wanted)

    def remove(self, names: Iterable[str]) -> None:
        self.store.remove(names)
