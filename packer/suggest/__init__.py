"""Which limits to choose: a search over pack shapes, each with a plan.

The names below load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from packer import on_first_use

if TYPE_CHECKING:
    from packer.suggest.suggest import Candidate as Candidate
    from packer.suggest.suggest import Suggestion as Suggestion
    from packer.suggest.suggest import suggest_limits as suggest_limits

_HOME = {
    "Candidate": "suggest",
    "Suggestion": "suggest",
    "suggest_limits": "suggest",
}
__getattr__ = on_first_use(__name__, _HOME)
