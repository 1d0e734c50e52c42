"""Structures of atoms as graphs: `ase:FILE --cutoff R`, read by the tasks themselves; `sample:g2`, which ASE ships."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from packer.errors import SourceError
from packer.scan.attributes import ALL, Attributes, without
from packer.scan.block import RawBlock
from packer.scan.columns import check_name
from pipelines.sources.flat import FlatField, block_of_arrays
from pipelines.sources.frames import (
    FaultyFrame,
    Frame,
    Pin,
    Spans,
    files_of,
    frames_in,
    import_ase,
    spans_of,
    unreadable,
)
from pipelines.sources.neighbours import Edges, Structures, edges_within
from pipelines.sources.protocol import Scan, Skip
from pipelines.sources.smiles import option_words
from pipelines.sources.targets import is_lost
from pipelines.text.clean import line, stored

FLOATS = ("float32", "float64")
_FRAMES_PER_BLOCK = 256
_FRAMES_LOOKED_AT = 1000
_OWN = ("pos", "z", "cell", "pbc", "edge_index", "shifts", "unit_shifts")
_SHAPES: dict[str, tuple[str, tuple[int, ...]]] = {
    **dict.fromkeys(("energy", "free_energy", "magmom"), ("graph", ())),
    "dipole": ("graph", (3,)),
    "stress": ("graph", (3, 3)),
    "forces": ("node", (3,)),
    "stresses": ("node", (6,)),
    **dict.fromkeys(("energies", "charges", "magmoms"), ("node", ())),
}
"""What calculators give, by ASE's names: whose it is, and the shape of one."""
_VOIGT = [[0, 5, 4], [5, 1, 3], [4, 3, 2]]  # of xx, yy, zz, yz, xz, xy


class Target(NamedTuple):
    """A value to learn. level: "node" or "graph"; shape: of one node's, or of the graph's."""

    name: str
    level: str
    shape: tuple[int, ...]

    def read(self, frame: Frame) -> np.ndarray:
        """The frame's, float64; NaN where it has none. FaultyFrame for what is no such value."""
        shape = (len(frame.numbers), *self.shape) if self.level == "node" else self.shape
        held = frame.find(self.name)
        if held is None:
            return np.full(shape, math.nan)
        try:
            value = np.asarray(held, dtype=np.float64)
        except (TypeError, ValueError):
            raise FaultyFrame(f"{self.name} is not made of numbers") from None
        if self.name == "stress":
            value = value[_VOIGT] if value.shape == (6,) else value.reshape(3, 3) if value.shape == (9,) else value
        if value.shape != shape:
            of_atoms = f" of {len(frame.numbers)} atoms" if self.level == "node" else ""
            raise FaultyFrame(f"{self.name}{of_atoms} is {list(value.shape)}, not {list(shape)}")
        return value


