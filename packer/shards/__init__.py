"""Packed data sets on disk, format graph-packer/1: Parquet shards under a manifest. numpy and pyarrow only.

The names below load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from packer import on_first_use

if TYPE_CHECKING:
    from packer.shards.graphs_file import iter_graphs as iter_graphs
    from packer.shards.graphs_file import write_graphs as write_graphs
    from packer.shards.layout import Layout as Layout
    from packer.shards.layout import choose_layout as choose_layout
    from packer.shards.manifest import GraphCounts as GraphCounts
    from packer.shards.manifest import Manifest as Manifest
    from packer.shards.manifest import ShardEntry as ShardEntry
    from packer.shards.manifest import shard_name as shard_name
    from packer.shards.reader import ShardReader as ShardReader
    from packer.shards.reader import open_shard as open_shard
    from packer.shards.writer import write_shard as write_shard

_HOME = {
    "GraphCounts": "manifest",
    "Layout": "layout",
    "Manifest": "manifest",
    "ShardEntry": "manifest",
    "ShardReader": "reader",
    "choose_layout": "layout",
    "iter_graphs": "graphs_file",
    "open_shard": "reader",
    "shard_name": "manifest",
    "write_graphs": "graphs_file",
    "write_shard": "writer",
}
__getattr__ = on_first_use(__name__, _HOME)
