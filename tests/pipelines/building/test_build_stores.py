"""Building into an object store over a network that fails: the bytes of a build into a folder, or no data set."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from deadly import Apart, Workers
from forks import forked_dask
from jobs import LIMITS, SMILES, hashes, in_small_parts
from object_store import FaultProxy, make_bucket, objects, s3_options

from packer import PackDataset, verify_shards
from packer.errors import BuildError, StoreError
from packer.files.open import place_of
from packer.reading import torch_loader
from pipelines import build
from pipelines.building.job import commit
from pipelines.executors import make_executor
from pipelines.stores.store import store_of

FAULTS = ("500", "503", "reset", "lost", "truncate", "slow")
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # of sockets of ended processes


@pytest.fixture(scope="module", autouse=True)
def small_parts() -> Iterator[None]:
    with in_small_parts():
        yield


@pytest.fixture(scope="module")
def molecules(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("csv") / "molecules.csv"
    path.write_text("smiles,t\n" + "".join(f"{SMILES[i % 10]},{i}.5\n" for i in range(70)))
    return f"smiles:{path}"


@pytest.fixture(scope="module")
def job(molecules: str) -> Callable[..., Any]:
    def build_it(out: Any, **options: Any) -> Any:
        chosen = {"splits": "train=0.75,test=0.25", "targets": ["t"], **options}
        return build(molecules, out, LIMITS, **chosen)

    return build_it


@pytest.fixture(scope="module")
def undisturbed(job: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference") / "out"
    job(folder, workers=1)
    return folder


@pytest.fixture
def proxy(s3_endpoint: str, request: pytest.FixtureRequest) -> Iterator[FaultProxy]:
    with FaultProxy(s3_endpoint, kinds=FAULTS, delay=0.05, seed=zlib.crc32(request.node.name.encode())) as found:
        yield found


@pytest.fixture
def bucket(s3_endpoint: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    name = f"build-{zlib.crc32(request.node.name.encode())}"
    make_bucket(s3_endpoint, name)
    return f"s3://{name}"


def stored(endpoint: str, url: str) -> dict[str, str]:
    """Every object below a URL but build.json, with its hash."""
    return {name: digest for name, digest in objects(endpoint, url).items() if Path(name).name != "build.json"}


def no_unfinished_uploads(endpoint: str, bucket: str) -> bool:
    import s3fs

    fs = s3fs.S3FileSystem(**s3_options(endpoint))
    return not fs.call_s3("list_multipart_uploads", Bucket=bucket.removeprefix("s3://")).get("Uploads")


@pytest.mark.parametrize("own_retries", [True, False], ids=["client retries", "client gives up"])
def test_a_build_with_a_tenth_of_the_requests_failing(
    own_retries: bool, proxy: FaultProxy, s3_endpoint: str, bucket: str, job: Callable[..., Any], undisturbed: Path
) -> None:
    proxy.share = 0.1
    options = s3_options(proxy.url, own_retries)
    assert job(f"{bucket}/packs", workers=1, storage_options=options).out == f"{bucket}/packs"
    assert sum(proxy.faults.values()) >= 3, "the network did fail"
    assert stored(s3_endpoint, f"{bucket}/packs") == hashes(undisturbed)
    assert no_unfinished_uploads(s3_endpoint, bucket)
    assert verify_shards(place_of(f"{bucket}/packs/train", options)).ok


def test_what_tasks_write_for_each_other_may_lie_in_the_store_too(
    proxy: FaultProxy, s3_endpoint: str, bucket: str, job: Callable[..., Any], undisturbed: Path
) -> None:
    proxy.share = 0.1
    options = s3_options(proxy.url)
    executor = Workers(2)
    try:
        job(f"{bucket}/packs", executor=executor, work=f"{bucket}/between", storage_options=options)
    finally:
        executor.close()
    assert sum(proxy.faults.values()) >= 5
    assert stored(s3_endpoint, bucket) == {f"packs/{name}": digest for name, digest in hashes(undisturbed).items()}


def test_workers_elsewhere_write_to_each_other_through_the_store(
    s3_endpoint: str, bucket: str, job: Callable[..., Any], undisturbed: Path
) -> None:
    """A Dask cluster whose workers share no folder with the driver."""
    distributed = pytest.importorskip("distributed")
    with (
        forked_dask(),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
    ):
        executor = make_executor("dask", address=cluster.scheduler_address)
        try:
            job(f"{bucket}/packs", executor=executor, storage_options=s3_options(s3_endpoint))
        finally:
            executor.close()
    assert stored(s3_endpoint, f"{bucket}/packs") == hashes(undisturbed)


def test_a_training_read_with_a_tenth_of_the_requests_failing(
    proxy: FaultProxy, bucket: str, job: Callable[..., Any], undisturbed: Path, tmp_path: Path
) -> None:
    options = s3_options(proxy.url)
    job(f"{bucket}/packs", workers=1, storage_options=options)
    proxy.share = 0.1
    wanted = trained(PackDataset(undisturbed / "train"))
    for number in range(4):
        cache = tmp_path / f"blocks {number}"
        packs = PackDataset(f"{bucket}/packs/train", storage_options=options, cache_dir=cache)
        assert trained(packs) == wanted
    assert sum(proxy.faults.values()) >= 3, "the network did fail"


def trained(packs: PackDataset) -> list[float]:
    """Losses of a linear model over three epochs."""
    torch.manual_seed(0)
    model = torch.nn.Linear(packs[0]["x"].shape[1], 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    loader = torch_loader(packs, shuffle=True, seed=1)
    losses: list[float] = []
    for number in range(3):
        loader.set_epoch(number)
        for batch in loader:
            by_graph = torch.zeros(len(batch.y), 1).index_add(0, batch.batch, model(batch.x.float()))
            loss = ((by_graph[batch.graphs_mask] - batch.y[batch.graphs_mask]) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    return losses


def test_a_url_is_treated_as_a_folder_is(
    s3_endpoint: str, bucket: str, job: Callable[..., Any], undisturbed: Path
) -> None:
    url, options = f"{bucket}/packs", s3_options(s3_endpoint)
    here: dict[str, Any] = {"workers": 1, "storage_options": options}
    assert not job(url, **here).already
    assert job(url, **here).already
    with pytest.raises(BuildError, match=r"already holds a data set built otherwise.*--overwrite"):
        job(url, seed=1, **here)
    job(url, seed=1, overwrite=True, **here)
    job(url, overwrite=True, **here)
    assert stored(s3_endpoint, url) == hashes(undisturbed)
    with pytest.raises(BuildError, match=r"holds something else: packs/"):
        job(bucket, **here)
    with pytest.raises(BuildError, match=r"storage_options are for URLs"):
        job(undisturbed, **here)


def test_a_second_writer_is_refused(
    s3_endpoint: str, bucket: str, job: Callable[..., Any], undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From another machine, whose locks this one does not see, while this one is about to commit."""
    url, options = f"{bucket}/packs", s3_options(s3_endpoint)
    refused: list[str] = []

    def meanwhile(*arguments: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(undisturbed.parent / "another machine"))
            with pytest.raises(BuildError) as caught:
                job(url, workers=1, storage_options=options, seed=7)
        refused.append(str(caught.value))
        commit(*arguments)

    monkeypatch.setattr("pipelines.building.job.commit", meanwhile)
    job(url, workers=1, storage_options=options)
    assert "holds an unfinished build of another job" in refused[0] and "plan.seed is 0 there, 7 here" in refused[0]
    assert stored(s3_endpoint, url) == hashes(undisturbed)


