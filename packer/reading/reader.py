"""A packed data set without torch: pack i is a dict of numpy arrays whose shapes never change."""

from __future__ import annotations

import math
import operator
import os
from functools import lru_cache
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from packer.errors import FieldError, FormatError
from packer.files.cache import CACHE_BYTES, cached
from packer.files.local import LocalPlace
from packer.files.open import place_of
from packer.graphs.schema import Field
from packer.limits.pack_limits import PackLimits
from packer.packs.columns import Column
from packer.reading.blocks import Blocks, Cast, DecodedBlock, Mask, decoded_block
from packer.reading.collate import PLAIN, PackShape, collate_arrays, collate_column, pack_shape
from packer.reading.dtypes import FLOATS, INDICES, dtype_name, tensor_dtype
from packer.reading.follow_batch import follow, followed
from packer.reading.order import LANES
from packer.shards.graphs_file import iter_graphs
from packer.shards.manifest import Manifest, read_manifest_bytes
from packer.shards.reader import VERIFY
from packer.shards.targets import TargetStats

Arrays = Dict[str, np.ndarray]
Rows = List[Tuple[str, np.ndarray]]
"""Columns of several packs, in the dtypes that were asked for; bfloat16 as the bits that are stored."""

CACHE_BLOCKS = 2 * LANES  # a shuffled epoch reads `LANES` blocks in turn; it needs no block twice
CAST_BYTES = 1 << 20  # of packs cast at once when they are asked for in order; more no longer fit a processor's cache


