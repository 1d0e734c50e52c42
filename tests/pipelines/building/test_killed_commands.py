"""Commands in processes of their own that are killed while they build into an object store."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
from jobs import SMILES, belongings, files, hashes
from object_store import FaultProxy, make_bucket, objects, s3_environment, s3_options

from packer import verify_shards
from packer.files.open import place_of
from pipelines.entry import main
from pipelines.stores.work_folder import WORK

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # of sockets of ended processes


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """A build of 130 molecules, but for `out`."""
    path = tmp_path / "molecules.csv"
    path.write_text("smiles,t\n" + "".join(f"{SMILES[i % 10]},{i}.5\n" for i in range(130)))
    limits = ["--num-nodes", "40", "--num-edges", "90", "--num-graphs", "6"]
    return ["build", f"smiles:{path}", *limits, "--workers", "1"]


@pytest.fixture
def bucket(s3_endpoint: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    name = f"killed-{zlib.crc32(request.node.name.encode())}"
    make_bucket(s3_endpoint, name)
    return f"s3://{name}"


def killed_when(reached: Callable[[], bool], command: list[str]) -> None:
    """Run a command in a process that is killed as soon as `reached`."""
    code = "from pipelines.entry import main; raise SystemExit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 60
    while not (there := reached()) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert there, "the command ended, or the minute did, before it was time"


def test_a_killed_driver_leaves_the_whole_data_set_or_none(
    s3_endpoint: str, bucket: str, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command += ["--splits", "train=0.8,test=0.2"]
    assert main([*command, "--out", str(tmp_path / "here")]) == 0
    wanted = hashes(tmp_path / "here")
    outcomes: set[bool] = set()
    with FaultProxy(s3_endpoint) as proxy:
        (tmp_path / "config").mkdir()
        (tmp_path / "config" / "s3.json").write_text(json.dumps({"s3": s3_options(proxy.url)}))
        monkeypatch.setenv("FSSPEC_CONFIG_DIR", str(tmp_path / "config"))  # of the processes
        monkeypatch.setitem(fsspec.config.conf, "s3", s3_options(proxy.url))  # of this one
        for moment in (3, 9):
            url = f"{bucket}/packs{moment}"
            proxy.log.clear()
            killed_when(lambda at=moment: [m for m, *_ in proxy.log].count("PUT") >= at, [*command, "--out", url])
            names = objects(s3_endpoint, url)
            outcomes.add("splits.json" in names)
            for split in ("train", "test"):
                if f"{split}/manifest.json" in names:
                    assert verify_shards(place_of(f"{url}/{split}", s3_options(s3_endpoint))).ok
            assert main([*command, "--out", url]) == 0
            found = objects(s3_endpoint, url)
            assert found.pop("build.json") and found == wanted
    assert False in outcomes


def test_a_killed_command_goes_on_in_its_place(
    s3_endpoint: str, bucket: str, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_environment(monkeypatch, s3_endpoint)
    place = tmp_path / "place"
    before = belongings(place)
    command += ["--work", str(place), "--out", f"{bucket}/packs"]
    killed_when(lambda: any(place.glob("graph-pack-*/facts/*")), command)
    assert before.items() <= files(place).items()
    assert main(command) == 0
    assert files(place) == before
    assert not [name for name in objects(s3_endpoint, bucket) if WORK in name]
