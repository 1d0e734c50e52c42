"""The data set card: a README.md beside the packs, for whoever finds the folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from packer.errors import PackerError
from packer.files.atomic import open_plain, read_exactly, write_bytes_atomically
from packer.shards import Manifest
from pipelines.stores.layout import CARD
from pipelines.text.clean import as_code, from_markdown, in_markdown
from pipelines.text.plurals import some

_MOST_LAST = 1 << 16
"""Bytes of a card that its last line may have."""
_LICENCE, _NOT_STATED = "Licence of the source: ", "not stated; ask whoever gave you the graphs"


def card_text(manifest: Manifest, name: str, licence: str | None = None, ambiguous: Sequence[str] = ()) -> str:
    """What a data set holds, how to load it, how it was made: Markdown, a pure function of its arguments.

    Names, reasons and the licence are anybody's texts: none of them adds a heading, a tag or a line.
    """
    limits, plan, counts = manifest.limits, manifest.plan, manifest.counts
    slots = limits.slots(manifest.schema.sized)
    shape = ", ".join(f"{slots[axis.key]:,} {in_markdown(axis.rows)}" for axis in manifest.schema.sized)
    proven = plan["status"] == "optimal"
    proof = "no plan has fewer" if proven else f"at least {plan['lower_bound']:,} are needed"
    left_out = "".join(
        f"\n* {number:,} left out or trimmed: {in_markdown(reason)}" for reason, number in counts.reasons.items()
    )
    stored = sum(shard.bytes for shard in manifest.shards)
    rows = [
        f"| {as_code(field.key)} | {field.level} | {list(field.shape)} | {field.dtype} |"
        for field in manifest.schema.fields
    ]
    rows += [f"| {as_code(text)} | graph | | string, in `graphs.parquet` |" for text in manifest.schema.strings]
    guessed = ", ".join(as_code(key) for key in ambiguous)
    told = f"\nThe data leave the level of {guessed} open; the table says which was taken.\n" if guessed else ""
    source = "\n".join(_listed(manifest.source))
    version, algorithm = in_markdown(manifest.versions.get("graph-packer", "")), in_markdown(plan["algorithm"])
    return f"""# {in_markdown(name)}

{some(counts.in_packs, "graph")} in {some(manifest.num_packs, "pack")} of fixed size, written by graph-packer
{version}: {some(len(manifest.shards), "Parquet shard")}, {stored:,} bytes.

```python
from packer import PackDataset, torch_loader

dataset = PackDataset(".")          # this folder
for batch in torch_loader(dataset, shuffle=True, seed=0):
    print(batch)                    # tensors by name, each of a fixed shape; masks tell real rows from padding
    break
```

## Packs

* Every pack has {shape} and {limits.num_graphs:,} graph slots, padding included (null graphs: {limits.null_graphs}).
* {counts.in_packs:,} of {counts.graphs:,} source graphs are in packs.{left_out}
* Algorithm: {algorithm}, seed {in_markdown(plan["seed"])}. {some(manifest.num_packs, "pack")}; {proof}.

| field | level | shape of a row | dtype |
|---|---|---|---|
{chr(10).join(rows)}
{told}
Masks (`nodes_mask`, `edges_mask`, `graphs_mask`; `TYPE/mask` for each type of heterogeneous graphs) are True for real
rows. `graph-pack verify .` checks every byte; `graph-pack report .` draws what is here.

## Source

{source}

{_LICENCE}{in_markdown(" ".join((licence or _NOT_STATED).split()))}.
"""


def card_title(split: str) -> str:
    """Title of the card that a build writes."""
    return f"Packed graphs: {split}" if split else "Packed graphs"


def _listed(values: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Markdown lines of nested values."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield f"{indent}* {in_markdown(key)}:"
            yield from _listed(value, indent + "  ")
        else:
            words = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
            yield f"{indent}* {in_markdown(key)}: {in_markdown(words)}"


def write_card(folder: Path, name: str = "", licence: str | None = None) -> Path:
    """Write the card of a data set's folder, whole or not at all. Without a licence, the one stated there stays."""
    text = card_text(Manifest.load(folder), name or folder.resolve().name, licence or _stated(folder / CARD))
    write_bytes_atomically(folder, CARD, text.encode())
    return folder / CARD


def _stated(card: Path) -> str | None:
    """The licence in an earlier card."""
    try:
        fd, size = open_plain(card)
    except PackerError:
        return None
    try:
        start = max(0, size - _MOST_LAST)
        last = read_exactly(fd, start, size - start, card.name).rstrip().rpartition(b"\n")[2].decode("utf-8")
    except (PackerError, UnicodeDecodeError):
        return None
    finally:
        os.close(fd)
    stated = from_markdown(last.removeprefix(_LICENCE).removesuffix("."))
    return stated if last.startswith(_LICENCE) and stated != _NOT_STATED else None
