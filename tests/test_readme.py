"""The README's Python runs."""

import re
import shutil
from pathlib import Path

import pytest

BLOCKS = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[1] / "README.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_example(block, tmp_path, monkeypatch, request, capsys):
    monkeypatch.chdir(tmp_path)
    if "TUDataset" in block:
        shutil.copytree(
            request.getfixturevalue("shared_data") / "tu" / "MUTAG" / "raw", tmp_path / "tu" / "MUTAG" / "raw"
        )
    exec(compile(block, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    if "TUDataset" in block:
        accuracy = re.search(r"accuracy on 38 held-out molecules: (0\.\d+)", printed)
        assert accuracy is not None, printed
        assert float(accuracy[1]) > 0.6
    else:
        assert "3 3 optimal" in printed or "optimal - no plan" in printed
