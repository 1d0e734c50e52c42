"""What the tests of building share: they wait for no disk."""

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """Processes are killed here, machines lose no power: what was written is there without a flush, which takes a
    hundredth of a second, dozens of them a build. `os.fstat` refuses a closed file as `os.fsync` does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)
        yield
