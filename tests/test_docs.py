"""The documentation: its Python runs, its commands exist, and the site is built without a warning."""

import doctest
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from paths import ROOT
from typer.main import get_command

from docs.hooks import command_reference
from pipelines.cli.app import app

PAGES = sorted((ROOT / "docs").glob("*.md"))
RUN = ("index", "concepts", "layers", "limits", "algorithms", "sampler", "axes")


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_runs(page, tmp_path, monkeypatch, capsys):
    """Blocks of one page run one after the other; those marked `# notest` must parse, as must those of pages that have
    a test of their own (reading, training, jax, format, from-poptorch-geometric)."""
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks(page, "python"):
        code = compile(block, page.name, "exec")
        if page.stem in RUN and not block.startswith("# notest"):
            exec(code, names)


def test_the_page_about_reading_runs(tmp_path, monkeypatch):
    """With packs, a model, a loss and options of a reader's own; poptorch is a stand-in."""
    import poptorch_double
    import torch
    from torch_geometric.data import Data

    from packer import PackLimits
    from pipelines import build

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "poptorch", poptorch_double)
    ring = torch.tensor([[0, 1, 2], [1, 2, 0]])
    graphs = [Data(x=torch.ones(3, 2), edge_index=ring, edge_attr=torch.ones(3, 1), y=torch.ones(1))] * 20
    build(graphs, "packs", PackLimits(12, 12, 4), algorithm="stream", workers=1)
    names = {
        "model": lambda x, edge_index, edge_attr, batch, num_graphs: torch.zeros(num_graphs),
        "loss_function": lambda out, y: (out - y).square(),
        "options": poptorch_double.Options(device_iterations=2),
    }
    for block in blocks(ROOT / "docs" / "reading.md", "python"):
        if "://" in block:
            continue  # stores that are not here; tests/packer/files/test_object_store.py reads from one that is
        exec(compile(block, "reading.md", "exec"), names)
    assert float(names["loss"]) == 1.0
    out = torch.zeros(4, requires_grad=True)
    assert names["marked_loss"](out, torch.ones(4), torch.ones(4, dtype=torch.bool)) is poptorch_double.marked[-1]
    # Seven packs of three graphs: four steps of two, the last one filled with an empty pack.
    assert len(list(names["loader"])) == 4


def test_the_page_about_jax_runs(tmp_path, monkeypatch):
    """And its first 20 losses are those of the same network in torch, on the same packs."""
    pytest.importorskip("optax")
    pytest.importorskip("rdkit")
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks(ROOT / "docs" / "jax.md", "python"):
        exec(compile(block, "jax.md", "exec"), names)
    expected = losses_in_torch("packs", names["before"], 1e-4, 20)
    assert len(names["losses"]) == 20 and len(set(expected)) == 20
    assert [float(loss) for loss in names["losses"]] == pytest.approx(expected, rel=1e-5)
    assert names["graphs"].n_edge.sum() == 328


def losses_in_torch(folder, params, rate, steps):
    """The network of docs/jax.md."""
    import numpy as np
    import torch

    from packer import PackDataset, masked_mean, torch_loader

    weights = {name: torch.from_numpy(np.array(values)).requires_grad_() for name, values in params.items()}
    optimizer, losses = torch.optim.SGD(weights.values(), lr=rate), []
    for pack, _ in zip(torch_loader(PackDataset(folder), shuffle=True, seed=0), range(steps), strict=False):
        senders, receivers = pack.edge_index
        h = (pack.x.float() / 10 @ weights["in"] + weights["in_bias"]).relu()
        for layer in ("first", "second"):
            h = h + (torch.zeros_like(h).index_add(0, receivers, h[senders]) @ weights[layer]).relu()
        out = torch.zeros(pack.num_graphs, 32).index_add(0, pack.batch, h) @ weights["out"]
        loss = masked_mean((out.reshape(-1) - pack.y.reshape(-1) / 100).square(), pack.graphs_mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.filterwarnings("ignore::UserWarning")  # CUDA remarks on what it might do faster
def test_the_page_about_training_runs(tmp_path, monkeypatch):
    """Block after block: torch, a CUDA graph and PopTorch; what is not on this machine has a stand-in."""
    import cuda_double
    import poptorch_double
    import torch

    from packer import masked_mean

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "poptorch", poptorch_double)
    names = {}
    (here,) = [block for block in blocks(ROOT / "docs" / "training.md", "python") if "CUDAGraph" in block]
    for block in blocks(ROOT / "docs" / "training.md", "python"):
        if block == here:
            captured, replayed = block.split("\nfor batch in loader:\n")
            with monkeypatch.context() as patch:
                if not torch.cuda.is_available():
                    cuda_double.pretend(patch)
                exec(compile(captured, "training.md", "exec"), names)
                losses = watch(names, masked_mean) if not torch.cuda.is_available() else None
                exec(compile("for batch in loader:\n" + replayed, "training.md", "exec"), names)
            if losses is not None:
                assert len(losses) == len(names["loader"]) and len(set(losses)) > 1
                names["graph"].before.clear()
        elif "import device_loader" in block:
            with monkeypatch.context() as patch:
                if not torch.cuda.is_available():
                    cuda_double.pretend(patch)
                    block = block.replace('"cuda"', '"cpu"')
                exec(compile(block, "training.md", "exec"), names)
            assert names["steps"].num_steps == 2 * len(names["loader"]) and torch.isfinite(names["loss"])
        else:
            # One graph or an error is what fullgraph asks for; that inductor turns it into C++ is not the page's.
            block = block.replace("torch.compile(fullgraph=True)", 'torch.compile(fullgraph=True, backend="aot_eager")')
            exec(compile(block, "training.md", "exec"), names)
    # The last step on the IPU ended with empty packs: what is left are the real graphs of its other ones.
    assert names["loss"].shape == () and len(names["known"]) == int(names["pack"]["graphs_mask"].sum()) < 4 * 12


