"""What fits into a pack: limits, rules by which they follow from graphs, and every padding rule.

The names below load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from packer.limits.limits_rule import LimitsRule as LimitsRule
    from packer.limits.pack_limits import PackLimits as PackLimits

_HOME = {
    "LimitsRule": "limits_rule",
    "PackLimits": "pack_limits",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'packer.limits' has no attribute {name!r}")
    return getattr(import_module(f"packer.limits.{_HOME[name]}"), name)
