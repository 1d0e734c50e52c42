"""Text of data where it is shown: it controls no terminal, is no tag in Markdown or HTML, no formula in pictures."""

import json
import re
import unicodedata
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from packer import GraphSizes, PackLimits
from packer.shards import Manifest
from pipelines import build
from pipelines.building.card import card_text, write_card
from pipelines.cli import output as cli_output
from pipelines.entry import main
from pipelines.report.command import _quoted
from pipelines.report.figures import algorithms, fill_over_packs, padding_by_level, size_histogram
from pipelines.report.pack_drawing import draw_pack, draw_text, read_pack
from pipelines.report.style import escape, inline_svg, save_picture
from pipelines.text.clean import as_code, from_markdown, in_markdown, in_picture, line, stored

TEXTS = st.text(st.characters(codec=None), max_size=80) | st.text("\x1b\n\r\t\x7f\x9b\u202e\udcff<>&\\`*_[]#$|!~-+1. ")
EVIL = "\x1b[31m$x_{$</title><script>\n# h\u202e`|"
CONTROL = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def harmless(text: str, newlines: bool = True) -> bool:
    return all(unicodedata.category(sign) not in CONTROL or (newlines and sign == "\n") for sign in text)


@given(TEXTS)
def test_a_line_is_printable_and_encodes(text: str) -> None:
    assert line(text).isprintable()
    assert (line(text).encode() and True) or text == ""
    assert line(line(text)) == line(text), "shown twice, it stays"
    assert text.isprintable() == (line(text) == text)
    assert stored(text).encode().decode() == stored(text)
    assert "\n" not in escape(text) and "<" not in escape(text) and '"' not in escape(text)


@given(TEXTS)
def test_markdown_of_a_text_gives_the_text_back_and_holds_no_tag(text: str) -> None:
    words = in_markdown(text)
    assert words.isprintable() and "<" not in words and ">" not in words
    assert from_markdown(words) == line(text)
    assert not re.match(r"#|[-+*]( |$)|\d+[.)]( |$)", words)
    assert not re.search(r"(?<!\\)(\\\\)*[`*\[\]|$]", words), "every sign with a meaning stands behind a backslash"
    code = as_code(text)
    assert code == words or (code == f"`{text}`" and "`" not in text and "<" not in text)


def test_what_a_text_looks_like() -> None:
    assert line("a\x1b[31m\n\u202e\x9b\udcff\U000e0041") == r"a\x1b[31m\n\u202e\x9b\xff\U000e0041"
    assert line("Schülerin 図 [C@@H](N)\\C=C") == "Schülerin 図 [C@@H](N)\\C=C"
    assert in_markdown("a__to__b of smiles_column, _x_") == r"a__to__b of smiles_column, \_x\_"
    assert in_markdown("# h") == r"\# h" and in_markdown("1. x") == r"1\. x" and in_markdown("<b>&") == "&lt;b&gt;&amp;"
    assert in_picture("x" * 200) == "x" * 29 + "…" + "x" * 30


def test_every_way_to_the_terminal_is_clean(capfd: pytest.CaptureFixture[str]) -> None:
    cli_output.say(EVIL)
    cli_output.show(EVIL, cli_output.table(EVIL, [EVIL, ("two", "lines")], [[EVIL, 1]], left=1))
    cli_output.show("[bold]no markup[/bold] :smile:")
    out, err = capfd.readouterr()
    assert harmless(out) and harmless(err)
    assert err.count("\n") == 1 and r"\x1b[31m" in out and "[bold]no markup[/bold] :smile:" in out
    cli_output.show_json({EVIL: [EVIL, "\x7f", float("nan"), float("-inf"), (1.5, np.pi)]})
    out, _ = capfd.readouterr()
    assert harmless(out) and out.isascii()
    assert json.loads(out, parse_constant=lambda word: pytest.fail(word)) == {
        EVIL: [EVIL, "\x7f", None, None, [1.5, np.pi]]
    }


