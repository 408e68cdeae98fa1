"""Counts and sizes of a gallery."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from patchwise.store.catalogue import CATALOGUE
from patchwise.store.files import total_size
from patchwise.store.shards import CODES, FP16, REGIONS

if TYPE_CHECKING:
    from patchwise.store.store import Store

__all__ = ["GalleryInfo", "gallery_info"]


@dataclass(frozen=True)
class GalleryInfo:
    """What a gallery holds; sizes in bytes, `unreadable` are (path, reason).

    `vector_bytes` is all that is kept of regions: `fp16_bytes` of vectors, `code_bytes` of the codes kept instead of
    them, `codec_bytes` of what decodes these, and `region_bytes` of boxes. `catalogue_bytes` is what is known of files.
    """

    path: str
    encoder: dict[str, str | int]
    whitening: str
    regions_strategy: str
    created: str
    images: int
    distinct_images: int
    regions: int
    dead_regions: int
    vector_bytes: int
    fp16_bytes: int
    code_bytes: int
    codec_bytes: int
    region_bytes: int
    catalogue_bytes: int
    total_bytes: int
    bytes_per_image: float
    unreadable: list[tuple[str, str]] = field(default_factory=list)


def gallery_info(store: Store) -> GalleryInfo:
    """Count what is there now."""
    manifest, counts, total = store.manifest, store.catalogue.counts(), store.bytes_on_disk()
    return GalleryInfo(
        path=str(store.folder),
        encoder=dict(manifest.encoder),
        whitening=manifest.whitening,
        regions_strategy=manifest.regions,
        created=manifest.created,
        images=counts["images"],
        distinct_images=counts["distinct_images"],
        regions=counts["regions"],
        dead_regions=counts["dead_regions"],
        vector_bytes=store.shards.bytes_on_disk(),
        fp16_bytes=store.shards.bytes_on_disk(FP16),
        code_bytes=store.shards.bytes_on_disk(CODES),
        codec_bytes=store.shards.codecs.bytes_on_disk(),
        region_bytes=store.shards.bytes_on_disk(REGIONS),
        catalogue_bytes=total_size(store.folder.glob(f"{CATALOGUE}*")),
        total_bytes=total,
        bytes_per_image=total / max(counts["images"], 1),
        unreadable=store.catalogue.failures(),
    )
