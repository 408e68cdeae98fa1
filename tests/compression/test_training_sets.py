"""Training sets: which rows are taken, checked against galleries whose right rows are known beforehand."""

from __future__ import annotations

import csv
import hashlib
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from conftest import FakeEncoder, make_picture
from patchwise import Gallery
from patchwise.compression import training_sets
from patchwise.compression.training_sets import TRAINING_SETS, parse_training_set
from patchwise.encoders import LinearAdaptation, Projected, activation_source
from patchwise.errors import EncoderError, GalleryError, UsageError
from patchwise.regions import Pyramid, View
from patchwise.store import Encoded, Manifest, Snapshot, Store

DIMENSION = 64
PICTURES = 40
LEVELS = 2  # 5 regions each: the whole and 2 x 2

training_vectors = partial(training_sets.training_vectors, fewest=0)


class LoudEncoder(FakeEncoder):
    """Excited by red."""

    def activations(self, pixels: np.ndarray) -> np.ndarray:
        return pixels[..., 0].astype(np.float32).mean(axis=(1, 2)) + 1


def one_hot_store(folder: Path) -> Store:
    """The whole of picture p is component p alone; the cosines of its regions with it are `cosines`."""
    manifest = Manifest(
        encoder={
            "id": "fake", "weights_sha256": "0" * 64, "dimension": DIMENSION, "input_size": 16, "resampling": "bilinear"
        },
        regions=f"pyramid:{LEVELS - 1}",
        whitening="shipped",
        created="2026-01-01T00:00:00+00:00",
        patchwise="0.1.0",
    )  # fmt: skip
    store = Store.create(folder, manifest)
    regions = Pyramid(LEVELS - 1).regions(View((40, 30)))
    cosines = np.array([1.0, 0.1, 0.9, 0.6, 0.3])
    with store.writer() as writer:
        for picture in range(PICTURES):
            vectors = np.zeros((len(regions), DIMENSION), dtype=np.float32)
            vectors[:, picture] = cosines
            vectors[np.arange(1, 5), 50 + np.arange(1, 5)] = np.sqrt(1 - cosines[1:] ** 2)
            digest = hashlib.blake2b(bytes([picture])).digest()[:16]
            writer.add([Encoded(f"/p/{picture:02d}", 1, 1, digest, (40, 30), regions, vectors)])
    return store


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snapshot]:
    with one_hot_store(tmp_path_factory.mktemp("sets") / "g") as store:
        yield store.snapshot()


def rows_of(vectors: np.ndarray) -> list[tuple[int, int]]:
    """(picture, region) of each vector, read off its components."""
    return [(int(one[:50].argmax()), 0 if one[50:].max() < 1e-3 else int(one[51:55].argmax()) + 1) for one in vectors]


def test_names() -> None:
    assert [name for name in TRAINING_SETS if ":" not in name] == ["random", "whole", "distinct", "salient"]
    assert parse_training_set(" distinct ").kind == "distinct"
    queries = parse_training_set("queries:a:b.csv")
    assert (queries.kind, queries.file, str(queries)) == ("queries", Path("a:b.csv"), "queries:a:b.csv")


@pytest.mark.parametrize("name", ["", "Random", "queries", "queries:", "whole:x", "random:", "best"])
def test_other_names_are_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(UsageError, match="random, whole, distinct, salient, queries:FILE"):
        parse_training_set(name)


def test_random_takes_every_region_alike(snapshot: Snapshot) -> None:
    taken = [rows_of(training_vectors("random", snapshot, count=50, seed=seed)) for seed in range(200)]
    assert all(len(set(one)) == 50 and one == sorted(one) for one in taken)
    counts = np.zeros((PICTURES, 5))
    for one in taken:
        for row in one:
            counts[row] += 1
    # 200 draws at 1 in 4: 50 each, deviation 6.1; five deviations for 200 cells.
    assert counts.min() > 20 and counts.max() < 80
    assert rows_of(training_vectors("random", snapshot, count=10_000)) == sorted(
        (picture, region) for picture in range(PICTURES) for region in range(5)
    )


