"""The command: what it prints where, its exit status, and that it works wherever it is called."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from packer import PackDataset, __version__
from pipelines.cli.app import app
from pipelines.cli.job_file import JobFile
from pipelines.entry import main

LIMITS = ("--num-nodes", "48", "--num-edges", "100", "--num-graphs", "8")
FIRST_FIT = ("--algorithm", "first-fit", "--workers", "1")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("csv") / "molecules.csv"
    smiles = ["CCO", "c1ccccc1", "[nH]1cccc1", "CC(=O)O"] * 10
    path.write_text("SMILES,t\n" + "".join(f"{text},{i}\n" for i, text in enumerate(smiles)))
    return f"smiles:{path}"


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command line here: (exit status, standard output, standard error)."""

    def run(*arguments: Any) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        return (status, *capfd.readouterr())

    return run


@pytest.fixture(scope="module")
def packs(source: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packs") / "out"
    options = ("--smiles-column", "SMILES", "--target", "t", *LIMITS, *FIRST_FIT)
    assert main(["build", source, "--out", str(out), *options]) == 0
    return out


def test_scan_shows_sizes_fields_and_what_does_not_fit(call: Callable[..., Any], source: str) -> None:
    common = ("scan", source, "--smiles-column", "SMILES", "--target", "t", "--workers", "1")
    status, out, err = call(*common, *LIMITS)
    assert status == 0 and "40 graphs" in out and "Sizes: 4 distinct" in out and "All 40 graphs fit" in out
    assert "edge_index" in out and "graphs.parquet" in out and "scanning graphs: 40 of 40" in err
    status, out, err = call(*common, "--num-nodes", 10, "--num-edges", 17, "--num-graphs", 6, "--json")
    found = json.loads(out)
    # 17 edge slots less 5 for padding leave 12: benzene has 12 edges; its 6 nodes exceed 10 - 5, as no other's do.
    assert found["does_not_fit"] == {"count": 10, "first": list(range(1, 40, 4))}
    assert found["sizes"]["node"]["max"] == 6 and found["distinct_sizes"] == 4 and found["strings"] == ["smiles"]


def test_scan_shows_all_faults_and_refuses_them(call: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("smiles\n" + 'CCO\nnonsense\n""\n' * 15)
    status, out, err = call("scan", f"smiles:{path}", "--workers", 1)
    assert status == 1 and "45 graphs, 30 of them cannot be packed" in out and "refused: correct them" in err
    assert re.search(r"RDKit cannot parse the SMILES +line 3 +15 ", out)
    assert "skipped 10 more; graph-pack scan --json names them all" in err
    assert re.search(r"mean +3\.0 +4\.0 ", out), "the graphs that can be packed are shown: C, C and O"
    status, out, err = call("scan", f"smiles:{path}", "--workers", 1, "--on-empty", "skip", "--json")
    assert status == 0 and [skip["graph"] for skip in json.loads(out)["skipped"]] == [i for i in range(45) if i % 3]
    status, out, err = call("scan", f"smiles:{path}", "--workers", 1, "--on-empty", "error")
    assert status == 1 and "graph 1 of" in err and out == ""
    path.write_text("smiles\nCCO\n")
    assert "No faults found." in call("scan", f"smiles:{path}", "--workers", 1)[1]


def test_tables_fit_80_columns(call: Callable[..., Any], source: str, packs: Path, monkeypatch: Any) -> None:
    """No cell is broken: what stands in one line at 160 columns does so at 80."""
    monkeypatch.setattr("pipelines.cli.output.WIDTH", 80)
    common = (source, "--smiles-column", "SMILES", "--target", "t", "--workers", 1)
    for arguments, words in (
        (("scan", *common), ("stored as", "graphs.parquet", "edge_index")),
        (("compare", *common, *LIMITS), ("first-fit-decreasing", "seconds", "node/edge/graph")),
        (("suggest", *common, "--num-graphs", "8", "--max-nodes", "40"), ("nodes/edges/graphs", "proven")),
        (("inspect", packs, "--pack", 0), ("stored as", "graphs_mask")),
        (("doctor",), ("torch_geometric",)),
    ):
        out = call(*arguments)[1]
        assert max(map(len, out.splitlines()[1:4])) <= 80
        assert all(word in out for word in words), arguments


def test_tables_of_several_types_fit_too(call: Callable[..., Any], tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "graphs_of_types.py").write_text(
        "import torch\nfrom torch_geometric.data import HeteroData\n"
        "def load():\n    data = HeteroData()\n"
        "    data['author'].x, data['paper'].x = torch.ones(2, 1), torch.ones(3, 1)\n"
        "    data['author', 'writes', 'paper'].edge_index = torch.tensor([[0, 1], [0, 2]])\n    return [data] * 40\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipelines.cli.output.WIDTH", 80)
    status, out, _ = call("suggest", "pyg:graphs_of_types:load", "--csv", "s.csv")
    fill = re.search(r"proven +([\d.]+/[\d.]+/[\d.]+/[\d.]+) ", out)
    assert status == 0 and fill and "fill %: author/paper/author__writes__paper/graph" in out
    assert "num_nodes_author,num_nodes_paper,num_edges_author__writes__paper" in Path("s.csv").read_text()
    status, out, _ = call("compare", "pyg:graphs_of_types:load", "--limits", "auto")
    assert status == 0 and re.search("best-fit-decreasing .*/", out) and "fill %: author/paper/" in out


def test_compare_shows_algorithms_side_by_side(call: Callable[..., Any], source: str) -> None:
    names = ("--algorithm", "stream", "--algorithm", "first-fit-decreasing")
    status, out, _ = call("compare", source, "--smiles-column", "SMILES", *LIMITS, *names, "--workers", 1, "--json")
    found = json.loads(out)
    assert status == 0 and [plan["algorithm"] for plan in found["plans"]] == ["stream", "first-fit-decreasing"]
    for plan in found["plans"]:
        assert plan["packs"] >= plan["bound"] and plan["gap"] == plan["packs"] / plan["bound"] - 1
        assert set(plan["fill"]) == {"node", "edge", "graph"}
    status, out, _ = call("compare", source, "--smiles-column", "SMILES", *LIMITS, *names, "--workers", 1)
    assert status == 0 and "node/edge/graph" in out and "bound" in out
    [best] = [plan for plan in found["plans"] if plan["algorithm"] == "first-fit-decreasing"]
    [line] = [line for line in out.splitlines() if "first-fit-decreasing" in line]
    fill = "/".join(f"{100 * share:.1f}" for share in best["fill"].values())
    assert line.split()[1:3] == [str(best["packs"]), str(best["bound"])] and fill in line


def test_seconds_of_a_comparison_leave_out_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    from packer import GraphSizes, PackLimits
    from pipelines.survey import warm_plan as comparison

    asked = []
    monkeypatch.setattr(comparison, "make_plan", lambda sizes, *rest, **options: asked.append(sizes.num_graphs))
    comparison.warm_plan(GraphSizes(np.full(100, 4), np.full(100, 6)), PackLimits(40, 60, 8), "stream")
    assert asked == [64, 100]


def test_what_does_not_fit_names_limits_that_hold_all(call: Callable[..., Any], source: str) -> None:
    limits = ("--num-nodes", 8, "--num-edges", 16, "--num-graphs", 5, "--workers", 1)
    status, _, err = call("compare", source, "--smiles-column", "SMILES", *limits)
    # Five slots keep 4 nodes and 4 edges. Benzene (1): 6 nodes, 12 edges; pyrrole (2): 5, 10; acetic acid: 4, 6.
    assert (
        status == 1
        and "graph 1 needs 6 nodes; a pack offers 4 (8, less 4 for padding): num_nodes=10 (--num-nodes 10)" in err
    )
    assert "20 of 40 graphs do not fit; num_nodes=10 (--num-nodes 10) would hold them all" in err


def test_suggest_proposes_limits_that_hold_every_graph(call: Callable[..., Any], source: str) -> None:
    common = ("suggest", source, "--smiles-column", "SMILES", "--target", "t", "--workers", 1, "--num-graphs", "4:12")
    status, out, _ = call(*common, "--multiple-of", 8, "--max-nodes", 64, "--json")
    found = json.loads(out)
    assert status == 0 and found["best"] in found["front"]
    for candidate in found["front"]:
        limits = candidate["limits"]
        assert limits["num_nodes"] % 8 == limits["num_edges"] % 8 == 0
        assert limits["num_nodes"] <= 64 and 4 <= limits["num_graphs"] <= 12
        assert candidate["num_packs"] >= candidate["lower_bound"]
    assert call(*common[:-1], "few")[0] == 2


def test_a_kept_plan_is_what_build_writes(call: Callable[..., Any], source: str, tmp_path: Path) -> None:
    keep = tmp_path / "plan.parquet"
    status, out, _ = call("plan", source, "--smiles-column", "SMILES", *LIMITS, *FIRST_FIT, "--out", keep)
    assert status == 0 and "packs by first-fit" in out and "bytes a pack before compression" in out
    status, out, _ = call(
        *(
            "build",
            source,
            "--smiles-column",
            "SMILES",
            "--plan",
            keep,
            "--out",
            tmp_path / "out",
            "--workers",
            1,
            "--json",
        )
    )
    [facts] = json.loads(out)["data_sets"].values()
    assert status == 0 and facts["plan"]["algorithm"] == "first-fit" and facts["limits"]["num_nodes"] == 48


@pytest.mark.parametrize("option", ["plan --out", "compare --csv", "suggest --csv", "scan --plot", "report --out"])
def test_a_file_that_is_asked_for_replaces_none_of_another_kind(
    call: Callable[..., Any], source: str, packs: Path, tmp_path: Path, option: str
) -> None:
    command, name = option.split()
    mine = tmp_path / ("thesis.svg" if name == "--plot" else "thesis.csv")
    mine.write_text("SMILES,t\nCCO,1\n")
    given = [packs] if command == "report" else [source, "--smiles-column", "SMILES"]
    given += [] if command in ("report", "suggest") else LIMITS
    kept = {path.name: path.read_bytes() for path in packs.iterdir() if path.name != "README.md"}
    for place in (mine, *([packs / "manifest.json", packs / "plan.parquet"] if name == "--out" else [])):
        status, _, err = call(command, *given, name, place)
        assert status in (1, 2) and f"{place}" in err and "is not replaced: name another file" in err
    assert mine.read_text() == "SMILES,t\nCCO,1\n"
    assert kept == {path.name: path.read_bytes() for path in packs.iterdir() if path.name != "README.md"}


def test_a_file_that_is_asked_for_replaces_one_of_its_kind(
    call: Callable[..., Any], source: str, packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.report.page.inline_svg", lambda picture, prefix: "")  # a page without its pictures
    read = (source, "--smiles-column", "SMILES", "--workers", "1")
    for _ in range(2):
        for command, options in {
            "plan": (*read, *LIMITS, "--out", tmp_path / "p.parquet"),
            "compare": (
                *read,
                *LIMITS,
                "--algorithm",
                "stream",
                "--csv",
                tmp_path / "c.csv",
                "--plot",
                tmp_path / "c.svg",
            ),
            "suggest": (*read, "--num-graphs", "4", "--csv", tmp_path / "s.csv"),
            "scan": (*read, "--plot", tmp_path / "s.png"),
            "report": (packs, "--out", tmp_path / "r.html"),
        }.items():
            assert call(command, *options)[0] == 0


def test_build_verify_and_inspect(call: Callable[..., Any], packs: Path, tmp_path: Path) -> None:
    assert len(PackDataset(packs)) >= 4
    status, out, _ = call("verify", packs, "--workers", 1)
    assert status == 0 and f"{packs}: sound" in out and "40 graphs checked" in out
    status, out, _ = call("inspect", packs)
    assert status == 0 and "40 in the source, 40 packed, 0 skipped" in out
    status, out, _ = call("inspect", packs, "--pack", 0)
    assert status == 0 and "[nH]1cccc1" in out, "SMILES are no markup"
    status, out, _ = call("inspect", packs, "--pack", 0, "--json")
    facts = json.loads(out)
    ids = PackDataset(packs).graph_ids(0)
    assert [graph["graph"] for graph in facts["graphs"]] == [i for i in ids.tolist() if i >= 0]
    assert facts["graphs"][1]["sizes"] == [6, 12] and facts["graphs"][1]["strings"] == "c1ccccc1"
    status, _, err = call("inspect", packs, "--pack", 99)
    assert status == 1 and "there is no pack 99: " in err


def test_verify_tells_faults_and_its_exit_status(call: Callable[..., Any], packs: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in packs.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    shard = copy / "shard-00000.parquet"
    data = bytearray(shard.read_bytes())
    data[100] ^= 4
    shard.write_bytes(data)
    status, out, err = call("verify", copy, "--workers", 1)
    assert status == 1 and "faults" in out and "shard-00000.parquet, block 0" in err
    status, out, _ = call("verify", copy, "--workers", 1, "--json")
    [report] = json.loads(out)["data_sets"].values()
    assert status == 1 and not report["ok"] and report["faults"][0]["file"] == "shard-00000.parquet"


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--num-nodes", "48", "--num-edges", "100", "--num-graphs", "1"], "num_graphs must be at least 2"),
        (
            ["--num-nodes", "4", "--num-edges", "100", "--num-graphs", "8"],
            "num_nodes is 4, but null_graphs='all'",
        ),
        (["--num-nodes", "48"], "limits are missing: give --num-edges, --num-graphs, or --limits auto"),
        (["--num-nodes", "many", "--num-edges", "1", "--num-graphs", "2"], "--num-nodes must be a whole number; got"),
        ([*LIMITS, "--limits", "auto"], "--limits auto chooses the limits: leave --num-nodes"),
        ([*LIMITS, "--algorithm", "optimum"], "Did you mean 'optimal'?"),
        ([*LIMITS, "--null-graphs", "some"], "--null-graphs must be one of all, one, jraph, none; got 'some'"),
        ([*LIMITS, "--null-graphs", "none"], "leaves no place for padding"),
        (
            [*LIMITS, "--oversize", "trim"],
            "--oversize must be one of error, skip, trim-nodes, trim-edges, trim-both; got 'trim'",
        ),
        ([*LIMITS, "--splits", "a=0.5"], "the shares of the splits must add up to 1"),
        ([*LIMITS, "--field", "x"], "--field takes NAME=VALUE; got 'x'"),
        ([*LIMITS, "--field", "x=nod"], "--field x must be one of node, edge, graph; got 'nod'. Did you mean 'node'?"),
        ([*LIMITS, "--on-empty", "skp"], "--on-empty must be one of error, skip; got 'skp'. Did you mean 'skip'?"),
        ([*LIMITS, "--time-limit", "-3"], "--time-limit must be above 0; got -3"),
        (["--limits", "atuo"], "or a share such as 0.95; got 'atuo'. Did you mean 'auto'?"),
        (["--limits", "max"], "--limits max needs --num-graphs G"),
        ([*LIMITS, "--pad", "x=red"], "--pad takes NAME=NUMBER, or NAME=NUMBER,NUMBER,...; got x=red"),
        ([*LIMITS, "--workers", "0"], "greater than or equal to 1"),
        ([*LIMITS, "--algoritm", "optimal"], "--algorithm"),
    ],
)
def test_wrong_usage_is_status_2_before_any_data_is_read(
    call: Callable[..., Any], tmp_path: Path, arguments: list[str], fault: str
) -> None:
    # The file does not exist: reading it would be status 1.
    status, out, err = call("build", "smiles:/nowhere.csv", "--out", tmp_path / "out", *arguments)
    assert status == 2 and fault in " ".join(err.split()) and "Traceback" not in err and out == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["scan", "--plot", "sizes.gif"], "--plot sizes.gif: pictures are written as .svg, .png, .pdf"),
        (["scan", "--plot", "/nowhere/sizes.svg"], "--plot /nowhere/sizes.svg cannot be written: there is no folder"),
        (["scan", "--null-graphs", "some"], "--null-graphs must be one of all, one, jraph, none"),
        (["compare", "--limits", "auto", "--csv", "/nowhere/c.csv"], "there is no folder /nowhere"),
        (["compare", "--limits", "auto", "--csv", "/"], "--csv / is a folder"),
        (["plan", "--limits", "auto", "--out", "/nowhere/p.parquet"], "--out /nowhere/p.parquet cannot be written"),
        (["suggest", "--num-graphs", "1"], "num_graphs must be slots or (least, most), at least 2; got (1, 1)"),
        (["suggest", "--num-graphs", "5:2"], "at least 2; got (5, 2)"),
        (["suggest", "--num-graphs", "2:x"], "--num-graphs takes a number or LEAST:MOST; got '2:x'"),
        (["suggest", "--max-bytes", "-5"], "--max-bytes must be above 0; got -5"),
        (["suggest", "--time-limit", "0"], "--time-limit must be above 0; got 0"),
    ],
)
def test_options_are_checked_before_the_source_is_read(
    call: Callable[..., Any], arguments: list[str], fault: str
) -> None:
    command, *rest = arguments
    status, out, err = call(command, "smiles:/nowhere.csv", *rest)
    assert status == 2 and fault in " ".join(err.split()) and out == ""


