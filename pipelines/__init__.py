"""The jobs: what a user runs. `from pipelines import build` loads the job on first use; Python 3.11 or newer."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.build_job import BuildResult as BuildResult
    from pipelines.build_job import build as build

_HOME = {"BuildResult": "build_job", "build": "build_job"}
__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if sys.version_info < (3, 11) and name != "entry" and not name.startswith("__"):
        # Whatever is asked for, submodules too: their annotations would end in a TypeError.
        version = "{}.{}".format(*sys.version_info[:2])
        raise ImportError(
            f"pipelines.{name} needs Python 3.11 or newer; this is Python {version}. Reading packs (import packer) "
            "works here: build them with a newer Python, here or elsewhere"
        )
    if name not in _HOME:
        raise AttributeError(f"module 'pipelines' has no attribute {name!r}")
    return getattr(import_module(f"pipelines.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
