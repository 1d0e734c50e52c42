"""`build`, `verify` and `inspect`: writing packs, proving them, looking at one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from packer.algorithms.registry import find_algorithm
from packer.errors import PackerError
from packer.shards import Manifest
from pipelines.building.build import BuildResult, build
from pipelines.building.splits import Splits
from pipelines.cli import options as options
from pipelines.cli.checks import UsageError, check_choice, number, reading, usage
from pipelines.cli.draw import draw_one_pack, pack_as_text
from pipelines.cli.groups import BudgetOptions, LimitOptions, SourceOptions, SplitOptions, WorkerOptions, with_groups
from pipelines.cli.output import percent, progress, say, show, show_json, table, tell_skips
from pipelines.cli.scan import describe
from pipelines.executors import make_executor
from pipelines.stores.locations import Where, data_sets, label, where
from pipelines.stores.work_folder import check_apart
from pipelines.text.plurals import rows_of, some


def register(app: typer.Typer) -> None:
    app.command(
        "build",
        epilog="Example: graph-pack build sample:nci --out packs --num-nodes 256 --num-edges 552 --num-graphs 32",
    )(with_groups(build_command))
    app.command("verify", epilog="Example: graph-pack verify packs")(with_groups(verify))
    app.command("inspect", epilog="Example: graph-pack inspect packs --pack 0")(inspect)


def build_command(
    graphs: SourceOptions,
    *,
    out: Annotated[
        str,
        typer.Option(metavar="DIR|URL", help="Where to write: empty, absent, or an earlier build; s3://... too."),
    ],
    sizes: LimitOptions,
    oversize: options.Oversize = "error",
    algorithm: options.Algorithm = "optimal",
    budget: BudgetOptions,
    plan: Annotated[Path | None, typer.Option(metavar="FILE", help="A plan made before, with its limits.")] = None,
    parts: SplitOptions,
    compression: Annotated[str, typer.Option(metavar="zstd|lz4|none", help="Codec of the shards.")] = "zstd",
    pad: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE[,...]",
            help="Padding of a field, a number or all of a row; or of all fields of level node, edge or graph.",
        ),
    ] = None,
    pad_geometry: Annotated[
        float | None,
        typer.Option(
            metavar="CUTOFF",
            help="Padding for models of distances: edges longer than this, by shifts; cells that can be inverted.",
            parser=number("pad_geometry"),
        ),
    ] = None,
    licence: options.Licence = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the build that DIR holds.")] = False,
    tasks: WorkerOptions,
    work: options.Work = None,
    json_output: options.Json = False,
    config: options.Config = None,
) -> None:
    """Write packs: scan, plan, shards, manifest. The same command goes on after an interruption."""
    chosen = None if plan is not None and not sizes.given else sizes.read(graphs.budgets)
    column = parts.split_column
    source = graphs.open([column] if column else ())
    engine, address = tasks.engine
    with usage("--splits"):
        Splits.of(parts.shares, parts.split_seed, None, None)
    with usage():
        find_algorithm(algorithm)
        Splits.of(parts.shares, parts.split_seed, column, parts.split_file)
        check_apart(out, work)
        if sizes.null_graphs == "none":
            raise PackerError("--null-graphs none leaves no place for padding: build with all, one or jraph")
    check_choice("--compression", compression, ("zstd", "lz4", "none"))
    attributes, levels, pads = graphs.attributes, graphs.levels, options.read_pads(pad)
    with progress() as report:
        result = build(
            source,
            where(out),
            chosen or "auto",
            algorithm,
            budget.seed,
            tasks.workers,
            time_limit=budget.time_limit,
            work_limit=budget.work_limit,
            plan=plan,
            splits=parts.shares,
            split_seed=parts.split_seed,
            split_column=column,
            split_file=parts.split_file,
            oversize=oversize,
            on_empty=graphs.on_empty,
            compression=compression,
            levels=levels,
            pad_values=pads,
            pad_geometry=pad_geometry,
            exclude_keys=attributes.exclude,
            index_fields=dict(attributes.index),
            guess_num_nodes=attributes.guess_num_nodes,
            axes=graphs.axes,
            budgets=graphs.budgets,
            overwrite=overwrite,
            licence=licence,
            executor=engine,
            scheduler=address,
            work=None if work is None else where(work),
            progress=report,
        )
    if json_output:
        show_json(_build_json(result))
        return
    tell_skips(result.skips, "graphs.parquet names")
    _show_build(result)


def verify(
    folder: options.FolderOrUrl,
    workers: WorkerOptions,
    content: Annotated[
        bool, typer.Option("--content", help="Compare the graphs in the packs with what was scanned, too.")
    ] = False,
    json_output: options.Json = False,
) -> None:
    """Check every checksum and every invariant; exit status 1 on any fault."""
    from packer.verify.data_set import VerifyReport, verify_shards, with_content

    engine, address = workers.engine
    at = where(folder)
    reports: dict[str, VerifyReport] = {}
    tasks = make_executor(engine, workers.workers, address)
    try:
        for name, place in data_sets(at).items():
            with reading(place):
                reports[name] = verify_shards(place, map=tasks.map)
    finally:
        tasks.close()
    if content:
        reports = with_content(reports, data_sets(at))
    ok = all(report.ok for report in reports.values())
    if json_output:
        show_json({"ok": ok, "data_sets": {label(at, name): _report_json(r) for name, r in reports.items()}})
    else:
        for name, report in reports.items():
            for fault in report.faults:
                say(f"{label(at, name)}: {fault}")
            verdict = "sound" if report.ok else f"{len(report.faults)} faults"
            if report.content:
                equal = "its graphs are those that were scanned"
                verdict += f", {equal}" if report.content == "equal" else f" (content not compared: {report.content})"
            show(
                f"{label(at, name)}: {verdict}; {report.packs:,} packs, {report.graphs:,} graphs checked "
                f"in {report.seconds:.2f} s"
            )
    if not ok:
        raise typer.Exit(1)


def inspect(
    folder: options.FolderOrUrl,
    pack: Annotated[int | None, typer.Option(metavar="I", help="Show one pack.", parser=number("pack"))] = None,
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
        "target_stats": {key: asdict(found) for key, found in manifest.target_stats.items()},
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
            own = np.isin(batch.column("id").to_numpy(), wanted.to_numpy())
            for found in batch.filter(pa.array(own)).to_pylist():
                strings[found["id"]] = " ".join(str(found[name]) for name in manifest.schema.strings if name in found)
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


def _show_build(result: BuildResult) -> None:
    if result.already:
        show(f"{label(result.out)} already holds this very build; nothing to do")
    rows: list[list[Any]] = []
    for name, manifest in result.manifests.items():
        counts, plan = manifest.counts, manifest.plan
        stored = sum(shard.bytes for shard in manifest.shards)
        gap = percent(plan["num_packs"] / plan["lower_bound"] - 1) if plan["status"] != "optimal" else "proven"
        rows.append(
            [label(result.out, name), counts.graphs, counts.in_packs, manifest.num_packs, plan["lower_bound"], gap]
            + [f"{stored / 1e6:,.2f} MB"]
        )
    first = next(iter(result.manifests.values()))
    show(
        f"{describe(first.limits)}, packed by {first.plan['algorithm']}",
        table("", ["folder", "graphs", "packed", "packs", "bound", "gap", "on disk"], rows),
    )
    for name, manifest in result.manifests.items():
        counts = manifest.counts
        if counts.trimmed or counts.skipped:
            show(
                f"{label(result.out, name)}: {counts.packed:,} graphs packed whole, {counts.trimmed:,} trimmed, "
                f"{counts.skipped:,} skipped; graphs.parquet names each with its reason"
            )
    for name in result.ambiguous:
        show(f"The data leave the level of {name} open: --field {name}=LEVEL decides otherwise.")
    if result.seconds:
        show(", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in result.seconds.items()))


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
            f"{key}: mean {_few(found['mean'])}, standard deviation {_few(found['std'])} over packed graphs"
            for key, found in facts["target_stats"].items()
        ),
        f"{some(facts['shards'], 'shard')}, {facts['bytes']:,} bytes, {facts['compression']}; "
        f"manifest {facts['sha256'][:12]}",
    )


def _few(numbers: list[float]) -> str:
    return ", ".join(f"{number:.6g}" for number in numbers[:8]) + (", ..." if len(numbers) > 8 else "")


def _build_json(result: BuildResult) -> dict[str, Any]:
    return {
        "out": label(result.out),
        "already": result.already,
        "ambiguous": list(result.ambiguous),
        "seconds": {stage: round(value, 3) for stage, value in result.seconds.items()},
        "data_sets": {label(result.out, name): manifest_facts(m) for name, m in result.manifests.items()},
        "skipped": [{"graph": skip.graph_id, "where": skip.where, "reason": skip.reason} for skip in result.skips],
    }


def _report_json(report: Any) -> dict[str, Any]:
    return {
        "ok": report.ok,
        "packs": report.packs,
        "graphs": report.graphs,
        "seconds": round(report.seconds, 3),
        "faults": [fault._asdict() for fault in report.faults],
        **({"content": report.content} if report.content else {}),
    }