@pytest.mark.parametrize(
    ("arguments", "status", "fault"),
    [
        (["scan", "smiles:/nowhere.csv"], 1, "cannot read /nowhere.csv: No such file or directory"),
        (["scan", "sample:other"], 2, "unknown sample 'other'; there are sample:nci"),
        (["scan", "tudatasets:MUTAG"], 2, "did you mean 'tudataset'?"),
        (["verify", "/nowhere"], 1, "holds no packs: neither manifest.json nor splits.json"),
        (["inspect", "/nowhere"], 1, "holds no packs"),
        (["bild"], 2, "Did you mean 'build'?"),
        (["scan", "pyg:no_such_module:load"], 1, "no module named 'no_such_module'"),
        (["scan", "pyg:json:laod"], 1, "pyg:json:laod: json has no 'laod'. Did you mean 'load'?"),
        (["scan", "pyg:json:packs"], 1, "What can be called there: JSONDecodeError"),
    ],
)
def test_faults_and_their_status(call: Callable[..., Any], arguments: list[str], status: int, fault: str) -> None:
    found, _, err = call(*arguments)
    assert found == status and fault in " ".join(err.split()) and "Traceback" not in err


def test_a_missing_column_lists_the_columns(call: Callable[..., Any], source: str) -> None:
    status, out, err = call("scan", source, "--json", "--workers", 1)
    assert status == 1 and "has no column 'smiles'" in err and "Its columns are: SMILES, t" in err
    assert json.loads(out) == {"error": err.splitlines()[0].removeprefix("graph-pack: "), "status": 1}


