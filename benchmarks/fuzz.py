"""Hostile files by the thousand: does reading or verifying ever do anything but answer or refuse?

    python benchmarks/fuzz.py --cases 10000 --seed 0

Every case changes a small sound data set at random, the way its kind says, and then reads or verifies it. Counted are
cases that pass, that are refused with a FormatError (or a fault in the report), and any other exception, which is an
error of ours; a crash ends the run. The slowest case and the growth of memory are recorded. Writes
benchmarks/results/fuzz.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import resource
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from hostile import thrift_tree
from provenance import provenance
from reference_packs import MOLECULE_LIMITS, MOLECULES, PAPER_LIMITS, PAPERS, write_data_set

from packer.errors import FormatError
from packer.files.atomic import FileEntry, hash_file
from packer.files.canonical import seal
from packer.files.parquet.structs import FOOTER
from packer.files.parquet.thrift import read_struct
from packer.shards import Manifest, iter_graphs, open_shard
from packer.shards.manifest import GRAPHS, MANIFEST, PLAN
from packer.verify.data_set import verify_shards
from packer.verify.plan import check_plan

RESULTS = Path(__file__).parent / "results" / "fuzz.md"


@dataclass
class Sound:
    """A data set on disk, its files as they were, and its manifest."""

    folder: Path
    files: dict[str, bytes]
    manifest: Manifest

    def restore(self) -> None:
        for path in self.folder.iterdir():
            if path.name not in self.files:
                path.unlink()
        for name, data in self.files.items():
            if (self.folder / name).read_bytes() != data:
                (self.folder / name).write_bytes(data)


@dataclass
class Tally:
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    unexpected: list[str] = field(default_factory=list)


def damage(data: bytes, rng: random.Random) -> bytes:
    """Flipped bits, other bytes, cuts, repeats and large numbers at random places."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        at = rng.randrange(len(out) or 1)
        what = rng.randrange(7)
        if what == 0 and out:
            out[at] ^= 1 << rng.randrange(8)
        elif what == 1 and out:
            out[at] = rng.choice((0, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif what == 2:
            out[at : at + 5] = b"\xff\xff\xff\xff\x0f"  # a large Thrift number
        elif what == 3:
            out[at : at + 4] = rng.choice((b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\xff\xff\xff\xff"))
        elif what == 4:
            del out[at : at + rng.randrange(1, 64)]
        elif what == 5:
            out[at:at] = out[rng.randrange(len(out) or 1) :][: rng.randrange(1, 64)]
        else:
            out[at:at] = rng.randbytes(rng.randrange(1, 16))
    return bytes(out)


def any_value(rng: random.Random, depth: int = 0) -> object:
    leaves = [
        None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, 10**39, -(2**70), 0.5, 1e308, rng.randrange(100),
        "", "node", "x", "../x", "\ud800", "int64", "nan", "zstd", "a" * 300,
    ]  # fmt: skip
    if depth < 3 and rng.random() < 0.3:
        inner = [any_value(rng, depth + 1) for _ in range(rng.randrange(4))]
        return inner if rng.random() < 0.5 else {str(i): value for i, value in enumerate(inner)}
    return rng.choice(leaves)


def manifest_values(sound: Sound, rng: random.Random) -> None:
    """One to three values of the manifest replaced, sealed anew; if it loads, all is read by it."""
    plain = json.loads(sound.files[MANIFEST])
    del plain["sha256"]
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = plain
        while True:
            key = rng.choice(list(at) if isinstance(at, dict) else range(len(at)))
            if not isinstance(at[key], (dict, list)) or not at[key] or rng.random() < 0.15:
                break
            at = at[key]
        at[key] = any_value(rng)
    manifest = Manifest.load(seal(plain))
    for shard in range(len(manifest.shards)):
        open_shard(sound.folder, manifest, shard).block(0)
    list(iter_graphs(sound.folder, manifest))


def manifest_bytes(sound: Sound, rng: random.Random) -> None:
    """The manifest's bytes damaged; half of the time its hash is made to fit."""
    data = damage(sound.files[MANIFEST][:-80], rng)
    if rng.random() < 0.5:
        data = data + b',"sha256":"' + hashlib.sha256(data + b"}").hexdigest().encode() + b'"}\n'
    Manifest.load(data)


def block_bytes(sound: Sound, rng: random.Random) -> None:
    """A shard's blocks damaged under checksums that fit; read block by block."""
    shard = rng.randrange(len(sound.manifest.shards))
    entry = sound.manifest.shards[shard]
    data = sound.files[entry.name]
    blocks = [damage(data[a : a + n], rng) for a, n in zip(entry.block_offsets, entry.block_bytes, strict=False)]
    forged = _write_shard(sound, shard, blocks, data[entry.block_offsets[-1] :])
    with_it = replace(sound.manifest, shards=tuple(forged if e is entry else e for e in sound.manifest.shards))
    reader = open_shard(sound.folder, with_it, shard)
    refused = 0
    for block in range(entry.blocks):
        try:
            reader.block(block)
        except FormatError:
            refused += 1
    if refused:
        raise FormatError("refused")


def verified_shard(sound: Sound, rng: random.Random) -> None:
    """A shard damaged anywhere, footer included, under a manifest that fits it, through `verify_shards`."""
    shard = rng.randrange(len(sound.manifest.shards))
    entry = sound.manifest.shards[shard]
    data = sound.files[entry.name]
    parts = [data[a : a + n] for a, n in zip(entry.block_offsets, entry.block_bytes, strict=False)]
    parts.append(data[entry.block_offsets[-1] :])
    at = rng.randrange(len(parts))
    parts[at] = damage(parts[at], rng)
    forged = _write_shard(sound, shard, parts[:-1], parts[-1])
    _verify(sound, replace(sound.manifest, shards=tuple(forged if e is entry else e for e in sound.manifest.shards)))


def _write_shard(sound: Sound, shard: int, blocks: list[bytes], footer: bytes):
    entry = sound.manifest.shards[shard]
    path = sound.folder / entry.name
    path.write_bytes(b"".join(blocks) + footer)
    return replace(
        entry,
        bytes=path.stat().st_size,
        sha256=hash_file(path).sha256,
        block_bytes=tuple(map(len, blocks)),
        block_crc32=tuple(map(zlib.crc32, blocks)),
        footer_crc32=zlib.crc32(footer),
    )


def _verify(sound: Sound, manifest: Manifest) -> None:
    (sound.folder / MANIFEST).write_bytes(manifest.to_bytes())
    report = verify_shards(sound.folder)
    if not report.ok:
        raise FormatError(str(report.faults[0]))


def pack_values(sound: Sound, rng: random.Random) -> None:
    """Numbers in a block changed at random, written as a shard of its own: the invariants of `verify`."""
    from packer.verify.block import check_block

    manifest = sound.manifest
    block = open_shard(sound.folder, manifest, 0).block(0)
    for _ in range(rng.choice((1, 2, 5))):
        values = block[rng.choice([c.name for c in manifest.columns if c.width])]
        raw = values.reshape(-1).view(np.uint8)
        raw[rng.randrange(len(raw))] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
    findings, _ = check_block(block, manifest.schema, manifest.limits)
    if findings:
        raise FormatError(findings[0].what)


def graphs_file(sound: Sound, rng: random.Random) -> None:
    """graphs.parquet damaged under a hash that fits."""
    _forge_file(sound, GRAPHS, rng)
    entry = hash_file(sound.folder / GRAPHS)
    _verify(sound, replace(sound.manifest, files={**sound.manifest.files, GRAPHS: entry}))


def plan_file(sound: Sound, rng: random.Random) -> None:
    """plan.parquet damaged under a hash that fits."""
    _forge_file(sound, PLAN, rng)
    entry: FileEntry = hash_file(sound.folder / PLAN)
    faults = check_plan(sound.folder, replace(sound.manifest, files={**sound.manifest.files, PLAN: entry}))
    if faults:
        raise FormatError(faults[0])


def _forge_file(sound: Sound, name: str, rng: random.Random) -> None:
    (sound.folder / name).write_bytes(damage(sound.files[name], rng))


def one_bit(sound: Sound, rng: random.Random) -> None:
    """One bit of one file flipped, nothing else: must be found by `verify_shards`."""
    name = rng.choice(sorted(sound.files))
    data = bytearray(sound.files[name])
    bit = rng.randrange(8 * len(data))
    data[bit // 8] ^= 1 << bit % 8
    (sound.folder / name).write_bytes(data)
    if verify_shards(sound.folder).ok:
        raise AssertionError(f"bit {bit} of {name} is missed by nobody")
    raise FormatError("found")


def thrift(sound: Sound, rng: random.Random) -> None:
    """The Parquet footer's struct, damaged, or random bytes."""
    entry = sound.manifest.shards[0]
    footer = sound.files[entry.name][entry.block_offsets[-1] : -8]
    data = damage(footer, rng) if rng.random() < 0.8 else rng.randbytes(rng.randrange(1, 200))
    read_struct(data, 0, FOOTER)


def shard_structure(sound: Sound, rng: random.Random) -> None:
    """The structure of a page header or of a shard's footer changed, under hashes that fit, through `verify_shards`."""
    shard = rng.randrange(len(sound.manifest.shards))
    entry = sound.manifest.shards[shard]
    data = sound.files[entry.name]
    parts = [data[a : a + n] for a, n in zip(entry.block_offsets, entry.block_bytes, strict=False)]
    parts.append(data[entry.block_offsets[-1] :])
    at = rng.randrange(len(parts))
    start = 4 if at == 0 else 0
    parts[at] = parts[at][:start] + _bent(parts[at][start:], rng, at == len(parts) - 1)
    forged = _write_shard(sound, shard, parts[:-1], parts[-1])
    _verify(sound, replace(sound.manifest, shards=tuple(forged if e is entry else e for e in sound.manifest.shards)))


def graphs_structure(sound: Sound, rng: random.Random) -> None:
    """The structure of the footer of graphs.parquet, or of its first page header, changed under a hash that fits."""
    _bend_file(sound, GRAPHS, rng)
    entry = hash_file(sound.folder / GRAPHS)
    manifest = replace(sound.manifest, files={**sound.manifest.files, GRAPHS: entry})
    _verify(sound, manifest)
    found = [batch.to_pylist() for batch in iter_graphs(sound.folder, manifest)]
    sound.restore()
    if found != [batch.to_pylist() for batch in iter_graphs(sound.folder, sound.manifest)]:
        raise AssertionError("it is called sound, and reads otherwise")


def plan_structure(sound: Sound, rng: random.Random) -> None:
    """The same of plan.parquet."""
    _bend_file(sound, PLAN, rng)
    entry: FileEntry = hash_file(sound.folder / PLAN)
    faults = check_plan(sound.folder, replace(sound.manifest, files={**sound.manifest.files, PLAN: entry}))
    if faults:
        raise FormatError(faults[0])


def _bend_file(sound: Sound, name: str, rng: random.Random) -> None:
    data = sound.files[name]
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    body, footer = data[4:start], data[start:]
    if rng.random() < 0.3:
        body = _bent(body, rng, False)
    else:
        footer = _bent(footer, rng, True)
    (sound.folder / name).write_bytes(data[:4] + body + footer)


def _bent(data: bytes, rng: random.Random, is_footer: bool) -> bytes:
    """The struct that `data` starts with, its structure changed; of a footer, the length that follows it fits."""
    tree, after = thrift_tree.parse(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        thrift_tree.bend(tree, rng)
    struct = thrift_tree.write(tree)
    return struct + (len(struct).to_bytes(4, "little") + b"PAR1" if is_footer else data[after:])


Case = Callable[[Sound, random.Random], None]
KINDS: dict[str, tuple[Case, int]] = {
    "manifest values, sealed anew": (manifest_values, 6),
    "manifest bytes": (manifest_bytes, 4),
    "block bytes, checksums that fit": (block_bytes, 6),
    "shard bytes, hashes that fit, verify": (verified_shard, 3),
    "numbers in packs, verify": (pack_values, 4),
    "graphs.parquet, hash that fits, verify": (graphs_file, 3),
    "plan.parquet, hash that fits": (plan_file, 3),
    "one bit of any file, verify": (one_bit, 2),
    "Thrift structs": (thrift, 4),
    "structure of page headers and footers of shards, verify": (shard_structure, 4),
    "structure of graphs.parquet, verify": (graphs_structure, 4),
    "structure of plan.parquet": (plan_structure, 3),
}
"""Kind -> its case, and its share of all cases."""


def run(cases: int, seed: int) -> tuple[dict[str, Tally], int]:
    """Tallies by kind, and the growth of the process's peak memory in KiB."""
    tallies = {name: Tally() for name in KINDS}
    shares = sum(share for _, share in KINDS.values())
    with tempfile.TemporaryDirectory() as root:
        sounds = [_sound(Path(root) / str(i), i) for i in range(4)]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for name, (case, share) in KINDS.items():
            rng = random.Random(f"{seed} {name}")
            for number in range(-(-cases * share // shares)):
                _one(case, sounds[number % len(sounds)], rng, tallies[name], f"{name} case {number}")
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return tallies, after - before


def _sound(folder: Path, number: int) -> Sound:
    folder.mkdir()
    schema, limits = ((MOLECULES, MOLECULE_LIMITS), (PAPERS, PAPER_LIMITS))[number % 2]
    limits = replace(limits, null_graphs=("all", "one")[number // 2])
    compression = ("zstd", "lz4", "none", "zstd")[number]
    manifest = write_data_set(folder, schema, limits, compression=compression)
    return Sound(folder, {path.name: path.read_bytes() for path in folder.iterdir()}, manifest)


def _one(case: Case, sound: Sound, rng: random.Random, tally: Tally, name: str) -> None:
    start = time.perf_counter()
    try:
        case(sound, rng)
        tally.outcomes["passed"] += 1
    except FormatError:
        tally.outcomes["refused"] += 1
    except Exception:
        tally.outcomes["unexpected"] += 1
        tally.unexpected.append(f"{name}\n{traceback.format_exc()}")
    tally.slowest = max(tally.slowest, time.perf_counter() - start)
    sound.restore()


def page(tallies: dict[str, Tally], grown: int, cases: int, seed: int) -> str:
    lines = [
        "# Hostile files",
        "",
        f"`python benchmarks/fuzz.py --cases {cases} --seed {seed}`. {provenance('numpy', 'pyarrow', seed=seed)}",
        "",
        "| what is changed | cases | passed | refused | anything else | slowest, ms |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    total: Counter[str] = Counter()
    for name, tally in tallies.items():
        o = tally.outcomes
        total.update(o)
        counts = f"{sum(o.values())} | {o['passed']} | {o['refused']} | {o['unexpected']}"
        lines.append(f"| {name} | {counts} | {tally.slowest * 1e3:.0f} |")
    lines.append(
        f"| **all** | **{sum(total.values())}** | {total['passed']} | {total['refused']} | **{total['unexpected']}** | "
        f"{max(t.slowest for t in tallies.values()) * 1e3:.0f} |"
    )
    lines += [
        "",
        f"No case crashed or hung. Peak memory of the process grew by {grown / 1024:.0f} MiB over all cases.",
        "A case passes where what was changed stays within the rules (a feature, a text, a writer's name).",
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS, help="- for standard output")
    options = parser.parse_args()
    tallies, grown = run(options.cases, options.seed)
    text = page(tallies, grown, options.cases, options.seed)
    if str(options.out) == "-":
        print(text)
    else:
        options.out.write_text(text)
    for tally in tallies.values():
        for found in tally.unexpected[:3]:
            print(found, file=sys.stderr)
    return 1 if any(tally.unexpected for tally in tallies.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
