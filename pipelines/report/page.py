"""The HTML of a report: one file, nothing fetched, light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from packer import __version__
from packer.reading.audit_facts import PackAudit
from pipelines.report.audit_figures import learning
from pipelines.report.command import SOURCE, command_of
from pipelines.report.facts import Facts
from pipelines.report.figures import (
    algorithms,
    fill_over_packs,
    graphs_per_pack,
    joint_histogram,
    padding_by_level,
    size_histogram,
)
from pipelines.report.style import Picture, escape, inline_svg
from pipelines.stores.layout import BUILD_FILE
from pipelines.stores.locations import above, name_of
from pipelines.text.plurals import rows_of, some

_STYLE = """
:root { --ink: #111418; --soft: #565d68; --paper: #ffffff; --card: #f3f5f8; --line: #c9ced6; --good: #14735a;
  --bad: #b3261e; --link: #1f66a0; --sans: system-ui, -apple-system, "Segoe UI", "Liberation Sans", sans-serif;
  color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7eaee; --soft: #a3abb7; --paper: #14171c; --card: #1e232a;
  --line: #434b57; --good: #58c9a5; --bad: #ff8a80; --link: #7db8ea; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1rem 1rem 4rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 var(--sans); }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 1rem 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid var(--line); padding-bottom: .2rem; }
h1 + p, figcaption, .soft { color: var(--soft); margin-top: 0; }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .7rem; margin: 1rem 0; }
.numbers div { background: var(--card); border-radius: .5rem; padding: .6rem .8rem; }
.numbers b { display: block; font-size: 1.45rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.numbers div > span { color: var(--soft); font-size: .88rem; overflow-wrap: anywhere; }
.figures { columns: 25rem 2; column-gap: 1rem; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr)); gap: 0 1rem; }
figure { margin: 0 0 1rem; background: var(--card); border-radius: .5rem; padding: .7rem; break-inside: avoid; }
figure svg { display: block; width: 100%; height: auto; max-width: 34rem; margin: 0 auto; }
figcaption { font-size: .85rem; margin: .4rem .2rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; min-width: 20rem;
  margin: .4rem 0; }
th, td { text-align: right; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; color: var(--soft); }
th:first-child, td:first-child, td.text, th.text { text-align: left; }
tr.first td { border-bottom: 0; padding-bottom: 0; }
tr.hash td { padding-top: 0; color: var(--soft); }
@media (max-width: 30rem) { table { font-size: .84rem; } th, td { padding-right: .45rem; } }
code, pre { font-family: ui-monospace, "Liberation Mono", Consolas, monospace; font-size: .86rem; }
code { overflow-wrap: anywhere; }
pre { background: var(--card); border-radius: .5rem; padding: .8rem; overflow-x: auto; white-space: pre-wrap;
  overflow-wrap: anywhere; }
