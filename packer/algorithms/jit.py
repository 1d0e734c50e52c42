"""numba where it is installed, plain Python where it is not: the same functions, the same results.

numba is imported at the first call of a kernel, never at import, and each kernel is compiled alone and cached on disk.
"""

from __future__ import annotations

import functools
import sys
import threading
import types
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Callable, Generator, TypeVar, cast

_loading = threading.local()


class NotLoaded(Exception):
    """A kernel was called that would have to load numba first."""


Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def kernel(function: Kernel) -> Kernel:
    """Compile `function` in numba's nopython mode at its first call; without numba run it as it is (slow, but right).

    A kernel may call other kernels of its own module. The cache lies beside the source or, where that cannot be
    written, in numba's user-wide folder; where neither can, the kernel is compiled anew in every process. numba notices
    a changed source file, but not a change in another file: keep a kernel and the kernels that it calls in one module.
    """
    compiled: list[Callable[..., Any]] = []

    def resolve() -> Callable[..., Any]:
        if not compiled:
            compiled.append(_compile(function))
        return compiled[0]

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        return resolve()(*args)

    call.resolve_kernel = resolve  # type: ignore[attr-defined]
    return cast(Kernel, call)


@contextmanager
def nothing_loaded() -> Generator[None, None, None]:
    """In this thread, kernels raise NotLoaded rather than load numba, which keeps every thread waiting for a second."""
    _loading.refused = True
    try:
        yield
    finally:
        _loading.refused = False


def loading_is_refused() -> bool:
    """Whether this thread is inside `nothing_loaded`, and numba is not loaded yet."""
    return getattr(_loading, "refused", False) and "numba" not in sys.modules


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    if loading_is_refused() and numba_is_here():
        raise NotLoaded
    try:
        import numba
    except ImportError:
        return function
    plain = _with_compiled_callees(cast(types.FunctionType, function))
    try:
        return cast("Callable[..., Any]", numba.njit(cache=True, nogil=True)(plain))
    except RuntimeError:  # no folder for the cache can be written
        return cast("Callable[..., Any]", numba.njit(nogil=True)(plain))


def _with_compiled_callees(function: types.FunctionType) -> types.FunctionType:
    """The same function, seeing compiled kernels where its module's names are lazy ones, which numba cannot call."""
    called = {name: function.__globals__.get(name) for name in function.__code__.co_names}
    callees: dict[str, Any] = {
        name: cast(Any, value).resolve_kernel() for name, value in called.items() if hasattr(value, "resolve_kernel")
    }
    if not callees:
        return function
    code = types.FunctionType(
        function.__code__, {**function.__globals__, **callees}, function.__name__, function.__defaults__
    )
    code.__module__, code.__qualname__ = function.__module__, function.__qualname__
    return code


def numba_is_here() -> bool:
    """Whether kernels are compiled. Nothing is loaded to know it."""
    return find_spec("numba") is not None
