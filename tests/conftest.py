"""What several tests share: where the real data lies."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from forks import HEAVY
from object_store import gcs_server, s3_server

# A shell ignores Ctrl-C for what it runs in the background, and so would every process that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Test processes run side by side; more threads each would only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Before any test has started the server, which imports once.
multiprocessing.set_forkserver_preload(HEAVY)

# Google's client would ask for kinds of buckets that no server on loopback knows of, for a minute each.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

# The first example of a test may compile a kernel.
hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.load_profile("here")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data; tests that need it skip where it is absent."""
    root = Path(os.environ.get("GRAPH_PACKER_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no real data at {root} (set GRAPH_PACKER_TEST_DATA)")
    return root


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an S3 server in a process of its own; tests skip where none is installed."""
    with s3_server(tmp_path_factory.mktemp("s3") / "server.log") as url:
        yield url


@pytest.fixture(scope="session")
def gcs_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The same for GCS."""
    with gcs_server(tmp_path_factory.mktemp("gcs") / "server.log") as url:
        yield url
