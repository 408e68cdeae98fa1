"""Joining the rows of a file of metadata to the images of a gallery."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from patchwise.metadata.files import MetadataFile, MetadataRow
from patchwise.store import MetadataValue, Writer

__all__ = ["MetadataReport", "join_metadata"]

_NAMED = 5


@dataclass
class MetadataReport:
    """What was joined: `images` of the `rows` in `file` name an image, `unknown` rows none, such as `unknown_names`.

    `repeated` rows name an image that a row before named as well: the last one counts.
    """

    file: str
    columns: tuple[str, ...] = ()
    rows: int = 0
    images: int = 0
    unknown: int = 0
    repeated: int = 0
    unknown_names: list[str] = field(default_factory=list)


def join_metadata(writer: Writer, file: MetadataFile, folders: Sequence[str]) -> MetadataReport:
    r"""Replace what is known of each image that a row names by what the row says; all rows or none.

    A name is that of an image if it is its absolute path, or its path below one of the folders, below the folder that
    the file lies in, or below the folder that all images of the gallery lie in: the first of these that there is. What
    leads nowhere as it is written is tried in the other forms of Unicode, and with / for each \. An image that cannot
    be read at present keeps what is said of it until it can.

    Raises:
        UsageError: a row cannot be read, or there are more columns than a gallery takes.
        StorageFull: the disk refused; nothing was changed.
    """
    report = MetadataReport(str(file.path), file.columns)
    beside = os.path.dirname(os.path.abspath(file.path))
    places = list(dict.fromkeys([*map(os.path.abspath, folders), beside, *writer.catalogue.common_folder()]))
    read = list(file.rows())  # not while the catalogue is held, which searches wait for
    named: set[str] = set()

    def joined() -> Iterator[tuple[str, Sequence[MetadataValue | None]]]:
        for row in read:
            report.rows += 1
            path = _image(writer, row, places)
            if path is None:
                report.unknown += 1
                if len(report.unknown_names) < _NAMED:
                    report.unknown_names.append(row.name)
                continue
            report.repeated += path in named
            named.add(path)
            yield path, row.values

    writer.describe(file.columns, joined())
    report.images = len(named)
    return report


def _image(writer: Writer, row: MetadataRow, places: Sequence[str]) -> str | None:
    for name in _spellings(row.name):
        for place in places:
            path = os.path.normpath(os.path.join(place, name))
            if writer.catalogue.is_known(path):
                return path
            if os.path.isabs(name):
                break
    return None


def _spellings(name: str) -> Iterable[str]:
    """How an image may be called: as it is written, then as other systems write it."""
    written = dict.fromkeys([name, name.strip()])
    slashed = dict.fromkeys(spelling.replace("\\", "/") for spelling in written) if "\\" in name else {}
    tried = dict.fromkeys([*written, *slashed])
    if not name.isascii():
        for form in ("NFC", "NFD"):
            tried |= dict.fromkeys(unicodedata.normalize(form, spelling) for spelling in [*written, *slashed])
    return filter(None, tried)
