"""Damage to the files that a build leaves for itself: never a sound data set of other graphs."""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deadly import Apart
from hypothesis import given
from hypothesis import strategies as st
from jobs import LIMITS, SMILES, hashes, in_small_parts, killed_at
from paths import ROOT

from packer.errors import BuildError, FormatError
from packer.files.checked import CheckedFolder, check_stretch, from_line, stretches, to_line
from pipelines import build
from pipelines.building import job as driver
from pipelines.building.mapped.carrier import MappedCarrier
from pipelines.building.spilled import gather, phases, route
from pipelines.stores.journal import JOURNAL, WORK, Journal
from pipelines.stores.sealed import DamagedError, seal, unseal
from pipelines.stores.store import FolderStore


def sweep(cases: int, *more: str) -> str:
    # Without waiting for the disk, as all tests here.
    code = "import os, runpy, sys; os.fsync = os.fstat; sys.path.insert(0, 'benchmarks'); "
    code += "runpy.run_path('benchmarks/rot.py', run_name='__main__')"
    command = [sys.executable, "-c", code, "--cases", str(cases), "--seed", "11", *more]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_no_damage_comes_out_sound() -> None:
    assert "| all | " in sweep(16, "--jobs", "splits,cut down")


@pytest.mark.slow
def test_no_damage_of_very_many_comes_out_sound() -> None:
    print(sweep(500))


@pytest.fixture(scope="module", autouse=True)
def small_parts() -> Iterator[None]:
    with in_small_parts():
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    path = tmp_path_factory.mktemp("csv") / "molecules.csv"
    path.write_text("smiles,t\n" + "".join(f"{SMILES[i % 10]},{i}.5\n" for i in range(60)))

    def build_it(out: Path, **options: Any) -> Any:
        chosen = {"workers": 1, "targets": ["t"], **options}
        return build(f"smiles:{path}", out, LIMITS, "first-fit", **chosen)

    return build_it


@pytest.fixture(scope="module")
def undisturbed(run: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("reference") / "out"
    run(folder)
    return hashes(folder)


def flip(path: Path, at: int, bit: int = 0) -> None:
    """In place, as a disk does it."""
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << bit]))


def interrupted(run: Callable[..., Any], out: Path, module: Any, name: str, **options: Any) -> None:
    """A build that is interrupted where it would call this function."""

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, stop)
        with pytest.raises(KeyboardInterrupt):
            run(out, **options)