@settings(max_examples=4, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(st.lists(TEXTS.filter(bool), min_size=3, max_size=3, unique=True))
def test_pictures_do_not_fail_whatever_the_names(names: list[str]) -> None:
    a, b, relation = names
    sizes = GraphSizes({a: np.array([3, 4]), b: np.array([1, 2])}, {(a, relation, b): np.array([2, 2])})
    keys = [axis.key for axis in sizes.axes]
    drawn = [
        size_histogram(sizes, keys[0]),
        padding_by_level(dict.fromkeys(keys, 0.5)),
        fill_over_packs(np.ones((2, 3)), dict.fromkeys(keys, 4)),
        algorithms([(name, 3 + at) for at, name in enumerate(names)], 3),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for picture in drawn:
            assert harmless(inline_svg(picture, "p"))
            assert harmless(picture.alt, newlines=False) and harmless(picture.title, newlines=False)


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
@pytest.mark.parametrize("name", ["$x_{$", "_hidden", "a" * 5000, "図🙂", EVIL])
def test_files_of_pictures_take_every_name(tmp_path: Path, kind: str, name: str) -> None:
    path = tmp_path / f"p.{kind}"
    save_picture(algorithms([(name, 4), ("b", 3)], 3), path)
    assert path.stat().st_size > 1000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set whose node types, fields and licence are as bad as they may be."""
    import torch
    from torch_geometric.data import HeteroData

    data, (one, two) = HeteroData(), ("_$x_{$\x1b[31m", "<script>\u202e|`# b")
    data[one].x, data[two].x = torch.ones(3, 2), torch.ones(3, 1)
    data[one, "$to$\x9b", two].edge_index = torch.tensor([[0, 1, 2], [1, 2, 0]])
    out = tmp_path_factory.mktemp("evil") / "packs"
    build([data] * 3, out, PackLimits(8, 8, 2), algorithm="stream", workers=1, licence=EVIL)
    return out


def test_commands_show_a_hostile_data_set_harmlessly(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for arguments in (["inspect"], ["inspect", "--pack", "0"], ["inspect", "--json"], ["verify"], ["report"]):
        command, *rest = arguments
        assert main([command, str(folder), *rest]) == 0
        out, err = capfd.readouterr()
        assert harmless(out) and harmless(err), arguments
    page, card = (folder / "report.html").read_text(), (folder / "README.md").read_text()
    assert harmless(page) and "<script" not in page and r"&lt;script&gt;\u202e" in page
    assert harmless(card) and "<" not in card.replace("```", "")
    assert [text for text in card.splitlines() if text.startswith("#")] == [
        "# packs",
        "## Packs",
        "## Source",
    ]
    assert main(["inspect", str(folder), "--pack", "0", "--plot", str(folder / "p.png")]) == 0
    assert harmless(draw_text(read_pack(folder, 0)))
    assert "_$x_{$" in draw_pack(read_pack(folder, 0)).figure.legends[0].get_texts()[0].get_text()


def test_a_licence_stays_the_same_however_often_the_card_is_written(folder: Path) -> None:
    write_card(folder)
    first = (folder / "README.md").read_text()
    assert first == card_text(Manifest.load(folder), "packs", " ".join(EVIL.split()))
    write_card(folder)
    assert (folder / "README.md").read_text() == first


def test_the_command_to_repeat_a_build_is_printable_and_exact(tmp_path: Path) -> None:
    import os
    import subprocess

    for word in ("plain", "two words", "it's", "b\udcff\x1b[31m.csv", "\u202e'\\n\n", "é\x7f"):
        assert _quoted(word).isprintable()
        done = subprocess.run(["bash", "-c", f"printf %s {_quoted(word)}"], capture_output=True, check=True)
        assert done.stdout == os.fsencode(word)


def test_texts_of_a_csv_reach_neither_terminal_nor_card_raw(tmp_path: Path, capfd: Any) -> None:
    (tmp_path / "m\x1b[2J.csv").write_text('smiles,"t\x1b[1m"\nCCO,1\n"\x1b]0;owned\x07\u202e",2\n')
    source = f"smiles:{tmp_path}/m\x1b[2J.csv"
    for command, *rest in (
        ["scan", "--on-empty", "skip"],
        ["scan", "--target", "gone"],
        ["scan"],
        ["build", "--out", str(tmp_path / "o"), "--on-empty", "skip", "--limits", "auto", "--algorithm", "stream"],
        ["build", "--out", str(tmp_path / "q"), "--limits", "auto"],
        ["scan", "--plot", "\x1b.gif"],
        ["scan", "--\x1b"],
    ):
        main([command, source, "--workers", "1", *rest])
        out, err = capfd.readouterr()
        assert harmless(out) and harmless(err) and (out or err)
    assert harmless((tmp_path / "o" / "README.md").read_text())
