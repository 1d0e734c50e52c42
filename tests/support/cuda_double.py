"""A stand-in for CUDA graphs, on the CPU: what is captured is recorded operation by operation, and done again.

As on a GPU, a replay sees the tensors of the capture and no other, and writes its results into them; Python does not
run again, so a number that was read back during the capture stays what it was.
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from packer.reading import PackBatch


class Stream:
    def __init__(self, device: Any = None) -> None: ...

    def wait_stream(self, other: Stream) -> None:
        assert isinstance(other, Stream)


class CUDAGraph:
    def __init__(self) -> None:
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        self.before: list[Any] = []
        self.after: list[Any] = []

    def replay(self) -> None:
        for call in self.before:
            call()
        with torch.no_grad():
            for operation, arguments, named, results in self.operations:
                again = operation(*arguments, **named)
                for old, new in zip(tree_leaves(results), tree_leaves(again), strict=True):
                    if isinstance(old, torch.Tensor) and old is not new:
                        old.detach().copy_(new)
        for call in self.after:
            call()


class graph(TorchDispatchMode):
    """torch.cuda.graph: records into a CUDAGraph what is done inside."""

    def __init__(self, into: CUDAGraph, **options: Any) -> None:
        super().__init__()
        self.into = into

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.into.operations.append((func, args, kwargs or {}, found))
        return found


def pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process see a GPU that is its CPU."""
    adam = torch.optim.Adam

    def capturable_adam(parameters: Any, *, capturable: bool, **options: Any) -> torch.optim.Adam:
        assert capturable, "an optimizer inside a CUDA graph must be capturable"
        return adam(parameters, **options)

    monkeypatch.setattr(torch.optim, "Adam", capturable_adam)
    monkeypatch.setattr(torch.nn.Module, "cuda", lambda self: self)
    monkeypatch.setattr(PackBatch, "cuda", lambda self: self._map(torch.clone))
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", contextlib.nullcontext)
    monkeypatch.setattr(torch.cuda, "device", contextlib.nullcontext)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", CUDAGraph)
    monkeypatch.setattr(torch.cuda, "graph", graph)
