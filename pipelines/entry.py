"""The command `graph-pack`, as far as any Python can read it: says what is missing, then hands over."""

from __future__ import annotations

import sys
from typing import Optional, Sequence


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command line; the exit status. 2 where the command itself cannot run here."""
    if sys.version_info < (3, 11):
        print(
            "graph-pack needs Python 3.11 or newer; this is Python %d.%d. The library (import packer) reads packs here; "
            "build them with a newer Python." % sys.version_info[:2],
            file=sys.stderr,
        )
        return 2
    try:
        import pydantic
        import rich
        import typer
    except ImportError as error:
        print("graph-pack needs %s: pip install 'graph-packer[cli]'" % error.name, file=sys.stderr)
        return 2
    del pydantic, rich, typer
    from pipelines.cli import run

    return run(arguments)
