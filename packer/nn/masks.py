"""How a layer deep in a model learns which of its rows are real."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from packer.errors import MaskError

# The masks of the `with` blocks that are open, innermost last. A list at the head of a module, for that is what
# torch.compile can read: it takes the tensors for inputs of the graph, so another batch means no other program.
_OPEN: list[dict[str, torch.Tensor] | None] = []


class masks_of:
    """Tell the masked norms inside a model which rows are real: `with masks_of(batch): out = model(batch)`.

    batch: a PackBatch, what `batch.to_pyg()` gives, or a dict with `nodes_mask`, `edges_mask` and `graphs_mask` (bool,
    one entry a slot), and those of further axes; of heterogeneous graphs `TYPE/mask`. A norm takes the mask that has as
    many entries as its input has rows. None: all rows are real, for batches without padding. Of blocks in one another
    the innermost counts.

    It may stand around a compiled model, inside what is compiled, and around a step and its capture as a CUDA graph.
    The backward pass belongs inside where activations are recomputed (`torch.utils.checkpoint`). One thread at a time.
    Raises MaskError for a batch without masks.
    """

    def __init__(self, batch: Any) -> None:
        self._masks = None if batch is None else _masks_in(batch)

    def __enter__(self) -> None:
        _OPEN.append(self._masks)

    def __exit__(self, *_: object) -> None:
        _OPEN.pop()


def mask_for(x: torch.Tensor, mask: torch.Tensor | None, axis: str | None, layer: str) -> torch.Tensor:
    """The mask of the rows of x, bool [rows]: the one that was passed, or that of the open block.

    axis: the name of the mask ("nodes", "edges", "graphs", or a type) where its length does not tell. Shapes and dtypes
    alone are looked at. Raises MaskError.
    """
    if mask is None:
        if not _OPEN:
            raise MaskError(
                f"{layer} needs to know which rows are real: call the model inside `with masks_of(batch):`, or pass a "
                "mask, norm(x, batch.nodes_mask); `masks_of(None)` says that all are"
            )
        masks = _OPEN[-1]
        if masks is None:
            return torch.ones(x.shape[0], dtype=torch.bool, device=x.device)
        mask = _of_length(masks, x.shape[0], axis, layer)
    if mask.dtype != torch.bool:
        raise MaskError(f"{layer} takes a mask of bools; got {mask.dtype}: pass `mask.bool()`, or a comparison")
    if mask.shape != x.shape[:1]:
        raise MaskError(f"{layer}: the input has {x.shape[0]} rows and the mask is {list(mask.shape)}")
    return mask


def _of_length(masks: dict[str, torch.Tensor], rows: int, axis: str | None, layer: str) -> torch.Tensor:
    lengths = ", ".join(f"{name} {len(mask)}" for name, mask in masks.items())
    if axis is not None:
        if axis not in masks:
            raise MaskError(f"{layer} is one of {axis!r}; the batch has masks of {lengths}")
        return masks[axis]
    fitting = [name for name, mask in masks.items() if len(mask) == rows]
    if not fitting:
        raise MaskError(
            f"{layer}: the input has {rows} rows; the batch has masks of {lengths}. Pass a mask to the layer"
        )
    if len(fitting) > 1:
        raise MaskError(
            f"{layer}: the input has {rows} rows, as have {' and '.join(fitting)}. Say which it is: "
            f'mask_norms(model, {{"name.of.layer": "{fitting[0]}"}}), or axis="{fitting[0]}" of the layer'
        )
    return masks[fitting[0]]


def _of_further_axis(key: str, named: Mapping[Any, Any]) -> bool:
    """Whether this is the mask of a further axis: packs have its `batch` and `ptr` beside it."""
    name = key[: -len("_mask")]
    return key.endswith("s_mask") and f"{name}_batch" in named and f"{name}_ptr" in named


def _masks_in(batch: Any) -> dict[str, torch.Tensor]:
    """Axis -> mask. Of PyG's heterogeneous batches each store is a dict of its own."""
    named: Mapping[Any, Any] = batch if isinstance(batch, Mapping) else batch.to_dict()
    masks: dict[str, torch.Tensor] = {}
    for key, value in named.items():
        if isinstance(value, Mapping):
            named_masks = {name: value[name] for name in ("mask", "graphs_mask") if name in value}
            owner = key if isinstance(key, str) else "__".join(key)
            masks.update({owner if name == "mask" else "graphs": mask for name, mask in named_masks.items()})
        elif key in ("nodes_mask", "edges_mask", "graphs_mask") or _of_further_axis(key, named):
            masks[key[: -len("_mask")]] = value
        elif key.endswith("/mask"):
            masks[key[: -len("/mask")]] = value
    if not masks:
        raise MaskError(
            f"masks_of: this batch has no nodes_mask, edges_mask or graphs_mask; it has {[str(key) for key in named]}. "
            "`masks_of(None)` says that every row is real"
        )
    return masks
