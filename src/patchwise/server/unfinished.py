"""Jobs that are not done yet, on disk, so that a server that was killed goes on with them at its next start."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from patchwise.errors import StorageFull
from patchwise.server.presence import Presence
from patchwise.whole_files import force_folder, whole_file

__all__ = ["Unfinished", "UnfinishedJob"]

_JOB_ID = re.compile(r"[0-9a-f]{16}")

_log = logging.getLogger("patchwise.server")


@dataclass(frozen=True)
class UnfinishedJob:
    """What a job needs to be done once more: `names` of uploaded files, or `paths` on the server.

    `refused` is (name, reason); `created` is a time in ISO 8601.
    """

    job: str
    kind: Literal["uploads", "paths"]
    names: tuple[str, ...]
    paths: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]
    created: str

    @property
    def since(self) -> datetime:
        """When it was asked for."""
        return datetime.fromisoformat(self.created)


class Unfinished:
    """One small file for each job, in a hidden folder beside what was uploaded.

    Args:
        uploads: that folder.
        presence: this server among those that may use it.
    """

    def __init__(self, uploads: Path, presence: Presence | None = None) -> None:
        self._folder = uploads / ".jobs"
        self._presence = presence or Presence(uploads)

    def write(self, job: UnfinishedJob) -> None:
        """Remember a job as one of this server; when this returns, no crash makes it forgotten.

        Raises:
            StorageFull: the disk refused.
        """
        try:
            new = not self._folder.is_dir()
            self._folder.mkdir(parents=True, exist_ok=True)
            self._presence.begin()
            with whole_file(self._file(job.job)) as beside:
                beside.write_text(json.dumps({**asdict(job), "server": self._presence.name}), encoding="ascii")
            force_folder(self._folder)
            if new:
                force_folder(self._folder.parent)
                force_folder(self._folder.parent.parent)
        except OSError as error:
            raise StorageFull(f"{self._folder}: a job cannot be kept ({error.strerror or error})") from error

    def forget(self, job: str) -> None:
        """The job is done, or nobody wants it any more."""
        with suppress(OSError):  # done once more after the next start, which changes nothing
            self._file(job).unlink(missing_ok=True)

    def read(self) -> list[UnfinishedJob]:
        """What no other server that runs has taken on, the oldest first.

        Files that cannot be read are named in the log and left alone.
        """
        found = []
        for file in sorted(self._folder.glob("*.json")):
            try:
                plain = json.loads(file.read_text(encoding="ascii"))
                kept, server = _checked(plain), plain.get("server")
            except FileNotFoundError:  # done by another server just now
                continue
            except (OSError, ValueError, TypeError, KeyError) as error:
                _log.warning("%s: an unfinished job cannot be read (%s)", file, error)
                continue
            if kept.job == file.stem and not (isinstance(server, str) and self._presence.is_there(server)):
                found.append(kept)
        return sorted(found, key=lambda one: (one.since, one.job))

    def tidy(self) -> None:
        """Delete what a killed server left half written, unless others may be writing."""
        if not self._presence.is_alone():
            return
        for file in self._folder.glob(".*.new"):
            with suppress(OSError):
                file.unlink()

    def _file(self, job: str) -> Path:
        if not _JOB_ID.fullmatch(job):
            raise ValueError(f"{job!r} is no id of a job")
        return self._folder / f"{job}.json"


def _checked(kept: dict[str, object]) -> UnfinishedJob:
    job, kind, created = kept["job"], kept["kind"], kept["created"]
    if not isinstance(job, str) or not isinstance(created, str) or kind not in ("uploads", "paths"):
        raise ValueError("not a job")
    refused = tuple((str(name), str(reason)) for name, reason in _list(kept["refused"]))
    since = datetime.fromisoformat(created)
    if since.tzinfo is None:
        raise ValueError("a time without its zone")
    return UnfinishedJob(
        job,
        "uploads" if kind == "uploads" else "paths",
        tuple(map(str, _list(kept["names"]))),
        tuple(map(str, _list(kept["paths"]))),
        refused,
        created,
    )


def _list(value: object) -> Sequence[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{value!r}: expected a list")
    return value
