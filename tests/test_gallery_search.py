"""Asking a gallery: texts, several parts, what is not wanted; and where the answer lies in the picture."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from colours import ColourEncoder, quarters
from patchwise import Gallery, Hit, QueryPart
from patchwise.errors import EncoderError, UsageError
from patchwise.indexing import query_vector

TOP_LEFT, TOP_RIGHT, BOTTOM_RIGHT = (0, 0, 48, 32), (48, 0, 96, 32), (48, 32, 96, 64)
SCENES = {
    "a": ("blue", "black", "blue", "orange"),
    "b": ("red", "blue", "yellow", "black"),
    "c": ("green", "white", "white", "green"),
    "d": ("blue", "red", "black", "white"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes with a colour in each quarter, a.png to d.png."""
    folder = tmp_path_factory.mktemp("scenes")
    for name, colours in SCENES.items():
        quarters(*colours).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def gallery(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gallery]:
    place = tmp_path_factory.mktemp("gallery") / "g"
    with Gallery.create(place, encoder=ColourEncoder(), regions="pyramid:1") as made:
        made.add(folder)
        yield made


def names(hits: list[Hit]) -> str:
    return "".join(Path(hit.path).stem for hit in hits)


# Texts


def test_a_text_finds_its_pictures_and_the_place_in_them(gallery: Gallery) -> None:
    hits = gallery.search(text="a red bicycle")
    assert set(names(hits)[:2]) == {"b", "d"}
    assert {Path(hit.path).stem: hit.box for hit in hits[:2]} == {"b": TOP_LEFT, "d": TOP_RIGHT}
    assert hits[0].score > 0.999 and hits[2].score < 0.9
    (orange, *_) = gallery.search(text="orange")
    assert (names([orange]), orange.box, orange.level, orange.cell) == ("a", BOTTOM_RIGHT, 1, (1, 1))
    assert orange.part_scores == ()


def test_a_text_answers_as_a_picture_of_what_it_says(gallery: Gallery, folder: Path) -> None:
    assert gallery.search(text="orange") == gallery.search(folder / "a.png", box=BOTTOM_RIGHT)
    for hit in gallery.search(text="red", k=2):
        explanation = gallery.explain(None, hit, text="red")
        assert explanation.parts == ()
        assert explanation == gallery.explain(folder / "b.png", hit, box=TOP_LEFT)
        assert explanation == gallery.explain(QueryPart(text="red"), hit)
        winner = max(explanation.regions, key=lambda region: region.score)
        assert (winner.box, winner.score) == (hit.box, hit.score)
        heat = explanation.heat_map(96)
        row, column = np.unravel_index(heat.argmax(), heat.shape)
        assert hit.box[0] <= column < hit.box[2] and hit.box[1] <= row < hit.box[3]


def test_texts_need_an_encoder_that_reads_them(tmp_path: Path, fake_encoder: Any, folder: Path) -> None:
    with Gallery.create(tmp_path / "g", encoder=fake_encoder, regions="whole") as made:
        made.add(folder)
        with pytest.raises(EncoderError, match=r"'fake' reads no texts.*--encoder siglip2-b"):
            made.search(text="red")
        with pytest.raises(EncoderError, match="reads no texts"):
            made.explain(folder / "a.png", folder / "a.png", text="red")
        answers = list(made.search_many([QueryPart(text="red"), (folder / "a.png", None)]))
        assert "reads no texts" in str(answers[0].error) and answers[1].error is None
        assert names(made.search([folder / "a.png", folder / "b.png"], k=2)) in ("ab", "ba")  # pictures need none


# Several parts


def test_one_region_has_to_fit_all_parts(gallery: Gallery) -> None:
    """Red and yellow are each found best in b, but in two places; what is a bit of both is in a."""
    red, yellow = gallery.search(text="red", k=1), gallery.search(text="yellow", k=1)
    assert names(yellow) == "b" and red[0].box != yellow[0].box
    (best, *others) = gallery.search([QueryPart(text="red"), QueryPart(text="yellow")])
    assert (names([best]), best.box) == ("a", BOTTOM_RIGHT)
    assert others[0].score < best.score - 0.05


