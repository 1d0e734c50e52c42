"""The data set card: a README.md beside the packs, for whoever finds the folder."""

from __future__ import annotations

from pathlib import Path

from packer.shards import Manifest, write_bytes_atomically
from pipelines.build_folder import CARD


def card_text(manifest: Manifest, name: str, licence: str | None = None) -> str:
    """What a data set holds, how to load it, how it was made: Markdown, a pure function of its arguments."""
    limits, plan, counts = manifest.limits, manifest.plan, manifest.counts
    slots = limits.slots(manifest.schema.axes)
    shape = ", ".join(f"{value:,} {key}s" for key, value in slots.items())
    proven = plan["status"] == "optimal"
    proof = "no plan has fewer" if proven else f"at least {plan['lower_bound']:,} are needed"
    left_out = "".join(f"\n* {number:,} left out or trimmed: {reason}" for reason, number in counts.reasons.items())
    stored = sum(shard.bytes for shard in manifest.shards)
    rows = [
        f"| `{field.key}` | {field.level} | {list(field.shape)} | {field.dtype} |" for field in manifest.schema.fields
    ]
    rows += [f"| `{text}` | graph | | string, in `graphs.parquet` |" for text in manifest.schema.strings]
    source = "\n".join(f"* {key}: {value}" for key, value in manifest.source.items())
    return f"""# {name}

{counts.in_packs:,} graphs in {manifest.num_packs:,} packs of fixed size, written by graph-packer
{manifest.versions.get("graph-packer", "")}: {len(manifest.shards):,} Parquet shards, {stored:,} bytes.

```python
from packer import PackDataset, torch_loader

dataset = PackDataset(".")          # this folder
for batch in torch_loader(dataset, shuffle=True, seed=0):
    print(batch.x.shape, batch.graphs_mask.sum())
    break
```

## Packs

* Every pack has {shape} and {limits.num_graphs:,} graph slots, padding included (null graphs: {limits.null_graphs}).
* {counts.in_packs:,} of {counts.graphs:,} source graphs are in packs.{left_out}
* Algorithm: {plan["algorithm"]}, seed {plan["seed"]}. {manifest.num_packs:,} packs; {proof}.

| field | level | shape of a row | dtype |
|---|---|---|---|
{chr(10).join(rows)}

Masks (`nodes_mask`, `edges_mask`, `graphs_mask`; `TYPE/mask` for each type of heterogeneous graphs) are True for real
rows. `graph-pack verify .` checks every byte; `graph-pack report .` draws what is here.

## Source

{source}

Licence of the source: {licence or "not stated; ask whoever gave you the graphs"}.
"""


def write_card(folder: Path, name: str = "", licence: str | None = None) -> Path:
    """Write the card of a data set's folder, whole or not at all."""
    text = card_text(Manifest.load(folder), name or folder.resolve().name, licence)
    write_bytes_atomically(folder, CARD, text.encode())
    return folder / CARD
