"""What compression did, and what is known of it later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from patchwise.codecs import Codec
from patchwise.compression.calibrate import DEFAULT_RECALL
from patchwise.compression.found import found_codes
from patchwise.store import Store

__all__ = ["NO_CODES", "CompressionInfo", "CompressionReport", "compression_info", "kept_training"]


_ID_BYTES = 8  # of a region in an inverted list


@dataclass(frozen=True)
class CompressionInfo:
    """The codes of a gallery, and what was measured with them.

    Args:
        codec: name of the codec.
        codes_only: whether the vectors themselves are gone.
        bytes_per_region: of one code.
        bytes_per_image: of the codes of an image, on average.
        codes_bytes: on disk, beside the vectors or instead of them.
        memory_bytes: held by a search for codes.
        trained_on: the training set, and how many vectors of it there were.
        training_vectors: how many vectors codebooks were learned from.
        recall: share of the exact top k found again by queries held out from training, for each k, when the codes were
            made and after the last larger addition.
        recall_now: the same as they are now searched; more than `recall` where margins were widened since.
        margin: how far below the k-th best score the search of codes looks, at the default recall.
        given_up: codes only: measured before the vectors went, with the same queries: `map` is the mean average
            precision with which codes rank the exact top 10, `overlap` the share of it among theirs, `same_region` how
            often the winning region is the same.
        advice: what had better be done, if anything.
    """

    codec: str
    codes_only: bool
    bytes_per_region: int
    bytes_per_image: float
    codes_bytes: int
    memory_bytes: int
    trained_on: str
    training_vectors: int
    recall: dict[int, float]
    recall_now: dict[int, float]
    margin: float
    given_up: dict[str, float]
    advice: str | None


NO_CODES = CompressionInfo("none", False, 0, 0.0, 0, 0, "", 0, {}, {}, 0.0, {}, None)


@dataclass(frozen=True)
class CompressionReport:
    """What a compression made, and how long that took; `notes` are sentences for the person."""

    info: CompressionInfo
    images: int
    regions: int
    training_seconds: float
    encoding_seconds: float
    measuring_seconds: float
    notes: tuple[str, ...] = ()


def compression_info(store: Store) -> CompressionInfo | None:
    """What is known of a gallery's codes; None where it has none."""
    found, kept = found_codes(store), store.kept_codec()
    codec: Codec | None = kept or (found.codes.codec if found is not None else None)
    if codec is None:
        return None
    training = dict(found.codes.record.training) if found is not None else {}
    if kept is not None:
        training = kept_training(store, kept)
    counts = store.catalogue.counts()
    regions = counts["regions"] + counts["dead_regions"]
    return CompressionInfo(
        codec=codec.name,
        codes_only=kept is not None,
        bytes_per_region=codec.code_bytes,
        bytes_per_image=codec.code_bytes * counts["regions"] / max(counts["images"], 1),
        codes_bytes=codec.code_bytes * regions,
        memory_bytes=(codec.code_bytes + (_ID_BYTES if codec.lists else 0)) * regions,
        trained_on=str(training.get("set", "")),
        training_vectors=training.get("vectors", 0),
        recall=found.recall if found is not None else {},
        recall_now=found.recall_now if found is not None else {},
        margin=dict(found.margins.margins).get(DEFAULT_RECALL, 0.0) if found is not None else 0.0,
        given_up=training.get("given_up", {}),
        advice=found.advice if found is not None else None,
    )


def kept_training(store: Store, codec: Codec) -> dict[str, Any]:
    """How the codec was learned whose codes are all that is kept, and what that gave up; empty where nobody knows."""
    try:
        known = store.compression_wanted()["kept"]
        if known["digest"] != codec.digest:
            return {}
        given_up = {str(name): float(value) for name, value in known["given_up"].items()}
        return {"set": str(known["set"]), "vectors": int(known["vectors"]), "given_up": given_up}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
