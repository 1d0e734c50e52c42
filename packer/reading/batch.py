"""One step's packs with attributes: what layout="pyg" yields."""

from __future__ import annotations

from typing import Any, Callable, Iterator

import torch

from packer.errors import MissingExtraError
from packer.reading.collate import PackShape
from packer.reading.transport import Message, from_message, is_plain, to_message


class PackBatch:
    """The tensors of one or several joined packs: `batch.x` or `batch["x"]`, with PyG's names.

    In heterogeneous graphs `batch["author"].x`, `batch["author", "writes", "paper"].edge_index`, `batch.x_dict`,
    `batch.edge_index_dict` and `batch.metadata()` as in PyG; flat keys are `batch["author/x"]`. Attributes can be set.
    Nothing else is held but what all packs have in common, so models take it under torch.compile as they would a dict
    of tensors.
    """

    __slots__ = ("__dict__", "_num_packs", "_shape")  # __dict__ holds the tensors and nothing else

    def __init__(self, tensors: dict[str, torch.Tensor], shape: PackShape, num_packs: int = 1) -> None:
        self.__dict__ = tensors
        self._shape = shape
        self._num_packs = num_packs

    def keys(self) -> list[str]:
        """Names of the tensors."""
        return list(self.__dict__)

    def to_dict(self) -> dict[str, torch.Tensor]:
        """Name -> tensor: a new dict of the same tensors."""
        return dict(self.__dict__)

    @property
    def num_graphs(self) -> int:
        """Graph slots, null graphs included: the same for every batch; pooling wants it as its size."""
        return self._num_packs * self._shape.num_graphs

    @property
    def num_nodes(self) -> int:
        """Node slots, of all types together."""
        return self._num_packs * self._shape.num("node")

    @property
    def num_edges(self) -> int:
        """Edge slots, of all types together."""
        return self._num_packs * self._shape.num("edge")

    @property
    def num_real_graphs(self) -> int:
        """Graphs that are not padding. Waits for the device; inside a compiled model use `graphs_mask`."""
        return int(self["graphs_mask"].sum())

    def to(self, device: Any, non_blocking: bool = False) -> PackBatch:
        """A copy on `device`."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def cpu(self) -> PackBatch:
        return self.to("cpu")

    def cuda(self, device: Any = None, non_blocking: bool = False) -> PackBatch:
        return self.to("cuda" if device is None else device, non_blocking)

    def pin_memory(self) -> PackBatch:
        """A copy in page-locked memory, from which `to(device, non_blocking=True)` need not wait."""
        return self._map(lambda tensor: tensor.pin_memory())

    def to_pyg(self) -> Any:
        """A PyG `Batch` (of `Data` or `HeteroData`) of the same tensors, with every slot as a graph."""
        try:
            from torch_geometric.data import Batch, Data, HeteroData
        except ImportError as error:
            raise MissingExtraError("torch_geometric", "pyg", "PackBatch.to_pyg") from error
        hetero = any(axis.type is not None for axis in self._shape.axes)
        batch: Any = Batch(_base_cls=HeteroData if hetero else Data)
        stores = {axis.key: axis.type for axis in self._shape.axes}
        for key, tensor in self.__dict__.items():
            owner, _, name = key.rpartition("/")
            setattr(batch[stores[owner]] if owner in stores else batch, name if owner in stores else key, tensor)
        for axis, slots in zip(self._shape.axes, self._shape.slots):
            if axis.level == "node":
                (batch[axis.type] if hetero else batch).num_nodes = self._num_packs * slots
        batch._num_graphs = self.num_graphs
        return batch

    def __getitem__(self, key: Any) -> Any:
        """A tensor by its name; in heterogeneous graphs also what belongs to a node or edge type."""
        if isinstance(key, str) and key in self.__dict__:
            return self.__dict__[key]
        for axis, slots in zip(self._shape.axes, self._shape.slots):
            if axis.type is not None and key in (axis.type, axis.key):
                return TypeView(self, axis.key, self._num_packs * slots)
        raise KeyError(f"{key!r} is not in this batch; it has {self.keys()}")

    def __setitem__(self, key: str, tensor: torch.Tensor) -> None:
        self.__dict__[key] = tensor

    def __getattr__(self, name: str) -> Any:
        """Only called for what is not there: `x_dict` gathers the `x` of every type; `node_types`, `edge_types` and
        `metadata()` are those of PyG's heterogeneous graphs."""
        if name in ("node_types", "edge_types", "metadata") and self._shape.axes[0].type is not None:
            if name == "metadata":
                return lambda: (self.node_types, self.edge_types)
            return [axis.type for axis in self._shape.axes if name.startswith(axis.level)]
        if name.endswith("_dict") and not name.startswith("_"):
            by_type = {
                axis.type: self.__dict__[f"{axis.key}/{name[:-5]}"]
                for axis in self._shape.axes
                if axis.type is not None and f"{axis.key}/{name[:-5]}" in self.__dict__
            }
            if by_type:
                return by_type
        raise AttributeError(f"this batch has no {name!r}; it has {list(self.__dict__)}")

    def __contains__(self, key: str) -> bool:
        return key in self.__dict__

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        return iter(self.__dict__.items())

    def __repr__(self) -> str:
        shapes = ", ".join(f"{key}={list(tensor.shape)}" for key, tensor in self)
        return f"PackBatch(num_graphs={self.num_graphs}, {shapes})"

    def __reduce__(self) -> tuple[Any, ...]:
        tensors = self.__dict__
        if is_plain(tensors):
            return _from_message, (to_message(tensors), self._shape, self._num_packs)
        return PackBatch, (tensors, self._shape, self._num_packs)

    def _map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> PackBatch:
        return PackBatch({key: change(tensor) for key, tensor in self}, self._shape, self._num_packs)


class TypeView:
    """What a batch holds of one node or edge type: `view.x` is the batch's "author/x"."""

    __slots__ = ("_batch", "_prefix", "_slots")

    def __init__(self, batch: PackBatch, key: str, slots: int) -> None:
        object.__setattr__(self, "_batch", batch)
        object.__setattr__(self, "_prefix", key + "/")
        object.__setattr__(self, "_slots", slots)

    def keys(self) -> list[str]:
        return [key[len(self._prefix) :] for key, _ in self._batch if key.startswith(self._prefix)]

    @property
    def num_nodes(self) -> int:
        """Slots of this node type."""
        return self._slots

    @property
    def num_edges(self) -> int:
        """Slots of this edge type."""
        return self._slots

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._batch[self._prefix + name]

    def __contains__(self, name: str) -> bool:
        return self._prefix + name in self._batch

    def __getattr__(self, name: str) -> torch.Tensor:
        # torch.compile makes a view without __init__ and asks what it has: looking for the batch would never end.
        if name in TypeView.__slots__:
            raise AttributeError(f"this view has no {name!r} yet")
        if self._prefix + name not in self._batch:
            raise AttributeError(f"{self._prefix[:-1]} has no {name!r}; it has {self.keys()}")
        return self._batch[self._prefix + name]

    def __setattr__(self, name: str, tensor: torch.Tensor) -> None:
        self._batch[self._prefix + name] = tensor


def _from_message(message: Message, shape: PackShape, num_packs: int) -> PackBatch:
    return PackBatch(from_message(message), shape, num_packs)


RESERVED = frozenset(name for name in dir(PackBatch) if not name.startswith("__"))
"""Names of fields that would hide what a batch itself has."""
