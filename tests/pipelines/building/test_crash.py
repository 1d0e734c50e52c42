"""Whatever stops a build, the folder holds the whole data set or none; the same call then goes on to the same bytes."""

import errno
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from deadly import Apart
from jobs import LIMITS, SMILES, complete_or_none, hashes, killed_at

from packer.errors import BuildError, FormatError
from packer.shards import Manifest
from packer.shards.layout import Layout
from pipelines import build
from pipelines.building.mapped import shards as mapped_shards
from pipelines.executors import ProcessExecutor
from pipelines.stores import journal
from pipelines.stores.journal import WORK, Journal
from pipelines.stores.store import FolderStore
from pipelines.stores.work_folder import CLAIM

NCI = ("build", "sample:nci", "--num-nodes", "256", "--num-edges", "552", "--num-graphs", "32", "--workers", "2")
SPLITS = ("--splits", "train=0.8,test=0.2", "--algorithm", "best-fit-decreasing")


@pytest.fixture(scope="module")
def small_blocks() -> Iterator[None]:
    """Several scan blocks and several shards of little data."""
    from pipelines.sources import smiles

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapped_shards, "choose_layout", lambda sample, compression: Layout(2, 4))
        patch.setattr(smiles, "_ROWS_PER_BLOCK", 20)
        yield


