"""Whether a data set is whole and true: every file, block, graph and claim.

The names below load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from packer.verify.data_set import VerifyReport as VerifyReport
    from packer.verify.data_set import verify_shards as verify_shards
    from packer.verify.shard import Fault as Fault

_HOME = {
    "Fault": "shard",
    "VerifyReport": "data_set",
    "verify_shards": "data_set",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'packer.verify' has no attribute {name!r}")
    return getattr(import_module(f"packer.verify.{_HOME[name]}"), name)
