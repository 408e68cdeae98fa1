"""Expected false matches: worked by hand, and against what chance does in galleries of random directions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from conftest import FakeEncoder, make_picture
from patchwise import Gallery, Hit
from patchwise.regions import Pyramid, View
from patchwise.search import MATCH_BELOW, Background, Geometry
from patchwise.store import Encoded, Manifest, Snapshot, Store

REGIONS = Pyramid(1).regions(View((96, 64)))  # five
Vectors = npt.NDArray[np.float32]
Snapshots = Callable[[Vectors], Snapshot]
OTHERS = {"whitening": "shipped", "created": "", "patchwise": ""}


@pytest.fixture
def snapshot_of(tmp_path: Path) -> Iterator[Snapshots]:
    """A gallery's snapshot from (pictures, 5, dimension) unit vectors."""
    with ExitStack() as stores:

        def made(vectors: Vectors) -> Snapshot:
            folder = tmp_path / f"{len(list(tmp_path.iterdir()))}.pw"
            manifest = Manifest(encoder={"id": "none", "dimension": vectors.shape[2]}, regions="pyramid:1", **OTHERS)
            store = stores.enter_context(Store.create(folder, manifest))
            with store.writer() as writer:
                writer.add(
                    [
                        Encoded(f"/{number}.jpg", 0, 0, number.to_bytes(16, "big"), (96, 64), REGIONS, rows)
                        for number, rows in enumerate(vectors)
                    ]
                )
            return store.snapshot()

        yield made


def directions(generator: np.random.Generator, *shape: int) -> Vectors:
    return normalised(generator.standard_normal(shape, dtype=np.float32))


def normalised(vectors: Vectors) -> Vectors:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def at_cosines(cosines: npt.NDArray[np.float64]) -> Vectors:
    """Vectors of three numbers at these cosines with (1, 0, 0)."""
    return np.stack([cosines, np.sqrt(1 - cosines**2), np.zeros_like(cosines)], axis=-1).astype(np.float32)


def test_a_power_law_by_hand(snapshot_of: Snapshots) -> None:
    """Of 500 regions the share p has 1 - s below p^(1/4) / 2: a dimension of four."""
    shares = (np.arange(500) + 0.5) / 500
    cosines = 1 - shares**0.25 / 2
    mixed = np.random.default_rng(0).permutation(cosines).reshape(100, 5)
    background = Background(snapshot_of(at_cosines(mixed)))
    expected = background.expected_false_matches(
        np.array([1, 0, 0], dtype=np.float32), [1 - 0.5 * 0.01**0.25, 1 - 0.5 * 1e-4**0.25, 0.5], 1_000
    )
    assert expected is not None
    # 1,000 pictures of five regions are 5,000 chances; above the tail's level nothing is said to be rarer than it is.
    assert expected[:2] == pytest.approx([5_000 * 0.01, 5_000 * 1e-4], rel=0.2)
    assert expected[2] == 1_000


def test_rarer_when_higher_and_in_proportion_to_what_was_searched(snapshot_of: Snapshots) -> None:
    generator = np.random.default_rng(1)
    background = Background(snapshot_of(directions(generator, 100, 5, 8)))
    query = directions(generator, 8)
    scores = np.linspace(-1, 1, 50)
    expected = background.expected_false_matches(query, scores.tolist(), 100)
    twice = background.expected_false_matches(query, scores.tolist(), 200)
    assert expected is not None
    assert twice is not None
    assert (np.diff(expected) <= 0).all()
    rare = expected < 50
    np.testing.assert_allclose(twice[rare], 2 * expected[rare])
    assert expected.max() <= 100


@pytest.mark.parametrize("dimension", [8, 32])
def test_as_many_as_expected_in_a_gallery_of_chance(snapshot_of: Snapshots, dimension: int) -> None:
    """The bound counts regions and looks at the tail from below: right within a factor, and on the safe side."""
    generator = np.random.default_rng(2)
    vectors = directions(generator, 300, 5, dimension)
    background = Background(snapshot_of(vectors))
    queries = directions(generator, 400, dimension)
    predicted = np.array([0.05, 1.0, 10.0])
    observed = np.zeros(3)
    for query in queries:
        scores = (vectors @ query).max(axis=1)
        expected = background.expected_false_matches(query, scores.tolist(), 300)
        assert expected is not None
        observed += (expected[:, None] < predicted).sum(axis=0)
    observed /= len(queries)
    assert (observed <= 2 * predicted).all()
    assert (observed[1:] >= predicted[1:] / 4).all()


