"""Pictures of what shuffled epochs of packs do to learning: sizes, companions, weights and classes."""

from __future__ import annotations

import numpy as np

from packer.reading.audit_facts import Balance, PackAudit
from pipelines.report.style import (
    BLUE,
    GREY,
    LEVEL_COLOURS,
    ORANGE,
    RED,
    Picture,
    drawn,
    finish,
    new_figure,
    whole_ticks,
)
from pipelines.text.clean import in_picture
from pipelines.text.plurals import some

_MOST_CLASSES = 12


def learning(audit: PackAudit) -> list[Picture]:
    """All that there are of an audit."""
    pictures = [size_along_epoch(audit), companions_met(audit), weights_of_graphs(audit)]
    return pictures if audit.balance is None else [*pictures, classes_a_step(audit.balance)]


@drawn
def size_along_epoch(audit: PackAudit) -> Picture:
    """Mean size in each twentieth of an epoch, against that of all graphs."""
    figure, (axis,) = new_figure()
    most = 0.0
    for drift in audit.drifts:
        share = 100 * (np.array(drift.along) - 1)
        at = (np.arange(len(share)) + 0.5) * 100 / len(share)
        name = "graphs a step" if drift.of == "graphs" else drift.of
        axis.plot(at, share, label=name, color=LEVEL_COLOURS[drift.of.removesuffix("s")], linewidth=1.4)
        most = max(most, float(np.nanmax(np.abs(share))))
    axis.axhline(0, color=GREY, linewidth=0.8)
    axis.set_ylim(-max(10.0, 1.2 * most), max(10.0, 1.2 * most))  # what is far below the spread of sizes looks flat
    axis.set_xlim(0, 100)
    axis.legend(fontsize=8, loc="upper right", ncols=3)
    finish(axis, "Size along the epoch", "position in the epoch, %", "off the mean, %")
    correlations = ", ".join(f"{drift.of} {drift.correlation:+.3f}" for drift in audit.drifts)
    epochs = some(max(drift.epochs for drift in audit.drifts), "epoch")
    alt = f"Mean size in each twentieth of an epoch, over {epochs}: off the mean by {most:.1f} % at most. "
    return Picture("Size along the epoch", alt + f"Rank correlation with the position: {correlations}.", figure)


@drawn
def companions_met(audit: PackAudit) -> Picture:
    """Distinct companions by epoch."""
    companions = audit.companions
    figure, (axis,) = new_figure()
    epochs = np.arange(1, audit.epochs + 1)
    axis.plot(epochs, companions.unpacked, color=GREY, linestyle="--", label="unpacked batches")
    axis.plot(epochs, companions.with_redraws, color=BLUE, marker="o", markersize=3, label="packs, redrawn")
    axis.plot(epochs, companions.without, color=ORANGE, marker="o", markersize=3, label="packs as they are")
    axis.set_ylim(bottom=0)
    whole_ticks(axis.xaxis)
    axis.legend(fontsize=8)
    finish(axis, "Companions a graph has met", "epochs", "distinct graphs")
    alt = (
        f"Distinct graphs that a graph has shared a step with, after {some(audit.epochs, 'epoch')}: "
        f"{companions.with_redraws[-1]:,.1f} with redraws, {companions.without[-1]:,.1f} without, "
        f"{companions.unpacked[-1]:,.1f} in unpacked batches."
    )
    return Picture("Companions a graph has met", alt, figure)


@drawn
def weights_of_graphs(audit: PackAudit) -> Picture:
    """The weights of graphs in a mean of the means of steps."""
    weights = audit.weights
    figure, (axis,) = new_figure()
    relative, share = np.array(weights.relative), 100 * np.array(weights.share)
    most = max(2.0, float(relative[share > 0.1].max(initial=1.0)))
    edges = (np.arange(-0.5, 41) * most / 40).tolist()
    axis.hist(np.minimum(relative, most), bins=edges, weights=share, color=BLUE)
    axis.axvline(1, color=RED, linewidth=1.2)
    axis.set_xlim(0, edges[-1])
    finish(axis, "Weight of a graph in a mean of means", "weight over the mean weight", "share of graphs, %")
    alt = (
        f"Weights of graphs in a mean of the means of steps: up to {weights.ratio:.2f} to 1, as if "
        f"{100 * weights.effective:.1f} % of the graphs weighed alike; heavier ones than shown stand at the right end."
    )
    return Picture("Weight of a graph in a mean of means", alt, figure)


@drawn
def classes_a_step(balance: Balance) -> Picture:
    """The spread of each class over steps, against chance: the commonest classes."""
    kept = np.argsort(-np.array(balance.shares), kind="stable")[:_MOST_CLASSES]
    figure, (axis,) = new_figure()
    at = np.arange(len(kept))
    axis.bar(at - 0.2, 100 * np.array(balance.sd)[kept], 0.38, color=BLUE, label="packs")
    axis.bar(at + 0.2, 100 * np.array(balance.chance)[kept], 0.38, color=GREY, label="random batches")
    axis.set_xticks(at, [str(balance.classes[number]) for number in kept])
    axis.set_ylim(top=1.25 * axis.get_ylim()[1])
    axis.legend(fontsize=8, ncols=2, loc="upper right")
    name = in_picture(balance.field)
    finish(axis, f"Spread of the classes of {name} a step", f"class of {name}", "standard deviation, points")
    alt = (
        f"Standard deviation over steps of the share of each class of {balance.field}: {balance.ratio:.2f} times that "
        f"of random batches, over {len(balance.classes):,} classes."
    )
    return Picture("Spread of classes a step", alt, figure)
