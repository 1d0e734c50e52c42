"""What lies where a build works and is not the build's: untouched, byte by byte, whatever the place is."""

from __future__ import annotations

import ast
import hashlib
import os
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from deadly import Apart, Stopped
from forks import forked_dask
from jobs import LIMITS, SMILES, belongings, files, hashes, in_small_parts, killed_at
from object_store import make_bucket, objects, s3_options
from paths import ROOT

from packer.errors import BuildError, MissingFileError, PackerError, StoreError
from pipelines import build
from pipelines.building.spilled import gather
from pipelines.cli.app import run as run_command
from pipelines.executors import SerialExecutor
from pipelines.stores import owner
from pipelines.stores import work_folder as work_place
from pipelines.stores.journal import locked
from pipelines.stores.store import FolderStore, store_of
from pipelines.stores.work_folder import MARKER, WORK, check_apart, is_own

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # of sockets of ended processes


@pytest.fixture(scope="module", autouse=True)
def small_parts() -> Iterator[None]:
    with in_small_parts():
        yield


@pytest.fixture(scope="module")
def molecules(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("csv") / "molecules.csv"
    path.write_text("smiles,t\n" + "".join(f"{SMILES[i % 10]},{i}.5\n" for i in range(70)))
    return f"smiles:{path}"


@pytest.fixture(scope="module")
def job(molecules: str) -> Callable[..., Any]:
    return lambda out, **options: build(
        molecules, out, LIMITS, **{"splits": "train=0.75,test=0.25", "targets": ["t"], **options}
    )


@pytest.fixture(scope="module")
def undisturbed(job: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("reference") / "out"
    job(folder, workers=1)
    return hashes(folder)


def test_the_place_of_the_work_may_hold_anything(
    tmp_path: Path, job: Callable[..., Any], undisturbed: dict[str, str]
) -> None:
    before = belongings(tmp_path / "place")
    job(tmp_path / "out", executor=Apart(), work=tmp_path / "place")
    assert hashes(tmp_path / "out") == undisturbed
    assert files(tmp_path / "place") == before
    with pytest.raises(PackerError):
        job(tmp_path / "other", executor=Apart(), work=tmp_path / "place", splits="a=0.999,b=0.001")
    assert files(tmp_path / "place") == before and not (tmp_path / "other").exists()


def test_a_command_with_dask_leaves_a_users_folder_alone(tmp_path: Path, molecules: str) -> None:
    pytest.importorskip("distributed")
    before = belongings(tmp_path / "place")
    command = ["build", molecules, "--num-nodes", "40", "--num-edges", "90", "--num-graphs", "6"]
    command += ["--executor", "dask", "--workers", "1", "--work", str(tmp_path / "place")]
    with forked_dask():
        assert run_command([*command, "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "manifest.json").is_file() and not (tmp_path / "out" / WORK).exists()
    assert files(tmp_path / "place") == before


def test_a_place_is_used_without_a_cluster_too(
    tmp_path: Path, job: Callable[..., Any], undisturbed: dict[str, str]
) -> None:
    """Nothing that is asked for is ignored: the work lies where it is said, or the job is refused."""
    with pytest.MonkeyPatch.context() as patch:
        seen: list[Path] = []
        put = FolderStore.put
        patch.setattr(FolderStore, "put", lambda self, name, data: (seen.append(self.folder), put(self, name, data)))
        job(tmp_path / "out", workers=1, work=tmp_path / "place")
    assert hashes(tmp_path / "out") == undisturbed and not (tmp_path / "place").exists()
    assert any(tmp_path / "place" in folder.parents for folder in seen)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BuildError, match="is a file"):
        job(tmp_path / "other", workers=1, work=tmp_path / "file")
    with pytest.raises(MissingFileError, match=r"do all workers reach that place \(work=, --work\)"):
        job(tmp_path / "other", workers=2, work="memory://elsewhere")


@pytest.mark.parametrize("event", [7, 20, 34])
def test_a_build_that_goes_on_with_a_place_for_its_work_leaves_nothing_beside_the_output(
    event: int, tmp_path: Path, job: Callable[..., Any], undisturbed: dict[str, str]
) -> None:
    assert killed_at(event, lambda: job(tmp_path / "out", executor=SerialExecutor()))
    assert (tmp_path / "out" / WORK / "blocks").is_dir()
    job(tmp_path / "out", executor=SerialExecutor(), work=tmp_path / "place")
    assert hashes(tmp_path / "out") == undisturbed and not (tmp_path / "out" / WORK).exists()
    assert not files(tmp_path / "place")


def test_two_jobs_in_one_place_do_not_see_each_other(
    tmp_path: Path, job: Callable[..., Any], undisturbed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "place"
    with pytest.raises(KeyboardInterrupt):
        job(tmp_path / "first", executor=Stopped(), work=place)
    with pytest.raises(KeyboardInterrupt):
        job(tmp_path / "second", executor=Stopped(), work=place, seed=9)
    folders = sorted(place.iterdir())
    assert len(folders) == 2 and all((folder / MARKER).is_file() for folder in folders)
    monkeypatch.chdir(place)  # from another working folder
    job(os.path.relpath(tmp_path / "first"), executor=Apart(), work=os.path.relpath(place))
    assert hashes(tmp_path / "first") == undisturbed and len(list(place.iterdir())) == 1
    job(tmp_path / "second", executor=Apart(), work=place, seed=9)
    job(tmp_path / "alone", workers=1, seed=9)
    assert hashes(tmp_path / "second") == hashes(tmp_path / "alone") and not any(place.iterdir())


def test_a_work_folder_is_used_by_one_at_a_time_and_by_its_own_job_alone(
    tmp_path: Path, job: Callable[..., Any], undisturbed: dict[str, str]
) -> None:
    place = tmp_path / "place"
    with pytest.raises(KeyboardInterrupt):
        job(tmp_path / "out", executor=Stopped(), work=place)
    own = next(place.iterdir())
    (own / "stranger.txt").write_text("mine")
    with pytest.raises(BuildError, match=r"holds stranger.txt, which no build wrote\. Nothing is removed"):
        job(tmp_path / "out", executor=Apart(), work=place)
    (own / "stranger.txt").unlink()
    kept = (own / MARKER).read_bytes()
    for other, why in ((None, "and no graph-pack.json says"), (b"mine", "is not as a build writes it")):
        (own / MARKER).unlink() if other is None else (own / MARKER).write_bytes(other)
        before = files(own)
        with pytest.raises(BuildError, match=why):
            job(tmp_path / "out", executor=Apart(), work=place)
        assert files(own) == before
    (own / MARKER).write_bytes(work_place.marker("0" * 32, "/elsewhere"))
    with pytest.raises(BuildError, match=r"is the work folder of a build to /elsewhere: choose another place"):
        job(tmp_path / "out", executor=Apart(), work=place)
    (own / MARKER).write_bytes(kept)
    job(tmp_path / "out", executor=Apart(), work=place)
    assert hashes(tmp_path / "out") == undisturbed


@pytest.mark.parametrize(
    ("out", "work"),
    [
        ("a/out", "a/out"),
        ("a/out", "a"),
        ("a/out", "a/out/.work"),
        ("a/out/", "a/out/deep/er/"),
        ("a/out", "a/b/../out"),
        ("a/out", "file://{here}/a"),
        ("a/out", "link"),
        ("link/out", "a"),
        ("s3://bucket/packs", "s3://bucket"),
        ("s3://bucket/packs", "s3a://bucket/packs/"),
        ("s3://bucket/packs", "s3://bucket//packs/x/../y"),
        ("s3://user:pass@bucket/packs", "s3://bucket/packs/in"),
    ],
)
def test_a_place_around_the_output_or_in_it_is_refused(
    out: str, work: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "a" / "mine").write_text("mine")
    work = work.format(here=tmp_path)
    with pytest.raises(BuildError, match="lie in one another"):
        build("smiles:/nothing/there.csv", out, LIMITS, work=work, workers=1)
    assert run_command(["build", "sample:nci", "--limits", "auto", "--out", out, "--work", work]) == 2
    assert "lie in one another" in capfd.readouterr().err
    assert files(tmp_path) == {"a/mine": b"mine"} and [path.name for path in Path("a").iterdir()] == ["mine"]


def test_places_beside_each_other_are_fine(tmp_path: Path) -> None:
    for out, work in (("a/out", "a/out2"), ("s3://b/packs", "s3://b/packs2"), ("s3://b/x", "gs://b/x"), ("a", None)):
        check_apart(out, work)


@pytest.mark.parametrize(
    "what", ["a link", "a file", "own files", "a lock", "a pipe", "names of ours", "a link below", "a linked file"]
)
@pytest.mark.parametrize("executor", ["here", "apart"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_lies_where_the_work_is_kept_stops_the_build_before_anything_is_read(
    what: str, executor: str, overwrite: bool, tmp_path: Path
) -> None:
    elsewhere, out = tmp_path / "elsewhere", tmp_path / "out"
    belongings(elsewhere)
    out.mkdir()
    if what == "a link":
        (out / WORK).symlink_to(elsewhere)
    elif what == "a file":
        (out / WORK).write_text("mine")
    else:
        (out / WORK).mkdir()
    if what == "own files":
        (out / WORK / "thesis.tex").write_text("mine")
    elif what == "a lock":  # ours are empty
        (out / WORK / "lock").write_text("mine")
    elif what == "a pipe":
        os.mkfifo(out / WORK / "journal.jsonl")
    elif what == "names of ours":
        (out / WORK / "blocks").mkdir()
        (out / WORK / "blocks" / "000000").write_text("mine")
    elif what == "a link below":
        (out / WORK / "blocks").symlink_to(elsewhere / "blocks")
    elif what == "a linked file":
        (out / WORK / "journal.jsonl").symlink_to(elsewhere / "journal.jsonl")
    before = files(tmp_path)
    named = {
        "own files": "thesis.tex",
        "a lock": "holds lock, ",
        "a pipe": r"journal.jsonl \(no plain file\)",
        "names of ours": "blocks/000000",
        "a link below": r"blocks \(a symbolic",
    }
    with pytest.raises(BuildError, match=named.get(what, "link|is a file")):
        where: Any = {"workers": 1} if executor == "here" else {"executor": Apart()}
        build("smiles:/nothing/there.csv", out, LIMITS, overwrite=overwrite, **where)  # would be SourceError if read
    assert files(tmp_path) == before and (out / WORK).is_symlink() == (what == "a link")


@pytest.mark.parametrize("executor", ["here", "apart"])
def test_a_split_is_not_written_through_a_link_nor_over_files(
    executor: str, tmp_path: Path, job: Callable[..., Any]
) -> None:
    where: Any = {"workers": 1} if executor == "here" else {"executor": Apart()}
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    job(out, splits=None, **where)
    elsewhere.mkdir()
    (elsewhere / "plan.parquet").write_text("mine")
    (out / "train").symlink_to(elsewhere)
    with pytest.raises(BuildError, match="train is a symbolic link"):
        job(out, overwrite=True, **where)
    (out / "train").unlink()
    (out / "train").mkdir()
    (out / "train" / "shard-00000.parquet").write_text("mine")
    with pytest.raises(BuildError, match=r"holds train/shard-00000.parquet, which no build wrote"):
        job(out, overwrite=True, **where)
    assert files(elsewhere) == {"plan.parquet": b"mine"} and (out / "train/shard-00000.parquet").read_text() == "mine"
    (out / "train/shard-00000.parquet").unlink()
    job(out, overwrite=True, **where)
    (out / "train").rename(elsewhere / "train")
    (out / "train").symlink_to(elsewhere / "train")
    before = files(elsewhere)
    with pytest.raises(BuildError, match="train is a symbolic link"):
        job(out, overwrite=True, **where)
    assert files(elsewhere) == before


def test_a_file_url_is_the_folder_that_it_names(
    tmp_path: Path, job: Callable[..., Any], undisturbed: dict[str, str]
) -> None:
    """The same lock, the same refusals: no second way to one place."""
    url = f"file://{tmp_path}/out"
    with locked(tmp_path / "out"), pytest.raises(BuildError, match="another build is writing to"):
        job(url, workers=1)
    job(url, workers=1)
    assert hashes(tmp_path / "out") == undisturbed
    assert job(tmp_path / "out", workers=1).already
    assert run_command(["verify", url]) == 0
    before = belongings(tmp_path / "theirs")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / WORK).symlink_to(tmp_path / "theirs")
    with pytest.raises(BuildError, match="is a symbolic link"):
        job(f"file://{tmp_path}/other", workers=1)
    assert files(tmp_path / "theirs") == before


def test_an_output_may_be_a_link(tmp_path: Path, job: Callable[..., Any], undisturbed: dict[str, str]) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    job(tmp_path / "out", workers=1)
    job(tmp_path / "out", workers=1, overwrite=True)
    assert hashes(tmp_path / "real") == undisturbed and (tmp_path / "out").is_symlink()


@pytest.fixture
def bucket(s3_endpoint: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    name = f"work-{zlib.crc32(request.node.name.encode())}"
    make_bucket(s3_endpoint, name)
    return f"s3://{name}"


def test_a_bucket_for_the_work_keeps_what_it_holds(
    s3_endpoint: str, bucket: str, job: Callable[..., Any], undisturbed: dict[str, str], tmp_path: Path
) -> None:
    options = s3_options(s3_endpoint)
    store = store_of(bucket, tmp_path, options)
    for name in ("thesis.tex", "blocks/00000000", "routed/train/000000", "graph-pack.json", "scan.json"):
        store.put(name, f"mine: {name}".encode())
    before = objects(s3_endpoint, bucket)
    with pytest.raises(KeyboardInterrupt):
        job(tmp_path / "out", executor=Stopped(), work=bucket, storage_options=options)
    with pytest.raises(KeyboardInterrupt):
        job(tmp_path / "other", executor=Stopped(), work=bucket, storage_options=options, seed=9)
    assert before.items() <= objects(s3_endpoint, bucket).items()
    job(tmp_path / "out", executor=Apart(), work=bucket, storage_options=options)
    job(tmp_path / "other", executor=Apart(), work=bucket, storage_options=options, seed=9)
    assert hashes(tmp_path / "out") == undisturbed
    assert objects(s3_endpoint, bucket) == before


def test_names_with_an_asterisk_are_no_patterns(
    s3_endpoint: str, bucket: str, job: Callable[..., Any], tmp_path: Path
) -> None:
    options = s3_options(s3_endpoint)
    store_of(bucket, tmp_path, options).put("packed/.work/scan.json", b"mine")
    job(f"{bucket}/pa*", executor=Apart(), storage_options=options)
    left = objects(s3_endpoint, bucket)
    assert "packed/.work/scan.json" in left
    assert [name for name in left if WORK in name] == ["packed/.work/scan.json"]


def test_what_lies_in_the_work_of_a_url_stops_the_build(
    s3_endpoint: str, bucket: str, job: Callable[..., Any], tmp_path: Path
) -> None:
    options = s3_options(s3_endpoint)
    store = store_of(bucket, tmp_path, options)
    store.put("packs/.work/blocks/00000000", b"mine")
    with pytest.raises(BuildError, match=r"holds blocks/00000000, and no graph-pack.json says"):
        job(f"{bucket}/packs", workers=1, storage_options=options)
    store.put("packs/.work/notes", b"mine")
    with pytest.raises(BuildError, match=r"holds notes, which no build wrote"):
        job(f"{bucket}/packs", workers=1, storage_options=options, overwrite=True)
    assert list(objects(s3_endpoint, bucket)) == ["packs/.work/blocks/00000000", "packs/.work/notes"]


def test_one_owner_at_a_time_and_none_for_ever(
    s3_endpoint: str, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "BEAT", 0.2)
    monkeypatch.setattr(owner, "SILENCE", 1.5)
    store = store_of(f"{bucket}/packs/.work", tmp_path, s3_options(s3_endpoint))
    with owner.owned(store, "there") as first:
        with pytest.raises(BuildError, match=rf"another build is writing to there: process {os.getpid()} of"):
            owner.owned(store, "there").__enter__()
        with monkeypatch.context() as patch:  # from another machine: it beats
            patch.setattr(owner, "_machine", lambda: "another")
            with pytest.raises(BuildError, match="another build is writing to there"):
                owner.owned(store, "there").__enter__()
    assert store.size(work_place.OWNER) is None
    silent = {"run": "x", "host": "far", "machine": "away", "pid": 1, "beat": 4}
    store.put(work_place.OWNER, owner.to_line(silent))
    with owner.owned(store, "there") as second:
        assert second == first
    ended = subprocess.Popen(["true"])
    ended.wait()
    store.put(work_place.OWNER, owner.to_line({**owner._process(), "pid": ended.pid, "run": "y", "beat": 4}))
    monkeypatch.setattr(owner, "SILENCE", 600)
    begin = time.monotonic()
    with owner.owned(store, "there"):
        assert time.monotonic() - begin < owner.SILENCE, "that it is gone is seen, not waited for"


def test_only_own_unfinished_uploads_are_given_up(s3_endpoint: str, bucket: str, tmp_path: Path) -> None:
    import s3fs

    fs, name = s3fs.S3FileSystem(**s3_options(s3_endpoint)), bucket.removeprefix("s3://")
    for key in ("packs/train/graphs.parquet", "packs/mine.bin", "packs2/train/graphs.parquet"):
        fs.call_s3("create_multipart_upload", Bucket=name, Key=key)
    store_of(f"{bucket}/packs", tmp_path, s3_options(s3_endpoint)).abandon_uploads({"train/graphs.parquet"})
    left = fs.call_s3("list_multipart_uploads", Bucket=name)["Uploads"]
    assert sorted(upload["Key"] for upload in left) == ["packs/mine.bin", "packs2/train/graphs.parquet"]


@pytest.mark.parametrize(
    ("url", "changed", "said"),
    [
        ("s3://no-such-bucket-here/packs", {}, r"there is no bucket 'no-such-bucket-here'\. Make it"),
        ("s3://Not A Bucket!/packs", {}, r"is not possible: ParamValidationError.*Check the URL"),
        ("s3://user:SECRET@bucket/packs", {}, r"."),
        ("s3://user:SE/CR@ET-SECRET@bucket/packs", {}, r"."),
        ("s3://bucket/packs", {"profile": "nobody", "key": None, "secret": None}, r"ProfileNotFound.*profile"),
    ],
)
def test_a_destination_that_cannot_be_is_told_before_the_scan_and_at_once(
    url: str,
    changed: dict[str, Any],
    said: str,
    s3_endpoint: str,
    job: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("packer.files.retry.time.sleep", None)  # nothing is asked again
    monkeypatch.setattr("pipelines.sources.smiles.SmilesTask.scan", None)  # nor read
    options = {**s3_options(s3_endpoint), **changed}
    with pytest.raises((StoreError, PackerError), match=said) as caught:
        job(url, executor=Apart(), storage_options=options)
    assert "SECRET" not in str(caught.value) and "SE/CR" not in str(caught.value)
    with pytest.raises((StoreError, PackerError), match=said) as caught:
        job(tmp_path / "out", executor=Apart(), work=url, storage_options=options)
    assert "SECRET" not in str(caught.value) and "SE/CR" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("cut", ["all", "half a line", "at a line", "the last target", "none, but the list beside it"])
@pytest.mark.parametrize("where", ["folder", "store"])
def test_a_damaged_journal_leaves_no_place_that_cannot_be_written_again(
    where: str, cut: str, tmp_path: Path, job: Callable[..., Any], undisturbed: dict[str, str]
) -> None:
    """Files that are half written are known for the build's own: it goes on, or `overwrite` begins afresh."""
    out = tmp_path / "out" if where == "folder" else f"memory://damaged-{cut.replace(' ', '-')}/out"
    store = store_of(str(out), tmp_path / "scratch", None)
    with pytest.raises(KeyboardInterrupt):
        job(out, executor=Stopped())
    assert any(name.endswith(".parquet") for name in store.names() if not name.startswith(WORK))
    journal, targets = (f"{WORK}/{name}" for name in ("journal.jsonl", "targets.json"))
    data = store.read(journal)
    lines = data.splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if b'"kind": "target"' in line)
    if cut == "the last target":
        last = max(number for number, line in enumerate(lines) if b'"kind": "target"' in line)
        store.put(journal, b"".join([*lines[:last], bytes(16) + lines[last][16:], *lines[last + 1 :]]))
    elif cut.startswith("none"):
        store.put(targets, store.read(targets)[:-9])
    else:
        torn = lines[at][:20] if cut == "half a line" else b""
        store.put(journal, b"" if cut == "all" else b"".join(lines[:at]) + torn)
    with suppress(PackerError):
        job(out, executor=Apart())
    job(out, executor=Apart(), overwrite=True)
    names = [name for name in store.names() if not name.endswith("build.json")]
    assert {name: hashlib.sha256(store.read(name)).hexdigest() for name in names} == undisturbed


def test_names_are_a_closed_set(tmp_path: Path, job: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a build writes for itself has one of its own names."""
    seen: set[str] = set()

    def look(fn: Any) -> Any:
        def looking(*given: Any, **named: Any) -> Any:
            seen.update(name for name, _, _ in work_place._entries(tmp_path / "out" / WORK))
            return fn(*given, **named)

        return looking

    monkeypatch.setattr(os, "fsync", look(os.fsync))
    limits: Any = {"oversize": "trim-both"}
    job(tmp_path / "out", workers=1, **limits)
    job(tmp_path / "out", executor=Apart(), overwrite=True, **limits)
    assert len(seen) > 40 and {name.split("/")[0] for name in seen} >= {"table", "blocks", "routed", gather.ENTRIES}
    assert [name for name in sorted(seen) if not is_own(name)] == []
    assert not any(map(is_own, ("thesis.tex", "blocks/x", "blocks/1/2", "table/notes.txt", "scratch/a/file")))


REMOVERS = {
    "unlink": {
        "packer/files/checked.py": 1,  # the list of a folder that is written anew
        "packer/graphs/table.py": 1,  # the same, of a table
        "packer/files/cache.py": 7,  # copies, by names that hold the hash of a manifest
        "packer/files/atomic.py": 1,  # its own temporary file
        "pipelines/building/plan.py": 1,  # its own temporary file
        "pipelines/building/scan.py": 1,  # blocks, by the journal
        "pipelines/stores/journal.py": 4,  # journal, its targets, marker and lock
        "pipelines/stores/store.py": 2,  # files by name, and one that has been uploaded
    },
    "rmtree": {"pipelines/stores/store.py": 1},  # a scratch folder with a random name, by the process that made it
    "rmdir": {
        "pipelines/stores/journal.py": 2,
        "pipelines/stores/store.py": 1,
        "pipelines/stores/work_folder.py": 1,
    },  # empty ones
    "rm_file": {"pipelines/stores/store.py": 1},
    "rm": {},
    "removedirs": {},
    "truncate": {"pipelines/sources/tudataset.py": 1},  # blank lines at the end of a copy of its own
}


def test_few_may_remove_anything() -> None:
    root = ROOT
    found: dict[str, dict[str, int]] = {name: {} for name in REMOVERS}
    for path in sorted([*(root / "packer").rglob("*.py"), *(root / "pipelines").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text())):
            called = node.func if isinstance(node, ast.Call) else None
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name in found:
                place = str(path.relative_to(root))
                found[name][place] = found[name].get(place, 0) + 1
            if name == "remove" and isinstance(called, ast.Attribute):
                assert not (isinstance(called.value, ast.Name) and called.value.id == "os"), path
    assert found == REMOVERS