def test_a_job_file_holds_the_options_and_the_command_line_overrides(
    call: Callable[..., Any], source: str, tmp_path: Path
) -> None:
    job = tmp_path / "job.toml"
    job.write_text(
        f'source = "{source}"\nsmiles-column = "SMILES"\ntarget = ["t"]\nalgorithm = "first-fit"\nworkers = 1\n'
        f'num_nodes = 48\nnum-edges = 100\nnum_graphs = 8\nout = "{tmp_path / "out"}"\n[splits]\na = 0.5\nb = 0.5\n'
    )
    status, out, _ = call("build", "--config", job, "--json", "--num-nodes", 60)
    facts = json.loads(out)["data_sets"]
    assert status == 0 and list(facts) == [str(tmp_path / "out" / name) for name in "ab"]
    assert facts[str(tmp_path / "out" / "a")]["limits"]["num_nodes"] == 60
    for line, fault in (
        ("num_node = 3", "unknown key 'num_node'; did you mean 'num_nodes'?"),
        ('num_graphs = "8"', "num_graphs: input should be a valid integer; got '8'"),
        ("= 3", "is not TOML"),
        ("splits = " + "[" * 100_000, "is not TOML"),
    ):
        job.write_text(line + "\n")
        status, _, err = call("build", "--config", job)
        assert status == 2 and fault in err
    assert call("build", "--config", tmp_path / "gone.toml")[0] == 2


