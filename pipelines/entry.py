"""The command `graph-pack`, as far as any Python can read it: says what is missing, then hands over."""

from __future__ import annotations

import sys
from typing import Optional, Sequence


def main(arguments: Optional[Sequence[str]] = None) -> int:  # noqa: UP045
    """Run the command line; the exit status. 2 where the command itself cannot run here."""
    if sys.version_info < (3, 11):
        return _refuse(
            "graph-pack needs Python 3.11 or newer; this is Python {}.{}. Reading packs (import packer) works here; "
            "build them with a newer Python.".format(*sys.version_info[:2])
        )
    try:
        import pydantic
        import rich
        import typer
    except ImportError as error:
        return _refuse(f"graph-pack needs {error.name}: pip install 'graph-packer[cli]'")
    del pydantic, rich, typer
    from pipelines.cli.app import run

    return run(arguments)


def _refuse(why: str) -> int:
    sys.stderr.write(why + "\n")
    return 2