@pytest.fixture(scope="module")
def run(small_blocks: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """A build of 60 molecules into two splits: 3 scan blocks, 2 plans and 4 shards."""
    path = tmp_path_factory.mktemp("csv") / "molecules.csv"
    path.write_text("smiles,t\n" + "".join(f"{SMILES[i % 10]},{i}.5\n" for i in range(60)))

    def build_it(out: Path, **options: Any) -> Any:
        chosen = {"workers": 1, "splits": "train=0.75,test=0.25", "targets": ["t"], **options}
        return build(f"smiles:{path}", out, LIMITS, "first-fit", **chosen)

    return build_it


@pytest.fixture(scope="module")
def undisturbed(run: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("reference") / "out"
    run(folder)
    assert len([name for name in hashes(folder) if "shard-" in name]) == 4
    return hashes(folder)


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_flushes_to_disk(
    tmp_path: Path, run: Callable[..., Any], undisturbed: dict[str, str], stride: int
) -> None:
    event = 1 - stride
    while True:
        event += stride
        out = tmp_path / str(event)
        if not killed_at(event, lambda out=out: run(out)):
            break
        assert complete_or_none(out)
        if event % 3 == 0:  # a second kill, while it goes on
            killed_at(3, lambda out=out: run(out))
        run(out)
        assert hashes(out) == undisturbed, f"killed at flush {event}"
        assert not (out / WORK).exists()
    assert event > 25, event


@pytest.mark.parametrize("way", ["mapped", "spilled"])
def test_killed_while_it_tidies_up_a_build_is_finished(
    way: str, tmp_path: Path, run: Callable[..., Any], undisturbed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is committed: whatever of its work is left, the data sets stay as they are."""
    options: dict[str, Any] = {"executor": Apart()} if way == "spilled" else {}
    unlink, gone = Path.unlink, []

    def killed(path: Path, **how: Any) -> None:
        unlink(path, **how)
        if path.name in (journal.JOURNAL, CLAIM):
            gone.append(path.name)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, **options)
    assert gone == [journal.JOURNAL] and (tmp_path / WORK / CLAIM).exists()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    assert run(tmp_path, **options).already and hashes(tmp_path) == undisturbed
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")} == before
    with pytest.raises(BuildError, match="already holds a data set built otherwise"):
        run(tmp_path, oversize="skip", **options)


def test_an_unfinished_build_goes_on_by_the_other_carrier(
    tmp_path: Path, run: Callable[..., Any], undisturbed: dict[str, str]
) -> None:
    for number, (first, then) in enumerate((({}, {"executor": Apart()}), ({"executor": Apart()}, {}))):
        for event in (20, *range(42, 50), 70):
            out = tmp_path / f"{number} {event}"
            killed_at(event, lambda out=out, first=first: run(out, **first))
            run(out, **then)
            assert hashes(out) == undisturbed and not (out / WORK).exists()


def test_finished_parts_are_not_done_again(
    tmp_path: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, str]
) -> None:
    add = Journal.add

    def stop_after_the_third_file(self: Journal, kind: str, name: str, **facts: Any) -> None:
        add(self, kind, name, **facts)
        if kind == "file" and len(self.find("file")) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add", stop_after_the_third_file)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    assert len(before) == 5  # three files and the two plans
    monkeypatch.setattr("pipelines.building.scan.scan_and_save", None)  # the scan is not done again
    monkeypatch.setattr("pipelines.building.plan.make_plan", None)  # nor the plan
    run(tmp_path)
    assert hashes(tmp_path) == undisturbed
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())


def test_a_torn_last_line_of_the_journal_does_not_count(tmp_path: Path) -> None:
    first = Journal(FolderStore(tmp_path, tmp_path))
    first.add("block", "0", records=5)
    path = tmp_path / journal.JOURNAL
    path.write_bytes(path.read_bytes() + b'{"kind": "block", "na')
    second = Journal(FolderStore(tmp_path, tmp_path))
    assert second.find("block") == {"0": {"kind": "block", "name": "0", "records": 5}}
    second.add("block", "1", records=6)
    assert list(Journal(FolderStore(tmp_path, tmp_path)).find("block")) == ["0", "1"]
    path.write_bytes(b"nonsense\n" + path.read_bytes())
    with pytest.raises(BuildError, match=r"is damaged: .* overwrite=True .--overwrite."):
        Journal(FolderStore(tmp_path, tmp_path))


def test_an_unfinished_build_of_another_job_is_refused(tmp_path: Path, run: Callable[..., Any]) -> None:
    assert killed_at(40, lambda: run(tmp_path))
    assert (tmp_path / WORK / CLAIM).exists()
    with pytest.raises(BuildError, match=r'unfinished build of another job: oversize is "error" there, "skip" here'):
        run(tmp_path, oversize="skip")
    run(tmp_path, oversize="skip", overwrite=True)
    assert complete_or_none(tmp_path)


def test_a_kill_while_an_earlier_build_is_removed_is_mended(
    tmp_path: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, str]
) -> None:
    run(tmp_path, oversize="skip", splits=None)
    unlink = Path.unlink

    def stop_at_a_shard(self: Path, missing_ok: bool = False) -> None:
        if self.name == "shard-00001.parquet":
            raise KeyboardInterrupt
        unlink(self, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", stop_at_a_shard)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, overwrite=True)
    assert not (tmp_path / "manifest.json").exists() and (tmp_path / "shard-00001.parquet").exists()
    run(tmp_path)
    assert hashes(tmp_path) == undisturbed


def test_a_damaged_data_set_is_neither_taken_nor_removed(tmp_path: Path, run: Callable[..., Any]) -> None:
    run(tmp_path)
    path = tmp_path / "test" / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"seed":0', b'"seed":1'))
    before = hashes(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(BuildError, match=r"damaged data set: .*\. Remove it, or choose another folder"):
            run(tmp_path, overwrite=overwrite)
    assert hashes(tmp_path) == before


def test_a_killed_worker_stops_the_build_and_the_same_call_goes_on(
    tmp_path: Path, run: Callable[..., Any], undisturbed: dict[str, str]
) -> None:
    class Murdered(ProcessExecutor):
        def map(self, fn: Any, items: Iterable[Any]) -> Iterator[Any]:
            for number, result in enumerate(super().map(fn, items)):
                if fn is mapped_shards.run_task and number == 2:
                    for worker in self._workers:
                        worker.process.kill()
                yield result

    executor = Murdered(2)
    with pytest.raises(BuildError, match=r"worker \d \(process \d+\) was killed by SIGKILL .*same command"):
        run(tmp_path, executor=executor)
    executor.close()
    with pytest.raises(FormatError):
        Manifest.load(tmp_path / "train")
    run(tmp_path)
    assert hashes(tmp_path) == undisturbed


@pytest.fixture
def small_disk() -> Iterator[Callable[..., Path]]:
    """A file system of so many bytes, at the same place each time."""
    disk = Path(tempfile.mkdtemp(prefix="graph-packer-disk-"))

    def mount(size: int, options: str = "") -> Path:
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"{options}size={size}", "tmpfs", str(disk)], capture_output=True
        )
        if made.returncode:
            pytest.skip(f"mounting a tmpfs is not permitted here: {made.stderr.decode().strip()}")
        return disk

    yield mount
    while os.path.ismount(disk):
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
    disk.rmdir()


# A file whose last bytes find no room complains again when it is collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_leaves_no_data_set_and_room_lets_it_go_on(
    small_disk: Callable[..., Path], run: Callable[..., Any], undisturbed: dict[str, str]
) -> None:
    failures: list[int] = []
    for pages in range(3, 90, 7):
        out = small_disk(4096 * pages) / "out"
        try:
            run(out)
        except BuildError as error:
            assert "no space left" in str(error) and "the same command" in str(error)
            failures.append(pages)
            assert complete_or_none(out)
            run(small_disk(64 << 20, "remount,") / "out")
        assert hashes(out) == undisturbed
        subprocess.run(["umount", "--lazy", str(out.parent)], check=True)
    assert len(failures) >= 5 and failures[-1] < 87, "both too small and large enough disks were tried"


def test_no_space_is_told_from_other_faults_of_the_disk(
    tmp_path: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pipelines.stores.store.FolderStore.put", refuse)
    with pytest.raises(BuildError, match=r"no space left .* run the same command again"):
        run(tmp_path)
    assert not list(tmp_path.rglob("manifest.json"))


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["parent", "worker"])
def test_killed_at_random_moments(tmp_path: Path, victim: str) -> None:
    command = [sys.executable, "-c", "from pipelines.entry import main; raise SystemExit(main())", *NCI, *SPLITS]
    start = time.monotonic()
    subprocess.run([*command, "--out", str(tmp_path / "reference")], check=True, capture_output=True)
    seconds = time.monotonic() - start
    reference = hashes(tmp_path / "reference")
    moments = random.Random(7)
    for number in range(13):
        out = tmp_path / f"{victim}{number}"
        process = subprocess.Popen([*command, "--out", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(moments.uniform(0.2, seconds))
        if victim == "parent":
            process.kill()
        else:
            for worker in _children(process.pid)[:1]:
                os.kill(worker, signal.SIGKILL)
        process.wait(timeout=60)
        assert complete_or_none(out)
        subprocess.run([*command, "--out", str(out)], check=True, capture_output=True)
        assert hashes(out) == reference


def _children(process: int) -> list[int]:
    path = Path(f"/proc/{process}/task/{process}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []
