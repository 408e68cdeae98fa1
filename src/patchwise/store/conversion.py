"""Codes instead of vectors: shards of fp16 become shards of codes, one after the other, for good."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from patchwise.codecs import Codec
from patchwise.errors import GalleryDamaged, GalleryMismatch
from patchwise.store.catalogue import Catalogue, ContentRow
from patchwise.store.files import force_folder, writing
from patchwise.store.shards import CODES, FP16, Shards, checksum

__all__ = ["Rows", "keep_only_codes"]

_BLOCK_ROWS = 16_384

Progress = Callable[[int, int], None]
Rows = npt.NDArray[np.uint8]


def keep_only_codes(
    catalogue: Catalogue,
    shards: Shards,
    codec: Codec,
    progress: Progress | None = None,
    made: Callable[[int], Rows | None] = lambda _shard: None,
) -> None:
    """See `Store.keep_only_codes`; the caller keeps every other writer out.

    Of each shard the codes are on disk before the catalogue names them, and that is on disk before the vectors go.
    `made` gives the codes of a shard where these were made before, all of them and by this codec.
    """
    committed, codecs = catalogue.shards(), catalogue.codecs()
    _refuse(shards, codec, set(codecs.values()))
    shards.remove_stale(committed, codecs)
    waiting = {shard: rows for shard, rows in committed.items() if shard not in codecs}
    if not waiting:
        return
    shards.codecs.keep(codec)
    columns = catalogue.columns(live_only=False)
    done, total = 0, sum(waiting.values())
    for shard, rows in waiting.items():
        of_shard = columns[columns[:, ContentRow._fields.index("shard")] == shard]
        checksums: list[tuple[int, int]] = []
        try:
            for through, found in _write_codes(shards, shard, rows, of_shard, codec, made(shard)):
                checksums += found
                if progress is not None:
                    progress(done + through, total)
        except BaseException:
            shards.remove(shard, (CODES,))  # gives the space back
            raise
        with catalogue.transaction(durable=True):
            catalogue.put_shard(shard, rows, codec.digest)
            catalogue.put_checksums(checksums)
        shards.remove(shard, (FP16,))
        done += rows


def _refuse(shards: Shards, codec: Codec, kept: set[str]) -> None:
    if codec.dimension != shards.dimension:
        raise GalleryMismatch(
            f"{shards.folder}: its vectors are {shards.dimension}-d, but the codec {codec.name} is for "
            f"{codec.dimension}-d ones; train a codec on vectors of this gallery"
        )
    for digest in kept - {codec.digest}:
        raise GalleryMismatch(
            f"{shards.folder}: only codes of {shards.codecs.load(digest).name} ({shards.codecs.path(digest).name}) are "
            f"kept here, which cannot become codes of another codec, {codec.name}: the vectors are gone. To change the "
            "codec, index the images into a new gallery"
        )


def _write_codes(
    shards: Shards, shard: int, rows: int, contents: npt.NDArray[np.int64], codec: Codec, made: Rows | None
) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Write a shard's codes file; yields, block by block, rows done so far and (content id, checksum) of pictures."""
    path = shards.path(shard, CODES)
    with writing(path), path.open("wb") as file:
        # Rows that are nobody's are left as holes: zeros.
        file.truncate(rows * codec.code_bytes)
    through = 0
    for block in _blocks(contents):
        first, end = block[0].first, block[-1].first + block[-1].rows
        if first < through or end > rows:
            raise _altered(shards, shard)
        codes, checksums = _codes(shards, shard, block, codec, made)
        with writing(path), path.open("r+b") as file:
            file.seek(first * codec.code_bytes)
            file.write(codes.tobytes())
        through = end
        yield through, checksums
    with writing(path), path.open("r+b") as file:
        os.fsync(file.fileno())
    with writing(path):
        force_folder(shards.folder)
    yield rows, []


def _blocks(contents: npt.NDArray[np.int64]) -> Iterator[list[ContentRow]]:
    """Pictures in the order of their rows, so many that these span no more than a block."""
    block: list[ContentRow] = []
    for content in map(ContentRow._make, contents.tolist()):
        if block and content.first + content.rows - block[0].first > _BLOCK_ROWS:
            yield block
            block = []
        block.append(content)
    if block:
        yield block


def _codes(
    shards: Shards, shard: int, block: list[ContentRow], codec: Codec, made: Rows | None
) -> tuple[Rows, list[tuple[int, int]]]:
    """Codes of the rows that some pictures span, and the pictures' checksums with these."""
    first = block[0].first
    rows = block[-1].first + block[-1].rows - first
    vectors, table = shards.stored(shard, first, rows), shards.regions(shard, first, rows).table
    if len(vectors) != rows or len(table) != rows:
        raise _altered(shards, shard)
    places = [(content, slice(content.first - first, content.first - first + content.rows)) for content in block]
    owned = np.zeros(rows, dtype=np.bool_)
    for content, place in places:
        # What is no longer as it was written must not get a checksum that says it is.
        if owned[place].any() or checksum(vectors[place], table[place]) != content.crc:
            raise _altered(shards, shard)
        owned[place] = True
    codes = np.zeros((rows, codec.code_bytes), dtype=np.uint8)
    if made is None:
        codes[owned] = codec.encode(vectors[owned].astype(np.float32))
    else:
        codes[owned] = made[first : first + rows][owned]
    return codes, [(content.id, checksum(codes[place], table[place])) for content, place in places]


def _altered(shards: Shards, shard: int) -> GalleryDamaged:
    return GalleryDamaged(
        f"{shards.path(shard)}: holds vectors that are not as they were written. Run: patchwise verify --repair"
    )