.good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
.said { padding-left: 1.2rem; } .said .good, .said .bad { font-weight: 400; }
nav a { color: var(--link); margin-right: 1rem; }
"""


def page(data_sets: Sequence[Facts]) -> str:
    """The whole document; data_sets: one, or one for each split."""
    several = len(data_sets) > 1
    title = name_of(above(data_sets[0].folder) if several else data_sets[0].folder)
    links = "".join(f'<a href="#{escape(f.name)}">{escape(f.name)}</a>' for f in data_sets) if several else ""
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<link rel="icon" href="data:,">',
        f"<title>{escape(title)}: packed graphs</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}: packed graphs</h1>",
        f"<p>Report of graph-packer {escape(__version__)}.</p>",
        f'<nav aria-label="Splits">{links}</nav>' if several else "",
    ]
    for number, facts in enumerate(data_sets):
        if several:
            parts.append(
                f'<h1 id="{escape(facts.name)}">{escape(facts.name)}</h1><p>One of {len(data_sets)} splits.</p>'
            )
        parts += _data_set(facts, f"d{number}")
    parts.append("</body></html>\n")
    return "\n".join(part for part in parts if part)


def _data_set(facts: Facts, prefix: str) -> Iterable[str]:
    manifest, plan, counts = facts.manifest, facts.manifest.plan, facts.manifest.counts
    stored = sum(shard.bytes for shard in manifest.shards)
    gap = plan["num_packs"] - plan["lower_bound"]
    proof = (
        '<span class="good">no plan has fewer</span>' if gap == 0 else f"at least {plan['lower_bound']:,} are needed"
    )
    yield _numbers(
        [
            (f"{manifest.num_packs:,}", ("pack: " if manifest.num_packs == 1 else "packs: ") + proof),
            (f"{counts.in_packs:,}", f"graphs packed of {counts.graphs:,}"),
            *((f"{100 * share:.1f} %", f"of the {escape(key)} slots are real") for key, share in facts.fill.items()),
            (_bytes(stored), f"in {some(len(manifest.shards), 'shard')}"),
        ]
    )
    yield "<h2>What was packed, and how</h2>" + _table(["", ""], _how(facts), text=(1,))
    sizes = [size_histogram(facts.sizes, axis.key) for axis in facts.sizes.axes]
    yield "<h2>Sizes of the graphs</h2>" + _figures([*sizes, joint_histogram(facts.sizes)], f"{prefix}s")
    bound = int(plan["lower_bound"])
    pictures = [
        fill_over_packs(facts.num_real, facts.slots, facts.sizes.axes),
        padding_by_level(facts.fill, facts.sizes.axes),
        graphs_per_pack(facts.num_real[:, -1], facts.slots["graph"]),
    ]
    yield "<h2>Packs</h2>" + _figures(pictures, f"{prefix}p")
    yield "<h2>Learning</h2>" + _learning(facts.audit, f"{prefix}l")
    compared = algorithms([(row.name, row.packs) for row in facts.rows], bound)
    yield (
        '<h2>Algorithms</h2><div class="pair">'
        + _figures([compared], f"{prefix}a")
        + _table(
            ["algorithm", "packs", "above the bound", "seconds"],
            [
                [row.name, f"{row.packs:,}", f"{100 * (row.packs / bound - 1):.2f} %", _seconds(row.seconds)]
                for row in facts.rows
            ],
        )
        + "</div>"
    )
    yield "<h2>Fields</h2>" + _table(
        ["field", "level", "shape of a row", "dtype", "stored as"],
        [[f.key, f.level, _shape(f.shape), f.dtype, f.storage] for f in manifest.schema.fields]
        + [[name, "graph", "", "string", "graphs.parquet"] for name in manifest.schema.strings],
        text=(1, 2, 3, 4),
    )
    yield "<h2>Left out, and faults</h2>" + _faults(facts)
    yield (
        "<h2>Files</h2>"
        + _files(
            [(s.name, f"{s.packs:,}", f"{s.blocks:,}", f"{s.bytes:,}", s.sha256) for s in manifest.shards]
            + [(name, "", "", f"{entry.bytes:,}", entry.sha256) for name, entry in manifest.files.items()]
        )
        + f'<p class="soft">Manifest: {_code(manifest.sha256)}. Graphs: {_code(manifest.content_hash)}.</p>'
    )
    if facts.build.get("seconds"):
        yield "<h2>Time</h2>" + _times(facts.build)
    yield "<h2>The command to repeat it</h2>" + _command(facts)


def _times(build: Mapping[str, Any]) -> str:
    rows = [[stage, f"{seconds:.2f}"] for stage, seconds in build["seconds"].items()]
    machine = ", ".join(f"{key} {value}" for key, value in build.get("machine", {}).items())
    note = f'<p class="soft">Finished {escape(build.get("finished", "?"))}; {escape(machine)}.</p>'
    return f"{_table(['stage', 'seconds'], rows)}\n{note}"


def _learning(audit: PackAudit | str, prefix: str) -> str:
    """What shuffled epochs do to learning: verdicts, then pictures."""
    if isinstance(audit, str):
        return f'<p class="bad">This could not be told: {escape(audit)}</p>'
    verdicts = "".join(
        f'<li class="{"good" if verdict.good else "bad"}">{escape(verdict.text)}</li>' for verdict in audit.verdicts
    )
    note = f"{some(audit.epochs, 'shuffled epoch')}, {some(audit.batch_size, 'pack')} a step, seed {audit.seed}."
    return f'<ul class="said">{verdicts}</ul>{_figures(learning(audit), prefix)}<p class="soft">{note}</p>'


def _command(facts: Facts) -> str:
    command = command_of(manifest=facts.manifest, folder=facts.folder, build=facts.build)
    note = "For the folder in which the build was started." if "given" in facts.build else ""
    if not note:
        note = f"{BUILD_FILE}, which tells of paths and of the order of the splits, is missing or old: check these."
    if SOURCE in command:
        note = "The graphs were Python objects: name a callable of yours that returns them."
    return f'<pre>{escape(command)}</pre><p class="soft">{note}</p>'


def _how(facts: Facts) -> list[list[Any]]:
    manifest, plan = facts.manifest, facts.manifest.plan
    slots = ", ".join(f"{value:,} {rows_of(key, facts.sizes.axes)}" for key, value in facts.slots.items())
    proven = plan["status"] == "optimal"
    gap = plan["num_packs"] - plan["lower_bound"]
    text = "proven optimal" if proven else f"{some(gap, 'pack')} above what is proven to be needed"
    source = ", ".join(
        f"{key}: {_short(value)}" for key, value in sorted(manifest.source.items()) if key not in ("sha256", "split")
    )
    return [
        ["source", source],
        ["limits of a pack", f"{slots} (padding included; null graphs: {manifest.limits.null_graphs})"],
        ["plan", f"{plan['algorithm']}, seed {plan['seed']}: {text}; stopped by {plan['stopped_by']}"],
        ["bound", f"{some(plan['lower_bound'], 'pack')}; gap {100 * gap / plan['lower_bound']:.2f} %"],
        ["compression", f"{manifest.compression}, {manifest.packs_per_block:,} packs a block"],
        ["versions", ", ".join(f"{name} {version}" for name, version in manifest.versions.items())],
    ]


def _faults(facts: Facts) -> str:
    counts = facts.manifest.counts
    parts: list[str] = []
    if counts.reasons:
        rows = [[reason, f"{number:,}"] for reason, number in counts.reasons.items()]
        parts.append(_table(["why graphs were left out or trimmed", "graphs"], rows))
    else:
        parts.append("<p>Every graph of the source is in a pack, whole.</p>")
    if facts.faults is None:
        parts.append('<p class="soft">The files were not verified for this report.</p>')
    elif facts.faults:
        parts.append(f'<p class="bad">{some(len(facts.faults), "fault")} found when verifying:</p><ul>')
        parts += [f"<li>{escape(fault)}</li>" for fault in facts.faults[:50]] + ["</ul>"]
    else:
        parts.append('<p class="good">Verified: every checksum and every invariant holds.</p>')
    return "".join(parts)


def _figures(pictures: Iterable[Picture | None], prefix: str) -> str:
    shown = [picture for picture in pictures if picture is not None]
    parts = [
        f"<figure>{inline_svg(picture, f'{prefix}{number}')}<figcaption>{escape(picture.alt)}</figcaption></figure>"
        for number, picture in enumerate(shown)
    ]
    return f'<div class="figures">{"".join(parts)}</div>'


def _numbers(items: Iterable[tuple[str, str]]) -> str:
    """Large numbers with a line of HTML each."""
    return f'<div class="numbers">{"".join(f"<div><b>{b}</b><span>{text}</span></div>" for b, text in items)}</div>'


class _Html(str):
    """Text that is HTML already."""


def _code(text: str) -> _Html:
    return _Html(f"<code>{escape(text)}</code>")


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]], text: Sequence[int] = ()) -> str:
    """A table; columns `text` (and the first) are set to the left."""

    def cells(tag: str, row: Sequence[Any]) -> str:
        texts = [
            f"<{tag}{' class=text' if i in text else ''}>{value if isinstance(value, _Html) else escape(value)}</{tag}>"
            for i, value in enumerate(row)
        ]
        return f"<tr>{''.join(texts)}</tr>"

    top = f"<thead>{cells('th', head)}</thead>" if any(head) else ""
    return f'<div class="scroll"><table>{top}<tbody>{"".join(cells("td", row) for row in rows)}</tbody></table></div>'


def _files(rows: Iterable[tuple[str, str, str, str, str]]) -> str:
    """Name, packs, blocks and bytes; the hash below, where a phone has room for it."""
    parts: list[str] = []
    for *cells, sha256 in rows:
        parts.append(f'<tr class="first">{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>')
        parts.append(f'<tr class="hash"><td colspan="4">{_code(sha256)}</td></tr>')
    head = "<tr><th>file, with its SHA-256</th><th>packs</th><th>blocks</th><th>bytes</th></tr>"
    return f'<div class="scroll"><table><thead>{head}</thead><tbody>{"".join(parts)}</tbody></table></div>'


def _seconds(value: float | None) -> str:
    return "built" if value is None else f"{value:.3f}"


def _bytes(number: int) -> str:
    size, unit = float(number), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.2f} {unit}"


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) if shape else "one number"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 80 else text[:77] + "..."