@dataclass(frozen=True)
class Ask:
    """What is made of a frame. strings: names of texts to keep."""

    cutoff: float
    float_dtype: str
    targets: tuple[Target, ...]
    strings: tuple[str, ...]

    def scan(self, first_id: int, frames: Sequence[Frame | str], where: Callable[[int], str]) -> Scan:
        """Graphs of frames, or of what is wrong with them; ids from first_id on. where: what errors call one."""
        faults = {at: frame for at, frame in enumerate(frames) if isinstance(frame, str)}
        values: dict[int, list[Any]] = {}
        for at, frame in enumerate(frames):
            if isinstance(frame, Frame):
                try:
                    values[at] = self._values(frame)
                except FaultyFrame as fault:
                    faults[at] = str(fault)
        for at, reason in self._find_lost(values):
            faults.setdefault(at, reason)
            values.pop(at, None)
        read = [frame for at, frame in enumerate(frames) if at in values and isinstance(frame, Frame)]
        structures = Structures(
            np.array([len(frame.numbers) for frame in read], dtype=np.int64),
            _joined([frame.positions for frame in read], (3,)),
            _joined([np.asarray(frame.cell)[None] for frame in read], (3, 3)),
            _joined([np.asarray(frame.pbc)[None] for frame in read], (3,)).astype(bool),
        )
        edges = edges_within(structures, self.cutoff, self.float_dtype)
        ids = list(values)
        faults.update((ids[at], reason) for at, reason in edges.faults.items())
        kept = [at for at in ids if at not in faults]
        graphs = self._block(first_id, kept, [values[at] for at in kept], structures, edges)
        skips = tuple(Skip(first_id + at, faults[at], where(at)) for at in sorted(faults))
        return Scan(len(frames), graphs, skips)

    def _find_lost(self, values: Mapping[int, list[Any]]) -> list[tuple[int, str]]:
        """(frame, reason) of targets that the dtype cannot hold, by the rule of SMILES' targets."""
        lost: list[tuple[int, str]] = []
        for number, target in enumerate(self.targets, 1):
            rows = [row[number].reshape(-1) for row in values.values()]
            frame_of = np.repeat(np.array(list(values), dtype=np.int64), np.array(list(map(len, rows)), dtype=np.int64))
            numbers = _joined(rows, ())
            with np.errstate(over="ignore", under="ignore"):
                cast = self._cast(numbers)
            for at in np.flatnonzero(is_lost(numbers, cast)).tolist():
                reason = f"{target.name} is {numbers[at]:.17g}, of which {self.float_dtype} makes {cast[at]:.17g}"
                reason += ": pass --float-dtype float64" if self.float_dtype != "float64" else ""
                infinite = f"{target.name} is infinite or beyond {self.float_dtype}"
                lost.append((int(frame_of[at]), infinite if np.isinf(cast[at]) else reason))
        return lost

    def _values(self, frame: Frame) -> list[Any]:
        """Atomic numbers and the targets, checked, then the texts."""
        z = np.asarray(frame.numbers)
        if np.shape(frame.positions) != (len(z), 3) or np.shape(frame.cell) != (3, 3) or np.shape(frame.pbc) != (3,):
            raise FaultyFrame("positions, cell and pbc have not the shapes of its atoms")
        if z.dtype.kind not in "iu" or (len(z) and not 0 <= z.min() <= z.max() <= 118):
            raise FaultyFrame("an atomic number is none of 0 to 118")
        values = [target.read(frame) for target in self.targets]
        return [z, *values, *(_text(frame.find(name)) for name in self.strings)]

    def _block(
        self, first_id: int, kept: list[int], values: list[Any], structures: Structures, edges: Edges
    ) -> RawBlock:
        sound = np.array([at not in edges.faults for at in range(len(structures.num_atoms))], dtype=bool)
        num_nodes, num_edges, cells = structures.num_atoms[sound], edges.num_edges[sound], structures.cells[sound]
        ones = np.ones(len(kept), dtype=np.int64)
        fields = [
            FlatField("z", _joined([row[0] for row in values], ()).astype(np.int64), num_nodes, level="node"),
            FlatField(
                "pos", self._cast(structures.positions[np.repeat(sound, structures.num_atoms)]), num_nodes, level="node"
            ),
            FlatField("edge_index", edges.ends, num_edges, index=True),
            FlatField("shifts", self._cast(edges.shifts), num_edges, level="edge"),
            FlatField("unit_shifts", edges.images, num_edges, level="edge"),
            FlatField("cell", self._cast(cells), ones, level="graph"),
            FlatField("pbc", structures.pbc[sound], ones, level="graph"),
        ]
        for number, (name, level, shape) in enumerate(self.targets, 1):
            rows = [row[number] if level == "node" else row[number][None] for row in values]
            sizes = num_nodes if level == "node" else ones
            fields.append(FlatField(name, self._cast(_joined(rows, shape)), sizes, level=level))
        first = 1 + len(self.targets)
        strings = {name: [row[number] for row in values] for number, name in enumerate(self.strings, first)}
        ids = first_id + np.array(kept, dtype=np.int64)
        return block_of_arrays(ids, num_nodes, num_edges, fields, strings)

    def _cast(self, values: np.ndarray) -> np.ndarray:
        return values.astype(self.float_dtype)


