"""What a figure depends on besides the code: printed above every generated table."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def provenance(*packages: str, seed: int | None = None) -> str:
    """One paragraph: commit, processor, versions, seed.

    Where the files lie outside of their repository, GRAPH_PACKER_COMMIT says of which commit they are.
    """
    commit = os.environ.get("GRAPH_PACKER_COMMIT") or _commit()
    versions = ", ".join(f"{name} {_version(name)}" for name in packages)
    seeded = "" if seed is None else f", seed {seed}"
    return (
        f"Commit {commit or 'unknown'}; {_processor()}, {os.cpu_count()} cores; Python {platform.python_version()}, "
        f"{versions}{seeded}."
    )


def _commit() -> str:
    """Of the repository that this file lies in; empty without one, or without git."""
    describe = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        return subprocess.run(
            describe, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        ).stdout.strip()
    except OSError:
        return ""


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
