"""What every store keeps: `pipelines.stores.store.Store`, a folder or a URL.

A file appears whole under its name or not at all, may be written twice, and is removed without touching others.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from object_store import gcs_options, make_bucket, s3_options

from packer.errors import BuildError, FormatError, MissingFileError
from pipelines.stores.store import FolderStore, Store, store_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning"),  # gcsfs hands aiohttp plain bytes
]
numbers = count()


def folder(_: pytest.FixtureRequest, path: Path) -> Store:
    return store_of(path / "out", path / "scratch")


def memory(_: pytest.FixtureRequest, path: Path) -> Store:
    pytest.importorskip("fsspec")
    return store_of(f"memory://stores{path}", path)


def s3(request: pytest.FixtureRequest, path: Path) -> Store:
    endpoint = request.getfixturevalue("s3_endpoint")
    make_bucket(endpoint, "stores")
    return store_of(f"s3://stores/{next(numbers)}", path, s3_options(endpoint))


def gcs(request: pytest.FixtureRequest, path: Path) -> Store:
    import gcsfs

    options = gcs_options(request.getfixturevalue("gcs_endpoint"))
    fs = gcsfs.GCSFileSystem(**options)
    if not fs.exists("stores"):
        fs.mkdir("stores")
    return store_of(f"gs://stores/{next(numbers)}", path, options)


STORES: list[Callable[[pytest.FixtureRequest, Path], Store]] = [folder, memory, s3, gcs]


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits between tries."""
    monkeypatch.setattr("packer.files.retry.time.sleep", lambda _: None)


@pytest.fixture(params=STORES, ids=lambda made: made.__name__)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return request.param(request, tmp_path)


def test_a_store_that_is_not_there_yet_is_empty(store: Store) -> None:
    assert list(store.names()) == []
    assert store.size("none") is None
    with pytest.raises(MissingFileError, match="none"):
        store.read("none")
    store.remove(["none"])
    store.remove_all(["none", "below/none"])
    store.abandon_uploads(["none"])


def test_a_file_is_there_whole_under_its_name(store: Store) -> None:
    store.put("b", b"0123456789")
    store.put("below/it/a", bytes(6 << 20))  # more than goes into one request of some clients
    store.put("empty", b"")
    assert list(store.names()) == ["b", "below/it/a", "empty"] or list(store.names()) == ["b", "empty", "below/it/a"]
    assert store.read("b") == b"0123456789" and store.read("empty") == b""
    assert (store.size("b"), store.size("below/it/a"), store.size("empty")) == (10, 6 << 20, 0)
    store.put("b", b"another")
    assert store.read("b") == b"another" and store.size("b") == 7
    assert store.ranges("b", [(1, 2), (0, 1), (3, 4)]) == [b"no", b"a", b"ther"]
    with pytest.raises((BuildError, FormatError)):
        store.ranges("b", [(0, 1), (5, 9)])


def test_below_is_a_store_of_its_own(store: Store) -> None:
    store.put("below/a", b"a")
    store.put("c", b"c")
    inner = store.below("below")
    assert list(inner.names()) == ["a"] and inner.read("a") == b"a"
    inner.put("b", b"b")
    assert store.read("below/b") == b"b"
    assert list(store.below("").names()) == list(store.names())


def test_a_file_made_here_is_moved_there(store: Store) -> None:
    with store.scratch() as scratch:
        (scratch / "file").write_bytes(b"made here")
        store.put_file("below/file", scratch / "file")
        assert not (scratch / "file").exists()
    assert not scratch.exists()
    assert store.read("below/file") == b"made here"
    with pytest.raises(RuntimeError, match="stopped"), store.scratch() as scratch:
        (scratch / "file").write_bytes(b"half")
        raise RuntimeError("stopped")
    assert not scratch.exists() and list(store.names()) == ["below/file"]


def test_of_two_that_create_a_file_one_is_told(store: Store) -> None:
    store.create("file", b"a")
    store.create("file", b"a")  # as after an answer that was lost
    assert store.read("file") == b"a"
    if isinstance(store, FolderStore) or str(store).startswith("gs:"):
        pytest.skip("a folder's lock keeps others away, and this server takes no notice of conditions")
    with pytest.raises(BuildError, match=r"file is there already: another build has written to"):
        store.create("file", b"b")
    assert store.read("file") == b"a"


def test_files_are_removed_and_no_others(store: Store) -> None:
    names = ["a", "a*", "b", "below/a", "below/b", "c"]
    for name in names:
        store.put(name, name.encode())
    store.remove(["a*", "none", "below/a"])
    assert sorted(store.names()) == ["a", "b", "below/b", "c"], "an asterisk is a letter"
    store.remove_all(["b", "below/b", "none"])
    assert sorted(store.names()) == ["a", "c"]
    store.remove_all(list(store.names()))
    assert list(store.names()) == []


def test_a_store_is_a_value_that_other_processes_get(store: Store) -> None:
    store.put("below/a", b"a")
    again = pickle.loads(pickle.dumps(store))
    assert again == store and str(again) == str(store) == str(store.where)
    assert again.read("below/a") == b"a"
    file = again.below("below").place.open("a")
    assert file.read(0, 1) == b"a"
    file.close()
