"""Packed data sets on disk, format graph-packer/1: Parquet shards under a manifest. numpy and pyarrow only.

The names below are loaded on first use: a reader does not wait for the writer's and the verifier's imports.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from packer.shards.container import ShardReader as ShardReader
    from packer.shards.container import open_shard as open_shard
    from packer.shards.files import FileEntry as FileEntry
    from packer.shards.files import write_bytes_atomically as write_bytes_atomically
    from packer.shards.graphs_file import iter_graphs as iter_graphs
    from packer.shards.graphs_file import write_graphs as write_graphs
    from packer.shards.layout import Layout as Layout
    from packer.shards.layout import choose_layout as choose_layout
    from packer.shards.manifest import GraphCounts as GraphCounts
    from packer.shards.manifest import Manifest as Manifest
    from packer.shards.manifest import ShardEntry as ShardEntry
    from packer.shards.manifest import shard_name as shard_name
    from packer.shards.shard_check import Fault as Fault
    from packer.shards.verify import VerifyReport as VerifyReport
    from packer.shards.verify import verify_shards as verify_shards
    from packer.shards.writer import write_shard as write_shard

_HOME = {
    "Fault": "shard_check",
    "FileEntry": "files",
    "GraphCounts": "manifest",
    "Layout": "layout",
    "Manifest": "manifest",
    "ShardEntry": "manifest",
    "ShardReader": "container",
    "VerifyReport": "verify",
    "choose_layout": "layout",
    "iter_graphs": "graphs_file",
    "open_shard": "container",
    "shard_name": "manifest",
    "verify_shards": "verify",
    "write_bytes_atomically": "files",
    "write_graphs": "graphs_file",
    "write_shard": "writer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'packer.shards' has no attribute {name!r}")
    return getattr(import_module(f"packer.shards.{_HOME[name]}"), name)
