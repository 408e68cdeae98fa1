"""Expansion, fusion and one row for near-duplicates, through `Gallery.search` and page by page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from conftest import FakeEncoder, make_picture
from patchwise import Gallery, Hit, QueryPart
from patchwise.errors import UsageError
from patchwise.search import expanded

SINGLE = 30
SIZE = (96, 64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty pictures, and of 00 to 02 two near-duplicates each: darker, and smaller as a JPEG."""
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(SINGLE):
        picture = make_picture(seed, SIZE)
        picture.save(folder / f"{seed:02d}.png")
        if seed < 3:
            ImageEnhance.Brightness(picture).enhance(0.95).save(folder / f"{seed:02d} darker.png")
            picture.resize((72, 48), Image.Resampling.BICUBIC).save(folder / f"{seed:02d} small.jpg", quality=80)
    return folder


@pytest.fixture(scope="module")
def gallery(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gallery]:
    place = tmp_path_factory.mktemp("gallery") / "g"
    with Gallery.create(place, encoder=FakeEncoder(), regions="pyramid:3") as made:
        made.add(folder)
        yield made


def names(hits: list[Hit]) -> list[str]:
    return [Path(hit.path).name for hit in hits]


# Near-duplicates


def test_near_duplicates_are_one_hit_with_its_members(gallery: Gallery, folder: Path) -> None:
    plain = gallery.search(folder / "01.png", k=36)
    assert set(names(plain)[:3]) == {"01.png", "01 darker.png", "01 small.jpg"}
    collapsed = gallery.search(folder / "01.png", k=36, collapse=True)
    assert len(collapsed) == SINGLE
    first = collapsed[0]
    assert {first.path, *(hit.path for hit in first.alike)} == {hit.path for hit in plain[:3]}
    assert [hit.rank for hit in collapsed] == list(range(1, SINGLE + 1))
    members = [hit for group in collapsed for hit in (group, *group.alike)]
    assert sorted(hit.path for hit in members) == sorted(hit.path for hit in plain)
    by_path = {hit.path: hit for hit in plain}
    assert all((hit.score, hit.box) == (by_path[hit.path].score, by_path[hit.path].box) for hit in members)


@pytest.mark.parametrize(("k", "offset"), [(1, 0), (3, 0), (5, 7), (4, 28), (3, 40)])
def test_pages_of_groups(gallery: Gallery, folder: Path, k: int, offset: int) -> None:
    """As many groups as were asked for, however many pictures that takes; none is missing, none comes twice."""
    whole = gallery.search(folder / "01.png", k=36, collapse=True)
    page = gallery.search(folder / "01.png", k=k, offset=offset, collapse=True)
    assert names(page) == names(whole)[offset : offset + k]
    assert [hit.rank for hit in page] == list(range(offset + 1, offset + 1 + len(page)))


def test_groups_above_a_score(gallery: Gallery, folder: Path) -> None:
    whole = gallery.search(folder / "01.png", k=36, collapse=True)
    least = whole[4].score
    assert names(gallery.search(folder / "01.png", k=36, min_score=least, collapse=True)) == names(whole)[:5]


# Expansion


def test_a_query_expands_by_what_matches(gallery: Gallery, folder: Path) -> None:
    """By hand: the first hits match; the mean of the query and their best regions is asked for again."""
    first = gallery.search(folder / "02.png", k=33)
    sure = [hit for hit in first if hit.matches]
    assert 0 < len(sure) < 10
    (vector,) = gallery.query_vectors([(folder / "02.png", None)])
    assert isinstance(vector, np.ndarray)
    of_sure = [gallery.vectors(hit).astype("f4") for hit in sure]
    best = np.stack([stored[(stored @ vector).argmax()] for stored in of_sure])
    wider = expanded(vector, best, best @ vector, "average")
    (again,) = gallery.search_vectors(wider[None], k=33)
    looked = gallery.search(folder / "02.png", k=33, expand="average")
    assert names(looked)[: len(sure)] == names(sure)
    rest = [hit for hit in again if hit.path not in {one.path for one in sure}]
    assert names(looked)[len(sure) :] == names(rest)
    assert [hit.score for hit in looked[len(sure) :]] == pytest.approx([hit.score for hit in rest])
    assert [hit.rank for hit in looked] == list(range(1, 34))


