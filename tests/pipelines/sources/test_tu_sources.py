"""The text files of a TUDataset: read whole, or refused by file and line before PyG reads anything else from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from packer import PackLimits, unpack
from packer.errors import SourceError
from pipelines import build
from pipelines.sources import parse_source

pytest.importorskip("torch_geometric")

# Two triangles of nodes 1-3 and 4-6, and graph 3: the nodes 7 and 8, without an edge.
SOUND = {
    "A": "1, 2\n2, 1\n2, 3\n3, 2\n4, 5\n5, 4\n",
    "graph_indicator": "1\n1\n1\n2\n2\n2\n3\n3\n",
    "graph_labels": "0\n1\n1\n",
    "node_labels": "0\n1\n2\n0\n1\n2\n0\n1\n",
    "edge_labels": "0\n0\n1\n1\n2\n2\n",
}


def write(root: Path, **changed: str | bytes) -> Path:
    raw = root / "T" / "raw"
    raw.mkdir(parents=True)
    for part, text in {**SOUND, **changed}.items():
        (raw / f"T_{part}.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def packed(root: Path, out: Path) -> list:
    return unpack(build(parse_source("tudataset:T", root=root), out, PackLimits(20, 30, 5), "stream", workers=1))


def test_all_graphs_come_even_the_last_ones_without_edges(tmp_path: Path) -> None:
    graphs = packed(write(tmp_path), tmp_path / "out")
    assert [graph.num_nodes for graph in graphs] == [3, 3, 2]
    assert [graph.edge_index.shape[1] for graph in graphs] == [4, 2, 0]
    assert [int(graph.y) for graph in graphs] == [0, 1, 1]


@pytest.mark.parametrize("end", ["", "\n\n", "\n \n"], ids=["no newline", "blank line", "blanks"])
def test_how_the_last_line_ends_changes_nothing(tmp_path: Path, end: str) -> None:
    files = {part: text[:-1] + end for part, text in SOUND.items()}
    graphs = packed(write(tmp_path / "a", **files), tmp_path / "out")
    for found, wanted in zip(graphs, packed(write(tmp_path / "b"), tmp_path / "wanted"), strict=True):
        assert found.to_dict().keys() == wanted.to_dict().keys()
        assert all((found[key] == wanted[key]).all() for key in wanted.keys() if key != "num_nodes")  # noqa: SIM118


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"A": SOUND["A"] + "3, 4\n4, 3\n"}, r"T_A.txt, line 7: an edge of node 3, of graph 1, and node 4,"),
        ({"A": SOUND["A"] + "8, 9\n"}, r"T_A.txt, line 7: an edge of the nodes 8 and 9, but there are the nodes 1"),
        ({"A": "1, 2\n2\n"}, r"T_A.txt, line 2: 1 numbers, but 2 in line 1"),
        ({"A": "1, 2\n\n2, 1\n"}, r"T_A.txt, line 2: '' is no whole number"),
        ({"node_labels": SOUND["node_labels"][:-2]}, r"has 7 lines, but T_graph_indicator.txt tells of 8 nodes"),
        ({"edge_labels": SOUND["edge_labels"] + "3\n"}, r"_edge_labels.txt has 7 lines, but T_A.txt tells of 6 edges"),
        ({"graph_labels": "0\n1\n"}, r"T_graph_labels.txt has 2 lines, but T_graph_indicator.txt tells of 3 graphs"),
        ({"graph_labels": "0\n\u0661\n1\n"}, r"T_graph_labels.txt, line 2: '\u0661' is no whole number"),
        ({"graph_labels": b"0\n\xff\n1\n"}, r"T_graph_labels.txt, line 2: '.+' is no whole number"),
        ({"graph_labels": "0\n1_0\n1\n"}, r"T_graph_labels.txt, line 2: '1_0' is no whole number"),
        ({"graph_indicator": "1\n1\n1\n2\n2\n1\n3\n3\n"}, r"line 6: graph 1 after graph 2: sort the nodes"),
        ({"graph_indicator": "0\n1\n1\n2\n2\n2\n3\n3\n"}, r"line 1: graph 0; graphs are numbered from 1"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_named_by_file_and_line(tmp_path: Path, changed: dict, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        packed(write(tmp_path, **changed), tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()
