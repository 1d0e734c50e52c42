"""A job as a TOML file: `--config job.toml` holds what could stand on the command line, which overrides it."""

from __future__ import annotations

import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from packer.errors import SourceError
from pipelines.text.numbers import NUMBERS

Count = int | dict[str, int]


class JobFile(BaseModel):
    """Keys of a job file: the long options of the commands, with - or _. Keys that a command does not take are for the
    other commands: `out` is the folder of `build`, not the file of `plan --out`; beside a smiles: or ase: source
    `target` names its columns, else what `train` learns. Tables may stand where the command line repeats NAME=VALUE."""

    model_config = ConfigDict(extra="forbid", strict=True)

    source: str | None = None
    smiles_column: str | None = None
    target: str | list[str] | None = None
    target_dtype: Literal["float32", "float64"] | None = None
    missing: str | list[str] | None = None
    delimiter: str | None = None
    cutoff: int | float | None = None
    float_dtype: Literal["float32", "float64"] | None = None
    nodes_column: str | None = None
    edges_column: str | None = None
    root: str | None = None
    use_node_attr: bool | None = None
    use_edge_attr: bool | None = None
    guess_num_nodes: bool | None = None
    axis: dict[str, str | list[str]] | None = None
    budget: dict[str, int] | None = None
    out: str | None = None
    num_nodes: Count | None = None
    num_edges: Count | None = None
    num_graphs: int | None = None
    num: dict[str, int] | None = None
    null_graphs: Literal["all", "one", "jraph", "none"] | None = None
    limits: Literal["auto", "max", "mean", "batches"] | float | None = None
    algorithm: str | list[str] | None = None
    seed: int | None = None
    time_limit: float | None = None
    work_limit: float | None = None
    workers: int | None = None
    executor: Literal["process", "dask", "ray"] | None = None
    dask_scheduler: str | None = None
    ray_address: str | None = None
    work: str | None = None
    plan: str | None = None
    splits: str | dict[str, float] | None = None
    split_seed: int | None = None
    split_column: str | None = None
    split_file: str | None = None
    oversize: Literal["error", "skip", "trim-nodes", "trim-edges", "trim-both"] | None = None
    on_empty: Literal["error", "skip"] | None = None
    compression: Literal["zstd", "lz4", "none"] | None = None
    field: dict[str, Literal["node", "edge", "graph"]] | None = None
    exclude: str | list[str] | None = None
    index: str | list[str] | dict[str, str] | None = None
    pad: dict[str, int | float | list[int | float]] | None = None
    pad_geometry: int | float | None = None
    overwrite: bool | None = None
    licence: str | None = None
    multiple_of: int | None = None
    max_nodes: int | None = None
    max_bytes: int | float | None = None
    csv: str | None = None
    plot: str | None = None
    epochs: int | None = None
    hidden: int | None = None
    layers: int | None = None
    lr: int | float | None = None
    batch_size: int | None = None
    device: str | None = None
    json_output: bool | None = Field(default=None, alias="json")


def read_job(path: Path) -> dict[str, Any]:
    """Parameter name -> value as the command line would give it. SourceError names file, key and what is known."""
    try:
        stored = tomllib.loads(path.read_text())
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path} is not TOML: {error}") from error
    entries = {key.replace("-", "_"): value for key, value in stored.items()}
    try:
        job = JobFile.model_validate(entries)
    except ValidationError as error:
        raise SourceError(f"{path}: {_explain(error)}") from None
    for name, allowed in NUMBERS.items():
        fault = allowed.fault(entries[name]) if name in entries else None
        if fault is not None:
            raise SourceError(f"{path}: {name} {fault}")
    return {name: _as_text(value) for name, value in job.model_dump(exclude_none=True).items()}


def _as_text(value: Any) -> Any:
    """Tables as NAME=VALUE texts, single words as they are."""
    if isinstance(value, dict):
        return [
            f"{name}={','.join(map(str, item)) if isinstance(item, list) else item}" for name, item in value.items()
        ]
    return value


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    key = str(first["loc"][0])
    known = sorted(field.alias or name for name, field in JobFile.model_fields.items())
    if first["type"] != "extra_forbidden":
        return f"{key}: {first['msg'].lower()}; got {first['input']!r}"
    near = get_close_matches(key, known, 1)
    return f"unknown key {key!r}; " + (f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}")
