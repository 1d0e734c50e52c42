"""Does damage between two runs of a build, or in the middle of one, ever come out as a sound data set of other graphs?

A build is stopped at one of its flushes to disk, one file of those that are there is damaged, and the same command is
given again; or the file is damaged and the build goes on. What comes out is compared with the undisturbed data set,
byte for byte, and where it differs `verify` has to say so.

    python benchmarks/rot.py [--cases 500] [--seed 0] [--out benchmarks/results/rot.md]
    python benchmarks/rot.py --places dask --cases 100 --out benchmarks/results/rot-dask.md
    python benchmarks/rot.py --places s3 --cases 100 --out benchmarks/results/rot-s3.md

On a Dask cluster (of two processes here, that outlives the builds) and in an S3 store (a server here, moto) a build is
stopped, or damage done, at a task's result too: it is in its files that most is written there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from packer import PackLimits, verify_shards
from packer.errors import PackerError
from packer.shards.layout import Layout
from packer.verify.data_set import ALSO_ALLOWED
from pipelines import build
from pipelines.building.mapped import shards as mapped_shards
from pipelines.building.spilled import groups, phases
from pipelines.stores.journal import LOCK

SMILES = ["CCO", "c1ccccc1", "C", "CC(=O)O", "C1CC1", "N#N", "O=C=O", "CCCCCCCC", "c1ccc2ccccc2c1", "CN"]
LIMITS = PackLimits(num_nodes=40, num_edges=90, num_graphs=6)
SMALL = PackLimits(num_nodes=9, num_edges=20, num_graphs=3)

JOBS: dict[str, dict[str, Any]] = {
    "one data set": {},
    "splits": {"splits": "train=0.75,test=0.25"},
    "a split column": {"split_column": "part"},
    "cut down": {"limits": SMALL, "oversize": "trim-both", "seed": 5},
    "left out": {"limits": SMALL, "oversize": "skip"},
    "in order": {"algorithm": "stream", "compression": "none"},
    "objects": {"objects": True},
}
PLACES = ("one machine", "cluster")
SERVERS: dict[str, str] = {}
"""Where Dask's scheduler and the S3 server are, for the places of these names."""


