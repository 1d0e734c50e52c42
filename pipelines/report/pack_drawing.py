"""One pack as text and as a picture: its graphs, its null graphs with their self-loops, its masks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from packer.errors import FormatError
from packer.fields import Axis
from packer.shards import Manifest, open_shard
from pipelines.report.style import BLUE, GREEN, GREY, LEVEL_COLOURS, ORANGE, Picture, drawn, finish, share_bar
from pipelines.report.words import some

_WIDTH = 48  # with the counts beside it, a line fits a terminal of 80 columns
_MARKS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MOST_CELLS = 24
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


def read_pack(folder: Path, number: int) -> Pack:
    """Read one pack. Raises FormatError where there is no such pack."""
    manifest = Manifest.load(folder)
    if not 0 <= number < manifest.num_packs:
        raise FormatError(f"{folder} has no pack {number}: its packs are 0 to {manifest.num_packs - 1}")
    shard, block, row = manifest.locate(number)
    reader = open_shard(folder, manifest, shard)
    columns = {name: values[row] for name, values in reader.block(block).items()}
    reader.close()
    axes = manifest.schema.axes
    owner = {axis.key: columns[axis.column("batch")].astype(np.int64) for axis in axes if axis.level == "node"}
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
    label = max(len(key) for key in pack.num_real) + 1
    lines: list[str] = [
        f"pack {pack.number}: {some(pack.num_real['graph'], 'graph')} in {len(pack.graph_ids)} slots; . is padding"
    ]
    for axis in pack.axes:
        owner, real = pack.owner[axis.key], pack.num_real[axis.key]
        lines.append(_text_line(f"{axis.key}s", label, [signs[slot] for slot in owner.tolist()], real))
    lines.append(_text_line("graphs", label, signs, pack.num_real["graph"]))
    return "\n".join(lines)


@drawn
def draw_pack(pack: Pack) -> Picture:
    """The subgraphs and null graphs of a pack of homogeneous graphs, and its masks."""
    from matplotlib.figure import Figure

    if [axis.key for axis in pack.axes] != ["node", "edge"]:
        raise FormatError("only packs of homogeneous graphs are drawn; without --plot a pack is shown as text")
    slots = len(pack.graph_ids)
    real = pack.num_real["graph"]
    shown = [*range(min(real, _MOST_CELLS)), *range(real, min(slots, real + 6))]
    columns = min(6, max(3, int(np.ceil(len(shown) ** 0.5))))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(1.5 * columns + 0.4, 1.6 * rows + 2.3), layout="constrained")
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=[1.0] * rows + [1.15])
    for place, slot in enumerate(shown):
        cell = figure.add_subplot(grid[place // columns, place % columns])
        _draw_graph(cell, pack, slot)
    strips = figure.add_subplot(grid[rows, :])
    _draw_masks(strips, pack)
    left_out = slots - len(shown)
    more = f" ({left_out} slots not drawn)" if left_out else ""
    figure.suptitle(
        f"Pack {pack.number}: {some(real, 'graph')}, {some(slots - real, 'null graph')}{more}", weight="bold"
    )
    counts = ", ".join(f"{pack.num_real[key]} of {len(pack.owner[key])} {key}s" for key in ("node", "edge"))
    alt = (
        f"Pack {pack.number}: {some(real, 'real graph')} in {slots} slots, {counts} are real. "
        "Each graph is drawn with its nodes and edges; null graphs are hollow, their padding edges are loops on the "
        "first node. Strips show the masks."
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

    nodes = np.flatnonzero(pack.owner["node"] == slot)
    ends = pack.edges["edge"][:, pack.owner["edge"] == slot]
    null = pack.graph_ids[slot] < 0
    loops = int((ends[0] == ends[1]).sum())
    cell.set_axis_off()
    cell.set_aspect("equal")
    cell.set(xlim=(-1.3, 1.3), ylim=(-1.3, 1.3))
    colour = GREY if null else _TINTS[slot % len(_TINTS)]
    if len(nodes):
        links = ends[:, ends[0] != ends[1]] - nodes[0]
        where = _layout(len(nodes), links)
        if links.size:
            cell.add_collection(LineCollection([where[pair] for pair in links.T], colors=GREY, linewidths=1))
        cell.plot(*where.T, "o", color=colour, markersize=4.5, markerfacecolor="none" if null else colour)
        if null and loops:
            _draw_loop(cell, where[0], loops)
    title = "null graph" if null else f"graph {pack.graph_ids[slot]}"
    cell.set_title(f"{title}\n{len(nodes)} n, {ends.shape[1]} e", fontsize=8, weight="normal", loc="center")


def _draw_loop(cell: Any, at: np.ndarray, loops: int) -> None:
    turn = np.linspace(-0.5 * np.pi, 1.5 * np.pi, 40)
    cell.plot(at[0] + 0.28 * np.cos(turn), at[1] + 0.28 + 0.28 * np.sin(turn), color=GREY, linewidth=1)
    cell.annotate(f"×{loops}", (at[0] + 0.3, at[1] + 0.5), fontsize=8)


def _draw_masks(strips: Any, pack: Pack) -> None:
    for place, key in enumerate(("node", "edge", "graph")):
        total = len(pack.graph_ids) if key == "graph" else len(pack.owner[key])
        share_bar(strips, place, pack.num_real[key] / total, f"{pack.num_real[key]} of {total}", LEVEL_COLOURS[key])
    strips.set_yticks([0, 1, 2], ["nodes_mask", "edges_mask", "graphs_mask"])
    strips.set_xticks([])
    strips.invert_yaxis()
    strips.set_xlim(0, 1)
    finish(strips, "Masks: True, then False (hatched)", grid="")


def _layout(nodes: int, links: np.ndarray, steps: int = 150) -> np.ndarray:
    """float64 [nodes, 2] in the unit square around 0: springs along links, all nodes repel; large graphs on a circle.

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
        size = np.maximum(np.sqrt((push**2).sum(-1, keepdims=True)), 1e-9)
        where = where + push / size * np.minimum(size, 0.2 * (1 - step / steps))
    where = where - (where.max(axis=0) + where.min(axis=0)) / 2
    return where / max(1e-9, float(np.abs(where).max()))
