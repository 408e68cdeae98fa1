"""The runner against brute force over the stored vectors: ranks, ties, duplicates, depth, boxes."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import FakeEncoder
from patchwise import Gallery
from patchwise.boxes import iou_xyxy
from patchwise.errors import ImageUnreadable, UsageError
from patchwise.evaluation import runner
from patchwise.evaluation.datasets import Benchmark, Query
from patchwise.evaluation.outcomes import QueryOutcome, Run
from patchwise.evaluation.runner import evaluate, oracle_boxes

IMAGES = 14
Picture = Callable[..., Image.Image]


@pytest.fixture
def root(tmp_path: Path, picture: Picture) -> Path:
    folder = tmp_path / "data"
    (folder / "more").mkdir(parents=True)
    for seed in range(IMAGES):
        name = f"{seed:02d}.png" if seed < 10 else f"more/{seed:02d}.png"
        picture(seed, (96 + 8 * (seed % 3), 64)).save(folder / name)
    shutil.copy(folder / "03.png", folder / "more" / "03 again.png")
    (folder / "not listed.png").write_bytes((folder / "05.png").read_bytes())
    return folder


def ids(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in sorted(root.rglob("*.png")) if path.name != "not listed.png"]


def benchmark(root: Path, depth: int | None = None, **changes: object) -> Benchmark:
    queries = (
        Query("a", root / "02.png", None, {"02.png": ((0, 0, 50, 32), (40, 20, 112, 64)), "07.png": ()}, group="one"),
        Query("b", root / "05.png", (10, 5, 60, 40), {"05.png": ((0, 0, 96, 64),), "03.png": ((48, 32, 96, 64),)}),
        Query("c", root / "03.png", None, {"more/03 again.png": ((0, 0, 48, 32),), "03.png": ((0, 0, 96, 64),)}),
        Query("d", root / "08.png", None, {"more/11.png": ((1, 1, 9, 9),)}, ignored=frozenset({"08.png", "03.png"})),
        Query("nothing to find", root / "08.png", None, {}),
    )
    return Benchmark(
        **{"name": "small", "root": root, "image_ids": ids(root), "queries": queries, "depth": depth} | changes
    )


def run(asked: Benchmark, tmp_path: Path, regions: str = "pyramid:1", **how: object) -> tuple[Run, Gallery]:
    gallery = Gallery.create(tmp_path / f"{regions.replace(':', '')}.pw", encoder=FakeEncoder(), regions=regions)
    return evaluate(asked, gallery, **how), gallery  # type: ignore[arg-type]


def brute_force(asked: Benchmark, query: Query, gallery: Gallery) -> list[tuple[float, str, int]]:
    """(score, id, winning region) of every image that counts, best first, ties by id."""
    snapshot, _ = gallery.current()
    vector = gallery.query_vectors([(query.image, query.box)])[0]
    ranking = []
    for image in asked.image_ids:
        picture = snapshot.index_of_path(str(asked.root / image))
        if picture is None or image in query.ignored:
            continue
        scores = snapshot.vectors(picture).astype(np.float64) @ np.asarray(vector, dtype=np.float64)
        ranking.append((float(scores.max()), image, int(scores.argmax())))
    return sorted(ranking, key=lambda item: (-round(item[0], 9), item[1]))


def check(asked: Benchmark, query: Query, outcome: QueryOutcome, gallery: Gallery) -> None:
    ranking = brute_force(asked, query, gallery)
    snapshot, _ = gallery.current()
    place = {image: index for index, (_, image, _) in enumerate(ranking)}
    assert {item.image for item in (*outcome.found, *outcome.missed)} == set(query.positives)
    for found in outcome.found:
        score, _, region = ranking[found.rank - 1]
        assert ranking[found.rank - 1][1] == found.image
        assert found.score == pytest.approx(score, abs=1e-9)
        last = max(index for index, (other, _, _) in enumerate(ranking) if abs(other - score) < 1e-9)
        assert found.last_rank == last + 1
        picture = snapshot.index_of_path(str(asked.root / found.image))
        assert picture is not None and found.box == tuple(snapshot.regions(picture).boxes[region].tolist())
        truth = query.positives[found.image]
        assert found.iou == (pytest.approx(iou_xyxy(found.box, truth).max()) if truth else None)
    assert all(place.get(item.image, 10**9) >= (asked.depth or 0) for item in outcome.missed)


@pytest.mark.parametrize("regions", ["whole", "pyramid:1", "pyramid:3"])
@pytest.mark.parametrize("depth", [None, 1000, 4, 1])
def test_ranks_and_boxes_are_those_of_brute_force(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, depth: int | None, regions: str
) -> None:
    monkeypatch.setattr(runner, "_SCORES_AT_ONCE", 20)  # so that the best are picked, as among millions of images
    asked = benchmark(root, depth)
    rankings: dict[str, tuple[list[str], np.ndarray]] = {}
    keep = lambda query, names, scores: rankings.update({query.id: (names, scores)})  # noqa: E731
    found, gallery = run(asked, tmp_path, regions, ranked=keep)
    with gallery:
        assert [outcome.query for outcome in found.outcomes] == ["a", "b", "c", "d"]
        for query, outcome in zip(asked.queries, found.outcomes, strict=False):
            check(asked, query, outcome, gallery)
            expected = brute_force(asked, query, gallery)[:depth]
            assert rankings[query.id][0] == [image for _, image, _ in expected]
            np.testing.assert_allclose(rankings[query.id][1], [score for score, _, _ in expected], atol=2e-6)
        if depth is None or depth >= len(asked.image_ids):
            assert all(not outcome.missed for outcome in found.outcomes)


def test_however_little_is_compared_at_once(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = benchmark(root)
    everything, gallery = run(asked, tmp_path)
    with gallery:
        monkeypatch.setattr(runner, "_SCORES_AT_ONCE", 1)
        monkeypatch.setattr(runner, "_COMPARED_AT_ONCE", 1)
        monkeypatch.setattr(runner, "_ENCODED_AT_ONCE", 1)
        little = evaluate(asked, gallery)
    for one, other in zip(everything.outcomes, little.outcomes, strict=True):
        assert [(found.image, found.rank, found.box) for found in one.found] == [
            (found.image, found.rank, found.box) for found in other.found
        ]


def test_identical_files_are_as_many_images_and_tie(root: Path, tmp_path: Path) -> None:
    found, gallery = run(benchmark(root), tmp_path)
    gallery.close()
    both = {item.image: item for item in found.outcomes[2].found}
    assert (both["03.png"].rank, both["03.png"].last_rank) == (1, 2)
    assert (both["more/03 again.png"].rank, both["more/03 again.png"].last_rank) == (2, 2)
    assert both["03.png"].score == both["more/03 again.png"].score


def test_what_the_run_says_of_itself(root: Path, tmp_path: Path) -> None:
    (root / "broken.png").write_bytes(b"no image")
    asked = benchmark(root, 10, image_ids=[*ids(root), "gone.png"], average_precision="at depth")
    events: list[tuple[int, int]] = []
    found, gallery = run(asked, tmp_path, searching=lambda done, total: events.append((done, total)))
    gallery.close()
    assert (found.benchmark, found.strategy, found.depth, found.average_precision) == (
        "small", "pyramid:1", 10, "at depth",
    )  # fmt: skip
    assert found.encoder["id"] == "fake"
    assert found.costs["regions_per_image"] == 5 and found.costs["seconds_per_query"] > 0
    assert found.costs["bytes_per_image"] > 5 * 48 * 2
    assert found.details["unreadable_images"] == 2 and found.details["queries_without_positives"] == 1
    assert events == [(number, 4) for number in range(1, 5)]
    assert found.outcomes[0].group == "one"
    [share] = [item.object_share for item in found.outcomes[0].found if item.image == "02.png"]
    assert share == pytest.approx(72 * 44 / (112 * 64))


def test_a_positive_that_cannot_be_read_is_missed(root: Path, tmp_path: Path) -> None:
    (root / "07.png").write_bytes(b"no image")
    found, gallery = run(benchmark(root), tmp_path)
    gallery.close()
    assert [item.image for item in found.outcomes[0].missed] == ["07.png"]
    assert found.outcomes[0].positives == 2


def test_again_nothing_is_encoded_and_what_is_not_listed_is_dropped(root: Path, tmp_path: Path) -> None:
    first, gallery = run(benchmark(root), tmp_path)
    with gallery:
        again = evaluate(benchmark(root), gallery)
        assert again.costs["encoded_regions"] == 0 < first.costs["encoded_regions"]
        assert again.outcomes == first.outcomes
        fewer = evaluate(benchmark(root, image_ids=[name for name in ids(root) if name != "00.png"]), gallery)
        assert fewer.details["images"] == first.details["images"] - 1


def test_a_query_that_cannot_be_used_stops_the_run(root: Path, tmp_path: Path) -> None:
    asked = benchmark(root, queries=(Query("x", root / "none.png", None, {"00.png": ()}),))
    with pytest.raises(ImageUnreadable, match=r"none\.png"):
        run(asked, tmp_path)


def test_a_benchmark_without_positives_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="benchmark small: no query has a positive"):
        run(benchmark(root, queries=(Query("x", root / "00.png", None, {}),)), tmp_path)


def test_the_oracle_has_every_box_once(root: Path) -> None:
    boxes = oracle_boxes(benchmark(root))
    assert boxes[str(root / "02.png")] == [(0, 0, 50, 32), (40, 20, 112, 64)]
    assert boxes[str(root / "03.png")] == [(48, 32, 96, 64), (0, 0, 96, 64)]
    assert str(root / "00.png") not in boxes


def test_images_inside_tar_files(root: Path, tmp_path: Path) -> None:
    """Distractors of ILIAS stay in the archives they come in."""
    with tarfile.open(root / "shard.tar", "w") as archive:
        for seed in (4, 6):
            archive.add(root / f"{seed:02d}.png", f"key{seed}.png")
            (root / f"{seed:02d}.png").unlink()
    packed = ["shard.tar/key4.png", "shard.tar/key6.png"]
    query = Query("q", root / "02.png", None, {"shard.tar/key6.png": ((0, 0, 48, 32),)})
    asked = benchmark(root, image_ids=[*ids(root), *packed, "shard.tar/none.png"], queries=(query,))
    found, gallery = run(asked, tmp_path)
    with gallery:
        check(asked, query, found.outcomes[0], gallery)
        assert found.details["unreadable_images"] == 1
        assert evaluate(asked, gallery).costs["encoded_regions"] == 0
        assert gallery.verify().problems == []


def test_a_second_look_decides_order_and_boxes_of_as_many_images_as_it_takes(root: Path, tmp_path: Path) -> None:
    asked = benchmark(root)
    plain, gallery = run(asked, tmp_path)
    looked = evaluate(asked, gallery, rerank="refine:4")
    assert looked.strategy == "pyramid:1 + refine:4"
    for before, after, query in zip(plain.outcomes, looked.outcomes, asked.queries, strict=False):
        ranking = [image for _, image, _ in brute_force(asked, query, gallery)]
        hits = gallery.search(query.image, box=query.box, k=4 + len(query.ignored))
        first = [name for hit in hits if (name := hit.path[len(str(root)) + 1 :]) not in query.ignored][:4]
        assert set(first) == set(ranking[:4])
        by_image = {item.image: item for item in before.found}
        refined = gallery.search(query.image, box=query.box, k=4, rerank="refine:4") if not query.ignored else []
        scores = {hit.path[len(str(root)) + 1 :]: (hit.score, hit.box) for hit in refined}
        for item in after.found:
            assert (item.rank <= 4) == (item.image in first)
            if item.image not in first:
                assert item == by_image[item.image]
            elif scores:
                assert (item.score, item.box) == scores[item.image]


def test_rankings_of_a_second_look_fall_and_hold_the_same_images(root: Path, tmp_path: Path) -> None:
    asked = benchmark(root)
    written: dict[str, dict[str, tuple[list[str], list[float]]]] = {"": {}, "refine:3": {}}
    gallery = run(asked, tmp_path)[1]
    for look, rankings in written.items():

        def keep(query: Query, found: Sequence[str], scores: np.ndarray, own: dict = rankings) -> None:  # type: ignore[type-arg]
            own[query.id] = (list(found), scores.tolist())

        evaluate(asked, gallery, rerank=look, ranked=keep)
    for query, (found, scores) in written["refine:3"].items():
        assert set(found[:3]) == set(written[""][query][0][:3])
        assert found[3:] == written[""][query][0][3:]
        assert all(a >= b for a, b in pairwise(scores))


def test_an_unknown_second_look_is_refused_before_anything_is_indexed(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="refine"):
        run(benchmark(root), tmp_path, rerank="magic:3")
