"""Packed data sets on disk, format graph-packer/1: Parquet shards under a manifest. numpy and pyarrow only."""

from __future__ import annotations

from packer.shards.container import ShardReader, open_shard
from packer.shards.files import FileEntry, write_bytes_atomically
from packer.shards.graphs_file import iter_graphs, write_graphs
from packer.shards.layout import Layout, choose_layout
from packer.shards.manifest import GraphCounts, Manifest, ShardEntry, shard_name
from packer.shards.writer import write_shard

__all__ = [
    "FileEntry",
    "GraphCounts",
    "Layout",
    "Manifest",
    "ShardEntry",
    "ShardReader",
    "choose_layout",
    "iter_graphs",
    "open_shard",
    "shard_name",
    "write_bytes_atomically",
    "write_graphs",
    "write_shard",
]