def test_whole_takes_first_regions(snapshot: Snapshot) -> None:
    found = rows_of(training_vectors("whole", snapshot, count=15, seed=3))
    assert len(set(found)) == 15 and {region for _, region in found} == {0}
    assert rows_of(training_vectors("whole", snapshot, count=99)) == [(picture, 0) for picture in range(PICTURES)]


def test_distinct_takes_the_half_that_is_least_like_the_whole(snapshot: Snapshot) -> None:
    everything = rows_of(training_vectors("distinct", snapshot, count=10_000))
    assert everything == sorted((picture, region) for picture in range(PICTURES) for region in (1, 4))  # .1 and .3
    some = rows_of(training_vectors("distinct", snapshot, count=21, seed=1))
    assert len(some) == 21 and set(some) < set(everything)
    assert len({picture for picture, _ in some}) == 11  # two of each, one of the last


def test_a_picture_of_one_region_gives_it(tmp_path: Path, picture_folder: Path) -> None:
    with Gallery.create(tmp_path / "g", encoder=FakeEncoder(), regions="whole") as gallery:
        gallery.add(picture_folder)
        snapshot, _ = gallery.current()
        assert len(training_vectors("distinct", snapshot, count=100)) == 6


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(["random", "whole", "distinct"]),
    count=st.integers(1, 250),
    seed=st.integers(0, 5),
    held=st.lists(st.booleans(), min_size=PICTURES, max_size=PICTURES),
)
def test_held_out_pictures_are_never_taken_and_the_seed_decides(
    snapshot: Snapshot, name: str, count: int, seed: int, held: list[bool]
) -> None:
    held_out = np.array(held)
    found = training_vectors(name, snapshot, count=count, seed=seed, held_out=held_out)
    rows = rows_of(found)
    assert not any(held[picture] for picture, _ in rows)
    there = {"random": 5, "whole": 1, "distinct": 2}[name] * int((~held_out).sum())
    assert len(set(rows)) == len(rows) == min(count, there)
    assert found.dtype == np.float32 and found.shape[1] == DIMENSION
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=2e-3)  # stored as fp16
    again = training_vectors(name, snapshot, count=count, seed=seed, held_out=held_out)
    np.testing.assert_array_equal(again, found)


@pytest.mark.parametrize(("count", "fewest", "filled"), [(99, 60, 20), (50, 60, 10), (99, 500, 59), (99, 40, 0)])
def test_a_small_set_is_filled_up_with_other_regions(snapshot: Snapshot, count: int, fewest: int, filled: int) -> None:
    held_out = np.arange(PICTURES) >= 38
    said: list[str] = []
    found = training_vectors("whole", snapshot, count=count, fewest=fewest, tell=said.append)
    rows = rows_of(found)
    assert rows[:40] == [(picture, 0) for picture in range(PICTURES)]
    assert len(set(rows)) == len(rows) == 40 + filled and all(region > 0 for _, region in rows[40:])
    assert said == ([f"training set whole: has 40 vectors, filled up with {filled} random regions"] if filled else [])
    rows = rows_of(training_vectors("distinct", snapshot, count=300, fewest=300, held_out=held_out))
    assert sorted(rows) == [(picture, region) for picture in range(38) for region in range(5)]


def test_another_seed_takes_others(snapshot: Snapshot) -> None:
    for name in ("random", "whole", "distinct"):
        one, other = (rows_of(training_vectors(name, snapshot, count=20, seed=seed)) for seed in (0, 1))
        assert one != other


