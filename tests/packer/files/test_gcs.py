"""gs:// on a real server: reading, writing, sources and errors, over a network that fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from object_store import FaultProxy, gcs_options, upload
from small_packs import write_packs

from packer.errors import MissingFileError, StoreError
from packer.files.remote import RemotePlace
from packer.limits.pack_limits import PackLimits
from packer.reading import PackDataset, torch_loader
from packer.verify.data_set import verify_shards
from pipelines import build
from pipelines.entry import main
from pipelines.sources import parse_source

PACKS = 46
pytestmark = [
    pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning"),  # gcsfs hands aiohttp plain bytes
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


@pytest.fixture(scope="module")
def bucket(gcs_endpoint: str) -> str:
    import gcsfs

    gcsfs.GCSFileSystem(**gcs_options(gcs_endpoint)).mkdir("packs")
    return "gs://packs"


@pytest.fixture
def proxy(gcs_endpoint: str, bucket: str) -> Iterator[FaultProxy]:
    with FaultProxy(gcs_endpoint, kinds=("503", "reset", "truncate"), seed=5) as found:
        yield found


@pytest.mark.parametrize("cache_bytes", [0, 1 << 30], ids=["ranges", "cache"])
def test_an_epoch_with_a_tenth_of_the_requests_failing(proxy: FaultProxy, tmp_path: Path, cache_bytes: int) -> None:
    write_packs(tmp_path / "packs", PACKS, 3, 12, skipped=2)
    url, options = f"gs://packs/epoch{cache_bytes}", gcs_options(proxy.url)
    upload(tmp_path / "packs", url, options)
    proxy.share, local = 0.1, PackDataset(tmp_path / "packs")
    dataset = PackDataset(url, storage_options=options, cache_dir=tmp_path / "cache", cache_bytes=cache_bytes)
    for batch, expected in zip(torch_loader(dataset, 2, seed=1), torch_loader(local, 2, seed=1), strict=True):
        assert all(torch.equal(batch[name], expected[name]) for name in expected.keys())  # noqa: SIM118
    for i in range(PACKS):
        assert torch.equal(dataset[i]["x"], local[i]["x"])
    assert proxy.requests["GET"] > 4


def test_a_build_and_its_source(proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    options, limits = gcs_options(proxy.url), PackLimits(32, 80, 6)
    data = b"smiles,t\n" + b"".join(b"CCO,%d\nc1ccccc1,%d\n" % (i, i) for i in range(50))
    (tmp_path / "mols.csv").write_bytes(data)
    RemotePlace("gs://packs", options).ask(lambda fs, root: fs.pipe_file(f"{root}/in/mols.csv", data), "", "writing")
    proxy.share = 0.03  # Google's client waits for seconds after each
    source = parse_source("smiles:gs://packs/in/mols.csv", targets=["t"], storage_options=options)
    there = build(source, "gs://packs/out", limits, "first-fit", workers=1, storage_options=options)
    here = build(f"smiles:{tmp_path / 'mols.csv'}", tmp_path / "out", limits, "first-fit", workers=1, targets=["t"])
    assert there.manifest.sha256 == here.manifest.sha256
    assert verify_shards("gs://packs/out", storage_options=options).ok
    conditions = [path for method, path, *_ in proxy.log if method == "POST" and "ifGenerationMatch=0" in path]
    assert conditions, "the manifest is written only where there is none"


def test_what_is_not_there(proxy: FaultProxy) -> None:
    for url in ("gs://packs/nothing", "gs://no-such-bucket/packs"):
        with pytest.raises(MissingFileError, match=f"^{url} holds no manifest.json"):
            PackDataset(url, storage_options=gcs_options(proxy.url))
    options: dict[str, Any] = gcs_options("http://127.0.0.1:9")
    with pytest.raises(StoreError, match=r"nothing listens at 127.0.0.1:9 \(connection refused\). Check the address"):
        PackDataset("gs://packs/nothing", storage_options=options)


def test_a_command(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
    assert main(["verify", "gs://packs/nothing"]) == 1
    assert "gs://packs/nothing holds no packs: neither manifest.json nor splits.json" in capfd.readouterr().err
