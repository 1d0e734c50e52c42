"""Reports, pictures and cards: what they state is what is in the folder, and a browser shows them without complaint."""

import csv
import html.parser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from packer import GraphSizes, PackDataset, PackLimits, audit_packs, make_plan, suggest_limits, verify_shards
from packer.errors import FormatError, MissingExtraError, PackerError
from packer.shards import Manifest
from pipelines.building.card import card_text, write_card
from pipelines.entry import main
from pipelines.report import figures
from pipelines.report.facts import read_facts
from pipelines.report.pack_drawing import draw_pack, draw_text, read_pack
from pipelines.report.page import page as page_of
from pipelines.report.report import write_report
from pipelines.report.style import inline_svg, save_picture

LIMITS = ("--num-nodes", "24", "--num-edges", "44", "--num-graphs", "5")
SMILES = ["CCO", "c1ccccc1", "CC(=O)O", "C1CCNC1", "not a molecule"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """80 molecules that parse and 20 that do not, in packs under best fit; built where `molecules.csv` lies."""
    place = tmp_path_factory.mktemp("report")
    rows = "".join(f"{smiles},{i}\n" for i, smiles in enumerate(SMILES * 20))
    (place / "molecules.csv").write_text("smiles,t\n" + rows)
    options = ["--target", "t", "--on-empty", "skip", "--algorithm", "best-fit-decreasing", "--workers", "1"]
    assert main(["build", f"smiles:{place / 'molecules.csv'}", "--out", str(place / "packs"), *LIMITS, *options]) == 0
    return place / "packs"


@pytest.fixture(scope="module")
def page(folder):
    return write_report(folder)[0].read_text()


class Reader(html.parser.HTMLParser):
    """Collects elements with their attributes, and the text outside of <style>."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def test_the_page_needs_nothing_else(page):
    links = re.findall(r"""(?:src|href)=["']([^"']+)|url\(["']?([^"')]+)|@import ([^;]+)""", page)
    targets = [next(filter(None, found)) for found in links]
    assert targets
    assert all(target.startswith(("#", "data:")) for target in targets)
    assert "<script" not in page
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport" content="width=device-width' in page


def test_ids_are_unique_and_every_reference_has_its_target(page):
    ids = [attrs["id"] for _, attrs in Reader(page).elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', page))
    assert used
    assert used <= set(ids)


def test_every_picture_has_an_alternative_text(page):
    pictures = [attrs for tag, attrs in Reader(page).elements if tag == "svg"]
    # Nodes, edges, both; fill, padding, graphs per pack; sizes along the epoch, companions, weights; algorithms.
    assert len(pictures) == 10
    assert all(attrs["role"] == "img" and len(attrs["aria-label"]) > 30 for attrs in pictures)
    assert "80 graphs, from 3 to 6" in pictures[0]["aria-label"]


def test_the_page_states_what_is_in_the_folder(page, folder):
    manifest, text = Manifest.load(folder), Reader(page).text
    assert f"{manifest.num_packs} packs:" in text
    assert "80 graphs packed of 100" in text
    assert "24 nodes, 44 edges, 5 graphs (padding included; null graphs: all)" in text
    for shard in manifest.shards:
        assert shard.sha256 in text
    assert manifest.sha256 in text and manifest.content_hash in text
    assert "RDKit cannot parse the SMILES 20" in text
    assert "Verified: every checksum and every invariant holds." in text
    # 20 times 3, 6, 4 and 5 heavy atoms.
    assert f"{100 * 360 / (24 * manifest.num_packs):.1f} % of the node slots are real" in text
    for name in ("pad-to-max", "stream", "first-fit", "histogram", "best-fit-decreasing"):
        assert name in text


def test_the_page_says_what_packs_do_to_learning(page, folder):
    found, text = audit_packs(folder), Reader(page).text
    assert len(found.verdicts) == 5 and all(verdict.text in text for verdict in found.verdicts)
    assert "10 shuffled epochs, 1 pack a step, seed 0." in text


def test_an_audit_that_fails_is_told_on_the_page(folder, monkeypatch):
    def fails(*_, **__):
        raise FormatError("graphs.parquet leaves slots free")

    monkeypatch.setattr("pipelines.report.facts.audit_packs", fails)
    assert "This could not be told: graphs.parquet leaves slots free" in page_of([read_facts(folder, verify=False)])


def test_a_damaged_byte_is_on_the_page(folder, tmp_path):
    copy = tmp_path / "packs"
    shutil.copytree(folder, copy)
    path = copy / "graphs.parquet"
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    with pytest.raises(FormatError, match=r"graphs\.parquet"):
        read_facts(copy)  # sizes come from that file: no page can be honest


def test_a_damaged_shard_is_told_on_the_page(folder, tmp_path, capsys):
    copy = tmp_path / "packs"
    shutil.copytree(folder, copy)
    path = copy / "shard-00000.parquet"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    assert main(["report", str(copy), "--out", str(tmp_path)]) == 1
    text = Reader((tmp_path / "report.html").read_text()).text
    assert re.search(r"\d faults found when verifying: shard-00000.parquet, block 0: CRC-32 is", text)
    assert "faults found: the page lists them" in capsys.readouterr().err


def test_real_rows_are_those_of_the_shards(folder):
    dataset = PackDataset(folder)
    real = [
        [int(dataset[i][f"{level}_mask"].sum()) for level in ("nodes", "edges", "graphs")] for i in range(len(dataset))
    ]
    assert read_facts(folder, verify=False).num_real.tolist() == real


def test_what_is_written_beside_the_packs_is_no_fault(folder, page):
    write_card(folder)
    assert verify_shards(folder).ok


def test_splits_share_a_page(folder, tmp_path, capsys):
    source = f"smiles:{folder.parent / 'molecules.csv'}"
    options = ["--target", "t", "--on-empty", "skip", "--algorithm", "stream", "--workers", "1", "--split-seed", "7"]
    assert main(["build", source, "--out", str(tmp_path / "s"), *LIMITS, *options, "--splits", "a=0.5,b=0.5"]) == 0
    assert main(["report", str(tmp_path / "s"), "--licence", "CC0"]) == 0
    text = (tmp_path / "s" / "report.html").read_text()
    assert 'href="#a"' in text and 'id="b"' in text
    assert "--splits a=0.5,b=0.5 --split-seed 7" in text
    assert "Licence of the source: CC0" in (tmp_path / "s" / "b" / "README.md").read_text()
    ids = [attrs["id"] for _, attrs in Reader(text).elements if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_hostile_names_are_text(folder):
    facts = read_facts(folder, verify=False)
    from dataclasses import replace

    from pipelines.report.page import page

    evil = replace(facts, manifest=replace(facts.manifest, source={"kind": "<script>alert(1)</script>"}), build={})
    text = page([evil])
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_reports_of_no_packs(tmp_path):
    with pytest.raises(FormatError, match="holds no packs"):
        write_report(tmp_path)


def test_the_card_loads_the_packs(folder, tmp_path, monkeypatch, capsys):
    copy = tmp_path / "packs"
    shutil.copytree(folder, copy)
    text = write_card(copy, "molecules").read_text()
    assert text == card_text(Manifest.load(copy), "molecules")
    assert text.startswith("# molecules\n")
    assert "* 20 left out or trimmed: RDKit cannot parse the SMILES" in text
    monkeypatch.chdir(copy)
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], {})
    assert "x=[24, 9]" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["hetero", "without features"])
def test_the_card_fits_any_graphs(kind, tmp_path, monkeypatch, capsys):
    import torch
    from torch_geometric.data import Data, HeteroData

    from pipelines import build

    data, ring = HeteroData(), torch.tensor([[0, 1, 2], [1, 2, 0]])
    data["a"].x, data["b"].x, data["a", "to", "b"].edge_index = torch.ones(3, 2), torch.ones(3, 1), ring
    graphs = [data if kind == "hetero" else Data(edge_index=ring, num_nodes=3)] * 3
    build(graphs, tmp_path / "packs", PackLimits(8, 8, 2), algorithm="stream", workers=1)
    text = (tmp_path / "packs" / "README.md").read_text()
    monkeypatch.chdir(tmp_path / "packs")
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], {})
    assert "edge_index=[2, " in capsys.readouterr().out
    assert ("a nodes, 8 b nodes, 8 a__to__b edges" if kind == "hetero" else "8 nodes, 8 edges") in text
    assert "1 Parquet shard," in text and "3 graphs in " in text


