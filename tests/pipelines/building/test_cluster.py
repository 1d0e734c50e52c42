"""The job on a cluster: the bytes of the job on one machine, whoever dies in between."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deadly import Apart, Murdered, Stopped, Workers
from forks import forked_dask
from hypothesis import given, settings
from hypothesis import strategies as st
from jobs import LIMITS, SMILES, complete_or_none, graphs, hashes, in_small_parts, killed_at
from libraries import libraries

from packer import PackDataset, PackLimits, make_plan, unpack, verify_shards
from packer.errors import BuildError, PackerError, SizesError, SourceError
from packer.graphs.sizes import GraphSizes
from packer.limits.limits_rule import LimitsRule
from pipelines import build
from pipelines.building.spilled import blocks, gather, groups, route
from pipelines.executors import make_executor
from pipelines.stores.journal import WORK

PHASES = (blocks.scan_block, blocks.hash_blocks, groups.count_group, route.route_group, gather.write_file)


@pytest.fixture(scope="module", autouse=True)
def small_parts() -> Iterator[None]:
    with in_small_parts():
        yield


@pytest.fixture(scope="module")
def molecules(tmp_path_factory: pytest.TempPathFactory) -> str:
    """130 molecules in 7 blocks; some rows hold none, one has no number."""
    names = ("train", "valid", "test")
    rows = [f"{SMILES[i % 10]},{i}.5,{names[i % 7 % 3]}" for i in range(130)]
    rows[0] = "no molecule,0.5,test"
    rows[64] = ",1.5,valid"
    rows[65] = "X,,train"
    path = tmp_path_factory.mktemp("csv") / "molecules.csv"
    path.write_text("smiles,t,part\n" + "\n".join(rows) + "\n")
    return f"smiles:{path}"


@pytest.fixture(scope="module")
def split_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("splits") / "splits.csv"
    path.write_text("graph_id,split\n" + "".join(f"{i},{('a', 'b')[i % 5 == 1]}\n" for i in range(130)))
    return path


JOBS: dict[str, dict[str, Any]] = {
    "shares": {"splits": "train=0.7,valid=0.2,test=0.1", "split_seed": 3},
    "a column": {"split_column": "part"},
    "a file": {"split_file": True},
    "graphs left out": {"limits": PackLimits(9, 20, 3), "oversize": "skip", "split_column": "part"},
    "graphs cut down": {"limits": PackLimits(9, 20, 3), "oversize": "trim-both", "seed": 5},
    "cut down, in shares": {"limits": PackLimits(9, 20, 3), "oversize": "trim-nodes", "splits": "a=0.5,b=0.5"},
    "stream": {"algorithm": "stream", "splits": "a=0.5,b=0.5"},
    "pad-to-max": {"algorithm": "pad-to-max"},
    "first-fit, no codec": {"algorithm": "first-fit", "compression": "none"},
    "histogram, batches": {"algorithm": "histogram", "seed": 2, "limits": LimitsRule(num_graphs=5, by="batches")},
    "auto": {"limits": "auto"},
    "the mean": {"limits": LimitsRule(num_graphs=5, by="mean")},
    "one null graph": {"limits": PackLimits(40, 90, 6, null_graphs="one"), "compression": "lz4"},
}


def both(tmp_path: Path, source: Any, **options: Any) -> tuple[dict[str, str], dict[str, str]]:
    """Hashes of the files that the job writes on one machine, and as on a cluster."""
    limits = options.pop("limits", LIMITS)
    build(source, tmp_path / "here", limits, workers=1, **options)
    build(source, tmp_path / "apart", limits, executor=Apart(), **options)
    assert not (tmp_path / "apart" / WORK).exists()
    return hashes(tmp_path / "here"), hashes(tmp_path / "apart")


@pytest.mark.parametrize("name", JOBS)
def test_a_cluster_writes_the_bytes_of_one_machine(name: str, tmp_path: Path, molecules: str, split_file: Path) -> None:
    options = {**JOBS[name], **({"split_file": split_file} if "split_file" in JOBS[name] else {})}
    here, apart = both(tmp_path, molecules, targets=["t"], on_empty="skip", **options)
    assert here == apart
    assert len([file for file in here if "shard-" in file]) >= 3


@pytest.mark.parametrize("algorithm", ["optimal", "stream"])
def test_a_given_plan_is_followed_on_a_cluster_too(algorithm: str, tmp_path: Path) -> None:
    data = graphs(100)
    sizes = GraphSizes([g.num_nodes for g in data], [g.num_edges for g in data])  # pyright: ignore[reportArgumentType]
    make_plan(sizes, LIMITS, algorithm).save(tmp_path / "plan.parquet")
    here, apart = both(tmp_path, data, plan=tmp_path / "plan.parquet")
    assert here == apart


def test_python_objects_need_no_second_process(tmp_path: Path) -> None:
    here, apart = both(tmp_path, graphs(100))
    assert here == apart


def test_heterogeneous_graphs_on_a_cluster(tmp_path: Path) -> None:
    here, apart = both(tmp_path, libraries(60), limits=PackLimits(30, 60, 5), oversize="skip")
    assert here == apart


@settings(max_examples=12, deadline=None)
@given(
    numbers=st.lists(st.integers(0, 300), min_size=1, max_size=60),
    seed=st.integers(0, 5),
    shares=st.sampled_from([None, "a=0.5,b=0.5", "a=0.9,b=0.05,c=0.05"]),
    algorithm=st.sampled_from(["optimal", "best-fit-decreasing", "stream"]),
)
def test_any_graphs_in_any_order(
    numbers: list[int], seed: int, shares: str | None, algorithm: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pool = graphs(301)
    source = [pool[number] for number in numbers]
    folder = tmp_path_factory.mktemp("any")
    found: list[dict[str, str] | str] = []
    for name, executor in (("here", None), ("apart", Apart())):
        where: dict[str, Any] = {"workers": 1} if executor is None else {"executor": executor}
        try:
            build(source, folder / name, LIMITS, algorithm, seed, splits=shares, **where)
            found.append(hashes(folder / name))
        except PackerError as error:
            found.append(str(error))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"limits": PackLimits(9, 20, 3)}, SizesError),
        ({"limits": PackLimits(6, 20, 3), "oversize": "trim-edges"}, SizesError),
        ({"splits": "a=0.999,b=0.001"}, SourceError),
        ({"split_column": "nothing"}, SourceError),
        ({"on_empty": "error"}, SourceError),
    ],
)
def test_the_same_errors_and_nothing_left(
    tmp_path: Path, molecules: str, options: dict[str, Any], kind: type[PackerError]
) -> None:
    said: list[str] = []
    for where in ({"workers": 1}, {"executor": Apart()}):
        chosen: dict[str, Any] = {"targets": ["t"], "on_empty": "skip", "limits": LIMITS, **options, **where}
        with pytest.raises(kind) as caught:
            build(molecules, tmp_path / "out", **chosen)
        said.append(str(caught.value))
        assert not (tmp_path / "out").exists()
    assert said[0] == said[1]


def test_none_fits_is_the_same_error(tmp_path: Path) -> None:
    for where in ({"workers": 1}, {"executor": Apart()}):
        with pytest.raises(
            SizesError, match=r"none of the 9 graphs fits .* fewest nodes needs \d nodes; a pack offers 1"
        ):
            build(graphs(9), tmp_path / "out", PackLimits(3, 4, 3), oversize="skip", **where)
        assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def job(molecules: str) -> Callable[..., Any]:
    def build_it(out: Any, **options: Any) -> Any:
        chosen = {"splits": "train=0.75,test=0.25", "targets": ["t"], "on_empty": "skip", **options}
        return build(molecules, out, LIMITS, **chosen)

    return build_it


@pytest.fixture(scope="module")
def undisturbed(job: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("reference") / "out"
    job(folder, workers=1)
    return hashes(folder)


@pytest.mark.parametrize("stride", [25, pytest.param(1, marks=pytest.mark.slow)])
def test_the_driver_is_killed_at_flushes_to_disk(
    tmp_path: Path, job: Callable[..., Any], undisturbed: dict[str, str], stride: int
) -> None:
    event = 1 - stride
    while True:
        event += stride
        out = tmp_path / str(event)
        if not killed_at(event, lambda out=out: job(out, executor=Apart())):
            break
        assert complete_or_none(out)
        if event % 3 == 0:  # one machine goes on where a cluster was, or the cluster itself after a second kill
            killed_at(5, lambda out=out: job(out, executor=Apart()))
        job(out, **({"workers": 1} if event % 2 else {"executor": Apart()}))
        assert hashes(out) == undisturbed, f"killed at flush {event}"
        assert not (out / WORK).exists()
    assert event > 100, event


def test_a_cluster_goes_on_where_one_machine_was(
    tmp_path: Path, job: Callable[..., Any], undisturbed: dict[str, str]
) -> None:
    for event in (3, 9, 20, 30):
        out = tmp_path / str(event)
        assert killed_at(event, lambda out=out: job(out, workers=1))
        job(out, executor=Apart())
        assert hashes(out) == undisturbed


def test_a_killed_worker_is_an_error_and_the_same_call_goes_on(
    tmp_path: Path, job: Callable[..., Any], undisturbed: dict[str, str]
) -> None:
    """One dies in the first phase; in the call that goes on, one in the second, and so on."""
    executor = Murdered(Workers(2), tmp_path, PHASES)
    for fn in PHASES:
        with pytest.raises(BuildError, match=r"worker \d \(process \d+\) was killed by SIGKILL .*same command"):
            job(tmp_path / "out", executor=executor)
        assert (tmp_path / fn.__name__).exists(), "it died there"
        assert complete_or_none(tmp_path / "out")
    job(tmp_path / "out", executor=executor)
    executor.close()
    assert hashes(tmp_path / "out") == undisturbed


@pytest.mark.parametrize(
    ("engine", "phases"),
    # What an engine does about a death is the same in all phases; each new worker takes seconds.
    [
        ("dask", PHASES[1:5:2]),
        ("ray", PHASES[::4]),
        *(pytest.param(engine, PHASES, marks=pytest.mark.slow) for engine in ("dask", "ray")),
    ],
    ids=["dask", "ray", "dask in all phases", "ray in all phases"],
)
def test_engines_give_the_same_bytes_though_workers_die(
    engine: str, phases: tuple[Any, ...], tmp_path: Path, job: Callable[..., Any], undisturbed: dict[str, str]
) -> None:
    pytest.importorskip("distributed" if engine == "dask" else engine)
    executor = make_executor(engine, 2)
    with warnings.catch_warnings(), forked_dask() if engine == "dask" else nullcontext():
        warnings.simplefilter("ignore", ResourceWarning)  # Ray does not wait for the processes that it ends
        try:
            job(tmp_path / "whole", executor=executor)
            job(tmp_path / "murdered", executor=Murdered(executor, tmp_path, phases))
        finally:
            executor.close()
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {fn.__name__ for fn in phases}
    assert hashes(tmp_path / "whole") == undisturbed
    assert hashes(tmp_path / "murdered") == undisturbed


def test_what_is_done_is_not_done_again(
    tmp_path: Path, job: Callable[..., Any], undisturbed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        job(tmp_path, executor=Stopped())
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    assert len(before) >= 6
    monkeypatch.setattr("pipelines.sources.smiles.SmilesTask.scan", None)  # the scan is not done again
    monkeypatch.setattr("pipelines.building.plan.make_plan", None)  # nor the plan
    job(tmp_path, executor=Apart())
    assert hashes(tmp_path) == undisturbed
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())


def test_what_another_plan_left_is_not_taken(
    tmp_path: Path, job: Callable[..., Any], undisturbed: dict[str, str]
) -> None:
    """Files on their way have the same names whatever the plan."""

    with pytest.raises(KeyboardInterrupt):
        job(tmp_path, executor=Stopped(), seed=9)
    with pytest.raises(BuildError, match=r"holds an unfinished build of another job: plan.seed is 9 there, 0 here"):
        job(tmp_path, executor=Apart())
    job(tmp_path, executor=Apart(), overwrite=True)
    assert hashes(tmp_path) == undisturbed


def test_a_finished_build_is_not_begun_again(tmp_path: Path, job: Callable[..., Any]) -> None:
    assert not job(tmp_path / "out", executor=Apart()).already
    assert job(tmp_path / "out", executor=Apart()).already
    assert job(tmp_path / "out", workers=1).already
    with pytest.raises(BuildError, match=r"already holds a data set built otherwise.*--overwrite"):
        job(tmp_path / "out", executor=Apart(), seed=1)
    job(tmp_path / "out", executor=Apart(), seed=1, overwrite=True)
    assert not (tmp_path / "out" / WORK).exists()
    assert verify_shards(tmp_path / "out" / "train").ok


def test_a_folder_for_the_work_is_left_empty(
    tmp_path: Path, job: Callable[..., Any], undisturbed: dict[str, str]
) -> None:
    job(tmp_path / "out", executor=Apart(), work=tmp_path / "work")
    assert hashes(tmp_path / "out") == undisturbed
    assert not [path for path in (tmp_path / "work").rglob("*") if path.is_file()]


def test_every_graph_comes_back(tmp_path: Path) -> None:
    data = graphs(90)
    build(data, tmp_path, LIMITS, executor=Apart())
    found = unpack(PackDataset(tmp_path))
    assert [graph.name for graph in found] == [graph.name for graph in data]
    assert all(np.array_equal(a.x, b.x) for a, b in zip(found, data, strict=True))
