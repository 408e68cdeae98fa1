"""From pictures, or a gallery, to a file that the registry applies."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from conftest import FakeEncoder, make_picture
from patchwise import Gallery
from patchwise.adaptation import adapt, adapt_gallery
from patchwise.adaptation import examples as examples_module
from patchwise.adaptation import run as run_module
from patchwise.adaptation.examples import CROPS, encode_examples
from patchwise.encoders import LinearAdaptation, load_encoder, projected
from patchwise.errors import EncoderError, GalleryError, UsageError
from patchwise.indexing import walk
from patchwise.regions import parse_regions


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Twenty-four pictures, a copy of one, and a file that is none."""
    folder = tmp_path / "album"
    folder.mkdir()
    for seed in range(24):
        make_picture(seed, (160, 120)).save(folder / f"{seed:02d}.png")
    shutil.copy(folder / "05.png", folder / "copy.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


def test_examples_are_what_galleries_and_queries_hold(album: Path) -> None:
    encoder, strategy, told = FakeEncoder(), parse_regions("pyramid:1"), []
    files = walk([album]).files
    examples, failed = encode_examples(
        encoder, strategy, files, seed=0, max_pixels=10**6, advance=lambda *event: told.append(event)
    )
    assert len(examples) == 24 and [Path(path).name for path, _ in failed] == ["broken.jpg"]
    assert told[-1] == ("encoding", 26, 26)
    assert examples.crops.shape == (24 * CROPS, 48) and examples.crop_of[CROPS] == 1
    with Gallery.create(album / "g.pw", encoder=FakeEncoder(), regions="pyramid:1") as gallery:
        gallery.add(album)
        snapshot, _ = gallery.current()
        for number in (0, 7, 23):
            stored = snapshot.vectors(snapshot.index_of_path(str(album / f"{number:02d}.png")) or 0)
            rows = examples.rows_of(np.array([number]))
            np.testing.assert_allclose(examples.regions[rows], stored, atol=2e-3)


def test_crops_belong_to_a_picture_whatever_lies_beside_it(album: Path) -> None:
    files = walk([album]).files
    strategy = parse_regions("whole")
    found = [
        encode_examples(FakeEncoder(), strategy, some, seed=1, max_pixels=10**6, advance=lambda *_: None)[0]
        for some in (files[:12], files[3:5])
    ]
    np.testing.assert_array_equal(found[0].crops[3 * CROPS : 5 * CROPS], found[1].crops)


def test_what_waits_to_be_encoded_is_bounded_by_its_bytes(album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, strategy = FakeEncoder(), parse_regions("pyramid:1")
    inputs = (strategy.typical_count + CROPS) * encoder.input_size**2 * 3
    monkeypatch.setattr("patchwise.indexing.ahead.WAITING_BYTES", 6 * inputs)
    looked: list[Path] = []
    really = examples_module._look
    monkeypatch.setattr(
        examples_module, "_look", lambda file, *rest: (looked.append(Path(file.path)), really(file, *rest))[1]
    )
    done = [0]

    def advance(_what: str, now: int, _total: int) -> None:
        assert now - done[-1] <= 3  # encoded together
        assert len(looked) <= now + 6
        done.append(now)

    encode_examples(encoder, strategy, walk([album]).files, seed=0, max_pixels=10**6, advance=advance)
    assert done[-1] == 26


def test_from_pictures(album: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    outputs = [tmp_path / "out" / f"{name}.safetensors" for name in "ab"]
    reports = [adapt([album], output, encoder=FakeEncoder(), regions="pyramid:1", dimension=20) for output in outputs]
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    report, layer = reports[0], LinearAdaptation.load(outputs[0])
    assert (report.pictures, report.held_out, report.crops) == (18, 6, 6 * CROPS)
    assert [Path(path).name for path, _ in report.failed] == ["broken.jpg"]
    assert set(report.measured) == {"encoder alone", "whitening", "linear layer"}
    assert report.verdict in ("better", "worse", "no clear difference")
    assert report.gain is not None and report.over_whitening is not None
    own = report.measured["linear layer"].average_precision.mean()
    assert report.gain.difference.mean == pytest.approx(own - report.measured["encoder alone"].average_precision.mean())
    assert layer.dimension == report.dimension == 20
    assert layer.notes["weights_sha256"] == FakeEncoder.weights_sha256
    assert (layer.notes["method"], layer.notes["pictures"], layer.notes["seed"]) == ("linear", "18", "0")


def test_the_number_of_pictures_is_bounded_by_their_vectors(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By those of regions or of crops, whichever are more."""
    monkeypatch.setattr(run_module, "_VECTORS", 10 * CROPS)
    files = sorted(album.glob("[0-9]*.png"))
    for regions, pictures in (("whole", 10), ("pyramid:1", 10), ("pyramid:3", 10 * CROPS // 30)):
        counts = set()
        with Gallery.create(tmp_path / f"{regions[-1]}.pw", encoder=FakeEncoder(), regions=regions) as gallery:
            gallery.add(*files)
            settings = {"method": "whitening", "dimension": 5, "limit": 10**6, "force": True}
            for report in (
                adapt(files, tmp_path / "w.safetensors", encoder=FakeEncoder(), regions=regions, **settings),
                adapt_gallery(gallery, tmp_path / "w.safetensors", **settings),
            ):
                counts.add(report.pictures + report.held_out)
        assert counts == {pictures}


def test_the_verdict_follows_the_interval(album: Path, tmp_path: Path) -> None:
    report = adapt(
        [album], tmp_path / "w.safetensors", encoder=FakeEncoder(), regions="pyramid:1", method="whitening", dimension=2
    )
    assert report.verdict == "worse"  # two numbers say too little
    assert report.over_whitening is None and report.epochs == 0
    assert LinearAdaptation.load(tmp_path / "w.safetensors").notes["held_out"] == "worse than the encoder alone"


def test_a_whitening_of_the_builtin_encoder_is_that_of_a_gallery(album: Path, tmp_path: Path) -> None:
    """Too few to hold any out, so both learn from the same pictures."""
    few = [album / f"{number:02d}.png" for number in range(5)]
    report = adapt(few, tmp_path / "w.safetensors", method="whitening", regions="pyramid:1")
    assert report.verdict == "not measured" and (report.input_dimension, report.dimension) == (1952, 256)
    adapted = load_encoder(f"builtin,adapt={tmp_path / 'w.safetensors'}")
    with Gallery.create(tmp_path / "g.pw", regions="pyramid:1", whitening="gallery") as gallery:
        gallery.add(*few)
        pixels = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
        assert np.sum(adapted.encode(pixels) * gallery.encoder.encode(pixels), axis=1).min() > 0.999


def test_from_a_gallery_without_encoding_its_regions_again(album: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    encoder = FakeEncoder()
    with Gallery.create(tmp_path / "g.pw", encoder=encoder, regions="pyramid:1") as gallery:
        gallery.add(album)
        before = encoder.encoded_regions
        report = adapt_gallery(gallery, tmp_path / "l.safetensors", dimension=20)
        assert encoder.encoded_regions - before == 24 * CROPS
    assert (report.pictures, report.held_out) == (18, 6)
    straight = adapt([album], tmp_path / "m.safetensors", encoder=FakeEncoder(), regions="pyramid:1", dimension=20)
    theirs = straight.measured["encoder alone"].average_precision.mean()
    assert report.measured["encoder alone"].average_precision.mean() == pytest.approx(theirs, abs=0.2)


def test_pictures_that_are_gone_are_named(album: Path, tmp_path: Path) -> None:
    with Gallery.create(tmp_path / "g.pw", encoder=FakeEncoder(), regions="pyramid:1") as gallery:
        gallery.add(album)
        (album / "03.png").unlink()
        report = adapt_gallery(gallery, tmp_path / "l.safetensors", method="whitening", dimension=8)
    assert report.pictures + report.held_out == 23
    assert [Path(path).name for path, _ in report.failed] == ["03.png"]


def test_pictures_that_changed_since_are_named(album: Path, tmp_path: Path) -> None:
    """Their regions lie elsewhere, here outside; a new time alone is no change."""
    with Gallery.create(tmp_path / "g.pw", encoder=FakeEncoder(), regions="pyramid:1") as gallery:
        gallery.add(album)
        make_picture(99, (20, 15)).save(album / "03.png")
        shutil.copy2(album / "05.png", album / "06.png")  # the content of another picture that is known
        (album / "07.png").touch()
        report = adapt_gallery(gallery, tmp_path / "l.safetensors", method="whitening", dimension=8)
    assert report.pictures + report.held_out == 22
    assert [(Path(path).name, reason) for path, reason in report.failed] == [
        (name, "changed since it was indexed") for name in ("03.png", "06.png")
    ]


def test_galleries_that_cannot_be_learned_from(album: Path, tmp_path: Path) -> None:
    few = [album / f"{number:02d}.png" for number in range(3)]
    with Gallery.create(tmp_path / "own.pw", regions="whole", whitening="gallery") as gallery:
        gallery.add(*few)
        with pytest.raises(GalleryError, match="whitened by the gallery itself"):
            adapt_gallery(gallery, tmp_path / "l.safetensors", method="whitening")
    adapt(few, tmp_path / "w.safetensors", method="whitening", regions="whole")
    name = f"builtin,adapt={tmp_path / 'w.safetensors'}"
    with Gallery.create(tmp_path / "adapted.pw", encoder=name, regions="whole") as gallery:
        gallery.add(*few)
        with pytest.raises(EncoderError, match=r"adapted by .*w\.safetensors already"):
            adapt_gallery(gallery, tmp_path / "l.safetensors", method="whitening")
    with pytest.raises(EncoderError, match=r"adapted by .*w\.safetensors already"):
        adapt(few, tmp_path / "l.safetensors", encoder=name, method="whitening")
    empty = Gallery.create(tmp_path / "empty.pw", encoder=FakeEncoder())
    with empty, pytest.raises(EncoderError, match="at least 1 picture "):
        adapt_gallery(empty, tmp_path / "l.safetensors", method="whitening")


def test_what_makes_no_sense_is_refused_before_anything_is_encoded(album: Path, tmp_path: Path) -> None:
    encoder = FakeEncoder()
    for settings, reason in (
        ({"method": "magic"}, "expected linear or whitening"),
        ({"dimension": 0}, "at least 1"),
        ({"output": tmp_path / "l.npz"}, r"end in \.safetensors"),
        ({"pictures": [tmp_path / "nowhere"]}, "nowhere: no such file or folder"),
    ):
        arguments = {"pictures": [album], "output": tmp_path / "l.safetensors", "method": "whitening", **settings}
        with pytest.raises(UsageError, match=reason):
            adapt(**arguments, encoder=encoder)  # type: ignore[arg-type]
    assert encoder.encoded_regions == 0 and not (tmp_path / "l.safetensors").exists()


def test_a_file_that_is_there_stays_unless_forced(album: Path, tmp_path: Path) -> None:
    file, folder = tmp_path / "w.safetensors", tmp_path / "folder.safetensors"
    file.write_bytes(b"what a gallery needs")
    folder.mkdir()
    encoder = FakeEncoder()
    with Gallery.create(tmp_path / "g.pw", encoder=encoder, regions="whole") as gallery:
        gallery.add(album)
        before = encoder.encoded_regions
        for output, force, reason in ((file, False, "give --force"), (folder, True, "a folder is in the way")):
            with pytest.raises(UsageError, match=reason):
                adapt([album], output, encoder=encoder, method="whitening", force=force)
            with pytest.raises(UsageError, match=reason):
                adapt_gallery(gallery, output, method="whitening", force=force)
        assert encoder.encoded_regions == before and file.read_bytes() == b"what a gallery needs"
        adapt_gallery(gallery, file, method="whitening", dimension=8, force=True)
        assert LinearAdaptation.load(file).dimension == 8
    adapt([album], file, encoder=encoder, regions="whole", method="whitening", dimension=9, force=True)
    assert LinearAdaptation.load(file).dimension == 9


def test_an_adapted_gallery_searches_with_the_layer(album: Path, tmp_path: Path) -> None:
    adapt(
        [album],
        tmp_path / "w.safetensors",
        encoder=FakeEncoder(),
        regions="pyramid:1",
        method="whitening",
        dimension=24,
    )
    encoder = projected(FakeEncoder(), LinearAdaptation.load(tmp_path / "w.safetensors"))
    with Gallery.create(tmp_path / "g.pw", encoder=encoder, regions="pyramid:1") as gallery:
        gallery.add(album)
        hit = gallery.search(album / "07.png", k=1)[0]
    assert Path(hit.path).name == "07.png" and hit.score == pytest.approx(1, abs=2e-3)


def test_too_few_regions_for_the_numbers_are_refused_before_anything_is_encoded(album: Path, tmp_path: Path) -> None:
    encoder = FakeEncoder()
    # Of 24 pictures and two more files 6 are held out, and of the other 20 three decide when to stop.
    with pytest.raises(EncoderError, match=r"learning 48 numbers needs more than 48 regions .* about 17; name more"):
        adapt([album], tmp_path / "layer.safetensors", encoder=encoder, regions="whole")
    assert encoder.encoded_regions == 0
    with Gallery.create(tmp_path / "g", encoder=encoder, regions="whole") as gallery:
        gallery.add(album)
        encoded = encoder.encoded_regions
        with pytest.raises(EncoderError, match=r"learning 48 numbers needs more than 48 regions"):
            adapt_gallery(gallery, tmp_path / "layer.safetensors")
    assert encoder.encoded_regions == encoded
