"""`verify --content`: the graphs in the packs are those that were scanned, or that cannot be told."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deadly import Apart
from hypothesis import given, settings
from hypothesis import strategies as st
from jobs import LIMITS, SMILES, graphs
from strategies import heterogeneous, homogeneous

from packer import verify_shards
from packer.files.open import place_of
from packer.limits.pack_limits import PackLimits
from packer.verify import content as content_check
from packer.verify.content import compare_content
from pipelines import build
from pipelines.building.mapped import shards as mapped_shards
from pipelines.building.spilled import gather
from pipelines.entry import main

SMALL = PackLimits(9, 20, 3)


@pytest.fixture(scope="module")
def molecules(tmp_path_factory: pytest.TempPathFactory) -> str:
    """60 molecules; one row holds none."""
    rows = [f"{SMILES[i % 10]},{i}.5" for i in range(60)]
    rows[31] = "no molecule,0.5"
    path = tmp_path_factory.mktemp("csv") / "molecules.csv"
    path.write_text("smiles,t\n" + "\n".join(rows) + "\n")
    return f"smiles:{path}"


def content(folder: Path) -> str:
    report = verify_shards(folder, content=True)
    assert report.ok, report.faults
    return report.content


@settings(deadline=None, max_examples=8)
@given(st.one_of(homogeneous(), heterogeneous()))
def test_what_was_scanned_is_in_the_packs(tmp_path_factory: Any, found: list[Any]) -> None:
    """Strings, missing attributes, scalars, many types: whatever a source may hold."""
    out = tmp_path_factory.mktemp("content") / "out"
    build(found, out, PackLimits(64, 64, 8, "one"), "first-fit", workers=1)
    assert content(out) == "equal"


def test_more_graphs_than_a_block_of_the_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = build(graphs(4100), tmp_path / "out", LIMITS, "first-fit", workers=1)
    assert content(tmp_path / "out") == "equal"
    monkeypatch.setattr(content_check, "HASH_GRAPHS", 4095)  # as if it did not matter how they are hashed
    told, what = compare_content([place_of(tmp_path / "out")])
    assert told == "differs" and built.manifest.content_hash in what


@pytest.mark.parametrize("where", ["here", "cluster"])
def test_one_wrong_label_under_fitting_checksums(
    where: str, molecules: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong between scan and shard: verify finds the data set sound, and only this finds the label."""
    columns_of = mapped_shards.pack_columns_of

    def wrong(*given: Any) -> dict[str, np.ndarray]:
        columns = columns_of(*given)
        columns["y"] = columns["y"].copy()
        columns["y"][0, 0] += 1
        return columns

    monkeypatch.setattr(mapped_shards if where == "here" else gather, "pack_columns_of", wrong)
    place = {"workers": 1} if where == "here" else {"executor": Apart()}
    build(molecules, tmp_path / "out", LIMITS, targets=["t"], on_empty="skip", **place)
    assert verify_shards(tmp_path / "out").ok
    (fault,) = verify_shards(tmp_path / "out", content=True).faults
    assert (fault.file, fault.field) == ("manifest.json", "content_hash")
    assert "the graphs in its packs have the content hash" in fault.what


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"limits": SMALL, "oversize": "trim-both"}, r"\d+ graphs were trimmed: what they were is in no shard"),
        ({"limits": SMALL, "oversize": "skip"}, r"\d+ graphs were larger than the limits: they are in no shard"),
    ],
)
def test_what_is_in_no_shard_cannot_be_compared(
    options: dict[str, Any], why: str, molecules: str, tmp_path: Path
) -> None:
    build(molecules, tmp_path / "out", targets=["t"], on_empty="skip", workers=1, **options)
    report = verify_shards(tmp_path / "out", content=True)
    assert report.ok and report.content not in ("", "equal")
    assert re.fullmatch(why, report.content)
    assert verify_shards(tmp_path / "out").content == ""


def test_splits_are_compared_together(molecules: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    build(molecules, out, LIMITS, targets=["t"], on_empty="skip", workers=1, splits="train=0.7,test=0.3")
    assert content(out / "train").startswith("this is one split, and the content hash is of all: verify the folder")

    def call(*given: Any) -> int:
        return main([*map(str, given)])

    assert call("verify", out, "--content", "--workers", 1) == 0
    assert capsys.readouterr().out.count("sound, its graphs are those that were scanned;") == 2
    assert call("verify", out / "train", "--content", "--workers", 1) == 0
    assert "sound (content not compared: this is one split" in capsys.readouterr().out
    assert call("verify", out, "--content", "--workers", 1, "--json") == 0
    told = json.loads(capsys.readouterr().out)["data_sets"].values()
    assert [one["content"] for one in told] == ["equal", "equal"]
    build(molecules, tmp_path / "other", LIMITS, workers=1, on_empty="skip", splits="train=0.5,test=0.5")
    places = [place_of(out / "train"), place_of(tmp_path / "other" / "test")]
    assert compare_content(places) == ("", "these data sets are not of one build")
