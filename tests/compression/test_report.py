"""What is said of a gallery's codes, against what is there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from patchwise.compression import compress, compression_info, keep, run
from patchwise.compression.calibrate import HeldOut
from patchwise.search import Margins
from patchwise.search.margins import DEFAULT_RECALL
from patchwise.store import Codes, Store, shards
from search.coded import clustered_pictures, make_store, random_pictures

REGIONS = [3, 1, 5, 7] * 6


@pytest.fixture(autouse=True)
def few_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keep, "_QUERIES", 48)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path / "g", random_pictures(REGIONS))


def test_nothing_is_known_before(store: Store) -> None:
    assert compression_info(store) is None


@pytest.mark.parametrize(("codec", "size"), [("fastscan:8", 8), ("SQ8", 32), ("ivf:4:3", 5)])
def test_sizes_are_those_on_disk(store: Store, codec: str, size: int) -> None:
    info = compress(store, codec, "whole").info
    assert (info.codec, info.codes_only, info.bytes_per_region) == (codec, False, size)
    assert info.bytes_per_image == size * sum(REGIONS) / len(REGIONS)
    files = list((store.folder / "compressed").rglob("*.codes"))
    assert info.codes_bytes == sum(path.stat().st_size for path in files) == size * sum(REGIONS)
    numbers = 8 * sum(REGIONS) if codec.startswith("ivf") else 0  # inverted lists say which region each code is of
    assert info.memory_bytes == info.codes_bytes + numbers
    assert (info.trained_on, info.given_up, info.advice) == ("whole", {}, None)
    assert 0 < info.training_vectors <= sum(REGIONS)


def test_dead_regions_take_space_too(store: Store) -> None:
    compress(store, "SQ8")
    with store.writer() as writer:
        writer.record(forgotten=["/p/0", "/p/3"])
    info = compression_info(store)
    assert info is not None and info.codes_bytes == 32 * sum(REGIONS)
    assert info.bytes_per_image == 32 * (sum(REGIONS) - 10) / (len(REGIONS) - 2)


def test_recall_and_margin_are_those_of_the_record(store: Store) -> None:
    info = compress(store, "fastscan:4").info
    codes = Codes.open(store.folder, 32)
    assert codes is not None
    margins = Margins.from_json(codes.record.calibration["margins"])
    assert info.recall == info.recall_now == {10: codes.record.calibration["recall"]["10"]}
    assert info.margin == dict(margins.margins)[DEFAULT_RECALL] > 0


def test_codes_only_say_what_was_given_up(store: Store) -> None:
    report = compress(store, "fastscan:2", codes_only=True)
    assert (report.images, report.regions) == (len(REGIONS), sum(REGIONS))
    assert report.info.codes_only and report.info == compression_info(store)
    assert report.info.given_up.keys() == {"map", "overlap", "same_region"}
    assert all(0 < share < 1 for share in report.info.given_up.values())  # 2 bytes for 32 numbers
    assert not list(store.folder.rglob("*.f16"))


@pytest.mark.parametrize("block", [1, 20, 65_536])
def test_what_was_given_up_is_what_a_ranking_of_all_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    """With dead rows, several shards and blocks, against every picture ranked by its decoded vectors."""
    monkeypatch.setattr(run, "_BLOCK_ROWS", block)
    monkeypatch.setattr(shards, "SHARD_BYTES", 2 * 32 * 60)
    store = make_store(tmp_path / "g", clustered_pictures(REGIONS * 2))
    with store.writer() as writer:
        writer.record(forgotten=["/p/3", "/p/17"])
    asked: list[HeldOut] = []
    monkeypatch.setattr(run, "sampled_queries", lambda *some: asked.append(keep.sampled_queries(*some)) or asked[0])
    snapshot = store.snapshot()
    vectors = [snapshot.vectors(picture).astype(np.float32) for picture in range(len(snapshot))]
    info = compress(store, "fastscan:3", codes_only=True).info
    codec = store.kept_codec()
    assert codec is not None and len(store.shards.ids_on_disk()) > 2
    precisions, overlaps, same = [], [], []
    for query, own, best in zip(asked[0].vectors, asked[0].own.tolist(), asked[0].best, strict=True):
        true = best.pictures[:10].tolist()
        by_code = [codec.vectors(codec.encode(of_picture)) @ query for of_picture in vectors]
        order = sorted((each for each in range(len(vectors)) if each != own), key=lambda each: -by_code[each].max())
        places = sorted(order.index(picture) + 1 for picture in true)
        precisions.append(np.mean([number / place for number, place in enumerate(places, start=1)]))
        overlaps.append(np.mean([place <= len(true) for place in places]))
        same += [by_code[picture].argmax() == (vectors[picture] @ query).argmax() for picture in true]
    expected = {"map": np.mean(precisions), "overlap": np.mean(overlaps), "same_region": np.mean(same)}
    assert info.given_up == pytest.approx(expected, abs=2e-3)


def test_exact_codes_give_nothing_up(tmp_path: Path) -> None:
    info = compress(make_store(tmp_path / "g", random_pictures(REGIONS)), "SQfp16", codes_only=True).info
    # fp16 vectors are not quite of unit length; which of two regions nearly as good wins may hang on it.
    assert info.given_up == pytest.approx({"map": 1.0, "overlap": 1.0, "same_region": 1.0}, abs=0.03)
