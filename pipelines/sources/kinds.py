"""The kinds of sources: what is known of each before its module is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import cast

from pipelines.sources.protocol import Source


@dataclass(frozen=True)
class SourceKind:
    """A kind of source, which users write as PREFIX:ARGUMENT.

    module, function: what makes a source of the argument and of the options that the kind takes, reading nothing yet.
    forms: how it is written, in errors; help: in `--help`, where that says it otherwise. options: the arguments of
    `parse_source` that belong to this kind -> the error where they ({given}) come with a source of another ({text});
    shares: arguments of another kind, or of none, that it takes too.
    """

    prefix: str
    module: str
    function: str
    forms: tuple[str, ...]
    help: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    shares: tuple[str, ...] = ()

    @property
    def takes(self) -> tuple[str, ...]:
        """Names of all options that are of use to it."""
        return (*self.options, *self.shares)

    def load(self) -> Callable[..., Source]:
        return cast("Callable[..., Source]", getattr(import_module(f"pipelines.sources.{self.module}"), self.function))


KINDS = {
    kind.prefix: kind
    for kind in (
        SourceKind("sample", "samples", "sample", forms=("sample:nci", "sample:g2")),
        SourceKind(
            "smiles",
            "smiles",
            "smiles_file",
            forms=("smiles:FILE.csv[.gz]",),
            help="smiles:FILE (.csv, .csv.gz, .parquet), smiles:URL",
            options={
                **dict.fromkeys(
                    ("smiles_column", "targets"),
                    "smiles_column and targets (--smiles-column, --target) are for smiles: sources; {text} has its own "
                    "columns",
                ),
                **dict.fromkeys(
                    ("target_dtype", "missing", "delimiter"), "{given}: for smiles: sources, not for {text}"
                ),
                "storage_options": "storage_options are for smiles: sources at URLs, not for {text}",
            },
            shares=("strings",),
        ),
        SourceKind(
            "ase",
            "atoms",
            "ase_files",
            forms=("ase:FILE[,FILE...]",),
            help="ase:FILE",
            options=dict.fromkeys(
                ("cutoff", "float_dtype"),
                "cutoff and float_dtype (--cutoff, --float-dtype) are for ase: sources, not for {text}",
            ),
            shares=("targets", "strings"),
        ),
        SourceKind(
            "tudataset",
            "tudataset",
            "tudataset",
            forms=("tudataset:NAME",),
            options={
                "root": "root (--root) is for tudataset: sources, not for {text}",
                **dict.fromkeys(
                    ("use_node_attr", "use_edge_attr"),
                    "use_node_attr and use_edge_attr are for tudataset: sources, not for {text}",
                ),
            },
        ),
        SourceKind(
            "sizes",
            "sizes",
            "sizes_file",
            forms=("sizes:FILE",),
            options=dict.fromkeys(
                ("nodes_column", "edges_column"),
                "nodes_column and edges_column are for sizes: sources, not for {text}",
            ),
            shares=("delimiter",),
        ),
        SourceKind("pyg", "pyg", "from_callable", forms=("pyg:module:callable",)),
    )
}


def help_text() -> str:
    """How sources are written, for `--help`."""
    *first, last = (kind.help or ", ".join(kind.forms) for kind in KINDS.values())
    return f"{', '.join(first)} or {last}"
