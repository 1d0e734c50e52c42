"""Copies of remote shards: whole, proven, bounded, whoever else uses the folder and however it fills up."""

from __future__ import annotations

import errno
import fcntl
import itertools
import multiprocessing
import os
import random
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path

import flaky_store
import pytest
import torch
from flaky_store import FlakyFileSystem
from paths import ROOT, SUPPORT
from small_packs import LIMITS, SCHEMA, random_pack, write_packs

from packer.errors import FormatError
from packer.files.cache import CACHE_BYTES, CachedPlace, cached, default_folder
from packer.files.local import LocalFile, LocalPlace
from packer.files.remote import RemoteFile, RemotePlace
from packer.reading import PackDataset

numbers = itertools.count()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FlakyFileSystem, "spoil", None)
    monkeypatch.setattr(FlakyFileSystem, "reads", [])


class Remote:
    """A data set at a URL, and its like here to compare with. Its three shards have about 9, 9 and 7 kB."""

    def __init__(self, folder: Path, num_packs: int = 23) -> None:
        self.url = f"flaky://cache/packs{next(numbers)}"
        self.folder = folder / self.url.rpartition("/")[2]
        self.write(num_packs)

    def write(self, num_packs: int, first_seed: int = 0) -> None:
        packs = [random_pack(first_seed + i, SCHEMA, LIMITS, 4 * i) for i in range(num_packs)]
        write_packs(self.folder, packs=packs)
        flaky_store.put(self.folder, self.url)
        self.local = PackDataset(self.folder)
        self.manifest = self.local.manifest.sha256
        self.bytes = sum(shard.bytes for shard in self.local.manifest.shards)

    def read(self, dataset: PackDataset, packs: range = range(23)) -> None:
        for i in packs:
            pack, wanted = dataset[i], self.local[i]
            assert all(torch.equal(pack[name], wanted[name]) for name in wanted)


@pytest.fixture
def one(tmp_path: Path) -> Remote:
    return Remote(tmp_path)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def copies(cache: Path, remote: Remote | None = None) -> list[str]:
    """Names of the copies, without their data set's."""
    names = [path.name for path in cache.iterdir() if path.name != "graph-packer.lock"]
    return sorted(name.partition(".")[2] for name in names if remote is None or name.startswith(remote.manifest))


def held(cache: Path) -> int:
    return sum(path.stat().st_size for path in cache.iterdir())


def shards(count: int) -> list[str]:
    return [f"shard-{i:05d}.parquet" for i in range(count)]


def test_shards_are_fetched_once_for_all_data_set_objects(one: Remote, cache: Path) -> None:
    for _ in range(2):
        one.read(PackDataset(one.url, cache_dir=cache))
    asked = [name for name, _, _ in FlakyFileSystem.reads]
    assert sorted(asked) == ["manifest.json", "manifest.json", *shards(3)]
    assert copies(cache, one) == copies(cache) == shards(3)
    for path in cache.glob("*.parquet"):
        assert path.read_bytes() == (one.folder / path.name.partition(".")[2]).read_bytes()


def test_only_what_is_read_is_fetched(one: Remote, cache: Path) -> None:
    dataset = PackDataset(one.url, cache_dir=cache)
    assert not cache.exists()
    dataset[12]
    assert copies(cache) == ["shard-00001.parquet"]
    dataset.scatter(torch.zeros(23, 4))
    assert copies(cache) == ["graphs.parquet", "shard-00001.parquet"]


def test_a_data_set_built_anew_under_the_same_url_never_mixes(one: Remote, cache: Path) -> None:
    old = PackDataset(one.url, cache_dir=cache)
    before = {i: old[i]["x"] for i in (0, 5, 12, 19)}  # shards 0 and 1
    old.blocks.close()
    one.write(23, first_seed=100)
    new = PackDataset(one.url, cache_dir=cache)
    one.read(new)
    for i, x in before.items():  # the old one still reads its own copies
        assert torch.equal(old[i]["x"], x) and not torch.equal(new[i]["x"], x)
    with pytest.raises(FormatError, match=r"shard-00002.parquet of flaky://.* (has|is damaged: fetched twice)"):
        old[21]
    one.read(PackDataset(one.url, cache_dir=cache))


