"""Padding and geometry: what a model of distances computes on packs and on the graphs alone, to the second derivative.

Two small models, each written once for torch and JAX: of SchNet's kind (Gaussians of lengths, cosine cutoff) and of
MACE's (Bessel functions, polynomial envelope, spherical harmonics, invariants of their sums).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch: Any = pytest.importorskip("torch")
pytest.importorskip("matscipy")

from structures import structures, write_frames  # noqa: E402

from packer import PackDataset, PackLimits, torch_loader, unpack  # noqa: E402
from pipelines import build  # noqa: E402

CUTOFF, WIDTH = 4.0, 8
LIMITS = PackLimits(num_nodes=40, num_edges=900, num_graphs=6)
Graphs = dict[str, Any]
Model = Callable[[Any, Any, dict[str, Any], Graphs, Any], Any]


def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {
        "z": (100, WIDTH),
        "radial": (6, WIDTH),
        "mix": (3 * WIDTH, WIDTH),
        "own": (WIDTH, WIDTH),
        "out": (WIDTH,),
    }
    return {name: rng.normal(scale=0.4, size=shape).astype(np.float32) for name, shape in shapes.items()}


def vectors_of(graphs: Graphs, pos: Any) -> Any:
    source, target = graphs["edge_index"]
    return pos[target] - pos[source] + graphs["shifts"]


def schnet(xp: Any, add: Any, w: dict[str, Any], graphs: Graphs, vectors: Any) -> Any:
    """Energies of nodes."""
    source, target = graphs["edge_index"]
    length = xp.sqrt((vectors**2).sum(-1))
    centres = xp.linspace(0.0, CUTOFF, 6)
    cutoff = xp.where(length < CUTOFF, 0.5 * (xp.cos(np.pi * length / CUTOFF) + 1), 0.0)
    filters = xp.tanh(xp.exp(-2 * (length[:, None] - centres) ** 2) @ w["radial"]) * cutoff[:, None]
    h = w["z"][graphs["z"]]
    h = h + xp.tanh(add(h[source] * filters, target, len(h)) @ w["own"])
    return xp.tanh(h @ w["mix"][:WIDTH]) @ w["out"]


def mace(xp: Any, add: Any, w: dict[str, Any], graphs: Graphs, vectors: Any) -> Any:
    """Energies of nodes."""
    source, target = graphs["edge_index"]
    length = xp.sqrt((vectors**2).sum(-1))
    x = length / CUTOFF
    envelope = xp.where(x < 1, 1 - 28 * x**6 + 48 * x**7 - 21 * x**8, 0.0)
    bessel = xp.concatenate([(xp.sin(n * np.pi * x) / length)[:, None] for n in range(1, 7)], axis=1)
    radial = (bessel @ w["radial"]) * envelope[:, None]
    a, b, c = (vectors / length[:, None]).T
    s3, s5 = 3**0.5, 5**0.5
    orders = (
        [xp.ones_like(a)],
        [s3 * a, s3 * b, s3 * c],
        [s5 * s3 * a * b, s5 * s3 * b * c, s5 / 2 * (3 * c * c - 1), s5 * s3 * a * c, s5 * s3 / 2 * (a * a - b * b)],
    )
    h = w["z"][graphs["z"]]
    messages = h[source] * radial
    invariants = [sum(add(messages * y[:, None], target, len(h)) ** 2 for y in order) for order in orders]
    return xp.tanh(h @ w["own"] + xp.concatenate(invariants, axis=1) @ w["mix"] / 50) @ w["out"]


MODELS: dict[str, Model] = {"SchNet": schnet, "MACE": mace}


def step_of_torch(model: Model, graphs: Graphs, far: float | None = None) -> dict[str, Any]:
    """Energies, forces and the gradients of a loss of both. far: length given to padding in the model, else none."""

    def add(values: Any, index: Any, rows: int) -> Any:
        return torch.zeros((rows, *values.shape[1:]), dtype=values.dtype).index_add(0, index, values)

    w = {name: torch.tensor(values, requires_grad=True) for name, values in weights().items()}
    pos = graphs["pos"].clone().requires_grad_()
    vectors = vectors_of(graphs, pos)
    if far is not None:
        vectors = torch.where(graphs["edges_mask"][:, None], vectors, torch.tensor([far, 0.0, 0.0]))
    energy = add(model(torch, add, w, graphs, vectors), graphs["batch"], len(graphs["graphs_mask"]))
    (gradient,) = torch.autograd.grad(energy.sum(), pos, create_graph=True)
    loss = _loss(torch, graphs, energy, -gradient)
    grads = torch.autograd.grad(loss, list(w.values()))
    return _real(graphs, energy.detach(), -gradient.detach(), dict(zip(w, grads, strict=True)))


def step_of_jax(model: Model, graphs: Graphs, far: float | None = None) -> dict[str, Any]:
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    graphs = {name: jnp.asarray(np.asarray(values)) for name, values in graphs.items()}

    def add(values: Any, index: Any, rows: int) -> Any:
        return jnp.zeros((rows, *values.shape[1:]), values.dtype).at[index].add(values)

    def energy(w: dict[str, Any], pos: Any) -> Any:
        vectors = vectors_of(graphs, pos)
        if far is not None:
            vectors = jnp.where(graphs["edges_mask"][:, None], vectors, jnp.array([far, 0.0, 0.0]))
        return add(model(jnp, add, w, graphs, vectors), graphs["batch"], len(graphs["graphs_mask"]))

    def both(w: dict[str, Any]) -> Any:
        return energy(w, graphs["pos"]), -jax.grad(lambda pos: energy(w, pos).sum())(graphs["pos"])

    @jax.jit
    def step(w: dict[str, Any]) -> Any:
        return both(w), jax.grad(lambda w: _loss(jnp, graphs, *both(w)))(w)

    (energies, forces), grads = step({name: jnp.asarray(values) for name, values in weights().items()})
    return _real(graphs, energies, forces, grads)


def _loss(xp: Any, graphs: Graphs, energy: Any, forces: Any) -> Any:
    """Means over what is real."""
    of_graphs, of_nodes = graphs["graphs_mask"], graphs["nodes_mask"]
    parts = (of_graphs, (energy - graphs["energy"]) ** 2), (of_nodes, ((forces - graphs["forces"]) ** 2).sum(-1))
    return sum(xp.where(mask, each, 0.0).sum() / mask.sum() for mask, each in parts)


def _real(graphs: Graphs, energy: Any, forces: Any, grads: dict[str, Any]) -> dict[str, Any]:
    own = {
        "energy": np.asarray(energy)[np.asarray(graphs["graphs_mask"])],
        "forces": np.asarray(forces)[np.asarray(graphs["nodes_mask"])],
    }
    return {**own, **{name: np.asarray(values) for name, values in grads.items()}}


STEPS = {"torch": step_of_torch, "jax": step_of_jax}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Periodic crystals, slabs and molecules."""
    return write_frames(tmp_path_factory.mktemp("frames") / "a.extxyz", structures(8))


