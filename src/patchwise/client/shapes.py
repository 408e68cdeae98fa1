"""What a server tells of its galleries and jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from patchwise.store import MetadataColumn, StoredImage
from patchwise.wire import path_of_text

__all__ = ["Job", "ServedGallery", "galleries_of", "gallery_of", "images_of", "job_of", "jobs_of"]


@dataclass(frozen=True)
class ServedGallery:
    """A gallery as its server describes it.

    `folders` are (path, images) with the most images first; `roots` says whether paths of the server may be added;
    `version` changes whenever images do.
    """

    name: str
    images: int
    distinct_images: int
    regions: int
    unreadable: int
    encoder: str
    dimension: int
    regions_strategy: str
    reads_text: bool
    created: str
    can_add: bool
    can_remove: bool
    roots: bool
    version: str
    folders: tuple[tuple[str, int], ...] = ()
    metadata: tuple[MetadataColumn, ...] = ()


@dataclass(frozen=True)
class Job:
    """Work of a server at one moment.

    `state` is "queued", "running", "done", "failed" or "cancelled". `failed` are (path, reason), the first 200 of
    `failures`; `refused` are (name, reason) of uploads that were not taken. `note` says why nothing moves, `error` why
    the job failed.
    """

    job: str
    gallery: str
    kind: str
    state: str
    done: int
    total: int
    added: int
    failed: tuple[tuple[str, str], ...]
    refused: tuple[tuple[str, str], ...]
    created: str
    failures: int = 0
    note: str | None = None
    error: str | None = None
    finished: str | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing changes any more."""
        return self.state in ("done", "failed", "cancelled")


def gallery_of(plain: Mapping[str, Any]) -> ServedGallery:
    """The gallery that is described so."""
    known = _known(ServedGallery, plain)
    known["folders"] = tuple((str(one["path"]), int(one["images"])) for one in plain["folders"])
    known["metadata"] = tuple(
        MetadataColumn(
            **{**_known(MetadataColumn, one), "values": tuple(one["values"]), "counts": tuple(one.get("counts", ()))}
        )
        for one in plain["metadata"]
    )
    return ServedGallery(**known)


def job_of(plain: Mapping[str, Any]) -> Job:
    """The job that is described so."""
    known = _known(Job, plain)
    known["failed"] = tuple((str(one["path"]), str(one["reason"])) for one in plain["failed"])
    known["refused"] = tuple((str(one["name"]), str(one["reason"])) for one in plain["refused"])
    return Job(**known)


def galleries_of(plain: Mapping[str, Any]) -> tuple[ServedGallery, ...]:
    """The galleries that are listed so."""
    return tuple(gallery_of(one) for one in plain["galleries"])


def jobs_of(plain: Mapping[str, Any]) -> tuple[Job, ...]:
    """The jobs that are listed so."""
    return tuple(job_of(one) for one in plain["jobs"])


def images_of(plain: Mapping[str, Any]) -> tuple[int, list[StoredImage]]:
    """How many files there are in all, and those that are listed so."""
    return int(plain["total"]), [
        StoredImage(
            path_of_text(one["path"]), str(one["image"]), (int(one["size"][0]), int(one["size"][1])), one["metadata"]
        )
        for one in plain["images"]
    ]


def _known(shape: type, plain: Mapping[str, Any]) -> dict[str, Any]:
    """What the shape has room for: a newer server may say more."""
    names = {field.name for field in fields(shape)}
    return {name: value for name, value in plain.items() if name in names}