class Apart:
    """Tasks run here one after another, but as on a cluster: through files of the work store alone.

    here: whether these may lie in a folder of this machine; on: runs them instead.
    """

    cluster = True

    def __init__(self, here: bool = True, on: Any = None) -> None:
        self.here, self._on = here, on

    def map(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        for result in map(fn, items) if self._on is None else self._on.map(fn, items):
            if self._on is not None or not self.here:
                an_event()
            yield result

    def close(self) -> None:
        if self._on is not None:
            self._on.close()


def an_event() -> None:
    """Something at which a build may be stopped; see `in_child`."""


class Case(NamedTuple):
    """job, place: what is built; flush: where it is stopped; resumed: or whether it goes on; kind: of damage; pick:
    which file and where in it, 0 to 1 each."""

    job: str
    place: str
    flush: int
    stopped: bool
    kind: str
    pick: tuple[float, float]


class Outcome(NamedTuple):
    """What came of a case. file: the damaged one, "" where there was none."""

    file: str
    what: str
    told: str = ""


DAMAGES = ("a bit", "16 bytes zeroed", "all zeroed", "cut short")
TRUE, TOLD, UNSOUND, WRONG, FAULT = "the true data set", "an error", "told by verify", "WRONG, SOUND", "A FAULT"


def small_parts() -> None:
    """Several blocks, groups of blocks and shards of little data."""
    from pipelines.sources import pyg, smiles

    mapped_shards.choose_layout = lambda sample, compression: Layout(2, 4)
    smiles._ROWS_PER_BLOCK = 20  # pyright: ignore[reportPrivateUsage]
    pyg._GRAPHS_PER_BLOCK = 15  # pyright: ignore[reportPrivateUsage]
    phases.groups.groups_of = partial(groups.groups_of, most_bytes=4_000)


def write_source(path: Path) -> None:
    """60 molecules, some of them none, with a target and a column of splits."""
    rows = [f"{SMILES[i % 10]},{i}.5,{('train', 'test')[i % 5 == 0]}" for i in range(60)]
    rows[31] = "no molecule,0.5,test"
    path.write_text("smiles,t,part\n" + "\n".join(rows) + "\n")


def objects() -> list[Any]:
    """Rings of 2 to 9 nodes."""
    import torch
    from torch_geometric.data import Data

    rng = np.random.default_rng(0)
    found: list[Any] = []
    for number in range(60):
        n = int(rng.integers(2, 10))
        ring = torch.stack([torch.arange(n), (torch.arange(n) + 1) % n])
        x = torch.from_numpy(rng.integers(0, 99, (n, 3)))
        found.append(Data(x=x, edge_index=ring, y=torch.tensor([float(number)]), name=f"ring {number}"))
    return found


def run(job: str, place: str, source: Path, out: Any, **more: Any) -> None:
    options: dict[str, Any] = {"limits": LIMITS, "algorithm": "first-fit", **JOBS[job], **more}
    given: Any = f"smiles:{source}"
    if options.pop("objects", False):
        given = objects()
    else:
        options |= {"targets": ["t"], "on_empty": "skip"}
    held: Any = Apart(here=place != "s3")
    if place == "dask":
        from pipelines.executors.dask import DaskExecutor

        held = Apart(on=DaskExecutor(address=SERVERS["dask"]))
    if place == "s3":
        options["storage_options"] = storage()
    try:
        build(given, out, **({"workers": 1} if place == "one machine" else {"executor": held}), **options)
    finally:
        held.close()


def storage() -> dict[str, Any]:
    return {"key": "nobody", "secret": "nobody", "client_kwargs": {"endpoint_url": SERVERS["s3"]}}


def files_of(out: Any) -> dict[str, bytes]:
    """Every file below a folder or URL, those of the work folder too, but the lock; in order."""
    if isinstance(out, Path):
        paths = [path for path in sorted(out.rglob("*")) if path.is_file() and path.name != LOCK]
        return {str(path.relative_to(out)): path.read_bytes() for path in paths}
    fs, root = bucket(out)
    return {path[len(root) + 1 :]: fs.cat_file(path) for path in sorted(fs.find(root))}


def bucket(out: str) -> tuple[Any, str]:
    """A client that knows nothing from before, and what a URL is to it."""
    import fsspec

    fs, root = fsspec.core.url_to_fs(out, **storage(), skip_instance_cache=True, use_listings_cache=False)
    return fs, str(root)


def in_child(job: Callable[[], str], at: int = 0, then: Callable[[], bool] | None = None) -> tuple[bool, str, int]:
    """(whether it lived, what `job` said, flushes) of a forked process. then: called before flush `at`; it is killed
    there where that gives True."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        seen, flush = 0, os.fsync

        def count() -> None:
            nonlocal seen
            seen += 1
            if seen == at and then is not None and then():
                os.kill(os.getpid(), signal.SIGKILL)

        def counted(handle: int) -> None:
            count()
            flush(handle)

        os.fsync = counted
        globals()["an_event"] = count
        said = "left without a word"
        try:
            said = job()
        except BaseException as error:
            said = f"{FAULT}: {type(error).__name__}: {error}"
        finally:
            os.write(writer, json.dumps([said, seen]).encode()[:60_000])
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()
    lived = os.WIFEXITED(os.waitpid(child, 0)[1])
    said: Any = json.loads(data) if data else ["killed", 0]
    return lived and bool(data), str(said[0]), int(said[1])


def attempt(job: Callable[[], None]) -> str:
    """ "" where it went well, or the error that a user sees."""
    try:
        job()
    except PackerError as error:
        return str(error)
    return ""


def hashes(out: Any) -> dict[str, str]:
    """Every file of a data set; what may lie beside it (build.json, the card, the work folder) is outside of it."""
    files = ((name, data) for name, data in files_of(out).items() if not {*Path(name).parts} & {*ALSO_ALLOWED})
    return {name: hashlib.sha256(data).hexdigest() for name, data in files}


def damage(out: Any, case: Case) -> str:
    """Spoil one file of all that are there; its name, "" where there is none."""
    files = {name: data for name, data in files_of(out).items() if data}
    if not files:
        return ""
    name = list(files)[int(case.pick[0] * len(files))]
    data = bytearray(files[name])
    at = int(case.pick[1] * len(data))
    if case.kind == "a bit":
        data[at] ^= 1 << int(case.pick[1] * 8 * len(data)) % 8
    elif case.kind == "16 bytes zeroed":
        data[at : at + 16] = bytes(len(data[at : at + 16]))
    elif case.kind == "all zeroed":
        data = bytearray(len(data))
    else:
        data = data[:at]
    if isinstance(out, Path):
        with (out / name).open("r+b") as file:  # in place, as a disk does it: who has mapped it sees it
            file.write(data)
            file.truncate(len(data))
    else:
        fs, root = bucket(out)
        fs.pipe_file(f"{root}/{name}", bytes(data))
    return name


def run_case(case: Case, source: Path, out: Any, note: Path, truth: dict[str, str]) -> Outcome:
    """Build, damage, build again, compare. note: a file for what was damaged."""

    def spoil() -> bool:
        note.write_text(damage(out, case))
        return case.stopped

    go = partial(attempt, partial(run, case.job, case.place, source, out))
    lived, said, _ = in_child(go, case.flush, spoil)
    if not note.exists():
        return Outcome("", "no such flush")
    file = note.read_text()
    if said.startswith(FAULT):
        return Outcome(file, FAULT, said)
    if not lived or said:
        if lived:
            outcome = judge(out, truth, said)
            if outcome.what == WRONG:
                return outcome._replace(file=file)
        lived, said, _ = in_child(go)
    if not lived or said.startswith(FAULT):
        return Outcome(file, FAULT, said)
    outcome = judge(out, truth, said)
    if outcome.what == TOLD:  # the remedy that is named is one
        _, again, _ = in_child(partial(attempt, partial(run, case.job, case.place, source, out, overwrite=True)))
        if any(
            words in again for words in ("Remove it", "holds something else", "may be somebody's")
        ):  # nothing is removed that no one answers for
            return outcome._replace(file=file)
        if again or hashes(out) != truth:
            return Outcome(file, FAULT, f"after --overwrite: {again or 'other bytes'}")
    return outcome._replace(file=file)


def judge(out: Any, truth: dict[str, str], said: str) -> Outcome:
    """What lies in `out` after a run that ended with `said`, "" where it ended well."""
    found = hashes(out)
    if not said and found == truth:
        return Outcome("", TRUE)
    for folder in [name[: -len("manifest.json")] for name in found if Path(name).name == "manifest.json"]:
        same = all(truth.get(name) == sha for name, sha in found.items() if name.startswith(folder))
        if not same and sound(out / folder if isinstance(out, Path) else f"{out}/{folder}".rstrip("/")):
            return Outcome("", WRONG, said)
    return Outcome("", TOLD, said) if said else Outcome("", UNSOUND)


def sound(where: Any) -> bool:
    return verify_shards(where, storage_options={} if isinstance(where, Path) else storage()).ok


def place_of_case(place: str, folder: Path, name: str) -> Any:
    """Where a build writes: a folder, or a URL of the S3 server."""
    return f"s3://rot/{name.replace(' ', '-')}" if place == "s3" else folder / name


def cases(
    number: int, seed: int, jobs: list[str], places: Sequence[str], source: Path, folder: Path
) -> tuple[list[Case], dict[tuple[str, str], Any]]:
    """Cases drawn at random over jobs, places and all flushes of each; and what undisturbed builds give."""
    truth: dict[tuple[str, str], Any] = {}
    flushes: dict[tuple[str, str], int] = {}
    for job in jobs:
        for place in places:
            out = place_of_case(place, folder, f"{job} {place}")
            if place in PLACES:  # what is imported now, no child has to import
                run(job, place, source, folder / f"{job} {place} first")
            lived, said, count = in_child(partial(attempt, partial(run, job, place, source, out)))
            assert lived and not said, said
            truth[job, place], flushes[job, place] = hashes(out), count
    draw, found = random.Random(seed), list[Case]()
    for _ in range(number):
        job, place = draw.choice(jobs), draw.choice(places)
        stopped = draw.random() < 0.75
        kind = draw.choice(DAMAGES if stopped else DAMAGES[:3])
        pick = (draw.random(), draw.random())
        found.append(Case(job, place, draw.randint(2, flushes[job, place]), stopped, kind, pick))
    return found, truth


def sweep(
    number: int, seed: int, jobs: list[str], folder: Path, places: Sequence[str] = PLACES
) -> list[tuple[Case, Outcome]]:
    """Run so many cases in a folder."""
    small_parts()
    source = folder / "molecules.csv"
    write_source(source)
    drawn, truth = cases(number, seed, jobs, places, source, folder)
    found: list[tuple[Case, Outcome]] = []
    for at, case in enumerate(drawn):
        out = place_of_case(case.place, folder, str(at))
        found.append((case, run_case(case, source, out, folder / f"{at}.damaged", truth[case.job, case.place])))
    return found


@contextmanager
def served(places: Sequence[str]) -> Generator[None]:
    """Dask's cluster and the S3 server in processes of their own, as far as they are wanted."""
    started: list[subprocess.Popen[str]] = []
    for place in {"dask", "s3"} & {*places}:
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVE[place]], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        started.append(process)
        assert process.stdout is not None
        SERVERS[place] = process.stdout.readline().strip()
    try:
        if "s3" in places:
            code = "import sys, rot; rot.SERVERS['s3'] = sys.argv[1]; rot.bucket('s3://rot')[0].makedirs('rot')"
            subprocess.run([sys.executable, "-c", code, SERVERS["s3"]], check=True, cwd=Path(__file__).parent)
        yield
    finally:
        for process in started:
            process.terminate()
            process.wait()