def packed(folder: Path, file: Path, **options: Any) -> tuple[Graphs, Graphs]:
    """(all packs of the file, the same graphs alone), with masks."""
    targets = ["energy", "forces"]
    job: dict[str, Any] = {"algorithm": "stream", "workers": 1, "cutoff": CUTOFF, "targets": targets}
    build(f"ase:{file}", folder, LIMITS, **job, **options)
    packs = PackDataset(folder)
    (batch,) = torch_loader(packs, batch_size=len(packs) + 1, shuffle=False)  # the last pack is an empty one
    assert not batch.edges_mask.all() and not batch.graphs_mask.all() and not batch.nodes_mask.all()
    alone = unpack(folder)
    names = ("z", "pos", "shifts", "energy", "forces")
    graphs = {name: torch.cat([graph[name] for graph in alone]) for name in names}
    sizes = torch.tensor([graph.num_nodes for graph in alone])
    first = torch.cumsum(sizes, 0) - sizes
    graphs["edge_index"] = torch.cat([graph.edge_index + at for graph, at in zip(alone, first, strict=True)], dim=1)
    graphs["batch"] = torch.repeat_interleave(torch.arange(len(alone)), sizes)
    for mask, like in (("nodes_mask", "z"), ("edges_mask", "shifts"), ("graphs_mask", "energy")):
        graphs[mask] = torch.ones(len(graphs[like]), dtype=torch.bool)
    return {**batch.to_dict(), "energy": batch.energy.nan_to_num()}, graphs


