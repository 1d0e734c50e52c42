"""The few operations that `take` is written over, for numpy, torch and JAX: gathers, casts and ranges.

Everything else that it does (addition, comparison, reshape, slices) is spelled alike in all three.
"""

from __future__ import annotations

from typing import Any, Mapping, Protocol, Sequence

import numpy as np

from packer.errors import MissingExtraError

BITS = "bfloat16"
"""The name of what is carried as the 16 bits of a bfloat16."""
_SIGNED = {"uint16": "int16", "uint32": "int32", "uint64": "int64", BITS: "int16"}


class Ops(Protocol):
    """index: the dtype of positions. `carried` names the dtype that values are held in, BITS for bits of bfloat16."""

    @property
    def index(self) -> str: ...
    def hold(self, array: np.ndarray) -> Any:
        """An array of the host as this library holds it."""
        ...

    def arange(self, stop: int, like: Any) -> Any:
        """0..stop-1 as positions, where `like` lies."""
        ...

    def rows(self, values: Any, at: Any) -> Any:
        """values [rows, *rest], at: positions of any shape within them -> [*at.shape, *rest]."""
        ...

    def cast(self, values: Any, carried: str, dtype: str) -> Any: ...
    def concat(self, parts: Sequence[Any], axis: int = 0) -> Any: ...
    def moveaxis(self, values: Any, source: int, target: int) -> Any: ...
    def where(self, condition: Any, yes: Any, no: Any) -> Any: ...


class NumpyOps:
    """bfloat16 comes as float32, which holds every value of it."""

    index = "int64"

    def hold(self, array: np.ndarray) -> np.ndarray:
        return array

    def arange(self, stop: int, like: Any) -> np.ndarray:
        return np.arange(stop, dtype=np.int64)

    def rows(self, values: np.ndarray, at: np.ndarray) -> np.ndarray:
        rest = values.shape[1:]
        if not rest or not values.size:
            return values[at]
        # Rows move as opaque items: a copy of bytes each, whatever their dtype.
        items = np.ascontiguousarray(values).reshape(len(values), -1)
        items = items.view(f"V{items.itemsize * items.shape[1]}").reshape(-1)
        return items[at].view(values.dtype).reshape(*at.shape, *rest)

    def cast(self, values: np.ndarray, carried: str, dtype: str) -> np.ndarray:
        if carried == BITS:
            values = (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return values.astype("float32" if dtype == BITS else dtype, copy=False)

    def concat(self, parts: Sequence[np.ndarray], axis: int = 0) -> np.ndarray:
        return np.concatenate(parts, axis=axis)

    def moveaxis(self, values: np.ndarray, source: int, target: int) -> np.ndarray:
        return np.moveaxis(values, source, target)

    def where(self, condition: np.ndarray, yes: Any, no: Any) -> np.ndarray:
        return np.where(condition, yes, no)


class TorchOps:
    """Unsigned integers wider than 8 bits are held as signed ones of the same bits: torch computes with few others."""

    index = "int64"

    def __init__(self) -> None:
        import torch

        self.torch = torch
        self.dtypes: Mapping[str, Any] = {
            name: getattr(torch, name)
            for name in ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", BITS, "float32", "float64")
        }

    def hold(self, array: np.ndarray) -> Any:
        signed = _SIGNED.get(array.dtype.name)
        return self.torch.from_numpy(np.ascontiguousarray(array if signed is None else array.view(signed)))

    def arange(self, stop: int, like: Any) -> Any:
        return self.torch.arange(stop, device=like.device)

    def rows(self, values: Any, at: Any) -> Any:
        return values[at]

    def cast(self, values: Any, carried: str, dtype: str) -> Any:
        if carried == BITS:
            return values.view(self.torch.bfloat16).to(self.dtypes[dtype])
        if carried == dtype and carried in _SIGNED:
            return values.view(getattr(self.torch, dtype))
        if carried == "uint16":
            values = values.to(self.torch.int32) & 0xFFFF
        elif carried == "uint32":
            values = values.to(self.torch.int64) & 0xFFFFFFFF
        if dtype == BITS:  # by way of float32, as numbers reach it on the host
            values = values.to(self.torch.float32)
        return values.to(self.dtypes[dtype])

    def concat(self, parts: Sequence[Any], axis: int = 0) -> Any:
        return self.torch.cat(list(parts), dim=axis)

    def moveaxis(self, values: Any, source: int, target: int) -> Any:
        return self.torch.moveaxis(values, source, target)

    def where(self, condition: Any, yes: Any, no: Any) -> Any:
        return self.torch.where(condition, yes, no)


class JaxOps:
    """Positions have 32 bits, as all integers of JAX unless it is told otherwise."""

    index = "int32"

    def __init__(self) -> None:
        try:
            import jax
        except ImportError as error:
            raise MissingExtraError("jax", "jax", "packs in JAX") from error
        self.jax, self.numpy = jax, jax.numpy

    def hold(self, array: np.ndarray) -> Any:
        return self.jax.device_put(array)

    def arange(self, stop: int, like: Any) -> Any:
        return self.numpy.arange(stop, dtype=self.index)

    def rows(self, values: Any, at: Any) -> Any:
        return self.numpy.take(values, at, axis=0, mode="clip")

    def cast(self, values: Any, carried: str, dtype: str) -> Any:
        if carried == BITS:
            values = self.jax.lax.bitcast_convert_type(values, self.numpy.bfloat16)
        return values.astype(dtype)

    def concat(self, parts: Sequence[Any], axis: int = 0) -> Any:
        return self.numpy.concatenate(parts, axis=axis)

    def moveaxis(self, values: Any, source: int, target: int) -> Any:
        return self.numpy.moveaxis(values, source, target)

    def where(self, condition: Any, yes: Any, no: Any) -> Any:
        return self.numpy.where(condition, yes, no)


def ops_of(library: str) -> Ops:
    """By name: "numpy", "torch" or "jax", which is imported now."""
    return {"numpy": NumpyOps, "torch": TorchOps, "jax": JaxOps}[library]()
