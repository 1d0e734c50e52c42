"""One pack as text and as a picture: its graphs, its null graphs with their self-loops, its masks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from packer.errors import FormatError
from packer.graphs.axes import Axis
from packer.shards import Manifest
from packer.verify import pack as packs
from pipelines.report.style import BLUE, GREEN, GREY, ORANGE, Picture, colour_of, drawn, finish, share_bar
from pipelines.text.clean import in_picture, line
from pipelines.text.plurals import rows_of, some

_WIDTH = 48  # with the counts beside it, a line fits a terminal of 80 columns
_MARKS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MOST_CELLS = 24
_CENTRE = 0.4
_TINTS = (BLUE, ORANGE, GREEN, "#8a5fb5", "#c8405a", "#5d7f99")


@dataclass(frozen=True)
class Pack:
    """One pack as stored. num_real: axis key and "graph" -> real rows; owner: axis key -> int64 [slots], the graph slot
    that owns each row; edges: edge axis key -> int64 [2, slots]; graph_ids: int64 [graph slots], -1 for null graphs."""

    number: int
    axes: tuple[Axis, ...]
    num_real: dict[str, int]
    owner: dict[str, np.ndarray]
    edges: dict[str, np.ndarray]
    graph_ids: np.ndarray

    @property
    def is_hetero(self) -> bool:
        return any(axis.type is not None for axis in self.axes)


def read_pack(folder: Path, number: int) -> Pack:
    """Read one pack. Raises FieldError where there is no such pack."""
    manifest = Manifest.load(folder)
    columns = {name: values[0] for name, values in packs.read_pack(folder, manifest, number).items()}
    axes = manifest.schema.axes
    owner = {axis.key: columns[axis.batch_name].astype(np.int64) for axis in axes if axis.is_pointed}
    edges: dict[str, np.ndarray] = {}
    for axis in axes:
        if axis.level == "edge":
            name = axis.column("edge_index")
            if name not in columns:
                raise FormatError(f"{folder} has no {name}: there are no edges to draw")
            edges[axis.key] = columns[name].astype(np.int64)
            owner[axis.key] = owner[axis.ends[0]][edges[axis.key][0]]
    real = dict(zip([*(axis.key for axis in axes), "graph"], columns["num_real"].tolist(), strict=True))
    return Pack(number, axes, real, owner, edges, columns["graph_ids"])


def draw_text(pack: Pack) -> str:
    """Two lines an axis: which graph owns each stretch of slots (a sign a slot, or a stretch of them), and the mask.

    Example: `nodes 00001111222...` over `      ########    `: three graphs, then padding.
    """
    signs = [_MARKS[slot % len(_MARKS)] if number >= 0 else "." for slot, number in enumerate(pack.graph_ids.tolist())]
    label = max(len(line(key)) for key in pack.num_real) + 1
    lines: list[str] = [
        f"pack {pack.number}: {some(pack.num_real['graph'], 'graph')} in {len(pack.graph_ids)} slots; . is padding"
    ]
    for axis in pack.axes:
        owner, real = pack.owner[axis.key], pack.num_real[axis.key]
        lines.append(_text_line(f"{line(axis.key)}s", label, [signs[slot] for slot in owner.tolist()], real))
    lines.append(_text_line("graphs", label, signs, pack.num_real["graph"]))
    return "\n".join(lines)


@drawn
def draw_pack(pack: Pack) -> Picture:
    """The subgraphs and null graphs of a pack, and its masks. Types of nodes have a colour each."""
    from matplotlib.figure import Figure

    slots = len(pack.graph_ids)
    real = pack.num_real["graph"]
    shown = [*range(min(real, _MOST_CELLS)), *range(real, min(slots, real + 6))]
    columns = min(6, max(3, int(np.ceil(len(shown) ** 0.5))))
    rows = -(-len(shown) // columns)
    strips_height = 1.15 + 0.25 * (len(pack.axes) - 2)
    figure = Figure(figsize=(1.5 * columns + 0.4, 1.6 * (rows + strips_height) + 0.5), layout="constrained")
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=[1.0] * rows + [strips_height])
    for position, slot in enumerate(shown):
        cell = figure.add_subplot(grid[position // columns, position % columns])
        _draw_graph(cell, pack, slot)
    strips = figure.add_subplot(grid[rows, :])
    _draw_masks(strips, pack)
    if pack.is_hetero:
        _name_types(figure, pack)
    left_out = slots - len(shown)
    more = f" ({left_out} slots not drawn)" if left_out else ""
    held = f"{some(real, 'graph')}, {some(slots - real, 'null graph')}"
    figure.suptitle(f"Pack {pack.number}: {held}{more}", weight="bold")
    counts = ", ".join(f"{pack.num_real[a.key]} of {len(pack.owner[a.key])} {a.rows}" for a in pack.axes)
    alt = (
        f"Pack {pack.number}: {some(real, 'real graph')} in {slots} slots, {counts} are real. "
        "Each graph is drawn with its nodes and edges; null graphs are hollow, their padding edges are loops on the "
        "first node, or lead from first node to first node between types. Strips show the masks."
    )
    return Picture(f"Pack {pack.number}", alt, figure)


def _text_line(name: str, label: int, signs: list[str], real: int) -> str:
    """A sign a slot where they fit in one line, else the sign of the middle of each stretch."""
    width = min(_WIDTH, len(signs))
    at = ((np.arange(width) + 0.5) * len(signs) / width).astype(int)
    text = "".join(signs[i] for i in at.tolist())
    return f"{name:<{label}} |{text}| {real:,} of {len(signs):,} real"


def _draw_graph(cell: Any, pack: Pack, slot: int) -> None:
    from matplotlib.collections import LineCollection

    null = pack.graph_ids[slot] < 0
    kinds, links = _numbered(pack, slot)
    cell.set_axis_off()
    cell.set_aspect("equal")
    cell.set(xlim=(-1.3, 1.3), ylim=(-1.3, 1.3))
    where = _layout(len(kinds), links[:, links[0] != links[1]]) if len(kinds) else np.zeros((0, 2))
    for (source, target), times in zip(*np.unique(links.T, axis=0, return_counts=True), strict=True):
        if source == target and null:
            _draw_loop(cell, where[source], times)
        elif null and times > 1:
            cell.annotate(f"×{times}", where[[source, target]].mean(axis=0) + 0.06, fontsize=8)
    pairs = [where[pair] for pair in links.T if pair[0] != pair[1]]
    cell.add_collection(LineCollection(pairs, colors=GREY, linewidths=1))
    for kind in np.unique(kinds):
        colour = _TINTS[(kind if pack.is_hetero else slot) % len(_TINTS)]
        colour = colour if pack.is_hetero or not null else GREY
        cell.plot(
            *where[kinds == kind].T, "o", color=colour, markersize=4.5, markerfacecolor="none" if null else colour
        )
    title = "null graph" if null else f"graph {pack.graph_ids[slot]}"
    cell.set_title(f"{title}\n{len(kinds)} n, {links.shape[1]} e", fontsize=8, weight="normal", loc="center")


def _numbered(pack: Pack, slot: int) -> tuple[np.ndarray, np.ndarray]:
    """One graph with its nodes of all types numbered from 0: int64 [nodes], the type of each; int64 [2, edges]."""
    first: dict[str, int] = {}
    kinds: list[np.ndarray] = []
    links = [np.zeros((2, 0), np.int64)]
    total = 0
    for number, axis in enumerate(axis for axis in pack.axes if axis.level == "node"):
        rows = np.flatnonzero(pack.owner[axis.key] == slot)
        first[axis.key] = total - int(rows[0]) if len(rows) else total
        kinds.append(np.full(len(rows), number))
        total += len(rows)
    for axis in pack.axes:
        if axis.level == "edge":
            ends = pack.edges[axis.key][:, pack.owner[axis.key] == slot]
            links.append(ends + np.array([[first[key]] for key in axis.ends]))
    return np.concatenate(kinds), np.concatenate(links, axis=1)


def _draw_loop(cell: Any, at: np.ndarray, loops: int) -> None:
    turn = np.linspace(-0.5 * np.pi, 1.5 * np.pi, 40)
    cell.plot(at[0] + 0.28 * np.cos(turn), at[1] + 0.28 + 0.28 * np.sin(turn), color=GREY, linewidth=1)
    cell.annotate(f"×{loops}", (at[0] + 0.3, at[1] + 0.5), fontsize=8)


def _draw_masks(strips: Any, pack: Pack) -> None:
    masks = [(axis.key, axis.mask_name, len(pack.owner[axis.key])) for axis in pack.axes]
    masks.append(("graph", "graphs_mask", len(pack.graph_ids)))
    for row, (key, _, total) in enumerate(masks):
        share_bar(strips, row, pack.num_real[key] / total, f"{pack.num_real[key]} of {total}", colour_of(key))
    strips.set_yticks(range(len(masks)), [in_picture(name) for _, name, _ in masks])
    strips.set_xticks([])
    strips.invert_yaxis()
    strips.set_xlim(0, 1)
    finish(strips, "Masks: True, then False (hatched)", grid="")


def _name_types(figure: Any, pack: Pack) -> None:
    from matplotlib.lines import Line2D

    keys = [axis.key for axis in pack.axes if axis.level == "node"]
    dots = [Line2D([], [], linestyle="", marker="o", color=_TINTS[i % len(_TINTS)]) for i in range(len(keys))]
    # A label that begins with "_" would be left out: the names are put in afterwards.
    legend = figure.legend(dots, ["."] * len(keys), loc="outside lower center", ncols=4, fontsize=9)
    for text, key in zip(legend.get_texts(), keys, strict=True):
        text.set_text(in_picture(rows_of(key, pack.axes)))


def _layout(nodes: int, links: np.ndarray, steps: int = 150) -> np.ndarray:
    """float64 [nodes, 2] in the unit square around 0: springs along links, all nodes repel, a little gravity; large
    graphs on a circle.

    Source: Fruchterman and Reingold 1991. No randomness: starts on a circle.
    """
    turn = 2 * np.pi * np.arange(nodes) / max(1, nodes)
    where = np.stack([np.cos(turn), np.sin(turn)], axis=1) if nodes > 1 else np.zeros((1, 2))
    if nodes < 3 or nodes > 150:
        return where * (0.6 if nodes < 3 else 1.0)
    length = 1.6 / nodes**0.5
    for step in range(steps):
        apart = where[:, None] - where[None]
        distance = np.maximum(np.sqrt((apart**2).sum(-1, keepdims=True)), 0.01)
        push = (apart / distance**2).sum(axis=1) * length**2
        along = where[links[0]] - where[links[1]]
        pull = along * np.sqrt((along**2).sum(-1, keepdims=True)) / length
        np.subtract.at(push, links[0], 0.5 * pull)
        np.add.at(push, links[1], 0.5 * pull)
        push -= _CENTRE * where  # or parts that no edge joins would fly apart
        size = np.maximum(np.sqrt((push**2).sum(-1, keepdims=True)), 1e-9)
        where = where + push / size * np.minimum(size, 0.2 * (1 - step / steps))
    where = where - (where.max(axis=0) + where.min(axis=0)) / 2
    return where / max(1e-9, float(np.abs(where).max()))
