"""Sources: molecules as PyG makes them, CSV files, TUDatasets, callables, and what is said about bad input."""

import gzip
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rdkit import RDConfig
from torch_geometric.data import Data
from torch_geometric.datasets import TUDataset
from torch_geometric.utils import from_smiles

from packer.errors import SourceError
from packer.graphs.table import GraphTable
from packer.scan.block import join_blocks
from packer.scan.from_objects import block_of_graphs
from packer.scan.levels import decide
from packer.scan.statistics import merge
from pipelines.sources import as_source, parse_source
from pipelines.sources.kinds import KINDS, SourceKind
from pipelines.sources.molecules import featurise
from pipelines.sources.protocol import Scan, Source

NCI = Path(RDConfig.RDDataDir) / "NCI"


def scans(source: Source) -> list[Scan]:
    return [task.scan() for task in source.tasks()]


def table_of(source: Source) -> GraphTable:
    blocks = [scan.graphs for scan in scans(source)]
    statistics = blocks[0].statistics
    for block in blocks[1:]:
        statistics = merge(statistics, block.statistics)
    return join_blocks(blocks, decide(statistics)[0])


def test_molecules_are_those_of_pyg_from_smiles() -> None:
    lines = [line.split("\t")[0] for line in (NCI / "first_5K.smi").read_text().splitlines()]
    found = featurise(lines)
    expected = [data for data in map(from_smiles, lines) if data.num_nodes]
    assert len(found.kept) == len(expected) == 4991
    assert [lines[i] for i in found.kept] == [data.smiles for data in expected]
    assert found.num_nodes.tolist() == [data.num_nodes for data in expected]
    assert found.num_edges.tolist() == [data.num_edges for data in expected]
    for ours, theirs in (
        (found.x, torch.cat([data.x for data in expected])),
        (found.edge_index, torch.cat([data.edge_index.T for data in expected])),
        (found.edge_attr, torch.cat([data.edge_attr for data in expected])),
    ):
        assert ours.dtype == np.int64 and np.array_equal(ours, theirs.numpy())


def test_what_is_no_molecule_is_a_fault_and_the_rest_stays_in_order() -> None:
    # Fe with charge +7 is outside PyG's categories (-5 to 6); "" holds no atom; "C(" does not parse.
    found = featurise(["C", "", "[Fe+7]", "C(", "CC"])
    assert found.kept.tolist() == [0, 4] and found.num_nodes.tolist() == [1, 2]
    assert found.faults == (
        (1, "the SMILES holds no atom"),
        (2, "formal charge 7 has no category in PyG"),
        (3, "RDKit cannot parse the SMILES"),
    )
    assert found.edge_index.tolist() == [[0, 1], [1, 0]]


def test_the_nci_sample_joins_molecules_and_targets_by_line() -> None:
    source = parse_source("sample:nci")
    found = scans(source)
    assert sum(scan.num_records for scan in found) == 4999
    skips = [skip for scan in found for skip in scan.skips]
    assert [skip.graph_id for skip in skips] == [2097, 2897, 3226, 3369, 4508, 4595, 4596, 4780]
    assert [skip.where for skip in skips][:2] == ["line 2098", "line 2898"]
    table = table_of(source)
    assert table.num_graphs == 4991 and set(table.source_ids.tolist()) == set(range(4999)) - {s.graph_id for s in skips}
    # The last line of first_5k.tpsa.csv is CN1CCC[CH]1C2=CC=CN=C2,16.13
    assert table.columns["y"].dtype == np.float32 and table.columns["y"][-1] == np.float32(16.13)
    assert table.strings["smiles"][-1].as_py() == "CN1CCC[CH]1C2=CC=CN=C2"