def test_the_card_keeps_what_it_was_told(folder, tmp_path):
    """A licence given to the build stays when a report writes the card anew; sources are listed, not printed."""
    source = [f"smiles:{folder.parent / 'molecules.csv'}", "--on-empty", "skip", "--algorithm", "stream"]
    command = ["build", *source, *LIMITS, "--out", str(tmp_path / "p"), "--workers", "1"]
    card = tmp_path / "p" / "README.md"
    assert main([*command, "--licence", "CC BY 4.0"]) == 0
    assert card.read_text().endswith("Licence of the source: CC BY 4.0.\n")
    assert main(["report", str(tmp_path / "p")]) == 0
    assert card.read_text().endswith("Licence of the source: CC BY 4.0.\n")
    assert main([*command, "--licence", "MIT"]) == 0, "the same build, and a licence corrected"
    assert card.read_text().endswith("Licence of the source: MIT.\n")
    assert "\n* file: molecules.csv\n" in card.read_text() and "{" not in card.read_text()


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    """A ring of 3 nodes (6 directed edges) and a chain of 2 (2 edges), under 9 nodes, 12 edges, 4 slots."""
    import torch
    from torch_geometric.data import Data

    from pipelines import build

    ring = torch.tensor([[0, 1, 2, 1, 2, 0], [1, 2, 0, 0, 1, 2]])
    chain = torch.tensor([[0, 1], [1, 0]])
    graphs = [Data(x=torch.zeros(3, 1), edge_index=ring), Data(x=torch.zeros(2, 1), edge_index=chain)]
    out = tmp_path_factory.mktemp("pack") / "packs"
    build(graphs, out, PackLimits(9, 12, 4), algorithm="stream", workers=1)
    return read_pack(out, 0)


