"""The loss of a pack: what padding says does not count, and what an IPU starts its gradients from."""

from __future__ import annotations

import torch

from packer.errors import LossError


def masked_mean(loss_per_graph: torch.Tensor, mask: torch.Tensor, per: float | None = None) -> torch.Tensor:
    """Mean of `loss_per_graph` over real rows: their sum / their number; 0, with zero gradients, when there is none.

    loss_per_graph: [G] or [G, ...], one row a graph (or a node), unreduced; mask: bool [G], True for real rows, such as
    `batch.graphs_mask`, or of more dimensions of the loss: [G, T] tells which of T targets are known. A 0-d tensor of
    the loss' dtype, float32 for whole numbers and bools. What padding rows hold does not matter, NaN and inf included.

    per: what the sum is divided by instead of the number of real rows, a number above 0: `loader.graphs_per_step`. A
    mean weighs the graphs of a step with few of them more; over steps of `per` rows in the mean, each row weighs the
    same in an epoch, and gradients averaged over ranks or micro-batches are those of one big batch. With a mask of
    [G, T], the known targets of a step in the mean.

    Only operations that torch.compile, XLA and PopTorch trace; nothing is read back to the host. PopTorch trains on
    what is marked, so there the loss of all terms goes through `ipu_loss` last. Raises LossError for a mask that is not
    bool, or that has not a row for each row of the loss.

        >>> loss, mask = torch.tensor([1.0, 3.0, float("nan")]), torch.tensor([True, True, False])
        >>> masked_mean(loss, mask)
        tensor(2.)
    """
    loss = loss_per_graph
    _check_mask(loss, mask)
    rows = mask.reshape(mask.shape + (1,) * (loss.dim() - mask.dim())).expand_as(loss)
    total = loss.masked_fill(~rows, 0)
    if not loss.is_floating_point() or loss.element_size() == 2:  # float16 counts exactly only to 2,048
        total = total.float()
    if per is None:
        mean = total.sum() / rows.to(total.dtype).sum().clamp(min=1)
    else:
        # A tensor would have to be read back to be looked at.
        if not isinstance(per, (int, float)) or not per > 0:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise LossError(f"masked_mean: per must be a number above 0, such as loader.graphs_per_step; got {per!r}")
        mean = total.sum() / (per * (loss.numel() // max(1, mask.numel())))
    return mean.to(loss.dtype) if loss.is_floating_point() else mean


def ipu_loss(loss: torch.Tensor) -> torch.Tensor:
    """`loss`, marked as what `poptorch.trainingModel` trains on: the last thing that is done to it inside `forward`.

    loss: one floating number (a 0-d tensor, or one of one entry): the sum of all terms, such as
    `masked_mean(each, graphs_mask)`. Returns it as it is, by `poptorch.identity_loss(loss, reduction="none")`.

    Without the mark PopTorch's compiler starts from the loss functions of torch that it finds in the model: from the
    sum over every row of `cross_entropy(..., reduction="none")`, padding included, whatever is computed from it
    afterwards; where there is none, it stops with "Couldn't find a loss in graph!". Raises LossError for a loss that is
    not reduced, whose rows PopTorch would sum up; MissingExtraError without poptorch.
    """
    from packer.reading.poptorch import import_poptorch

    poptorch = import_poptorch("ipu_loss")
    if loss.numel() != 1 or not loss.is_floating_point():
        raise LossError(
            f"ipu_loss marks one floating number; got {list(loss.shape)} of {loss.dtype}. PopTorch would train on the "
            "sum of them, padding included: reduce the loss first, by masked_mean(loss, graphs_mask)"
        )
    return poptorch.identity_loss(loss, reduction="none")


def _check_mask(loss: torch.Tensor, mask: torch.Tensor) -> None:
    """Shapes and dtypes alone, which compilers know: no value is looked at."""
    if mask.dtype != torch.bool:
        raise LossError(f"masked_mean takes a mask of bools; got {mask.dtype}: pass `mask.bool()`, or a comparison")
    if not loss.dim() and mask.dim():
        raise LossError(
            f"masked_mean takes a loss for each of the {mask.shape[0]} rows of the mask; got one number, in which "
            'padding has its part already: pass reduction="none" to the loss function'
        )
    later = zip(mask.shape[1:], loss.shape[1:])
    if mask.dim() > loss.dim() or mask.shape[:1] != loss.shape[:1] or any(m not in (1, n) for m, n in later):
        raise LossError(
            f"masked_mean: the loss is {list(loss.shape)} and the mask {list(mask.shape)}: the mask has a row for each "
            "row of the loss, as graphs_mask has for graphs and nodes_mask for nodes"
        )
