"""What can be wrong with what we are given. Messages say what was asked, what was found, where, and what to do."""

CONTRADICTION = ": the data set contradicts itself; `graph-pack verify` names every such place"
"""Ends an error about numbers under fitting checksums that no writer by the rules would have put there."""


class PackerError(ValueError):
    """Base of every error that the user's data, files or request can cause."""


class LimitsError(PackerError):
    """Limits that no pack can keep."""


class SizesError(PackerError):
    """Sizes that are not sizes, or that no pack can hold."""


class AlgorithmError(PackerError):
    """An algorithm that does not exist or that cannot do what was asked of it."""


class PlanError(PackerError):
    """A plan or a certificate that contradicts its sizes or limits."""


class FieldError(PackerError):
    """A field of the source that cannot be packed."""


class SourceError(PackerError):
    """A source that cannot be read, or that holds no graph."""


class FormatError(PackerError):
    """A data set on disk that is damaged, incomplete or not ours."""


class MissingFileError(FormatError):
    """A file of a data set that is not there."""


class StoreError(FormatError):
    """An object store that refuses, or that did not give what was asked however often it was tried."""


class BuildError(PackerError):
    """An output folder that cannot be written or resumed."""


class StateError(PackerError):
    """A loader state or request that belongs to another data set or loader."""


class LossError(PackerError):
    """A loss that is not what the call takes: no row for each row of the mask, or more than one number."""


class MaskError(PackerError):
    """A mask that a layer needs and has not, or that does not fit its rows; a norm that cannot be masked."""


class MissingExtraError(ImportError):
    """An optional package is absent; the message names the extra to install, or says how else to get it."""

    def __init__(self, package: str, extra: str, purpose: str, how: str = "") -> None:
        super().__init__(f"{purpose} needs {package}: " + (how or f"pip install 'graph-packer[{extra}]'"))