@pytest.fixture(scope="module")
def padded(file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Graphs, Graphs]:
    """Packs whose padding lies beyond the cutoff."""
    return packed(tmp_path_factory.mktemp("padded") / "packs", file, pad_geometry=CUTOFF)


@pytest.fixture(scope="module")
def naive(file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Graphs, Graphs]:
    """Packs whose padding has length zero."""
    return packed(tmp_path_factory.mktemp("naive") / "packs", file)


@pytest.fixture(scope="module", params=STEPS)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """JAX compiles its programs, which run once each, without most optimizations."""
    if request.param == "torch":
        yield "torch"
        return
    jax = pytest.importorskip("jax")
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    yield "jax"
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def expected(naive: tuple[Graphs, Graphs], model: str, backend: str) -> dict[str, Any]:
    """Of the graphs alone."""
    return STEPS[backend](MODELS[model], naive[1])


def agree(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    for name, expected in theirs.items():
        assert np.abs(expected).max() > 1e-3, f"{name} tells nothing"
        assert np.abs(ours[name] - expected).max() < 1e-5 * max(1, np.abs(expected).max()), name


def test_padding_beyond_the_cutoff_changes_nothing(
    padded: tuple[Graphs, Graphs], naive: tuple[Graphs, Graphs], model: str, backend: str, expected: dict[str, Any]
) -> None:
    packs, alone = padded
    assert all(torch.equal(alone[name], values) for name, values in naive[1].items())
    agree(STEPS[backend](MODELS[model], packs), expected)


def test_padding_of_length_zero_makes_gradients_nan(
    naive: tuple[Graphs, Graphs], model: str, backend: str, expected: dict[str, Any]
) -> None:
    """What the documentation says of packs without `--pad-geometry`: energies and forces are right, and no weight can
    be learned. Vectors that the model itself gives to padding help as well."""
    packs, _ = naive
    found = STEPS[backend](MODELS[model], packs)
    agree({**expected, **{name: found[name] for name in ("energy", "forces")}}, expected)
    assert np.isnan(found["radial"]).all()
    agree(STEPS[backend](MODELS[model], packs, far=2 * CUTOFF), expected)


def test_padding_has_cells_that_can_be_inverted(padded: tuple[Graphs, Graphs]) -> None:
    """Volumes divide stresses, and vectors by `unit_shifts` are those by `shifts`, of padding too."""
    packs, _ = padded
    cell = packs["cell"][packs["batch"][packs["edge_index"][0]]]
    by_cell = torch.einsum("ek,ekl->el", packs["unit_shifts"].float(), cell)
    assert torch.allclose(by_cell, packs["shifts"], atol=1e-5)
    padding = ~packs["edges_mask"]
    assert (vectors_of(packs, packs["pos"])[padding].norm(dim=1) == 2 * CUTOFF).all()
    nulls = packs["cell"][~packs["graphs_mask"]]
    assert torch.equal(torch.linalg.det(nulls), torch.full((len(nulls),), (2 * CUTOFF) ** 3))
    assert torch.isfinite(torch.linalg.inv(nulls)).all()


def test_angles_between_edges_of_padding_are_zero(padded: tuple[Graphs, Graphs]) -> None:
    """Their cosine has a gradient, their arc cosine has none."""
    packs, _ = padded
    pos = packs["pos"].clone().requires_grad_()
    one = vectors_of(packs, pos)[~packs["edges_mask"]]
    cosine = torch.nn.functional.cosine_similarity(one, one.flip(0))
    assert torch.allclose(cosine, torch.ones(()))
    (finite,) = torch.autograd.grad(cosine.sum(), pos, retain_graph=True)
    (infinite,) = torch.autograd.grad(torch.arccos(cosine.clamp(max=1)).sum(), pos)
    assert torch.isfinite(finite).all() and not torch.isfinite(infinite).all()
