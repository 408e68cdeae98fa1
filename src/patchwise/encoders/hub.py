"""Checkpoints from the Hugging Face hub, kept in its own cache, pinned to one commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from patchwise.encoders.references import local_folder, split_revision
from patchwise.encoders.spec import EncoderSpec
from patchwise.errors import EncoderError, MissingExtra

__all__ = ["Checkpoint", "checkpoint", "is_cached"]

_CONFIGURATION = ("*.json", "*.txt", "*.model")
_WEIGHTS = (".safetensors", ".onnx")


@dataclass(frozen=True)
class Checkpoint:
    """A folder with the files of a model, and the name of the encoder pinned to what is in it."""

    folder: Path
    spec: EncoderSpec

    @property
    def weights(self) -> list[Path]:
        """Its safetensors files, in order.

        Raises:
            EncoderError: there is none.
        """
        found = sorted(self.folder.glob("*.safetensors"))
        if not found:
            raise EncoderError(
                f"{self.folder}: no *.safetensors file there; other formats can run code when they are read, so they "
                "are refused. Convert the weights, or name another checkpoint"
            )
        return found


def checkpoint(
    spec: EncoderSpec, repository: str | None = None, weights: Sequence[str] = ("*.safetensors",)
) -> Checkpoint:
    """The files of a checkpoint: a local folder as it is, or a repository of the hub, downloaded unless it is cached.

    Args:
        spec: what to load; a revision after "@" pins it.
        repository: name on the hub, where the reference itself is not that name.
        weights: patterns of the weight files.

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
    found = _snapshot(spec, repository or name, revision, [*_CONFIGURATION, *weights])
    # The hub names the folder of a snapshot after its commit.
    return Checkpoint(found, spec.with_reference(f"{name}@{found.name}"))


def is_cached(repository: str) -> bool:
    """Whether weights of a repository of the hub are on this machine."""
    try:
        from huggingface_hub import scan_cache_dir
        from huggingface_hub.errors import CacheNotFound
    except ImportError:
        return False
    try:
        cached = scan_cache_dir()
    except CacheNotFound:
        return False
    return any(
        repo.repo_id == repository
        and any(file.file_name.endswith((".safetensors", ".onnx")) for file in revision.files)
        for repo in cached.repos
        for revision in repo.revisions
    )


def _snapshot(spec: EncoderSpec, repository: str, revision: str | None, patterns: list[str]) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError as error:
        raise MissingExtra(f"encoder {spec}", "torch") from error
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except HFValidationError as error:
        raise EncoderError(
            f"encoder {spec}: {repository!r} is neither a folder here nor a name on the hub, which is OWNER/NAME"
        ) from error
    except GatedRepoError as error:
        raise EncoderError(
            f"encoder {spec}: its owner asks you to accept a licence first. Open the page of {repository} on the hub, "
            "accept it, then run: hf auth login"
        ) from error
    except RevisionNotFoundError as error:
        raise EncoderError(f"encoder {spec}: {repository} has no revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        raise EncoderError(
            f"encoder {spec}: the hub knows no {repository!r}, or keeps it private (then: hf auth login)"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        pinned = f" --revision {revision}" if revision else ""
        raise EncoderError(
            f"encoder {spec}: its weights are not on this machine, and the hub cannot be reached. Three ways out: "
            f"on a machine with a network run `hf download {repository}{pinned}` and copy its cache folder (HF_HOME) "
            f"here; or name a folder that holds the checkpoint: --encoder {spec.family}:FOLDER; or use the encoder "
            "that needs no download: --encoder builtin"
        ) from error
