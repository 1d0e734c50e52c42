"""One attribute of the graphs of a block: how it joins, what is wrong with it, and the block made of all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from packer.errors import FieldError
from packer.graphs.axes import HOMOGENEOUS, Axis, Type
from packer.graphs.dtypes import narrowest, value_range
from packer.graphs.ragged import flat_rows
from packer.scan.attributes import ALL, Attributes
from packer.scan.block import RawBlock
from packer.scan.parts import Part, budget_counts, further_counts
from packer.scan.statistics import RELATIONS, FieldStatistics, Statistics, joined_axes

RESERVED = ("batch", "ptr", "mask", "nodes_mask", "edges_mask", "graphs_mask", "graph_ids", "num_real")
"""Names that packs give to columns of their own."""

NO_NODES = "no nodes"
MAX_TEXT_BYTES = 63 << 20
"""UTF-8 bytes of all texts of a graph: its row of graphs.parquet is one row group of 64 MiB at most."""

_DTYPES = (
    *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64"),
)


def check_name(name: str, type_: Type, graph_id: int) -> None:
    """Raise FieldError for an attribute name that packs cannot carry."""
    where = f"graph {graph_id}: attribute {Axis('graph', type_).column(name)!r}"
    if name in RESERVED and not (name == "mask" and type_ is None):
        raise FieldError(f"{where}: packs have a column of their own by this name; rename the attribute")
    if not _is_unicode(name):
        raise FieldError(f"{where}: its name is no Unicode text (a lone surrogate); rename it")
    if "/" in name:
        raise FieldError(f"{where}: packs write TYPE/NAME for the attributes of a type; rename it without '/'")
    if "batch" in name:
        raise FieldError(
            f"{where}: PyG shifts attributes with 'batch' in their name by their largest value when it joins graphs; "
            "rename it, or leave it out and pass follow_batch to the loader"
        )


def array_of(value: Any, key: str, graph_id: int) -> tuple[np.ndarray, str]:
    """A tensor's numbers without a copy, and its logical dtype. Raises FieldError for what packs cannot carry."""
    dtype = str(value.dtype).rpartition(".")[2]
    if str(value.layout) != "torch.strided" or getattr(value, "is_nested", False) or dtype.startswith("complex"):
        kind = "nested" if getattr(value, "is_nested", False) else "complex" if "complex" in dtype else "sparse"
        remedy = {
            "complex": "give real and imaginary parts as two columns (torch.view_as_real)",
            "sparse": "give edge_index and edge_attr (torch_geometric.utils.to_edge_index) instead",
            "nested": "give one attribute for each part",
        }[kind]
        raise FieldError(f"graph {graph_id}: {key!r} is a {kind} tensor; {remedy}")
    if dtype not in _DTYPES and dtype != "bfloat16":
        raise FieldError(f"graph {graph_id}: {key!r} is {dtype}; the dtypes known are {', '.join(_DTYPES)}, bfloat16")
    try:
        value = value.detach().cpu()
        if hasattr(value, "as_tensor"):  # PyG's Index and EdgeIndex
            value = value.as_tensor()
        if dtype == "bfloat16":
            import torch

            return value.resolve_neg().contiguous().view(torch.int16).numpy().view(np.uint16), dtype
        return _numbers(value), dtype
    except (RuntimeError, TypeError) as error:
        raise FieldError(
            f"graph {graph_id}: the numbers of {key!r} cannot be read ({error}); give a plain tensor in memory"
        ) from error


def _numbers(value: Any) -> np.ndarray:
    try:
        return value.numpy()
    except RuntimeError:  # a view that negates, which torch leaves to whoever reads it
        return value.resolve_neg().numpy()