def watch(names, masked_mean):
    """The losses of the replays to come; each must be that of the weights before it and of the batch just copied."""
    graph, losses, wanted = names["graph"], [], []
    model, static, batch = names["model"], names["static"], lambda: names["batch"]

    def before():
        pack = batch()
        out = model(pack.x, pack.edge_index, pack.batch, pack.num_graphs)
        wanted.append(float(masked_mean((out - pack.y.reshape(-1)).square(), pack.graphs_mask)))
        assert all((static[name] == tensor).all() for name, tensor in pack)

    def after():
        losses.append(float(names["loss"]))
        assert losses[-1] == pytest.approx(wanted[-1], rel=1e-5)

    graph.before.append(before)
    graph.after.append(after)
    return losses


@pytest.mark.slow
def test_commands_run(tmp_path, monkeypatch, capsys):
    """All commands of the pages about choosing, one after the other, in an empty folder."""
    from pipelines.entry import main

    monkeypatch.chdir(tmp_path)
    for name in ("index", "limits", "algorithms"):
        for block in blocks(ROOT / "docs" / f"{name}.md", "bash"):
            for line in block.splitlines():
                if line.startswith("graph-pack "):
                    assert main(shlex.split(line, comments=True)[1:]) == 0, line
    assert {"packs", "pack.svg", "limits.svg", "plans.csv", "plans.svg"} <= {path.name for path in tmp_path.iterdir()}


def commands():
    for page in [*PAGES, ROOT / "README.md"]:
        for block in blocks(page, "bash"):
            for line in block.splitlines():
                if line.startswith("graph-pack "):
                    yield line.split("#")[0].strip()
    for _, command in re.findall(r"(```bash\n)(graph-pack .*)\n", command_reference()):
        yield command


def test_commands_and_their_options_exist():
    group = get_command(app)
    lines = list(commands())
    assert len(lines) > 15
    for line in lines:
        name, *rest = shlex.split(line)[1:]
        command = group.commands[name]
        context = command.make_context(name, [], resilient_parsing=True)
        known = {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)}
        used = {word for word in rest if word.startswith("--")}
        assert used <= known, f"{line}: {used - known}"
        command.make_parser(context).parse_args(list(rest))


def test_the_reference_names_every_command_and_option():
    text = command_reference()
    for name, command in get_command(app).commands.items():
        section = text.split(f"## `graph-pack {name}`\n")[1].split("\n## ")[0]
        for option in command.params:
            if not getattr(option, "hidden", False):
                flag = option.opts[0]
                assert (flag if flag.startswith("-") else option.metavar) in section, f"{name}: {option.name}"


def test_the_interface_page_has_every_public_name():
    import packer
    import pipelines

    text = (ROOT / "docs" / "api.md").read_text()
    for module in (packer, pipelines):
        for name in set(module.__all__) - {"__version__"}:
            assert f"::: {module.__name__}.{name}\n" in text, name
    assert "::: packer.errors\n" in text


def documented():
    """Public names, and the public methods of classes among them, whose docstrings hold an example."""
    import packer
    import pipelines

    for module in (packer, pipelines):
        for name in sorted(set(module.__all__) - {"__version__"}):
            value = getattr(module, name)
            methods = vars(value).items() if isinstance(value, type) else ()
            found = {name: value, **{f"{name}.{key}": item for key, item in methods if not key.startswith("_")}}
            for label, item in found.items():
                text = inspect.getdoc(item) or ""
                if ">>>" in text:
                    yield pytest.param(text, id=label)


@pytest.mark.parametrize("text", list(documented()))
def test_examples_in_docstrings(text, tmp_path, monkeypatch):
    import numpy as np
    import torch
    from torch_geometric.data import Data

    import packer
    import pipelines
    from packer.certificate import volume_certificate

    monkeypatch.chdir(tmp_path)
    names = {name: getattr(module, name) for module in (packer, pipelines) for name in module.__all__}
    names |= {"np": np, "torch": torch, "Data": Data, "volume_certificate": volume_certificate}
    example = doctest.DocTestParser().get_doctest(text, names, "example", None, None)
    failed, tried = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(example)
    assert tried and not failed


def test_pages_link_to_pages_that_exist():
    names = {page.name for page in PAGES} | {"commands.md"}
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if target.endswith(".md") and "/" not in target:
                assert target in names, f"{page.name}: {target}"


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: make docs installs it")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    assert {"index.html", "commands.html", "api.html"} <= {path.name for path in (tmp_path / "site").glob("*.html")}
    pictures = (tmp_path / "site" / "pictures").glob("*.svg")
    assert sorted(path.stem for path in pictures) == ["algorithms", "limits", "pack"]
    shutil.rmtree(tmp_path / "site")
