"""PyG's norms over real rows, for models that call them without `batch`.

With `batch` a norm of PyG is one of each graph, and padding belongs to null graphs: nothing is to be masked. Without,
all rows are one graph: here padding becomes a second one.
"""

from __future__ import annotations

from inspect import signature
from typing import Any

import torch

from packer.errors import MissingExtraError
from packer.nn.masks import mask_for

try:
    from torch_geometric import nn
except ImportError as error:
    raise MissingExtraError("torch_geometric", "pyg", "masked norms of PyG") from error

_SIZED = "batch_size" in signature(nn.GraphNorm.forward).parameters  # from PyG 2.4 on

# The same names stand in each class, since each is what PyG's own is, with its constructor and its state dict.


class MaskedLayerNorm(nn.LayerNorm):
    """PyG's LayerNorm; with mode="graph" and no `batch`, over all real rows of the step.

    x: float [rows, channels]; batch, batch_size as in PyG. axis (an attribute, None): which mask of `masks_of` it
    takes. Padding rows come out finite. Raises MaskError where a mask is missing or does not fit.
    """

    axis: str | None = None

    def forward(self, x: torch.Tensor, batch: torch.Tensor | None = None, *size: Any, **named: Any) -> torch.Tensor:
        if batch is not None or self.mode == "node":
            return super().forward(x, batch, *size, **named)
        mask = mask_for(x, None, self.axis, "MaskedLayerNorm")
        padding = ~mask.unsqueeze(1)
        count = mask.to(x.dtype).sum().clamp(min=1) * x.shape[1]
        centred = (x.masked_fill(padding, 0) - x.masked_fill(padding, 0).sum() / count).masked_fill(padding, 0)
        # PyG adds eps to the deviation here, and to the variance where there is `batch`. The root of 0 has no gradient.
        var = centred.square().sum() / count
        deviation = torch.where(var > 0, torch.where(var > 0, var, 1).sqrt(), 0)
        out = centred / (deviation + self.eps)
        return out * self.weight + self.bias if self.affine else out


class MaskedGraphNorm(nn.GraphNorm):
    """PyG's GraphNorm; without `batch`, over all real rows of the step. x, axis and errors: MaskedLayerNorm's."""

    axis: str | None = None

    def forward(self, x: torch.Tensor, batch: torch.Tensor | None = None, *size: Any, **named: Any) -> torch.Tensor:
        return super().forward(*_two_graphs(self, x, batch, size), **named)


class MaskedPairNorm(nn.PairNorm):
    """PyG's PairNorm; without `batch`, over all real rows of the step. x, axis and errors: MaskedLayerNorm's."""

    axis: str | None = None

    def forward(self, x: torch.Tensor, batch: torch.Tensor | None = None, *size: Any, **named: Any) -> torch.Tensor:
        return super().forward(*_two_graphs(self, x, batch, size), **named)


class MaskedMeanSubtractionNorm(nn.MeanSubtractionNorm):
    """PyG's MeanSubtractionNorm; without `batch`, over all real rows of the step. Otherwise like MaskedLayerNorm."""

    axis: str | None = None

    def forward(self, x: torch.Tensor, batch: torch.Tensor | None = None, *size: Any, **named: Any) -> torch.Tensor:
        return super().forward(*_two_graphs(self, x, batch, size), **named)


class MaskedGraphSizeNorm(nn.GraphSizeNorm):
    """PyG's GraphSizeNorm; without `batch`, by the number of real rows of the step. Otherwise like MaskedLayerNorm."""

    axis: str | None = None

    def forward(self, x: torch.Tensor, batch: torch.Tensor | None = None, *size: Any, **named: Any) -> torch.Tensor:
        return super().forward(*_two_graphs(self, x, batch, size), **named)


class MaskedInstanceNorm(nn.InstanceNorm):
    """PyG's InstanceNorm; running statistics are means over real graphs, and without `batch` over all real rows.

    x: float [rows, channels]; batch: int64 [rows], batch_size: the number of graph slots. In training with
    track_running_stats it needs the mask of rows even with `batch`. axis and errors: MaskedLayerNorm's.
    """

    axis: str | None = None

    def forward(self, x: torch.Tensor, batch: torch.Tensor | None = None, *size: Any, **named: Any) -> torch.Tensor:
        if self.running_mean is None or self.running_var is None:
            return super().forward(*_two_graphs(self, x, batch, size), **named)
        if not self.training:
            return super().forward(x, batch, *size, **named)
        mask = mask_for(x, None, self.axis, "MaskedInstanceNorm")
        x, owner, *sizes = _two_graphs(self, x, batch, size)
        slots = sizes[0] if sizes else named.get("batch_size")
        slots = int(owner.max()) + 1 if slots is None else slots
        rows = torch.zeros(slots, dtype=x.dtype, device=x.device).index_add(0, owner, mask.to(x.dtype)).unsqueeze(1)

        def per_graph(values: torch.Tensor) -> torch.Tensor:
            return torch.zeros((slots, x.shape[1]), dtype=x.dtype, device=x.device).index_add(0, owner, values)

        real = mask.unsqueeze(1)
        centred = (x - (per_graph(x) / rows.clamp(min=1))[owner]).masked_fill(~real, 0)
        squares, graphs = per_graph(centred.square()), (rows > 0).to(x.dtype)
        with torch.no_grad():
            mean, unbiased = per_graph(x) / rows.clamp(min=1), squares / (rows - 1).clamp(min=1)
            for running, now in ((self.running_mean, mean), (self.running_var, unbiased)):
                share = (0.1 if self.momentum is None else self.momentum) * (graphs.sum() > 0)
                running.copy_((1 - share) * running + share * (now * graphs).sum(0) / graphs.sum().clamp(min=1))
        out = centred * (squares / rows.clamp(min=1) + self.eps).rsqrt()[owner]
        return out * self.weight + self.bias if self.affine else out


def _two_graphs(norm: Any, x: torch.Tensor, batch: torch.Tensor | None, size: tuple[Any, ...]) -> tuple[Any, ...]:
    """What PyG's norm is called with: x with zeros as padding, real rows as graph 0 and padding as graph 1, and 2."""
    if batch is not None:
        return (x, batch, *size)
    mask = mask_for(x, None, norm.axis, type(norm).__name__)
    return (x.masked_fill(~mask.unsqueeze(1), 0), (~mask).long(), *((2,) if _SIZED else ()))
