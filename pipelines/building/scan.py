"""The first stage of a build: the source read once, into journalled blocks, then joined into the graph table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from packer.errors import SourceError
from packer.files.atomic import TEMPORARY, put_in_place
from packer.files.checked import sums_of
from packer.graphs.schema import Schema
from packer.graphs.table import HASH_GRAPHS, GraphTable, combine_hashes
from packer.scan.attributes import ALL, Attributes
from packer.scan.block import RawBlock, join_blocks
from packer.scan.statistics import Statistics
from pipelines.building.inputs import TABLE, drop_damaged
from pipelines.building.mapped.shards import hash_task
from pipelines.building.options import Progress, ScanOptions
from pipelines.executors import Executor, SerialExecutor
from pipelines.sources.protocol import BlockTask, Source
from pipelines.sources.skips import Skips, nothing_left
from pipelines.stores.journal import Journal, clear
from pipelines.stores.sealed import HEAD, DamagedError, check_seal, damaged, digest_of, seal_of

_BLOCKS = "blocks"


@dataclass(frozen=True)
class ScanResult:
    """The source as a table. Source graphs that are not in it are in `skips`.

    num_graphs: of the source, skipped ones included; ambiguous: fields whose level the data leave open; trimmed: bool
    [graphs of the table], None where none is.
    """

    folder: Path
    table: GraphTable
    num_graphs: int
    skips: Skips
    ambiguous: tuple[str, ...]
    content_hash: str
    trimmed: np.ndarray | None = None

    @property
    def schema(self) -> Schema:
        return self.table.schema


def scan_source(
    source: Source, options: ScanOptions, work: Path, journal: Journal, executor: Executor, progress: Progress
) -> ScanResult:
    """Read the source into `work`, or go on where an earlier scan of the same source stopped.

    A source that its key does not tell (Python objects) is read again from the start; the caller compares contents.
    Raises SourceError and FieldError, which name graph, field and remedy.
    """
    key = {"source": source.key(), "options": options.key()}
    drop_damaged(work, journal, executor)
    known = journal.find("scan")
    if not source.repeatable or "key" not in known or known["key"]["value"] != key:
        clear(work)
        journal.drop("scan", "block", "table")
        journal.add("scan", "key", value=key)
    blocks = _read_blocks(source, options, digest_of(key), work / _BLOCKS, journal, executor, progress)
    if not journal.find("table"):
        _join_blocks(blocks, options, digest_of(key), work, journal, executor, progress)
    line = journal.find("table")["table"]
    return ScanResult(
        work / TABLE,
        GraphTable.open(work / TABLE),
        sum(block["records"] for block in blocks),
        Skips.joined(Skips.from_plain(block["skips"]) for block in blocks),
        tuple(line["ambiguous"]),
        line["content_hash"],
    )


def scan_and_save(item: tuple[BlockTask, str, str], attributes: Attributes = ALL) -> dict[str, Any]:
    """Scan one block and keep its graphs in a file, sealed for its owner; what the journal needs to know of it.

    item: the task, the file, and whose it is.
    """
    task, path, whose = item
    scan = task.scan(attributes)
    data = scan.graphs.to_bytes()
    head = seal_of(data, whose)
    temporary = Path(path + TEMPORARY)
    with temporary.open("wb") as file:
        file.write(head)
        file.write(data)
    put_in_place(temporary, Path(path))
    return {
        "file": Path(path).name,
        "seal": head.hex(),
        "records": scan.num_records,
        "graphs": len(scan.graphs.ids),
        "skips": Skips.of(scan.skips).to_plain(),
        "statistics": scan.graphs.statistics.to_dict(),
    }


def check_skips(source: Source, options: ScanOptions, skips: Skips) -> None:
    """Raise SourceError for the first skip, unless skipping is allowed."""
    policy = options.on_empty or source.on_empty
    for skip in skips if policy == "error" else ():
        where = f" ({skip.where})" if skip.where else ""
        text = "".join(f", {name} {value[:60]!r}" for name, value in skip.strings[:1])
        raise SourceError(
            f"graph {skip.graph_id} of {source.name}{where} cannot be packed: {skip.reason}{text}. Correct it, or pass "
            "on_empty='skip' (--on-empty skip) to leave such graphs out (they are counted)"
        )


def _read_blocks(
    source: Source,
    options: ScanOptions,
    owner: str,
    folder: Path,
    journal: Journal,
    executor: Executor,
    progress: Progress,
) -> list[dict[str, Any]]:
    done = journal.find("block")
    if not journal.find("table"):
        done = {name: block for name, block in done.items() if _is_sound(folder, name, block, owner)}
    if len(done) != journal.find("scan").get("all", {}).get("blocks"):
        folder.mkdir(exist_ok=True)
        numbers: list[int] = []
        blocks_folder = folder.absolute()  # workers may stand elsewhere

        def missing() -> Iterator[tuple[BlockTask, str, str]]:
            for number, task in enumerate(source.tasks()):
                if str(number) not in done:
                    numbers.append(number)
                    yield task, str(blocks_folder / f"{number:06d}"), _whose(owner, number)

        scanned = sum(block["records"] for block in done.values())
        runner = executor if source.parallel else SerialExecutor()
        for i, block in enumerate(runner.map(partial(scan_and_save, attributes=options.attributes), missing())):
            check_skips(source, options, Skips.from_plain(block["skips"]))
            journal.add("block", str(numbers[i]), **block)
            scanned += block["records"]
            progress("scan", scanned, source.num_graphs)
        done = journal.find("block")
        if not sum(block["graphs"] for block in done.values()):
            raise nothing_left(source.name, Skips.joined(Skips.from_plain(block["skips"]) for block in done.values()))
        journal.add("scan", "all", blocks=len(done))
    return [done[name] for name in sorted(done, key=int)]


def _whose(owner: str, number: int | str) -> str:
    return f"{owner} block {number}"


def _is_sound(folder: Path, number: str, block: Mapping[str, Any], owner: str) -> bool:
    """Whether the file of a journalled block is there as it was written, and this scan's."""
    try:
        _block_data(folder, number, block, owner)
    except (OSError, DamagedError):
        return False
    return True


