"""The plan of a data set under verification: that its bound is proven, and that the packs are as many as it says."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from packer.errors import FormatError, PackerError
from packer.files import canonical
from packer.files.parquet.flat_file import FlatParquet, WholeFile
from packer.files.protocol import Where
from packer.shards.graphs_file import iter_graphs, size_column
from packer.shards.manifest import PLAN, Manifest

_METADATA_KEY = b"graph-packer-plan"


def check_plan(place: Where, manifest: Manifest) -> list[str]:
    """What is wrong with `plan.parquet` and with the plan in the manifest; nothing when all is well.

    The lower bound is proven again from the certificate (in the manifest's plan, else in the file's metadata) over the
    sizes in graphs.parquet. That file and this one have been compared with their hashes before.
    """
    plan = manifest.plan
    packs, bound, status = manifest.num_packs, plan["lower_bound"], plan["status"]
    if type(bound) is not int or not 0 <= bound <= packs or status not in ("optimal", "feasible"):
        return [f"the manifest's plan has status {status!r} and lower bound {bound!r} for {packs} packs"]
    if status == "optimal" and bound != packs:
        return [f"the manifest's plan is {status!r} with {packs} packs and a lower bound of {bound}"]
    try:
        stored = plan.get("certificate") or _stored_certificate(place, manifest)
        return [] if stored is None else _certificate_faults(place, manifest, stored)
    except PackerError as error:
        return [str(error)]


def _certificate_faults(place: Where, manifest: Manifest, stored: Any) -> list[str]:
    from packer.certificate import Certificate, check_certificate
    from packer.limits.fit import need_of

    if not isinstance(stored, dict):
        return ["its certificate is not one"]
    sizes, count = distinct_sizes(place, manifest)
    need, capacity = need_of(sizes, manifest.schema.sized, manifest.limits)
    proven = check_certificate(Certificate.from_dict(stored), need, capacity, count)
    if proven != manifest.plan["lower_bound"]:
        return [f"its certificate proves {proven} packs, the manifest says {manifest.plan['lower_bound']}"]
    return []


def distinct_sizes(place: Where, manifest: Manifest) -> tuple[np.ndarray, np.ndarray]:
    """Sizes of the graphs in packs, and how many have each: int64 [distinct, axes], int64 [distinct]."""
    names = [size_column(axis) for axis in manifest.schema.sized]
    sizes, count = np.zeros((0, len(names)), dtype=np.int64), np.zeros(0, dtype=np.int64)
    for batch in iter_graphs(place, manifest, ["pack", *names], verify=False):
        rows = np.stack([batch.column(name).to_numpy() for name in names], axis=1)
        rows = np.concatenate([sizes, rows[batch.column("pack").to_numpy() >= 0]])
        weights = np.r_[count, np.ones(len(rows) - len(count), dtype=np.int64)]
        sizes, of_row = np.unique(rows, axis=0, return_inverse=True)
        count = np.zeros(len(sizes), dtype=np.int64)
        np.add.at(count, of_row.reshape(-1), weights)
    return sizes, count


def _stored_certificate(place: Where, manifest: Manifest) -> Any:
    """The certificate in the metadata of plan.parquet, None where there is none."""
    with WholeFile(place, PLAN, manifest.files[PLAN]) as file:
        stored = FlatParquet(file.file).metadata.get(_METADATA_KEY, b"{}")
    about = canonical.bounded_loads(stored, "its metadata")
    if not isinstance(about, dict):
        raise FormatError("its metadata is no JSON object")
    return cast("dict[str, Any]", about).get("certificate")
