"""Pictures of sizes, plans and limits. Each function takes values and gives a Picture with its alternative text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from packer.graphs.axes import Axis
from packer.graphs.sizes import GraphSizes
from packer.plan.pack_plan import PackPlan
from packer.suggest.suggest import Suggestion
from pipelines.report.style import (
    BLUE,
    GREY,
    LEVEL_COLOURS,
    ORANGE,
    RED,
    Picture,
    colour_of,
    drawn,
    finish,
    new_figure,
    share_bar,
    whole_ticks,
)
from pipelines.text.clean import in_picture
from pipelines.text.plurals import rows_of, some

_MOST_BARS = 60
_MOST_CELLS = 48
_MOST_POINTS = 160
_FEW_BARS = 8


@drawn
def size_histogram(sizes: GraphSizes, key: str) -> Picture:
    """How many graphs have how many nodes or edges."""
    values, count = _counted(sizes, key)
    figure, (axis,) = new_figure()
    _bars(axis, values, count, colour_of(key))
    name = rows_of(key, sizes.axes)
    finish(axis, f"{in_picture(name[0].upper() + name[1:])} per graph", f"number of {in_picture(name)}", "graphs")
    total = float(count.sum())
    mean = float(values @ count) / total
    axis.axvline(mean, color=RED, linewidth=1.2)
    axis.set_ylim(top=1.14 * axis.get_ylim()[1])  # a line free for its label
    axis.annotate(
        f"mean {mean:.1f}", (mean, 1), (4, -2), xycoords=("data", "axes fraction"), textcoords="offset points", va="top"
    )
    extent = f"from {values.min()} to {values.max()}, mean {mean:.1f}"
    alt = f"Histogram of {name} per graph: {some(int(total), 'graph')}, {extent}."
    return Picture(f"{name[0].upper()}{name[1:]} per graph", alt, figure)


@drawn
def joint_histogram(sizes: GraphSizes) -> Picture | None:
    """How many graphs have how many nodes and edges together; None unless there is one axis of each."""
    if [axis.level for axis in sizes.axes] != ["node", "edge"]:
        return None
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap, LogNorm

    distinct, count, _ = sizes.distinct
    nodes, edges = distinct.T
    grids = [_bin_edges(values, _MOST_CELLS) for values in (nodes, edges)]
    table, x, y = np.histogram2d(nodes, edges, grids, weights=count.astype(np.float64))
    figure, (axis,) = new_figure(4.4, 3.4)
    shown = np.where(table > 0, table, np.nan).T
    image = axis.imshow(
        shown,
        origin="lower",
        aspect="auto",
        extent=(x[0], x[-1], y[0], y[-1]),
        cmap=ListedColormap(colormaps["viridis"](np.linspace(0.3, 0.97, 256))),  # seen on white and on near-black
        norm=LogNorm(1, max(10.0, float(table.max()))),
        interpolation="nearest",
        zorder=2,
    )
    bar = figure.colorbar(image, ax=axis, label="graphs (logarithmic)", format="{x:,.0f}")
    whole_ticks(axis.xaxis, axis.yaxis)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    finish(axis, "Nodes and edges together", "number of nodes", "number of edges", grid="both")
    alt = (
        f"Joint histogram of nodes and edges: {some(len(distinct), 'distinct size')}, "
        f"nodes {nodes.min()} to {nodes.max()}, edges {edges.min()} to {edges.max()}."
    )
    return Picture("Nodes and edges together", alt, figure)


@drawn
def fill_over_packs(real: np.ndarray, slots: Mapping[str, int], known: Sequence[Axis] = ()) -> Picture:
    """Real share of the slots along the packs. real: int [packs, axes]; slots: axis key -> slots, in that order; known:
    axes of the data set.

    Neighbouring packs are joined where there are many: the line is their mean, the band from the emptiest to the
    fullest.
    """
    figure, axes = new_figure(4.4, 1.25 * len(slots) + 0.5, len(slots), sharex=True)
    starts = np.unique(np.linspace(0, len(real), min(len(real), _MOST_POINTS), endpoint=False).astype(int))
    shares: list[str] = []
    for column, (axis, (key, limit)) in enumerate(zip(axes, slots.items(), strict=True)):
        share = 100.0 * real[:, column] / max(1, limit)
        mean = np.add.reduceat(share, starts) / np.diff(np.append(starts, len(share)))
        low, high = np.minimum.reduceat(share, starts), np.maximum.reduceat(share, starts)
        colour = colour_of(key)
        axis.fill_between(starts, low, high, step="post", color=colour, alpha=0.25, linewidth=0)
        axis.step(np.append(starts, len(share)), np.append(mean, mean[-1]), where="post", color=colour, linewidth=1.3)
        axis.set_ylim(0, 105)
        axis.set_yticks([0, 50, 100], ["0 %", "50 %", "100 %"])
        finish(axis, f"{in_picture(rows_of(key, known))}: {share.mean():.1f} % of {limit:,} slots", grid="y")
        shares.append(f"{rows_of(key, known)} {share.mean():.1f} % (from {share.min():.1f} to {share.max():.1f} %)")
    axes[-1].set_xlabel("pack")
    whole_ticks(axes[-1].xaxis)
    alt = f"Real share of the slots over {some(len(real), 'pack')}: {', '.join(shares)}."
    return Picture("Fill of the packs", alt, figure)


@drawn
def graphs_per_pack(held: np.ndarray, slots: int) -> Picture:
    """How many packs hold how many real graphs. held: int [packs]; slots: graph slots of a pack."""
    values, packs = np.unique(held, return_counts=True)
    figure, (axis,) = new_figure()
    _bars(axis, values, packs, LEVEL_COLOURS["graph"])
    finish(axis, "Real graphs per pack", f"real graphs (of {slots} slots)", "packs")
    alt = (
        f"Histogram of real graphs per pack: {held.min()} to {held.max()} of {slots} slots, mean {held.mean():.1f}, "
        f"standard deviation {held.std():.1f}."
    )
    return Picture("Real graphs per pack", alt, figure)


@drawn
def padding_by_level(fill: Mapping[str, float], known: Sequence[Axis] = ()) -> Picture:
    """Real and padding share of the slots of all packs. fill: axis key and "graph" -> real share; known: axes."""
    figure, (axis,) = new_figure(4.4, 0.42 * len(fill) + 1.0)
    keys = list(fill)
    for row, key in enumerate(keys):
        share_bar(axis, row, fill[key], f"{100 * fill[key]:.1f} % real", colour_of(key), length=100.0)
    axis.set_yticks(range(len(keys)), [in_picture(rows_of(key, known)) for key in keys])
    axis.invert_yaxis()
    axis.set_xlim(0, 100)
    finish(axis, x="share of all slots, %", grid="")
    figure.suptitle("Real and padding (hatched)", x=0.02, ha="left", fontsize=11, weight="bold")
    alt = "Real share of all slots: " + ", ".join(
        f"{rows_of(key, known)} {100 * share:.1f} %" for key, share in fill.items()
    )
    return Picture("Padding by level", f"{alt}; the rest is padding.", figure)


@drawn
def algorithms(rows: Sequence[tuple[str, int]], bound: int) -> Picture:
    """Packs that each algorithm needs. rows: (name, packs); bound: no plan has fewer."""
    figure, (axis,) = new_figure(4.4, 0.34 * len(rows) + 1.2)
    gaps = [100.0 * (packs / bound - 1.0) for _, packs in rows]
    # One graph a pack, or nearly: such a bar would hide all others and is cut.
    most = max([1.0, *(gap for gap in gaps if gap <= 10 * max(2.0, float(np.median(gaps))))])
    for row, ((_, packs), gap) in enumerate(zip(rows, gaps, strict=True)):
        axis.barh(row, min(gap, 1.3 * most), color=BLUE, height=0.6)
        text = f"{packs:,}: +{gap:.1f} %" if packs > bound else f"{packs:,}: the bound, proven"
        inside = gap > 0.6 * most
        axis.annotate(
            text + " (cut)" * (gap > 1.3 * most),
            (min(gap, 1.2 * most), row),
            (-4 if inside else 5, 0),
            textcoords="offset points",
            va="center",
            ha="right" if inside else "left",
            **({"color": "white", "weight": "bold"} if inside else {}),
        )
    axis.axvline(0, color=RED, linewidth=2)
    axis.set_xlim(0, 1.2 * most)
    axis.set_yticks(range(len(rows)), [in_picture(name) for name, _ in rows])
    axis.invert_yaxis()
    finish(axis, "Packs above the bound", f"% above {bound:,} packs, which no plan beats", grid="x")
    numbers = ", ".join(f"{name} {packs:,}" for name, packs in rows)
    return Picture("Algorithms", f"Packs by algorithm: {numbers}; no plan has fewer than {bound:,}.", figure)


@drawn
def suggested(suggestion: Suggestion) -> Picture:
    """Padding against pack size for the limits worth using, and what is proven."""
    from matplotlib.ticker import MaxNLocator

    figure, (axis,) = new_figure(4.8, 3.4)
    front, best = suggestion.front, suggestion.best
    x = [c.bytes_per_pack / 1e3 for c in front]
    padding = [100 * c.padding_share for c in front]
    axis.plot(x, padding, color=BLUE, linewidth=1, alpha=0.5)
    for label, proven in (("proven", True), ("not proven", False)):
        chosen = [
            (at, value) for c, at, value in zip(front, x, padding, strict=True) if (c.status == "optimal") is proven
        ]
        if chosen:
            style = {"color": BLUE, "markersize": 6, "markerfacecolor": BLUE if proven else "none", "label": label}
            axis.plot(*zip(*chosen, strict=True), "o", **style)
    open_ends = [(at, 100 * c.least_padding_share) for c, at in zip(front, x, strict=True) if c.status != "optimal"]
    if open_ends:
        columns, least = zip(*open_ends, strict=True)
        axis.vlines(columns, least, [padding[x.index(at)] for at in columns], color=GREY, linewidth=2, alpha=0.7)
        axis.plot(columns, least, "_", color=GREY, markersize=7, markeredgewidth=1.6, label="least by its bound")
    at = (best.bytes_per_pack / 1e3, 100 * best.padding_share)
    style = {"color": ORANGE, "markersize": 13, "markerfacecolor": "none", "markeredgewidth": 2.2}
    axis.plot(*at, "o", **style, label=f"take {best.name}")
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    axis.set_xscale("log")
    axis.set_ylim(0, 1.15 * max(padding) + 0.5)
    narrow = max(x) < 4 * min(x)  # no power of ten, perhaps, and hardly a 2 or a 5 in between
    if narrow:
        axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" and not narrow else "")
    finish(axis, "Padding by size of a pack", "kB of tensors in one pack", "padding, % of all bytes")
    alt = (
        f"Padding against tensor bytes per pack for {len(front)} limits, from {min(padding):.1f} to "
        f"{max(padding):.1f} %; the one to take, {best.name}, pads {at[1]:.1f} %. "
        "Filled points are proven; a grey line reaches down to what the bound allows."
    )
    return Picture("Limits worth using", alt, figure)


@drawn
def compared(plans: Sequence[PackPlan]) -> Picture:
    """The algorithms of a comparison, in its order."""
    bound = max(plan.lower_bound for plan in plans)
    return algorithms([(plan.algorithm, plan.num_packs) for plan in plans], bound)


def _counted(sizes: GraphSizes, key: str) -> tuple[np.ndarray, np.ndarray]:
    distinct, count, _ = sizes.distinct
    column = distinct[:, [axis.key for axis in sizes.axes].index(key)]
    values, value_of_row = np.unique(column, return_inverse=True)
    total = np.zeros(len(values), np.int64)
    np.add.at(total, value_of_row.reshape(-1), count)
    return values, total


def _bars(axis: Any, values: np.ndarray, count: np.ndarray, colour: str) -> None:
    """A bar a value, or a bar a range where there are many values."""
    edges = _bin_edges(values, _MOST_BARS)
    spread = int(values.max() - values.min()) + 1
    if spread < _FEW_BARS:
        left = max(0, int(values.min() + values.max()) // 2 - _FEW_BARS // 2) - 0.5
        axis.set_xlim(left, left + _FEW_BARS + 1)
    axis.hist(values, bins=edges, weights=count, color=colour, rwidth=0.9 if len(edges) <= 40 else 1.0)
    whole_ticks(axis.xaxis, axis.yaxis)


def _bin_edges(values: np.ndarray, most: int) -> np.ndarray:
    """At most so many bins, each over as many of the numbers that may occur: those of undirected edges are even.

    Otherwise neighbouring bins would hold different shares of the graphs for no reason in the data.
    """
    low, high = int(values.min()), int(values.max())
    step = int(np.gcd.reduce(values - low)) or 1
    width = step * -(-((high - low) // step + 1) // most)
    return low - step / 2 + width * np.arange((high - low) // width + 2)
