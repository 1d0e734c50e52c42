"""Padding that a model of distances can compute with: edges beyond its cutoff, cells that can be inverted."""

from __future__ import annotations

import math
from typing import Any

from packer.errors import FieldError
from packer.scan.statistics import Statistics

_MASSES = ("mass", "masses", "atomic_mass", "atomic_masses")


def check_cutoff(cutoff: Any) -> float:
    """The cutoff that padding is to exceed. Raises FieldError for what is none."""
    if isinstance(cutoff, bool) or not isinstance(cutoff, (int, float)) or not 0 < cutoff < math.inf:
        raise FieldError(f"pad_geometry (--pad-geometry) must be a finite cutoff above 0; got {cutoff!r}")
    return float(cutoff)


def geometry_pads(statistics: Statistics, cutoff: float) -> dict[str, Any]:
    """Field name -> padding: padding edges lead from a node to an image of itself, twice the cutoff away.

    Their vectors are the same by `shifts` and by `unit_shifts @ cell`; masses are 1. Raises FieldError where there are
    no `shifts`: an edge from a node to itself has length 0 then, whatever its padding.
    """
    rows = {field.name: (field.dtype, field.shape) for field in statistics.fields if field.form == "tensor"}
    dtype, shape = rows.get("shifts", ("", ()))
    if not dtype.startswith("float") or shape != (3,):
        reason = f"they are {dtype} {list(shape)}" if dtype else f"there are {', '.join(rows)}"
        raise FieldError(
            "pad_geometry (--pad-geometry) needs shifts, a floating field [edges, 3] that is added to the vectors of "
            f"edges: {reason}. Give graphs that are not periodic shifts of zeros"
        )
    far = 2.0 * cutoff
    pads: dict[str, Any] = {
        "shifts": (far, 0, 0),
        "unit_shifts": (1, 0, 0),
        "cell": ((far, 0, 0), (0, far, 0), (0, 0, far)),
    }
    shapes = {"unit_shifts": (3,), "cell": (3, 3)}
    fitting = {name: pad for name, pad in pads.items() if name in rows and rows[name][1] == shapes.get(name, (3,))}
    return {**fitting, **{name: 1 for name in _MASSES if name in rows}}
