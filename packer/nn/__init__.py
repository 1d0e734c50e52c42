"""Layers that know padding: norms whose statistics are those of real rows, and what swaps them into a model.

The names load on first use: all need torch, those of PyG's norms also PyG.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from packer import on_first_use

if TYPE_CHECKING:
    from packer.nn.batch_norm import MaskedBatchNorm as MaskedBatchNorm
    from packer.nn.convert import mask_norms as mask_norms
    from packer.nn.masks import masks_of as masks_of
    from packer.nn.pyg_norms import MaskedGraphNorm as MaskedGraphNorm
    from packer.nn.pyg_norms import MaskedGraphSizeNorm as MaskedGraphSizeNorm
    from packer.nn.pyg_norms import MaskedInstanceNorm as MaskedInstanceNorm
    from packer.nn.pyg_norms import MaskedLayerNorm as MaskedLayerNorm
    from packer.nn.pyg_norms import MaskedMeanSubtractionNorm as MaskedMeanSubtractionNorm
    from packer.nn.pyg_norms import MaskedPairNorm as MaskedPairNorm

_HOME = {
    "MaskedBatchNorm": "batch_norm",
    "MaskedGraphNorm": "pyg_norms",
    "MaskedGraphSizeNorm": "pyg_norms",
    "MaskedInstanceNorm": "pyg_norms",
    "MaskedLayerNorm": "pyg_norms",
    "MaskedMeanSubtractionNorm": "pyg_norms",
    "MaskedPairNorm": "pyg_norms",
    "mask_norms": "convert",
    "masks_of": "masks",
}
__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]
__getattr__ = on_first_use(__name__, _HOME, without_torch=())


def __dir__() -> list[str]:
    return __all__