def test_large_files_go_in_parts_and_none_is_left_half_done(
    proxy: FaultProxy, s3_endpoint: str, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.stores.store.LARGE", 1 << 20)
    monkeypatch.setattr("pipelines.stores.store._PART", 5 << 20)
    data = os.urandom(17 << 20)
    store = store_of(f"{bucket}/large", tmp_path, s3_options(proxy.url))
    proxy.share, proxy.kinds = 0.2, ("500", "reset", "lost")
    for number in range(3):
        (tmp_path / "file").write_bytes(data)
        store.put_file(f"file {number}", tmp_path / "file")
        assert store.read(f"file {number}") == data
    assert sum(proxy.faults.values()) >= 3
    proxy.share = 0.0
    import s3fs

    fs = s3fs.S3FileSystem(**s3_options(s3_endpoint))
    for key in ("large/cut off", "other/cut off"):
        fs.call_s3("create_multipart_upload", Bucket=bucket.removeprefix("s3://"), Key=key)
    store.abandon_uploads({"cut off", *(f"file {number}" for number in range(3))})
    left = fs.call_s3("list_multipart_uploads", Bucket=bucket.removeprefix("s3://"))["Uploads"]
    assert [upload["Key"] for upload in left] == ["other/cut off"]


def test_another_machine_goes_on_where_one_was_lost(
    s3_endpoint: str, bucket: str, job: Callable[..., Any], undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, here = f"{bucket}/packs", {"workers": 1, "storage_options": s3_options(s3_endpoint)}
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.building.job.commit", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            job(url, **here)
    for number, change in enumerate(({}, {"seed": 3, "overwrite": True}, {"overwrite": True})):
        monkeypatch.setenv("XDG_CACHE_HOME", str(undisturbed.parent / f"machine {number}"))
        job(url, **here, **change)
        assert (stored(s3_endpoint, url) == hashes(undisturbed)) == ("seed" not in change)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("fails", ["entries", "manifest"])
def test_a_store_that_fails_for_good_leaves_no_data_set(
    fails: str, proxy: FaultProxy, s3_endpoint: str, bucket: str, job: Callable[..., Any], undisturbed: Path
) -> None:
    proxy.share, proxy.kinds = 1.0, ("403",)
    what = "shard-00001" if fails == "entries" else "manifest.json"
    proxy.only = lambda method, path: method == "PUT" and what in path
    with pytest.raises(StoreError, match=r"AccessDenied|Forbidden|denied|403"):
        job(f"{bucket}/packs", workers=1, storage_options=s3_options(proxy.url))
    assert not [name for name in stored(s3_endpoint, f"{bucket}/packs") if name.endswith("manifest.json")]
    proxy.share = 0.0
    job(f"{bucket}/packs", workers=1, storage_options=s3_options(proxy.url))
    assert stored(s3_endpoint, f"{bucket}/packs") == hashes(undisturbed)


def test_options_are_for_every_url_of_a_job(
    s3_endpoint: str, bucket: str, molecules: str, job: Callable[..., Any], undisturbed: Path, tmp_path: Path
) -> None:
    options = s3_options(s3_endpoint)
    job(f"{bucket}/packs", executor=Apart(), work=tmp_path / "work", storage_options=options)
    assert stored(s3_endpoint, bucket) == {f"packs/{name}": digest for name, digest in hashes(undisturbed).items()}
    store = store_of(bucket, tmp_path, options)
    store.put("molecules.csv", Path(molecules.removeprefix("smiles:")).read_bytes())
    chosen: dict[str, Any] = {"targets": ["t"], "splits": "train=0.75,test=0.25", "storage_options": options}
    build(f"smiles:{bucket}/molecules.csv", tmp_path / "out", LIMITS, workers=1, **chosen)
    found = hashes(tmp_path / "out")
    shards = [name for name in found if name.endswith(".parquet")]
    assert {name: found[name] for name in shards} == {name: hashes(undisturbed)[name] for name in shards}
