"""Attributes of every kind through build, verify, loaders and unpack: targets, indices, masks, strings, left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from strategies import assert_same
from torch_geometric.data import Batch, Data, HeteroData
from torch_geometric.loader import DataLoader

from packer import PackDataset, PackLimits, torch_loader, unpack, verify_shards
from packer.errors import FieldError
from pipelines import build


def packs(graphs: list[Any], folder: Path, limits: PackLimits | None = None, **options: Any) -> PackDataset:
    build(graphs, folder / "out", limits or PackLimits.from_dataset(graphs, 4), "stream", workers=1, **options)
    report = verify_shards(folder / "out")
    assert report.ok, report.faults
    return PackDataset(folder / "out")


def everything(n: int, number: int) -> Data:
    """A ring of n nodes with an attribute of every kind; node i points to the one after the next."""
    nodes = torch.arange(n)
    found = Data(
        x=torch.randn(n, 3, dtype=torch.float64),
        z=nodes % 7,
        pos=torch.randn(n, 3),
        train_mask=nodes % 2 == 0,
        edge_index=torch.stack([nodes, (nodes + 1) % n]),
        edge_weight=torch.rand(n, dtype=torch.float16),
        edge_attr=torch.randn(n, 2).bfloat16(),
        edge_label=nodes % 3,
        second_index=torch.stack([nodes, (nodes + 2) % n, nodes * 0]),
        face=torch.stack([nodes, (nodes + 1) % n, (nodes + 2) % n]),
        next_index=(nodes + 2) % n,
        corner_index=torch.tensor([[0, n - 1, 0], [n - 1, 0, 0]]),
        root_index=n - 1,
        leaf=0,
        partner=(nodes + 1) % n,
        bonds=torch.tensor([[0, n - 1, 0], [n - 1, 0, 0]]),
        y=torch.randn(1, 2),
        y_node=torch.randn(n),
        weight=float(number),
        kind=number,
        good=bool(number % 2),
        smiles=f"C{number}",
    )
    if number % 2:
        found.rare = torch.full((1,), float(number))
        found.note = f"note {number}"
        found.extra = nodes.float()
    return found


GRAPHS = [everything(n, number) for number, n in enumerate((3, 5, 4, 3, 6, 4, 3))]
DECLARED = ["partner", "bonds", "leaf"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PackDataset:
    return packs(GRAPHS, tmp_path_factory.mktemp("everything"), index_fields=DECLARED, levels={"edge_label": "edge"})


def test_everything_comes_back(dataset: PackDataset) -> None:
    for found, graph in zip(unpack(dataset), GRAPHS, strict=True):
        assert_same(found, graph)


class Declared(Data):
    """What PyG would be told to do about declared index fields."""

    def __inc__(self, key: str, value: Any, *args: Any, **options: Any) -> Any:
        return self.num_nodes if key in DECLARED else super().__inc__(key, value, *args, **options)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
@pytest.mark.parametrize("layout", ["pyg", "dict"])
def test_index_fields_are_shifted_as_pyg_shifts_them(dataset: PackDataset, batch_size: int, layout: str) -> None:
    """Also across joined packs: of several rows, of none, declared, and at graph level, Python numbers too."""
    slots = int(dataset.limits.num_nodes) * torch.arange(batch_size)
    for step, found in enumerate(torch_loader(dataset, batch_size, shuffle=False, layout=layout)):
        ids = [dataset.graph_ids(i) for i in range(step * batch_size, min((step + 1) * batch_size, len(dataset)))]
        for place, own in enumerate(ids):
            real = [Declared(**GRAPHS[i].to_dict()) for i in own[own >= 0].tolist()]
            batch = Batch.from_data_list([graph.clone() for graph in real], exclude_keys=["rare", "note", "extra"])
            nodes, edges, graphs = (
                int(dataset.limits.to_dict()[f"num_{name}"]) for name in ("nodes", "edges", "graphs")
            )
            n, e = batch.num_nodes, batch.num_edges
            for name, rows, count, last in (
                ("edge_index", edges, e, True),
                ("second_index", edges, e, True),
                ("face", edges, e, True),
                ("next_index", nodes, n, False),
                ("partner", nodes, n, False),
            ):
                part = slice(place * rows, place * rows + count)
                values = found[name][..., part] if last else found[name][part]
                assert torch.equal(values, batch[name] + slots[place]), name
            own_slots = slice(place * graphs, place * graphs + len(real))
            for name in ("root_index", "leaf"):
                assert torch.equal(found[name][own_slots], batch[name] + slots[place]), name
            shifts = batch.ptr[:-1].reshape(-1, 1, 1) + slots[place]
            for name in ("corner_index", "bonds"):
                values = torch.stack([graph[name] for graph in real]) + shifts
                assert torch.equal(found[name][own_slots], values), name


def test_targets_of_several_levels_and_missing_ones(dataset: PackDataset) -> None:
    levels = {field.key: field.level for field in dataset.fields}
    assert {"y": "graph", "y_node": "node", "edge_label": "edge", "rare": "graph", "rare_present": "graph"}.items() <= (
        levels.items()
    )
    for number in range(len(dataset)):
        ids = dataset.graph_ids(number)
        real = [GRAPHS[i] for i in ids[ids >= 0].tolist()]
        pack = dataset[number]
        assert torch.equal(pack["y"][pack["graphs_mask"]], torch.cat([g.y for g in real]))
        assert torch.equal(pack["y_node"][pack["nodes_mask"]], torch.cat([g.y_node for g in real]))
        assert torch.equal(pack["edge_label"][pack["edges_mask"]], torch.cat([g.edge_label for g in real]))
        # Missing ones have a mask, padding graphs too; no number stands for "missing".
        assert pack["rare_present"].tolist() == ["rare" in g for g in real] + [False] * (len(ids) - len(real))
        assert torch.equal(
            pack["rare"][pack["rare_present"]], torch.cat([g.rare for g in real if "rare" in g] or [_none()])
        )
        assert pack["train_mask"].dtype == torch.bool and not pack["train_mask"][~pack["nodes_mask"]].any()


def _none() -> torch.Tensor:
    return torch.zeros(0)


def test_a_dtype_stays_what_it_is(dataset: PackDataset) -> None:
    pack = dataset[0]
    for name in ("x", "z", "pos", "train_mask", "edge_weight", "edge_attr", "edge_label", "y", "partner"):
        assert pack[name].dtype == GRAPHS[0][name].dtype, name


@pytest.mark.parametrize("batch_size", [1, 2])
def test_follow_batch_is_that_of_pyg(dataset: PackDataset, batch_size: int) -> None:
    follow = ["x", "edge_attr", "face", "y"]
    followed = PackDataset(dataset.path, follow_batch=follow)
    graphs = int(dataset.limits.num_graphs)
    for step, found in enumerate(torch_loader(followed, batch_size, shuffle=False)):
        for place in range(batch_size):
            number = step * batch_size + place
            ids = dataset.graph_ids(number) if number < len(dataset) else torch.full((graphs,), -1).numpy()
            if (ids < 0).all():
                continue
            real = [GRAPHS[i].clone() for i in ids[ids >= 0].tolist()]
            keys = [name for name, _ in GRAPHS[0] if name not in ("edge_index", *follow)] + [
                "rare",
                "note",
                "extra",
            ]
            batch = next(iter(DataLoader(real, batch_size=99, follow_batch=follow, exclude_keys=keys)))
            for name in follow:
                rows = len(found[f"{name}_batch"]) // batch_size
                own = found[f"{name}_batch"][place * rows : (place + 1) * rows] - place * graphs
                expected = batch[f"{name}_batch"]
                assert torch.equal(own[: len(expected)], expected), name
                assert (own[len(expected) :] >= len(real)).all(), name  # padding is the null graphs'
                ptr = found[f"{name}_ptr"][place * graphs : place * graphs + graphs + 1] - place * rows
                assert torch.equal(ptr[: len(real) + 1], batch[f"{name}_ptr"]), name
                assert torch.equal(torch.bincount(own, minlength=graphs), ptr.diff()), name
                assert ptr[0] == 0 and ptr[-1] == rows


def test_follow_batch_comes_before_a_transform_and_survives_pickling(dataset: PackDataset) -> None:
    import pickle

    followed = PackDataset(dataset.path, follow_batch="edge_attr", transform=_count_edges)
    again = pickle.loads(pickle.dumps(followed))
    for one in (followed, again, followed.with_32_bits()):
        assert one[0]["edges_of"].tolist() == one[0]["edge_attr_ptr"].diff().tolist()
    assert followed.empty_pack()["edge_attr_ptr"][-1] == dataset.limits.num_edges
    assert followed.with_32_bits()[0]["edge_attr_batch"].dtype == torch.int32


def _count_edges(pack: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {**pack, "edges_of": torch.bincount(pack["edge_attr_batch"], minlength=len(pack["graphs_mask"]))}


def test_what_cannot_be_followed(dataset: PackDataset) -> None:
    with pytest.raises(FieldError, match="there is no field 'w'"):
        PackDataset(dataset.path, follow_batch=["w"])
    with pytest.raises(FieldError, match=r"takes the columns \['batch', 'edge_index'\]: add them"):
        PackDataset(dataset.path, columns=["x", "batch", "ptr", "edge_attr"], follow_batch=["edge_attr"])


def test_followed_fields_of_heterogeneous_graphs(tmp_path: Path) -> None:
    graphs = [_papers(2, 3, [[0, 1, 1], [2, 0, 2]]), _papers(1, 2, [[0], [1]])]
    dataset = packs(graphs, tmp_path)
    followed = PackDataset(dataset.path, follow_batch=["edge_attr", "author/x"])[0]
    assert followed["author__writes__paper/edge_attr_batch"].tolist()[:4] == [0, 0, 0, 1]
    assert followed["author__writes__paper/edge_attr_ptr"].tolist()[:3] == [0, 3, 4]
    assert torch.equal(followed["author/x_batch"], followed["author/batch"]) and "paper/x_batch" not in followed


def _papers(authors: int, written: int, ends: list[list[int]], **more: Any) -> HeteroData:
    found = HeteroData()
    found["author"].x, found["paper"].x = torch.rand(authors, 1), torch.rand(written, 1)
    found["author", "writes", "paper"].edge_index = torch.tensor(ends)
    found["author", "writes", "paper"].edge_attr = torch.rand(len(ends[0]))
    for name, value in more.items():
        found["author"][name] = value
    return found


class Unpackable:
    """What no tensor holds."""


def test_excluded_attributes_are_left_out_even_if_they_could_not_be_packed(tmp_path: Path) -> None:
    graphs = [
        Data(
            x=torch.rand(n, 2), edge_index=torch.zeros(2, 1, dtype=torch.long), odd=Unpackable(), my_batch=torch.ones(n)
        )
        for n in (2, 3)
    ]
    with pytest.raises(FieldError, match="attribute 'odd' is a Unpackable"):
        packs(graphs, tmp_path / "refused", exclude_keys=["my_batch"])
    dataset = packs(graphs, tmp_path, exclude_keys=["odd", "my_batch", "absent"])
    assert sorted(unpack(dataset)[0].keys()) == ["edge_index", "x"]
    # PyG's loader leaves out the same.
    batch = next(iter(DataLoader(graphs, batch_size=2, exclude_keys=["odd", "my_batch"])))
    assert set(batch.keys()) - {"batch", "ptr"} == set(unpack(dataset)[0].keys())


def test_none_names_nothing_as_in_pyg(tmp_path: Path) -> None:
    graphs = [Data(x=torch.rand(2, 2), edge_index=torch.zeros(2, 1, dtype=torch.long))]
    dataset = packs(graphs, tmp_path, exclude_keys=None, index_fields=None)
    assert PackDataset(dataset.path, follow_batch=None)[0].keys() == dataset[0].keys()
    for names in ([3], [None], {"x": "node", 3: None}):
        with pytest.raises(FieldError, match="attributes are named by texts, such as 'x'; got"):
            packs(graphs, tmp_path / "refused", index_fields=names)


def test_nodes_are_counted_by_an_excluded_attribute_too(tmp_path: Path, shared_data: Path) -> None:
    graphs = [Data(x=torch.rand(n, 2), edge_index=torch.zeros(2, 1, dtype=torch.long)) for n in (4, 3)]
    assert packs(graphs, tmp_path, exclude_keys=["x"])[0]["ptr"].tolist()[:3] == [0, 4, 7]
    # The storage of a data set in memory is cut the same way.
    from torch_geometric.datasets import TUDataset

    stored = TUDataset(str(_copied(shared_data / "tu", tmp_path)), "MUTAG")
    found = packs(stored, tmp_path / "stored", PackLimits.from_dataset(stored, 9), exclude_keys=["x", "edge_attr"])
    assert sorted(unpack(found)[0].keys()) == ["edge_index", "y"]
    counts = [int(v) for pack in range(len(found)) for v in found[pack]["ptr"].diff()[found[pack]["graphs_mask"]]]
    assert sorted(counts) == sorted(graph.num_nodes for graph in stored)


def _copied(folder: Path, target: Path) -> Path:
    import shutil

    shutil.copytree(folder / "MUTAG" / "raw", target / "tu" / "MUTAG" / "raw")
    return target / "tu"


def test_excluding_by_type(tmp_path: Path) -> None:
    graphs = [_papers(2, 3, [[0], [2]]), _papers(1, 2, [[0], [1]])]
    found = unpack(packs(graphs, tmp_path, exclude_keys=["author/x"]))[0]
    assert "x" not in found["author"] and "x" in found["paper"]


def test_what_cannot_be_excluded_or_declared(tmp_path: Path) -> None:
    with pytest.raises(FieldError, match="'edge_index' cannot be excluded"):
        packs(GRAPHS, tmp_path / "a", exclude_keys=["edge_index"])
    with pytest.raises(FieldError, match="'partners' is declared an index; the attributes are x, edge_index"):
        packs(GRAPHS, tmp_path / "b", index_fields=["partners"])
    with pytest.raises(FieldError, match="graph 0: 'pos' is float32, but as an index"):
        packs(GRAPHS, tmp_path / "c", index_fields=["pos"])
    with pytest.raises(FieldError, match="graph 1: 'y' has the entry 7, but the graph has 2 nodes"):
        packs(
            [Data(num_nodes=9, y=torch.tensor([7])), Data(num_nodes=2, y=torch.tensor([7]))],
            tmp_path / "d",
            index_fields="y",
        )


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (1.5, "'my_index' is float32, but as an index it is shifted by the number of nodes"),
        (True, "'my_index' is bool, but as an index it is shifted"),
        (2, "has the entry 2, but the graph has 2 nodes .0 to 1.: .* or rename the attribute if it numbers no nodes"),
    ],
)
def test_a_python_number_that_is_no_index(tmp_path: Path, value: Any, fault: str) -> None:
    graphs = [Data(x=torch.rand(2, 1), edge_index=torch.zeros(2, 1, dtype=torch.long), my_index=value)]
    with pytest.raises(FieldError, match=fault):
        packs(graphs, tmp_path, PackLimits(9, 9, 3))


def test_declared_indices_of_a_node_type(tmp_path: Path) -> None:
    """`mentor` numbers authors, `best` numbers papers: one of each author, in graphs of several authors and papers."""
    graphs = [
        _papers(2, 3, [[0], [2]], mentor=torch.tensor([1, 0]), best=torch.tensor([2, 1])),
        _papers(3, 2, [[0], [1]], mentor=torch.tensor([2, 2, 0]), best=torch.tensor([1, 0, 1])),
    ]
    index_fields = {"author/mentor": None, "best": "paper"}
    dataset = packs(graphs, tmp_path, index_fields=index_fields)
    pack = dataset[0]
    assert pack["author/mentor"][:5].tolist() == [1, 0, 2 + 2, 2 + 2, 2 + 0]  # 2 authors before
    assert pack["author/best"][:5].tolist() == [2, 1, 3 + 1, 3 + 0, 3 + 1]  # 3 papers before
    # Padding points at the first node of its null graph: authors and papers begin at 5.
    firsts = pack["author/batch"][5:]
    assert torch.equal(pack["author/best"][5:], pack["paper/ptr"][firsts])
    for found, graph in zip(unpack(dataset), graphs, strict=True):
        assert_same(found, graph)
    with pytest.raises(FieldError, match="index of 'term'; the node types are author, paper"):
        packs(graphs, tmp_path / "no", index_fields={"best": "term"})


def test_the_command_and_the_job_file_say_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.cli.app import run

    module = """
