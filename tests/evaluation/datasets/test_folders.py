"""A folder per instance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from patchwise.evaluation.datasets import read_benchmark
from patchwise.evaluation.datasets.folders import read_folders


@pytest.fixture
def root(tmp_path: Path, write_image: Callable[..., Path]) -> Path:
    root = tmp_path / "things"
    for name in ("mug/1.jpg", "mug/2.jpg", "mug/3.png", "cap/query/q.jpg", "cap/1.jpg", "cap/2.JPG", "lone/1.jpg"):
        write_image(root / name, (20, 10))
    write_image(root / "street.jpg")
    (root / "mug" / "notes.txt").write_text("not an image")
    write_image(root / ".cache" / "thumbnail.jpg")
    write_image(root / "mug" / ".hidden.jpg")
    return root


def test_leave_one_out_or_the_named_queries(root: Path) -> None:
    benchmark = read_benchmark("folders", root)
    assert benchmark.name == "folders things"
    everything = ["cap/1.jpg", "cap/2.JPG", "lone/1.jpg", "mug/1.jpg", "mug/2.jpg", "mug/3.png", "street.jpg"]
    assert list(benchmark.image_ids) == everything
    asked = {query.id: query for query in benchmark.queries}
    assert set(asked) == {"mug/1.jpg", "mug/2.jpg", "mug/3.png", "cap/query/q.jpg"}
    assert asked["mug/1.jpg"].positives == {"mug/2.jpg": (), "mug/3.png": ()}
    assert asked["mug/1.jpg"].ignored == {"mug/1.jpg"}
    assert asked["cap/query/q.jpg"].positives == {"cap/1.jpg": (), "cap/2.JPG": ()}
    assert asked["cap/query/q.jpg"].ignored == frozenset()
    assert asked["cap/query/q.jpg"].image == root / "cap" / "query" / "q.jpg"
    assert {query.group for query in benchmark.queries} == {"mug", "cap"}
    assert benchmark.notes == ("one image only, searched but not asked for: lone",)
    assert all((root / name).is_file() for name in benchmark.image_ids)


def test_folders_without_images_are_mentioned(root: Path, write_image: Callable[..., Path]) -> None:
    write_image(root / "deep" / "deeper" / "1.jpg")
    assert "folders without images directly in them: deep" in read_folders(root).notes


def test_what_is_missing_is_said(root: Path, tmp_path: Path, refusal: Callable[..., str]) -> None:
    (root / "cap" / "query" / "q.jpg").unlink()
    assert f"{root}/cap/query: holds no image" in refusal(read_folders, root)
    assert "nowhere: no such folder" in refusal(read_folders, tmp_path / "nowhere")
    (tmp_path / "empty" / "a").mkdir(parents=True)
    assert "no folder with two images" in refusal(read_folders, tmp_path / "empty")


def test_queries_need_something_to_find(
    tmp_path: Path, write_image: Callable[..., Path], refusal: Callable[..., str]
) -> None:
    write_image(tmp_path / "mug" / "query" / "1.jpg")
    assert f"{tmp_path}/mug: holds no image; mug needs queries and images to find" in refusal(read_folders, tmp_path)


def test_real_photographs(shared_data: Path) -> None:
    benchmark = read_folders(shared_data / "subjects")
    assert len({query.group for query in benchmark.queries}) == 20
    assert len(benchmark.queries) == len(benchmark.image_ids) == 106