def block_of_parts(
    graph_ids: np.ndarray,
    hetero: bool,
    counts: Mapping[Axis, np.ndarray],
    parts: Sequence[Part],
    skipped: Mapping[int, str],
    attributes: Attributes = ALL,
) -> RawBlock:
    none = np.zeros(len(graph_ids), dtype=np.int64)
    ends = [Axis("node", end) for axis in counts if axis.type is not None and axis.level == "edge" for end in axis.ends]
    further = further_counts(parts, graph_ids, hetero, attributes)
    axes = joined_axes([*([*counts, *ends] if hetero else HOMOGENEOUS), *further])
    counts = {**counts, **further}
    by_key = {axis.key: counts.get(axis, none) for axis in axes}
    rows = {axis.key: axis.rows for axis in axes}
    columns: dict[str, np.ndarray] = {}
    present: dict[str, np.ndarray] = {}
    strings: dict[str, pa.Array] = {}
    fields: list[FieldStatistics] = []
    for part in parts if len(graph_ids) else ():
        field = _describe(part, by_key, graph_ids, hetero, rows)
        field = replace(field, axis=attributes.axis_of(part.type, part.name))
        fields.append(field)
        has = np.zeros(len(graph_ids), dtype=bool)
        has[part.positions] = True
        if part.form == "string":
            texts: list[str | None] = [None] * len(graph_ids)
            for position, text in zip(part.positions.tolist(), part.values):
                texts[position] = text
            strings[part.key] = _texts(texts, part.key, graph_ids)
            continue
        if part.role != "count":
            storage = narrowest(part.dtype, field.low, field.high, field.whole)
            columns[part.key] = part.values.astype(storage, copy=False)
        if not has.all() or part.role == "count":
            present[part.key] = has
    _check_texts(strings, graph_ids)
    first = int(graph_ids[0]) if len(graph_ids) else -1
    by_key.update(budget_counts(parts, graph_ids, attributes))
    statistics = Statistics(len(graph_ids), first, hetero, axes, tuple(fields))
    return RawBlock(graph_ids, by_key, columns, present, strings, skipped, statistics)


def _texts(texts: list[str | None], key: str, graph_ids: np.ndarray) -> pa.Array:
    try:
        return pa.array(texts, type=pa.string())
    except UnicodeError as error:
        at = next(at for at, text in enumerate(texts) if text is not None and not _is_unicode(text))
        raise FieldError(
            f"graph {graph_ids[at]}: {key!r} is {texts[at]!r}, which is no Unicode text (a lone surrogate): decode it "
            'with errors="replace", or leave it out'
        ) from error


def _check_texts(strings: Mapping[str, pa.Array], graph_ids: np.ndarray) -> None:
    if sum(texts.nbytes for texts in strings.values()) <= MAX_TEXT_BYTES:
        return
    sizes = [np.asarray(pc.call_function("binary_length", [texts]).fill_null(0)) for texts in strings.values()]
    most = np.sum(sizes, axis=0, dtype=np.int64)
    if most.max() > MAX_TEXT_BYTES:
        raise FieldError(
            f"graph {graph_ids[most.argmax()]}: its texts take {most.max()} bytes; at most {MAX_TEXT_BYTES} are kept. "
            "Shorten them, or leave the attribute out"
        )


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any(0xD800 <= ord(letter) <= 0xDFFF for letter in text)


def _describe(
    part: Part, counts: Mapping[str, np.ndarray], graph_ids: np.ndarray, hetero: bool, rows: Mapping[str, str]
) -> FieldStatistics:
    """Statistics of one attribute over a block, after checking that its numbers of nodes exist."""
    ids = graph_ids[part.positions]
    lacking = np.delete(graph_ids, part.positions)
    if part.role == "count" and (isinstance(part.type, tuple) or (part.type is None and hetero)):
        whose = "a graph of several types" if part.type is None else "an edge type"
        raise FieldError(
            f"graph {ids[0]}: {part.key!r} is the num_nodes of {whose}, but nodes are counted by node type: set it for "
            f"each node type instead, or leave it out (exclude_keys, --exclude {part.key})"
        )
    if part.name == "edge_index" and (not hetero or isinstance(part.type, tuple)):
        _check_edge_index(part, ids)
    if part.role == "index":
        _check_range(part, counts, ids, rows)
    shape = () if part.form == "string" else tuple(part.values.shape[1:])
    return FieldStatistics(
        name=part.name,
        type=part.type,
        role=part.role,
        form=part.form,
        dtype=part.dtype,
        ndim=part.ndim,
        cat_dim=part.cat_dim or 0,
        shape=shape,
        size=int(part.sizes[0]),
        first=int(ids[0]),
        stacked=part.cat_dim is None,
        missing=int(lacking[0]) if len(lacking) else None,
        against=tuple(_contradictions(part, counts, ids, hetero)),
        targets=part.targets,
        **({} if part.form == "string" else value_range(part.values, part.dtype)),
    )