@pytest.mark.parametrize(("ending", "delimiter"), [(".csv", ","), (".csv.gz", ","), (".tsv", "\t")])
def test_a_csv_file_gives_molecules_and_targets(tmp_path: Path, ending: str, delimiter: str) -> None:
    rows = [["id", "mol", "a", "b"], ["1", "CCO", "1.5", "2"], ["2", "c1ccccc1", "", "-3"], ["3", "C", "7", "0"]]
    text = "".join(delimiter.join(row) + "\r\n" for row in rows)
    path = tmp_path / f"mols{ending}"
    path.write_bytes(gzip.compress(text.encode()) if ending.endswith("gz") else text.encode())
    one = table_of(parse_source(f"smiles:{path}", smiles_column="mol", targets=["b"]))
    # One target: y is [1] a graph, so a plain number a graph in the table; several: [1, targets].
    assert one.columns["y"].tolist() == [2, -3, 0]
    two = table_of(parse_source(f"smiles:{path}", smiles_column="mol", targets=["a", "b"], strings=["id"]))
    assert np.array_equal(two.columns["y"], np.array([[1.5, 2], [np.nan, -3], [7, 0]], np.float32), equal_nan=True)
    assert two.strings["id"].to_pylist() == ["1", "2", "3"]
    assert two.counts("node").tolist() == [3, 6, 1] and two.counts("edge").tolist() == [4, 12, 0]


def test_flat_blocks_have_the_statistics_that_graphs_have(tmp_path: Path) -> None:
    smiles = ["CCO", "C", "c1ccccc1"]
    path = tmp_path / "m.csv"
    path.write_text("smiles,t\n" + "".join(f"{text},{i}.5\n" for i, text in enumerate(smiles)))
    ours = scans(parse_source(f"smiles:{path}", targets=["t"]))[0].graphs
    graphs: list[Data] = []
    for i, text in enumerate(smiles):
        graphs.append(from_smiles(text))
        graphs[-1].y = torch.tensor([i + 0.5])
    theirs = block_of_graphs(graphs)
    assert decide(ours.statistics)[0].fields == decide(theirs.statistics)[0].fields
    by_key = {field.key: field for field in theirs.statistics.fields}
    for field in ours.statistics.fields:
        expected = by_key[field.key]
        assert [entry[:2] for entry in field.against] == [entry[:2] for entry in expected.against]
        assert replace(field, against=()) == replace(expected, against=())


def test_errors_of_csv_files_name_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("mol,y\nC,1\nCC,one\n")
    with pytest.raises(SourceError, match=r"has no column 'mols'; did you mean 'mol'\? Its columns are: mol, y"):
        scans(parse_source(f"smiles:{path}", smiles_column="mols"))
    with pytest.raises(SourceError, match=r"m\.csv, line 3: y is 'one', not a number"):
        scans(parse_source(f"smiles:{path}", smiles_column="mol", targets=["y"]))
    path.write_text("mol,y\nC\n")
    with pytest.raises(SourceError, match="line 2: 1 cells, but the header names 2 columns"):
        scans(parse_source(f"smiles:{path}", smiles_column="mol"))
    with pytest.raises(SourceError, match=r"cannot read .*gone\.csv: No such file"):
        scans(parse_source(f"smiles:{tmp_path / 'gone.csv'}"))
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"smiles\nC\n")[:-6])
    with pytest.raises(SourceError, match="is damaged"):
        scans(parse_source(f"smiles:{tmp_path / 'cut.csv.gz'}"))


