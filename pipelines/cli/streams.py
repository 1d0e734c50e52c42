"""Standard output and standard error as they may be found: closed, read no further, or of few characters."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import warnings
from collections.abc import Generator
from typing import Any, TextIO

from packer.errors import PackerError
from pipelines.text.clean import line


def emit(text: str, to: str = "stdout") -> None:
    """Write to a standard stream, at once. Where nobody reads on, what follows goes nowhere and the work goes on."""
    stream: TextIO = getattr(sys, to)
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        _to_nowhere(stream)  # or Python would complain of what it could not write once more, at its end
        if error.errno != errno.EPIPE:
            name = {"stdout": "standard output", "stderr": "standard error"}[to]
            raise PackerError(f"cannot write to {name}: {error.strerror}") from error


@contextlib.contextmanager
def usable_streams() -> Generator[None]:
    """Streams that take every text: a closed one leads nowhere, and signs that an encoding lacks become escapes.

    Warnings become lines of log.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, _nowhere(number))
    before = [(stream, _errors(stream, "backslashreplace")) for stream in (sys.stdout, sys.stderr)]
    showwarning = warnings.showwarning
    warnings.showwarning = _show_warning
    try:
        yield
    finally:
        warnings.showwarning = showwarning
        for stream, errors in before:
            if errors is not None:
                _errors(stream, errors)


def _nowhere(number: int) -> TextIO:
    """A stream for a closed file descriptor, which it takes, lest a file of data does and is written to by others."""
    handle = os.open(os.devnull, os.O_RDWR)
    if handle != number and not _is_open(number):
        os.dup2(handle, number)
        os.close(handle)
        handle = number
    return os.fdopen(handle, "r" if number == 0 else "w", encoding="utf-8", errors="backslashreplace", closefd=False)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _to_nowhere(stream: TextIO) -> None:
    with contextlib.suppress(OSError, ValueError):
        handle = os.open(os.devnull, os.O_WRONLY)
        os.dup2(handle, stream.fileno())
        os.close(handle)


def _errors(stream: Any, errors: str) -> str | None:
    """Set how a stream takes what its encoding lacks; what it was before, None for a stream that cannot be set."""
    if not hasattr(stream, "reconfigure"):
        return None
    before = stream.errors
    if before != errors:
        with contextlib.suppress(OSError, ValueError):
            stream.reconfigure(errors=errors)
    return before


def _show_warning(message: Any, *_: Any, **__: Any) -> None:
    emit(f"graph-pack: {line(message)}\n", "stderr")