def test_a_job_file_may_hold_every_option() -> None:
    known = {field.alias or name for name, field in JobFile.model_fields.items()}
    for name, command in get_command(app).commands.items():  # pyright: ignore[reportAttributeAccessIssue]
        options = {flag[2:].replace("-", "_") for option in command.params for flag in option.opts if flag[:2] == "--"}
        if "config" in options:
            assert options - {"config", "help"} <= known, name


def test_help_has_an_example_for_each_command(call: Callable[..., Any]) -> None:
    names = [command.name for command in app.registered_commands]
    first, then = ["scan", "suggest", "compare", "plan", "build", "verify", "inspect"], ["train", "doctor"]
    assert names == [*first, "audit", "report", *then]
    for name in names:
        status, out, _ = call(name, "--help")
        assert status == 0 and f"Example: graph-pack {name}" in " ".join(out.split())


def test_version_and_doctor(call: Callable[..., Any]) -> None:
    assert call("--version") == (0, f"graph-pack {__version__}\n", "")
    status, out, _ = call("doctor", "--json")
    assert status == 0 and json.loads(out)["packages"]["pyarrow"]


def test_doctor_says_what_to_install(call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.cli import tools as cli_tools

    known = cli_tools._version
    monkeypatch.setattr(cli_tools, "_version", lambda name: None if name in ("matplotlib", "numba") else known(name))
    status, out, _ = call("doctor")
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert status == 0 and "pip install 'graph-packer[report]'" in lines["matplotlib"]
    assert "missing" in lines["numba"] and "pip install 'graph-packer[optimal]'" in lines["numba"]
    assert known("numpy") in lines["numpy"] and "pip install" not in lines["numpy"]
    monkeypatch.setattr(cli_tools, "_version", lambda name: None)
    assert call("doctor")[0] == 1, "nothing works without numpy and pyarrow"


def test_wrong_usage_is_json_too(call: Callable[..., Any]) -> None:
    for arguments in (["scan", "--json"], ["doctor", "--jsn", "--json"], ["verify", "--json", "--worker", "2", "x"]):
        status, out, err = call(*arguments)
        assert status == 2 and json.loads(out)["status"] == 2 and err


def test_no_traceback_for_a_fault_of_ours(call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.cli.scan.survey_source", None)
    monkeypatch.delenv("GRAPH_PACK_TRACEBACK", raising=False)
    status, _, err = call("scan", "sample:nci", "--workers", 1)
    assert status == 1 and "a fault of graph-pack: TypeError" in err and "Traceback" not in err


def test_the_command_works_beside_folders_of_the_same_names(tmp_path: Path, source: str) -> None:
    for name in ("packer", "pipelines"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong package')\n")
    command = Path(sys.executable).parent / "graph-pack"
    if not command.exists():
        pytest.skip(f"graph-pack is not installed beside {sys.executable}")
    done = subprocess.run(
        [command, "build", source, "--smiles-column", "SMILES", *LIMITS, "--out", "out", "--workers", "2"]
        + ["--algorithm", "first-fit"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "manifest.json").is_file()


def test_the_entry_names_what_it_misses() -> None:
    code = (
        "import sys; sys.modules['rich'] = None\n"
        "from pipelines.entry import main\n"
        "status = main(['doctor'])\n"
        "assert 'pipelines.cli.app' not in sys.modules and 'typer' not in sys.modules\n"
        "raise SystemExit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr == "graph-pack needs rich: pip install 'graph-packer[cli]'\n"


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"splits": [1' + "0" * 5000 + "]}", "{}"], ids=["nested", "long", "none"]
)
def test_a_list_of_splits_that_is_none_is_told(call, tmp_path, text) -> None:
    (tmp_path / "splits.json").write_text(text)
    status, _, err = call("verify", tmp_path)
    assert status == 1 and "splits.json of" in err and "is not a list of splits" in err
