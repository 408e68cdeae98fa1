"""What is lost of codes is made again by whoever may, and what cannot be made again is kept with the truth."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import FakeEncoder, make_picture
from patchwise import Gallery
from patchwise.compression import compress_again, keep_up, run
from patchwise.errors import GalleryMismatch
from patchwise.search import CompressedSearcher
from patchwise.store import Codes, Store
from patchwise.store import shards as shards_module


def reopened(gallery: Gallery) -> Gallery:
    return Gallery.open(gallery.path, encoder=FakeEncoder())


def generations(gallery: Gallery) -> list[str]:
    return sorted(entry.name for entry in (gallery.path / "compressed").iterdir() if entry.is_dir())


# Codes only


@pytest.mark.parametrize(
    ("codec", "again"), [("ivf:8", "ivf:8"), ("ivf:8:1", "ivf:8"), ("pq:08", "pq:8"), ("SQ8", " SQ8"), ("auto", "auto")]
)
def test_the_same_codec_may_be_asked_for_again(gallery: Gallery, codec: str, again: str) -> None:
    first = gallery.compress(codec, codes_only=True).info
    assert gallery.compress(again, codes_only=True).info == first
    for other in ("fastscan:5", "ivf:8:7", "PQ4"):
        with pytest.raises(GalleryMismatch, match="keeps only codes of"):
            gallery.compress(other)


def test_what_was_given_up_outlives_what_is_derived(gallery: Gallery, pictures: Path) -> None:
    info = gallery.compress("fastscan:4", "whole", codes_only=True).info
    assert info.given_up.keys() == {"map", "overlap", "same_region"} and info.training_vectors > 0
    shutil.rmtree(gallery.path / "compressed")
    with reopened(gallery) as again:
        lost = again.compression()
        assert lost is not None and (lost.recall, lost.margin) == ({}, 0.0)
        assert (lost.given_up, lost.training_vectors, lost.trained_on) == (
            info.given_up,
            info.training_vectors,
            "whole",
        )
        assert again.search(pictures / "03.png", k=2) == again.search(pictures / "03.png", k=2, exact=True)
        assert again.compression() == info
        assert again.compress("auto", "random", codes_only=True).info == info
        assert again.compress("fastscan:4").info == info


@pytest.mark.parametrize("asked", [{}, {"codec": "pq:8"}, {"codec": "nonsense:1", "train": "whole"}])
def test_kept_codes_are_searched_again_whatever_was_asked(gallery: Gallery, asked: dict[str, str]) -> None:
    gallery.compress("ivf:8", codes_only=True)
    shutil.rmtree(gallery.path / "compressed")
    with Store(gallery.path) as store:
        with store.writer():
            store.remember_compression(asked)
        assert compress_again(store).info.codec.startswith("ivf:8:")
        assert store.compression_wanted()["codec"].startswith("ivf:8:")


@pytest.mark.parametrize("kept", [None, 5, {}, {"digest": 1}, {"digest": "the codec's"}])
def test_facts_that_cannot_be_read_are_none(gallery: Gallery, kept: object) -> None:
    gallery.compress("fastscan:4", codes_only=True)
    with Store(gallery.path) as store, store.writer():
        codec = store.kept_codec()
        assert codec is not None
        if isinstance(kept, dict) and "digest" in kept:
            kept = {"digest": codec.digest, "set": "random", "vectors": "many", "given_up": {}}
        store.remember_compression({"codec": "auto", "train": "random", "kept": kept})
    info = gallery.compression()
    assert info is not None and (info.given_up, info.training_vectors) == ({}, 0)


def test_vectors_beside_codes_give_nothing_up(gallery: Gallery) -> None:
    assert gallery.compress("fastscan:4").info.given_up == {}


# Lost files of codes


@pytest.fixture
def many_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_module, "SHARD_BYTES", 2 * 48 * 12)  # full after two pictures


DAMAGE = {
    "lost": lambda path: path.unlink(),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "altered": lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]),
}


@pytest.mark.usefixtures("many_shards")
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_codes_are_written_again_by_the_first_search(
    gallery: Gallery, pictures: Path, damage: str, tmp_path: Path
) -> None:
    for seed in range(6, 12):
        make_picture(seed, (32, 24)).save(pictures / f"{seed:02d}.png")
    gallery.add(pictures)
    gallery.compress("fastscan:8")
    files = sorted((gallery.path / "compressed" / "0001").glob("*.codes"))
    written = [path.read_bytes() for path in files]
    assert len(files) > 3
    for path in files[1:4]:
        DAMAGE[damage](path)
    with Store(gallery.path) as other, other.writer(), reopened(gallery) as busy:  # codes are made in memory
        assert isinstance(busy.current()[1], CompressedSearcher)
        hits = busy.search(pictures / "07.png", k=3)
        assert hits == busy.search(pictures / "07.png", k=3, exact=True)
    assert [path.read_bytes() if path.exists() else b"" for path in files] != written
    with reopened(gallery) as again:
        assert again.search(pictures / "07.png", k=3) == hits
        assert [path.read_bytes() for path in files] == written
        codes = Codes.open(gallery.path, 12)
        assert codes is None or all(codes.read(shard) is not None for shard in codes.record.shards)


# What an interrupted compression leaves


def test_generations_not_in_use_are_deleted_by_the_next_writer(gallery: Gallery, pictures: Path) -> None:
    gallery.compress("fastscan:8")
    root = gallery.path / "compressed"
    shutil.copytree(root / "0001", root / "0007")
    (root / ".current.json-1.new").write_text("{")
    (root / "0001" / ".index.json-1.new").write_text("{")
    (root / "notes").mkdir()  # nobody's of ours
    gallery.search(pictures / "01.png")
    assert generations(gallery) == ["0001", "0007", "notes"]
    gallery.add(pictures)
    assert generations(gallery) == ["0001", "notes"]
    assert not list(root.rglob("*.new"))


def test_an_interrupted_first_compression_leaves_nothing_after_the_next_writer(gallery: Gallery) -> None:
    with Store(gallery.path) as store:
        snapshot = store.snapshot()
        codec = run.train_codec("fastscan:8", snapshot.gather(run.np.arange(snapshot.rows)).astype("f4"))
        Codes.begin(store.folder, codec, {})
        assert generations(gallery) == ["0001"]
        with store.writer():
            assert not keep_up(store)
        assert generations(gallery) == []


@pytest.mark.parametrize("stage", ["encoding", "measuring"])
def test_a_compression_that_fails_gives_its_space_back(gallery: Gallery, stage: str) -> None:
    def progress(what: str, done: int, total: int) -> None:
        if what == stage:
            raise KeyboardInterrupt

    before = gallery.compress("fastscan:8").info
    with pytest.raises(KeyboardInterrupt):
        gallery.compress("fastscan:4", progress=progress)
    assert generations(gallery) == ["0001"]
    assert gallery.compression() == replace(before)
