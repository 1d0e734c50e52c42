"""Reading from a real S3 server over a network that fails: exactly the packs that lie there, in any process."""

from __future__ import annotations

import multiprocessing
import pickle
import re
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import poptorch_double
import pytest
import torch
from forks import read_packs
from object_store import KEY, SECRET, FaultProxy, make_bucket, s3_environment, s3_options, upload
from reference_packs import write_data_set
from small_packs import write_packs

from packer.errors import FormatError, MissingFileError, StoreError
from packer.files.retry import TRIES
from packer.reading import PackDataset, poptorch_loader, torch_loader
from packer.reading.unpack_graphs import unpack
from packer.verify.data_set import verify_shards
from pipelines.entry import main

PACKS = 46
BOTH = pytest.mark.parametrize("cache_bytes", [0, 1 << 30], ids=["ranges", "cache"])
pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    # Of sockets whose sessions a forked or ended process leaves to the kernel.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "packs"
    write_packs(folder, PACKS, 3, 12, skipped=2)
    return folder


@pytest.fixture(scope="module")
def bucket(s3_endpoint: str, written: Path) -> str:
    make_bucket(s3_endpoint, "reading")
    upload(written, "s3://reading/packs", s3_options(s3_endpoint))
    return "s3://reading"


@pytest.fixture
def proxy(s3_endpoint: str, bucket: str, request: pytest.FixtureRequest) -> Iterator[FaultProxy]:
    with FaultProxy(s3_endpoint, seed=zlib.crc32(request.node.name.encode())) as found:
        yield found


@pytest.fixture
def local(written: Path) -> PackDataset:
    return PackDataset(written)


def opened(proxy: FaultProxy, tmp_path: Path, cache_bytes: int, own_retries: bool = False, **more) -> PackDataset:
    options = s3_options(proxy.url, own_retries)
    return PackDataset(
        "s3://reading/packs", storage_options=options, cache_dir=tmp_path / "cache", cache_bytes=cache_bytes, **more
    )


def same(found, wanted) -> None:
    assert list(found.keys()) == list(wanted.keys())
    assert all(torch.equal(found[name], wanted[name]) for name in found.keys())  # noqa: SIM118


@BOTH
@pytest.mark.parametrize("own_retries", [True, False], ids=["client retries", "client gives up"])
def test_an_epoch_with_a_tenth_of_the_requests_failing(
    proxy: FaultProxy, local: PackDataset, tmp_path: Path, cache_bytes: int, own_retries: bool
) -> None:
    proxy.share = 0.1
    for attempt in range(3):
        dataset = opened(proxy, tmp_path / str(attempt), cache_bytes, own_retries)
        found, wanted = torch_loader(dataset, 2, seed=attempt), torch_loader(local, 2, seed=attempt)
        for batch, expected in zip(found, wanted, strict=True):
            same(batch, expected)
        rows = torch.arange(4 * PACKS).float()
        assert torch.equal(dataset.scatter(rows).nan_to_num(-1), local.scatter(rows).nan_to_num(-1))
    assert sum(proxy.faults.values()) >= 3, "the network did fail"


@pytest.mark.parametrize("kind", ["500", "503", "reset", "truncate", "lost", "slow"])
def test_each_kind_of_fault_passes(proxy: FaultProxy, local: PackDataset, tmp_path: Path, kind: str) -> None:
    """A third of the requests fail; slow ones are slower than the client's patience."""
    proxy.share, proxy.kinds, proxy.delay = 0.3, (kind,), 0.6
    options = s3_options(proxy.url, own_retries=False, read_timeout=0.3)
    dataset = PackDataset("s3://reading/packs", storage_options=options, cache_dir=tmp_path)
    for i in range(PACKS):
        same(dataset[i], local[i])
    assert proxy.faults[kind]