@dataclass(frozen=True, eq=False)
class FramesTask:
    """Consecutive frames of one file, to be read where the task runs. number: of the first of them in the file."""

    first_id: int
    file: str
    path: Path
    number: int
    spans: Spans
    pin: Pin | None
    ask: Ask

    @property
    def label(self) -> str:
        return f"frames {self.number} to {self.number + len(self.spans) - 1} of {self.file}"

    def scan(self, attributes: Attributes = ALL) -> Scan:
        if self.pin is not None:
            self.pin.check(self.path)
        try:
            with frames_in(self.path) as read:
                frames = [_read(read, *span) for span in self.spans.tolist()]
        finally:  # what is wrong may come of this
            if self.pin is not None:
                self.pin.check(self.path)
        scan = self.ask.scan(self.first_id, frames, lambda at: f"{self.file}, frame {self.number + at}")
        return replace(scan, graphs=without(scan.graphs, attributes))


@dataclass(frozen=True)
class AseFiles:
    """Files of frames. text: the files as they were named; pins: of the files that are to be read; (): whatever lies
    there. Where files lie is no part of the key: the same bytes give the same data set."""

    text: str
    cutoff: float
    targets: tuple[str, ...] = ()
    strings: tuple[str, ...] = ()
    float_dtype: str = "float32"
    pins: tuple[Pin, ...] = ()
    parallel: bool = True
    repeatable: bool = True
    on_empty: str = "error"

    @property
    def name(self) -> str:
        return f"ase:{self.text}"

    @property
    def argv(self) -> tuple[str, ...]:
        targets = (word for target in self.targets for word in ("--target", target))
        return (self.name, *option_words({"cutoff": self.cutoff, "float_dtype": self.float_dtype}), *targets)

    @cached_property
    def files(self) -> tuple[Path, ...]:
        return files_of(self.text)

    @cached_property
    def _num_frames(self) -> int:
        return sum(len(spans_of(path)) for path in self.files)

    @property
    def num_graphs(self) -> int | None:
        return self._num_frames

    def pinned(self) -> AseFiles:
        """See `protocol.pinned`."""
        return self if self.pins else replace(self, pins=tuple(map(Pin.of, self.files)))

    def key(self) -> dict[str, Any]:
        return {
            "kind": "ase",
            "files": [stored(path.name) for path in self.files],
            "sha256": [pin.sha256 for pin in self.pinned().pins],
            "cutoff": self.cutoff,
            "targets": list(self.targets),
            "strings": list(self.strings),
            "float_dtype": self.float_dtype,
            **versions(),
        }

    def tasks(self) -> Iterator[FramesTask]:
        import_ase()
        for name in self.targets:
            if name in _OWN:
                raise SourceError(f"{name!r} is what graphs of atoms have anyway: leave --target {name} out")
            check_name(name, None, 0)
        if not self._num_frames:
            raise SourceError(f"{self.name} holds no frame")
        ask = Ask(self.cutoff, self.float_dtype, self._find_targets(), self.strings)
        called = Counter(path.name for path in self.files)
        first_id = 0
        for path, pin in zip(self.files, self.pins or [None] * len(self.files), strict=True):
            spans = spans_of(path)
            if pin is not None:
                pin.check(path)
            file = path.name if called[path.name] == 1 else str(path)
            for start in range(0, len(spans), _FRAMES_PER_BLOCK):
                part = spans[start : start + _FRAMES_PER_BLOCK]
                yield FramesTask(first_id, file, path, start, part, pin, ask)
                first_id += len(part)

    def _find_targets(self) -> tuple[Target, ...]:
        """Level and shape of each target, from ASE where it knows the name, else from the first frame that has it."""
        targets: dict[str, Target] = {}
        others: dict[str, None] = {}
        frames = islice(chain.from_iterable(map(_frames_of, self.files)), _FRAMES_LOOKED_AT) if self.targets else ()
        for frame in frames:
            with suppress(FaultyFrame):
                for name in (name for name in self.targets if name not in targets):
                    value = frame.find(name)
                    if value is not None:
                        kind = ("node", np.shape(value)[1:]) if name in frame.arrays else ("graph", np.shape(value))
                        targets[name] = Target(name, *_SHAPES.get(name, kind))
                if len(targets) == len(self.targets):
                    break
                others.update((name, None) for name in _SHAPES if name in frame.results)
                others.update(dict.fromkeys(map(str, chain(frame.arrays, frame.info))))
        for name in self.targets:
            if name not in targets:
                each = " ".join(f"--target {part.strip()}" for part in name.split(","))
                hint = f": one name each, {each}" if "," in name else ""
                known = ", ".join(line(other) for other in list(others)[:20]) or "nothing but structures"
                raise SourceError(
                    f"none of the first {_FRAMES_LOOKED_AT:,} frames of {self.name} has {name!r} "
                    f"(--target {name}{hint}); there are: {known}"
                )
        return tuple(targets[name] for name in self.targets)


