"""`manifest.json`: everything about a data set, and the only commit point. No manifest, no data set."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Mapping, cast

from packer.errors import FormatError, MissingFileError
from packer.files import canonical
from packer.files.atomic import FileEntry
from packer.files.open import place_of
from packer.files.parquet.structs import MAX_FOOTER_BYTES, most_rows
from packer.files.protocol import Where
from packer.graphs.schema import Schema
from packer.limits.pack_limits import PackLimits
from packer.packs.columns import Column, pack_columns
from packer.shards.layout import MAX_BLOCK_BYTES, MAX_BLOCK_PACKS
from packer.shards.pages import CODECS, BlockFormat, block_format
from packer.shards.schema import check_schema
from packer.shards.targets import TargetStats, target_fields

FORMAT = "graph-packer/1"
MANIFEST, GRAPHS, PLAN = "manifest.json", "graphs.parquet", "plan.parquet"

_FORMAT = re.compile(rb'\{"format":"(graph-packer/[^"]{1,20})"')
_SHA256 = re.compile("[0-9a-f]{64}")
_PAGE_BYTES = 16
"""The least that a column takes of a block: the header of its page."""
_PLAN_MEMBERS = ("algorithm", "lower_bound", "num_packs", "seed", "status", "stopped_by")


@dataclass(frozen=True)
class ShardEntry:
    """What the manifest says of one shard.

    block_bytes[i], block_crc32[i]: length and CRC-32 of block i. Blocks follow each other from byte 0 on; the rest of
    the file is its Parquet footer, with CRC-32 footer_crc32. So every byte is under a checksum.
    """

    name: str
    packs: int
    bytes: int
    sha256: str
    block_bytes: tuple[int, ...]
    block_crc32: tuple[int, ...]
    footer_crc32: int

    @property
    def blocks(self) -> int:
        return len(self.block_bytes)

    @cached_property
    def block_offsets(self) -> tuple[int, ...]:
        """[blocks + 1]: where each block starts, then where the footer does."""
        offsets = [0]
        for size in self.block_bytes:
            offsets.append(offsets[-1] + size)
        return tuple(offsets)


@dataclass(frozen=True)
class GraphCounts:
    """What became of the source's graphs: graphs = packed + trimmed + skipped.

    packed: in a pack as they are; trimmed: in a pack, with nodes or edges left out; skipped: in no pack;
    reasons: reason -> number of graphs, of those skipped or trimmed.
    """

    graphs: int
    packed: int
    trimmed: int = 0
    skipped: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)

    @property
    def in_packs(self) -> int:
        return self.packed + self.trimmed


@dataclass(frozen=True)
class Manifest:
    """A packed data set, all but its packs.

    shards: every shard but the last holds as many packs as the first, a multiple of packs_per_block; every block but
    the last of its shard holds packs_per_block. plan: plain values, with algorithm, seed, num_packs, lower_bound,
    status, stopped_by (and, where stored here, certificate). files: graphs.parquet and plan.parquet. source: plain
    values that name where the graphs came from; content_hash: of the graphs themselves; versions: name -> version.
    uncompressed: columns that are stored as they are, since the codec would hardly shrink them. target_stats: field key
    -> mean and standard deviation over the packed graphs, of every floating field of graphs; {} where there is none,
    and in data sets built before these were kept.
    """

    schema: Schema
    limits: PackLimits
    num_packs: int
    packs_per_block: int
    compression: str
    shards: tuple[ShardEntry, ...]
    counts: GraphCounts
    plan: Mapping[str, Any]
    files: Mapping[str, FileEntry]
    source: Mapping[str, Any]
    content_hash: str
    versions: Mapping[str, str]
    uncompressed: tuple[str, ...] = ()
    target_stats: Mapping[str, TargetStats] = field(default_factory=dict)

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The columns of every pack."""
        return pack_columns(self.schema, self.limits)

    @property
    def packs_per_shard(self) -> int:
        return self.shards[0].packs if self.shards else 0

    @property
    def blocks_per_shard(self) -> int:
        return self.shards[0].blocks if self.shards else 0

    @property
    def num_blocks(self) -> int:
        return -(-self.num_packs // self.packs_per_block)

    @cached_property
    def block_format(self) -> BlockFormat:
        return block_format(self.columns, self.packs_per_block, self.compression, self.uncompressed)

    def locate(self, pack: int) -> tuple[int, int, int]:
        """(shard, block of the shard, row of the block) of a pack, 0 <= pack < num_packs."""
        shard, rest = divmod(pack, self.packs_per_shard)
        return (shard, *divmod(rest, self.packs_per_block))

    def to_bytes(self) -> bytes:
        """Canonical JSON; the last member is the SHA-256 of the rest. The same data set gives the same bytes."""
        entries = {name: {"bytes": entry.bytes, "sha256": entry.sha256} for name, entry in self.files.items()}
        counts = self.counts
        stats = {
            key: {name: list(v) for name, v in vars(field_stats).items()}
            for key, field_stats in self.target_stats.items()
        }
        return canonical.seal(
            {
                "format": FORMAT,
                "schema": self.schema.to_dict(),
                "limits": self.limits.to_dict(),
                "num_packs": self.num_packs,
                "packs_per_block": self.packs_per_block,
                "compression": self.compression,
                "uncompressed": list(self.uncompressed),
                "counts": {
                    "graphs": counts.graphs,
                    "packed": counts.packed,
                    "reasons": dict(counts.reasons),
                    "skipped": counts.skipped,
                    "trimmed": counts.trimmed,
                },
                **({"target_stats": stats} if stats else {}),
                "plan": dict(self.plan),
                "source": dict(self.source),
                "content_hash": self.content_hash,
                "versions": dict(self.versions),
                "files": entries,
                "shards": [_plain_shard(shard) for shard in self.shards],
            }
        )

    @property
    def num_graphs(self) -> int:
        """Graphs in the packs: those of the source, less what was skipped."""
        return self.counts.in_packs

    @cached_property
    def sha256(self) -> str:
        """Names the data set: the manifest's own last member."""
        return self.to_bytes()[-67:-3].decode()

    @classmethod
    def load(cls, source: Where | bytes) -> Manifest:
        """Read from where a data set lies (a folder, a URL, a place), or from the manifest's bytes.

        Raises FormatError for anything but what `to_bytes` wrote, and for numbers that do not fit together.
        """
        data = source if isinstance(source, bytes) else read_manifest_bytes(source)
        known = _FORMAT.match(data)
        if known and known[1].decode("ascii", "replace") != FORMAT:
            raise FormatError(
                f"{MANIFEST} says format {known[1].decode('ascii', 'replace')!r}; this version of graph-packer reads "
                f"{FORMAT!r}: install the version that wrote it, or build the data set anew"
            )
        return _parse(canonical.unseal(data, MANIFEST))


def read_manifest_bytes(where: Where) -> bytes:
    """The bytes of a data set's manifest. MissingFileError where there is none, FormatError for an absurd one."""
    place = place_of(where)
    try:
        file = place.open(MANIFEST)
    except MissingFileError as error:
        raise MissingFileError(
            f"{place} holds no {MANIFEST}: not a data set, or a build that did not finish"
        ) from error
    try:
        if file.size > canonical.MAX_BYTES:
            raise FormatError(f"{MANIFEST} has {file.size} bytes; at most {canonical.MAX_BYTES} are read")
        return bytes(file.read(0, file.size))
    finally:
        file.close()


def shard_name(shard: int) -> str:
    """The only name that shard number `shard` may have."""
    return f"shard-{shard:05d}.parquet"


def _plain_shard(shard: ShardEntry) -> dict[str, Any]:
    return {
        "block_bytes": list(shard.block_bytes),
        "block_crc32": list(shard.block_crc32),
        "bytes": shard.bytes,
        "footer_crc32": shard.footer_crc32,
        "name": shard.name,
        "packs": shard.packs,
        "sha256": shard.sha256,
    }


def _parse(members: dict[str, Any]) -> Manifest:
    names = ["format", "schema", "limits", "num_packs", "packs_per_block", "compression", "uncompressed", "counts"]
    names += ["target_stats"] if "target_stats" in members else []
    names += ["plan", "source", "content_hash", "versions", "files", "shards"]
    if list(members) != names or members["format"] != FORMAT:
        raise FormatError(f"{MANIFEST} has members {list(members)[:20]}, not {names}")
    try:
        schema = Schema.from_dict(_members(members["schema"], "schema"))
        limits = PackLimits.from_dict(_members(members["limits"], "limits"), schema.axes)
        columns = check_schema(schema, limits)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:  # FormatError is a ValueError
        raise FormatError(f"{MANIFEST}: {error}") from error
    packs = _integer(members["num_packs"], "num_packs")
    per_block = _integer(members["packs_per_block"], "packs_per_block", 1, MAX_BLOCK_PACKS)
    pack_bytes = sum(column.width for column in columns)
    if per_block * pack_bytes > MAX_BLOCK_BYTES:
        raise FormatError(
            f"{MANIFEST}: a block of {per_block} packs of {pack_bytes} bytes is over {MAX_BLOCK_BYTES} bytes"
        )
    if members["compression"] not in list(CODECS):
        raise FormatError(f"{MANIFEST}: compression must be one of {', '.join(CODECS)}; got {members['compression']!r}")
    plain = [_text(name, "uncompressed", 1000) for name in _list(members["uncompressed"], "uncompressed")]
    named = set(plain)
    if plain != [column.name for column in columns if column.name in named] or (
        plain and members["compression"] == "none"
    ):
        raise FormatError(f"{MANIFEST}: uncompressed must name columns in their order; got {str(plain)[:80]}")
    shards = tuple(_shard(entry, i) for i, entry in enumerate(_list(members["shards"], "shards")))
    manifest = Manifest(
        schema,
        limits,
        packs,
        per_block,
        members["compression"],
        shards,
        _counts(_members(members["counts"], "counts")),
        _members(members["plan"], "plan"),
        _files(_members(members["files"], "files")),
        _members(members["source"], "source"),
        _text(members["content_hash"], "content_hash"),
        {name: _text(v, f"version of {name}") for name, v in _members(members["versions"], "versions").items()},
        tuple(plain),
        _target_stats(_members(members["target_stats"], "target_stats"), schema) if "target_stats" in members else {},
    )
    _check_shards(manifest, pack_bytes, sum(column.width > 0 for column in columns))
    _check_counts(manifest)
    _check_plan(manifest.plan, packs)
    return manifest


def _check_shards(manifest: Manifest, pack_bytes: int, num_columns: int) -> None:
    """Numbers of packs, blocks and bytes that fit together, so that readers can trust them."""
    packs = sum(shard.packs for shard in manifest.shards)
    if packs != manifest.num_packs:
        raise FormatError(f"{MANIFEST}: its shards hold {packs} packs, num_packs is {manifest.num_packs}")
    full, per_block = manifest.packs_per_shard, manifest.packs_per_block
    for shard in manifest.shards:
        last = shard is manifest.shards[-1]
        if not (shard.packs <= full if last else shard.packs == full and full % per_block == 0):
            raise FormatError(f"{MANIFEST}: {shard.name} holds {shard.packs} packs; shards must hold {full} each")
        if shard.blocks != -(-shard.packs // per_block) or len(shard.block_crc32) != shard.blocks:
            raise FormatError(f"{MANIFEST}: {shard.name} has {shard.blocks} blocks for {shard.packs} packs")
        # zstd and LZ4 grow what they cannot compress by less than 1 %; headers take some 100 bytes a column.
        most = 1.01 * per_block * pack_bytes + 4096 * (num_columns + 1)
        least = _PAGE_BYTES * num_columns
        if (
            min(shard.block_bytes) < least
            or max(shard.block_bytes) > most
            or not 0 < shard.bytes - sum(shard.block_bytes) <= MAX_FOOTER_BYTES
        ):
            raise FormatError(f"{MANIFEST}: the blocks of {shard.name} do not fit its {shard.bytes} bytes")


def _check_plan(plan: Mapping[str, Any], packs: int) -> None:
    """What reports calculate with and say: numbers of packs, and words."""
    missing = [name for name in _PLAN_MEMBERS if name not in plan]
    if missing or plan["num_packs"] != packs:
        raise FormatError(f"{MANIFEST}: its plan lacks {missing}, or is not one of {packs} packs")
    _integer(plan["lower_bound"], "lower_bound of its plan", min(1, packs), packs)
    _integer(plan["seed"], "seed of its plan", -(2**63), 2**64)
    for name in ("algorithm", "stopped_by"):
        _text(plan[name], f"{name} of its plan")
    if plan["status"] not in ("optimal", "feasible"):
        raise FormatError(f"{MANIFEST}: status of its plan must be optimal or feasible; got {str(plan['status'])[:80]}")


def _check_counts(manifest: Manifest) -> None:
    """Numbers of graphs that fit together, and that the bytes of graphs.parquet can hold: arrays are made by them."""
    counts, size = manifest.counts, manifest.files[GRAPHS].bytes
    stated = f"{counts.graphs} graphs, {counts.packed} packed, {counts.trimmed} trimmed, {counts.skipped} skipped"
    if counts.graphs != counts.packed + counts.trimmed + counts.skipped:
        raise FormatError(f"{MANIFEST}: {stated}: that does not add up")
    if sum(counts.reasons.values()) > counts.skipped + counts.trimmed:
        raise FormatError(
            f"{MANIFEST}: more reasons than skipped and trimmed graphs: {str(dict(counts.reasons))[:400]}"
        )
    if counts.graphs > most_rows(size):
        raise FormatError(f"{MANIFEST}: {counts.graphs} graphs do not fit into the {size} bytes of {GRAPHS}")
    if manifest.num_packs > counts.in_packs:
        raise FormatError(f"{MANIFEST}: {manifest.num_packs} packs for {counts.in_packs} graphs: some would be empty")
    for key, stats in manifest.target_stats.items():
        if max(stats.count) > counts.in_packs:
            raise FormatError(
                f"{MANIFEST}: target_stats of {key!r} count {max(stats.count)} of {counts.in_packs} graphs"
            )


def _shard(entry: Any, number: int) -> ShardEntry:
    where = f"shard {number}"
    members = _members(entry, where)
    names = {"block_bytes", "block_crc32", "bytes", "footer_crc32", "name", "packs", "sha256"}
    if set(members) != names or members["name"] != shard_name(number):
        raise FormatError(f"{MANIFEST}: {where} must be named {shard_name(number)} and have members {sorted(names)}")
    return ShardEntry(
        shard_name(number),
        _integer(members["packs"], f"packs of {where}", 1),
        _integer(members["bytes"], f"bytes of {where}"),
        _hash(members["sha256"], where),
        tuple(_integer(n, f"block_bytes of {where}", 1, 2**31) for n in _list(members["block_bytes"], where)),
        tuple(_integer(n, f"block_crc32 of {where}", 0, 2**32) for n in _list(members["block_crc32"], where)),
        _integer(members["footer_crc32"], f"footer_crc32 of {where}", 0, 2**32),
    )


def _counts(members: Mapping[str, Any]) -> GraphCounts:
    if set(members) != {"graphs", "packed", "trimmed", "skipped", "reasons"}:
        raise FormatError(f"{MANIFEST}: counts has members {sorted(members)[:20]}")
    reasons = {name: _integer(n, "count of a reason") for name, n in _members(members["reasons"], "reasons").items()}
    numbers = (_integer(members[name], name) for name in ("graphs", "packed", "trimmed", "skipped"))
    return GraphCounts(*numbers, reasons=reasons)


def _target_stats(members: Mapping[str, Any], schema: Schema) -> dict[str, TargetStats]:
    columns = {field.key: math.prod(field.shape) for field in target_fields(schema)}
    if not members or set(members) != set(columns):
        raise FormatError(f"{MANIFEST}: target_stats must be of {list(columns)[:20]}; got {sorted(members)[:20]}")
    return {key: _stats_of(_members(members[key], key), key, columns[key]) for key in columns}


def _stats_of(members: Mapping[str, Any], key: str, columns: int) -> TargetStats:
    stats = f"target_stats of {key!r}"
    rows = {name: _list(members[name], stats) for name in ("count", "mean", "std") if name in members}
    if set(members) != {"count", "mean", "std"} or any(len(row) != columns for row in rows.values()):
        raise FormatError(
            f"{MANIFEST}: {stats} must be count, mean and std of {columns} columns; got {str(members)[:80]}"
        )
    count = tuple(_integer(n, f"count in {stats}") for n in rows["count"])
    for number, mean, std in zip(count, rows["mean"], rows["std"]):
        if not (type(mean) is type(std) is float and std >= 0) or (not number and (mean or std)):
            raise FormatError(f"{MANIFEST}: {stats} has the mean {str(mean)[:80]} and std {str(std)[:80]} of {number}")
    return TargetStats(count, tuple(rows["mean"]), tuple(rows["std"]))


def _files(members: Mapping[str, Any]) -> dict[str, FileEntry]:
    if set(members) != {GRAPHS, PLAN}:
        raise FormatError(f"{MANIFEST}: files must be {GRAPHS} and {PLAN}; got {sorted(members)[:20]}")
    entries: dict[str, FileEntry] = {}
    for name, entry in members.items():
        file = _members(entry, name)
        if set(file) != {"bytes", "sha256"}:
            raise FormatError(f"{MANIFEST}: {name} has members {sorted(file)[:20]}")
        entries[name] = FileEntry(_integer(file["bytes"], f"bytes of {name}"), _hash(file["sha256"], name))
    return entries


def _members(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise FormatError(f"{MANIFEST}: {name} must be an object; got {str(value)[:80]!r}")
    return cast("dict[str, Any]", value)


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise FormatError(f"{MANIFEST}: {name} must be a list; got {str(value)[:80]!r}")
    return cast("list[Any]", value)


def _integer(value: Any, name: str, least: int = 0, most: int = 2**53) -> int:
    if type(value) is not int or not least <= value <= most:
        raise FormatError(f"{MANIFEST}: {name} must be a whole number from {least} to {most}; got {str(value)[:80]}")
    return value


def _text(value: Any, name: str, most: int = 200) -> str:
    if not isinstance(value, str) or len(value) > most:
        raise FormatError(f"{MANIFEST}: {name} must be a short text; got {str(value)[:80]!r}")
    return value


def _hash(value: Any, name: str) -> str:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise FormatError(f"{MANIFEST}: sha256 of {name} must be 64 hexadecimal digits; got {str(value)[:80]!r}")
    return value
