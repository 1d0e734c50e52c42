"""Batch normalisation over the real rows of a pack."""

from __future__ import annotations

from typing import Any

import torch
from torch import distributed
from torch.nn import functional
from torch.nn.modules.batchnorm import _NormBase  # pyright: ignore[reportPrivateUsage]

from packer.nn.masks import mask_for


class MaskedBatchNorm(_NormBase):
    """torch.nn.BatchNorm1d (2d, 3d) whose statistics, running ones too, are those of real rows alone.

    Called with x, float [rows, num_features, ...], and the mask of its rows, bool [rows]; without one inside `with
    masks_of(batch):`. Gives what BatchNorm gives for the real rows without the others, in the dtype of x; padding rows
    come out as the bias, whatever they hold, NaN included. In evaluation, with running statistics, no mask is needed.

    eps, momentum, affine, track_running_stats: BatchNorm's, as are the names and shapes of weights and buffers, so a
    state dict fits either. axis: which mask of `masks_of` it takes ("nodes", "edges", "graphs", or a type), where the
    number of rows does not tell. sync: statistics over the real rows of all ranks of process_group (all of them when
    None) while torch.distributed is initialised, as SyncBatchNorm's, which would count padding; every rank must then
    call it equally often. allow_single_element: a single real row is normalised by the running statistics.

    Where BatchNorm raises for fewer than two rows, nothing here depends on values: running statistics stay as they are.
    Half precision is computed in float32. Raises MaskError where a mask is missing or does not fit, ValueError for an x
    of another width.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        axis: str | None = None,
        sync: bool = False,
        process_group: Any = None,
        allow_single_element: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device=device, dtype=dtype)  # pyright: ignore[reportArgumentType]
        self.axis, self.sync, self.process_group = axis, sync, process_group
        self.allow_single_element = allow_single_element

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        if x.dim() < 2 or x.shape[1] != self.num_features:
            raise ValueError(
                f"MaskedBatchNorm({self.num_features}) takes [rows, {self.num_features}, ...]; got {list(x.shape)}"
            )
        if not self.training and self.running_mean is not None:
            mean, var = self.running_mean, self.running_var
            return functional.batch_norm(x, mean, var, self.weight, self.bias, False, 0.0, self.eps)
        mask = mask_for(x, mask, self.axis, "MaskedBatchNorm")
        padding = ~mask.reshape((-1,) + (1,) * (x.dim() - 1))
        across = [0, *range(2, x.dim())]
        column = (1, -1) + (1,) * (x.dim() - 2)
        # Padding is filled, not multiplied away: 0 * inf is NaN, here and in the gradient.
        real = (x.float() if x.element_size() == 2 else x).masked_fill(padding, 0)
        count = mask.to(real.dtype).sum() * (real.numel() // max(1, real.shape[0] * real.shape[1]))
        sums, count = self._over_ranks(real.sum(across), count)
        mean = sums / count.clamp(min=1)
        # Squares are taken of what is centred, which a sum of squares less the square of a sum would lose to rounding.
        squares, _ = self._over_ranks((real - mean.reshape(column)).masked_fill(padding, 0).square().sum(across), count)
        var = squares / count.clamp(min=1)
        if self.allow_single_element and self.running_mean is not None and self.running_var is not None:
            few = count < 2
            mean, var = torch.where(few, self.running_mean, mean), torch.where(few, self.running_var, var)
        if self.training and self.running_mean is not None:
            self._track(mean, squares, count)
        scale = (var + self.eps).rsqrt()
        out = (real - mean.reshape(column)).masked_fill(padding, 0) * scale.reshape(column)
        if self.affine:
            out = out * self.weight.reshape(column) + self.bias.reshape(column)
        return out.to(x.dtype)

    def _over_ranks(self, sums: torch.Tensor, count: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of all ranks together, if they are to be: sums [num_features] and their count, in one message."""
        if not (self.sync and self.training and distributed.is_available() and distributed.is_initialized()):
            return sums, count
        both = _SumOverRanks.apply(torch.cat([sums, count.reshape(1).to(sums.dtype)]), self.process_group)
        return both[:-1], both[-1]

    @torch.no_grad()
    def _track(self, mean: torch.Tensor, squares: torch.Tensor, count: torch.Tensor) -> None:
        """Move the running statistics, by BatchNorm's rule; a step of fewer than two values moves nothing."""
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        enough = count > 1
        self.num_batches_tracked.add_(enough.to(self.num_batches_tracked.dtype))
        share = 1 / self.num_batches_tracked.clamp(min=1).to(mean.dtype) if self.momentum is None else self.momentum
        share = enough.to(mean.dtype) * share
        unbiased = squares / (count - 1).clamp(min=1)
        for running, now in ((self.running_mean, mean), (self.running_var, unbiased)):
            running.copy_((1 - share) * running + share * now)


class _SumOverRanks(torch.autograd.Function):
    """The sum over ranks. Each rank's sum reaches the loss of every rank, so the gradient is a sum over ranks, too."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, group: Any) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.group = group
        total = values.clone()
        distributed.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        total = gradient.contiguous().clone()
        distributed.all_reduce(total, group=ctx.group)
        return total, None