def test_what_is_there_is_a_match_although_it_is_in_the_sample(snapshot_of: Snapshots) -> None:
    """Four in a hundred pictures show the object, in all five regions: more than the tail is taken from."""
    generator = np.random.default_rng(3)
    vectors = directions(generator, 200, 5, 32)
    query = directions(generator, 32)
    vectors[:8] = normalised(query + 0.1 * directions(generator, 8, 5, 32))
    background = Background(snapshot_of(vectors))
    scores = (vectors @ query).max(axis=1)
    expected = background.expected_false_matches(query, scores.tolist(), 200)
    assert expected is not None
    assert (expected[:8] < 1e-6).all()
    assert (expected[8:] > MATCH_BELOW).all()


def test_a_sample_says_what_all_of_a_large_gallery_would(
    snapshot_of: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(4)
    snapshot = snapshot_of(directions(generator, 1_000, 5, 16))
    query = directions(generator, 16)
    scores = [0.7, 0.8, 0.9]
    whole = Background(snapshot).expected_false_matches(query, scores, 1_000)
    monkeypatch.setattr("patchwise.search.significance._SAMPLED_REGIONS", 2_000)
    sampled = Background(snapshot, seed=5).expected_false_matches(query, scores, 1_000)
    assert whole is not None
    assert sampled is not None
    assert np.abs(np.log(sampled / whole)).max() < math.log(4)


def test_a_gallery_too_small_to_tell(snapshot_of: Snapshots) -> None:
    generator = np.random.default_rng(6)
    for pictures in (0, 1, 19):
        background = Background(snapshot_of(directions(generator, pictures, 5, 8)))
        assert background.expected_false_matches(directions(generator, 8), [0.5], pictures) is None


def test_equal_vectors_are_no_error(snapshot_of: Snapshots) -> None:
    """A gallery of one colour: no tail at all, and nothing but what is the same is a match."""
    vectors = np.zeros((50, 5, 4), dtype=np.float32)
    vectors[..., 0] = 1
    background = Background(snapshot_of(vectors))
    query = np.array([0, 1, 0, 0], dtype=np.float32)
    expected = background.expected_false_matches(query, [0.0, 1.0], 50)
    assert expected is not None
    assert expected[0] > 1
    assert expected[1] < MATCH_BELOW


def hit(expected: float | None, geometry: Geometry | None = None) -> Hit:
    return Hit(1, "/a", 0.5, (0, 0, 1, 1), 0, (0, 0), (1, 1), (), expected_false_matches=expected, geometry=geometry)


def test_the_verdict() -> None:
    assert hit(0.049).matches is True
    assert hit(0.05).matches is False
    assert hit(None).matches is None
    assert hit(3.0, Geometry("verified", 30)).matches is True
    assert hit(0.01, Geometry("not verified", 3)).matches is True
    assert hit(3.0, Geometry("not enough texture", 0)).matches is False


def test_a_search_says_it_of_every_hit(tmp_path: Path) -> None:
    """The picture itself is a match; the best of unrelated pictures are not, compressed or not, here or in a folder."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(60):
        make_picture(seed).save(folder / f"{seed:02d}.png")
    with Gallery.create(tmp_path / "g.pw", encoder=FakeEncoder(), regions="pyramid:2") as gallery:
        gallery.add(folder)
        first, second, *_ = gallery.search(folder / "07.png", k=60)
        assert first.path.endswith("07.png")
        assert first.matches
        assert second.matches is False
        elsewhere = gallery.search(folder / "07.png", k=60, under=[folder / "07.png", folder / "08.png"])
        assert elsewhere[0].expected_false_matches == pytest.approx(first.expected_false_matches * 2 / 60)  # type: ignore[operator]
        gallery.compress("pq:8")
        compressed = gallery.search(folder / "07.png", k=1)
        assert compressed[0].expected_false_matches == first.expected_false_matches
