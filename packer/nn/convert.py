"""Swap the norms of a model that exists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from packer.errors import MaskError
from packer.nn.batch_norm import MaskedBatchNorm

_BATCH_NORMS = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d, torch.nn.SyncBatchNorm)


def mask_norms(model: torch.nn.Module, axes: Mapping[str, str] | None = None, *, sync: bool = False) -> Any:
    """Swap the norms of `model` whose statistics would count padding for masked ones, in place, and return it.

    torch's BatchNorm (1d, 2d, 3d, Sync), PyG's BatchNorm, DiffGroupNorm, LayerNorm(mode="graph"), GraphNorm,
    InstanceNorm, PairNorm, MeanSubtractionNorm and GraphSizeNorm; those within layers, as in `GINConv`'s MLP, too.
    Weights, buffers, hooks and modes are the same objects, so optimizers go on and state dicts keep their names. A
    model that is a norm itself cannot change in place: take what is returned. Call it before compiling and before DDP.

    axes: name of a norm, as `model.named_modules()` has it, to the rows it sees ("nodes", "edges", "graphs", or a type
    of heterogeneous graphs), where their number does not tell. sync: batch statistics are those of all ranks, as
    SyncBatchNorm's are; one that is a SyncBatchNorm stays in step in any case.

    Then call the model inside `with masks_of(batch):`. Raises MaskError for a norm that cannot be masked, and for a
    name in axes that is no norm's; the model is then as it was.
    """
    by_name = {
        name: module for name, module in model.named_modules(remove_duplicate=False) if _can_be_masked(name, module)
    }
    norms = {id(module): module for module in by_name.values()}
    unknown = sorted(set(axes or {}) - set(by_name))
    if unknown:
        raise MaskError(f"mask_norms: the model has no norm {unknown[0]!r} to mask; it has {sorted(by_name)}")
    # One for each object, so that a norm used in two places is still one.
    masked = {key: _masked(module, sync) for key, module in norms.items()}
    for name, axis in (axes or {}).items():
        masked[id(by_name[name])].axis = axis
    for parent in list(model.modules()):
        for name, child in list(vars(parent)["_modules"].items()):  # named_children() gives a shared one once
            if id(child) in masked:
                setattr(parent, name, masked[id(child)])
                if getattr(parent, "allow_single_element", False):  # PyG's BatchNorm, around torch's
                    masked[id(child)].allow_single_element = True
    return masked.get(id(model), model)


def _can_be_masked(name: str, module: torch.nn.Module) -> bool:
    if type(module) in _BATCH_NORMS or type(module) in _of_pyg():
        return True
    if isinstance(module, _BatchNorm) or type(module).__name__ == "HeteroBatchNorm":
        raise MaskError(
            f"mask_norms: {name or 'the model'} is a {type(module).__name__}, whose statistics would count padding and "
            "which has no masked counterpart; a lazy norm has one after its first call"
        )
    return False


def _masked(norm: torch.nn.Module, sync: bool) -> Any:
    """The masked counterpart, which shares all that `norm` has."""
    known = _of_pyg()
    kind: Any = known.get(type(norm), MaskedBatchNorm)
    masked = kind.__new__(kind)
    masked.__dict__.update(norm.__dict__)
    masked.axis = None
    if kind is MaskedBatchNorm:
        masked.sync = sync or isinstance(norm, torch.nn.SyncBatchNorm)
        masked.process_group = getattr(norm, "process_group", None)
        masked.allow_single_element = False
    return masked


def _of_pyg() -> dict[type, type]:
    """PyG's norms and their masked counterparts; none where PyG is absent."""
    try:
        from torch_geometric import nn
    except ImportError:
        return {}
    from packer.nn import pyg_norms

    names = ("LayerNorm", "GraphNorm", "InstanceNorm", "PairNorm", "MeanSubtractionNorm", "GraphSizeNorm")
    return {getattr(nn, name): getattr(pyg_norms, f"Masked{name}") for name in names}
