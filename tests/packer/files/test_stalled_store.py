"""A store that accepts and never answers: Ctrl-C ends the process at once, and nothing waits for its threads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from object_store import KEY, SECRET, FaultProxy, make_bucket, s3_options, upload
from paths import ROOT
from small_packs import write_packs

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals")
DELAY = 120
"""Seconds until the store answers: what ends before has not waited for it."""


@pytest.fixture(scope="module")
def bucket(s3_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("data") / "packs"
    write_packs(folder, 46, 3, 12)
    make_bucket(s3_endpoint, "stalled")
    upload(folder, "s3://stalled/packs", s3_options(s3_endpoint))
    return "s3://stalled/packs"


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[FaultProxy]:
    """Answers for the manifest, and for nothing else."""

    def stalls(method: str, path: str) -> bool:
        return "shard" in path or "csv" in path

    with FaultProxy(s3_endpoint, 1.0, ("slow",), stalls, delay=DELAY) as found:
        yield found


CHILD = """
    import sys, time
    from packer import PackDataset, torch_loader
    url, endpoint, cache, how = sys.argv[1:]
    options = {"key": "k", "secret": "s", "client_kwargs": {"endpoint_url": endpoint}}
    dataset = PackDataset(url, storage_options=options, cache_dir=cache, cache_bytes=0 if how == "ranges" else 1 << 30)
    if how == "open":  # a loop that is left open while the program ends
        loader = iter(torch_loader(dataset))
        import threading
        threading.Thread(target=lambda: next(loader), daemon=True).start()
        time.sleep(1)
        print("ends", flush=True)
        raise SystemExit(3)
    print("waits", flush=True)
    for batch in torch_loader(dataset):
        print("a batch")
"""


def start(bucket: str, proxy: FaultProxy, cache: Path, how: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(CHILD), bucket, proxy.url, str(cache), how]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def wait_for_a_stalled_request(proxy: FaultProxy) -> None:
    end = time.monotonic() + 60
    while not proxy.faults["slow"]:
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("how", ["ranges", "cache"])
def test_ctrl_c_in_a_loop_that_waits(bucket: str, proxy: FaultProxy, tmp_path: Path, how: str) -> None:
    child = start(bucket, proxy, tmp_path, how)
    try:
        wait_for_a_stalled_request(proxy)
        time.sleep(0.3)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=DELAY - 20)
    finally:
        child.kill()
    assert out == "waits\n" and child.returncode == -signal.SIGINT
    assert err.rstrip().endswith("KeyboardInterrupt"), err


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "s3://stalled/packs", "--target", "x"],
        ["verify", "s3://stalled/packs", "--workers", "2"],
        ["verify", "s3://stalled/packs", "--workers", "1"],
        ["report", "s3://stalled/packs", "--out", "page.html"],
        ["scan", "smiles:s3://stalled/mols.csv", "--workers", "2"],
    ],
    ids=lambda arguments: "-".join(arguments[::3]),
)
def test_ctrl_c_in_a_command(bucket: str, proxy: FaultProxy, tmp_path: Path, arguments: list[str]) -> None:
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_ENDPOINT_URL": proxy.url,
        "XDG_CACHE_HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-c", "import sys; from pipelines.entry import main; sys.exit(main())", *arguments]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment)
    try:
        wait_for_a_stalled_request(proxy)
        time.sleep(0.3)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=DELAY - 20)
    finally:
        child.kill()
    assert child.returncode == 130 and err.endswith("interrupted\n"), err


def test_a_program_that_ends_with_a_loop_open(bucket: str, proxy: FaultProxy, tmp_path: Path) -> None:
    child = start(bucket, proxy, tmp_path, "open")
    try:
        assert child.stdout is not None and child.stdout.readline() == "ends\n"
        _, err = child.communicate(timeout=DELAY - 20)
    finally:
        child.kill()
    assert child.returncode == 3 and err == "", err