import torch
from torch_geometric.data import HeteroData

def load():
    graphs = []
    for n in (2, 3, 30):
        graph = HeteroData()
        graph["author"].x, graph["paper"].x = torch.ones(n, 1), torch.ones(2, 1)
        graph["author"].mentor = torch.arange(n).flip(0)
        graph["author"].junk = object()
        graph["author", "writes", "paper"].edge_index = torch.stack([torch.arange(n), torch.arange(n) % 2])
        graphs.append(graph)
    return graphs
"""
    (tmp_path / "parity_graphs.py").write_text(module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    command = ["build", "pyg:parity_graphs:load", "--workers", "1", "--algorithm", "stream"]
    by_options = ["--num-nodes", "author=12,paper=9", "--num-edges", "author__writes__paper=12", "--num-graphs", "4"]
    by_options += ["--exclude", "junk", "--index", "mentor=author", "--pad", "node=-2", "--pad", "paper/x=5"]
    job = """
num-nodes = { author = 12, paper = 9 }
num-edges = { author__writes__paper = 12 }
num-graphs = 4
exclude = "junk"
index = { mentor = "author" }
pad = { node = -2, "paper/x" = 5 }
oversize = "trim-edges"
"""
    (tmp_path / "job.toml").write_text(job)
    assert run([*command, "--out", "a", *by_options, "--oversize", "skip"]) == 0
    assert run([*command, "--out", "b", "--config", "job.toml", "--oversize", "skip"]) == 0
    assert run([*command, "--out", "c", "--config", "job.toml"]) == 1  # 30 authors: edges alone will not do
    assert (tmp_path / "a/shard-00000.parquet").read_bytes() == (tmp_path / "b/shard-00000.parquet").read_bytes()
    pack = PackDataset("a")[0]
    assert pack["author/mentor"][:5].tolist() == [1, 0, 2 + 2, 2 + 1, 2 + 0]
    assert pack["author/x"][-1].item() == -2 and pack["paper/x"][-1].item() == 5
    # Limits by a rule: 4 graph slots, 30 * 3 + 1 authors.
    (tmp_path / "rule.toml").write_text('limits = "max"\nnum-graphs = 4\nexclude = ["junk"]\n')
    assert run([*command, "--out", "d", "--config", "rule.toml"]) == 0
    assert run([*command, "--out", "e", "--limits", "max", "--num-graphs", "4", "--exclude", "junk"]) == 0
    assert PackDataset("d").limits == PackDataset("e").limits
    assert PackDataset("d").limits.num_nodes == {"author": 91, "paper": 7}
    (tmp_path / "share.toml").write_text("limits = 0.6\nnum-graphs = 4\nexclude = ['junk']\noversize = 'trim-both'\n")
    assert run([*command, "--out", "f", "--config", "share.toml"]) == 0
    assert PackDataset("f").limits.num_nodes == {"author": 10, "paper": 7}  # of 2, 3 and 30 authors: 3 * 3 + 1
    assert PackDataset("f").manifest.counts.trimmed == 1
    for wrong in (
        ["--limits", "max"],
        ["--limits", "most", "--num-graphs", "4"],
        ["--limits", "1.5", "--num-graphs", "4"],
    ):
        assert run([*command, "--out", "g", *wrong]) == 2
    assert run([*command, "--out", "g", "--limits", "max", "--num-graphs", "4", "--num-nodes", "9"]) == 2
    assert run([*command, "--out", "g", "--limits", "auto", "--exclude", "edge_index"]) == 2


def test_followed_fields_reach_poptorch(dataset: PackDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Joined on dimension 0, as everything there; in 32 bits."""
    import sys

    import poptorch_double as double

    from packer import poptorch_loader

    monkeypatch.setitem(sys.modules, "poptorch", double)
    followed = PackDataset(dataset.path, follow_batch=["edge_attr"])
    step = next(iter(poptorch_loader(followed, double.Options(device_iterations=2), shuffle=False)))
    edges, graphs = int(dataset.limits.num_edges), int(dataset.limits.num_graphs)
    assert step["edge_attr_batch"].shape == (2 * edges,) and step["edge_attr_ptr"].shape == (2 * (graphs + 1),)
    assert step["edge_attr_batch"].dtype == step["edge_attr_ptr"].dtype == torch.int32
    assert torch.equal(step["edge_attr_batch"][edges:], followed[1]["edge_attr_batch"].int())


def test_a_build_with_nan_padding_is_known_again(tmp_path: Path) -> None:
    graphs = [Data(x=torch.rand(n, 2), edge_index=torch.zeros(2, 1, dtype=torch.long)) for n in (2, 3)]
    limits = PackLimits(12, 9, 3)
    options: dict[str, Any] = {"pad_values": {"x": float("nan")}, "workers": 1}
    assert not build(graphs, tmp_path / "out", limits, "stream", **options).already
    assert build(graphs, tmp_path / "out", limits, "stream", **options).already
    assert PackDataset(tmp_path / "out")[0]["x"][5:].isnan().all()