def test_a_source_key_follows_the_bytes_and_the_columns(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("smiles,y\nC,1\n")
    key = parse_source(f"smiles:{path}").key()
    assert key == parse_source(f"smiles:{path}").key()
    assert key != parse_source(f"smiles:{path}", targets=["y"]).key()
    other = tmp_path / "n.csv"
    other.write_text("smiles,y\nC,2\n")
    assert key["sha256"] != parse_source(f"smiles:{other}").key()["sha256"]
    assert str(tmp_path) not in str(key)


def test_tudatasets_are_read_where_nothing_may_be_written(shared_data: Path, tmp_path: Path) -> None:
    table = table_of(parse_source("tudataset:MUTAG", root=shared_data / "tu"))
    (tmp_path / "MUTAG").symlink_to(shared_data / "tu" / "MUTAG")
    # 188 graphs; graph 0 has 17 nodes, 38 edges, y=1; graph 1 has 13 nodes, 28 edges, y=0; 7 node and 4 edge features.
    assert table.num_graphs == 188 and table.counts("node")[:2].tolist() == [17, 13]
    assert table.counts("edge")[:2].tolist() == [38, 28] and table.columns["y"][:2].tolist() == [1, 0]
    assert table.columns["x"].shape == (3371, 7) and table.columns["edge_attr"].shape[1] == 4


def test_the_storage_of_a_data_set_gives_what_its_graphs_give(shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "MUTAG").mkdir()
    (tmp_path / "MUTAG" / "raw").symlink_to(shared_data / "tu" / "MUTAG" / "raw")
    dataset = TUDataset(str(tmp_path), "MUTAG")[torch.arange(187, -1, -3)]
    assert (
        table_of(as_source(dataset)).content_hash()
        == table_of(as_source([dataset[i] for i in range(len(dataset))])).content_hash()
    )


def test_an_absent_tudataset_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "PROTEINS" / "raw").mkdir(parents=True)
    with pytest.raises(SourceError, match=r"MUTAG_A.txt and MUTAG_graph_indicator.txt; .* holds PROTEINS\. Download"):
        parse_source("tudataset:MUTAG", root=tmp_path).key()


def test_a_callable_of_the_working_folder_gives_graphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_graphs.py").write_text(
        "import torch\nfrom torch_geometric.data import Data\n"
        "def load():\n    for n in (1, 2, 0, 3):\n"
        "        yield Data(x=torch.ones(n, 2), edge_index=torch.zeros(2, 0).long())\n"
        "number = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    [scan] = scans(parse_source("pyg:my_graphs:load"))
    assert scan.graphs.counts["node"].tolist() == [1, 2, 3] and scan.graphs.ids.tolist() == [0, 1, 3]
    assert [(skip.graph_id, skip.reason) for skip in scan.skips] == [(2, "no nodes")]
    for text, fault in (
        ("pyg:my_grafs:load", "no module named 'my_grafs'"),
        ("pyg:my_graphs:lod", "no 'lod'. Did you mean 'load'"),
        ("pyg:my_graphs:number", "is a int"),
    ):
        with pytest.raises(SourceError, match=fault):
            scans(parse_source(text))


@pytest.mark.parametrize(
    ("text", "options", "fault"),
    [
        ("sample:nci2", {}, "unknown sample 'nci2'; there are sample:nci and sample:g2"),
        ("smile:f.csv", {}, "unknown source 'smile:f.csv'; did you mean 'smiles'"),
        ("whatever", {}, r"unknown source 'whatever'\. Sources are: sample:nci, sample:g2, smiles:FILE"),
        ("pyg:module", {}, "names no callable: write pyg:module:callable"),
        ("tudataset:MUTAG", {}, r"needs root=DIR \(--root DIR\)"),
        (
            "sample:nci",
            {"targets": ["y"]},
            r"smiles_column and targets \(--smiles-column, --target\) are for smiles: sources",
        ),
        ("sample:nci", {"root": "x"}, r"root \(--root\) is for tudataset: sources"),
    ],
)
def test_a_text_that_names_no_source(text: str, options: dict[str, Any], fault: str) -> None:
    with pytest.raises(SourceError, match=fault):
        parse_source(text, **options)


def test_an_object_that_is_no_source() -> None:
    with pytest.raises(SourceError, match="a int is a int, not a PyG data set or an iterable of Data"):
        list(as_source(3).tasks())
    with pytest.raises(SourceError, match="root describe a source given as text"):
        as_source([], root="x")


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_record_names_the_options_that_its_source_takes(kind: SourceKind) -> None:
    """The argument, then the options; each is one of `parse_source`, and belongs to one kind."""
    _, *options = signature(kind.load()).parameters
    assert sorted(options) == sorted(kind.takes)
    assert set(options) <= set(signature(parse_source).parameters)
    assert [other.prefix for other in KINDS.values() if set(other.options) & set(kind.options)] in ([kind.prefix], [])
