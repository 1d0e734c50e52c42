"""The jobs: what a user runs. `from pipelines import build` loads the job on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.build import BuildResult as BuildResult
    from pipelines.build import build as build

_HOME = {"BuildResult": "build", "build": "build"}
__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'pipelines' has no attribute {name!r}")
    value = getattr(import_module(f"pipelines.{_HOME[name]}"), name)
    globals()[name] = value  # `build` the function, not the submodule of the same name
    return value


def __dir__() -> list[str]:
    return __all__
