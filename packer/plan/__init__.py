"""Which graphs share a pack: plans, made, proven and stored.

The names below load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from packer.plan.pack_plan import PackPlan as PackPlan
    from packer.plan.pack_plan import lower_bound as lower_bound
    from packer.plan.pack_plan import make_plan as make_plan
    from packer.plan.packing import Packing as Packing
    from packer.plan.packing import pack_vectors as pack_vectors

_HOME = {
    "PackPlan": "pack_plan",
    "Packing": "packing",
    "lower_bound": "pack_plan",
    "make_plan": "pack_plan",
    "pack_vectors": "packing",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'packer.plan' has no attribute {name!r}")
    return getattr(import_module(f"packer.plan.{_HOME[name]}"), name)
