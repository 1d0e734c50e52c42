"""The command that a report gives builds the very same bytes, whatever was asked for."""

import html
import json
import os
import shlex
from pathlib import Path

import pytest

from packer.shards import Manifest
from pipelines import build
from pipelines.entry import main
from pipelines.report.command import command_of
from pipelines.report.facts import read_facts
from pipelines.report.page import page

SMILES = ["CCO", "c1ccccc1", "CC(=O)O", "C1CCNC1", "CCCCCCCCCCCCCCCCCC", "not a molecule"]
LIMITS = ["--num-nodes", "24", "--num-edges", "44", "--num-graphs", "5"]
SOURCE = ["smiles:in/mol's.csv", "--smiles-column", "S", "--target", "t", "--on-empty", "skip"]
FAST = ["--algorithm", "best-fit-decreasing"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with a CSV file in `in`, and a file of splits."""
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    rows = [(text, i, "late" if i % 3 else "early") for i, text in enumerate(SMILES * 8)]
    Path("in/mol's.csv").write_text("S,t,part\n" + "".join(f"{s},{t},{p}\n" for s, t, p in rows))
    ids = {"z": list(range(0, 48, 2)), "a": list(range(1, 48, 2))}
    Path("in/split.json").write_text(json.dumps(ids))
    return tmp_path


def shown(folder):
    """The command that the page of `folder`, or of its first split, tells."""
    inside = folder if (folder / "manifest.json").is_file() else sorted(folder.glob("*/manifest.json"))[0].parent
    facts = read_facts(inside, "" if inside == folder else inside.name, verify=False)
    words = shlex.split(command_of(manifest=facts.manifest, folder=facts.folder, build=facts.build))
    assert words[:2] == ["graph-pack", "build"]
    return words[1:]


def test_the_page_has_the_command(place):
    assert main(["build", *SOURCE, "--out", "out", *LIMITS, *FAST, "--oversize", "skip", "--workers", "1"]) == 0
    text = page([read_facts(Path("out"), verify=False)])
    told = text.split("The command to repeat it</h2><pre>")[1].split("</pre>")[0]
    assert shlex.split(html.unescape(told))[1:] == shown(Path("out"))


def hashes(folder):
    return {path.parent.name: Manifest.load(path.parent).sha256 for path in folder.glob("**/manifest.json")}


@pytest.mark.parametrize(
    "options",
    [
        [*LIMITS, *FAST, "--oversize", "skip"],
        [*LIMITS, *FAST, "--oversize", "trim-both", "--seed", "3"],
        ["--limits", "max", "--num-graphs", "3", "--null-graphs", "one", *FAST],
        ["--limits", "batches", "--num-graphs", "4", *FAST],
        ["--limits", "auto", *FAST],
        ["--limits", "auto", "--time-limit", "7"],
        # Not in the order of the alphabet: shares are dealt in the order given.
        ["--limits", "auto", *FAST, "--splits", "train=0.7,a=0.2,b=0.1", "--split-seed", "5"],
        ["--limits", "auto", *FAST, "--split-column", "part", "--licence", "CC BY 4.0; ask first"],
        ["--limits", "auto", *FAST, "--split-file", "in/split.json"],
        [*LIMITS, "--oversize", "skip", *FAST, "--compression", "lz4", "--exclude", "edge_attr", "--pad", "y=nan"],
    ],
    ids=lambda options: " ".join(options[-4:]),
)
def test_the_command_builds_the_same_bytes(place, options):
    assert main(["build", *SOURCE, "--out", "out", *options, "--workers", "1"]) == 0
    first, command = hashes(Path("out")), shown(Path("out"))
    assert first and not {"SPLIT-FILE", "PLAN-FILE", "DIR"} & set(command)
    Path("out").rename("before")
    assert main([*command, "--workers", "1"]) == 0
    assert hashes(Path("out")) == first
    assert main([*command, "--workers", "1"]) == 0, "the folder holds this very build: there is nothing to do"


@pytest.mark.parametrize(
    "limits",
    [["--limits", "auto"], ["--limits", "0.5", "--num-graphs", "4", "--oversize", "trim-both", "--seed", "5"]],
    ids=["auto", "rule"],
)
def test_a_plan_made_before_is_named(place, limits):
    assert main(["plan", *SOURCE, "--out", "in/plan.parquet", *limits, *FAST, "--workers", "1"]) == 0
    again = limits if "--seed" in limits else []
    assert main(["build", *SOURCE, "--out", "out", "--plan", "in/plan.parquet", *again, "--workers", "1"]) == 0
    command, first = shown(Path("out")), hashes(Path("out"))
    assert command[command.index("--plan") + 1] == "in/plan.parquet" and "--algorithm" not in command
    assert main([*command, "--workers", "1"]) == 0, "the folder holds this very build: there is nothing to do"
    Path("out").rename("before")
    assert main([*command, "--workers", "1"]) == 0
    assert hashes(Path("out")) == first


def test_a_tudataset_keeps_its_folder(place, shared_data):
    options = ["tudataset:MUTAG", "--root", str(shared_data / "tu"), "--limits", "max", "--num-graphs", "8", *FAST]
    assert main(["build", *options, "--out", "out", "--workers", "1"]) == 0
    command = shown(Path("out"))
    assert command[1:4] == ["tudataset:MUTAG", "--root", str(shared_data / "tu")]
    assert main([*command, "--workers", "1"]) == 0


def test_frames_of_atoms_keep_their_options(place):
    pytest.importorskip("matscipy")
    Path("in/a.extxyz").write_text("2\nenergy=1\nH 0 0 0\nH 0 0 0.7\n" * 3)
    options = ["ase:in/a.extxyz", "--cutoff", "2.5", "--float-dtype", "float64", "--target", "energy"]
    assert main(["build", *options, "--out", "out", "--limits", "auto", *FAST, "--workers", "1"]) == 0
    assert shown(Path("out"))[1:8] == options
    assert main([*shown(Path("out")), "--workers", "1"]) == 0
    Path("out/build.json").unlink()
    assert shown(Path("out"))[1:8] == ["ase:a.extxyz", *options[1:]]


def test_python_objects_and_lost_notes_are_said(place):
    import torch
    from torch_geometric.data import Data

    from packer import PackLimits

    graphs = [Data(x=torch.zeros(3, 1), edge_index=torch.tensor([[0, 1], [1, 2]]))] * 4
    build(graphs, "out", PackLimits(9, 8, 3), algorithm="stream", workers=1)
    assert shown(Path("out"))[1] == "pyg:MODULE:CALLABLE"
    assert "The graphs were Python objects" in page([read_facts(Path("out"), verify=False)])
    assert main(["build", *SOURCE, "--out", "csv", *LIMITS, *FAST, "--oversize", "skip", "--workers", "1"]) == 0
    Path("csv/build.json").unlink()
    assert shown(Path("csv"))[1] == "smiles:mol's.csv"
    assert "build.json, which tells of paths" in page([read_facts(Path("csv"), verify=False)])


@pytest.mark.parametrize("name", ["README.md", "build.json"])
@pytest.mark.parametrize("what", ["a pipe", "a device", "a file of 5 GB"])
def test_what_lies_beside_a_data_set_is_neither_waited_for_nor_read_whole(place, capfd, name, what):
    import resource

    from pipelines.building.card import write_card

    command = ["build", *SOURCE, "--out", "csv", *LIMITS, *FAST, "--oversize", "skip", "--workers", "1"]
    assert main(command) == 0
    path = Path("csv", name)
    path.unlink()
    if what == "a pipe":
        os.mkfifo(path)
    elif what == "a device":
        path.symlink_to("/dev/zero")
    else:
        path.touch()
        os.truncate(path, 5 << 30)
    capfd.readouterr()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if name == "build.json":
        assert main(command) == 1 and "build.json does not say how it was built" in capfd.readouterr().err
    else:
        assert write_card(Path("csv")).read_text().endswith("not stated; ask whoever gave you the graphs.\n")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # KiB
