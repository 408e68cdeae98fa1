"""Checking a gallery against its own checksums, and forgetting what is lost so that it can be made again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field

import numpy as np

from patchwise.boxes import clip_xyxy
from patchwise.errors import GalleryDamaged
from patchwise.store.catalogue import Catalogue, ContentRow
from patchwise.store.shards import Shards, checksum

__all__ = ["VerifyReport", "verify"]


@dataclass
class VerifyReport:
    """What a check found; `problems` is empty when every stored byte is as it was written."""

    images: int = 0
    distinct_images: int = 0
    regions: int = 0
    problems: list[str] = field(default_factory=list)
    affected_files: list[str] = field(default_factory=list)
    repaired: bool = False

    @property
    def ok(self) -> bool:
        """Whether the gallery can be trusted as it stands now."""
        return not self.problems or self.repaired


def verify(
    catalogue: Catalogue, shards: Shards, progress: Callable[[int, int], None] | None = None
) -> tuple[VerifyReport, list[int]]:
    """Compare every stored vector with its checksum; returns the report and the ids of damaged pictures."""
    report = VerifyReport()
    with catalogue.reading():
        counts = catalogue.counts()
        contents = catalogue.contents(live_only=False)
        committed, codecs = catalogue.shards(), catalogue.codecs()
        report.problems += [f"catalogue: {line}" for line in catalogue.integrity_problems()]
    report.images, report.distinct_images = counts["images"], counts["distinct_images"]
    lost = {digest for digest in set(codecs.values()) if shards.codecs.complaint(digest, afresh=True) is not None}
    complaints: dict[str, None] = {}  # each once: shards share a codec
    for shard, rows in committed.items():
        problems = shards.problems(shard, rows, codecs.get(shard))
        # Otherwise it was compacted away or became codes meanwhile.
        if problems and shard in catalogue.shards() and catalogue.codecs().get(shard) == codecs.get(shard):
            complaints |= dict.fromkeys(f"{path}: {complaint}" for path, complaint in problems)
    report.problems += complaints
    damaged: list[int] = []
    end_of: dict[int, int] = {}
    for done, content in enumerate(contents, start=1):
        complaint = _complaint(content, committed, codecs, lost, shards)
        while complaint is not None and (now := catalogue.content(content.id)) != content:
            # Another process compacted or forgot it meanwhile: what counts is where it lies now.
            if now is None:
                complaint = None
                break
            with catalogue.reading():
                content, committed, codecs = now, catalogue.shards(), catalogue.codecs()
            complaint = _complaint(content, committed, codecs, lost, shards)
        if complaint is None and content.first < end_of.get(content.shard, 0):
            complaint = "overlaps the rows of another picture"
        end_of[content.shard] = content.first + content.rows
        if complaint is not None:
            damaged.append(content.id)
            names = [path for path, _ in catalogue.paths_of([content.id])]
            report.problems.append(f"{names[0] if names else 'a picture without files'}: {complaint}")
            report.affected_files += names
        report.regions += content.rows
        if progress is not None:
            progress(done, len(contents))
    return report, damaged


def _complaint(
    content: ContentRow, committed: Mapping[int, int], codecs: Mapping[int, str], lost: Set[str], shards: Shards
) -> str | None:
    if content.first + content.rows > committed.get(content.shard, 0):
        return "its vectors lie beyond the end of their shard"
    codec = codecs.get(content.shard)
    if codec in lost:
        return "its codes cannot be read without their codec"
    try:
        stored = shards.stored(content.shard, content.first, content.rows, codec)
        regions = shards.regions(content.shard, content.first, content.rows)
    except (OSError, ValueError, GalleryDamaged) as error:
        return f"its vectors cannot be read ({error})"
    if len(stored) != content.rows or checksum(stored, regions.table) != content.crc:
        return "its vectors are not as they were written"
    if not np.array_equal(clip_xyxy(regions.boxes, (content.width, content.height)), regions.boxes):
        return "a region lies outside the image"
    return None
