"""Which limits to choose: a search over pack shapes, each with a plan.

The names below load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from packer.suggest.suggest import Candidate as Candidate
    from packer.suggest.suggest import Suggestion as Suggestion
    from packer.suggest.suggest import suggest_limits as suggest_limits

_HOME = {
    "Candidate": "suggest",
    "Suggestion": "suggest",
    "suggest_limits": "suggest",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'packer.suggest' has no attribute {name!r}")
    return getattr(import_module(f"packer.suggest.{_HOME[name]}"), name)