def test_without_a_match_nothing_expands(gallery: Gallery, tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(5).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    hits = gallery.search(noise, k=10)
    assert not any(hit.matches for hit in hits)
    assert gallery.search(noise, k=10, expand="alpha:3") == hits


# Fusion


def test_each_picture_is_asked_for_by_itself(gallery: Gallery, folder: Path) -> None:
    """The mean and the maximum of an image's scores for the two pictures, over all images, by brute force."""
    asked = [folder / "04.png", QueryPart(folder / "05.png", box=(0, 0, 48, 32))]
    alone = [{hit.path: hit for hit in gallery.search(part, k=36)} for part in asked]
    for method, combine in (("mean", np.mean), ("max", np.max)):
        hits = gallery.search(asked, k=8, fuse=method)
        expected = sorted(alone[0], key=lambda path: (-float(combine([own[path].score for own in alone])), path))
        assert [hit.path for hit in hits] == expected[:8]
        for hit in hits:
            own = [each[hit.path].score for each in alone]
            assert hit.score == pytest.approx(combine(own))
            assert hit.part_scores == pytest.approx(own)
            assert hit.box == alone[int(np.argmax(own))][hit.path].box
        assert gallery.search(asked, k=3, offset=2, fuse=method) == [
            replace(hit, rank=rank) for rank, hit in enumerate(hits[2:5], 3)
        ]


def test_one_picture_has_nothing_to_fuse(gallery: Gallery, folder: Path) -> None:
    assert gallery.search(folder / "04.png", fuse="mean") == gallery.search(folder / "04.png")


def test_what_is_not_wanted_is_not_asked_for_by_itself(gallery: Gallery, folder: Path) -> None:
    parts = [QueryPart(folder / "04.png"), QueryPart(folder / "05.png", weight=-1)]
    with pytest.raises(UsageError, match="--fuse goes without --not"):
        gallery.search(parts, fuse="mean")
    (answer,) = gallery.search_many([parts], fuse="mean")
    assert "--fuse goes without --not" in str(answer.error)
    with pytest.raises(UsageError, match="--fuse goes without --weights"):
        gallery.search([parts[0], QueryPart(folder / "05.png", weight=2)], fuse="max")


@pytest.mark.parametrize(
    ("wrong", "part"),
    [({"fuse": "sum"}, "mean"), ({"expand": "much"}, "alpha"), ({"k": 0}, "k must be"), ({"offset": -1}, "offset")],
)
def test_what_cannot_be_done_is_refused(gallery: Gallery, folder: Path, wrong: dict[str, object], part: str) -> None:
    with pytest.raises(UsageError, match=part):
        gallery.search(folder / "04.png", **wrong)  # type: ignore[arg-type]


def test_all_of_it_together(gallery: Gallery, folder: Path) -> None:
    """Second looks, expansion, fusion and groups in one search: each image once, in order, as many as asked."""
    hits = gallery.search(
        [folder / "00.png", folder / "01.png"], k=10, rerank="refine:4", expand="average", fuse="max", collapse=True
    )
    members = [hit.path for group in hits for hit in (group, *group.alike)]
    assert len(hits) == 10
    assert len(set(members)) == len(members)
    assert {Path(path).name[:2] for path in members[:6]} == {"00", "01"}


def test_pages_above_a_score_after_a_second_look(gallery: Gallery, folder: Path) -> None:
    """Hits that fall below it by the second look make room for those behind them, on one page or on many."""
    whole = gallery.search(folder / "06.png", k=36, rerank="refine:6")
    least = sorted(hit.score for hit in whole)[18]
    passing = [hit.path for hit in whole if hit.score >= least]
    one = gallery.search(folder / "06.png", k=len(passing), rerank="refine:6", min_score=least)
    assert [hit.path for hit in one] == passing
    pages = [
        hit.path
        for offset in range(0, 36, 4)
        for hit in gallery.search(folder / "06.png", k=4, offset=offset, rerank="refine:6", min_score=least)
    ]
    assert pages == passing


@pytest.mark.parametrize("method", ["mean", "max", "rank"])
def test_pages_of_fused_answers(gallery: Gallery, folder: Path, method: str) -> None:
    asked = [folder / "04.png", folder / "05.png"]
    whole = gallery.search(asked, k=36, fuse=method)
    pages = [hit for offset in range(0, 36, 5) for hit in gallery.search(asked, k=5, offset=offset, fuse=method)]
    assert pages == whole


def test_second_looks_are_taken_once(gallery: Gallery, folder: Path) -> None:
    """However many hits it takes until there are enough groups."""
    assert isinstance(gallery.encoder, FakeEncoder)
    before = gallery.encoder.encoded_regions
    gallery.search(folder / "01.png", k=5, rerank="refine:3")
    once = gallery.encoder.encoded_regions - before
    gallery.search(folder / "01.png", k=5, rerank="refine:3", collapse=True)
    assert gallery.encoder.encoded_regions - before == 2 * once


@pytest.mark.parametrize(
    "how", [{}, {"min_score": 0.1}, {"collapse": True}, {"expand": "average"}, {"fuse": "rank"}, {"rerank": "refine:3"}]
)
@pytest.mark.parametrize(
    ("limit", "said"), [({"where": "nosuch = 1"}, "nosuch"), ({"under": ["/nowhere"]}, "holds no image from there")]
)
def test_what_no_query_could_be_answered_with_is_refused_at_once_in_every_mode(
    gallery: Gallery, folder: Path, how: dict[str, object], limit: dict[str, object], said: str
) -> None:
    queries = [(folder / f"{seed:02d}.png", None) for seed in range(3)]
    with pytest.raises(UsageError, match=said) as many:
        list(gallery.search_many(queries, **limit, **how))  # type: ignore[arg-type]
    with pytest.raises(UsageError) as one:
        gallery.search(folder / "00.png", **limit, **how)  # type: ignore[arg-type]
    assert str(one.value) == str(many.value)
