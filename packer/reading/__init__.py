"""Reading packs: the order (pure), the data set, and the loaders.

The names load on first use: PackReader and numpy_loader need numpy and pyarrow only, jax_loader also JAX,
the rest needs torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from packer import on_first_use

if TYPE_CHECKING:
    from packer.reading.array_loader import ArrayLoader as ArrayLoader
    from packer.reading.arrays import numpy_loader as numpy_loader
    from packer.reading.audit import audit_packs as audit_packs
    from packer.reading.batch import PackBatch as PackBatch
    from packer.reading.dataset import PackDataset as PackDataset
    from packer.reading.graphs_tuple import to_graphs_tuple as to_graphs_tuple
    from packer.reading.in_jax import jax_loader as jax_loader
    from packer.reading.loader import torch_loader as torch_loader
    from packer.reading.loss import ipu_loss as ipu_loss
    from packer.reading.loss import masked_mean as masked_mean
    from packer.reading.on_device import DeviceLoader as DeviceLoader
    from packer.reading.on_device import device_loader as device_loader
    from packer.reading.poptorch import poptorch_loader as poptorch_loader
    from packer.reading.reader import PackReader as PackReader
    from packer.reading.sampler import PlanBatchSampler as PlanBatchSampler

_HOME = {
    "ArrayLoader": "array_loader",
    "DeviceLoader": "on_device",
    "PackBatch": "batch",
    "PackDataset": "dataset",
    "PackReader": "reader",
    "PlanBatchSampler": "sampler",
    "audit_packs": "audit",
    "device_loader": "on_device",
    "ipu_loss": "loss",
    "jax_loader": "in_jax",
    "masked_mean": "loss",
    "numpy_loader": "arrays",
    "poptorch_loader": "poptorch",
    "to_graphs_tuple": "graphs_tuple",
    "torch_loader": "loader",
}
_WITHOUT_TORCH = ("ArrayLoader", "PackReader", "jax_loader", "numpy_loader", "to_graphs_tuple", "audit_packs")
__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]
__getattr__ = on_first_use(__name__, _HOME, without_torch=_WITHOUT_TORCH)


def __dir__() -> list[str]:
    return __all__
