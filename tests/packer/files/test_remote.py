"""Data sets at URLs: the same packs as from a folder, whatever the store does; nothing secret is ever shown."""

from __future__ import annotations

import errno
import itertools
import pickle
import random
import subprocess
import sys
import textwrap
from pathlib import Path
from urllib.parse import unquote

import flaky_store
import pytest
import torch
from aiohttp import ClientPayloadError, ClientResponseError, RequestInfo
from flaky_store import FlakyFileSystem
from paths import ROOT
from reference_packs import write_data_set
from small_packs import write_packs

from packer.errors import FormatError, MissingFileError, StoreError
from packer.files.atomic import hash_file
from packer.files.cache import CachedPlace
from packer.files.local import LocalPlace
from packer.files.open import place_of
from packer.files.remote import RemotePlace
from packer.files.retry import TRIES, cause, is_final, redact, redactor, retried
from packer.reading import PackDataset, torch_loader
from packer.reading.unpack_graphs import unpack
from packer.shards import Manifest, iter_graphs, open_shard
from packer.verify.data_set import verify_shards

numbers = itertools.count()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """No test waits between tries; the waits there would have been."""
    waits: list[float] = []
    monkeypatch.setattr("packer.files.retry.time.sleep", waits.append)
    monkeypatch.setattr(FlakyFileSystem, "spoil", None)
    monkeypatch.setattr(FlakyFileSystem, "reads", [])
    return waits


@pytest.fixture
def url() -> str:
    return f"flaky://bucket/packs{next(numbers)}"


@pytest.fixture
def local(tmp_path: Path, url: str) -> PackDataset:
    """A data set here whose copy lies at `url`."""
    write_packs(tmp_path / "packs", skipped=2)
    flaky_store.put(tmp_path / "packs", url)
    return PackDataset(tmp_path / "packs")


def same(found: PackDataset, wanted: PackDataset) -> None:
    assert len(found) == len(wanted)
    for i in range(len(wanted)):
        pack, expected = found[i], wanted[i]
        assert list(pack) == list(expected)
        assert all(torch.equal(pack[name], expected[name]) for name in pack)


@pytest.mark.parametrize("cache_bytes", [0, 1 << 30])
def test_a_url_gives_what_its_folder_gives(local: PackDataset, url: str, tmp_path: Path, cache_bytes: int) -> None:
    dataset = PackDataset(url + "/", cache_dir=tmp_path / "cache", cache_bytes=cache_bytes)
    same(dataset, local)
    same(pickle.loads(pickle.dumps(dataset)), local)
    assert dataset.path == url and repr(dataset).startswith(f"PackDataset('{url}', 23 packs of ")
    for i in (0, 22):
        assert dataset.graph_ids(i).tolist() == local.graph_ids(i).tolist()
    rows = torch.arange(23 * 4).float()
    assert torch.equal(dataset.scatter(rows).nan_to_num(-1), local.scatter(rows).nan_to_num(-1))
    for found, wanted in zip(unpack(dataset), unpack(local), strict=True):
        assert found.to_dict().keys() == wanted.to_dict().keys()
        assert all(torch.equal(value, wanted[key]) for key, value in found.to_dict().items())
    assert len(unpack(url)) == len(unpack(local)) and len(unpack(3, dataset)) == len(unpack(3, local))
    for found, wanted in zip(torch_loader(dataset, 2), torch_loader(local, 2), strict=True):
        assert torch.equal(found.x, wanted.x) and torch.equal(found.edge_index, wanted.edge_index)


def test_file_urls_are_folders(local: PackDataset) -> None:
    for text in (f"file://{local.path}", f"file://localhost{local.path}", f"local://{local.path}"):
        assert place_of(text) == LocalPlace(local.path)
        same(PackDataset(text), local)


