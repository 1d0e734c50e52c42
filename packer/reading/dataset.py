"""A packed data set as torch sees it: pack i is a dict of tensors whose shapes never change."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import from_numpy
from torch.utils.data import Dataset

from packer.errors import FieldError, FormatError
from packer.files.cache import CACHE_BYTES
from packer.files.protocol import Place
from packer.graphs.schema import Field
from packer.limits.pack_limits import PackLimits
from packer.packs.columns import Column
from packer.reading.blocks import Blocks, DecodedBlock
from packer.reading.collate import PackShape, collate_tensors
from packer.reading.reader import CACHE_BLOCKS, PackReader, Rows
from packer.shards.manifest import Manifest
from packer.shards.targets import TargetStats

Pack = Dict[str, torch.Tensor]


class PackDataset(Dataset[Pack]):
    """The packs in `path`: a map-style torch data set, `dataset[i] -> dict[str, torch.Tensor]`.

    A pack has every field, then `batch`, `ptr` and the masks (`author/x` and so on in heterogeneous graphs), each of
    one shape and dtype throughout the data set; its tensors are the caller's own to write to.

    path: the data set's folder, or what `build` returned. verify: "first-touch" compares the checksum of each block
    when a process first reads it, "always" whenever it is read, "off" never: then changed features pass. No mode
    notices features that were changed together with their checksums. columns: the names to load, None for all but
    "graph_ids" (int64 [num_graphs]: the source's graph in each slot, -1 for null graphs).
    index_dtype: "int64" or "int32", of index fields, `batch` and `ptr`. float_dtype: of floating fields, None keeps
    theirs. transform: called with each pack, returns the pack to use. cache_blocks: decoded blocks kept in memory, in
    stored dtypes, fewer where these take more than 8 MiB each (128 MiB by default).
    follow_batch: fields to add `NAME_batch` and `NAME_ptr` for, as PyG's loader does:
    the graph slot of each row, of edge fields too.

    path may be an fsspec URL: `s3://`, `gs://`, ... Then storage_options go to fsspec and are never shown. cache_dir:
    the folder that keeps copies of shards, None for `~/.cache/graph-packer` (under $XDG_CACHE_HOME where that is set).
    cache_bytes: what all copies there may take together; other shards, with cache_bytes=0 all, are read block by block.

    Files are opened on first use by each process for itself: it pickles, and survives fork, spawn and forkserver.
    Raises FormatError where no whole data set lies, and for damage when it is read; StoreError, a FormatError, for a
    store that refuses or keeps failing; MissingExtraError for a URL whose package is not installed.

        >>> result = build([Data(x=torch.eye(3))] * 5, "packs", PackLimits(10, 4, 4), workers=1)
        >>> dataset = PackDataset("packs")
        >>> len(dataset), dataset[0]["x"].shape
        (2, torch.Size([10, 3]))
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        verify: str = "first-touch",
        columns: Sequence[str] | None = None,
        index_dtype: Any = "int64",
        float_dtype: Any = None,
        transform: Callable[[Pack], Pack] | None = None,
        cache_blocks: int = CACHE_BLOCKS,
        follow_batch: Sequence[str] | None = (),
        storage_options: Mapping[str, Any] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.reader = PackReader(
            path,
            verify,
            columns,
            index_dtype,
            float_dtype,
            cache_blocks,
            follow_batch,
            storage_options,
            cache_dir,
            cache_bytes,
        )
        self.transform = transform
        self._followed = bool(self.reader.followed)
        self._finish = _to_finish(self.reader)

    def with_32_bits(self) -> PackDataset:
        """The same data set with int32 for every wider or unsigned integer, and float32 for float64 and bfloat16.

        FieldError where a field's integers might not fit.
        """
        other = object.__new__(PackDataset)
        reader = self.reader.with_dtypes("int32", self.reader.float_dtype, only_32_bit=True)
        other.__dict__.update(self.__dict__, reader=reader, _finish=_to_finish(reader))
        return other

    @property
    def manifest(self) -> Manifest:
        return self.reader.manifest

    @property
    def path(self) -> Path | str:
        """The folder, or the URL."""
        return self.reader.path

    @property
    def place(self) -> Place:
        """Where its files are read from: there, or from copies here."""
        return self.reader.place

    @property
    def verify(self) -> str:
        return self.reader.verify

    @property
    def blocks(self) -> Blocks:
        """Its decoded blocks."""
        return self.reader.blocks

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns that are loaded."""
        return self.reader.columns

    @property
    def limits(self) -> PackLimits:
        return self.manifest.limits

    @property
    def fields(self) -> tuple[Field, ...]:
        return self.manifest.schema.fields

    @property
    def target_stats(self) -> Mapping[str, TargetStats]:
        """Field key -> count, mean and standard deviation of each column, see `PackReader.target_stats`."""
        return self.manifest.target_stats

    def __len__(self) -> int:
        """Packs."""
        return len(self.reader)

    def __repr__(self) -> str:
        return f"PackDataset({str(self.path)!r}, {len(self)} packs of {self.limits})"

    def __getitem__(self, index: int) -> Pack:
        return self.pack(*self.reader.rows_of(index))

    def __getitems__(self, indices: Sequence[int]) -> list[Pack]:
        """Several packs, as torch's loaders ask for them."""
        return [self[index] for index in indices]

    def redrawn(self, index: int, redraw: int) -> Pack:
        """Pack `index` with its graphs redrawn by a key, see `packer.reading.redraw`; as it is for 0."""
        return self.pack(*self.reader.rows_of(index, redraw))

    def pack(self, several: Rows, at: int) -> Pack:
        """Pack number `at` of some that were cast together."""
        if self._followed:
            pack = {name: from_numpy(array) for name, array in self.reader.cut(several, at).items()}
        else:  # the hot path: nothing between a row and its tensor
            pack = {name: from_numpy(rows[at]) for name, rows in several}
        if self._finish:
            pack = self._finished(pack)
        return pack if self.transform is None else self.transform(pack)

    def cut_collated(self, parts: Sequence[tuple[DecodedBlock, int]], shape: PackShape) -> Pack:
        """Several packs (block, row) as one: rows go straight from their blocks to where they belong."""
        if self.transform is not None:
            cast = self.reader.cast
            return collate_tensors([self.pack(cast(block, slice(row, row + 1)), 0) for block, row in parts], shape)
        return self._finished({name: from_numpy(a) for name, a in self.reader.cut_collated(parts, shape).items()})

    def _finished(self, pack: Pack) -> Pack:
        for name, dtype in self._finish:
            pack[name] = _finished(pack[name], dtype)
        return pack

    def empty_pack(self) -> Pack:
        """A pack without real graphs: what fills a last step."""
        return self.pack(self.reader.cast(self.reader.empty_block(), slice(0, 1)), 0)

    def graph_ids(self, index: int) -> np.ndarray:
        """The source's graph in each slot of pack `index`: int64 [num_graphs], -1 for null graphs."""
        return self.reader.graph_ids(index)

    def scatter(self, predictions: torch.Tensor | Iterable[torch.Tensor], fill: float | None = None) -> torch.Tensor:
        """Predictions for graph slots, in pack order, as predictions for the source's graphs, in source order.

        predictions: [packs * num_graphs, ...], [packs, num_graphs, ...], or the pieces of the first, such as the
        outputs of the steps of an unshuffled loader; rows of empty packs at the end are left out. Returns
        [graphs of the source, ...]. fill: the value for graphs that are in no pack; NaN when predictions are floating,
        otherwise it must be given if there are such graphs. Raises FormatError for another number of rows.
        """
        rows = predictions if isinstance(predictions, torch.Tensor) else torch.cat(list(predictions))
        slots = len(self) * int(self.limits.num_graphs or 0)
        if rows.dim() > 1 and rows.shape[0] == len(self) and rows.shape[1] == self.limits.num_graphs:
            rows = rows.flatten(0, 1)
        if rows.shape[0] < slots or rows.shape[0] % int(self.limits.num_graphs or 1):
            raise FormatError(
                f"{rows.shape[0]} predictions for {len(self)} packs of {self.limits.num_graphs} graph slots: "
                f"expected {slots}, those of every pack in order (shuffle=False, one rank)"
            )
        slot_of_graph = torch.from_numpy(self.reader.slots_of_graphs()).to(rows.device)
        missing = slot_of_graph < 0
        by_graph = rows[slot_of_graph.clamp(min=0)]
        if missing.any():
            if fill is None and not rows.is_floating_point():
                raise FormatError(
                    f"{int(missing.sum())} of {len(by_graph)} graphs are in no pack: pass fill=, the value to give them"
                )
            by_graph[missing] = float("nan") if fill is None else fill
        return by_graph


def _to_finish(reader: PackReader) -> list[tuple[str, torch.dtype]]:
    """What numpy cannot give: (name, dtype) of tensors that are bits of bfloat16, or to be made bfloat16."""
    _check_torch_knows(reader.dtypes)
    return [
        (column.name, getattr(torch, reader.dtypes[column.name]))
        for column in reader.columns
        if "bfloat16" in (column.dtype, reader.dtypes[column.name])
    ]


def _finished(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return (tensor.view(torch.bfloat16) if tensor.dtype == torch.int16 else tensor).to(dtype)


def _check_torch_knows(dtypes: dict[str, str]) -> None:
    for name, dtype in dtypes.items():
        if not hasattr(torch, dtype):
            raise FieldError(
                f"{name} is {dtype}, which torch {torch.__version__} does not have: use torch 2.3 or newer, "
                "or leave it out with columns=[...]"
            )