def test_a_pack_as_text(pack):
    # 9 - 5 = 4 padding nodes: two null graphs of 2. 12 - 8 = 4 padding edges.
    assert draw_text(pack).splitlines() == [
        "pack 0: 2 graphs in 4 slots; . is padding",
        "nodes  |00011....| 5 of 9 real",
        "edges  |00000011....| 8 of 12 real",
        "graphs |01..| 2 of 4 real",
    ]


def test_a_pack_as_a_picture(pack, tmp_path):
    picture = draw_pack(pack)
    assert "2 real graphs in 4 slots, 5 of 9 nodes, 8 of 12 edges are real" in picture.alt
    text = inline_svg(picture, "p")
    # Two null graphs of 2 nodes, each with 2 loops.
    assert [text.count(f">{words}<") for words in ("null graph", "×2", "2 n, 2 e", "3 n, 6 e")] == [2, 2, 3, 1]
    save_picture(picture, tmp_path / "pack.png")
    assert (tmp_path / "pack.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(PackerError, match=r"\.svg, \.png or \.pdf"):
        save_picture(picture, tmp_path / "pack.gif")
    save_picture(draw_pack(pack), tmp_path / "one.svg")
    save_picture(draw_pack(pack), tmp_path / "two.svg")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_numbers_in_alternative_texts():
    sizes = GraphSizes(np.array([2, 2, 3, 9]), np.array([2, 2, 4, 40]))
    # Mean of 2, 2, 3 and 9 nodes: 4.
    assert figures.size_histogram(sizes, "node").alt == (
        "Histogram of nodes per graph: 4 graphs, from 2 to 9, mean 4.0."
    )
    joint = figures.joint_histogram(sizes)
    assert joint is not None and "3 distinct sizes, nodes 2 to 9, edges 2 to 40" in joint.alt
    held = figures.graphs_per_pack(np.array([3, 5, 4, 4]), 6)
    assert "3 to 5 of 6 slots, mean 4.0, standard deviation 0.7" in held.alt
    fill = figures.fill_over_packs(np.array([[5, 1], [10, 2]]), {"node": 10, "graph": 4})
    # Nodes 50 and 100 %, graphs 25 and 50 %.
    assert "nodes 75.0 % (from 50.0 to 100.0 %), graphs 37.5 % (from 25.0 to 50.0 %)" in fill.alt
    assert "nodes 93.4 %" in figures.padding_by_level({"node": 0.934, "graph": 0.5}).alt
    plans = [make_plan(sizes, PackLimits(14, 46, 4), name) for name in ("pad-to-max", "first-fit-decreasing")]
    assert "no plan has fewer than" in figures.compared(plans).alt
    found = suggest_limits(sizes, work_limit=0)
    assert f"for {len(found.front)} limits" in figures.suggested(found).alt
    hetero = GraphSizes({"a": np.array([1, 2]), "b": np.array([1, 1])}, {("a", "to", "a"): np.array([0, 3])})
    assert figures.joint_histogram(hetero) is None
    assert "a__to__a edges per graph" in figures.size_histogram(hetero, "a__to__a").alt


def test_a_pack_of_several_types_as_a_picture(tmp_path):
    import torch
    from torch_geometric.data import HeteroData

    from pipelines import build

    data = HeteroData()
    data["a"].x, data["b"].x = torch.ones(2, 1), torch.ones(3, 1)
    data["a", "to", "b"].edge_index = torch.tensor([[0, 0, 1], [0, 1, 2]])
    data["b", "by", "b"].edge_index = torch.tensor([[0], [1]])
    edges = {("a", "to", "b"): 8, ("b", "by", "b"): 5}
    limits = PackLimits({"a": 6, "b": 8}, edges, 3)
    build([data], tmp_path / "packs", limits, algorithm="stream", workers=1)
    picture = draw_pack(read_pack(tmp_path / "packs", 0))
    counts = "2 of 6 a nodes, 3 of 8 b nodes, 3 of 8 a__to__b edges, 1 of 5 b__by__b edges are real"
    assert f"1 real graph in 3 slots, {counts}" in picture.alt
    text = inline_svg(picture, "p")
    # Two null graphs share 4 + 5 nodes, 2 + 3 and 2 + 2, and 5 + 4 edges: 3 + 2 and 2 + 2, the latter loops.
    found = [text.count(f">{words}<") for words in ("5 n, 4 e", "5 n, 5 e", "4 n, 4 e", "×3", "×2", "a/mask")]
    assert found == [1, 1, 1, 1, 3, 1]


def test_limits_alike_in_size_have_numbers_on_their_axis():
    nodes = np.full(40, 5)
    for kw in ({"num_graphs": 6}, {"num_graphs": (2, 40)}):
        found = suggest_limits(GraphSizes(nodes, 2 * nodes), work_limit=0, **kw)
        text = inline_svg(figures.suggested(found), "p")
        ticks = re.search(r'id="p-matplotlib.axis_1">(.*?)id="p-matplotlib.axis_2">', text, re.DOTALL)[1]
        assert len(re.findall(r">[\d.]+</text>", ticks)) >= 2, kw


def test_parts_of_a_graph_stay_together():
    from pipelines.report.pack_drawing import _layout

    rings = np.array([[0, 1, 2, 3, 4, 5], [1, 2, 0, 4, 5, 3]])
    where = _layout(6, np.concatenate([rings, rings[::-1]], axis=1))
    apart = np.linalg.norm(where[:, None] - where[None], axis=-1)[np.triu_indices(6, 1)]
    # In a square of side 2: nodes of 4.5 points in a cell of about 80 are apart from 0.15 on.
    assert apart.min() > 0.3


def test_bins_hold_the_same_share_of_what_may_occur():
    # Even numbers from 2 to 20: ten of them, in five bins of two each.
    edges = figures._bin_edges(np.arange(2, 22, 2), 5)
    assert edges.tolist() == [1, 5, 9, 13, 17, 21]
    assert figures._bin_edges(np.arange(3, 8), 60).tolist() == [2.5, 3.5, 4.5, 5.5, 6.5, 7.5]
    assert figures._bin_edges(np.array([4]), 60).tolist() == [3.5, 4.5]
    # 121 numbers in at most 48 bins: 41 of three.
    edges = figures._bin_edges(np.arange(2, 123), 48)
    assert len(edges) == 42 and set(np.diff(edges)) == {3.0} and edges[-1] >= 122


def test_pictures_say_what_they_show(pack, tmp_path):
    from PIL import Image

    picture = draw_pack(pack)
    save_picture(picture, tmp_path / "pack.png")
    with Image.open(tmp_path / "pack.png") as image:
        assert image.info["Description"] == picture.alt
    save_picture(picture, tmp_path / "pack.svg")
    assert f"<dc:description>{picture.alt}" in (tmp_path / "pack.svg").read_text()
    assert picture.alt not in re.sub(r'aria-label="[^"]*"', "", inline_svg(picture, "p"))


def test_without_matplotlib_the_error_names_the_extra(monkeypatch, folder):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"graph-packer\[report\]"):
        write_report(folder)


