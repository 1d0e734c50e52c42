"""What a build gives back, and what it says of a place that holds something else."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from packer.errors import BuildError, PackerError
from packer.shards import Manifest
from pipelines.building.card import card_text, card_title
from pipelines.building.request import Job
from pipelines.sources.protocol import Skip
from pipelines.stores.layout import BUILD_FILE, CARD, inside, read_json
from pipelines.stores.store import OVERWRITE, Store


@dataclass(frozen=True)
class BuildResult(os.PathLike[str]):
    """What a build made. manifests: split name -> manifest ("" without splits); seconds: stage -> wall time; skips: the
    source graphs that cannot be packed; already: the place held this very build before; out: the folder or URL;
    ambiguous: the fields whose level the data leave open and nobody named (`levels`): a guess, to be looked at."""

    out: Path | str
    manifests: Mapping[str, Manifest]
    seconds: Mapping[str, float] = field(default_factory=dict)
    skips: Sequence[Skip] = ()
    already: bool = False
    ambiguous: tuple[str, ...] = ()

    @property
    def manifest(self) -> Manifest:
        """The manifest; BuildError where there are splits, each with its own."""
        if "" not in self.manifests:
            raise BuildError(f"{self.out} holds splits: use .manifests, by {', '.join(self.manifests)}")
        return self.manifests[""]

    def __fspath__(self) -> str:
        return str(self.out)


def already(out: Store, finished: Mapping[str, Manifest], job: Job, skips: Sequence[Skip] = ()) -> BuildResult:
    """Nothing to do, but to say of a licence that was not given before."""
    for name, manifest in finished.items() if job.licence else ():
        out.put(inside(name, CARD), card_text(manifest, card_title(name), job.licence, _told(out)).encode())
    return BuildResult(out.where, finished, skips=skips, already=True, ambiguous=_told(out))


def _told(out: Store) -> tuple[str, ...]:
    """The fields of an open level that a finished build tells of."""
    try:
        return tuple(read_json(out.place, BUILD_FILE)["ambiguous_fields"])
    except (PackerError, OSError, ValueError, KeyError, TypeError):
        return ()


def other_job(out: Store, differing: Sequence[str], reason: str) -> BuildError:
    """The error that a place holds a build of another job; differing: a line each; reason: what it does."""
    more = f" (and {len(differing) - 3} more)" if len(differing) > 3 else ""
    return BuildError(
        f"{out} {reason}: {'; '.join(differing[:3])}{more}. Pass {OVERWRITE} to replace it, or choose another folder"
    )


class Clock:
    """Wall seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Generator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start
