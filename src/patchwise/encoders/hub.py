"""Checkpoints from the Hugging Face hub, kept in its own cache, pinned to one commit."""

from __future__ import annotations

import errno
import importlib
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from patchwise.encoders.references import local_folder, split_revision
from patchwise.encoders.spec import EncoderSpec
from patchwise.encoders.vision_packages import OTHER_FORMATS, in_one_line
from patchwise.errors import EncoderError, MissingExtra

__all__ = ["Checkpoint", "checkpoint", "is_cached"]

_CONFIGURATION = ("*.json", "*.txt", "*.model")
_WEIGHTS = ("*.safetensors", "*.onnx", "onnx/*.onnx")
_SHARDS = ".safetensors.index.json"
_MAIN = "main"
_PATIENCE_SECONDS = 4  # with a hub that does not answer; a download that runs may take as long as it needs


@dataclass(frozen=True)
class Checkpoint:
    """A folder with the files of a model, and the name of the encoder pinned to what is in it."""

    folder: Path
    spec: EncoderSpec


def checkpoint(
    spec: EncoderSpec,
    repository: str | None = None,
    weights: Sequence[str] = ("*.safetensors",),
    needed: Sequence[str] = (),
) -> Checkpoint:
    """The files of a checkpoint: a local folder as it is, or a repository of the hub, downloaded unless it is cached.

    What is in the cache of the hub is taken without asking the hub: the commit that the reference names or, without
    one, the commit that the cache knows as the latest. The hub is asked for that same commit where the weights are
    there, and other files that are needed are not.

    Args:
        spec: what to load; a revision after "@" pins it.
        repository: name on the hub, where the reference itself is not that name.
        weights: patterns of the weight files, relative to the repository; of no others a byte is downloaded.
        needed: patterns of other files without which a copy is not whole; "|" is between those of which one will do.

    Returns:
        The folder, and `spec` pinned to the commit that was found.

    Raises:
        EncoderError: not there and not to be had; the message names the ways out.
        MissingExtra: huggingface_hub is not installed.
    """
    folder = local_folder(spec.reference) if repository is None else None
    if folder is not None:
        if not folder.is_dir():
            raise EncoderError(f"{folder}: no such folder with a checkpoint")
        return Checkpoint(folder, spec)
    name, revision = split_revision(spec.reference)
    repository = repository or name
    found = _cached(repository, revision, weights)
    lacking = _lacking(found, needed) if found is not None else []
    if found is None or lacking:
        found = _downloaded(spec, repository, found.name if found is not None else revision, weights, lacking)
        if not _holds_weights(found, weights):
            missing = " or ".join(weights)
            raise EncoderError(f"encoder {spec}: {repository} has no {missing} at {found.name}; {OTHER_FORMATS}")
        for files in _lacking(found, needed):
            raise EncoderError(f"encoder {spec}: {repository} has no {files} at {found.name}")
    # The hub names the folder of a snapshot after its commit.
    return Checkpoint(found, spec.with_reference(f"{name}@{found.name}"))


def is_cached(repository: str) -> bool:
    """Whether all weights of a repository of the hub, perhaps with "@" and a revision, are on this machine."""
    name, revision = split_revision(repository)
    return _cached(name, revision, _WEIGHTS) is not None


def _cached(repository: str, revision: str | None, weights: Sequence[str]) -> Path | None:
    """The folder of a snapshot in the hub's cache, if all weights are in it; nothing but the disk is asked."""
    try:
        from huggingface_hub.constants import HF_HUB_CACHE
    except ImportError:
        return None
    if ".." in PurePosixPath(repository).parts or ".." in PurePosixPath(revision or _MAIN).parts:
        return None
    place = Path(HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    reference = place / "refs" / (revision or _MAIN)
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    if not commit:
        return None
    folder = place / "snapshots" / commit
    return folder if folder.is_dir() and _holds_weights(folder, weights) else None


def _lacking(folder: Path, needed: Sequence[str]) -> list[str]:
    """Which of the files that are needed are not there, in words."""
    return [
        files.replace("|", " or ")
        for files in needed
        if not any(file.is_file() for pattern in files.split("|") for file in folder.glob(pattern))
    ]


def _holds_weights(folder: Path, patterns: Sequence[str]) -> bool:
    """Whether files match, none of them empty or a link to nothing, and no shard of them is missing."""
    if not patterns:
        return any(folder.iterdir())
    names = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file() or file.is_symlink()]
    found = {name for name in names if any(_matches(name, pattern) for pattern in patterns)}
    if not found or not all((folder / name).is_file() and (folder / name).stat().st_size for name in found):
        return False
    for index in folder.glob(f"*{_SHARDS}"):
        whole = index.name.removesuffix(".index.json")
        if whole not in found and any(_matches(whole, pattern) for pattern in patterns):
            try:
                shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            except (OSError, ValueError, KeyError, AttributeError):
                return False
            if not shards <= found:
                return False
    return True