def test_commands_draw_and_keep_tables(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    source = ("smiles:" + str(folder.parent / "molecules.csv"), "--target", "t", "--on-empty", "skip", "--workers", "1")
    assert main(["scan", *source, "--plot", "sizes.svg"]) == 0
    assert sorted(p.name for p in Path().glob("sizes*.svg")) == ["sizes-2.svg", "sizes-3.svg", "sizes.svg"]
    names = ("--algorithm", "stream", "--algorithm", "histogram")
    assert main(["compare", *source, *LIMITS, *names, "--csv", "c.csv", "--plot", "c.png"]) == 0
    with Path("c.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["algorithm"] for row in rows] == ["stream", "histogram"]
    assert float(rows[0]["fill_node"]) > 0 and int(rows[0]["packs"]) >= int(rows[0]["bound"])
    assert (
        main(["suggest", *source, "--num-graphs", "5", "--max-nodes", "40", "--csv", "s.csv", "--plot", "s.svg"]) == 0
    )
    with Path("s.csv").open() as file:
        assert all(row["num_graphs"] == "5" and int(row["num_nodes"]) <= 40 for row in csv.DictReader(file))
    assert main(["inspect", str(folder), "--pack", "0", "--plot", "pack.svg"]) == 0
    assert "is padding" in capsys.readouterr().out
    assert all(Path(name).stat().st_size > 1000 for name in ("c.png", "s.svg", "pack.svg"))
    assert main(["inspect", str(folder), "--plot", "pack.svg"]) == 2


FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr"]


def chromium(place, address, *more):
    """Run a browser that knows no network; its standard output. Fails where the page complains."""
    done = subprocess.run(
        ["chromium", *FLAGS, "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={place / 'profile'}", *more]
        + [address],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ":CONSOLE:" not in done.stderr and "CONSOLE(" not in done.stderr, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_browser_shows_the_page_without_complaint(page, folder, tmp_path):
    from PIL import Image

    shots = {}
    for name, extra in (("light", []), ("dark", ["--blink-settings=preferredColorScheme=0"])):
        picture = tmp_path / f"{name}.png"
        address = (folder / "report.html").as_uri()
        chromium(tmp_path, address, *extra, "--window-size=400,2000", f"--screenshot={picture}")
        with Image.open(picture) as image:
            shots[name] = np.asarray(image.convert("L"))
    corner = {name: int(shot[-5, 3]) for name, shot in shots.items()}
    assert corner["light"] > 240 and corner["dark"] < 40
    # On a phone nothing hangs over: the last columns hold the page's own margin only.
    assert all(np.ptp(shot[:, -6:]) <= 1 for shot in shots.values())
    assert all(len(np.unique(shot)) > 20 for shot in shots.values())


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_on_a_phone_nothing_has_to_be_moved_sideways(page, tmp_path):
    """In a frame 390 pixels wide neither the page nor a table in it is wider than its place."""
    measure = (
        "<script>const wide = [document.documentElement, ...document.querySelectorAll('.scroll')]"
        ".map(e => e.scrollWidth - e.clientWidth); parent.postMessage(String(Math.max(...wide)), '*')</script>"
    )
    (tmp_path / "page.html").write_text(page.replace("</body>", measure + "</body>"))
    (tmp_path / "phone.html").write_text(
        "<script>onmessage = said => { document.title = 'over by ' + said.data }</script>"
        '<iframe src="page.html" style="width: 390px; height: 800px; border: 0"></iframe>'
    )
    dumped = chromium(tmp_path, (tmp_path / "phone.html").as_uri(), "--virtual-time-budget=5000", "--dump-dom")
    assert "<title>over by 0</title>" in dumped, dumped[:300]


def test_numbers_in_tiles_stand_out_and_hashes_have_their_own_row(page, folder):
    shard = Manifest.load(folder).shards[0]
    assert f'<tr class="hash"><td colspan="4"><code>{shard.sha256}</code>' in page
    # A colour of its own for the proof inside a tile: the rule for tiles must not reach into it.
    assert ".numbers div > span {" in page
