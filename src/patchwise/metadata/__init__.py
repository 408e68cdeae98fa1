"""What users say of their images, in files of their own, and which images fit a condition on it."""

from patchwise.metadata.files import MetadataFile, open_metadata
from patchwise.metadata.joining import MetadataReport, join_metadata
from patchwise.metadata.where import MOST_CHARACTERS, check_where, fitting

__all__ = [
    "MOST_CHARACTERS",
    "MetadataFile",
    "MetadataReport",
    "check_where",
    "fitting",
    "join_metadata",
    "open_metadata",
]
