"""numba where it is installed, plain Python where it is not: the same functions, the same results.

numba is imported at the first call of a kernel, never at import, and each kernel is compiled alone and cached on disk.
"""

from __future__ import annotations

import functools
from typing import Any, Callable, TypeVar, cast

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def kernel(function: Kernel) -> Kernel:
    """Compile `function` in numba's nopython mode at its first call; without numba run it as it is (slow, but right)."""
    compiled: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        if not compiled:
            compiled.append(_compile(function))
        return compiled[0](*args)

    call.compile = lambda: compiled[0] if compiled else compiled.append(_compile(function)) or compiled[0]  # type: ignore[attr-defined]
    return cast(Kernel, call)


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    try:
        import numba
    except ImportError:
        return function
    return cast("Callable[..., Any]", numba.njit(cache=True, nogil=True)(function))
