"""Re-rankers in a gallery: what they are given, how deep they look, and what becomes of the hits behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from PIL import Image

from conftest import FakeEncoder, make_picture
from patchwise import Gallery, Hit, QueryPart
from patchwise.errors import ImageError, UsageError
from patchwise.images import Picture
from patchwise.rerank import RERANKERS, Question, Setting, registry
from patchwise.rerank.registry import Kind
from patchwise.search import Geometry
from patchwise.second_look import NoLongerWanted, looking_while


class Backwards:
    """Turns the first hits round, and remembers what it was asked."""

    name = "backwards"

    def __init__(self, setting: Setting, depth: int) -> None:
        self.setting, self.depth = setting, depth
        self.questions: list[Question] = []
        self.seen: list[list[Hit]] = []

    def rerank(self, question: Question, hits: Sequence[Hit]) -> list[Hit]:
        self.questions.append(question)
        self.seen.append(list(hits))
        turned = [replace(hit, score=-place / 10) for place, hit in enumerate(reversed(hits[: self.depth]))]
        return [*turned, *hits[self.depth :]]


@pytest.fixture
def backwards(monkeypatch: pytest.MonkeyPatch) -> list[Backwards]:
    """`backwards` can be asked for; the list holds those that were made."""
    made: list[Backwards] = []

    def make(setting: Setting, depth: int, *_: object) -> Backwards:
        made.append(Backwards(setting, depth))
        return made[-1]

    kind = replace_make(RERANKERS["refine"], make)
    monkeypatch.setattr(registry, "RERANKERS", MappingProxyType({**RERANKERS, "backwards": kind}))
    return made


def replace_make(kind: Kind, make: Callable[..., Backwards]) -> Kind:
    return kind._replace(make=make, depth=3)


def names(hits: Sequence[Hit]) -> list[str]:
    return [Path(hit.path).name for hit in hits]


def test_the_first_hits_are_turned_and_the_rest_follows(
    gallery: Gallery, pictures: Path, backwards: list[Backwards]
) -> None:
    plain = names(gallery.search(pictures / "02.png", k=6))
    looked = gallery.search(pictures / "02.png", k=6, rerank="backwards")
    assert names(looked) == [*plain[2::-1], *plain[3:]]
    assert [hit.rank for hit in looked] == [1, 2, 3, 4, 5, 6]
    again = gallery.search(pictures / "02.png", k=6, rerank="backwards:4,backwards:2")
    turned = [*plain[3::-1], *plain[4:]]
    assert names(again) == [*turned[1::-1], *turned[2:]]


@pytest.mark.parametrize(("k", "offset"), [(1, 0), (2, 1), (3, 2), (2, 5)])
def test_pages_are_cut_from_what_the_second_look_left(
    gallery: Gallery, pictures: Path, backwards: list[Backwards], k: int, offset: int
) -> None:
    whole = gallery.search(pictures / "02.png", k=6, rerank="backwards:4")
    page = gallery.search(pictures / "02.png", k=k, offset=offset, rerank="backwards:4")
    assert page == whole[offset : offset + k]
    assert len(backwards[-1].seen[0]) == min(max(4, k + offset), 6)


def test_weak_hits_are_left_out_by_their_score_after_it(
    gallery: Gallery, pictures: Path, backwards: list[Backwards]
) -> None:
    looked = gallery.search(pictures / "02.png", k=6, rerank="backwards:6", min_score=-0.25)
    assert [hit.score for hit in looked] == [0.0, -0.1, -0.2]


def test_the_picture_that_was_asked_for(gallery: Gallery, pictures: Path, backwards: list[Backwards]) -> None:
    """Upright, cut to its box, opened only when it is wanted; none where the query is not one picture."""
    gallery.search(pictures / "02.png", box=(4.5, 3, 20, 19.25), rerank="backwards")
    question = backwards[-1].questions[0]
    with Image.open(pictures / "02.png") as image:
        whole = np.asarray(image.convert("RGB"))
    (pictures / "02.png").rename(pictures / "away.png")
    with pytest.raises(ImageError):
        _ = question.picture
    (pictures / "away.png").rename(pictures / "02.png")
    assert question.picture is not None
    np.testing.assert_array_equal(np.asarray(question.picture), whole[3:20, 4:20])
    assert question.parts is None

    gallery.search([pictures / "02.png", QueryPart(pictures / "03.png", weight=0.5)], rerank="backwards")
    several = backwards[-1].questions[0]
    assert several.picture is None
    assert several.parts is not None
    assert several.parts.shape == (2, FakeEncoder.dimension)


def test_what_of_the_gallery_it_may_use(gallery: Gallery, pictures: Path, backwards: list[Backwards]) -> None:
    first, *_ = gallery.search(pictures / "02.png", rerank="backwards:1")
    setting = backwards[-1].setting
    assert setting.encoder is gallery.encoder
    picture = setting.read(first)
    assert isinstance(picture, Picture)
    assert picture.size == first.size == (32, 24)
    snapshot = gallery.snapshot()
    index = snapshot.index_of_path(first.path)
    assert index is not None
    boxes, vectors = setting.stored(first)
    np.testing.assert_array_equal(vectors, snapshot.vectors(index))
    np.testing.assert_array_equal(boxes, snapshot.regions(index).boxes)
    with pytest.raises(ImageError, match="no longer in the gallery"):
        setting.stored(replace(first, path=str(pictures / "never.png")))
    Path(first.path).unlink()
    with pytest.raises(ImageError):
        setting.read(first)


def test_many_queries_are_looked_at_one_by_one(gallery: Gallery, pictures: Path, backwards: list[Backwards]) -> None:
    asked = [(pictures / f"{number:02d}.png", None) for number in (1, 9, 4)]
    answers = list(gallery.search_many(asked, k=2, rerank="backwards:2"))
    assert [answer.error is None for answer in answers] == [True, False, True]
    for answer, number in ((answers[0], 1), (answers[2], 4)):
        assert names(answer.hits) == names(gallery.search(pictures / f"{number:02d}.png", k=2))[::-1]
    assert len(backwards) == 1


@pytest.mark.parametrize("asked", ["magic", "refine:x", "refine,,refine", "refine:-1"])
def test_an_unknown_second_look_is_refused(gallery: Gallery, pictures: Path, asked: str) -> None:
    with pytest.raises(UsageError):
        gallery.search(pictures / "02.png", rerank=asked)


def test_no_second_look_is_no_work(gallery: Gallery, pictures: Path) -> None:
    assert gallery.search(pictures / "02.png", rerank="") == gallery.search(pictures / "02.png", rerank="  ")
    assert isinstance(gallery.encoder, FakeEncoder)
    before = gallery.encoder.encoded_regions
    gallery.search(pictures / "02.png")
    assert gallery.encoder.encoded_regions == before + 1
    gallery.search(pictures / "02.png", rerank="refine:1")
    assert gallery.encoder.encoded_regions > before + 2


def test_what_was_computed_of_a_picture_is_kept(gallery: Gallery, pictures: Path, backwards: list[Backwards]) -> None:
    """While the file is the one that was indexed, and the picture in the gallery."""
    first, *_ = gallery.search(pictures / "02.png", rerank="backwards:1")
    remembered = backwards[-1].setting.remembered
    computed = []

    def mean(picture: Picture) -> dict[str, np.ndarray]:
        computed.append(picture.size)
        return {"mean": np.asarray(picture.pixels).mean(axis=(0, 1))}

    once, again = remembered(first, "mean", mean), remembered(first, "mean", mean)
    np.testing.assert_array_equal(once["mean"], again["mean"])
    assert computed == [(32, 24)]
    remembered(first, "another mean", mean)
    assert len(computed) == 2
    size = gallery.info().bytes_per_image
    remembered(first, "noise", lambda _: {"noise": np.random.default_rng(0).random(100_000)})
    assert gallery.info().bytes_per_image == size
    gallery.remove(first.path)
    assert not [file for file in (gallery.path / "remembered").rglob("*") if file.is_file()]


def test_a_query_that_is_gone_by_the_second_look_is_an_error_of_its_own(
    gallery: Gallery, pictures: Path, backwards: list[Backwards], monkeypatch: pytest.MonkeyPatch
) -> None:
    def looking(self: Backwards, question: Question, hits: Sequence[Hit]) -> list[Hit]:
        if len(self.questions) == 0:
            (pictures / "01.png").unlink(missing_ok=True)
        self.questions.append(question)
        assert question.picture is not None
        return list(hits)

    monkeypatch.setattr(Backwards, "rerank", looking)
    asked = [(pictures / f"{number:02d}.png", None) for number in (0, 1, 2)]
    answers = list(gallery.search_many(asked, k=2, rerank="backwards:2"))
    assert [answer.error is None for answer in answers] == [True, False, True]
    assert "01.png" in str(answers[1].error)
    with pytest.raises(ImageError):
        next(iter([gallery.search(pictures / "01.png", rerank="backwards:2")]))


def test_a_file_that_is_another_by_now_is_not_looked_at(
    gallery: Gallery, pictures: Path, backwards: list[Backwards]
) -> None:
    """As large as before, and not what was indexed."""
    first, *_ = gallery.search(pictures / "02.png", rerank="backwards:1")
    setting = backwards[-1].setting
    make_picture(77, (32, 24)).save(pictures / "02.png")
    with pytest.raises(ImageError, match="changed since it was indexed"):
        setting.read(first)
    with pytest.raises(ImageError, match="changed since it was indexed"):
        setting.remembered(first, "mean", lambda _: {})
    asked = Image.open(pictures / "03.png")
    found = {hit.path: hit for hit in gallery.search(asked, k=6, rerank="refine:6")}
    plain = {hit.path: hit for hit in gallery.search(asked, k=6)}
    changed, same = str(pictures / "02.png"), str(pictures / "03.png")
    assert replace(found[changed], rank=0) == replace(plain[changed], rank=0)
    assert found[same].level == -1


@pytest.mark.parametrize("look", ["refine:6", "zoom:6"])
def test_a_verified_outline_stays(
    gallery: Gallery, pictures: Path, backwards: list[Backwards], monkeypatch: pytest.MonkeyPatch, look: str
) -> None:
    geometry = Geometry("verified", 20, ((1.0, 1.0), (9.0, 1.0), (9.0, 9.0), (1.0, 9.0)))

    def verifying(self: Backwards, question: Question, hits: Sequence[Hit]) -> list[Hit]:
        return [replace(hits[0], geometry=geometry, box=(1.0, 1.0, 9.0, 9.0)), *hits[1:]]

    monkeypatch.setattr(Backwards, "rerank", verifying)
    first, *others = gallery.search(pictures / "02.png", k=6, rerank=f"backwards:1,{look}")
    assert (first.geometry, first.box, first.level) == (geometry, (1.0, 1.0, 9.0, 9.0), 0)
    assert look == "zoom:6" or all(hit.level == -1 for hit in others)


@pytest.mark.parametrize("rerank", ["refine:6", "zoom:6", "geometric:6", "neighbours:6", "refine:1,refine:1"])
def test_an_answer_that_nobody_waits_for_is_given_up_between_hits(
    gallery: Gallery, pictures: Path, rerank: str
) -> None:
    if rerank.startswith("geometric"):
        pytest.importorskip("cv2")
    asked: list[bool] = []

    def still_wanted() -> bool:
        asked.append(True)
        return len(asked) < 2

    with looking_while(still_wanted), pytest.raises(NoLongerWanted):
        gallery.search(pictures / "02.png", rerank=rerank)
    assert len(asked) == 2
    with looking_while(lambda: True):
        wanted = names(gallery.search(pictures / "02.png", rerank=rerank))
    assert wanted == names(gallery.search(pictures / "02.png", rerank=rerank)) and len(asked) == 2
