"""The old place of `packer.unpacking`."""

from packer.unpacking import unpack as unpack