def ase_files(
    text: str, cutoff: float | None, targets: Sequence[str], strings: Sequence[str], float_dtype: str | None
) -> AseFiles:
    """The source `ase:TEXT` that options ask for. SourceError for what they must not be."""
    float_dtype = float_dtype or "float32"
    if cutoff is None:
        raise SourceError(f"ase:{text} needs cutoff=R (--cutoff R), in the unit of the positions: up to where edges go")
    if not 0 < cutoff < math.inf:
        raise SourceError(f"cutoff must be a finite number above 0; got {cutoff!r}")
    if float_dtype not in FLOATS:
        raise SourceError(f"float_dtype must be {' or '.join(FLOATS)}; got {float_dtype!r}")
    return AseFiles(text, float(cutoff), tuple(dict.fromkeys(targets)), tuple(strings), float_dtype)


def _frames_of(path: Path) -> Iterator[Frame]:
    """Those that can be read, in order."""
    spans = spans_of(path)
    with frames_in(path) as read:
        yield from (frame for span in spans.tolist() if isinstance(frame := _read(read, *span), Frame))


def _read(read: Callable[[int, int], Frame], start: int, stop: int) -> Frame | str:
    """A frame, or why it cannot be read."""
    try:
        return read(start, stop)
    except FaultyFrame as fault:
        return str(fault)
    except MemoryError:
        raise
    except Exception as error:  # whatever ASE makes of damaged text
        return str(unreadable(error))


def _joined(parts: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """float64 [rows, *shape]; parts may be none."""
    return np.concatenate([np.zeros((0, *shape)), *parts], dtype=np.float64, casting="unsafe")


def _text(value: Any) -> Any:
    return None if value is None else stored(str(value))


def versions() -> dict[str, str]:
    """Of what makes graphs of frames."""
    import_ase()
    return {name: version(name) for name in ("ase", "matscipy")}


@dataclass(frozen=True)
class G2Task:
    """The structures of ase.collections.g2, with energies and forces of ASE's EMT calculator."""

    first_id: int = 0
    label: str = "the molecules of ase.collections.g2"

    def scan(self, attributes: Attributes = ALL) -> Scan:
        from ase.calculators.emt import EMT, parameters
        from ase.collections import g2

        frames: list[Frame | str] = []
        for name, atoms in zip(g2.names, g2, strict=True):
            unknown = sorted(set(atoms.symbols) - parameters.keys())
            if unknown:
                frames.append(f"EMT knows no {unknown[0]}")
                continue
            atoms.calc = EMT()
            results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
            frames.append(
                Frame(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, results, {}, {"name": name})
            )
        targets = tuple(Target(name, *_SHAPES[name]) for name in ("energy", "forces"))
        scan = Ask(G2Sample.cutoff, "float32", targets, ("name",)).scan(0, frames, lambda at: g2.names[at])
        return replace(scan, graphs=without(scan.graphs, attributes))


@dataclass(frozen=True)
class G2Sample:
    """The 162 small molecules of the G2 set, edges up to 5 Å; EMT knows the elements of 86 of them."""

    parallel: bool = True
    repeatable: bool = True
    on_empty: str = "skip"
    name: str = "sample:g2"
    argv: tuple[str, ...] = ("sample:g2",)
    num_graphs: int | None = 162
    cutoff: float = 5.0

    def key(self) -> dict[str, Any]:
        return {"kind": "sample:g2", **versions()}

    def tasks(self) -> Iterator[G2Task]:
        import_ase()
        yield G2Task()
