"""`sample:NAME`: data that other packages ship, at hand without a file."""

from __future__ import annotations

from packer.errors import SourceError
from pipelines.sources.protocol import Source


def sample(name: str) -> Source:
    """ "nci": 4,991 NCI molecules, their polar surface as target; "g2": 86 molecules, energies and forces by EMT."""
    if name == "nci":
        from pipelines.sources.smiles import NciSample

        return NciSample()
    if name == "g2":
        from pipelines.sources.atoms import G2Sample

        return G2Sample()
    raise SourceError(f"unknown sample {name!r}; there are sample:nci and sample:g2")