def test_a_data_set_does_not_push_out_its_own_shards(one: Remote, cache: Path) -> None:
    entries = one.local.manifest.shards
    dataset = PackDataset(one.url, cache_dir=cache, cache_bytes=entries[0].bytes + entries[1].bytes)
    for _ in range(3):
        one.read(dataset)
        dataset.blocks.close()
    assert copies(cache) == shards(2), "the third is read block by block"
    asked = [name for name, _, _ in FlakyFileSystem.reads]
    assert asked.count("shard-00000.parquet") == asked.count("shard-00001.parquet") == 1
    assert asked.count("shard-00002.parquet") > 3
    assert held(cache) <= dataset.place.most_bytes


def test_the_copies_used_least_recently_make_room(tmp_path: Path, cache: Path) -> None:
    first, second = Remote(tmp_path), Remote(tmp_path, 20)
    old = PackDataset(first.url, cache_dir=cache, cache_bytes=first.bytes)
    first.read(old)
    old.blocks.close()
    for age, shard in zip((30, 10, 20), shards(3), strict=True):
        os.utime(cache / f"{first.manifest}.{shard}", (time.time() - age, time.time() - age))
    reader = PackDataset(first.url, cache_dir=cache, cache_bytes=first.bytes)
    reader[0]  # the oldest is in use again, and open
    new = PackDataset(second.url, cache_dir=cache, cache_bytes=first.bytes)
    second.read(new, range(10))
    assert copies(cache, first) == ["shard-00000.parquet", "shard-00001.parquet"][: len(copies(cache, first))]
    assert "shard-00002.parquet" not in copies(cache, first) and copies(cache, second) == ["shard-00000.parquet"]
    second.read(new, range(20))
    assert copies(cache, second) == shards(2)
    first.read(reader, range(10))  # whether or not its name is gone
    assert held(cache) <= first.bytes
    first.read(reader)


def test_a_reader_keeps_the_file_that_was_pushed_out(tmp_path: Path, cache: Path) -> None:
    first, second = Remote(tmp_path), Remote(tmp_path, 20)
    room = max(shard.bytes for shard in (*first.local.manifest.shards, *second.local.manifest.shards))
    reader = PackDataset(first.url, cache_dir=cache, cache_bytes=room, cache_blocks=1)
    reader[0]
    PackDataset(second.url, cache_dir=cache, cache_bytes=room)[0]
    assert copies(cache, first) == [] and copies(cache, second) == ["shard-00000.parquet"]
    FlakyFileSystem.reads.clear()
    first.read(reader, range(10))
    assert FlakyFileSystem.reads == []


@pytest.mark.parametrize("damage", ["flip", "short", "long", "empty", "link", "gone"])
def test_a_damaged_copy_is_fetched_anew(one: Remote, cache: Path, damage: str) -> None:
    one.read(PackDataset(one.url, cache_dir=cache))
    path = cache / f"{one.manifest}.shard-00000.parquet"
    data = bytearray(path.read_bytes())
    path.unlink()
    if damage == "link":
        path.symlink_to(one.folder / "shard-00001.parquet")
    elif damage != "gone":
        data[100] ^= damage == "flip"
        path.write_bytes({"short": data[:-1], "long": data + b"\0", "empty": b""}.get(damage, data))
    FlakyFileSystem.reads.clear()
    one.read(PackDataset(one.url, cache_dir=cache))
    assert [name for name, _, _ in FlakyFileSystem.reads] == ["manifest.json", "shard-00000.parquet"]
    assert not path.is_symlink() and path.read_bytes() == (one.folder / "shard-00000.parquet").read_bytes()


def test_a_damaged_copy_of_graphs_parquet_is_fetched_anew(one: Remote, cache: Path) -> None:
    dataset, rows = PackDataset(one.url, cache_dir=cache), torch.arange(92).float()
    wanted = dataset.scatter(rows)
    path = cache / f"{one.manifest}.graphs.parquet"
    data = bytearray(path.read_bytes())
    data[50] ^= 1
    path.write_bytes(data)
    assert torch.equal(dataset.scatter(rows), wanted)
    assert path.read_bytes() == (one.folder / "graphs.parquet").read_bytes()


