"""What we remember: the catalogue of images (SQLite), the vector shards, the manifest, and their upkeep."""

from patchwise.store.catalogue import FileRow
from patchwise.store.codes import Codes, CodesRecord, codes_version, drop_all, drop_unused, forget_codes
from patchwise.store.info import GalleryInfo, gallery_info
from patchwise.store.manifest import Manifest
from patchwise.store.remembered import Arrays, RememberedArrays
from patchwise.store.snapshot import Snapshot
from patchwise.store.store import Store
from patchwise.store.verify import VerifyReport
from patchwise.store.writer import Encoded, Writer

__all__ = [
    "Arrays",
    "Codes",
    "CodesRecord",
    "Encoded",
    "FileRow",
    "GalleryInfo",
    "Manifest",
    "RememberedArrays",
    "Snapshot",
    "Store",
    "VerifyReport",
    "Writer",
    "codes_version",
    "drop_all",
    "drop_unused",
    "forget_codes",
    "gallery_info",
]
