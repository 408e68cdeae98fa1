"""Real weights through timm, through transformers and through our ONNX file find the same, in the same order."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from patchwise import Gallery
from patchwise.encoders.export import export_onnx

pytest.importorskip("torch")
pytest.importorskip("onnxscript")

MARGIN = 1e-4  # scores that differ by less may come in any order

Ranking = Mapping[str, float]  # path -> score, best first


def exchanged(expected: Ranking, found: Ranking, margin: float = MARGIN) -> list[tuple[str, str]]:
    """Pairs of paths whose scores in `expected` differ by more than `margin`, and that `found` has the other way."""
    assert set(expected) == set(found)
    place = {path: number for number, path in enumerate(found)}
    paths, scores = list(expected), np.array(list(expected.values()))
    places = np.array([place[path] for path in paths])
    wrong = (scores[:, None] - scores > margin) & (places[:, None] > places)
    return [(paths[first], paths[second]) for first, second in zip(*np.nonzero(wrong), strict=True)]


def test_an_exchange_is_noticed_beyond_the_margin_only() -> None:
    expected = {"a": 0.9, "b": 0.5, "c": 0.49995, "d": 0.1}
    assert exchanged(expected, expected) == []
    assert exchanged(expected, {"a": 0.9, "c": 0.5, "b": 0.5, "d": 0.1}) == []
    assert exchanged(expected, {"b": 0.9, "a": 0.5, "c": 0.5, "d": 0.1}) == [("a", "b")]
    assert exchanged(expected, {"a": 0.9, "d": 0.5, "b": 0.5, "c": 0.1}) == [("b", "d"), ("c", "d")]


@pytest.mark.slow
def test_deit_ranks_the_subjects_alike_however_it_is_loaded(shared_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    pytest.importorskip("transformers")
    from .deit import write_transformers_deit

    weights = shared_data / "weights" / "deit_tiny_patch16_224.timm.safetensors"
    encoders = {
        "timm": f"timm:deit_tiny_patch16_224,weights={weights}",
        "transformers": f"hf:{write_transformers_deit(weights, tmp_path / 'deit')}",
        "onnx": f"onnx:{tmp_path / 'deit.onnx'}",
    }
    export_onnx(encoders["timm"], tmp_path / "deit.onnx")

    subjects = sorted(folder for folder in (shared_data / "subjects").iterdir() if folder.is_dir())
    assert len(subjects) == 20
    subjects = subjects[::4]
    queries = [min(folder.glob("*.jpg")) for folder in subjects]
    rankings: dict[str, list[Ranking]] = {}
    for name, encoder in encoders.items():
        with Gallery.create(tmp_path / f"{name}.pw", encoder=encoder, regions="pyramid:1", device="cpu") as gallery:
            gallery.add(*subjects)
            images = gallery.info().images
            found = [gallery.search(query, k=images) for query in queries]
        shutil.rmtree(tmp_path / f"{name}.pw")
        rankings[name] = [{hit.path: hit.score for hit in hits} for hits in found]
        assert all(len(ranking) == images >= 20 for ranking in rankings[name])

    for name in encoders:
        for query, expected, ranked in zip(queries, rankings["timm"], rankings[name], strict=True):
            assert exchanged(expected, ranked) == [], f"{name}, query {query.name}"
            for path, score in expected.items():
                assert ranked[path] == pytest.approx(score, abs=1e-3), f"{name}, query {query.name}"
    # Nearly every pair is told apart by its scores, so that equal order says something.
    for ranking in rankings["timm"]:
        scores = np.array(list(ranking.values()))
        assert (np.abs(scores[:, None] - scores)[np.triu_indices(len(scores), 1)] > MARGIN).mean() > 0.99
