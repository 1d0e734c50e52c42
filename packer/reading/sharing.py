"""Loaders among tools that share out data: what would be shared out twice, or cannot be, is refused."""

from __future__ import annotations

import os
import sys
import warnings
from types import FrameType
from typing import Any, Mapping

from packer.errors import StateError
from packer.reading.progress import Progress


def not_packed(dataset: Any, class_name: str, purpose: str) -> StateError:
    """Says what was given instead of a `class_name` of packs, and how to get what was meant."""
    kind = type(dataset).__name__
    problem = f"{purpose} needs a {class_name}; got {kind}"
    if isinstance(dataset, (str, os.PathLike)):  # a folder, or what `build` returned
        return StateError(f"{problem}: open it, {class_name}({os.fspath(dataset)!r})")
    if any(_holds_packs(part) for part in _parts(dataset)):
        return StateError(
            f"{problem} of packed data. Packs are read by blocks, in an order of their own, so the split is made when "
            "building: `graph-pack build ... --splits train=0.9,valid=0.1`, or build(..., splits=...), packs each part "
            f"by itself, to be opened as a {class_name} of its own; sources that belong together are built "
            "as one"
        )
    if hasattr(dataset, "manifest"):
        return StateError(f"{problem}: open {class_name}({str(dataset.path)!r})")
    return StateError(
        f"{problem}: open a folder of packs with {class_name}(folder); graphs are packed into one by pipelines.build "
        "or `graph-pack build`"
    )


def _holds_packs(dataset: Any, depth: int = 4) -> bool:
    """Whether it is a reader of packs, or made of some."""
    if hasattr(dataset, "manifest"):
        return True
    return depth > 0 and any(_holds_packs(part, depth - 1) for part in _parts(dataset))


def _parts(dataset: Any) -> list[Any]:
    """What torch's Subset, ConcatDataset, ChainDataset and StackDataset, or a list, are made of."""
    parts = getattr(dataset, "datasets", dataset)
    parts = list(parts.values()) if isinstance(parts, Mapping) else parts
    return list(parts[:100]) if isinstance(parts, (list, tuple)) else [getattr(dataset, "dataset", None)]


def check_shared_out(progress: Progress, processes: int) -> None:
    """For a loader whose steps accelerate is about to share out among so many processes.

    StateError where each rank takes its own share already: the rest of it would be nobody's. A warning where the
    loader gives every step, but they do not come out even: accelerate repeats some, or gives some ranks fewer.
    """
    if processes < 2:
        return
    world, steps = progress.world, len(progress)
    if world > 1:
        raise StateError(
            f"accelerate would share out the {steps} steps of this rank among {processes} processes once more, and "
            f"1 of {processes} packs would be seen: this loader takes the share of 1 of {world} ranks by itself. Leave "
            "it out of prepare() and move its batches with batch.to(accelerator.device); or create it with rank=0, "
            "world_size=1 and let accelerate share out its steps"
        )
    if steps % processes:
        warnings.warn(
            f"accelerate shares out {steps} steps among {processes} processes, which does not come out even: it "
            "repeats steps of the start, or gives some processes fewer. Leave the loader out of prepare() for every "
            "graph once an epoch",
            stacklevel=2,
        )


def sharing_caller(called: FrameType | None) -> int:
    """Among how many processes the caller of the function of this frame shares out what it iterates: as many as an
    accelerate.data_loader.BatchSamplerShard says, 1 for anyone else.

    Loaders of other tools come to be shared out with our batch sampler in them, and who iterates it is all there is to
    be known.
    """
    caller = None if called is None else called.f_back
    sampler = None if caller is None else caller.f_locals.get("self")
    return int(getattr(sampler, "num_processes", 1)) if type(sampler).__name__ == "BatchSamplerShard" else 1


def accelerate_processes() -> int:
    """Of the accelerate that is in use in this process; 1 without."""
    state: Any = getattr(sys.modules.get("accelerate.state"), "PartialState", None)
    if state is None or not getattr(state, "_shared_state", None):
        return 1
    return int(state().num_processes)
