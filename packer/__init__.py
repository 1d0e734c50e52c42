"""Pack small graphs once, offline, for static-shape training.

The names below are the public interface. They are loaded on first use, so that `import packer` is light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Callable, Container, Mapping

if TYPE_CHECKING:
    from packer.certificate import Certificate as Certificate
    from packer.certificate import check_certificate as check_certificate
    from packer.graphs.sizes import GraphSizes as GraphSizes
    from packer.limits import LimitsRule as LimitsRule
    from packer.limits import PackLimits as PackLimits
    from packer.nn import MaskedBatchNorm as MaskedBatchNorm
    from packer.nn import MaskedLayerNorm as MaskedLayerNorm
    from packer.nn import mask_norms as mask_norms
    from packer.nn import masks_of as masks_of
    from packer.plan import Packing as Packing
    from packer.plan import PackPlan as PackPlan
    from packer.plan import lower_bound as lower_bound
    from packer.plan import make_plan as make_plan
    from packer.plan import pack_vectors as pack_vectors
    from packer.reading import PackBatch as PackBatch
    from packer.reading import PackDataset as PackDataset
    from packer.reading import PackReader as PackReader
    from packer.reading import PlanBatchSampler as PlanBatchSampler
    from packer.reading import audit_packs as audit_packs
    from packer.reading import device_loader as device_loader
    from packer.reading import ipu_loss as ipu_loss
    from packer.reading import jax_loader as jax_loader
    from packer.reading import masked_mean as masked_mean
    from packer.reading import numpy_loader as numpy_loader
    from packer.reading import poptorch_loader as poptorch_loader
    from packer.reading import to_graphs_tuple as to_graphs_tuple
    from packer.reading import torch_loader as torch_loader
    from packer.reading.unpack_graphs import unpack as unpack
    from packer.reading.unpack_graphs import unpack_with_ids as unpack_with_ids
    from packer.suggest import Candidate as Candidate
    from packer.suggest import Suggestion as Suggestion
    from packer.suggest import suggest_limits as suggest_limits
    from packer.verify import VerifyReport as VerifyReport
    from packer.verify import verify_shards as verify_shards

__version__ = "0.1.0"

_HOME = {
    "Candidate": "suggest",
    "Certificate": "certificate",
    "GraphSizes": "graphs.sizes",
    "LimitsRule": "limits",
    "MaskedBatchNorm": "nn",
    "MaskedLayerNorm": "nn",
    "PackBatch": "reading",
    "PackDataset": "reading",
    "PackLimits": "limits",
    "PackPlan": "plan",
    "PackReader": "reading",
    "PlanBatchSampler": "reading",
    "Packing": "plan",
    "Suggestion": "suggest",
    "VerifyReport": "verify",
    "audit_packs": "reading",
    "check_certificate": "certificate",
    "device_loader": "reading",
    "ipu_loss": "reading",
    "jax_loader": "reading",
    "lower_bound": "plan",
    "make_plan": "plan",
    "mask_norms": "nn",
    "masked_mean": "reading",
    "masks_of": "nn",
    "numpy_loader": "reading",
    "pack_vectors": "plan",
    "poptorch_loader": "reading",
    "suggest_limits": "suggest",
    "to_graphs_tuple": "reading",
    "torch_loader": "reading",
    "unpack": "reading.unpack_graphs",
    "unpack_with_ids": "reading.unpack_graphs",
    "verify_shards": "verify",
}
__all__ = sorted([*_HOME, "__version__"])  # pyright: ignore[reportUnsupportedDunderAll]


def on_first_use(
    package: str, home: Mapping[str, str], without_torch: Container[str] | None = None
) -> Callable[[str], Any]:
    """The `__getattr__` of a package whose names load on first use. home: name -> module within the package.

    without_torch: the names that do without torch, where the others are a MissingExtraError if it is not installed;
    None where none asks for it.
    """

    def load(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if without_torch is not None and name not in without_torch:
            _check_torch(name)
        return getattr(import_module(f"{package}.{home[name]}"), name)

    return load


def _check_torch(name: str) -> None:
    try:
        import torch  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        from packer.errors import MissingExtraError

        raise MissingExtraError("torch", "torch", f"packer.{name}") from error


__getattr__ = on_first_use(__name__, _HOME)


def __dir__() -> list[str]:
    return __all__