def files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_table_that_rots_between_join_and_write_is_made_again(
    tmp_path: Path, run: Callable[..., Any], undisturbed: dict[str, str]
) -> None:
    interrupted(run, tmp_path / "first", MappedCarrier, "write")
    names = files_of(tmp_path / "first" / WORK / "table")
    assert {"strings.arrow", "table.json", "sums.json", "000.bin"} < {*names}
    for number, name in enumerate(names):
        out = tmp_path / str(number)
        interrupted(run, out, MappedCarrier, "write")
        path = out / WORK / "table" / name
        path.write_bytes(bytes(path.stat().st_size)) if number % 2 else flip(path, path.stat().st_size // 2)
        run(out)
        assert hashes(out) == undisturbed, name


@pytest.mark.parametrize("folder", ["table", "plan-"])
def test_what_rots_while_files_are_written_from_it_is_told_and_the_same_command_mends_it(
    folder: str, tmp_path: Path, run: Callable[..., Any], undisturbed: dict[str, str]
) -> None:
    def rot(stage: str, done: int, total: int | None) -> None:
        for path in sorted((tmp_path / WORK / folder).glob("*.*")) if stage == "write" and not done else ():
            flip(path, path.stat().st_size - 1)

    with pytest.raises(DamagedError, match=rf"{WORK}/{folder}/.* does not count\. Run the same command again: what is"):
        run(tmp_path, progress=rot)
    assert not (tmp_path / "manifest.json").exists()
    run(tmp_path)
    assert hashes(tmp_path) == undisturbed


def test_a_shard_that_rots_before_the_build_goes_on_is_written_again(
    tmp_path: Path, run: Callable[..., Any], undisturbed: dict[str, str]
) -> None:
    interrupted(run, tmp_path, driver, "commit")
    for name in ("shard-00000.parquet", "graphs.parquet"):
        flip(tmp_path / name, 100)
    run(tmp_path)
    assert hashes(tmp_path) == undisturbed


def test_every_bit_of_a_routed_segment_counts(
    tmp_path: Path, run: Callable[..., Any], undisturbed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a shard's writer reads: a flip anywhere is an error there, and the same command mends it."""
    out = tmp_path / "out"
    interrupted(run, out, phases, "write", executor=Apart())
    files = sorted((out / WORK / "routed").rglob("0*"))
    assert len(files) >= 2
    whole = {path: path.read_bytes() for path in files}
    draw = random.Random(3)
    found = route.read_segment
    for number in range(40):
        path = files[number % len(files)]
        shutil.rmtree(out / WORK / "entries", ignore_errors=True)  # every shard is still to be written
        flip(path, draw.randrange(len(whole[path])), draw.randrange(8))
        monkeypatch.setattr(route, "_is_there", lambda task, way: True)  # as if it rotted after it was looked at
        with pytest.raises(DamagedError, match=r"routed/\./00000\d of .* is damaged: .*Run the same command again"):
            run(out, executor=Apart())
        monkeypatch.undo()
        if number % 10:
            path.write_bytes(whole[path])
        else:
            interrupted(run, out, phases, "write", executor=Apart())
            assert path.read_bytes() == whole[path], "made anew"
    assert found is gather.read_segment
    run(out, executor=Apart())
    assert hashes(out) == undisturbed


@pytest.mark.parametrize("kind", ["blocks", "facts", "graphs", "entries"])
def test_sealed_files_of_a_cluster_are_made_again(
    kind: str, tmp_path: Path, run: Callable[..., Any], undisturbed: dict[str, str]
) -> None:
    interrupted(run, tmp_path, driver, "manifest_of", executor=Apart())
    files = sorted(path for path in (tmp_path / WORK / kind).rglob("*") if path.is_file())
    assert files
    swapped = files[0].read_bytes()
    for path in files:  # each whole, but another's
        swapped, _ = path.read_bytes(), path.write_bytes(swapped)
    flip(files[0], 40)
    run(tmp_path, executor=Apart())
    assert hashes(tmp_path) == undisturbed


def test_a_damaged_claim_or_plan_of_a_cluster_is_an_error(tmp_path: Path, run: Callable[..., Any]) -> None:
    interrupted(run, tmp_path, phases, "write", executor=Apart())
    for name, text in ((f"{WORK}/job.json", "job.json of .* is damaged: the CRC-32"), ("plan.parquet", "not the plan")):
        whole = (tmp_path / name).read_bytes()
        flip(tmp_path / name, len(whole) // 2)
        with pytest.raises(BuildError, match=rf"{text}.*--overwrite"):
            run(tmp_path, executor=Apart())
        (tmp_path / name).write_bytes(whole)
    run(tmp_path, executor=Apart())


def test_every_bit_of_a_journal_counts(tmp_path: Path) -> None:
    journal = Journal(FolderStore(tmp_path, tmp_path))
    journal.add("target", "train", shards=3)
    journal.add("block", "0", records=5)
    path = tmp_path / JOURNAL
    whole = path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for at in range(8 * len(whole)):
        flip(path, at // 8, at % 8)
        if at // 8 == len(whole) - 1:  # the last line is torn now, and does not count
            assert not Journal(FolderStore(tmp_path, tmp_path)).find("block")
        else:
            with pytest.raises(
                BuildError, match=r"journal\.jsonl is damaged: the CRC-32 of .*Pass overwrite=True \(--overwrite\)"
            ):
                Journal(FolderStore(tmp_path, tmp_path))
        left = Journal(FolderStore(tmp_path, tmp_path), salvage=True)
        if at // 8 >= last:
            assert left.find("target")["train"]["shards"] == 3, "whose files these are"
        assert not left.find("block") or path.read_bytes()[last:] == whole[last:]
        flip(path, at // 8, at % 8)


def test_a_damaged_journal_ends_at_overwrite(
    tmp_path: Path, run: Callable[..., Any], undisturbed: dict[str, str]
) -> None:
    assert killed_at(12, lambda: run(tmp_path))
    flip(tmp_path / WORK / JOURNAL, 30)
    with pytest.raises(BuildError, match=r"is damaged: .*--overwrite"):
        run(tmp_path)
    run(tmp_path, overwrite=True)
    assert hashes(tmp_path) == undisturbed


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(plain, st.data())
def test_lines_come_back_or_are_refused(value: Any, data: st.DataObject) -> None:
    line = to_line(value)
    assert line.count(b"\n") == 1 and from_line(line) == value
    at = data.draw(st.integers(0, 8 * len(line) - 9))
    spoilt = bytearray(line)
    spoilt[at // 8] ^= 1 << at % 8
    with pytest.raises(FormatError, match="the CRC-32 of"):
        from_line(bytes(spoilt))


@given(st.binary(max_size=300), st.data())
def test_a_seal_is_of_these_bytes_and_this_owner(content: bytes, data: st.DataObject) -> None:
    sealed = seal(content, "a job blocks/1")
    assert unseal(sealed, "a job blocks/1", "it") == content
    at = data.draw(st.integers(0, 8 * len(sealed) - 1))
    spoilt = bytearray(sealed)
    spoilt[at // 8] ^= 1 << at % 8
    for what, whose in (
        (bytes(spoilt), "a job blocks/1"),
        (sealed[: at // 8], "a job blocks/1"),
        (sealed + b"x", "a job blocks/1"),
        (bytes(len(sealed)), "a job blocks/1"),
        (sealed, "a job blocks/2"),
        (sealed, "another job blocks/1"),
    ):
        with pytest.raises(DamagedError, match=r"^it is damaged: .*Run the same command again"):
            unseal(what, whose, "it")


@given(st.lists(st.binary(max_size=40), max_size=8), st.data())
def test_every_byte_of_a_checked_folder_counts(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], data: st.DataObject
) -> None:
    """Pieces of 16 bytes, 3 of them at a time."""
    folder = tmp_path_factory.mktemp("checked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("packer.files.checked._PIECE", 16)
        patch.setattr("packer.files.checked._AT_ONCE", 3)
        into = CheckedFolder(folder)
        file = into.create("a.bin")
        for part in parts:
            file.write(part)
        into.put("empty", b"")
        np.save(into.create("b.npy"), np.arange(5))  # pyright: ignore[reportArgumentType]
        sums = into.finish()

        def wrong() -> list[str]:
            return [what for what in map(check_stretch, stretches(folder, sums)) if what]

        assert (folder / "a.bin").read_bytes() == b"".join(parts) and np.load(folder / "b.npy").tolist() == [*range(5)]
        assert not wrong()
        path = folder / data.draw(st.sampled_from(["a.bin", "b.npy", "sums.json", "empty"]))
        whole = path.read_bytes()
        damage = data.draw(st.sampled_from(["flip", "cut", "more", "gone"]))
        if damage == "gone":
            path.unlink()
        elif damage == "more" or not whole:
            path.write_bytes(whole + b"x")
        else:
            at = data.draw(st.integers(0, len(whole) - 1))
            path.write_bytes(whole[:at]) if damage == "cut" else flip(path, at, data.draw(st.integers(0, 7)))
        if path.name == "sums.json":
            with pytest.raises(FormatError, match=r"sums\.json (has the CRC-32|cannot be read)"):
                wrong()
        else:
            assert len(wrong()) >= 1 and str(path) in wrong()[0]


def test_stores_travel_as_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    monkeypatch.chdir(tmp_path)
    sent = pickle.dumps(FolderStore(Path("packs"), Path("packs/.work/scratch")))
    monkeypatch.chdir(os.sep)
    assert pickle.loads(sent) == FolderStore(tmp_path / "packs", tmp_path / "packs/.work/scratch")