def test_a_shard_that_arrives_damaged_is_fetched_twice_at_most(
    one: Remote, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiled: list[str] = []

    def spoil(path: str, data: bytes) -> bytes:
        if "shard" not in path or len(spoiled) == limit:
            return data
        spoiled.append(path)
        return data[:-1] + bytes([data[-1] ^ 1])

    monkeypatch.setattr(FlakyFileSystem, "spoil", staticmethod(spoil))
    limit = 1
    one.read(PackDataset(one.url, cache_dir=cache))
    for path in cache.iterdir():
        path.unlink()
    spoiled.clear()
    limit = 2
    with pytest.raises(FormatError, match=r"shard-00000.parquet of .* is damaged: fetched twice, its SHA-256 is"):
        PackDataset(one.url, cache_dir=cache)[0]
    assert copies(cache) == [], "nothing unproven is kept"


def test_a_full_disk_is_told_and_read_around(one: Remote, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, left = os.write, 12_000

    def full(fd: int, data: memoryview) -> int:
        nonlocal left
        if str(cache) not in str(Path(f"/proc/self/fd/{fd}").readlink()):
            return write(fd, data)
        if len(data) > left:
            raise OSError(errno.ENOSPC, "No space left on device")
        left -= len(data)
        return write(fd, data)

    monkeypatch.setattr("packer.files.remote.os.write", full)
    dataset = PackDataset(one.url, cache_dir=cache)
    with pytest.warns(RuntimeWarning, match=r"no copies of flaky://.* are kept in .*/cache: No space left on device"):
        one.read(dataset)
    assert copies(cache) == ["shard-00000.parquet"]
    monkeypatch.setattr("packer.files.remote.os.write", write)
    one.read(PackDataset(one.url, cache_dir=cache))
    assert copies(cache) == shards(3)


def test_a_folder_that_cannot_be_written_to_is_told_and_read_around(one: Remote, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.warns(RuntimeWarning, match=r"kept in .*/file/cache: Not a directory"):
        one.read(PackDataset(one.url, cache_dir=tmp_path / "file" / "cache"))
    (tmp_path / "cache" / f"{one.manifest}.shard-00000.parquet").mkdir(parents=True)
    with pytest.warns(RuntimeWarning, match=r"kept in .*/cache: \w+.shard-00000.parquet is not a plain"):
        one.read(PackDataset(one.url, cache_dir=tmp_path / "cache"))


def test_what_a_killed_process_left_is_counted_then_removed(one: Remote, cache: Path) -> None:
    cache.mkdir()
    left = cache / f"{one.manifest}.shard-00000.parquet.{'0' * 32}.tmp"
    left.write_bytes(bytes(5000))
    foreign = cache / "thesis.tex"
    foreign.write_bytes(bytes(100_000))
    dataset = PackDataset(one.url, cache_dir=cache, cache_bytes=one.bytes)
    one.read(dataset)
    assert left.exists() and copies(cache, one) == [shards(1)[0], left.name[65:], shards(2)[1]], "no room for the third"
    dataset.blocks.close()
    os.utime(left, (time.time() - 4000, time.time() - 4000))
    one.read(dataset)
    assert copies(cache, one) == shards(3) and foreign.exists()


def test_a_process_that_stops_in_its_turn_holds_nobody_up(
    one: Remote, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("packer.files.cache._WAIT", 0.2)
    cache.mkdir()
    locks = []
    for name in (f"{one.manifest}.shard-00000.parquet.lock", "graph-packer.lock"):
        locks.append(os.open(cache / name, os.O_RDWR | os.O_CREAT))
        fcntl.flock(locks[-1], fcntl.LOCK_EX)
    one.read(PackDataset(one.url, cache_dir=cache))
    assert copies(cache) == shards(3)
    for lock in locks:
        os.close(lock)


def test_threads_fetch_a_shard_once(one: Remote, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(path: str, data: bytes) -> bytes:
        time.sleep(0.2)
        return data

    monkeypatch.setattr(FlakyFileSystem, "spoil", staticmethod(slow))
    datasets = [PackDataset(one.url, cache_dir=cache) for _ in range(4)]
    threads = [threading.Thread(target=one.read, args=(dataset,)) for dataset in datasets]
    FlakyFileSystem.reads.clear()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(name for name, _, _ in FlakyFileSystem.reads) == shards(3)
    assert copies(cache) == shards(3)


def test_a_copy_under_way_counts(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Remote(tmp_path), Remote(tmp_path, 20)
    room = first.local.manifest.shards[0].bytes
    asked, go_on = threading.Event(), threading.Event()

    def wait(path: str, data: bytes) -> bytes:
        if path.endswith("shard-00000.parquet") and first.url.rpartition("/")[2] in path:
            asked.set()
            assert go_on.wait(10)
        return data

    monkeypatch.setattr(FlakyFileSystem, "spoil", staticmethod(wait))
    slow = PackDataset(first.url, cache_dir=cache, cache_bytes=room)
    thread = threading.Thread(target=first.read, args=(slow, range(10)))
    thread.start()
    assert asked.wait(10)
    second.read(PackDataset(second.url, cache_dir=cache, cache_bytes=room), range(20))
    assert held(cache) == room, "the room is taken before the bytes are here"
    go_on.set()
    thread.join()
    assert copies(cache) == copies(cache, first) == shards(1)


FETCH = """
    import os, sys, time
    sys.path.insert(0, {tests!r})
    import flaky_store
    from pathlib import Path
    from flaky_store import FlakyFileSystem
    from packer.shards import Manifest
    from packer.files.cache import CachedPlace
    from packer.files.remote import RemotePlace
    folder, cache, url = sys.argv[1:]
    flaky_store.put(Path(folder), url)
    manifest = Manifest.load(url)
    def hang(path, data):
        print("asked", flush=True)
        time.sleep(60)
    FlakyFileSystem.spoil = staticmethod(hang)
    place = CachedPlace(RemotePlace(url), Path(cache), manifest.sha256, 1 << 30)
    place.open(manifest.shards[0].name, manifest.shards[0])
"""


def test_a_process_killed_while_it_fetches_leaves_no_copy(one: Remote, cache: Path) -> None:
    code = textwrap.dedent(FETCH.format(tests=str(SUPPORT)))
    command = [sys.executable, "-c", code, str(one.folder), str(cache), "flaky://other/packs"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None and process.stdout.readline() == b"asked\n"
    process.kill()
    process.wait()
    process.stdout.close()
    assert [path.suffix for path in cache.iterdir() if path.suffix not in (".lock",)] == [".tmp"]
    one.read(PackDataset(one.url, cache_dir=cache))  # its locks went with it
    assert [name for name in copies(cache) if not name.endswith(("tmp", "lock"))] == shards(3)


def _read_at_random(urls: list[str], folders: list[Path], cache: Path, most: int, seed: int, results) -> None:
    warnings.simplefilter("error")
    rng = random.Random(seed)
    wanted = [PackDataset(folder) for folder in folders]
    try:
        for _ in range(12):
            which = rng.randrange(len(urls))
            dataset = PackDataset(urls[which], cache_dir=cache, cache_bytes=most, cache_blocks=1)
            for _ in range(6):
                i = rng.randrange(len(dataset))
                pack = dataset[i]
                assert all(torch.equal(pack[name], tensor) for name, tensor in wanted[which][i].items())
        results.put(None)
    except BaseException as error:
        results.put(repr(error))


def test_processes_share_a_folder_that_is_too_small(tmp_path: Path, cache: Path) -> None:
    """Four processes, three data sets, room for one: every pack is right, and the bound is kept at every moment."""
    remotes = [Remote(tmp_path, count) for count in (23, 21, 19)]
    most = max(remote.bytes for remote in remotes)
    context = multiprocessing.get_context("fork")  # the store is in this process's memory
    results = context.SimpleQueue()
    urls, folders = [remote.url for remote in remotes], [remote.folder for remote in remotes]
    processes = [
        context.Process(target=_read_at_random, args=(urls, folders, cache, most, seed, results)) for seed in range(4)
    ]
    for process in processes:
        process.start()
    largest = 0
    while any(process.is_alive() for process in processes):
        found = 0
        for entry in os.scandir(cache) if cache.exists() else ():
            try:
                found += entry.stat().st_size
            except FileNotFoundError:
                continue
        largest = max(largest, found)
        time.sleep(0.001)
    assert [results.get() for _ in processes] == [None] * 4
    # A scan that runs while one copy goes and another comes may see both.
    assert 0 < largest <= most + max(shard.bytes for shard in remotes[0].local.manifest.shards)
    assert held(cache) <= most and not list(cache.glob("*.tmp"))


def test_which_places_have_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote, local = RemotePlace("flaky://cache/none"), LocalPlace(tmp_path)
    assert cached(local, "0" * 64, None, CACHE_BYTES) is local
    assert cached(remote, "0" * 64, None, 0) is remote
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    place = cached(remote, "0" * 64, None, CACHE_BYTES)
    assert isinstance(place, CachedPlace) and place.folder == tmp_path / "graph-packer"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert default_folder() == Path("/home/somebody/.cache/graph-packer")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    with pytest.raises(FormatError, match="this user has no home to keep a cache in: pass cache_dir, or cache_bytes=0"):
        default_folder()


def test_what_is_opened(one: Remote, cache: Path) -> None:
    place = CachedPlace(RemotePlace(one.url), cache, one.manifest, 1 << 30)
    entry = one.local.manifest.shards[0]
    assert isinstance(place.open(entry.name, entry), LocalFile)
    assert isinstance(place.open("manifest.json"), RemoteFile), "which one it is cannot be told before it is read"
    assert str(place) == one.url
