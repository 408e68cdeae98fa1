"""Compressing a gallery: what is learned, from what, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from patchwise.codecs import choose_codec, train_codec
from patchwise.compression import compress, compression_info, keep, run
from patchwise.errors import StorageFull, UsageError
from patchwise.search import compressed
from patchwise.store import Manifest
from search.coded import clustered_pictures, live_vectors, make_store, opened_codes, random_pictures


@pytest.fixture(autouse=True)
def quick_and_without_shortcut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "_SCANNED_PER_SCORED", 10**9)
    monkeypatch.setattr(compressed, "_LEAST_REGIONS", 1)
    monkeypatch.setattr(keep, "_QUERIES", 48)


def test_a_gallery_is_compressed(tmp_path: Path) -> None:
    store = make_store(tmp_path / "g", clustered_pictures([3, 5] * 100))
    told: list[tuple[str, int, int]] = []
    report = compress(store, "fastscan:8", progress=lambda *what: told.append(what))
    assert (report.images, report.regions) == (200, 800)
    assert report.notes == ()
    assert min(report.training_seconds, report.encoding_seconds, report.measuring_seconds) > 0
    assert report.info == compression_info(store)
    assert report.info.recall.keys() == {10, 100} and min(report.info.recall.values()) > 0.95
    stages = list(dict.fromkeys(what for what, _, _ in told))
    assert stages == ["training", "encoding", "measuring"]
    for stage in stages:
        done = [done for what, done, _ in told if what == stage]
        assert done == sorted(done) and (stage, done[-1], done[-1]) in told
    codes = opened_codes(store)
    expected = codes.codec.encode(live_vectors(store.snapshot()))
    written = [codes.read(shard) for shard in store.snapshot().shards]
    np.testing.assert_array_equal(np.concatenate([part for part in written if part is not None]), expected)
    assert store.compression_wanted() == {"codec": "fastscan:8", "train": "random"}


def test_compressing_again_gives_the_same_codes(tmp_path: Path) -> None:
    """But for the names of generations, nothing is left to chance."""
    store = make_store(tmp_path / "g", clustered_pictures([4] * 60))
    first = compress(store, "fastscan:4")
    codes = opened_codes(store)
    kept = [np.array(codes.read(shard)) for shard in codes.record.shards]
    again = compress(store, "fastscan:4")
    assert again.info == first.info
    for before, shard in zip(kept, opened_codes(store).record.shards, strict=True):
        np.testing.assert_array_equal(opened_codes(store).read(shard), before)
    assert opened_codes(store).record.calibration == codes.record.calibration


def test_queries_are_of_pictures_that_nothing_was_learned_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(tmp_path / "g", random_pictures([4] * 50))
    learned: list[np.ndarray] = []
    asked: list[np.ndarray] = []
    sample = run.sampled_queries

    def train(name: str, vectors: np.ndarray, *, seed: int = 0) -> object:
        learned.append(vectors)
        return train_codec(name, vectors, seed=seed)

    def sampled(*arguments: object) -> object:
        queries = sample(*arguments)  # type: ignore[arg-type]
        asked.append(queries.vectors)
        return queries

    monkeypatch.setattr(run, "train_codec", train)
    monkeypatch.setattr(run, "sampled_queries", sampled)
    report = compress(store, "fastscan:4")
    assert len(learned[0]) == report.info.training_vectors <= 45 * 4  # a tenth of the pictures are kept apart
    rows = {vector.tobytes() for vector in learned[0].astype(np.float32)}
    assert rows and not rows & {vector.tobytes() for vector in asked[0].astype(np.float32)}


ODD: dict[str, Callable[[], list[np.ndarray]]] = {
    "two pictures": lambda: random_pictures([3, 1]),
    "two regions": lambda: random_pictures([1, 1]),
    "copies": lambda: random_pictures([3]) * 12,
    "one theme": lambda: clustered_pictures([3] * 30, themes=1, spread=0.1),
}


@pytest.mark.parametrize("codec", ["auto", "opq:4", "ivf:4", "SQ8"])
@pytest.mark.parametrize("gallery", ODD)
def test_odd_galleries_are_compressed_in_silence(
    tmp_path: Path, gallery: str, codec: str, capfd: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tmp_path / "g", ODD[gallery]())
    report = compress(store, codec)
    assert report.images == len(store.snapshot()) and report.regions == store.snapshot().rows
    assert all(0 <= recall <= 1 for recall in report.info.recall.values())
    assert capfd.readouterr() == ("", "")


def test_auto_is_what_suits_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(tmp_path / "g", random_pictures([4] * 10))
    for memory in (2**33, 8 * 4 * 40, 8):
        monkeypatch.setattr(run, "memory", lambda memory=memory: memory)
        report = compress(store)
        assert report.info.codec == choose_codec(32, 40, memory)
        assert store.compression_wanted()["codec"] == "auto"
    assert report.info.codec == "fastscan:2"
    monkeypatch.setattr(run, "memory", lambda: 2**33)
    assert compress(store, codes_only=True).info.codec == choose_codec(32, 40, 2**33, alone=True) == "fastscan:8"


@pytest.mark.parametrize("pictures", [0, 1])
def test_too_few_pictures(tmp_path: Path, pictures: int) -> None:
    store = make_store(tmp_path / "g", random_pictures([3, 3]))
    with store.writer() as writer:
        writer.record(forgotten=[f"/p/{number}" for number in range(pictures, 2)])
    with pytest.raises(UsageError, match=f"holds {pictures} images; index some before"):
        compress(store)
    assert compression_info(store) is None


@pytest.mark.parametrize(
    ("codec", "train", "reason"),
    [
        ("zip:8", "random", "codec 'zip:8'"),
        ("fastscan:17", "random", "at most fastscan:16"),
        ("bogus", "random", "could not parse"),
        ("auto", "everything", "everything"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(tmp_path: Path, codec: str, train: str, reason: str) -> None:
    store = make_store(tmp_path / "g", random_pictures([3] * 10))
    before = compress(store, "SQ8").info
    with pytest.raises(UsageError, match=reason):
        compress(store, codec, train)
    assert compression_info(store) == before
    assert store.compression_wanted()["codec"] == "SQ8"


def test_what_another_process_wrote_into_the_manifest_stays(tmp_path: Path) -> None:
    store = make_store(tmp_path / "g", random_pictures([3] * 6))
    other = replace(store.manifest, whitening="learned meanwhile")
    other.write(store.folder)
    compress(store, "fastscan:4")
    assert Manifest.read(store.folder).whitening == "learned meanwhile"
    assert Manifest.read(store.folder).compression["codec"] == "fastscan:4"


def test_a_disk_that_refuses_the_manifest_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(tmp_path / "g", random_pictures([3] * 6))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Manifest, "write", full)
    with pytest.raises(StorageFull, match="No space left"):
        compress(store, "fastscan:4")
