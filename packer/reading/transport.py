"""How a step comes from a worker process: its tensors as one array, by a pipe."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Tuple

import numpy as np
import torch

MOST_PIPED = 4 << 20
"""Bytes. A pipe copies, but shared memory costs a file, a descriptor and a mapping each: only more than this pays."""

Message = Tuple[List[Tuple[str, torch.dtype, torch.Size, slice]], "np.ndarray | torch.Tensor"]


def is_plain(tensors: Mapping[str, Any]) -> bool:
    """Whether all are plain values in this process's memory."""
    return all(
        isinstance(tensor, torch.Tensor) and tensor.device.type == "cpu" and not tensor.requires_grad
        for tensor in tensors.values()
    )


class PipedStep(Dict[str, torch.Tensor]):
    """A step in layout="dict", about to leave a worker process; it arrives as a dict."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (from_message, (to_message(self),)) if is_plain(self) else (dict, (dict(self),))


def to_message(tensors: Mapping[str, torch.Tensor]) -> Message:
    """Name, dtype, shape and place of each tensor in the bytes of all: widest first, so that all are aligned."""
    at, where = 0, dict.fromkeys(tensors, slice(0))
    parts: list[torch.Tensor] = []
    for name, tensor in sorted(tensors.items(), key=lambda item: -item[1].element_size()):
        parts.append(tensor.contiguous().reshape(-1).view(torch.uint8))
        start, at = at, at + parts[-1].numel()
        where[name] = slice(start, at)
    together = torch.cat(parts)
    about = [(name, tensor.dtype, tensor.shape, where[name]) for name, tensor in tensors.items()]
    return about, together.numpy() if at <= MOST_PIPED else together


def from_message(message: Message) -> dict[str, torch.Tensor]:
    """The tensors again. Each looks into the bytes by way of numpy: as views of one tensor they would count each
    other's changes in place as their own."""
    about, together = message
    data = np.asarray(together)
    return {name: torch.from_numpy(data[bytes_]).view(dtype).view(size) for name, dtype, size, bytes_ in about}