def test_a_picture_and_a_text(gallery: Gallery, folder: Path) -> None:
    as_picture = QueryPart(folder / "b.png", box=TOP_LEFT)
    asked = [as_picture, QueryPart(text="yellow")]
    hits = gallery.search(asked)
    assert hits == gallery.search(as_picture, text="yellow")
    assert hits == gallery.search(folder / "b.png", box=TOP_LEFT, text="yellow")
    assert (names(hits[:1]), hits[0].box) == ("a", BOTTOM_RIGHT)
    explanation = gallery.explain(asked, hits[0])
    assert explanation.parts == tuple(gallery.explain(part, hits[0]) for part in asked)
    assert max(region.score for region in explanation.regions) == hits[0].score
    assert explanation == gallery.explain(folder / "b.png", hits[0], box=TOP_LEFT, text="yellow")


def test_what_is_not_wanted_falls(gallery: Gallery, folder: Path) -> None:
    wanted = QueryPart(text="yellow")
    unwanted = QueryPart(folder / "a.png", box=BOTTOM_RIGHT, weight=-0.9)
    before, after = gallery.search(wanted), gallery.search([wanted, unwanted])
    assert names(before)[:2] == "ba" and names(after)[-1] == "a"
    pictured = folder / "a.png"
    scores = [
        {region.box: region.score for region in gallery.explain(query, pictured).regions}[BOTTOM_RIGHT]
        for query in (wanted, [wanted, unwanted])
    ]
    assert scores[0] > 0.8 and scores[1] < 0


def test_turning_away_is_done_region_by_region(gallery: Gallery, folder: Path) -> None:
    """What shows the unwanted elsewhere is still found by a region that does not."""
    asked = [QueryPart(text="white"), QueryPart(text="green", weight=-0.5)]
    hits = gallery.search(asked, k=2)
    assert set(names(hits)) == {"c", "d"} and hits[0].score == pytest.approx(hits[1].score, abs=1e-3)
    before, after = (
        {region.box: region.score for region in gallery.explain(query, folder / "c.png").regions}
        for query in (asked[:1], asked)
    )
    assert after[TOP_LEFT] < before[TOP_LEFT] - 0.2 and after[TOP_RIGHT] > 0.7


def test_the_scores_of_the_parts(gallery: Gallery, folder: Path) -> None:
    """Those of the winning region; weighted and added they give the score, but for the length of the sum."""
    parts = [
        QueryPart(folder / "d.png", weight=0.7),
        QueryPart(text="orange", weight=2),
        QueryPart(text="blue", weight=-0.4),
    ]
    hits = gallery.search(parts, k=10)
    singles = [QueryPart(parts[0].picture), *(QueryPart(text=part.text) for part in parts[1:])]
    factors = set()
    for hit in hits:
        place = [(region.box, region.level) for region in gallery.explain(parts, hit).regions].index(
            (hit.box, hit.level)
        )
        alone = [gallery.explain(single, hit).regions[place].score for single in singles]
        assert hit.part_scores == pytest.approx(alone, abs=1e-6)
        factors.add(round(hit.score / np.dot(hit.part_scores, [0.7, 2, -0.4]), 4))
    assert len(factors) == 1
    assert [hit.part_scores for hit in gallery.search(parts[::-1], k=10)] == [hit.part_scores[::-1] for hit in hits]


def test_the_order_of_the_parts_does_not_matter(gallery: Gallery, folder: Path) -> None:
    parts = [QueryPart(folder / "a.png", weight=0.3), QueryPart(text="red"), QueryPart(text="black", weight=-0.7)]
    answers = []
    for order in itertools.permutations(parts):
        hits = gallery.search(list(order))
        answers.append([(hit.path, hit.score, hit.box, hit.regions) for hit in hits])
    assert all(answer == answers[0] for answer in answers)