def _contradictions(
    part: Part, counts: Mapping[str, np.ndarray], ids: np.ndarray, hetero: bool
) -> Iterable[tuple[str, int, str]]:
    """For each relation that some graph does not admit: (relation, the first such graph, what it has)."""
    keys = {"node": "node", "edge": "edge"}
    if hetero:
        keys = (
            {} if part.type is None else {"edge" if isinstance(part.type, tuple) else "node": Axis("", part.type).key}
        )
    for relation in RELATIONS[:3]:
        if part.ndim == 0 or part.cat_dim is None:
            yield relation, int(ids[0]), "has one value" if part.ndim == 0 else "is stacked when graphs are joined"
        elif relation == "row" or relation in keys:
            expected = np.ones_like(part.sizes) if relation == "row" else counts[keys[relation]][part.positions]
            wrong = np.flatnonzero(part.sizes != expected)
            if len(wrong):
                at = wrong[0]
                rows = "one row" if relation == "row" else f"{expected[at]} {relation}s"
                yield relation, int(ids[at]), f"has length {part.sizes[at]} and {rows}"
        else:
            yield relation, int(ids[0]), f"has no {relation}s of its own there"
    other = np.flatnonzero(part.sizes != part.sizes[0]) if part.ndim and part.cat_dim is not None else []
    if len(other):
        at = other[0]
        yield "value", int(ids[at]), f"has length {part.sizes[at]}"


def _check_edge_index(part: Part, ids: np.ndarray) -> None:
    if part.form == "tensor" and part.ndim == 2 and part.values.shape[1] == 2 and part.values.dtype.kind in "iu":
        if part.role == "index":
            return
        raise FieldError(
            f"graph {ids[0]}: {part.key!r} is not shifted when graphs are joined (__inc__), so its edges would join "
            "nodes of other graphs: let it be shifted by the number of nodes, as PyG's own classes do"
        )
    kind = part.form if part.form != "tensor" else f"{part.dtype} with {part.ndim} dimensions"
    if part.form == "tensor" and part.ndim == 2:
        kind = f"{part.dtype} [{part.values.shape[1]}, edges]"
    raise FieldError(f"graph {ids[0]}: {part.key!r} is {kind}; it must be a tensor of whole numbers, [2, edges]")


def _check_range(part: Part, counts: Mapping[str, np.ndarray], ids: np.ndarray, rows: Mapping[str, str]) -> None:
    """Raise FieldError for a number of a row that its graph does not have. rows: axis key -> how errors call them."""
    if part.values.dtype.kind not in "iu":
        raise FieldError(
            f"graph {ids[0]}: {part.key!r} is {part.dtype}, but as an index it is shifted by the number of "
            f"{rows.get(part.targets[0], 'nodes')} when graphs are joined: make it whole numbers, or rename it without "
            "'index'"
        )
    owner = np.repeat(np.arange(len(ids)), part.sizes)
    values = flat_rows(part.values)
    for entry, target in enumerate(target if target in counts else "node" for target in part.targets):
        numbers = values if len(part.targets) == 1 else flat_rows(part.values[:, entry])
        nodes = counts[target][part.positions][owner][:, None]
        wrong = np.argwhere((numbers < 0) | (numbers >= nodes))
        if len(wrong):
            at, column = wrong[0]
            count = int(nodes[at, 0])
            span = f" (0 to {count - 1})" if count else ""
            remedy = ", or set num_nodes" if target == "node" or part.type is not None else ""
            if part.name not in ("edge_index", "face"):
                remedy += f", or rename the attribute if it numbers no {rows[target]}"
                remedy += "" if part.type else f", or say what it numbers (--index {part.key}=AXIS)"
            raise FieldError(
                f"graph {ids[owner[at]]}: {part.key!r} has the entry {numbers[at, column]}, but the graph has "
                f"{count or 'no'} {rows[target]}{span}: correct the entry{remedy}"
            )
