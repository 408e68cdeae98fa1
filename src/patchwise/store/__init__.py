"""What we remember: the catalogue of images (SQLite), the vector shards, the manifest, and their upkeep."""

from patchwise.store.catalogue import FileRow
from patchwise.store.codes import Codes, CodesRecord, codes_version, drop_all, drop_unused, forget_codes
from patchwise.store.info import GalleryInfo, gallery_info
from patchwise.store.manifest import Manifest
from patchwise.store.metadata_table import MetadataColumn, MetadataValue
from patchwise.store.remembered import Arrays, RememberedArrays
from patchwise.store.selection import Condition, Selection, StoredImage
from patchwise.store.snapshot import Snapshot
from patchwise.store.store import Store
from patchwise.store.verify import VerifyReport
from patchwise.store.writer import Encoded, Writer

__all__ = [
    "Arrays",
    "Codes",
    "CodesRecord",
    "Condition",
    "Encoded",
    "FileRow",
    "GalleryInfo",
    "Manifest",
    "MetadataColumn",
    "MetadataValue",
    "RememberedArrays",
    "Selection",
    "Snapshot",
    "Store",
    "StoredImage",
    "VerifyReport",
    "Writer",
    "codes_version",
    "drop_all",
    "drop_unused",
    "forget_codes",
    "gallery_info",
]
