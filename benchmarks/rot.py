"""Does damage between two runs of a build, or in the middle of one, ever come out as a sound data set of other graphs?

A build is stopped at one of its flushes to disk, one file of those that are there is damaged, and the same command is
given again; or the file is damaged and the build goes on. What comes out is compared with the undisturbed data set,
byte for byte, and where it differs `verify` has to say so.

    python benchmarks/rot.py [--cases 500] [--seed 0] [--out benchmarks/results/rot.md]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from packer import PackLimits, verify_shards
from packer.errors import PackerError
from packer.shards.layout import Layout
from packer.shards.verify import ALSO_ALLOWED
from pipelines import build, build_shards
from pipelines.cluster import groups, phases
from pipelines.journal import LOCK

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


class Apart:
    """Tasks run here one after another, but as on a cluster: through files of the work store alone."""

    here, cluster = True, True

    def map(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        return map(fn, items)

    def close(self) -> None:
        """Nothing is held."""


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

    build_shards.choose_layout = lambda sample, compression: Layout(2, 4)
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


def run(job: str, place: str, source: Path, out: Path, **more: Any) -> None:
    options: dict[str, Any] = {"limits": LIMITS, "algorithm": "first-fit", **JOBS[job], **more}
    given: Any = f"smiles:{source}"
    if options.pop("objects", False):
        given = objects()
    else:
        options |= {"targets": ["t"], "on_empty": "skip"}
    place_options: dict[str, Any] = {"workers": 1} if place == "one machine" else {"executor": Apart()}
    build(given, out, **place_options, **options)


def in_child(job: Callable[[], str], at: int = 0, then: Callable[[], bool] | None = None) -> tuple[bool, str, int]:
    """(whether it lived, what `job` said, flushes) of a forked process. then: called before flush `at`; it is killed
    there where that gives True."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        seen, flush = 0, os.fsync

        def count(handle: int) -> None:
            nonlocal seen
            seen += 1
            if seen == at and then is not None and then():
                os.kill(os.getpid(), signal.SIGKILL)
            flush(handle)

        os.fsync = count
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


def hashes(folder: Path) -> dict[str, str]:
    """Every file of a data set; what may lie beside it (build.json, the card, the work folder) is outside of it."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not {*path.parts} & {*ALSO_ALLOWED})
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def damage(folder: Path, case: Case) -> str:
    """Spoil one file of all that are there; its name, "" where there is none."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != LOCK]
    files = [path for path in files if path.stat().st_size]
    if not files:
        return ""
    path = files[int(case.pick[0] * len(files))]
    data = bytearray(path.read_bytes())
    at = int(case.pick[1] * len(data))
    if case.kind == "a bit":
        data[at] ^= 1 << int(case.pick[1] * 8 * len(data)) % 8
    elif case.kind == "16 bytes zeroed":
        data[at : at + 16] = bytes(len(data[at : at + 16]))
    elif case.kind == "all zeroed":
        data = bytearray(len(data))
    else:
        data = data[:at]
    with path.open("r+b") as file:  # in place, as a disk does it: who has mapped it sees it
        file.write(data)
        file.truncate(len(data))
    return str(path.relative_to(folder))


def run_case(case: Case, source: Path, out: Path, truth: dict[str, str]) -> Outcome:
    """Build, damage, build again, compare."""
    note = out.with_suffix(".damaged")

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


def judge(out: Path, truth: dict[str, str], said: str) -> Outcome:
    """What lies in `out` after a run that ended with `said`, "" where it ended well."""
    found = hashes(out)
    if not said and found == truth:
        return Outcome("", TRUE)
    manifests = [path.parent for path in out.rglob("manifest.json") if ".work" not in path.parts]
    for folder in manifests:
        inside = {name: sha for name, sha in found.items() if (out / name).is_relative_to(folder)}
        same = all(truth.get(name) == sha for name, sha in inside.items())
        if verify_shards(folder).ok and not same:
            return Outcome("", WRONG, said)
    return Outcome("", TOLD, said) if said else Outcome("", UNSOUND)


def cases(
    number: int, seed: int, jobs: list[str], source: Path, folder: Path
) -> tuple[list[Case], dict[tuple[str, str], Any]]:
    """Cases drawn at random over jobs, places and all flushes of each; and what undisturbed builds give."""
    truth: dict[tuple[str, str], Any] = {}
    flushes: dict[tuple[str, str], int] = {}
    for job in jobs:
        for place in PLACES:
            out = folder / f"{job} {place}"
            run(job, place, source, folder / f"{job} {place} first")  # what is imported now, no child has to import
            lived, said, count = in_child(partial(attempt, partial(run, job, place, source, out)))
            assert lived and not said, said
            truth[job, place], flushes[job, place] = hashes(out), count
    draw, found = random.Random(seed), list[Case]()
    for _ in range(number):
        job, place = draw.choice(jobs), draw.choice(PLACES)
        stopped = draw.random() < 0.75
        kind = draw.choice(DAMAGES if stopped else DAMAGES[:3])
        pick = (draw.random(), draw.random())
        found.append(Case(job, place, draw.randint(2, flushes[job, place]), stopped, kind, pick))
    return found, truth


def sweep(number: int, seed: int, jobs: list[str], folder: Path) -> list[tuple[Case, Outcome]]:
    """Run so many cases in a folder."""
    small_parts()
    source = folder / "molecules.csv"
    write_source(source)
    drawn, truth = cases(number, seed, jobs, source, folder)
    return [
        (case, run_case(case, source, folder / f"{at}", truth[case.job, case.place])) for at, case in enumerate(drawn)
    ]


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
    parser.add_argument("--jobs", default=",".join(JOBS))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = sweep(options.cases, options.seed, options.jobs.split(","), Path(folder))
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
