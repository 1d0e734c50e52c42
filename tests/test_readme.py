"""The README's Python runs. Its blocks about an IPU do so against a stand-in that refuses an unmarked loss."""

import re
import shutil
import sys

import poptorch_double
import pytest
from paths import ROOT

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
TUTORIAL = [block for block in BLOCKS if "mutag/" in block]


@pytest.mark.parametrize("block", [block for block in BLOCKS if block not in TUTORIAL])
def test_example(block, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "3 3 optimal" in printed or "optimal - no plan" in printed


@pytest.fixture
def mutag(tmp_path, monkeypatch, shared_data):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "poptorch", poptorch_double)
    shutil.copytree(shared_data / "tu" / "MUTAG" / "raw", tmp_path / "tu" / "MUTAG" / "raw")


def test_the_tutorial(mutag, capsys):
    """On a CPU, then on an IPU: block after block, in one space of names."""
    assert [("poptorch" in block) for block in TUTORIAL] == [False, True]
    names = {}
    for block in TUTORIAL:
        exec(compile(block, "README.md", "exec"), names)
        accuracy = re.search(r"accuracy on 38 held-out molecules: (0\.\d+)", capsys.readouterr().out)
        assert accuracy is not None
        assert float(accuracy[1]) > 0.6
    marked = poptorch_double.marked  # of the last run for inference, which computes no loss
    assert not marked and names["loss"].shape == () and names["out"].shape == (10, 2)


def test_the_tutorial_on_an_ipu_needs_the_mark(mutag):
    """Without it PopTorch would train on the sum over all slots of the pack."""
    names = {}
    exec(compile(TUTORIAL[0].replace("range(30)", "range(1)"), "README.md", "exec"), names)
    unmarked = TUTORIAL[1].replace("ipu_loss(loss_of(", "(loss_of(")
    with pytest.raises(AssertionError, match="not marked: PopTorch would train on the sum at NllLossBackward0"):
        exec(compile(unmarked, "README.md", "exec"), names)