def _matches(name: str, pattern: str) -> bool:
    """Like the hub's own patterns, but without a folder in the pattern only the top folder is meant."""
    return fnmatch(name, pattern) and ("/" in pattern or "/" not in name)


def _downloaded(
    spec: EncoderSpec, repository: str, revision: str | None, weights: Sequence[str], lacking: Sequence[str]
) -> Path:
    """The folder of a snapshot, fetched from the hub; `lacking` is what is not here, where that is not the weights."""
    try:
        from huggingface_hub import HfApi, constants, snapshot_download
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            HFValidationError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        utils: Any = importlib.import_module("huggingface_hub.utils")
        # Which package talks to the hub depends on the hub's version.
        http: Any = getattr(utils, "httpx", None) or importlib.import_module("httpx")
    except ImportError as error:
        raise MissingExtra(f"encoder {spec}", "hub") from error
    missing = f"its {' and its '.join(lacking)} cannot be found" if lacking else "its weights are not"
    whose = f"encoder {spec}: {missing} on this machine, and"
    in_folders = [pattern for pattern in weights if "/" in pattern]
    try:
        with _quiet_hub(utils):
            # Asked first because a download waits for its first answer without any limit, and takes a part for the
            # whole where there is no network.
            HfApi().model_info(repository, revision=revision, timeout=_PATIENCE_SECONDS)
            return Path(
                snapshot_download(
                    repository,
                    revision=revision,
                    allow_patterns=[*_CONFIGURATION, *weights],
                    ignore_patterns=None if in_folders else ["*/*"],
                )
            )
    except HFValidationError as error:
        raise EncoderError(
            f"encoder {spec}: {repository!r} is neither a folder here nor a name on the hub, which is OWNER/NAME"
        ) from error
    except GatedRepoError as error:
        raise EncoderError(
            f"{whose} its owner asks you to accept a licence first. Open {constants.ENDPOINT}/{repository}, "
            "accept it, then run: hf auth login"
        ) from error
    except RevisionNotFoundError as error:
        raise EncoderError(f"{whose} {repository} has no revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        raise EncoderError(
            f"{whose} the hub knows no {repository!r}, or keeps it private (then: hf auth login)"
        ) from error
    except (HfHubHTTPError, http.HTTPError, OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise EncoderError(
                f"encoder {spec}: the disk is full; make room in {constants.HF_HUB_CACHE}, or name a folder on another "
                "disk: HF_HOME=FOLDER"
            ) from error
        if isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno == errno.EROFS):
            raise EncoderError(
                f"encoder {spec}: {constants.HF_HUB_CACHE} cannot be written; name another folder: HF_HOME=FOLDER"
            ) from error
        pinned = f" --revision {revision}" if revision else ""
        reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else in_one_line(error)
        raise EncoderError(
            f"{whose} the hub cannot be reached ({reason}). Three ways out: on a machine with a network run "
            f"`hf download {repository}{pinned}` and copy its cache folder (HF_HOME) here; or name a folder "
            f"that holds the checkpoint ({split_revision(spec.reference)[0]!r} is none here): --encoder "
            f"{spec.family}:FOLDER; or use the encoder that needs no download: "
            "--encoder builtin"
        ) from error


@contextmanager
def _quiet_hub(utils: Any) -> Iterator[None]:
    """No remarks of the hub about tokens and rates, and its progress bars only where a person watches."""
    logger = logging.getLogger("huggingface_hub")
    level, hide_bars = logger.level, not sys.stderr.isatty() and not utils.are_progress_bars_disabled()
    logger.setLevel(logging.ERROR)
    if hide_bars:
        utils.disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        if hide_bars:
            utils.enable_progress_bars()