def test_an_answer_that_does_not_come_is_not_waited_for(
    proxy: FaultProxy, local: PackDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("packer.files.remote.STALLED", 0.5)
    proxy.share, proxy.kinds, proxy.delay = 0.3, ("slow",), 120  # for which s3fs would wait, and then ask again itself
    dataset = opened(proxy, tmp_path, 0, own_retries=True)
    for i in range(12):
        start = time.monotonic()
        same(dataset[i], local[i])
        assert time.monotonic() - start < proxy.delay, "before the store answers"
    assert proxy.faults["slow"]


# Both ways to read are pickled alike.
@pytest.mark.parametrize(
    ("method", "cache_bytes"),
    [("fork", 0), ("fork", 1 << 30), ("spawn", 1 << 30), ("forkserver", 0)],
    ids=["fork-ranges", "fork-cache", "spawn-cache", "forkserver-ranges"],
)
def test_a_used_data_set_goes_to_other_processes(
    proxy: FaultProxy, local: PackDataset, tmp_path: Path, method: str, cache_bytes: int
) -> None:
    dataset = opened(proxy, tmp_path, cache_bytes, cache_blocks=1)
    dataset[0]
    context = multiprocessing.get_context(method)
    results = context.SimpleQueue()
    number = 1 if method == "spawn" else 2  # which imports torch first
    children = [context.Process(target=read_packs, args=(dataset, (0, 45, 13), results)) for _ in range(number)]
    for child in children:
        child.start()
    same(dataset[20], local[20])  # the parent's connection is still its own
    wanted = [local[i]["y"].tolist() for i in (0, 45, 13)]
    assert [results.get() for _ in children] == [wanted] * number
    for child in children:
        child.join()
        assert child.exitcode == 0
    same(dataset[30], local[30])
    assert len(pickle.dumps(dataset)) < 20_000


@pytest.mark.parametrize(
    ("method", "cache_bytes"),
    [("fork", 0), ("fork", 1 << 30), ("forkserver", 1 << 30)],
    ids=["fork-ranges", "fork-cache", "forkserver-cache"],
)
def test_workers_on_a_failing_network(
    proxy: FaultProxy, local: PackDataset, tmp_path: Path, cache_bytes: int, method: str
) -> None:
    proxy.share = 0.1
    dataset = opened(proxy, tmp_path, cache_bytes)
    dataset[0]
    options = {"num_workers": 2, "multiprocessing_context": method}
    for epoch in range(2 if method == "fork" else 1):
        found, wanted = torch_loader(dataset, **options), torch_loader(local)
        found.set_epoch(epoch)
        wanted.set_epoch(epoch)
        for batch, expected in zip(found, wanted, strict=True):
            same(batch, expected)
    if cache_bytes:
        whole = [entry for entry in proxy.log if re.search(r"shard", entry[1]) and entry[0] == "GET" and not entry[3]]
        assert len(whole) == len(local.manifest.shards), "each shard was fetched once, by whichever worker was first"


@BOTH
def test_poptorch(
    proxy: FaultProxy, local: PackDataset, tmp_path: Path, cache_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "poptorch", poptorch_double)
    proxy.share = 0.1
    options = poptorch_double.Options()
    found = poptorch_loader(opened(proxy, tmp_path, cache_bytes), options, num_workers=1)
    for step, expected in zip(found, poptorch_loader(local, options), strict=True):
        same(step, expected)


def test_processes_that_start_together_fetch_each_shard_once(
    proxy: FaultProxy, local: PackDataset, tmp_path: Path
) -> None:
    proxy.share, proxy.kinds, proxy.delay = 1.0, ("slow",), 0.3
    dataset = opened(proxy, tmp_path, 1 << 30)
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    children = [context.Process(target=read_packs, args=(dataset, (0, 45, 13), results)) for _ in range(6)]
    for child in children:
        child.start()
    wanted = [local[i]["y"].tolist() for i in (0, 45, 13)]
    assert [results.get() for _ in children] == [wanted] * 6
    fetched = sorted(path for method, path, _, _ in proxy.log if method == "GET" and "shard" in path)
    assert fetched == [f"/reading/packs/shard-{i:05d}.parquet" for i in (0, 1, 3)]
    assert not [path for path in (tmp_path / "cache").iterdir() if path.suffix == ".tmp"]


@BOTH
def test_what_the_network_damages_is_noticed(
    proxy: FaultProxy, local: PackDataset, tmp_path: Path, cache_bytes: int
) -> None:
    proxy.kinds, proxy.only = ("corrupt",), lambda method, path: method == "GET" and "manifest" not in path
    options = s3_options(proxy.url, own_retries=False, response_checksum_validation="when_required")  # ours alone

    def damaged(cache: Path) -> PackDataset:
        return PackDataset("s3://reading/packs", storage_options=options, cache_dir=cache, cache_bytes=cache_bytes)

    proxy.share = 0.2  # now and then: fetched once more
    wrong = 0
    for attempt in range(2):
        dataset = damaged(tmp_path / str(attempt))
        for i in range(PACKS):
            try:
                same(dataset[i], local[i])
            except FormatError as error:  # twice in a row
                assert "wice" in str(error)
                wrong += 1
    assert proxy.faults["corrupt"] > 1 and wrong < 2 * PACKS / 2
    proxy.share = 1.0
    dataset = damaged(tmp_path / "always")
    for i in range(0, PACKS, 5):
        with pytest.raises(FormatError, match=r"shard-0000\d.parquet.* is damaged: .*[Ff]etched twice"):
            dataset[i]


def test_an_outage_ends_in_an_error(proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("packer.files.retry._LONGEST_WAIT", 0.01)
    dataset = opened(proxy, tmp_path, 0)
    for kind, last in (("500", "OSError: .*Internal Server Error"), ("reset", r"\w*(Connection|Disconnect)\w*")):
        proxy.share, proxy.kinds = 1.0, (kind,)
        proxy.log.clear()
        with pytest.raises(
            StoreError, match=rf"s3://reading/packs/shard-00000.parquet: .* failed {TRIES} times in .*{last}"
        ):
            dataset[0]
        assert len(proxy.log) >= TRIES
    proxy.share = 0.0
    assert dataset[0]["x"].shape == (12, 2), "and once it is over, goes on"


def test_refusals_and_missing_files_are_not_asked_for_again(proxy: FaultProxy, tmp_path: Path) -> None:
    options = s3_options(proxy.url)
    with pytest.raises(
        MissingFileError, match=r"^s3://reading/nothing holds no manifest.json: not a data set, or a build"
    ):
        PackDataset("s3://reading/nothing", storage_options=options)
    with pytest.raises(MissingFileError, match=r"^s3://no-such-bucket/packs holds no manifest.json"):
        PackDataset("s3://no-such-bucket/packs", storage_options=options)
    assert len(proxy.log) <= 4
    dataset = opened(proxy, tmp_path, 0)
    proxy.share, proxy.kinds = 1.0, ("403",)
    proxy.log.clear()
    with pytest.raises(
        StoreError, match=r"shard-00000.parquet: .*: access denied \(PermissionError: .*Check the crede"
    ) as told:
        dataset[0]
    assert len(proxy.log) == 1
    assert KEY not in str(told.value) and SECRET not in str(told.value)


def test_unpack(proxy: FaultProxy, local: PackDataset, tmp_path: Path) -> None:
    proxy.share = 0.1
    for found, wanted in zip(unpack(opened(proxy, tmp_path, 0)), unpack(local), strict=True):
        assert torch.equal(found.x, wanted.x) and torch.equal(found.edge_index, wanted.edge_index)


@pytest.fixture
def environment(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    s3_environment(monkeypatch, proxy.url)


def test_verifying_and_looking_at_a_url(
    proxy: FaultProxy, environment: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "packs").mkdir()
    write_data_set(tmp_path / "packs")
    upload(tmp_path / "packs", "s3://reading/sound", s3_options(proxy.url))
    proxy.share = 0.1
    report = verify_shards("s3://reading/sound")
    assert report.ok and report.packs == 10

    assert main(["verify", "s3://reading/sound/", "--workers", "2"]) == 0
    assert "s3://reading/sound: sound; 10 packs" in capfd.readouterr().out
    assert main(["inspect", "s3://reading/sound"]) == 0
    assert "s3://reading/sound: 10 packs of" in capfd.readouterr().out
    assert main(["inspect", "s3://reading/sound", "--pack", "0"]) == 0
    assert "pack 0 of s3://reading/sound" in capfd.readouterr().out
    assert main(["verify", "s3://reading/nothing"]) == 1
    assert "s3://reading/nothing holds no packs: neither manifest.json nor splits.json" in capfd.readouterr().err

    shard = tmp_path / "packs" / "shard-00001.parquet"
    data = bytearray(shard.read_bytes())
    data[64] ^= 1
    shard.write_bytes(data)
    upload(tmp_path / "packs", "s3://reading/split/train", s3_options(proxy.url))
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "splits.json").write_text('{"splits": {"train": 1}}')
    upload(tmp_path / "top", "s3://reading/split", s3_options(proxy.url))
    assert main(["verify", "s3://reading/split", "--workers", "1"]) == 1
    assert "s3://reading/split/train: shard-00001.parquet, block 0: CRC-32 is" in capfd.readouterr().err


def test_http(proxy: FaultProxy, written: Path, local: PackDataset, tmp_path: Path) -> None:
    """Objects that all may read, over plain HTTP."""
    upload(written, "s3://reading/public", {**s3_options(proxy.url), "s3_additional_kwargs": {"ACL": "public-read"}})
    proxy.share, proxy.kinds = 0.1, ("500", "reset", "truncate")
    for cache_bytes in (0, 1 << 30):
        dataset = PackDataset(f"{proxy.url}/reading/public", cache_dir=tmp_path, cache_bytes=cache_bytes)
        for i in range(PACKS):
            same(dataset[i], local[i])
        np.testing.assert_array_equal(dataset.graph_ids(3), local.graph_ids(3))
    proxy.share = 0.0
    with pytest.raises(StoreError, match=r"manifest.json: asking for its size: access denied"):
        PackDataset(f"{proxy.url}/reading/packs")
    proxy.share, proxy.kinds = 1.0, ("404",)
    with pytest.raises(MissingFileError, match=r"holds no manifest.json"):
        PackDataset(f"{proxy.url}/reading/public")