def test_nothing_that_is_not_taken_is_read(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    gathered: list[np.ndarray] = []
    looked: list[int] = []
    gather, vectors = Snapshot.gather, Snapshot.vectors
    monkeypatch.setattr(Snapshot, "gather", lambda self, rows: gathered.append(rows) or gather(self, rows))
    monkeypatch.setattr(Snapshot, "vectors", lambda self, index: looked.append(index) or vectors(self, index))
    monkeypatch.setattr(training_sets, "_READ_AT_ONCE", 16)
    for name in ("random", "whole"):
        training_vectors(name, snapshot, count=30)
        assert [len(rows) for rows in gathered] == [16, 14] and not looked
        rows = np.concatenate(gathered)
        assert (np.diff(rows) > 0).all()  # by place
        gathered.clear()
    training_vectors("distinct", snapshot, count=20)
    assert looked == sorted(looked) and len(looked) == 10


def test_bad_arguments(snapshot: Snapshot) -> None:
    with pytest.raises(UsageError, match="count 0"):
        training_vectors("random", snapshot, count=0)
    with pytest.raises(UsageError, match=r"mask of \(3,\) for 40 pictures"):
        training_vectors("random", snapshot, count=1, held_out=np.zeros(3, dtype=bool))
    for name in ("salient", "queries:x.csv"):
        with pytest.raises(UsageError, match="needs the encoder"):
            training_vectors(name, snapshot, count=1)


def test_an_empty_gallery_gives_nothing(tmp_path: Path) -> None:
    with Gallery.create(tmp_path / "g", encoder=LoudEncoder()) as gallery:
        snapshot, _ = gallery.current()
        for name in ("random", "whole", "distinct", "salient"):
            assert training_vectors(name, snapshot, count=5, encoder=LoudEncoder).shape == (0, LoudEncoder.dimension)


@pytest.fixture
def half_red(tmp_path: Path) -> tuple[Path, Gallery]:
    """Twelve pictures, darker and darker, with red in their right half alone."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(12):
        pixels = np.array(make_picture(seed, (64, 64)))
        pixels[:, :32, 0], pixels[:, 32:, 0] = 0, 250 - 20 * seed
        Image.fromarray(pixels).save(folder / f"{seed:02d}.png")
    gallery = Gallery.create(tmp_path / "g.pw", encoder=FakeEncoder(), regions="pyramid:1")
    gallery.add(folder)
    return folder, gallery


def stored(snapshot: Snapshot, rows: list[tuple[int, int]]) -> np.ndarray:
    return np.stack([snapshot.vectors(picture)[region] for picture, region in rows]).astype(np.float32)


def test_salient_takes_the_half_that_excites_most(half_red: tuple[Path, Gallery]) -> None:
    _, gallery = half_red
    snapshot, _ = gallery.current()
    told: list[tuple[str, int, int]] = []
    found = training_vectors(
        "salient", snapshot, count=100, encoder=LoudEncoder, progress=lambda *one: told.append(one)
    )
    # Of whole, top left, top right, bottom left, bottom right: the two on the right.
    expected = stored(snapshot, [(picture, region) for picture in range(12) for region in (2, 4)])
    np.testing.assert_array_equal(found, expected)
    assert told == [("looking at pictures again", done, 12) for done in range(1, 13)]


def test_salient_goes_on_where_files_are_gone_or_changed(half_red: tuple[Path, Gallery]) -> None:
    folder, gallery = half_red
    snapshot, _ = gallery.current()
    picture_of = {Path(path).name: picture for path, picture in snapshot.paths(range(12))}
    for number in (0, 3, 4, 7):
        (folder / f"{number:02d}.png").unlink()
    make_picture(99, (80, 64)).save(folder / "05.png")  # another size than was indexed
    (folder / "06.png").write_bytes(b"no picture")
    shutil.copy(folder / "08.png", folder / "09 copy.png")
    gone = {picture_of[f"{number:02d}.png"] for number in (0, 3, 4, 5, 6, 7)}
    there = [picture for picture in range(12) if picture not in gone]
    expected = stored(snapshot, [(picture, region) for picture in there for region in (2, 4)])
    np.testing.assert_array_equal(training_vectors("salient", snapshot, count=99, encoder=LoudEncoder), expected)
    for seed in range(5):  # pictures that are gone make room for others
        assert len(training_vectors("salient", snapshot, count=12, seed=seed, encoder=LoudEncoder)) == 12


def test_salient_holds_out_and_is_decided_by_the_seed(half_red: tuple[Path, Gallery]) -> None:
    _, gallery = half_red
    snapshot, _ = gallery.current()
    held_out = np.arange(12) % 2 == 0
    found = training_vectors("salient", snapshot, count=7, seed=4, held_out=held_out, encoder=LoudEncoder)
    own = stored(snapshot, [(picture, region) for picture in range(1, 12, 2) for region in (2, 4)])
    assert len(found) == 7 and all((own == one).all(axis=1).any() for one in found)
    again = training_vectors("salient", snapshot, count=7, seed=4, held_out=held_out, encoder=LoudEncoder)
    np.testing.assert_array_equal(again, found)


def test_salient_finds_another_file_of_the_same_picture(half_red: tuple[Path, Gallery]) -> None:
    folder, gallery = half_red
    for file in sorted(folder.glob("*.png")):
        shutil.copy(file, folder / f"z {file.name}")
    gallery.add(folder)
    for number in range(12):
        (folder / f"{number:02d}.png").unlink()
    snapshot, _ = gallery.current()
    assert len(training_vectors("salient", snapshot, count=99, encoder=LoudEncoder)) == 24


def test_salient_when_no_file_is_left(half_red: tuple[Path, Gallery]) -> None:
    folder, gallery = half_red
    shutil.rmtree(folder)
    snapshot, _ = gallery.current()
    with pytest.raises(GalleryError, match=r"none of the gallery's pictures is where it was.*random, distinct"):
        training_vectors("salient", snapshot, count=5, encoder=LoudEncoder)


def test_salient_with_encoders_that_do_not_tell(half_red: tuple[Path, Gallery]) -> None:
    _, gallery = half_red
    snapshot, _ = gallery.current()
    with pytest.raises(EncoderError, match="'fake' does not tell its activations; use random, whole, distinct"):
        training_vectors("salient", snapshot, count=5, encoder=FakeEncoder)

    class Level(FakeEncoder):
        def activations(self, pixels: np.ndarray) -> np.ndarray:
            return np.full(len(pixels), 7.0, dtype=np.float32)

    with pytest.raises(EncoderError, match="every region with the same strength"):
        training_vectors("salient", snapshot, count=5, encoder=Level)


def test_activations_are_those_of_the_backbone_behind_any_map() -> None:
    layer = LinearAdaptation(np.eye(48, dtype=np.float32), np.zeros(48, dtype=np.float32))
    loud, silent = LoudEncoder(), FakeEncoder()
    assert activation_source(loud) is loud
    assert activation_source(Projected(Projected(loud, layer), layer)) is loud
    assert activation_source(silent) is activation_source(Projected(silent, layer)) is None


def test_queries_are_encoded_and_filled_up(half_red: tuple[Path, Gallery], tmp_path: Path) -> None:
    folder, gallery = half_red
    snapshot, _ = gallery.current()
    asked = tmp_path / "new.png"
    make_picture(77, (64, 64)).save(asked)
    file = write_queries(tmp_path, [(asked, ""), (asked, "0,0,32,32"), (folder / "00.png", "")])
    expected = np.stack(gallery.query_vectors([(asked, None), (asked, (0, 0, 32, 32)), (folder / "00.png", None)]))
    said: list[str] = []
    found = training_vectors(f"queries:{file}", snapshot, count=3, encoder=FakeEncoder, tell=said.append)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert not said
    more = training_vectors(f"queries:{file}", snapshot, count=99, fewest=10, encoder=FakeEncoder, tell=said.append)
    np.testing.assert_allclose(more[:3], expected, atol=1e-6)
    everything = stored(snapshot, [(picture, region) for picture in range(12) for region in range(5)])
    assert len(more) == 10 and all((everything == one).all(axis=1).any() for one in more[3:])
    assert said == [f"training set queries:{file}: has 3 vectors, filled up with 7 random regions"]
    fewer = training_vectors(f"queries:{file}", snapshot, count=2, seed=1, encoder=FakeEncoder)
    assert len(fewer) == 2 and all((np.abs(expected - one) < 1e-6).all(axis=1).any() for one in fewer)


def test_queries_with_held_out_pictures_are_left_out(half_red: tuple[Path, Gallery], tmp_path: Path) -> None:
    folder, gallery = half_red
    snapshot, _ = gallery.current()
    held_out = np.zeros(12, dtype=bool)
    held_out[snapshot.index_of_path(str(folder / "02.png"))] = True
    file = write_queries(tmp_path, [(folder / "02.png", "0,0,20,20"), (folder / "05.png", "")])
    found = training_vectors(f"queries:{file}", snapshot, count=5, fewest=5, held_out=held_out, encoder=FakeEncoder)
    (of_five,) = gallery.query_vectors([(folder / "05.png", None)])
    np.testing.assert_allclose(found[0], of_five, atol=1e-6)
    others = [(picture, region) for picture in np.flatnonzero(~held_out).tolist() for region in range(5)]
    everything = stored(snapshot, others)
    assert all((everything == one).all(axis=1).any() for one in found[1:])


def test_queries_that_cannot_be_used(half_red: tuple[Path, Gallery], tmp_path: Path) -> None:
    folder, gallery = half_red
    snapshot, _ = gallery.current()
    said: list[str] = []
    file = write_queries(tmp_path, [(tmp_path / "nowhere.png", ""), (folder / "05.png", "")])
    training_vectors(f"queries:{file}", snapshot, count=2, encoder=FakeEncoder, tell=said.append)
    assert "1 of 2 pictures cannot be used" in said[0] and "nowhere.png" in said[0]
    file = write_queries(tmp_path, [(tmp_path / "nowhere.png", "")])
    with pytest.raises(UsageError, match=r"queries\.csv: no picture to learn from.*nowhere\.png"):
        training_vectors(f"queries:{file}", snapshot, count=2, encoder=FakeEncoder)
    with pytest.raises(UsageError, match="cannot be read"):
        training_vectors(f"queries:{tmp_path / 'none.csv'}", snapshot, count=2, encoder=FakeEncoder)
    text = tmp_path / "text.csv"
    text.write_text("text\na red mug\n")
    with pytest.raises(UsageError, match=r"no picture to learn from that can be used$"):
        training_vectors(f"queries:{text}", snapshot, count=2, encoder=FakeEncoder)


def write_queries(folder: Path, rows: list[tuple[Path, str]]) -> Path:
    file = folder / "queries.csv"
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "x0", "y0", "x1", "y1"])
        for path, box in rows:
            writer.writerow([path, *(box.split(",") if box else [""] * 4)])
    return file


def test_the_built_in_encoder_has_a_salient_half(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(2):  # blobs above, nothing below
        pixels = np.full((224, 224, 3), 127, dtype=np.uint8)
        pixels[:112] = np.array(make_picture(seed, (224, 112)))
        Image.fromarray(pixels).save(folder / f"{seed}.png")
    with Gallery.create(tmp_path / "g.pw", regions="pyramid:1") as gallery:
        gallery.add(folder)
        snapshot, _ = gallery.current()
        found = training_vectors("salient", snapshot, count=9, encoder=lambda: gallery.encoder)
        below = stored(snapshot, [(picture, region) for picture in range(2) for region in (3, 4)])
        assert len(found) == 4
        assert not any((below == one).all(axis=1).any() for one in found)
