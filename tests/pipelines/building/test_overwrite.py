"""What `--overwrite` replaces is there until nothing can refuse the job any more that is to replace it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from deadly import Apart, Stopped
from jobs import LIMITS, SMILES, files, in_small_parts

from packer import PackLimits, verify_shards
from packer.errors import FieldError, PackerError, SourceError
from pipelines import build
from pipelines.stores.journal import WORK

WAYS: dict[str, dict[str, Any]] = {"here": {"workers": 1}, "apart": {"executor": Apart()}}


@pytest.fixture(scope="module", autouse=True)
def small_parts() -> Iterator[None]:
    with in_small_parts():
        yield


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    path = tmp_path_factory.mktemp("csv") / "molecules.csv"
    part = ("train", "test", "bad name")
    path.write_text("smiles,part,odd\n" + "".join(f"{SMILES[i % 10]},{part[i % 2]},{part[i % 3]}\n" for i in range(60)))

    def build_it(out: Path, source: Any = None, limits: Any = LIMITS, **options: Any) -> Any:
        return build(f"smiles:{path}" if source is None else source, out, limits, "first-fit", **options)

    return build_it


def refused(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Jobs that nothing can come of: why -> the call."""
    listing, broken, wild = tmp_path / "some.json", tmp_path / "broken.csv", tmp_path / "wild.csv"
    listing.write_text('{"train": [0, 1], "test": [2]}')
    broken.write_text("graph,split\n0,train\n")
    wild.write_text("graph_id,split\n0,../train\n")
    other = tmp_path / "other.csv"
    other.write_text("smiles\nC\nCC\n")
    build(f"smiles:{other}", tmp_path / "other", LIMITS, "first-fit", workers=1)
    return {
        "is missing|No such file": {"source": f"smiles:{tmp_path / 'nothing.csv'}"},
        "nothing.json": {"split_file": tmp_path / "nothing.json"},
        "57 graphs are not in exactly one": {"split_file": listing},
        "has no column": {"split_file": broken},
        "a split is named by": {"split_file": wild},
        "no column 'nowhere'|nowhere": {"split_column": "nowhere"},
        "a split is named by letters": {"split_column": "odd"},
        "has no graph to pack": {"splits": "train=0.99999,test=0.00001"},
        "do not fit": {"limits": PackLimits(4, 8, 2)},
        "other sizes": {"plan": tmp_path / "other" / "plan.parquet", "limits": LIMITS},
        "given for 'nope'": {"levels": {"nope": "node"}},
        "beside/mine, which no build wrote": {"split_file": tmp_path / "beside.json"},
    }


@pytest.mark.parametrize("way", WAYS)
def test_a_job_that_is_refused_replaces_nothing(way: str, tmp_path: Path, job: Callable[..., Any]) -> None:
    out = tmp_path / "out"
    job(out, workers=1)
    (out / "beside").mkdir()
    (out / "beside" / "mine").write_text("mine")
    (tmp_path / "beside.json").write_text(f'{{"train": [0], "beside": {list(range(1, 60))}}}')
    before = files(out)
    for why, options in refused(tmp_path).items():
        with pytest.raises(PackerError, match=why):
            job(out, **options, **WAYS[way], overwrite=True)
        assert {name: data for name, data in files(out).items() if not name.startswith(WORK)} == before, why
    (out / "beside" / "mine").unlink()
    (out / "beside").rmdir()
    assert verify_shards(out).ok
    job(out, split_column="part", **WAYS[way], overwrite=True)
    assert verify_shards(out / "train").ok and not (out / "manifest.json").exists() and not (out / WORK).exists()


@pytest.mark.parametrize("way", WAYS)
def test_an_unfinished_build_survives_a_job_that_is_refused(way: str, tmp_path: Path, job: Callable[..., Any]) -> None:
    reference, out = tmp_path / "reference", tmp_path / "out"
    job(reference, split_column="part", workers=1)
    with pytest.raises(KeyboardInterrupt):
        job(out, split_column="part", executor=Stopped())
    with pytest.raises(SourceError, match="nowhere"):
        job(out, split_column="nowhere", **WAYS[way], overwrite=True)
    job(out, split_column="part", executor=Apart())
    without = ("build.json", "README.md")
    ours, theirs = ({n: d for n, d in files(f).items() if not n.endswith(without)} for f in (out, reference))
    assert ours == theirs


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("attribute", "value", "text"),
    [
        ("a" * 201, 1.0, "packs keep names of 1 to 200 printable characters"),
        ("s" * 201, "x", "packs keep names of 1 to 200 printable characters"),
        ("a\nb", 1.0, "packs keep names of 1 to 200 printable characters"),
        ("", "x", "packs keep names of 1 to 200 printable characters"),
        ("z", 17, "has 17 dimensions a row; packs keep 16"),
        ("s", "x" * (64 << 20), r"graph 1: its texts take 67108864 bytes; at most 66060288 are kept"),
    ],
)
def test_what_the_format_cannot_keep_is_told_by_the_scan(
    way: str, attribute: str, value: Any, text: str, tmp_path: Path
) -> None:
    import torch
    from torch_geometric.data import Data

    def graph() -> Data:
        data = Data(x=torch.ones(2, 1), edge_index=torch.zeros(2, 0, dtype=torch.int64))
        data[attribute] = torch.ones(1, *[1] * value) if value == 17 else value
        return data

    first = graph()
    if isinstance(value, str) and len(value) > 1:
        first[attribute] = "short"
    with pytest.raises(FieldError, match=text):
        build([first, graph()], tmp_path / "out", LIMITS, "first-fit", **WAYS[way])
    assert not (tmp_path / "out").exists()