def _block_data(folder: Path, number: str, block: Mapping[str, Any], owner: str) -> bytes:
    path = folder / block["file"]
    with path.open("rb") as file:
        head, data = file.read(HEAD), file.read()
    if head.hex() != block["seal"]:
        raise damaged(str(path), "its seal is not the one in the journal")
    check_seal(head, data, _whose(owner, number), str(path))
    return data


def _join_blocks(
    blocks: list[dict[str, Any]],
    options: ScanOptions,
    owner: str,
    work: Path,
    journal: Journal,
    executor: Executor,
    progress: Progress,
) -> None:
    schema, ambiguous = options.decide(Statistics.from_dict(block["statistics"]) for block in blocks)

    def loaded() -> Iterator[RawBlock]:
        for number, block in enumerate(blocks):
            progress("join", number, len(blocks))
            yield RawBlock.from_bytes(_block_data(work / _BLOCKS, block["name"], block, owner))

    folder = work / TABLE
    table = join_blocks(loaded(), schema, folder)
    progress("join", len(blocks), len(blocks))
    digest = content_hash(table, folder.absolute(), executor)
    journal.add("table", "table", ambiguous=list(ambiguous), content_hash=digest, sums=sums_of(folder))
    for block in blocks:
        (work / _BLOCKS / block["file"]).unlink(missing_ok=True)


def content_hash(table: GraphTable, folder: Path, executor: Executor) -> str:
    """`GraphTable.content_hash`, its blocks spread over the executor."""
    stride = 16 * HASH_GRAPHS
    tasks = [
        (str(folder), start, min(start + stride, table.num_graphs)) for start in range(0, table.num_graphs, stride)
    ]
    return combine_hashes(table.schema, executor.map(hash_task, tasks))
