"""The jobs: what a user runs. `from pipelines import build` loads the job on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.build_job import BuildResult as BuildResult
    from pipelines.build_job import build as build

_HOME = {"BuildResult": "build_job", "build": "build_job"}
__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'pipelines' has no attribute {name!r}")
    return getattr(import_module(f"pipelines.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
