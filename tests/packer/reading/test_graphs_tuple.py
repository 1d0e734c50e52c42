"""to_graphs_tuple: what it gives without jraph and inside jit, and what it refuses. With jraph: test_jraph.py."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_packs import HETERO_LIMITS, HETERO_SCHEMA, LIMITS, SCHEMA, write_packs

from packer import PackDataset, PackReader, jax_loader, numpy_loader, to_graphs_tuple
from packer.errors import FieldError, LimitsError, StateError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "packs"
    write_packs(folder, 7)
    return folder


def test_rows_of_each_slot(folder: Path) -> None:
    loader = numpy_loader(PackReader(folder, columns=[c.name for c in PackReader(folder).columns] + ["graph_ids"]))
    for step in loader:
        found = to_graphs_tuple(step, loader)
        owner = step["batch"][step["edge_index"][0]]
        assert found.n_edge.tolist() == np.bincount(owner, minlength=4).tolist() and found.n_edge.dtype == np.int32
        assert found.n_node.tolist() == np.bincount(step["batch"], minlength=4).tolist()
        assert found.n_node.sum() == 12 and found.n_edge.sum() == 20
        assert found.nodes.keys() == {"x", "half"} and found.nodes["x"] is step["x"]
        assert found.edges.keys() == {"edge_attr"} and found.globals.keys() == {"y", "graph_ids"}
        assert np.shares_memory(found.senders, step["edge_index"])


def test_inside_jit_and_for_each_device(folder: Path) -> None:
    jax = pytest.importorskip("jax")
    loader = jax_loader(folder, seed=1)
    compiled = jax.jit(lambda step: to_graphs_tuple(step, loader))
    tuples = [compiled(step) for step in loader]
    expected = [to_graphs_tuple(step, loader) for step in numpy_loader(folder, seed=1)]
    for found, other in zip(tuples, expected, strict=True):
        same = jax.tree.map(lambda one, two: bool((np.asarray(one) == two).all()), found._asdict(), other._asdict())
        assert all(jax.tree.leaves(same))
    stacked = next(iter(numpy_loader(folder, devices=3, seed=1)))
    by_device = jax.vmap(lambda step: to_graphs_tuple(step, loader))(stacked)
    assert by_device.n_edge.shape == (3, 4)
    assert by_device.n_edge.tolist() == [other.n_edge.tolist() for other in expected[:3]]


def test_without_jraph_the_fields_are_the_same(folder: Path) -> None:
    code = f"""
import sys
for name in ("torch", "jax", "jraph"):
    sys.modules[name] = None
from packer import numpy_loader, to_graphs_tuple
loader = numpy_loader({str(folder)!r})
print(*to_graphs_tuple(next(iter(loader)), loader)._fields)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    fields = done.stdout.split()
    assert fields == ["nodes", "edges", "receivers", "senders", "globals", "n_node", "n_edge"], done.stderr
    jraph = pytest.importorskip("jraph")
    assert fields == list(jraph.GraphsTuple._fields)


def test_what_is_refused(folder: Path, tmp_path: Path) -> None:
    def first(loader: Any) -> Any:
        return to_graphs_tuple(next(iter(loader)), loader)

    with pytest.raises(LimitsError, match=r"joins 3 packs, each with padding of its own.*batch_size=1, and devices="):
        first(numpy_loader(folder, batch_size=3))
    with pytest.raises(LimitsError, match=r"this step stacks 2 for as many devices: call .*jax\.vmap"):
        first(numpy_loader(folder, devices=2))
    tensors = PackDataset(folder)[0]
    with pytest.raises(FieldError, match="takes arrays of numpy or JAX; got torch's: read with jax_loader"):
        to_graphs_tuple(tensors, PackDataset(folder))
    with pytest.raises(StateError, match="to_graphs_tuple needs a PackReader; got str"):
        to_graphs_tuple(tensors, str(folder))
    with pytest.raises(FieldError, match=r"takes batch, ptr too: add them to columns=\[\.\.\.\]"):
        first(numpy_loader(PackReader(folder, columns=["x", "edge_index", "graphs_mask"])))
    write_packs(tmp_path / "hetero", 2, schema=HETERO_SCHEMA, limits=HETERO_LIMITS)
    with pytest.raises(LimitsError, match="heterogeneous, and a GraphsTuple has one type of nodes"):
        first(numpy_loader(tmp_path / "hetero"))
    write_packs(tmp_path / "all", 2, schema=SCHEMA, limits=replace(LIMITS, null_graphs="all"))
    with pytest.raises(LimitsError, match=r"null_graphs='all'.*all but the last of them.*--null-graphs jraph"):
        first(numpy_loader(tmp_path / "all"))