def test_a_part_without_weight_is_left_out(gallery: Gallery, folder: Path) -> None:
    alone = gallery.search(text="red")
    both = gallery.search([QueryPart(text="red"), QueryPart(folder / "c.png", weight=0)])
    assert [(hit.path, hit.score, hit.box) for hit in both] == [(hit.path, hit.score, hit.box) for hit in alone]
    assert all(len(hit.part_scores) == 2 for hit in both)


weight = st.floats(-2, 2).filter(lambda number: abs(number) > 0.05)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from("abcd"), weight), max_size=2),
    st.dictionaries(st.sampled_from(["red", "blue white", "green"]), weight),
)
def test_hits_are_those_of_a_plain_sum_of_scores(
    gallery: Gallery, folder: Path, pictures: list[tuple[str, float]], texts: dict[str, float]
) -> None:
    """Compared with: cut each quarter by Pillow, score it with each part, add, take the best quarter of each image."""
    parts = [QueryPart(folder / f"{name}.png", weight=number) for name, number in pictures]
    parts += [QueryPart(text=text, weight=number) for text, number in texts.items()]
    assume(any(part.weight > 0 for part in parts))
    encoder = ColourEncoder()
    vectors = [query_vector(encoder, folder / f"{name}.png") for name, _ in pictures]
    vectors += list(encoder.encode_texts(list(texts))) if texts else []
    numbers = np.array([part.weight for part in parts])
    length = float(np.linalg.norm(numbers @ np.array(vectors, dtype=np.float64)))
    assume(length > 0.05)
    expected = {}
    for name, colours in SCENES.items():
        scene = quarters(*colours)
        boxes = [(0, 0, 96, 64), TOP_LEFT, TOP_RIGHT, (0, 32, 48, 64), BOTTOM_RIGHT]
        regions = np.stack([query_vector(encoder, scene.crop(box)) for box in boxes])
        expected[name] = float((regions @ np.array(vectors).T @ numbers).max() / length)
    hits = gallery.search(parts)
    assert {names([hit]): hit.score for hit in hits} == pytest.approx(expected, abs=5e-3)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


# Many queries


def test_many_queries_of_every_kind(gallery: Gallery, folder: Path) -> None:
    queries: list[Any] = [
        (folder / "a.png", None),
        QueryPart(text="red"),
        [QueryPart(folder / "b.png", box=TOP_LEFT), QueryPart(text="yellow", weight=0.5)],
        [QueryPart(text="red", weight=-1)],
        (folder / "a.png", BOTTOM_RIGHT),
    ]
    answers = list(gallery.search_many(iter(queries), k=3))
    assert [answer.query for answer in answers] == [
        f"{folder}/a.png",
        "red",
        f'{folder}/b.png[0,0,48,32] + 0.5*"yellow"',
        "red",
        f"{folder}/a.png",
    ]
    assert [answer.box for answer in answers] == [None, None, None, None, BOTTOM_RIGHT]
    assert [bool(answer.error) for answer in answers] == [False, False, False, True, False]
    assert "nothing is wanted" in str(answers[3].error) and answers[3].hits == ()
    for number in (1, 2):
        assert list(answers[number].hits) == gallery.search(queries[number], k=3)
        assert answers[number].parts == tuple(queries[number] if number == 2 else [queries[number]])
    vectors = gallery.query_vectors(queries)
    assert isinstance(vectors[3], UsageError)
    usable = np.stack([vector for vector in vectors if isinstance(vector, np.ndarray)])
    found = list(gallery.search_vectors(usable, k=3))
    assert [names(hits) for hits in found] == [names(list(answer.hits)) for answer in answers if not answer.error]


def test_queries_that_make_no_sense(gallery: Gallery, folder: Path) -> None:
    for query in (
        None,
        [],
        [QueryPart(text="red", weight=0)],
        [QueryPart(text="red"), QueryPart(text="red", weight=-1)],
    ):
        with pytest.raises(UsageError):
            gallery.search(query)
    with pytest.raises(UsageError, match="a box goes with one picture"):
        gallery.search([folder / "a.png"], box=TOP_LEFT)
