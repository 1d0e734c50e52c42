"""`inspect`: what a data set holds, and one of its packs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from packer.shards import Manifest
from pipelines.cli import options as options
from pipelines.cli.checks import UsageError, reading
from pipelines.cli.draw import draw_one_pack, pack_as_text
from pipelines.cli.output import show, show_json, table
from pipelines.cli.scan import describe
from pipelines.stores.locations import Where, data_sets, label, where
from pipelines.text.plurals import rows_of, some


def register(app: typer.Typer) -> None:
    app.command("inspect", epilog="Example: graph-pack inspect packs --pack 0")(inspect)


def inspect(
    folder: options.FolderOrUrl,
    pack: Annotated[int | None, options.number_option("pack", "I", "Show one pack.")] = None,
    plot: options.Plot = None,
    json_output: options.Json = False,
) -> None:
    """What a data set holds; with --pack, one pack and the source graphs in it, and with --plot a picture of it."""
    at = where(folder)
    places = data_sets(at)
    if plot is not None and pack is None:
        raise UsageError("--plot draws one pack: name it, e.g. --pack 0")
    if pack is not None and len(places) > 1:
        raise UsageError(f"{label(at)} holds {', '.join(places)}: name one, e.g. {label(at, next(iter(places)))}")
    with reading(at):
        _inspect(at, places, pack, plot, json_output)


def _inspect(at: Where, places: Mapping[str, Where], pack: int | None, plot: Path | None, json_output: bool) -> None:
    if pack is None:
        manifests = {name: Manifest.load(place) for name, place in places.items()}
        if json_output:
            show_json({label(at, name): manifest_facts(manifest) for name, manifest in manifests.items()})
        else:
            for name, manifest in manifests.items():
                _show_manifest(label(at, name), manifest)
        return
    facts = pack_facts(at, pack)
    if plot is not None:
        draw_one_pack(at, pack, plot)
    if json_output:
        show_json(facts)
        return
    show(
        f"pack {pack} of {label(at)}: {facts['real']}",
        *pack_as_text(at, pack),
        _graphs_table(facts),
        table(
            "Columns",
            ["name", "kind", "shape", "dtype", "stored as", "bytes"],
            [[c["name"], c["kind"], str(c["shape"]), c["dtype"], c["storage"], c["bytes"]] for c in facts["columns"]],
            left=5,
        ),
    )


def _graphs_table(facts: dict[str, Any]) -> Any:
    """The graphs of a pack; their strings, such as SMILES, only where there are any."""
    rows = [[g["slot"], g["graph"], *g["sizes"]] for g in facts["graphs"]]
    if not any(g["strings"] for g in facts["graphs"]):
        return table("Graphs", ["slot", "graph", *facts["axes"]], rows, left=0)
    texts = [g["strings"] for g in facts["graphs"]]
    rows = [[*row, text] for row, text in zip(rows, texts, strict=True)]
    return table("Graphs", ["slot", "graph", *facts["axes"], "strings"], rows, left=0, last="left")


def manifest_facts(manifest: Manifest) -> dict[str, Any]:
    """What the manifest says, as plain values."""
    counts = manifest.counts
    return {
        "packs": manifest.num_packs,
        "limits": manifest.limits.to_dict(),
        "plan": dict(manifest.plan),
        "graphs": {"in": counts.graphs, "packed": counts.packed, "trimmed": counts.trimmed, "skipped": counts.skipped},
        "reasons": dict(counts.reasons),
        "fields": [field.key for field in manifest.schema.fields],
        "strings": list(manifest.schema.strings),
        "target_stats": {key: asdict(stats) for key, stats in manifest.target_stats.items()},
        "shards": len(manifest.shards),
        "bytes": sum(shard.bytes for shard in manifest.shards),
        "compression": manifest.compression,
        "packs_per_block": manifest.packs_per_block,
        "source": dict(manifest.source),
        "content_hash": manifest.content_hash,
        "sha256": manifest.sha256,
        "versions": dict(manifest.versions),
    }


def pack_facts(folder: Where, pack: int) -> dict[str, Any]:
    """One pack: its columns, and the source graphs in its slots."""
    import numpy as np
    import pyarrow as pa

    from packer.packs.unpack import unpack_table
    from packer.shards import iter_graphs
    from packer.verify.pack import read_pack

    manifest = Manifest.load(folder)
    columns = read_pack(folder, manifest, pack)
    shard, block, _ = manifest.locate(pack)
    graphs, ids = unpack_table(columns, manifest.schema, manifest.limits)
    strings: dict[int, str] = {}
    if manifest.schema.strings:
        wanted = pa.array(ids)
        for batch in iter_graphs(folder, manifest):
            is_wanted = np.isin(batch.column("id").to_numpy(), wanted.to_numpy())
            for row in batch.filter(pa.array(is_wanted)).to_pylist():
                strings[row["id"]] = " ".join(str(row[name]) for name in manifest.schema.strings if name in row)
    known = manifest.schema.axes
    axes = [axis.key for axis in known]
    real = columns["num_real"][0].tolist()
    return {
        "pack": pack,
        "shard": manifest.shards[shard].name,
        "block": block,
        "axes": [rows_of(key, known) for key in axes],
        "real": ", ".join(f"{count} {rows_of(key, known)}" for count, key in zip(real, [*axes, "graph"], strict=True)),
        "graphs": [
            {
                "slot": slot,
                "graph": graph_id,
                "sizes": [int(graphs.counts(key)[slot]) for key in axes],
                "strings": strings.get(graph_id, ""),
            }
            for slot, graph_id in enumerate(ids.tolist())
        ],
        "columns": [
            {
                "name": column.name,
                "kind": column.kind,
                "shape": list(column.shape),
                "dtype": column.dtype,
                "storage": column.storage,
                "bytes": column.width,
            }
            for column in manifest.columns
        ],
    }


def _show_manifest(name: str, manifest: Manifest) -> None:
    facts = manifest_facts(manifest)
    graphs, plan = facts["graphs"], facts["plan"]
    proven = plan["status"] == "optimal"
    proof = "no plan has fewer packs" if proven else f"no plan has fewer than {plan['lower_bound']:,} packs"
    reasons = "; ".join(f"{reason}: {number:,}" for reason, number in facts["reasons"].items())
    show(
        f"{name}: {facts['packs']:,} packs of {describe(manifest.limits)}",
        f"graphs: {graphs['in']:,} in the source, {graphs['packed']:,} packed, "
        + (f"{graphs['trimmed']:,} trimmed, " if graphs["trimmed"] else "")
        + f"{graphs['skipped']:,} skipped"
        + (f" ({reasons})" if reasons else ""),
        f"plan: {plan['algorithm']}, seed {plan['seed']}; {proof}; stopped by {plan['stopped_by']}",
        f"fields: {', '.join([*facts['fields'], *facts['strings']])}",
        *(
            f"{key}: mean {_few(stats['mean'])}, standard deviation {_few(stats['std'])} over packed graphs"
            for key, stats in facts["target_stats"].items()
        ),
        f"{some(facts['shards'], 'shard')}, {facts['bytes']:,} bytes, {facts['compression']}; "
        f"manifest {facts['sha256'][:12]}",
    )


def _few(numbers: list[float]) -> str:
    return ", ".join(f"{number:.6g}" for number in numbers[:8]) + (", ..." if len(numbers) > 8 else "")