class PackReader:
    """The packs in `path`: `reader[i] -> dict[str, np.ndarray]`, with numpy and pyarrow alone.

    A pack has every field, then `batch`, `ptr` and the masks (`author/x` and so on in heterogeneous graphs), each of
    one shape and dtype throughout the data set; its arrays are the caller's own to write to. numpy has no bfloat16:
    such fields come as float32, which holds every value of theirs.

    path: the data set's folder, or what `build` returned. verify: "first-touch" compares the checksum of each block
    when a process first reads it, "always" whenever it is read, "off" never (see `PackDataset`). columns: the names to
    load, None for all but "graph_ids" (int64 [num_graphs]: the source's graph in each slot, -1 for null graphs).
    index_dtype: "int64" or "int32", of index fields, `batch` and `ptr`. float_dtype: of floating fields ("float16",
    "float32", "float64"), None keeps theirs. cache_blocks: decoded blocks kept in memory, in stored dtypes,
    fewer where these take more than 8 MiB each (128 MiB by default).
    follow_batch: fields to add `NAME_batch` and `NAME_ptr` for, as PyG's loader does: the graph slot of each row,
    of edge fields too.

    path may be an fsspec URL; storage_options, cache_dir and cache_bytes are then as in `PackDataset`. Files are opened
    on first use by each process for itself: it pickles, and survives fork, spawn and forkserver. Raises FormatError
    where no whole data set lies, and for damage when it is read; StoreError, a FormatError, for a store that refuses or
    keeps failing; MissingExtraError for a URL whose package is not installed.

        >>> result = build([Data(x=torch.eye(3))] * 5, "packs", PackLimits(10, 4, 4), workers=1)
        >>> PackReader("packs")[0]["x"].shape
        (10, 3)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        verify: str = "first-touch",
        columns: Sequence[str] | None = None,
        index_dtype: Any = "int64",
        float_dtype: Any = None,
        cache_blocks: int = CACHE_BLOCKS,
        follow_batch: Sequence[str] | None = (),
        storage_options: Mapping[str, Any] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        if verify not in VERIFY:
            raise FormatError(f"verify must be one of {', '.join(VERIFY)}; got {verify!r}")
        if cache_blocks < 1:
            raise FormatError(f"cache_blocks must be at least 1; got {cache_blocks}")
        place = place_of(path, storage_options)
        self.manifest = _parsed(read_manifest_bytes(place))
        self.place = cached(place, self.manifest.sha256, cache_dir, cache_bytes)
        self.path = place.folder if isinstance(place, LocalPlace) else str(place)
        self.verify = verify
        self.cache_blocks = cache_blocks
        self.columns = _chosen(self.manifest.columns, columns)
        self.followed = followed(self.manifest, follow_batch, [column.name for column in self.columns])
        self.shape = pack_shape(self.manifest, self.followed)
        self.set_dtypes(index_dtype, float_dtype)

    def set_dtypes(self, index_dtype: Any, float_dtype: Any, only_32_bit: bool = False) -> None:
        """Read in other dtypes from now on; only_32_bit: see `with_32_bits`."""
        self.index_dtype = dtype_name(index_dtype, INDICES, "index_dtype")
        self.float_dtype = None if float_dtype is None else dtype_name(float_dtype, FLOATS, "float_dtype")
        by_key = {field.key: field for field in self.fields}
        graphs = self.manifest.counts.graphs
        self.dtypes = {
            column.name: tensor_dtype(
                column, by_key.get(column.name), self.index_dtype, self.float_dtype, only_32_bit, graphs
            )
            for column in self.columns
        }
        casts = [_cast(column, self.dtypes[column.name]) for column in self.columns if column.kind != "mask"]
        self._widened = [
            (column.name, "float32" if self.dtypes[column.name] == "bfloat16" else self.dtypes[column.name])
            for column in self.columns
            if column.dtype == "bfloat16"
        ]
        self._len = self.manifest.num_packs
        self._per_block = self.manifest.packs_per_block
        pack_bytes = sum(_bytes(column, self.dtypes[column.name]) for column in self.columns)
        self.packs_per_cast = max(1, CAST_BYTES // max(1, pack_bytes))
        masks = _masks(self.manifest, self.columns)
        self.blocks = Blocks(self.place, self.manifest, casts, masks, self.verify, self.cache_blocks)
        self._forget()

    def _forget(self) -> None:
        self._already_cast: dict[int, tuple[int, Rows]] = {}
        self._expected = -1
        self._empty: DecodedBlock | None = None
        self._id_blocks: Blocks | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_already_cast": {}, "_empty": None}

    def with_dtypes(self, index_dtype: Any, float_dtype: Any, only_32_bit: bool = False) -> PackReader:
        """The same data set in other dtypes. only_32_bit: int32 also for every wider or unsigned integer, and float32
        for float64 and bfloat16; FieldError where a field's integers might not fit."""
        other = object.__new__(PackReader)
        other.__dict__.update(self.__dict__)
        other.set_dtypes(index_dtype, float_dtype, only_32_bit)
        return other

    def as_stored(self, casts: Sequence[Cast]) -> PackReader:
        """The same packs, of which blocks hold these columns, `num_real` among them, as they are stored."""
        other = object.__new__(PackReader)
        other.__dict__.update(self.__dict__)
        other.blocks = Blocks(self.place, self.manifest, casts, (), self.verify, self.cache_blocks)
        other._forget()
        return other

    @property
    def limits(self) -> PackLimits:
        return self.manifest.limits

    @property
    def fields(self) -> tuple[Field, ...]:
        return self.manifest.schema.fields

    @property
    def target_stats(self) -> Mapping[str, TargetStats]:
        """Field key -> count, mean and standard deviation of each column, of every floating field of graphs; {} where
        there is none, and in data sets built before these were kept."""
        return self.manifest.target_stats

    def __len__(self) -> int:
        """Packs."""
        return self._len

    def __repr__(self) -> str:
        return f"PackReader({str(self.path)!r}, {self._len} packs of {self.limits})"

    def __getitem__(self, index: int) -> Arrays:
        return self.widened(self.cut(*self.rows_of(index)))

    def rows_of(self, index: int, redraw: int = 0) -> tuple[Rows, int]:
        """Some packs cast together, and which of them is pack `index`: for `cut`. redraw: the key of its graphs'
        redraw, 0 for the pack as it is stored."""
        if redraw:
            number, row = divmod(self._pack_id(index), self._per_block)
            return self.cast(self.blocks.cached(number, redraw), slice(row, row + 1)), 0
        taken = self._already_cast.pop(index, None)
        if taken is None:
            index = self._pack_id(index)
            taken = self._cast_next(index)
        first, several = taken
        return several, index - first

    def cast(self, block: DecodedBlock, rows: slice | np.ndarray) -> Rows:
        """Packs of a block as new arrays, side by side in memory: `cut` gives each of them, once."""
        new = isinstance(rows, np.ndarray)  # what numbers select is a copy already
        return [(name, stored[rows].astype(dtype, copy=not new)) for name, stored, dtype in block]

    def cut(self, several: Rows, at: int) -> Arrays:
        """Pack number `at` of some that were cast together, bfloat16 as int16 bits."""
        pack = {name: rows[at] for name, rows in several}
        if not self.followed:
            return pack
        return follow(pack, self.followed, self.shape.num_graphs, self.index_dtype)

    def cut_collated(self, parts: Sequence[tuple[DecodedBlock, int]], shape: PackShape) -> Arrays:
        """Several packs (block, row) as one: rows go straight from their blocks to where they belong."""
        if self.followed:
            return collate_arrays([self.cut(self.cast(block, slice(row, row + 1)), 0) for block, row in parts], shape)
        first, _ = parts[0]
        return {
            name: collate_column([block[at][1][row] for block, row in parts], dtype, shape.joints.get(name, PLAIN))
            for at, (name, _, dtype) in enumerate(first)
        }

    def widened(self, pack: Arrays) -> Arrays:
        """Bits of bfloat16 as the floating numbers that numpy has."""
        for name, dtype in self._widened:
            wide = pack[name].view(np.uint16).astype(np.uint32) << np.uint32(16)
            pack[name] = wide.view(np.float32).astype(dtype, copy=False)
        return pack

    def _cast_next(self, pack: int) -> tuple[int, Rows]:
        """One pack; of packs asked for in order also the next few, which `rows_of` then takes, each once."""
        number, row = divmod(pack, self._per_block)
        block = self.blocks.cached(number)
        number_cast = 1
        if pack == self._expected:
            number_cast = self.packs_per_cast
            if row == 0:
                self.blocks.drop(number - 1)
        several = self.cast(block, slice(row, row + number_cast))
        self._expected = pack + len(several[0][1])
        self._already_cast = dict.fromkeys(range(pack + 1, self._expected), (pack, several))
        return pack, several

    def empty_pack(self) -> Arrays:
        """A pack without real graphs: what fills a last step."""
        return self.widened(self.cut(self.cast(self.empty_block(), slice(0, 1)), 0))

    def empty_block(self) -> DecodedBlock:
        """A block of one pack, the empty one."""
        if self._empty is None:
            self._empty = decoded_block(self.empty_columns(), self.blocks.casts, self.blocks.masks)
        return self._empty

    def empty_columns(self) -> Arrays:
        """The columns of a block of one pack, the empty one, as they would be stored."""
        from packer.packs.materialise import empty_pack

        return empty_pack(self.manifest.schema, self.limits)

    def graph_ids(self, index: int) -> np.ndarray:
        """The source's graph in each slot of pack `index`: int64 [num_graphs], -1 for null graphs."""
        if self._id_blocks is None:
            ids = [Cast("graph_ids", np.dtype(np.int64))]
            self._id_blocks = Blocks(self.place, self.manifest, ids, (), self.verify, self.cache_blocks)
        block, row = divmod(self._pack_id(index), self._per_block)
        _, stored, dtype = self._id_blocks.cached(block)[0]
        return stored[row].astype(dtype)

    def slots_of_graphs(self) -> np.ndarray:
        """For each graph of the source its slot, counted through all packs, or -1: int64 [graphs]."""
        num_graphs = int(self.limits.num_graphs or 0)
        parts = [np.zeros(0, np.int64)]
        for part in iter_graphs(self.place, self.manifest, ["pack", "slot"]):
            pack, slot = part.column("pack").to_numpy(), part.column("slot").to_numpy()
            parts.append(np.where(pack >= 0, pack * num_graphs + slot, -1))
        return np.concatenate(parts)

    def _pack_id(self, index: int) -> int:
        pack = operator.index(index)
        if not -self._len <= pack < self._len:
            raise IndexError(f"pack {pack} of {self._len}")
        return pack + self._len if pack < 0 else pack


