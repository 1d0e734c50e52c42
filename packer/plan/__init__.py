"""Which graphs share a pack: plans, made, proven and stored.

The names below load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from packer import on_first_use

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
__getattr__ = on_first_use(__name__, _HOME)
