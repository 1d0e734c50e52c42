"""The loss of a pack: what padding says does not count."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def masked_mean(loss_per_graph: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of `loss_per_graph` over real rows: their sum / their number; 0, with zero gradients, when there is none.

    loss_per_graph: [G] or [G, ...], one row a graph (or a node), unreduced; mask: bool [G], True for real rows, such as
    `batch.graphs_mask`. A 0-d tensor of its dtype. What padding rows hold does not matter, NaN and inf included.
    Only operations that torch.compile, XLA and PopTorch trace; nothing is read back to the host.
    """
    loss = loss_per_graph
    rows = mask.reshape(mask.shape + (1,) * (loss.dim() - mask.dim())).expand_as(loss)
    total = loss.masked_fill(~rows, 0)
    if loss.element_size() == 2:  # float16 counts exactly only to 2,048
        total = total.float()
    return (total.sum() / rows.to(total.dtype).sum().clamp(min=1)).to(loss.dtype)