def test_what_cannot_be_a_data_set_at_a_url(local: PackDataset, url: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"storage_options are for URLs such as s3://bucket/packs; .* is a folder on"):
        PackDataset(local.path, storage_options={"key": "k"})
    with pytest.raises(FormatError, match="storage_options must be a mapping of names; got str"):
        PackDataset(url, storage_options="key=1")  # type: ignore[arg-type]
    with pytest.raises(FormatError, match="cache_bytes must be at least 0"):
        PackDataset(url, cache_bytes=-1)
    with pytest.raises(FormatError, match=r"^https://host/packs: the URL of a data set names a folder"):
        PackDataset("https://me:word@host/packs?signature=abc")
    with pytest.raises(StoreError, match=r"nonsense://packs cannot be connected to: ValueError: Protocol not known"):
        PackDataset("nonsense://packs")
    with pytest.raises(StoreError, match=r"zip://packs::flaky://y cannot be connected to: FileNotFoundError: /y"):
        PackDataset("zip://packs::flaky://y")
    missing = f"{url}-none"
    with pytest.raises(MissingFileError, match=f"^{missing} holds no manifest.json: not a data set, or a build that"):
        PackDataset(missing)
    fs = FlakyFileSystem()
    shard = f"{url}/shard-00001.parquet"
    fs.pipe_file(shard, fs.cat_file(shard) + b"more")
    for cache_bytes in (0, 1 << 30):
        dataset = PackDataset(url, cache_dir=tmp_path / "cache", cache_bytes=cache_bytes)
        with pytest.raises(FormatError, match=r"shard-00001.parquet.* has \d+ bytes, the manifest says \d+"):
            dataset[12]
    fs.rm_file(shard)
    for cache_bytes in (0, 1 << 30):
        dataset = PackDataset(url, cache_dir=tmp_path / "cache", cache_bytes=cache_bytes)
        with pytest.raises(MissingFileError, match=f"shard-00001.parquet is missing from {url}"):
            dataset[12]
        assert dataset[0]["x"].shape == (12, 2)


