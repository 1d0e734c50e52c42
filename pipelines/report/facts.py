"""What a report tells of one data set, read from its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from packer.algorithms.registry import ALGORITHMS
from packer.errors import FormatError
from packer.files.open import place_of
from packer.files.protocol import Place
from packer.graphs.sizes import GraphSizes, with_columns
from packer.reading.audit import audit_packs
from packer.reading.audit_facts import PackAudit
from packer.reading.reader import PackReader
from packer.shards import Manifest, iter_graphs
from packer.shards.graphs_file import size_column
from packer.verify.data_set import verify_shards
from packer.verify.shard import Fault
from pipelines.stores.layout import BUILD_FILE, read_json
from pipelines.stores.locations import Where, above, where
from pipelines.survey.warm_plan import warm_plan

_MOST_FIRST_FIT = 200_000


@dataclass(frozen=True)
class PlanRow:
    """One algorithm on the packed graphs. seconds: None for the plan that was built, made earlier."""

    name: str
    packs: int
    seconds: float | None


@dataclass(frozen=True)
class Facts:
    """One data set. num_real: int64 [packs, axes + 1], real rows of each axis and real graphs; sizes: of the graphs in
    packs; rows: algorithms, the one that was used last; faults: None where nothing was verified; build: what build.json
    says, {} where it is absent; audit: of shuffled epochs, or why there is none."""

    name: str
    folder: Where
    manifest: Manifest
    num_real: np.ndarray
    sizes: GraphSizes
    rows: tuple[PlanRow, ...]
    faults: tuple[Fault, ...] | None
    build: Mapping[str, Any]
    audit: PackAudit | str

    @property
    def slots(self) -> dict[str, int]:
        """Axis key and "graph" -> slots of a pack."""
        limits = self.manifest.limits
        return {**limits.slots(self.manifest.schema.sized), "graph": int(limits.num_graphs or 0)}

    @property
    def fill(self) -> dict[str, float]:
        """Axis key and "graph" -> real share of all slots."""
        totals = self.num_real.sum(axis=0).tolist()
        slots = self.slots
        return {
            key: total / max(1, slots[key] * self.manifest.num_packs) for key, total in zip(slots, totals, strict=True)
        }


def read_facts(
    folder: Where, name: str = "", verify: bool = True, storage_options: Mapping[str, Any] | None = None
) -> Facts:
    """Read a data set's folder; verify also checks every byte of it. Raises FormatError where the manifest or
    graphs.parquet are damaged: without them nothing can be told."""
    at = where(folder)
    place = place_of(at, storage_options)
    manifest = Manifest.load(place)
    faults = tuple(verify_shards(place).faults) if verify else None
    sizes, num_real = _sizes(place, manifest)
    build = _build(at, storage_options)
    try:
        reader = PackReader(at, storage_options=storage_options, cache_bytes=0)
        audit = audit_packs(reader, target="" if faults else None)  # which looks into shards for classes alone
    except FormatError as error:
        audit = str(error)
    return Facts(name, at, manifest, num_real, sizes, _compare(sizes, manifest), faults, build, audit)


def _sizes(folder: Place, manifest: Manifest) -> tuple[GraphSizes, np.ndarray]:
    """The sizes of all graphs in packs, and int64 [packs, axes + 1], real rows of each axis and graphs of each pack.

    From graphs.parquet alone: shards may be damaged, and the page is to say so.
    """
    axes = manifest.schema.sized
    parts: dict[str, list[np.ndarray]] = {axis.key: [np.zeros(0, np.int64)] for axis in axes}
    packs = [np.zeros(0, np.int64)]
    for batch in iter_graphs(folder, manifest):
        pack = batch.column("pack").to_numpy()
        packs.append(pack[pack >= 0])
        for axis in axes:
            parts[axis.key].append(batch.column(size_column(axis)).to_numpy()[pack >= 0])
    sizes, pack = {key: np.concatenate(values) for key, values in parts.items()}, np.concatenate(packs)
    # Only now: that many packs are stated by a manifest that graphs.parquet has been found to fit.
    num_real = np.zeros((manifest.num_packs, len(axes) + 1), np.int64)
    for number, axis in enumerate(axes):
        np.add.at(num_real[:, number], pack, sizes[axis.key])
    np.add.at(num_real[:, -1], pack, 1)
    return with_columns(axes, sizes), num_real


def _compare(sizes: GraphSizes, manifest: Manifest) -> tuple[PlanRow, ...]:
    """The quick algorithms, and the plan that was built."""
    used = str(manifest.plan["algorithm"])
    names = [name for name, entry in ALGORITHMS.items() if not entry.anytime and name != used]
    if sizes.num_graphs > _MOST_FIRST_FIT:
        names = [name for name in names if name != "first-fit"]
    rows: list[PlanRow] = []
    for name in names:
        plan = warm_plan(sizes, manifest.limits, name)
        rows.append(PlanRow(name, plan.num_packs, plan.seconds))
    rows.append(PlanRow(used, manifest.num_packs, None))
    return tuple(sorted(rows, key=lambda row: (-row.packs, row.name == used)))


def _build(at: Where, storage_options: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """build.json of the place, or of the one above for a split; {} where neither can be read."""
    for one in (at, above(at)):
        try:
            return _sound(read_json(place_of(one, storage_options), BUILD_FILE))
        except (OSError, ValueError):
            continue
    return {}


def _sound(stored: Any) -> Mapping[str, Any]:
    """What build.json says as far as it has the form that a build gives it: nothing protects it against edits."""
    if not isinstance(stored, dict):
        return {}
    members = cast("dict[str, Any]", stored)
    kept = {name: members[name] for name in ("job", "given", "machine") if isinstance(members.get(name), dict)}
    seconds = members.get("seconds")
    if isinstance(seconds, dict):
        by_stage = cast("dict[str, Any]", seconds)
        kept["seconds"] = {stage: value for stage, value in by_stage.items() if isinstance(value, (int, float))}
    return {**kept, "finished": str(members.get("finished", "?"))}
