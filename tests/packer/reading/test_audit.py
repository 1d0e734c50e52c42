"""An audit tells of the very steps that loaders give: counted again here, step by step, with sets and loops."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from further_axes import situation
from jobs import in_small_parts
from labelled import authors_and_papers
from reference_packs import reseal

from packer import PackLimits, PackReader, audit_packs, numpy_loader
from packer.errors import FieldError, FormatError, StateError
from packer.files.atomic import hash_file
from packer.reading import audit
from packer.reading.audit_facts import Companions, Drift, PackAudit, Spread, Weights
from pipelines import build

torch = pytest.importorskip("torch")
pytest.importorskip("torch_geometric")

from torch_geometric.data import Data  # noqa: E402

EPOCHS, SEED = 4, 7


def rings(count: int = 150) -> list[Any]:
    """Rings of 2 to 9 nodes, of three classes; one is larger than all others."""
    random = np.random.default_rng(0)
    found: list[Any] = []
    for i in range(count):
        nodes = torch.arange(2 + int(random.integers(8)) if i else 12)
        edges = torch.stack([nodes, nodes.roll(1)])
        found.append(Data(x=torch.ones(len(nodes), 1), edge_index=edges, y=int(random.integers(3)) - 1))
    return found


def _measured() -> Any:
    """Molecules with triplets and a budget."""
    found = situation("triplets", 60)
    for graph in found.graphs:
        graph.cost = int(graph.idx_kj.numel()) % 3
    return found


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """All in blocks of two packs."""
    out = tmp_path_factory.mktemp("packs")
    with in_small_parts():
        build(rings(), out / "rings", PackLimits(40, 40, 9), workers=1, algorithm="first-fit")
        wide = _measured()
        limits = PackLimits(40, 90, 8, "all", wide.num, {"cost": 9})
        build(wide.graphs, out / "triplets", limits, workers=1, **wide.told)
        limits = PackLimits({"author": 8, "paper": 16}, {("author", "writes", "paper"): 12}, 5, null_graphs="one")
        build(authors_and_papers(), out / "papers", limits, workers=1)
    return {path.name: path for path in out.iterdir()}


def steps(folder: Path, batch_size: int, redraw: bool) -> list[list[list[int]]]:
    """[epochs][steps]: the graphs of each step, as a loader gives them."""
    reader = PackReader(folder, columns=["graph_ids"])
    loader = numpy_loader(reader, batch_size, seed=SEED, redraw=redraw, index_dtype="int64")
    found: list[list[list[int]]] = []
    for epoch in range(EPOCHS):
        loader.set_epoch(epoch)
        ids = [step["graph_ids"].reshape(-1) for step in loader]
        found.append([one[one >= 0].tolist() for one in ids])
    return found


def ranks(values: Any) -> np.ndarray:
    inorder = sorted(values)
    return np.array([np.mean([i for i, other in enumerate(inorder) if other == value]) for value in values])


def correlation(a: Any, b: Any) -> float:
    """Spearman's; 0 where nothing varies."""
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1]) if len({*a}) > 1 and len({*b}) > 1 else 0.0


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("name", ["rings", "papers", "triplets"])
def test_of_the_steps_that_loaders_give(
    folders: dict[str, Path], name: str, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_ORDERS", EPOCHS)
    folder = folders[name]
    found = audit_packs(folder, epochs=EPOCHS, batch_size=batch_size, seed=SEED)
    given = {redraw: steps(folder, batch_size, redraw) for redraw in (True, False)}
    rows = {row["id"]: row for row in pq.read_table(folder / "graphs.parquet").to_pylist()}
    assert (found.graphs, found.companions.followed) == (len(rows), len(rows))

    for redraw, told in ((True, found.companions.with_redraws), (False, found.companions.without)):
        met: dict[int, set[int]] = {graph: set() for graph in rows}
        for epoch, of_epoch in enumerate(given[redraw]):
            for step in of_epoch:
                for graph in step:
                    met[graph] |= set(step) - {graph}
            assert told[epoch] == pytest.approx(np.mean([len(others) for others in met.values()]), rel=1e-12)

    sizes = {
        f"{level}s": {g: sum(n for c, n in row.items() if c.endswith(f"num_{level}s")) for g, row in rows.items()}
        for level in ("node", "edge")
    }
    for drift in found.drifts:
        each: list[float] = []
        for of_epoch in given[True]:
            if drift.of == "graphs":
                full = [len(step) for step in of_epoch[: found.packs // batch_size]]
                each.append(correlation(range(len(full)), full))
            else:
                size = [sizes[drift.of][graph] for step in of_epoch for graph in step]
                at = [number for number, step in enumerate(of_epoch) for _ in step]
                each.append(correlation(at, size))
        assert drift.correlation == pytest.approx(np.mean(each), abs=1e-12)
        assert drift.error == pytest.approx(np.std(each) / math.sqrt(EPOCHS), abs=1e-12)
    assert [drift.of for drift in found.drifts] == ["nodes", "edges", "graphs"]

    totals = [len(step) for of_epoch in given[True] for step in of_epoch]
    spread = found.graphs_per_step
    assert (spread.least, spread.most, spread.mean) == (min(totals), max(totals), pytest.approx(np.mean(totals)))
    weights = np.array([1 / total for total in totals for _ in range(total)])
    assert found.weights.ratio == pytest.approx(weights.max() / weights.min())
    assert found.weights.effective == pytest.approx(weights.sum() ** 2 / len(weights) / (weights**2).sum())
    assert sum(found.weights.share) == pytest.approx(1)
    assert np.dot(found.weights.share, found.weights.relative) == pytest.approx(1), "the mean weight"


def test_classes_a_step(folders: dict[str, Path]) -> None:
    found = audit_packs(folders["rings"], epochs=EPOCHS, batch_size=2, seed=SEED).balance
    assert found is not None and (found.field, found.classes) == ("y", (-1, 0, 1))
    label = [int(graph.y) for graph in rings()]
    shares = [label.count(c) / 150 for c in found.classes]
    assert found.shares == pytest.approx(shares)
    each = [[label[graph] for graph in step] for of_epoch in steps(folders["rings"], 2, True) for step in of_epoch]
    for column, (c, share) in enumerate(zip(found.classes, shares, strict=True)):
        off = [one.count(c) / len(one) - share for one in each]
        assert found.sd[column] == pytest.approx(np.sqrt(np.mean(np.square(off))))
    assert 0.7 < found.ratio < 1.3, "labels have no part in packing"


def test_uneven_classes_by_hand() -> None:
    # Four packs of two graphs, each of one class: every share is 1/2 off, its square 1/4. Two of eight drawn at random
    # have the variance (8 - 2) / (8 - 1) / 2 * 1/4 = 3/28, and 1/4 over 3/28 is 7/3.
    held = _held([2, 2, 2, 2])
    field: Any = type("Field", (), {"key": "y"})
    order = [np.array([0, 1, 2, 3])]
    labels = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    found = audit.balance_of(held, audit.Steps(held.per_pack, 1), order, 0, field, labels)
    assert found is not None and found.ratio == pytest.approx(math.sqrt(7 / 3))
    assert found.sd == (0.5, 0.5) and found.chance == pytest.approx([math.sqrt(3 / 28)] * 2)
    none = audit.balance_of(held, audit.Steps(held.per_pack, 1), order, 0, field, np.zeros(8, int))
    assert none is None, "of one class there is no balance"


def _held(per_pack: list[int]) -> Any:
    """Packs of graphs that are all of different sizes, so that redraws change nothing."""
    graphs, most = sum(per_pack), max(per_pack) + 1
    counts = [np.arange(1, graphs + 1), np.zeros(graphs, np.int64)]
    classes = [audit.SizeClasses.of_sizes(counts, np.array(per_pack), most)]
    starts = np.append(0, np.cumsum(per_pack))
    return audit.Held(np.array(per_pack), starts, {"nodes": counts[0]}, counts, classes, len(per_pack))


def test_weights_by_hand() -> None:
    # Steps of 2 and 4: two graphs weigh 1/2, four 1/4, together 2; squares sum to 2/4 + 4/16 = 3/4: 4 / (6 * 3/4).
    found = audit.weights_of(np.array([2, 4]))
    assert (found.ratio, found.effective) == (2.0, pytest.approx(8 / 9))
    assert found.relative == (1.5, 0.75) and found.share == pytest.approx((1 / 3, 2 / 3))


def test_graphs_alone_keep_their_companions(folders: dict[str, Path]) -> None:
    found = audit_packs(folders["rings"]).companions
    assert found.alone_in_all == pytest.approx(1 / 150)  # the ring of 12
    assert found.alone > found.alone_in_all, "in a block of two packs many are"
    held = _held([3, 2])
    alone = audit.companions_of(held, audit.Steps(held.per_pack, 1), [held.order(0, e) for e in range(3)], 0)
    assert alone.alone == 1.0 and alone.with_redraws == alone.without == pytest.approx((8 / 5,) * 3)


def test_an_order_by_size_is_told(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    held = audit.Held.read(PackReader(folders["rings"]))
    mean = np.add.reduceat(held.sizes["nodes"], held.starts[:-1]) / held.per_pack
    monkeypatch.setattr(audit, "epoch_order", lambda *_: np.argsort(mean))
    nodes, _, graphs = audit_packs(folders["rings"]).drifts
    assert nodes.correlation > 0.2 and graphs.correlation < -0.5
    told = [verdict for verdict in audit_packs(folders["rings"]).verdicts if not verdict.good]
    assert told[0].text.startswith("Size in nodes and position in the epoch: larger ones come later (+0.")
    assert any(
        verdict.text.startswith("Graphs a step and position in the epoch: larger ones come earlier") for verdict in told
    )
    first, last = nodes.along[0], nodes.along[-1]
    assert first < 1 < last


def found(**changes: Any) -> PackAudit:
    spread = Spread(9.0, 1.0, 8, 10)
    plain = PackAudit(
        100, 11, 10, 1, 0, spread, spread,
        (Drift("nodes", 0.02, 0.001, 400, (1.0,)),),
        Companions(100, (8.0, 80.0), (8.0, 8.0), (8.0, 85.0), 0.01, 0.0),
        Weights(1.0, 1.0, (1.0,), (1.0,)),
        None,
    )  # fmt: skip
    return replace(plain, **changes)


@pytest.mark.parametrize(
    ("changes", "good", "text"),
    [
        ({}, True, "Size in nodes and position in the epoch: no correlation (+0.020, mean of 400 epochs)."),
        (
            {"drifts": (Drift("edges", -0.03, 0.01, 10, (1.0,)),)},
            True,
            "Size in edges and position in the epoch: none that chance would not give (-0.030, mean of 10 epochs).",
        ),
        (
            {"drifts": (Drift("edges", -0.031, 0.01, 10, (1.0,)),)},
            False,
            "Size in edges and position in the epoch: larger ones come earlier (-0.031, mean of 10 epochs).",
        ),
        (
            {},
            True,
            "Companions: a graph meets 80.0 in 10 epochs with redraws, 8.0 without (10.0 times as many, of 10 at "
            "most), 85.0 in unpacked batches. 1.0 % of the graphs are alone in their size and keep their place.",
        ),
        (
            {"companions": Companions(50, (8.0, 42.0), (8.0, 8.0), (8.0, 85.0), 0.5, 0.5)},
            False,
            "Companions: a graph meets 42.0 in 10 epochs with redraws, 8.0 without (5.2 times as many, of 10 at most), "
            "85.0 in unpacked batches; 50 graphs followed. 50.0 % of the graphs are alone in their size and keep their "
            "place; redraw='swaps' exchanges graphs of any sizes.",
        ),
        (
            {"epochs": 1, "companions": Companions(100, (8.0,), (8.0,), (8.0,), 0.5, 0.5)},
            True,
            "Companions: a graph meets 8 in 1 epochs.",
        ),
        ({}, True, "Weights in a mean of means: up to 1.00 to 1, as if 100.0 % of the graphs weighed alike."),
        (
            {"weights": Weights(4.0, 0.949, (1.0,), (1.0,))},
            False,
            "Weights in a mean of means: up to 4.00 to 1, as if 94.9 % of the graphs weighed alike; "
            "masked_mean(..., per=loader.graphs_per_step) weighs all alike.",
        ),
    ],
)
def test_verdicts(changes: dict[str, Any], good: bool, text: str) -> None:
    assert (good, text) in found(**changes).verdicts


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"target": "x"}, FieldError, r"'x' is no field of graphs of one whole number each; there are: y"),
        ({"epochs": 0}, StateError, "epochs must be a whole number from 1"),
        ({"batch_size": 2.5}, StateError, "batch_size must be a whole number"),
        ({"seed": -1}, StateError, "seed must be a whole number from 0"),
    ],
)
def test_what_cannot_be_asked(
    folders: dict[str, Path], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        audit_packs(folders["rings"], **options)


def test_no_classes_are_asked_for(folders: dict[str, Path]) -> None:
    assert audit_packs(folders["rings"], target="").balance is None
    assert audit_packs(folders["papers"]).balance is None, "its y is no class"
    assert audit_packs(folders["triplets"]).balance is None, "what has a budget is none"


@pytest.mark.parametrize("fault", ["a slot filled twice", "a pack left empty"])
def test_places_that_contradict_themselves(folders: dict[str, Path], fault: str, tmp_path: Path) -> None:
    copy = tmp_path / "packs"
    copy.mkdir()
    for file in folders["rings"].iterdir():
        if file.is_file():
            (copy / file.name).write_bytes(file.read_bytes())
    table = pq.read_table(copy / "graphs.parquet")
    column = "slot" if fault == "a slot filled twice" else "pack"
    values = table.column(column).to_numpy().copy()
    values[values == 1] = 0
    table = table.set_column(table.schema.get_field_index(column), table.schema.field(column), [values])
    pq.write_table(table, copy / "graphs.parquet", use_dictionary=False, write_statistics=False, compression="zstd")
    reader = PackReader(copy)
    reseal(copy, files={**reader.manifest.files, "graphs.parquet": hash_file(copy / "graphs.parquet")})
    with pytest.raises(FormatError, match="leaves slots of packs free, or fills them twice"):
        audit_packs(copy)
