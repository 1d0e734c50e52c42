"""Limits that follow from the sizes of the graphs, once these are known."""

from __future__ import annotations

from packer.graphs.sizes import GraphSizes
from packer.limits.pack_limits import PackLimits
from packer.limits.slot_rules import SlotRule


class LimitsRule(SlotRule):
    __doc__ = SlotRule.__doc__

    def limits(self, sizes: GraphSizes) -> PackLimits:
        """The limits for graphs of these sizes."""
        return PackLimits(*self.slots(sizes))
