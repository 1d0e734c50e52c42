"""Whether a data set is whole and true: every file, block, graph and claim.

The names below load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from packer import on_first_use

if TYPE_CHECKING:
    from packer.verify.data_set import VerifyReport as VerifyReport
    from packer.verify.data_set import verify_shards as verify_shards
    from packer.verify.shard import Fault as Fault

_HOME = {
    "Fault": "shard",
    "VerifyReport": "data_set",
    "verify_shards": "data_set",
}
__getattr__ = on_first_use(__name__, _HOME)