def test_a_huge_manifest_is_not_read(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    FlakyFileSystem().pipe_file(f"{url}/manifest.json", b"{}")
    monkeypatch.setattr(FlakyFileSystem, "info", lambda self, path, **more: {"size": 1 << 40, "name": path})
    with pytest.raises(FormatError, match=r"manifest.json has \d+ bytes; at most"):
        PackDataset(url)
    monkeypatch.setattr(FlakyFileSystem, "info", lambda self, path, **more: {"size": None, "name": path})
    with pytest.raises(StoreError, match=r"the server does not say how large manifest.json is"):
        PackDataset(url)
    assert FlakyFileSystem.reads == []


MISSING = {
    "s3://b/p": (["s3fs"], "reading s3://b/p needs s3fs: pip install 'graph-packer[s3]'"),
    "gs://b/p": (["gcsfs"], "reading gs://b/p needs gcsfs: pip install 'graph-packer[gcs]'"),
    "http://me:x@b/p": (["fsspec.core"], "reading http://b/p needs fsspec: pip install 'graph-packer[s3]'"),
    "s3://b/q": (["fsspec", "fsspec.core"], "reading s3://b/q needs s3fs: pip install 'graph-packer[s3]'"),
}


def test_a_folder_needs_no_fsspec_and_a_missing_package_names_its_extra(local: PackDataset) -> None:
    """In a process that has imported none of them; all in one, for it imports torch first."""
    code = f"""
        import sys
        from packer import PackDataset, verify_shards
        PackDataset({str(local.path)!r})[0]
        verify_shards({str(local.path)!r})
        assert "fsspec" not in sys.modules
        for url, (absent, _) in {MISSING!r}.items():
            before = dict(sys.modules)
            sys.modules.update(dict.fromkeys(absent))
            try:
                PackDataset(url)
            except ImportError as error:
                print(type(error).__name__, error)
            for name in set(sys.modules) - set(before) | set(absent):
                del sys.modules[name]
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"MissingExtraError {text}" for _, text in MISSING.values()]


def http_error(status: int) -> Exception:
    about = RequestInfo("http://host/x", "GET", {}, "http://host/x")  # type: ignore[arg-type]
    return ClientResponseError(about, (), status=status)


class BotoError(Exception):
    def __init__(self, status: int) -> None:
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status}}


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "final"),
    [
        (FileNotFoundError("x"), True),
        (PermissionError("x"), True),
        (ValueError("x"), True),
        (http_error(404), True),
        (http_error(403), True),
        (http_error(416), True),
        (http_error(408), False),
        (http_error(429), False),
        (http_error(500), False),
        (http_error(503), False),
        (BotoError(400), True),
        (BotoError(503), False),
        # what s3fs makes of botocore's errors
        (caused(OSError(errno.EIO, "x"), BotoError(500)), False),
        (caused(OSError(errno.EINVAL, "x"), BotoError(416)), True),
        (caused(PermissionError("x"), BotoError(403)), True),
        (caused(TimeoutError("x"), BotoError(400)), False),  # S3's RequestTimeout
        # fsspec's HTTP says "not found" of whatever went wrong
        (caused(FileNotFoundError("x"), http_error(500)), False),
        (caused(FileNotFoundError("x"), http_error(404)), True),
        (caused(FileNotFoundError("x"), ConnectionRefusedError("x")), False),
        (caused(FileNotFoundError("x"), KeyError("x")), True),  # fsspec's memory
        (ConnectionResetError("x"), False),
        (TimeoutError(), False),
        (ClientPayloadError("cut short"), False),
        (OSError("x"), False),
    ],
    ids=repr,
)
def test_which_errors_pass(error: Exception, final: bool) -> None:
    assert is_final(error) == final


def test_tries_are_bounded_and_wait_longer_each_time(quick: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "packer.files.retry")
    asked: list[int] = []

    def fails(times: int) -> str:
        asked.append(1)
        if len(asked) <= times:
            raise ConnectionResetError("by peer")
        return "yes"

    assert retried(lambda: fails(TRIES - 1), "asking", str) == "yes"
    assert len(asked) == TRIES == len(quick) + 1 == len(caplog.records) + 1
    assert caplog.messages[0] == f"asking failed, try 1 of {TRIES}: ConnectionResetError: by peer"
    bounds = [min(10, 0.1 * 2**i) for i in range(TRIES - 1)]
    assert all(bound / 2 <= wait <= bound for wait, bound in zip(quick, bounds, strict=True))
    asked.clear()
    with pytest.raises(
        StoreError, match=f"^asking failed {TRIES} times in 0 s, last with ConnectionResetError: by peer"
    ):
        retried(lambda: fails(100), "asking", str)
    asked.clear()
    with pytest.raises(FileNotFoundError):
        retried(lambda: asked.append(1) or Path("/none").read_text(), "asking", str)
    assert len(asked) == 1


def test_patience_ends_however_slow_the_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0, 50)  # each look at the clock is 50 s later: two tries, and the third is over 120 s
    monkeypatch.setattr("packer.files.retry.time.monotonic", lambda: next(clock))

    def fail() -> None:
        raise TimeoutError("slow")

    with pytest.raises(StoreError, match="failed 3 times in 150 s, last with TimeoutError: slow"):
        retried(fail, "asking", str)


@pytest.mark.parametrize("cache_bytes", [0, 1 << 30])
def test_faults_that_pass_change_nothing(
    local: PackDataset, url: str, tmp_path: Path, cache_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(5)

    def spoil(path: str, data: bytes) -> bytes:
        fault = rng.choice([*[""] * 9, "reset", "short", "500"])
        if fault == "reset":
            raise ConnectionResetError("by peer")
        if fault == "500":
            raise http_error(500)
        return data[: len(data) // 2] if fault == "short" else data

    monkeypatch.setattr(FlakyFileSystem, "spoil", staticmethod(spoil))
    monkeypatch.setattr("packer.files.remote.PIECE_BYTES", 500)
    for _ in range(5):
        same(PackDataset(url, cache_dir=tmp_path / str(next(numbers)), cache_bytes=cache_bytes), local)


def test_an_outage_is_an_error_that_says_what_was_asked(
    local: PackDataset, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = PackDataset(url, cache_bytes=0)
    monkeypatch.setattr(FlakyFileSystem, "spoil", staticmethod(lambda path, data: data[:7]))
    what = rf"{url}/shard-00000.parquet: reading its bytes \d+ to \d+ failed {TRIES} times in 0 s, last with "
    with pytest.raises(StoreError, match=what + r"ShortAnswerError: the server sent 7 of \d+ bytes. Check the network"):
        dataset[0]
    monkeypatch.setattr(FlakyFileSystem, "spoil", staticmethod(lambda path, data: data + b"all the rest"))
    with pytest.raises(StoreError, match=r"is not possible: ValueError: the server sent \d+ bytes: it does not answer"):
        dataset[0]
    assert len(FlakyFileSystem.reads) == 1 + TRIES + 1


def test_a_refusal_is_told_at_once(local: PackDataset, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, data: bytes) -> bytes:
        raise PermissionError("Forbidden")

    dataset = PackDataset(url, cache_bytes=0)
    FlakyFileSystem.reads.clear()
    monkeypatch.setattr(FlakyFileSystem, "spoil", staticmethod(refuse))
    with pytest.raises(
        StoreError, match=r"access denied \(PermissionError: Forbidden\). Check the credentials, in stor"
    ):
        dataset[0]
    assert len(FlakyFileSystem.reads) == 1


def test_a_block_that_arrives_damaged_is_fetched_once_more(
    local: PackDataset, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged: list[str] = []

    def spoil(path: str, data: bytes) -> bytes:
        if not path.endswith("shard-00000.parquet") or damaged.count(path) >= limit:
            return data
        damaged.append(path)
        return data[:-1] + bytes([data[-1] ^ 1])

    monkeypatch.setattr(FlakyFileSystem, "spoil", staticmethod(spoil))
    limit = 1
    same(PackDataset(url, cache_bytes=0), local)
    damaged.clear()
    limit = 2
    with pytest.raises(
        FormatError, match=r"shard-00000.parquet: the footer is damaged: .* It was fetched twice. Open the"
    ):
        PackDataset(url, cache_bytes=0)[0]
    same(PackDataset(url, cache_bytes=0), local)


SECRET = "hunter2-and-more"


def test_secrets_are_never_shown(local: PackDataset, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"password": SECRET, "client_kwargs": {"headers": {"Authorization": f"Bearer {SECRET}-token"}}}
    dataset = PackDataset(url, storage_options=options, cache_dir=tmp_path / "cache")
    shown_texts = [repr(dataset), str(dataset.place), repr(dataset.place), dataset.path, repr(torch_loader(dataset))]
    shown_texts.append(str(torch_loader(dataset).state_dict()))
    shown_texts.append(repr(RemotePlace(url, options)))
    same(pickle.loads(pickle.dumps(dataset)), local)

    errors: list[Exception] = []

    def fail(path: str, data: bytes) -> bytes:
        raise errors[-1]

    ranged = PackDataset(url, storage_options=options, cache_bytes=0)
    monkeypatch.setattr(FlakyFileSystem, "spoil", staticmethod(fail))
    for error in (
        OSError(f"401 for Bearer {SECRET}-token"),
        PermissionError(f"password {SECRET} is wrong"),
        NotImplementedError(f"https://me:{SECRET}@host/x?sig={SECRET}"),
    ):
        errors.append(error)
        with pytest.raises(StoreError) as told:
            ranged[0]
        assert told.value.__cause__ is None and told.value.__suppress_context__
        shown_texts.append(str(told.value))
    assert not [text for text in shown_texts if SECRET in text]
    assert "password *** is wrong" in shown_texts[-2] and "https://host/x" in shown_texts[-1]
    assert redact(f"at ftp://me:{SECRET}@host/a/b?c={SECRET} and 's3://b/c'") == "at ftp://host/a/b and 's3://b/c'"
    assert redact(f"'https://host/a.csv?t=1#access_token={SECRET}' and https://host/b#{SECRET}") == (
        "'https://host/a.csv' and https://host/b"
    )
    assert redact("s3://bucket/a#b/c") == "s3://bucket/a#b/c"
    assert not [path for path in (tmp_path / "cache").iterdir() if SECRET in path.read_bytes().decode("latin-1")]


@pytest.mark.parametrize("secret", ["hunter2", "aB3/with/sl%2Fashes+", "//twice/", "at@sign/and:colon"])
def test_no_piece_of_a_secret_is_shown(secret: str) -> None:
    """Clients cut a URL at its slashes, and name the pieces; errors are cut to a length."""
    rest = f"AKIA1:{secret}@bucket/path"
    hide = redactor({}, f"s3://{rest}")
    words = rest.split("/")
    pieces = {"/".join(words[:n]) for n in range(1, len(words))} | {"/".join(words[n:]) for n in range(1, len(words))}
    for text in (*pieces, rest, f"s3://{rest}", *map(unquote, pieces)):
        for before in (0, 280, 295, 299):
            told = cause(ValueError("." * before + f" bucket {text!r}"), hide)
            assert not [word for word in (*secret.split("/"), "AKIA1") if len(word) > 2 and word in told], told


def test_verify_reads_what_lies_there(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "packs").mkdir()
    write_data_set(tmp_path / "packs")
    flaky_store.put(tmp_path / "packs", url)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    found, wanted = verify_shards(url), verify_shards(tmp_path / "packs")
    assert found.ok and wanted.ok and (found.packs, found.graphs) == (wanted.packs, wanted.graphs)
    whole = [read for read in FlakyFileSystem.reads if read[0] == "graphs.parquet"]
    assert len(whole) == 1, "fetched once, though it is read several times"

    fs = FlakyFileSystem()
    fs.pipe_file(f"{url}/extra.parquet", b"x")
    for name in ("shard-00000.parquet", "graphs.parquet", "plan.parquet"):
        data = bytearray(fs.cat_file(f"{url}/{name}"))
        data[100] ^= 16
        fs.pipe_file(f"{url}/{name}", bytes(data))
    faults = [str(fault) for fault in verify_shards(url).faults]
    for start in (
        "extra.parquet: the manifest does not list it",
        "shard-00000.parquet, block",
        "graphs.parquet: ",
        "plan",
    ):
        assert any(text.startswith(start) for text in faults), (start, faults)
    monkeypatch.setattr(FlakyFileSystem, "ls", lambda *args, **more: (_ for _ in ()).throw(NotImplementedError()))
    assert not any("extra" in str(fault) for fault in verify_shards(url).faults), "a store that does not list"
    assert [fault.file for fault in verify_shards(f"{url}-none").faults] == ["manifest.json"]


def contents(place, manifest: Manifest) -> list:
    found: list = []
    for shard, entry in enumerate(manifest.shards):
        reader = open_shard(place, manifest, shard)
        found += [{n: v.tobytes() for n, v in reader.block(block).items()} for block in range(entry.blocks)]
        reader.close()
    return found + [batch.to_pylist() for batch in iter_graphs(place, manifest)]


def test_every_bit_that_a_server_gets_wrong_is_found(tmp_path: Path, url: str) -> None:
    """200 flips in what the server holds, read by ranges and through a cache: refused, or the same numbers."""
    (tmp_path / "packs").mkdir()
    write_data_set(tmp_path / "packs")
    flaky_store.put(tmp_path / "packs", url)
    manifest, fs, rng = Manifest.load(url), FlakyFileSystem(), random.Random(3)
    expected = contents(tmp_path / "packs", manifest)
    assert contents(RemotePlace(url), manifest) == expected
    names = ["graphs.parquet", *(shard.name for shard in manifest.shards)]
    for i in range(200):
        path = f"{url}/{names[i % len(names)]}"
        whole = fs.cat_file(path)
        data = bytearray(whole)
        bit = rng.randrange(8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
        fs.pipe_file(path, bytes(data))
        places = [RemotePlace(url), CachedPlace(RemotePlace(url), tmp_path / f"cache{i}", manifest.sha256, 1 << 30)]
        for place in places:
            with pytest.raises(FormatError, match=names[i % len(names)]):
                contents(place, manifest)
        fs.pipe_file(path, whole)
    bits = bytearray((tmp_path / "packs" / "manifest.json").read_bytes())
    bits[100] ^= 2
    fs.pipe_file(f"{url}/manifest.json", bytes(bits))
    with pytest.raises(FormatError, match=r"manifest.json"):
        Manifest.load(url)


def test_copying_takes_bounded_memory(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("packer.files.remote.PIECE_BYTES", 1000)
    FlakyFileSystem().pipe_file(f"{url}/file", bytes(range(256)) * 40)
    FlakyFileSystem.reads.clear()
    with (tmp_path / "copy").open("wb") as file:
        sha256 = RemotePlace(url).copy("file", 10_240, file.fileno())
    assert (tmp_path / "copy").read_bytes() == bytes(range(256)) * 40
    assert sha256 == hash_file(tmp_path / "copy").sha256
    assert max(end - start for _, start, end in FlakyFileSystem.reads) == 1000 and len(FlakyFileSystem.reads) == 11


def test_places_are_values(url: str) -> None:
    one, other = RemotePlace(url, {"password": "a"}), RemotePlace(url, {"password": "a"})
    assert one == other and hash(one) == hash(other) and one != RemotePlace(url, {"password": "b"})
