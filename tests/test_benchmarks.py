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
