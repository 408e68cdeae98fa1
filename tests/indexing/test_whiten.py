"""Whitening learned from a gallery's own pictures: learned once, kept, and never half-known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from patchwise import Gallery
from patchwise.encoders import Whitening, WhiteningPrior, registry
from patchwise.encoders.whitening_prior import Layer
from patchwise.errors import EncoderError, GalleryDamaged, GalleryMismatch, PatchwiseError, UsageError
from patchwise.images import cut_regions, read_picture
from patchwise.indexing import learn_whitening, walk
from patchwise.indexing import whiten as module
from patchwise.regions import Pyramid, View
from patchwise.store import Manifest

DIMENSION = 8
Picture = Callable[..., Image.Image]


@pytest.fixture(autouse=True)
def registered(fake_encoder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake encoder by its id, and a whitening small enough for six pictures."""
    monkeypatch.setattr(registry, "_plugged_in", lambda: {"fake": SimpleNamespace(load=lambda: lambda _: fake_encoder)})
    monkeypatch.setattr("patchwise.gallery_settings._WHITENED_DIMENSION", DIMENSION)


def create(path: Path) -> Gallery:
    return Gallery.create(path, encoder="fake", regions="pyramid:1", whitening="gallery")


def stored(gallery: Gallery) -> dict[str, bytes]:
    snapshot = gallery._store.snapshot()
    return {path: snapshot.vectors(index).tobytes() for path, index in snapshot.paths(range(len(snapshot)))}


def test_it_is_learned_from_the_first_pictures_and_kept(tmp_path: Path, picture_folder: Path, picture: Picture) -> None:
    with create(tmp_path / "g") as gallery:
        before = Manifest.read(tmp_path / "g")
        assert before.encoder["weights_sha256"] == "not learned yet" and before.dimension == DIMENSION
        with pytest.raises(EncoderError, match="not learned yet; index some pictures first"):
            gallery.search(picture(0))
        gallery.add(picture_folder)
        hits = gallery.search(picture(3))
        assert gallery.encoder.dimension == DIMENSION
        vectors = stored(gallery)
    manifest = Manifest.read(tmp_path / "g")
    assert manifest.encoder["weights_sha256"] != "not learned yet"
    assert manifest.whitening == "gallery" and manifest.created == before.created
    with Gallery.open(tmp_path / "g") as again:
        assert again.encoder.weights_sha256 == manifest.encoder["weights_sha256"]
        assert again.search(picture(3)) == hits
        assert hits[0].path.endswith("03.png") and hits[0].score > 0.99
        assert again.verify().problems == []

        learned = (tmp_path / "g" / "whitening.npz").read_bytes()
        picture(20).save(picture_folder / "later.png")
        again.add(picture_folder)
        assert (tmp_path / "g" / "whitening.npz").read_bytes() == learned
        assert {path: held for path, held in stored(again).items() if not path.endswith("later.png")} == vectors
        assert again.search(picture(20))[0].path.endswith("later.png")


def test_what_is_learned_depends_on_the_pictures_alone(tmp_path: Path, picture_folder: Path) -> None:
    digests = set()
    for name in ("one", "two"):
        with create(tmp_path / name) as gallery:
            gallery.add(picture_folder)
            digests.add(gallery.encoder.weights_sha256)
    assert len(digests) == 1


def test_it_decorrelates_the_regions(fake_encoder: Any, picture_folder: Path) -> None:
    found = walk([picture_folder])
    whitening = learn_whitening(fake_encoder, None, Pyramid(1), found, DIMENSION)
    assert whitening.projection.shape == (48, DIMENSION)


def test_too_few_pictures_are_refused_and_the_gallery_stays_usable(tmp_path: Path, picture_folder: Path) -> None:
    with create(tmp_path / "g") as gallery:
        manifest = (tmp_path / "g" / "manifest.json").read_bytes()
        for _ in range(2):
            with pytest.raises(EncoderError, match=r"more than 8 regions, got 5; index more pictures") as raised:
                gallery.add(picture_folder / "00.png")
            assert "shipped" in str(raised.value)
        assert len(gallery) == 0
        assert (tmp_path / "g" / "manifest.json").read_bytes() == manifest
        assert not (tmp_path / "g" / "whitening.npz").exists()
        assert gallery.verify().problems == []
        assert gallery.add(picture_folder).added == 6
        assert gallery.verify().problems == []


def test_unreadable_pictures_teach_nothing(tmp_path: Path, picture_folder: Path) -> None:
    for number in range(3):
        (picture_folder / f"0 bad {number}.png").write_bytes(b"no image")
    with create(tmp_path / "g") as gallery:
        report = gallery.add(picture_folder)
        assert (report.added, len(report.failed)) == (6, 3)
    only_bad = tmp_path / "bad"
    only_bad.mkdir()
    (only_bad / "bad.png").write_bytes(b"no image")
    with create(tmp_path / "g2") as gallery, pytest.raises(EncoderError, match=r"none of the 1 looked at can be read"):
        gallery.add(only_bad)


