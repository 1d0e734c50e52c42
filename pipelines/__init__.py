"""The jobs: what a user runs. `from pipelines import build` loads the job on first use; Python 3.11 or newer."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from packer import on_first_use

if TYPE_CHECKING:
    from pipelines.building.build import build as build
    from pipelines.building.result import BuildResult as BuildResult

_HOME = {"BuildResult": "building.result", "build": "building.build"}
__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def _needs(name: str) -> ImportError:
    version = "{}.{}".format(*sys.version_info[:2])
    return ImportError(
        f"{name} needs Python 3.11 or newer; this is Python {version}. Reading packs (import packer) works here: "
        "build them with a newer Python, here or elsewhere"
    )


class _OldPython:
    """Refuses every module of the jobs but the command's entry: their annotations would end in a TypeError."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        if name.startswith("pipelines.") and name != "pipelines.entry":
            raise _needs(name)


if sys.version_info < (3, 11):
    sys.meta_path.insert(0, _OldPython)


_load = on_first_use(__name__, _HOME)


def __getattr__(name: str) -> Any:
    if sys.version_info < (3, 11) and name != "entry" and not name.startswith("__"):
        raise _needs(f"pipelines.{name}")
    return _load(name)


def __dir__() -> list[str]:
    return __all__
