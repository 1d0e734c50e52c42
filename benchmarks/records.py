"""The best known plan of each instance, with its proof.

    python benchmarks/records.py verify              re-prove every stored record, from the files alone
    python benchmarks/records.py improve [NAME ...]  solve again and keep what is better

A record holds the sizes, the capacity, the pattern counts of the plan and the certificate of the bound; nothing of the
solver is needed to check it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from instances import records, tu_sets

from packer import Certificate, PackPlan, check_certificate, make_plan

FOLDER = Path(__file__).parent / "records"


def to_record(name: str, plan: PackPlan) -> dict[str, Any]:
    instance, patterns = plan.packing.items.instance, plan.patterns
    return {
        "name": name,
        "limits": plan.limits.to_dict(),
        "need": instance.need.tolist(),
        "capacity": instance.capacity.tolist(),
        "count": instance.count.tolist(),
        "num_packs": plan.num_packs,
        "lower_bound": plan.lower_bound,
        "patterns": [np.stack(patterns[p], axis=1).tolist() for p in range(len(patterns))],
        "pattern_counts": patterns.counts.tolist(),
        "certificate": plan.certificate.to_dict(),
    }


def verify(record: dict[str, Any]) -> tuple[int, int]:
    """(packs, bound) of a record, both proven from it; raises ValueError for a record that is wrong."""
    need, capacity, count = (np.array(record[key], dtype=np.int64) for key in ("need", "capacity", "count"))
    placed, packs = np.zeros(len(count), dtype=np.int64), 0
    for pattern, times in zip(record["patterns"], record["pattern_counts"], strict=True):
        size_ids, multiplicity = np.array(pattern, dtype=np.int64).T
        if times < 1 or (multiplicity < 1).any() or (multiplicity @ need[size_ids] > capacity).any():
            raise ValueError(f"{record['name']}: pattern {pattern} x {times} is beyond {capacity.tolist()}")
        placed[size_ids] += multiplicity * times
        packs += times
    if placed.tolist() != count.tolist() or packs != record["num_packs"]:
        raise ValueError(f"{record['name']}: its patterns are not a plan of its sizes in {record['num_packs']} packs")
    bound = check_certificate(Certificate.from_dict(record["certificate"]), need, capacity, count)
    if bound != record["lower_bound"]:
        raise ValueError(f"{record['name']}: states the bound {record['lower_bound']}; {bound} is proven")
    return packs, bound


def improve(names: list[str], time_limit: float) -> None:
    for instance in [*records(), *tu_sets()]:
        if names and not any(name.lower() in instance.name.lower() for name in names):
            continue
        path = FOLDER / f"{instance.slug}.json"
        old = json.loads(path.read_text()) if path.is_file() else None
        if old is not None and old["num_packs"] == old["lower_bound"] and not names:
            continue
        record = to_record(instance.name, make_plan(instance.load(), instance.limits, time_limit=time_limit))
        better = old is None or (record["num_packs"], -record["lower_bound"]) < (old["num_packs"], -old["lower_bound"])
        if better:
            path.write_text(json.dumps(record, separators=(",", ":")) + "\n")
        packs, bound = record["num_packs"], record["lower_bound"]
        print(
            f"{instance.name:34} {packs:>9,} packs, bound {bound:>9,}{'' if better else '  (kept the old one)'}",
            flush=True,
        )


def verify_all() -> None:
    proven = 0
    paths = sorted(FOLDER.glob("*.json"))
    for path in paths:
        record = json.loads(path.read_text())
        packs, bound = verify(record)
        proven += packs == bound
        verdict = "proven optimal" if packs == bound else "open"
        print(f"{record['name']:34} {packs:>9,} packs, bound {bound:>9,}  {verdict}")
    print(f"{len(paths)} records hold, {proven} of them proven optimal")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["verify", "improve"])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--time-limit", type=float, default=90.0)
    arguments = parser.parse_args()
    if arguments.what == "verify":
        verify_all()
    else:
        improve(arguments.names, arguments.time_limit)


if __name__ == "__main__":
    main()
