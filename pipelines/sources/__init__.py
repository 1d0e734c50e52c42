"""Where graphs come from. `parse_source` reads what a user writes; `as_source` also takes Python objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from packer.errors import SourceError
from pipelines.sources.kinds import KINDS
from pipelines.sources.protocol import Source


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
    options = {name: value for name, value in locals().items() if name != "text"}
    prefix, _, argument = text.partition(":")
    if prefix not in KINDS or not argument:
        forms = ", ".join(form for kind in KINDS.values() for form in kind.forms)
        raise SourceError(f"unknown source {text!r}{_hint(text)} Sources are: {forms}")
    takes = KINDS[prefix].takes
    _refuse_foreign(text, {name: value for name, value in options.items() if name not in takes})
    return KINDS[prefix].load()(argument, **{name: options[name] for name in takes})


def as_source(source: Any, **options: Any) -> Source:
    """A source as it is, what a text names, or a source of a PyG data set or an iterable of Data."""
    if isinstance(source, str):
        return parse_source(source, **options)
    asked = [name for name, value in options.items() if value]
    if asked:
        raise SourceError(f"{', '.join(asked)} describe a source given as text, not a Python object")
    if all(hasattr(source, name) for name in ("tasks", "key", "repeatable", "parallel")):
        return source
    from pipelines.sources.pyg import from_object

    return from_object(source)


def _refuse_foreign(text: str, options: Mapping[str, Any]) -> None:
    """Raise SourceError for options that belong to sources of other kinds. What is empty was not given."""
    asked = [name for name, value in options.items() if not (value is None or value is False or value in ((), [], {}))]
    for kind in KINDS.values():
        error = next((error for name, error in kind.options.items() if name in asked), None)
        if error is not None:
            alike = [name for name in asked if kind.options.get(name) == error]
            flags = ", ".join(f"{name} (--{name.replace('_', '-')})" for name in alike)
            raise SourceError(error.format(given=flags, text=text))


def _hint(text: str) -> str:
    near = get_close_matches(text, KINDS["sample"].forms, 1) or get_close_matches(text.partition(":")[0], KINDS, 1)
    return f"; did you mean {near[0]!r}?" if near else "."