_SERVE = {
    "dask": """
import time
from distributed import LocalCluster
if __name__ == "__main__":
    print(LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None).scheduler_address, flush=True)
    time.sleep(1e6)
""",
    "s3": """
import time
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(port=0, verbose=False)
server.start()
print("http://%s:%d" % server.get_host_and_port(), flush=True)
time.sleep(1e6)
""",
}


def page(found: list[tuple[Case, Outcome]], seed: int, seconds: float) -> str:
    """The figures as Markdown."""
    from provenance import provenance

    held = [(case, outcome) for case, outcome in found if outcome.file]
    columns = (TRUE, TOLD, UNSOUND, WRONG, FAULT)
    lines = [
        "# Damage between and during runs of a build",
        "",
        f"{len(held)} cases, {seconds:.0f} s. {provenance('pyarrow', 'numpy', seed=seed)}",
        "",
        "A build is stopped at a flush to disk, one of the files that are there is damaged, and the same command is",
        "given again; or it is damaged and the build goes on. `WRONG, SOUND`: other bytes than the undisturbed data",
        "set's, of which `verify` finds nothing. `A FAULT`: any end but a data set or an error that names a remedy",
        "which then works.",
        "",
        "| file | cases | " + " | ".join(columns) + " |",
        "|---|---|" + "---|" * len(columns),
    ]
    kinds = Counter[str]()
    by_kind: dict[str, Counter[str]] = {}
    for case, outcome in held:
        kind = f"{case.place}: {kind_of(outcome.file)}"
        kinds[kind] += 1
        by_kind.setdefault(kind, Counter())[outcome.what] += 1
    for kind in sorted(kinds):
        lines.append(f"| {kind} | {kinds[kind]} | " + " | ".join(str(by_kind[kind][name]) for name in columns) + " |")
    total = Counter(outcome.what for _, outcome in held)
    lines.append(f"| all | {len(held)} | " + " | ".join(str(total[name]) for name in columns) + " |")
    return "\n".join(lines) + "\n"


def kind_of(file: str) -> str:
    """A file's name without what numbers it."""
    parts = Path(file).parts
    name = Path(file).name if parts[0] != ".work" or len(parts) < 3 else f"{parts[0]}/{parts[1]}/..."
    return "shard" if name.startswith("shard-") else name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--places", default=",".join(PLACES))
    parser.add_argument("--jobs", default=",".join(JOBS))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    start = time.perf_counter()
    places = options.places.split(",")
    with tempfile.TemporaryDirectory() as folder, served(places):
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        found = sweep(options.cases, options.seed, options.jobs.split(","), Path(folder), places)
    bad = [(case, outcome) for case, outcome in found if outcome.what in (WRONG, FAULT)]
    for case, outcome in bad:
        print(f"{case}\n    {outcome}", file=sys.stderr)
    text = page(found, options.seed, time.perf_counter() - start)
    print(text)
    if options.out is not None:
        options.out.write_text(text)
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