def test_a_folder_without_pictures_learns_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with create(tmp_path / "g") as gallery:
        assert gallery.add(tmp_path / "empty").added == 0
        assert not (tmp_path / "g" / "whitening.npz").exists()


class Killed(BaseException):
    """Stands for the process being killed."""


@pytest.mark.parametrize("moment", ["saving", "manifest", "manifest written", "last"])
def test_killed_while_it_is_adopted(
    tmp_path: Path, picture_folder: Path, picture: Picture, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Whitening and manifest are two files: between their two writes the gallery must still be usable."""
    with create(tmp_path / "g") as gallery, monkeypatch.context() as patch:
        save, write, replace = Whitening.save, Manifest.write, Path.replace

        def stop(*_: Any) -> None:
            raise Killed

        if moment == "saving":

            def half(self: Whitening, path: Path) -> None:
                save(self, path)
                path.write_bytes(path.read_bytes()[:100])
                raise Killed

            patch.setattr(Whitening, "save", half)
        elif moment == "manifest":
            patch.setattr(Manifest, "write", stop)
        elif moment == "manifest written":
            patch.setattr(Manifest, "write", lambda self, folder: (write(self, folder), stop()))
        else:
            patch.setattr(Path, "replace", lambda self, to: stop() if "whitening" in self.name else replace(self, to))
        with pytest.raises(Killed):
            gallery.add(picture_folder)
    with Gallery.open(tmp_path / "g") as again:
        assert len(again) == 0
        assert again.verify().problems == []
        with pytest.raises(EncoderError, match="not learned yet"):
            again.search(picture(0))
        picture(20).save(picture_folder / "more.png")  # so that something else is learned
        assert again.add(picture_folder).added == 7
        hits = again.search(picture(3))
    with Gallery.open(tmp_path / "g") as reopened:
        assert reopened.search(picture(3)) == hits
        assert hits[0].path.endswith("03.png")


def test_killed_after_it_is_adopted(
    tmp_path: Path, picture_folder: Path, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with create(tmp_path / "g") as gallery, monkeypatch.context() as patch:
        patch.setattr("patchwise.gallery.index_paths", lambda *_, **__: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            gallery.add(picture_folder)
    learned = (tmp_path / "g" / "whitening.npz").read_bytes()
    with Gallery.open(tmp_path / "g") as again:
        assert again.add(picture_folder).added == 6
        assert again.search(picture(2))[0].path.endswith("02.png")
    assert (tmp_path / "g" / "whitening.npz").read_bytes() == learned


def test_another_whitening_is_refused(tmp_path: Path, picture_folder: Path, picture: Picture) -> None:
    for name, folder in (("g", picture_folder), ("other", picture_folder.parent / "others")):
        folder.mkdir(exist_ok=True)
        picture(len(name)).save(folder / "extra.png")
        for seed in range(4):
            picture(seed).save(folder / f"{seed}.png")
        with create(tmp_path / name) as gallery:
            gallery.add(folder)
    (tmp_path / "other" / "whitening.npz").replace(tmp_path / "g" / "whitening.npz")
    with Gallery.open(tmp_path / "g") as mixed:
        for call in (lambda: mixed.search(picture(0)), lambda: mixed.encoder):
            with pytest.raises(GalleryMismatch, match="weights_sha256"):
                call()


@pytest.mark.parametrize("content", [None, b"", b"garbage", b"PK\x03\x04 half a zip"])
def test_a_lost_whitening_is_named(
    tmp_path: Path, picture_folder: Path, picture: Picture, content: bytes | None
) -> None:
    with create(tmp_path / "g") as gallery:
        gallery.add(picture_folder)
    path = tmp_path / "g" / "whitening.npz"
    path.unlink() if content is None else path.write_bytes(content)
    with Gallery.open(tmp_path / "g") as opened, pytest.raises(PatchwiseError, match=str(path)):
        opened.search(picture(0))


def test_a_lost_whitening_is_not_learned_anew_beside_old_vectors(
    tmp_path: Path, picture_folder: Path, picture: Picture
) -> None:
    """Vectors of two whitenings must never meet."""
    with create(tmp_path / "g") as gallery:
        gallery.add(picture_folder)
        manifest = (tmp_path / "g" / "manifest.json").read_bytes()
        before = stored(gallery)
    (tmp_path / "g" / "whitening.npz").unlink()
    picture(30).save(picture_folder / "new.png")
    with Gallery.open(tmp_path / "g") as opened:
        with pytest.raises(GalleryDamaged, match=r"whitening\.npz: missing") as raised:
            opened.add(picture_folder)
        assert "backup" in str(raised.value)
        assert stored(opened) == before
    assert (tmp_path / "g" / "manifest.json").read_bytes() == manifest


def test_it_needs_an_encoder_known_by_its_id(tmp_path: Path, fake_encoder: Any) -> None:
    with pytest.raises(UsageError, match="by its id"):
        Gallery.create(tmp_path / "g", encoder=fake_encoder, whitening="gallery")
    with pytest.raises(UsageError, match="expected 'shipped' or 'gallery'"):
        Gallery.create(tmp_path / "g", encoder="fake", whitening="zca")
    assert not (tmp_path / "g").exists()


@pytest.mark.parametrize(("files", "limit", "taken"), [(6, 500, 6), (6, 3, 3), (5, 3, 3), (7, 3, 3), (6, 1, 1)])
def test_a_large_folder_is_sampled_evenly(
    tmp_path: Path,
    picture: Picture,
    fake_encoder: Any,
    monkeypatch: pytest.MonkeyPatch,
    files: int,
    limit: int,
    taken: int,
) -> None:
    for seed in range(files):
        picture(seed).save(tmp_path / f"{seed}.png")
    monkeypatch.setattr(module, "_PICTURES", limit)
    cut: list[str] = []
    really = module.prepared_ahead
    monkeypatch.setattr(
        module,
        "prepared_ahead",
        lambda chosen, *rest: (cut.extend(file.path for file in chosen), really(chosen, *rest))[1],
    )
    learn_whitening(fake_encoder, None, Pyramid(1), walk([tmp_path]), 3)
    assert fake_encoder.encoded_regions == taken * 5
    numbers = [int(Path(path).stem) for path in cut]
    assert len(set(numbers)) == taken
    assert max(numbers) >= files - -(-files // taken)  # none of the last is left out


@pytest.mark.parametrize(("limit", "taken"), [(15_000, 30), (90, 30), (89, 29), (30, 10), (3, 1), (2, 1)])
def test_many_regions_are_sampled_evenly(
    tmp_path: Path,
    picture: Picture,
    fake_encoder: Any,
    monkeypatch: pytest.MonkeyPatch,
    limit: int,
    taken: int,
) -> None:
    """A dense strategy needs no more memory than the pyramid."""
    for seed in range(3):
        picture(seed).save(tmp_path / f"{seed}.png")
    monkeypatch.setattr(module, "_REGIONS", limit)
    encoded: list[np.ndarray] = []
    really = module.encode_prepared
    monkeypatch.setattr(
        module, "encode_prepared", lambda encoder, one: (encoded.append(one.inputs.pixels), really(encoder, one))[1]
    )
    learn_whitening(fake_encoder, None, Pyramid(3), walk([tmp_path]), 2)
    assert [len(crops) for crops in encoded] == [taken] * 3
    image = read_picture(tmp_path / "0.png")
    every = cut_regions(image, Pyramid(3).regions(View(image.size)).boxes, 16)
    rows = [number * 30 // taken for number in range(taken)]
    np.testing.assert_array_equal(encoded[0], every[rows])


def test_the_learned_map_whitens(fake_encoder: Any, tmp_path: Path, picture: Picture) -> None:
    """With plenty of examples the regions it was learned from have nearly equal spread in every direction."""
    for seed in range(60):
        picture(seed).save(tmp_path / f"{seed}.png")
    whitening = learn_whitening(fake_encoder, None, Pyramid(1), walk([tmp_path]), 4)
    generator = np.random.default_rng(0)
    pixels = np.stack([np.asarray(picture(1000 + seed, (16, 16))) for seed in generator.integers(0, 999, 300)])
    projected = (fake_encoder.encode(pixels) - whitening.mean) @ whitening.projection
    spread = projected.var(axis=0)
    assert spread.max() / spread.min() < 4


def test_where_there_is_a_prior_one_picture_adapts_it(fake_encoder: Any, tmp_path: Path, picture: Picture) -> None:
    elsewhere = fake_encoder.encode(np.stack([np.asarray(picture(seed, (16, 16))) for seed in range(100, 300)]))
    prior = WhiteningPrior.learn(elsewhere, (Layer(30, 1.0), Layer(18, 0.5)), 10)
    picture(0).save(tmp_path / "only.png")
    found = walk([tmp_path])
    learned = learn_whitening(fake_encoder, prior, Pyramid(1), found, DIMENSION)
    image = read_picture(tmp_path / "only.png")
    crops = cut_regions(image, Pyramid(1).regions(View(image.size)).boxes, 16)
    expected = prior.adapted(fake_encoder.encode(crops)).whitening(DIMENSION)
    np.testing.assert_allclose(learned.mean, expected.mean, atol=1e-6)
    np.testing.assert_allclose(learned.projection, expected.projection, atol=1e-4)
