"""Graphs that cannot be packed, held a block at a time: the same values, in little memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from deadly import Apart
from hypothesis import given
from hypothesis import strategies as st
from jobs import LIMITS

from pipelines import build
from pipelines.sources.protocol import Skip
from pipelines.sources.skips import Skips

TEXTS = st.text(st.characters(codec="utf-8"), max_size=5)


@st.composite
def parts(draw: st.DrawFn) -> list[list[Skip]]:
    """Blocks of skips, their ids ascending through all of them."""
    ids = sorted(draw(st.sets(st.integers(0, 60), max_size=20)))
    cuts = sorted(draw(st.lists(st.integers(0, len(ids)), max_size=3)))
    found = [Skip(i, draw(TEXTS), draw(TEXTS), (("smiles", draw(TEXTS)),) * draw(st.integers(0, 1))) for i in ids]
    return [found[a:b] for a, b in zip([0, *cuts], [*cuts, len(ids)], strict=True)]


@given(parts(), st.sets(st.integers(0, 60), min_size=1), st.slices(25))
def test_they_are_the_tuple_of_them(held: list[list[Skip]], ids: set[int], chosen: slice) -> None:
    flat = tuple(skip for part in held for skip in part)
    skips = Skips.joined(map(Skips.of, held))
    assert skips == flat and len(skips) == len(flat) and bool(skips) == bool(flat)
    assert skips[chosen] == flat[chosen] and all(skips[i] == flat[i] for i in range(-len(flat), len(flat)))
    assert Skips.from_plain(json.loads(json.dumps(skips.to_plain()))) == flat
    assert skips.among(np.array(sorted(ids))) == tuple(skip for skip in flat if skip.graph_id in ids)
    assert skips.among(np.arange(61)) == flat
    first, last = min(ids), max(ids)
    near = skips.between(first, last)
    assert {skip.graph_id: skip for skip in flat if first <= skip.graph_id <= last}.items() <= near.items()


def test_a_skipped_graph_takes_a_few_bytes() -> None:
    skips = Skips.of(Skip(i, "no nodes", f"line {i + 2}", (("smiles", ""),)) for i in range(10_000))
    assert len(skips) == 10_000 and sum(len(block.data) for block in skips.blocks) < 10 * len(skips)


def test_splits_get_their_own_whichever_way_they_are_built(tmp_path: Path) -> None:
    source = tmp_path / "molecules.csv"
    rows = [("" if i % 3 else "CCO", ("train", "test")[i % 2]) for i in range(40)]
    source.write_text("smiles,part\n" + "".join(f"{smiles},{part}\n" for smiles, part in rows))
    ways: dict[str, Any] = {"here": {"workers": 1}, "apart": {"executor": Apart()}}
    for name, way in ways.items():
        out = tmp_path / name
        result = build(f"smiles:{source}", out, LIMITS, "first-fit", split_column="part", on_empty="skip", **way)
        assert [skip.graph_id for skip in result.skips] == [i for i in range(40) if i % 3]
        for number, split in enumerate(("train", "test")):
            found = pq.read_table(out / split / "graphs.parquet", columns=["id", "status"]).to_pydict()
            own = [i for i in range(40) if i % 2 == number]
            assert found == {"id": own, "status": ["skipped" if i % 3 else "packed" for i in own]}
    for file in ("graphs.parquet", "manifest.json"):
        assert (tmp_path / "here/test" / file).read_bytes() == (tmp_path / "apart/test" / file).read_bytes()