@lru_cache(maxsize=4)
def _parsed(manifest: bytes) -> Manifest:
    """The same bytes are parsed once: a data set is often opened again, by every loader and every evaluation."""
    return Manifest.load(manifest)


def _chosen(known: Sequence[Column], names: Sequence[str] | None) -> tuple[Column, ...]:
    if names is None:
        return tuple(column for column in known if column.kind not in ("num_real", "graph_ids"))
    tensors = [column for column in known if column.kind != "num_real"]
    wanted = [names] if isinstance(names, str) else list(names)
    unknown = [name for name in wanted if name not in [column.name for column in tensors]]
    if unknown or not wanted:
        raise FieldError(f"columns={wanted}: unknown {unknown}; a pack has {[column.name for column in tensors]}")
    return tuple(column for column in tensors if column.name in wanted)


def _cast(column: Column, dtype: str) -> Cast:
    """numpy has no bfloat16: its bits travel as int16, and numbers on their way to it as float32."""
    if column.dtype == "bfloat16":
        return Cast(column.name, np.dtype(np.int16), "int16")
    return Cast(column.name, np.dtype("float32" if dtype == "bfloat16" else dtype))


def _bytes(column: Column, dtype: str) -> int:
    return math.prod(column.shape) * (2 if dtype == "bfloat16" else np.dtype(dtype).itemsize)


def _masks(manifest: Manifest, columns: Sequence[Column]) -> list[Mask]:
    order = [axis.mask_name for axis in manifest.schema.axes] + ["graphs_mask"]  # the order of num_real
    return [Mask(column.name, column.shape[0], order.index(column.name)) for column in columns if column.kind == "mask"]
