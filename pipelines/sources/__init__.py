"""Where graphs come from. `parse_source` reads what a user writes; `as_source` also takes Python objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from packer.errors import SourceError
from pipelines.sources.protocol import Source

KINDS = {
    "sample:nci": "4,991 real NCI molecules with their polar surface as target (the default)",
    "sample:g2": "86 small molecules with energies and forces of ASE's EMT calculator",
    "smiles:FILE.csv[.gz]": "a CSV or Parquet file of molecules, or its URL; --smiles-column C, --target C",
    "ase:FILE[,FILE...]": "frames of extxyz, .traj, .db or .aselmdb files, or of a folder; --cutoff R, --target C",
    "tudataset:NAME": "the raw files of a TUDataset; --root DIR",
    "sizes:FILE": "sizes alone, in an npz, CSV or Parquet file, for scan, suggest, compare and plan; --nodes-column C",
    "pyg:module:callable": "whatever PyG data set, or iterable of Data, the callable returns",
}


def parse_source(
    text: str,
    *,
    smiles_column: str | None = None,
    targets: Sequence[str] = (),
    root: str | Path | None = None,
    strings: Sequence[str] = (),
    storage_options: Mapping[str, Any] | None = None,
    use_node_attr: bool = False,
    use_edge_attr: bool = False,
    target_dtype: str | None = None,
    missing: str | Sequence[str] | None = None,
    delimiter: str | None = None,
    cutoff: float | None = None,
    float_dtype: str | None = None,
    nodes_column: str | None = None,
    edges_column: str | None = None,
) -> Source:
    """The source that `text` and its options name. Reads nothing yet; SourceError for what names no source.

    strings: columns to keep as string attributes of the graphs. storage_options: for fsspec, for a file at a URL; never
    shown. use_node_attr, use_edge_attr: whether a TUDataset's continuous attributes are kept, as PyG's reader has it.
    target_dtype: float32 (the default) or float64; missing: target cells that become NaN, "NA,nan," or a list, an empty
    one for empty cells (the default: nan,NaN,NAN,); delimiter: one character, "tab" for a tab; None: what the header
    shows of comma, semicolon and tab. cutoff: of neighbours, in the unit of positions (Å in ASE); float_dtype: of
    positions, cells, shifts and targets, float32 (the default) or float64. nodes_column, edges_column: of a file of
    sizes; None: see SizesFile.
    """
    kind, _, rest = text.partition(":")
    if kind not in ("sample", "smiles", "ase", "tudataset", "sizes", "pyg") or not rest:
        raise SourceError(f"unknown source {text!r}{_hint(text)} Sources are: {', '.join(KINDS)}")
    if kind != "smiles" and (smiles_column or (targets and kind != "ase")):
        raise SourceError(
            f"smiles_column and targets (--smiles-column, --target) are for smiles: sources; {text} has its own columns"
        )
    if kind != "ase" and not (cutoff is None and float_dtype is None):
        raise SourceError(f"cutoff and float_dtype (--cutoff, --float-dtype) are for ase: sources, not for {text}")
    if kind != "sizes" and (nodes_column or edges_column):
        raise SourceError(f"nodes_column and edges_column are for sizes: sources, not for {text}")
    asked = {"target_dtype": target_dtype, "missing": missing, "delimiter": None if kind == "sizes" else delimiter}
    given = [f"{name} (--{name.replace('_', '-')})" for name, value in asked.items() if value is not None]
    if kind != "smiles" and given:
        raise SourceError(f"{', '.join(given)}: for smiles: sources, not for {text}")
    if kind != "tudataset" and root is not None:
        raise SourceError(f"root (--root) is for tudataset: sources, not for {text}")
    if kind != "tudataset" and (use_node_attr or use_edge_attr):
        raise SourceError(f"use_node_attr and use_edge_attr are for tudataset: sources, not for {text}")
    if kind != "smiles" and storage_options:
        raise SourceError(f"storage_options are for smiles: sources at URLs, not for {text}")
    if kind == "smiles":
        from pipelines.sources.remote import text_file
        from pipelines.sources.smiles import SmilesFile
        from pipelines.sources.table import check_delimiter
        from pipelines.sources.targets import MISSING, check_dtype, missing_of

        return SmilesFile(
            text_file(rest, storage_options),
            smiles_column or "smiles",
            tuple(targets),
            tuple(strings),
            target_dtype=check_dtype(target_dtype or "float32"),
            missing=MISSING if missing is None else missing_of(missing),
            delimiter=None if delimiter is None else check_delimiter(delimiter),
        )
    if kind == "ase":
        from pipelines.sources.atoms import ase_files

        return ase_files(rest, cutoff, tuple(targets), tuple(strings), float_dtype or "float32")
    if kind == "tudataset":
        from pipelines.sources.tudataset import tudataset

        if root is None:
            raise SourceError(f"{text} needs root=DIR (--root DIR), the folder that holds {rest}/raw")
        return tudataset(rest, Path(root), use_node_attr, use_edge_attr)
    if kind == "sizes":
        from pipelines.sources.sizes import SizesFile
        from pipelines.sources.table import check_delimiter

        return SizesFile(Path(rest), nodes_column, edges_column, check_delimiter(delimiter or ","))
    if kind == "pyg":
        from pipelines.sources.pyg import from_callable

        module, _, name = rest.partition(":")
        if not module or not name:
            raise SourceError(f"{text!r} names no callable: write pyg:module:callable, e.g. pyg:mydata:load")
        return from_callable(module, name)
    if rest == "g2":
        from pipelines.sources.atoms import G2Sample

        return G2Sample()
    if rest != "nci":
        raise SourceError(f"unknown sample {rest!r}; there are sample:nci and sample:g2")
    from pipelines.sources.smiles import NciSample

    return NciSample()


def as_source(given: Any, **options: Any) -> Source:
    """A source as it is, what a text names, or a source of a PyG data set or an iterable of Data."""
    if isinstance(given, str):
        return parse_source(given, **options)
    asked = [name for name, value in options.items() if value]
    if asked:
        raise SourceError(f"{', '.join(asked)} describe a source given as text, not a Python object")
    if all(hasattr(given, name) for name in ("tasks", "key", "repeatable", "parallel")):
        return given
    from pipelines.sources.pyg import from_object

    return from_object(given)


def _hint(text: str) -> str:
    near = get_close_matches(text, ["sample:nci", "sample:g2"], 1) or get_close_matches(
        text.partition(":")[0], ["sample", "smiles", "ase", "tudataset", "sizes", "pyg"], 1
    )
    return f"; did you mean {near[0]!r}?" if near else "."
