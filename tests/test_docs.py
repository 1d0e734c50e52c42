"""The documentation: its Python runs, its commands exist, and the site is built without a warning."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from pipelines.cli import app
from pipelines.report.site import command_reference

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
RUN = ("index", "concepts", "limits", "algorithms", "training")


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_runs(page, tmp_path, monkeypatch, capsys):
    """Blocks of one page run one after the other; those marked `# notest`, and the reader's own pages, must parse."""
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks(page, "python"):
        code = compile(block, page.name, "exec")
        if page.stem in RUN and not block.startswith("# notest"):
            exec(code, names)


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
