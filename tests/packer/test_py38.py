"""Python 3.8, where PopTorch lives: packer/ compiles there, and its reader runs there."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from paths import ROOT

OLD = ("numpy==1.22.0", "pyarrow==15.0.0")


@pytest.fixture(scope="session")
def python38() -> str:
    """An interpreter of Python 3.8: on the path, or one of pyenv's."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which("python3.8"), *map(str, sorted(versions.glob("3.8.*/bin/python3.8")))]
    for candidate in filter(None, candidates):
        found = subprocess.run(
            [candidate, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True
        )
        if found.stdout.strip() == "(3, 8)":
            return candidate
    pytest.skip("no python3.8 on the path or among pyenv's versions")


def test_the_library_compiles_on_python_38(python38: str, tmp_path: Path) -> None:
    library = sorted((ROOT / "packer").rglob("*.py"))
    entry = [ROOT / "pipelines" / name for name in ("__init__.py", "entry.py") if (ROOT / "pipelines" / name).exists()]
    code = """
        import sys
        for path in sys.argv[1:]:
            compile(open(path, encoding="utf-8").read(), path, "exec")
        print(len(sys.argv) - 1)
    """
    files = [str(path) for path in library + entry]
    done = subprocess.run([python38, "-c", textwrap.dedent(code), *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(files) > 20


READ = """
    import pickle, sys
    import numpy as np
    import packer
    from packer.reading.blocks import Blocks, Cast, Mask
    from packer.reading.order import epoch_order, share
    from packer.shards import Manifest
    assert "torch" not in sys.modules

    folder, wanted = sys.argv[1:]
    manifest = Manifest.load(folder)
    names = ["x", "edge_index", "y", "graph_ids"]
    casts = [Cast(name, np.dtype("int64" if name != "y" else "float32")) for name in names]
    blocks = Blocks(folder, manifest, casts, [Mask("nodes_mask", 12, 0)], "always", 2)
    blocks = pickle.loads(pickle.dumps(blocks))
    wanted = np.load(wanted)
    for pack in range(manifest.num_packs):
        number, row = divmod(pack, manifest.packs_per_block)
        for name, stored, dtype in blocks.cached(number):
            np.testing.assert_array_equal(stored[row].astype(dtype), wanted[name][pack])
    np.testing.assert_array_equal(epoch_order(1000, 7, seed=5, epoch=2), wanted["order"])
    np.testing.assert_array_equal(share(wanted["order"], 30, 1, 3, 4), wanted["share"])
    print(np.__version__, sys.version_info[:2])
"""

LOAD = """
    import numpy as np, sys, torch
    import types
    from packer import PackDataset, ipu_loss, masked_mean, torch_loader
    folder, wanted = sys.argv[1:]
    wanted = np.load(wanted)
    dataset = PackDataset(folder)
    for pack in range(len(dataset)):
        for name in ("x", "edge_index", "y", "nodes_mask"):
            np.testing.assert_array_equal(dataset[pack][name].numpy(), wanted[name][pack])
    for options in ({}, {"num_workers": 2}, {"as_dataloader": True}, {"layout": "dict"}):
        loader = torch_loader(dataset, 2, **options)
        batches = list(loader)
        assert len(batches) == len(loader)
        assert sum(int(b["graphs_mask"].sum()) for b in batches) == dataset.manifest.counts.graphs
    loss = masked_mean(torch.ones(3), torch.tensor([True, False, True]))
    sys.modules["poptorch"] = types.ModuleType("poptorch")
    sys.modules["poptorch"].identity_loss = lambda loss, reduction: (loss, reduction)
    assert loss == 1 and ipu_loss(loss) == (loss, "none")
    print(torch.__version__)
"""


READ_URL = """
    import json, os, sys
    import numpy as np
    from packer.reading.blocks import Blocks, Cast
    from packer.shards import Manifest
    from packer.files.cache import cached
    from packer.files.open import place_of

    url, options, cache, wanted = sys.argv[1:]
    place = place_of(url, json.loads(options))
    manifest, wanted = Manifest.load(place), np.load(wanted)

    def read(cache_bytes):
        at = cached(place, manifest.sha256, cache, cache_bytes)
        blocks = Blocks(at, manifest, [Cast("x", np.dtype("int64")), Cast("y", np.dtype("float32"))], (), "always", 2)
        for pack in range(manifest.num_packs):
            number, row = divmod(pack, manifest.packs_per_block)
            for name, stored, dtype in blocks.cached(number):
                np.testing.assert_array_equal(stored[row].astype(dtype), wanted[name][pack])

    if __name__ == "__main__":
        read(0)
        child = os.fork()
        if child == 0:
            read(1 << 30)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert len([name for name in os.listdir(cache) if name.endswith("parquet")]) == len(manifest.shards)
        print(np.__version__, sys.version_info[:2])
"""

LOAD_URL = """
    import json, sys
    import numpy as np
    import torch
    from packer import PackDataset, torch_loader

    url, options, cache, wanted = sys.argv[1:]
    if __name__ == "__main__":
        for cache_bytes in (0, 1 << 30):
            dataset = PackDataset(url, storage_options=json.loads(options), cache_dir=cache, cache_bytes=cache_bytes)
            np.testing.assert_array_equal(dataset[0]["x"].numpy(), np.load(wanted)["x"][0])
            for workers in (0, 2):
                batches = list(torch_loader(dataset, num_workers=workers))
                assert sum(int(b["graphs_mask"].sum()) for b in batches) == dataset.manifest.counts.graphs
        print(torch.__version__)
"""


@pytest.fixture(scope="session")
def old_environment(python38: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment of the oldest versions that the reader supports."""
    folder = tmp_path_factory.mktemp("py38")
    subprocess.run([python38, "-m", "venv", str(folder)], check=True)
    _install(folder, str(ROOT), *OLD)
    return folder


def _install(environment: Path, *packages: str) -> None:
    done = subprocess.run(
        [environment / "bin" / "python", "-m", "pip", "install", "--quiet", *packages], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"pip cannot install {packages}: {done.stderr.strip().splitlines()[-1]}")


def test_building_says_which_python_it_wants(python38: str) -> None:
    """Instead of a TypeError of some annotation; whatever of the jobs is asked for, but for the command's entry."""
    code = """
        import packer, pipelines, pipelines.entry
        from pipelines import entry
        for line in ("from pipelines import build", "from pipelines import BuildResult", "from pipelines import train",
                     "import pipelines; pipelines.build", "import pipelines.training.train",
                     "import pipelines.building.build",
                     "import pipelines.sources.pyg", "from pipelines.stores.store import is_url"):
            try:
                exec(line)
            except ImportError as error:
                print(error)
        print(hasattr(pipelines, "__wrapped__"), dir(pipelines))
    """
    done = subprocess.run([python38, "-c", textwrap.dedent(code)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    *said, last = done.stdout.splitlines()
    assert [line.split(" needs ")[0] for line in said] == [
        f"pipelines.{n}"
        for n in ("build", "BuildResult", "train", "build", "training", "building", "sources", "stores")
    ]
    assert said[0] == (
        "pipelines.build needs Python 3.11 or newer; this is Python 3.8. Reading packs (import packer) works here: "
        "build them with a newer Python, here or elsewhere"
    )
    assert last == "False ['BuildResult', 'build']"


def _case(tmp_path: Path) -> list[str]:
    import numpy as np
    from small_packs import write_packs

    from packer.reading.order import epoch_order, share

    packs = write_packs(tmp_path / "packs")
    columns = {name: np.stack([pack[name] for pack in packs]) for name in packs[0]}
    order = epoch_order(1000, 7, seed=5, epoch=2)
    np.savez(tmp_path / "wanted.npz", **columns, order=order, share=share(order, 30, 1, 3, 4))
    return [str(tmp_path / "packs"), str(tmp_path / "wanted.npz")]


@pytest.mark.slow
def test_blocks_and_order_on_the_oldest_versions(old_environment: Path, tmp_path: Path) -> None:
    python = old_environment / "bin" / "python"
    done = subprocess.run(
        [python, "-c", textwrap.dedent(READ), *_case(tmp_path)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "1.22.0"


@pytest.mark.slow
def test_loaders_on_the_oldest_torch(old_environment: Path, tmp_path: Path) -> None:
    _install(old_environment, "torch==2.0.1", *OLD)
    python = old_environment / "bin" / "python"
    script = tmp_path / "load.py"
    script.write_text('if __name__ == "__main__":\n' + textwrap.indent(textwrap.dedent(LOAD), "    "))
    done = subprocess.run([python, script, *_case(tmp_path)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2.0.1")


def _read_url(python: str | Path, endpoint: str, tmp_path: Path, code: str = READ_URL) -> str:
    """Read a data set with that interpreter from an S3 server that fails now and then."""
    from object_store import FaultProxy, make_bucket, s3_options, upload

    folder, wanted = _case(tmp_path)
    with FaultProxy(endpoint, 0.1) as proxy:
        options = s3_options(proxy.url)
        make_bucket(endpoint, "py38")
        upload(Path(folder), "s3://py38/packs", s3_options(endpoint))
        arguments = ["s3://py38/packs", json.dumps(options), str(tmp_path / "cache"), wanted]
        done = subprocess.run(
            [python, "-c", textwrap.dedent(code), *arguments], capture_output=True, text=True, cwd=tmp_path
        )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_urls_on_the_oldest_versions(old_environment: Path, s3_endpoint: str, tmp_path: Path) -> None:
    _install(old_environment, f"{ROOT}[s3]", *OLD)
    assert _read_url(old_environment / "bin" / "python", s3_endpoint, tmp_path).startswith("1.22.0")


@pytest.mark.slow
def test_loading_urls_with_the_oldest_torch(old_environment: Path, s3_endpoint: str, tmp_path: Path) -> None:
    _install(old_environment, f"{ROOT}[s3]", "torch==2.0.1", *OLD)
    assert _read_url(old_environment / "bin" / "python", s3_endpoint, tmp_path, LOAD_URL).startswith("2.0.1")


def test_this_interpreter_reads_the_same_url(s3_endpoint: str, tmp_path: Path) -> None:
    assert _read_url(sys.executable, s3_endpoint, tmp_path)
    assert _read_url(sys.executable, s3_endpoint, tmp_path, LOAD_URL)


def test_this_interpreter_runs_the_same_script(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(READ), *_case(tmp_path)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
