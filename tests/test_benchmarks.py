"""Benchmarks run, and the records they keep hold."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*arguments):
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=True, timeout=300
    ).stdout


def test_every_record_is_proven_again():
    assert "41 records hold, 40 of them proven optimal" in run("benchmarks/records.py", "verify")


@pytest.mark.parametrize("fault", ["a pattern beyond the limits", "a graph left out", "a bound too high"])
def test_a_wrong_record_is_refused(fault, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import records

    record = json.loads((ROOT / "benchmarks" / "records" / "mutag-mean-of-8.json").read_text())
    assert records.verify(record) == (24, 24)
    if fault == "a pattern beyond the limits":
        record["patterns"][0][0][1] += 50
    elif fault == "a graph left out":
        record["count"][0] += 1
    else:
        record["lower_bound"] += 1
        record["certificate"]["bound"] += 1
    with pytest.raises(ValueError, match=r"MUTAG|certificate"):
        records.verify(record)


def test_the_comparison_runs(shared_data, tmp_path):
    run("benchmarks/compare.py", "--quick", "--out", tmp_path / "table.md")
    rows = [row for row in (tmp_path / "table.md").read_text().splitlines() if row.startswith("| MUTAG mean of 8 |")]
    assert [row.split("|")[2].strip() for row in rows][-1] == "optimal"
    assert "| 24 | 24 | proven |" in rows[-1]


def test_training_on_a_gpu_is_measured(tmp_path):
    """Without a GPU the same loops run on the CPU, but for CUDA graphs."""
    pytest.importorskip("torch_geometric")
    out = tmp_path / "table.md"
    size = ("--device", "cpu", "--copies", 1, "--graphs", 120, "--epochs", 1, "--cases", "8x2")
    run("benchmarks/training_gpu.py", *size, "--out", out)
    rows = {
        cells[1].strip(): cells for cells in (line.split("|") for line in out.read_text().splitlines()) if cells[2:]
    }
    assert "PyG, 4 workers, compile(dynamic=True)" in rows and "failed" not in out.read_text()
    eager, compiled = (rows[f"packs, {how}"] for how in ("eager", "compile(dynamic=False)"))
    assert compiled[8].strip() == "1 + 0"
    assert eager[9] == compiled[9]
    size = ("--copies", 1, "--graphs", 60, "--runs", 2, "--cases", "8x2")
    assert "| 8 | 2 |" in run("benchmarks/training_rounding.py", *size, "--out", out)
