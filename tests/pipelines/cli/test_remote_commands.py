"""`train` and `report` on data sets at URLs: what they say of the folder, and nothing secret."""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from flaky_store import FlakyFileSystem
from object_store import FaultProxy, make_bucket, s3_environment, s3_options, upload
from torch_geometric.data import Data

from packer.errors import FormatError, SourceError
from packer.limits.pack_limits import PackLimits
from pipelines import build
from pipelines.entry import main
from pipelines.report.report import write_report
from pipelines.training.train import open_splits, train

SHARES = {"train": 0.5, "valid": 0.25, "test": 0.25}


def graphs(count: int = 48) -> list[Data]:
    """Chains whose target is their length."""
    lengths = [2 + i % 5 for i in range(count)]
    return [
        Data(
            x=torch.ones(n, 1), edge_index=torch.stack([torch.arange(n - 1), torch.arange(1, n)]), y=torch.tensor(n - 2)
        )
        for n in lengths
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "packs"
    build(graphs(), folder, PackLimits(32, 32, 6), "first-fit", workers=1, splits=SHARES)
    return folder


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(FlakyFileSystem, "spoil", None)


def put(folder: Path, url: str) -> str:
    for path in folder.rglob("*"):
        if path.is_file():
            FlakyFileSystem().pipe_file(f"{url}/{path.relative_to(folder)}", path.read_bytes())
    return url


def page_of(text: str) -> str:
    """What does not differ between two looks at the same packs: all but seconds, and where they lie."""
    text = html.unescape(re.sub(r"<td>\d\.\d\d\d</td>", "", text))
    return re.sub(r"--out \S+", "", text)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages say in words what their pictures show: drawing takes nearly all their time."""
    monkeypatch.setattr("pipelines.report.page.inline_svg", lambda picture, prefix: f"<p>{prefix} {picture.alt}</p>")


def test_training_from_a_url_is_training_from_the_folder(folder: Path) -> None:
    url, options = put(folder, "flaky://train/packs"), {"epochs": 3, "hidden": 8}
    here, there = train(folder, **options), train(f"{url}/", storage_options={"password": "hunter2"}, **options)
    assert here.losses == there.losses and here.metrics == there.metrics
    assert list(there.metrics) == ["train", "valid", "test"]
    alone = train(f"{url}/test", **options)
    assert list(alone.metrics) == ["train"] and alone.metrics["train"]["evaluated"] == 12


def test_data_sets_of_several_builds_are_found(folder: Path, tmp_path: Path) -> None:
    """Without the splits.json that one build of several splits writes."""
    for name in ("train", "test"):
        shutil.copytree(folder / name, tmp_path / "packs" / name)
    (tmp_path / "packs" / "notes").mkdir()
    (tmp_path / "packs" / "notes" / "text").write_text("no packs here")
    url = put(tmp_path / "packs", "flaky://several/packs")
    for root in (url, tmp_path / "packs", f"file://{tmp_path}/packs"):
        assert list(open_splits(root)) == ["train", "test"]
    for root in ("flaky://several/none", tmp_path / "none", f"file://{tmp_path}/none"):
        words = f"{str(root).removeprefix('file://')} holds no packs: neither manifest.json nor train/manifest.json"
        with pytest.raises(SourceError, match=f"^{words}"):
            open_splits(root)


def test_the_drawn_report_of_a_url_is_that_of_the_folder(folder: Path, tmp_path: Path) -> None:
    here, _ = write_report(folder / "valid", tmp_path / "here.html")
    there, faults = write_report(f"{put(folder, 'flaky://drawn/packs')}/valid", tmp_path / "there.html")
    text = there.read_text()
    assert faults == 0 and text.count("<svg role") > 3 and page_of(text) == page_of(here.read_text())


@pytest.mark.usefixtures("undrawn")
def test_the_report_of_a_url_is_that_of_the_folder(folder: Path, tmp_path: Path) -> None:
    url = put(folder, "flaky://me:word@report/packs")
    here, _ = write_report(folder, tmp_path / "here.html")
    there, faults = write_report(url, tmp_path / "there.html", storage_options={"password": "hunter2"})
    text = there.read_text()
    assert faults == 0 and "hunter2" not in text and "me:word" not in text
    assert page_of(text) == page_of(here.read_text())
    assert "--out flaky://report/packs" in html.unescape(text) and "<title>packs: packed graphs</title>" in text
    one, _ = write_report(f"{url}/valid", tmp_path)
    assert one == tmp_path / "report.html" and "--splits train=0.5,valid=0.25,test=0.25" in one.read_text()
    with pytest.raises(FormatError, match=r"^the report of flaky://report/packs is written on this machine: say where"):
        write_report(url)
    with pytest.raises(FormatError, match=r"^flaky://report/none holds no packs: neither manifest.json nor splits"):
        write_report("flaky://report/none", tmp_path)


@pytest.mark.usefixtures("undrawn")
def test_a_damaged_shard_at_a_url_is_on_the_page(folder: Path, tmp_path: Path) -> None:
    url = put(folder / "train", "flaky://damaged/packs")
    data = bytearray((folder / "train" / "shard-00000.parquet").read_bytes())
    data[60] ^= 1
    FlakyFileSystem().pipe_file(f"{url}/shard-00000.parquet", bytes(data))
    path, faults = write_report(url, tmp_path / "page.html")
    assert faults and "found when verifying" in path.read_text()


@pytest.mark.usefixtures("undrawn")
def test_the_commands_take_an_s3_url(
    s3_endpoint: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    make_bucket(s3_endpoint, "commands")
    for split in SHARES:
        upload(folder / split, f"s3://commands/packs/{split}", s3_options(s3_endpoint))
    for name in ("splits.json", "build.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    upload(tmp_path, "s3://commands/packs", s3_options(s3_endpoint))
    with FaultProxy(s3_endpoint, share=0.1, seed=11) as proxy:
        s3_environment(monkeypatch, proxy.url)
        assert main(["train", "s3://commands/packs/", "--epochs", "2", "--hidden", "8", "--json"]) == 0
        assert list(json.loads(capfd.readouterr().out)["metrics"]) == ["train", "valid", "test"]
        page = tmp_path / "page.html"
        assert main(["report", "s3://commands/packs", "--out", str(page)]) == 0
        out, err = capfd.readouterr()
        assert out.strip() == str(page) and "card" not in err and page.read_text().count("Verified: every") == 3
        assert main(["report", "s3://commands/packs"]) == 2
        assert "the report of s3://commands/packs is written on this machine: say where" in capfd.readouterr().err
        assert main(["report", "s3://commands/packs", "--out", str(page), "--licence", "MIT"]) == 2
        assert "--licence is for the card, which is written into a folder" in capfd.readouterr().err
        assert main(["train", "s3://commands/nothing"]) == 1
        assert "s3://commands/nothing holds no packs" in capfd.readouterr().err
