"""What every place keeps: `packer.files.protocol.Place`, a folder, a URL, or a cache before one.

Exact bytes in memory of the caller's own, errors that tell what is absent from what is damaged, and values that pickle.
"""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from object_store import gcs_options, make_bucket, s3_options

from packer.errors import FormatError, MissingFileError
from packer.files.atomic import FileEntry
from packer.files.cache import CachedPlace
from packer.files.local import LocalPlace
from packer.files.protocol import Place
from packer.files.remote import RemotePlace

FILES = {"shard-00000.parquet": bytes(range(256)) * 40, "manifest.json": b"{}", "empty": b""}
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning"),  # gcsfs hands aiohttp plain bytes
]


def filled(place: RemotePlace) -> RemotePlace:
    for name, data in FILES.items():
        place.ask(lambda fs, root, name=name, data=data: fs.pipe_file(f"{root}/{name}", data), name, "writing it")
    return place


def in_memory(_: pytest.FixtureRequest, folder: Path) -> Place:
    pytest.importorskip("fsspec")
    return filled(RemotePlace(f"memory://places{folder}"))


def in_a_folder(_: pytest.FixtureRequest, folder: Path) -> Place:
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    return LocalPlace(folder)


def on_s3(request: pytest.FixtureRequest, _: Path) -> Place:
    endpoint = request.getfixturevalue("s3_endpoint")
    make_bucket(endpoint, "places")
    return filled(RemotePlace("s3://places/packs", s3_options(endpoint)))


def on_gcs(request: pytest.FixtureRequest, _: Path) -> Place:
    import gcsfs

    options = gcs_options(request.getfixturevalue("gcs_endpoint"))
    gcsfs.GCSFileSystem(**options).mkdir("places")
    return filled(RemotePlace("gs://places/packs", options))


def behind_a_cache(request: pytest.FixtureRequest, folder: Path) -> Place:
    remote = in_memory(request, folder)
    assert isinstance(remote, RemotePlace)
    return CachedPlace(remote, folder / "cache", "0" * 64, 1 << 20)


PLACES: list[Callable[[pytest.FixtureRequest, Path], Place]] = [in_a_folder, in_memory, on_s3, on_gcs, behind_a_cache]


@pytest.fixture(params=PLACES, ids=lambda made: made.__name__, scope="module")
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return request.param(request, tmp_path_factory.mktemp("place"))


def entry_of(name: str) -> FileEntry:
    return FileEntry(len(FILES[name]), hashlib.sha256(FILES[name]).hexdigest())


@pytest.mark.parametrize("known", [True, False], ids=["in the manifest", "not in it"])
@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_to_the_byte(place: Place, name: str, known: bool) -> None:
    data = FILES[name]
    file = place.open(name, entry_of(name) if known else None)
    try:
        assert file.size == len(data)
        for offset, size in ((0, len(data)), (0, 0), (len(data) // 3, len(data) // 2), (len(data), 0)):
            read = file.read(offset, size)
            assert isinstance(read, bytearray) and read == data[offset : offset + size]
            read[:] = bytes(len(read))  # the caller's own: nobody else sees it
        assert file.read(0, len(data)) == data
    finally:
        file.close()


@pytest.mark.parametrize("name", FILES)
def test_what_is_beyond_the_end_is_an_error(place: Place, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("packer.files.retry.time.sleep", lambda _: None)
    file = place.open(name, entry_of(name))
    with pytest.raises(FormatError, match=re.escape(name)):
        file.read(max(0, len(FILES[name]) - 1), 2)
    file.close()


@pytest.mark.parametrize("name", FILES)
def test_a_copy_of_this_machine_is_the_same_file(place: Place, name: str) -> None:
    file = place.open(name, entry_of(name))
    copy = file.local()
    assert copy.size == len(FILES[name]) and copy.read(0, copy.size) == FILES[name]
    assert copy.local() is copy
    copy.close()
    file.close()
    file.close()  # nothing is left to let go of


def test_what_was_fetched_can_be_fetched_anew(place: Place) -> None:
    name = "shard-00000.parquet"
    file = place.open(name, entry_of(name))
    anew = file.renewed()
    assert (anew is None) == isinstance(place, LocalPlace)  # what lies here is no copy
    if anew is not None:
        assert anew.read(3, 9) == FILES[name][3:12]
        anew.close()
    file.close()


def test_what_is_not_there_is_named(place: Place) -> None:
    with pytest.raises(MissingFileError, match=r"none\.json"):
        place.open("none.json")


def test_what_lies_there_is_listed(place: Place) -> None:
    names = place.names()
    assert names is not None and sorted(names) == sorted(FILES)


def test_a_place_is_a_value_that_other_processes_get(place: Place) -> None:
    again = pickle.loads(pickle.dumps(place))
    assert str(again) == str(place) != ""
    if not isinstance(place, CachedPlace):
        assert again == place and hash(again) == hash(place)
    file = again.open("manifest.json")
    assert file.read(0, 2) == b"{}"
    file.close()
