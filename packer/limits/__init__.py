"""What fits into a pack: limits, rules by which they follow from graphs, and every padding rule.

The names below load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from packer import on_first_use

if TYPE_CHECKING:
    from packer.limits.limits_rule import LimitsRule as LimitsRule
    from packer.limits.pack_limits import PackLimits as PackLimits

_HOME = {
    "LimitsRule": "limits_rule",
    "PackLimits": "pack_limits",
}
__getattr__ = on_first_use(__name__, _HOME)
