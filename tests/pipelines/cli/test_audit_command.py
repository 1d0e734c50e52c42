"""`graph-pack audit`: what it prints, draws and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from labelled import rings_and_paths

from packer import PackLimits, audit_packs
from pipelines import build
from pipelines.entry import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packs") / "packs"
    build(rings_and_paths(), out, PackLimits(40, 80, 8), splits="train=0.8,test=0.2", workers=1)
    return out


def test_every_verdict_is_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(folder), "--epochs", "3", "--batch-size", "2", "--seed", "5"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for split in ("train", "test"):
        found = audit_packs(folder / split, epochs=3, batch_size=2, seed=5)
        step = found.graphs_per_step
        assert f"a step of 2 packs {step.mean:.2f} graphs (standard deviation {step.sd:.2f}, from {step.least}" in out
        for verdict in found.verdicts:
            assert f"{'good' if verdict.good else 'look'} {verdict.text}" in out
        assert found.balance is not None and found.balance.classes == (0, 1)


def test_as_json_and_in_pictures(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = str(folder / "train")
    assert main(["audit", place, "--json", "--plot", str(tmp_path / "a.svg")]) == 0
    (told,) = json.loads(capsys.readouterr().out).values()
    assert told == json.loads(json.dumps(audit_packs(place).to_dict()))
    pictures = sorted(path.name for path in tmp_path.iterdir())
    assert pictures == ["a-2.svg", "a-3.svg", "a-4.svg", "a.svg"]
    words = " ".join(path.read_text() for path in tmp_path.iterdir())
    assert f"{told['companions']['with_redraws'][-1]:,.1f} with redraws" in words
    assert "Rank correlation with the position: nodes" in words


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["", "--plot", "a.svg"], 2, "--plot draws one data set: name it"),
        (["/train", "--target", "x"], 1, "'x' is no field of graphs of one whole number each; there are: y"),
        (["/train", "--epochs", "0"], 2, "--epochs"),
        (["/nothing"], 1, "nothing"),
    ],
)
def test_what_is_refused(
    folder: Path, arguments: list[str], status: int, message: str, capsys: pytest.CaptureFixture[Any]
) -> None:
    assert main(["audit", f"{folder}{arguments[0]}", *arguments[1:]]) == status
    assert message in capsys.readouterr().err
